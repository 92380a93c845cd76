package kmsfake

import (
	"strings"
	"testing"
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
