package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/byok-go/byok"
)

// script is a Client whose writes fail as it says, one after the other. Nil is a success.
type script struct {
	Client
	write func(n int) error
	n     int
	in    []*dynamodb.TransactWriteItemsInput
	now   int // the revision of every item; 0: there is none
}

func (c *script) TransactGetItems(_ context.Context, in *dynamodb.TransactGetItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactGetItemsOutput, error) {
	var item attributes
	if c.now != 0 {
		item = itemKey(one.Ref)
		item[attrRevision], item[attrValue] = number(uint64(c.now)), &types.AttributeValueMemberB{Value: []byte("x")}
	}
	return &dynamodb.TransactGetItemsOutput{Responses: []types.ItemResponse{{Item: item}}}, nil
}

func (c *script) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	c.n++
	c.in = append(c.in, in)
	return &dynamodb.TransactWriteItemsOutput{}, c.write(c.n)
}

// answered is an error as the SDK wraps what DynamoDB answered.
func answered(status int, err error) error {
	return &smithy.OperationError{ServiceID: "DynamoDB", OperationName: "TransactWriteItems", Err: &awshttp.ResponseError{
		RequestID:     "REQ1",
		ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err},
	}}
}

func coded(code string) error { return &smithy.GenericAPIError{Code: code, Message: "MARKER"} }

func told(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: "User: arn:aws:iam::111122223333:user/a is not authorized"}
}

func cancelled(reasons ...string) error {
	e := &types.TransactionCanceledException{Message: aws.String("MARKER")}
	for _, r := range reasons {
		e.CancellationReasons = append(e.CancellationReasons, types.CancellationReason{Code: aws.String(r), Message: aws.String("MARKER")})
	}
	return answered(400, e)
}

var lost = &smithy.OperationError{ServiceID: "DynamoDB", OperationName: "TransactWriteItems",
	Err: &smithyhttp.RequestSendError{Err: errors.New("connection reset by peer")}}

var one = byok.Item{Ref: byok.Ref{Partition: "p", ID: "i"}, Revision: 3, Value: []byte("MARKER")}

// TestConflictIsCertain: of all the ways in which a transaction can fail, ErrConflict is one: an
// expectation did not hold, and nothing else decided. What did nothing is
// repeated, what may have done something too, a few times; the rest is an error at once.
func TestConflictIsCertain(t *testing.T) {
	const f, none = "ConditionalCheckFailed", "None"
	for _, c := range []struct {
		name     string
		err      error
		conflict bool
		requests int // 0: until ctx ends
	}{
		{"a condition", cancelled(f), true, 1},
		{"a condition among others", cancelled(none, f, none), true, 1},
		{"all conditions", cancelled(f, f), true, 1},
		{"another transaction", cancelled(none, "TransactionConflict"), false, 0},
		{"a condition and another transaction", cancelled(f, "TransactionConflict"), false, 0},
		{"another transaction and a condition", cancelled("TransactionConflict", f), false, 0},
		{"throttling", cancelled("ThrottlingError"), false, 0},
		{"throughput", cancelled("ProvisionedThroughputExceeded", none), false, 0},
		{"a condition and throttling", cancelled(f, "ThrottlingError"), false, 0},
		{"no reasons", cancelled(), false, 1},
		{"no reason", cancelled(none, none), false, 1},
		{"an unknown reason", cancelled("New"), false, 1},
		{"a condition and an unknown reason", cancelled(f, "New"), false, 1},
		{"a condition and a bad item", cancelled(f, "ValidationError"), false, 1},
		{"a collection that is full", cancelled("ItemCollectionSizeLimitExceeded"), false, 1},
		{"throttled", answered(400, coded("ThrottlingException")), false, 0},
		{"throughput exceeded", answered(400, coded("ProvisionedThroughputExceededException")), false, 0},
		{"requests exceeded", answered(400, coded("RequestLimitExceeded")), false, 0},
		{"in progress", answered(400, coded("TransactionInProgressException")), false, 0},
		{"the condition of a request that is no transaction", answered(400, coded("ConditionalCheckFailedException")), false, 1},
		{"another request with the token", answered(400, coded("IdempotentParameterMismatchException")), false, 1},
		{"not allowed", answered(400, told("AccessDeniedException")), false, 1},
		{"no table", answered(400, told("ResourceNotFoundException")), false, 1},
		{"a bad request", answered(400, coded("ValidationException")), false, 1},
		{"failed", answered(500, coded("InternalServerError")), false, maxUnknown},
		{"unavailable", answered(503, coded("ServiceUnavailable")), false, maxUnknown},
		{"throttled, says a proxy", answered(503, coded("ThrottlingException")), false, 0},
		{"lost", lost, false, maxUnknown},
		{"torn", answered(200, &smithy.DeserializationError{Err: errors.New("MARKER")}), false, maxUnknown},
		{"a Client's own", errors.New("its own"), false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := &script{write: func(int) error { return c.err }}
				s := &Store{client: client, table: "t", firstWait: firstWait}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				begun := time.Now()
				err := s.Apply(ctx, one)
				took := time.Since(begun)
				if errors.Is(err, byok.ErrConflict) != c.conflict || err == nil {
					t.Fatalf("%v; a conflict: %v", err, c.conflict)
				}
				if strings.Contains(err.Error(), "MARKER") || strings.Contains(fmt.Sprintf("%+v", err), "MARKER") {
					t.Errorf("the error quotes: %v", err)
				}
				var e *Error
				switch {
				case c.requests != 0 && client.n != c.requests:
					t.Errorf("%d requests, want %d", client.n, c.requests)
				case c.requests == 0 && (!errors.Is(err, context.DeadlineExceeded) || took != time.Minute):
					t.Errorf("gave up after %v: %v", took, err)
				case c.requests == 0 && (client.n < 60 || client.n > 300): // waits of half a second, by and by
					t.Errorf("%d requests in a minute", client.n)
				case c.requests == maxUnknown && took > time.Second:
					t.Errorf("%v for %d requests", took, maxUnknown)
				case c.requests != 0 && !c.conflict && c.name != "a Client's own" && (!errors.As(err, &e) || e.Op != "TransactWriteItems"):
					t.Errorf("%v is no Error", err)
				}
				for _, in := range client.in {
					if *in.ClientRequestToken != *client.in[0].ClientRequestToken || len(*in.ClientRequestToken) > 36 || *in.ClientRequestToken == "" {
						t.Fatal("the token is not the same in all requests of one Apply")
					}
				}
			})
		})
	}
}

// TestTokens: another Apply has another token, be it of the same item.
func TestTokens(t *testing.T) {
	client := &script{write: func(int) error { return nil }}
	s := &Store{client: client, table: "t"}
	seen := map[string]bool{}
	for range 100 {
		if err := s.Apply(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		seen[*client.in[len(client.in)-1].ClientRequestToken] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d tokens in 100 calls", len(seen))
	}
}

// TestConflictAfterALostAnswer: within the life of its token a conflict is with
// somebody else, whatever was lost. Afterwards it may be with the Apply itself, and is no
// ErrConflict any more.
func TestConflictAfterALostAnswer(t *testing.T) {
	const f = "ConditionalCheckFailed"
	throttled := answered(400, coded("ThrottlingException"))
	for _, c := range []struct {
		name     string
		first    error
		throttle time.Duration
		now      int
		conflict bool
	}{
		{"at once", lost, 0, 4, true},
		{"soon", lost, 4 * time.Minute, 9, true},
		{"late", lost, 6 * time.Minute, 4, false},
		{"late, and nothing was lost", throttled, time.Hour, 4, true},
		// The lost one may arrive when somebody has written revision 3.
		{"an expectation of what is to come", lost, 0, 2, false},
		{"an expectation of what there is not", lost, 0, 0, false},
		{"an expectation of what is to come, and nothing was lost", throttled, 0, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				client := &script{now: c.now, write: func(n int) error {
					switch {
					case n == 1:
						return c.first
					case time.Since(begun) < c.throttle:
						return throttled
					}
					return cancelled(f)
				}}
				s := &Store{client: client, table: "t", firstWait: firstWait}
				err := s.Apply(t.Context(), one)
				if errors.Is(err, byok.ErrConflict) != c.conflict || !c.conflict && !errors.Is(err, errOutcome) {
					t.Errorf("%v; a conflict: %v", err, c.conflict)
				}
			})
		})
	}
	// The conflict that comes after its time is not believed either.
	synctest.Test(t, func(t *testing.T) {
		client := &script{write: func(n int) error {
			if n == 1 {
				return lost
			}
			time.Sleep(6 * time.Minute)
			return cancelled(f)
		}}
		s := &Store{client: client, table: "t", firstWait: firstWait}
		if err := s.Apply(t.Context(), one); !errors.Is(err, errOutcome) {
			t.Error(err)
		}
	})
}

// TestPatienceIsOfOneKind: a miss is forgiven once there was an answer.
func TestPatienceIsOfOneKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &script{write: func(n int) error {
			switch {
			case n == 60:
				return nil
			case n%maxUnknown == 0:
				return cancelled("TransactionConflict")
			}
			return lost
		}}
		s := &Store{client: client, table: "t", firstWait: firstWait}
		if err := s.Apply(t.Context(), one); err != nil || client.n != 60 {
			t.Errorf("%d requests, %v", client.n, err)
		}
	})
}
