package kmsfake

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

// second2 is the error of a call.
func second2[T any](_ T, err error) error { return err }

// wantText wants an error that ends in these words.
func wantText(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.HasSuffix(err.Error(), text) {
		t.Errorf("%v, want it to end in %q", err, text)
	}
}

// asAPIError is a refusal, in either of its forms; nil if it is none.
func asAPIError(err error) *apiError {
	var e *apiError
	var sdk smithy.APIError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &sdk):
		return fail(sdk.ErrorCode(), "%s", sdk.ErrorMessage())
	}
	return nil
}
