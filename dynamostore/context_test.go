package dynamostore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/dynamostore"
	"github.com/byok-go/byok/internal/dynamofake"
)

// calls are all methods of a Store.
var calls = map[string]func(ctx context.Context, s *dynamostore.Store) error{
	"Get": func(ctx context.Context, s *dynamostore.Store) error {
		_, err := s.Get(ctx, byok.Ref{Partition: "p", ID: "i"})
		return err
	},
	"List": func(ctx context.Context, s *dynamostore.Store) error {
		_, err := s.List(ctx, "p", "", 10)
		return err
	},
	"Apply": func(ctx context.Context, s *dynamostore.Store) error {
		return s.Apply(ctx, byok.Item{Ref: byok.Ref{Partition: "p", ID: "new"}, Value: []byte("x")})
	},
	"Record": func(ctx context.Context, s *dynamostore.Store) error {
		return s.Record(ctx, byok.Event{ID: "new", Scope: byok.Scope{Tenant: "t"}})
	},
	"Events": func(ctx context.Context, s *dynamostore.Store) error {
		_, err := s.Events(ctx, "t", byok.AuditQuery{})
		return err
	},
}

// TestContextEnds: a call returns when its ctx ends, whatever it waits for: an answer that
// does not come, or the next try. In the bubble that is to the nanosecond.
func TestContextEnds(t *testing.T) {
	for name, do := range calls {
		for what, fault := range map[string]dynamofake.Fault{"no answer": dynamofake.Hang, "no answer to what was done": dynamofake.HangAfter, "throttled": dynamofake.Throttled} {
			t.Run(name+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					now := dynamofake.NoFault
					s := open(t, newTable(t, &dynamofake.Options{Choose: func(string, []byte) dynamofake.Fault { return now }}))
					now = fault
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					begun := time.Now()
					err := do(ctx, s)
					if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second {
						t.Errorf("%v after %v", err, took)
					}
					ctx, stop := context.WithCancelCause(t.Context())
					time.AfterFunc(time.Second, func() { stop(errors.New("enough")) })
					if err := do(ctx, s); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestContextEndsOnTheNetwork: the same with a server that accepts and says
// nothing, and with a real connection. The machine may be busy.
func TestContextEndsOnTheNetwork(t *testing.T) {
	db := newTable(t, nil)
	silent := make(chan struct{})
	var quiet atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if quiet.Load() {
			<-silent
			return
		}
		db.ServeHTTP(w, r)
	}))
	defer server.Close()
	defer close(silent)
	c := dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL), Credentials: static("secret-of-forty-characters-as-AWS-makes-"),
	})
	s, err := dynamostore.Open(t.Context(), c, table)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range calls {
		if err := do(t.Context(), s); err != nil && !errors.Is(err, byok.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	quiet.Store(true)
	for name, do := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		begun := time.Now()
		err := do(ctx, s)
		cancel()
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took > time.Minute {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

func static(secret string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "id", SecretAccessKey: secret}, nil
	})
}

// TestNoServer: without a server the error says so, soon, and names no secret.
func TestNoServer(t *testing.T) {
	c := dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String("http://127.0.0.1:1"), Credentials: static("MARKER-of-forty-characters-as-AWS-makes-"),
	})
	_, err := dynamostore.Open(t.Context(), c, table)
	var e *dynamostore.Error
	if !errors.As(err, &e) || e.Op != "DescribeTable" || e.Code != "" || e.Text == "" || strings.Contains(err.Error(), "MARKER") {
		t.Errorf("%v", err)
	}
	t.Log(err)
}
