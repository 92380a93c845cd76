package byok_test

import (
	"context"
	"crypto/fips140"
	"fmt"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// discard is an AuditSink that costs nothing, so that the figures are byok's.
type discard struct{}

func (discard) Record(context.Context, byok.Event) error { return nil }

// A hot operation makes no KMS call and a bounded number of allocations.
func TestHotPath(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Sink: discard{}})
	env.Tenant("acme")
	s, plain := byok.Scope{Tenant: "acme"}, make([]byte, 64)
	sealed := seal(t, env.Keeper, "acme", string(plain), "")
	before := env.Keeper.Stats()
	// 22 and 24 by default, before there were budgets, limits and statistics, and with them;
	// FIPS mode allocates more.
	limit := 26.0 // the race detector adds two
	if fips140.Enabled() {
		limit = 40
	}
	for name, f := range map[string]func() error{
		"Seal": func() error { _, err := env.Keeper.Seal(t.Context(), s, plain, nil); return err },
		"Open": func() error { _, err := env.Keeper.Open(t.Context(), s, sealed, nil); return err },
	} {
		n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: %v allocations", name, n)
		if n > limit {
			t.Errorf("%s makes %v allocations, want at most %v", name, n, limit)
		}
	}
	after := env.Keeper.Stats()
	if after.KMSCalls != before.KMSCalls || after.Hits < before.Hits+200 {
		t.Error(fmt.Sprint("not hot: ", before, after))
	}
}
