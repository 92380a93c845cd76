package byok_test

import (
	"context"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// discard is an AuditSink that costs nothing, so that the figures are byok's.
type discard struct{}

func (discard) Record(context.Context, byok.Event) error { return nil }

// A hot operation makes no KMS call, and so many allocations, also in FIPS-only mode: two
// of AES, three of crypto/hmac, and the result. Of each 16 operations one also makes a string
// for the ids of their events. The race detector makes sync.Pool forget, so it is not asked to count.
func TestHotPath(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Sink: discard{}})
	env.Tenant("acme")
	s, plain, aad := byok.Scope{Tenant: "acme"}, make([]byte, 64), []byte("invoice/42")
	sealed := seal(t, env.Keeper, "acme", string(plain), string(aad))
	room := make([]byte, 0, len(sealed))
	before := env.Keeper.Stats()
	for name, op := range map[string]struct {
		limit float64
		f     func() ([]byte, error)
	}{
		"Seal":       {6, func() ([]byte, error) { return env.Keeper.Seal(t.Context(), s, plain, aad) }},
		"Open":       {6, func() ([]byte, error) { return env.Keeper.Open(t.Context(), s, sealed, aad) }},
		"AppendSeal": {5, func() ([]byte, error) { return env.Keeper.AppendSeal(t.Context(), room, s, plain, aad) }},
		"AppendOpen": {5, func() ([]byte, error) { return env.Keeper.AppendOpen(t.Context(), room, s, sealed, aad) }},
	} {
		n := testing.AllocsPerRun(1000, func() {
			if _, err := op.f(); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: %v allocations", name, n)
		if n > op.limit && !raceDetector {
			t.Errorf("%s makes %v allocations, want at most %v", name, n, op.limit)
		}
	}
	after := env.Keeper.Stats()
	if after.KMSCalls != before.KMSCalls || after.Hits < before.Hits+4000 {
		t.Error("not hot: ", before, after)
	}
}
