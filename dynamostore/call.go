package dynamostore

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// verdict is what an error says about its request.
type verdict uint8

const (
	final   verdict = iota // repeating it changes nothing
	nothing                // it certainly did nothing: repeat it until ctx ends
	unknown                // it may have been done, or there was no answer
)

// How requests are repeated. All that this package sends can be: reads, writes
// with a token, and events, which are recorded once whatever is sent.
const (
	firstWait   = 5 * time.Millisecond
	longestWait = 500 * time.Millisecond
	maxUnknown  = 6 // requests in a row without an answer, and then the error is the caller's
)

// once switches off what the SDK does by itself: it repeats requests and
// does not tell what became of the first one. And bodies, which hold values, are
// not logged, and damaged ones not believed.
func once(o *dynamodb.Options) {
	o.Retryer = aws.NopRetryer{}
	o.RetryMaxAttempts = 0 // else the SDK wraps the Retryer once more
	o.ClientLogMode &^= aws.LogRequestWithBody | aws.LogResponseWithBody
	o.APIOptions = append(slices.Clone(o.APIOptions), checksum{}.add)
}

// call makes a request, again and again while its errors permit. It returns an
// *Error, the error of ctx, or an error of the request that is none of the SDK's.
func (s *Store) call(ctx context.Context, request func() error) error {
	for wait, misses := s.firstWait, 0; ; wait = min(2*wait, longestWait) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := request()
		v := judge(err)
		if err != nil && v != final && ctx.Err() != nil {
			return ctx.Err() // there are many ways to say that a request was interrupted
		}
		if v == unknown {
			misses++
		} else {
			misses = 0
		}
		if v == final || misses == maxUnknown {
			return plain(err)
		}
		// Half of it is chance, so that those who were in each other's way part.
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// refusals are answers after which nothing was done, and which pass.
var refusals = []string{
	"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded",
	"TransactionConflictException", // of a request that is no transaction itself
	// The request with this token is still being carried out. What it said was "unknown".
	"TransactionInProgressException",
}

// The reasons for which DynamoDB cancels a transaction, as far as they matter here.
const (
	noReason        = "None"
	conditionFailed = "ConditionalCheckFailed"
)

// passing are the reasons that pass. A condition that failed beside one of them is
// looked at again: it decides only where nothing else does.
var passing = []string{"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded", conditionFailed}

// judge says whether a request can be repeated. What is none of the SDK's errors
// is final.
func judge(err error) verdict {
	var op *smithy.OperationError
	var api smithy.APIError
	var answer *awshttp.ResponseError
	switch {
	case err == nil:
		return final
	case errors.Is(err, errUnprocessed):
		return nothing
	case errors.Is(err, errMissing):
		return unknown
	case !errors.As(err, &api):
		if errors.As(err, &op) {
			return unknown // not sent, no answer, or one that cannot be read
		}
		return final
	case cancelledBy(err, passing...) && !cancelledBy(err, conditionFailed):
		return nothing
	case slices.Contains(refusals, api.ErrorCode()):
		return nothing
	case errors.As(err, &answer) && answer.HTTPStatusCode() >= 500:
		return unknown
	}
	return final
}

// cancelledBy reports whether a transaction was cancelled for reasons that are all
// among these; at least one was given.
func cancelledBy(err error, reasons ...string) bool {
	var cancelled *types.TransactionCanceledException
	if !errors.As(err, &cancelled) {
		return false
	}
	found := false
	for _, r := range cancelled.CancellationReasons {
		switch code := aws.ToString(r.Code); {
		case code == noReason:
		case slices.Contains(reasons, code):
			found = true
		default:
			return false
		}
	}
	return found
}
