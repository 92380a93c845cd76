package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Error is what DynamoDB, or the way to it, answered. It is not the SDK's error,
// whose text can quote the request and the values in it.
type Error struct {
	Op        string   // "TransactWriteItems"
	Code      string   // "AccessDeniedException"; "" if there was no answer
	Reasons   []string // of a transaction that was cancelled, one for each of its items
	Status    int      // of HTTP; 0 if there was no answer
	RequestID string   // for AWS's support
	Text      string   // for operators: who may not do what, or what broke the connection
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", e.Op)
	if e.Code != "" {
		b.WriteString(e.Code)
	} else {
		b.WriteString("no answer")
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, ", status %d", e.Status)
	}
	for _, r := range e.Reasons {
		if r != noReason {
			fmt.Fprintf(&b, ", reason %s", r)
		}
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, ", request %s", e.RequestID)
	}
	if e.Text != "" {
		b.WriteString(": " + e.Text)
	}
	return b.String()
}

// telling are the codes whose text names principals and tables, and no values.
var telling = map[string]bool{
	"AccessDeniedException": true, "ResourceNotFoundException": true, "UnrecognizedClientException": true, "ExpiredTokenException": true,
}

// plain makes an Error of an error of the SDK. Others are what they are.
func plain(err error) error {
	var op *smithy.OperationError
	var api smithy.APIError
	if !errors.As(err, &op) && !errors.As(err, &api) {
		return err
	}
	e := new(Error)
	if op != nil {
		e.Op = op.Operation()
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		e.Status, e.RequestID = answer.HTTPStatusCode(), answer.ServiceRequestID()
	}
	var send *smithyhttp.RequestSendError
	var cancelled *types.TransactionCanceledException
	switch {
	case errors.As(err, &api):
		e.Code = api.ErrorCode()
		if telling[e.Code] {
			e.Text = api.ErrorMessage()
		}
		if errors.As(err, &cancelled) {
			for _, r := range cancelled.CancellationReasons {
				e.Reasons = append(e.Reasons, aws.ToString(r.Code))
			}
		}
	case errors.As(err, &send):
		e.Text = send.Err.Error() // addresses, and what the system says
	case answer != nil:
		e.Code = "an answer that cannot be read"
	default:
		e.Text = fmt.Sprintf("%T", errors.Unwrap(op)) // before it was sent: credentials, signing
	}
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, c) {
			return fmt.Errorf("%w: %w", c, e)
		}
	}
	return e
}
