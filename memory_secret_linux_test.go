//go:build goexperiment.runtimesecret && (amd64 || arm64)

package byok_test

import (
	"testing"

	"github.com/byok-go/byok/internal/erase"
)

// Where the runtime erases secrets nothing at all is left of a data key that was
// sealed and opened with, in any form. .ci/run builds this with
// GOEXPERIMENT=runtimesecret.
func TestI_4_RuntimeSecret(t *testing.T) {
	if !erase.Enabled {
		t.Fatal("the runtime does not erase: this test could pass on nothing")
	}
	raw, inAWS := memoryOf(t, "memory-raw"), memoryOf(t, "memory-aws")
	t.Logf("%+v\n%+v", raw, inAWS)
	if raw.Keys < 30 || raw.Live["raw"] < 8 {
		t.Errorf("%+v: this test could pass on nothing", raw)
	}
	for _, form := range []string{"raw", "ipad", "opad", "base64"} {
		if n := raw.After[form]; n != 0 {
			t.Errorf("raw keyring: %d data keys are left as %s", n, form)
		}
		// base64 is the AWS SDK's, whose goroutines are its own.
		if n := inAWS.After[form]; n != 0 && form != "base64" {
			t.Errorf("awskms: %d data keys are left as %s", n, form)
		}
	}
}
