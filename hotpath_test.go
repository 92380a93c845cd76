package byok_test

import (
	"context"
	"crypto/fips140"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// discard is an AuditSink that costs nothing, so that the figures are byok's.
type discard struct{}

func (discard) Record(context.Context, byok.Event) error { return nil }

// A hot operation makes no KMS call, and so many allocations: two of AES, in FIPS mode three of
// crypto/hmac, and the result. Of each 16 operations one also makes a string for the ids of their
// events. The race detector makes sync.Pool forget, so it is not asked to count.
func TestHotPath(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Sink: discard{}})
	env.Tenant("acme")
	s, plain, aad := byok.Scope{Tenant: "acme"}, make([]byte, 64), []byte("invoice/42")
	sealed := seal(t, env.Keeper, "acme", string(plain), string(aad))
	room := make([]byte, 0, len(sealed))
	before := env.Keeper.Stats()
	macs := 0.0
	if fips140.Enabled() {
		macs = 3
	}
	for name, op := range map[string]struct {
		limit float64
		f     func() ([]byte, error)
	}{
		"Seal":       {3 + macs, func() ([]byte, error) { return env.Keeper.Seal(t.Context(), s, plain, aad) }},
		"Open":       {3 + macs, func() ([]byte, error) { return env.Keeper.Open(t.Context(), s, sealed, aad) }},
		"AppendSeal": {2 + macs, func() ([]byte, error) { return env.Keeper.AppendSeal(t.Context(), room, s, plain, aad) }},
		"AppendOpen": {2 + macs, func() ([]byte, error) { return env.Keeper.AppendOpen(t.Context(), room, s, sealed, aad) }},
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

// Close returns after the operations that were under way, of each tenant, and those that
// begin later are refused (I20).
func TestI20_CloseWaitsForOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &hookSink{MemAudit: new(byok.MemAudit)}
		env := byoktest.New(t, &byoktest.Options{Sink: sink})
		begun := time.Now()
		for _, tenant := range []string{"a", "b", "c"} {
			env.Tenant(tenant)
			sealed := seal(t, env.Keeper, tenant, "x", "")
			go func() {
				time.Sleep(time.Second)
				_, err := env.Keeper.Open(t.Context(), byok.Scope{Tenant: tenant}, sealed, nil)
				if !errors.Is(err, byok.ErrClosed) { // Close came before its result could leave
					t.Errorf("Open: %v", err)
				}
			}()
		}
		sink.before(func(e byok.Event) {
			if e.Op == byok.OpOpen && e.Outcome == byok.OutcomeSuccess {
				time.Sleep(time.Duration(10+e.Scope.Tenant[0]-'a') * time.Second)
			}
		})
		time.Sleep(2 * time.Second)
		var closers sync.WaitGroup
		for range 3 {
			closers.Go(func() {
				_ = env.Keeper.Close()
				if after := time.Since(begun); after != 13*time.Second { // the sink's answer about c
					t.Errorf("closed after %v", after)
				}
			})
		}
		time.Sleep(time.Second)
		_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "a"}, nil, nil)
		want(t, "Seal", err, byok.ErrClosed)
		closers.Wait()
	})
}

// And it waits for all that one tenant has under way, in whichever lane.
func TestI20_CloseWaitsInEachLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &hookSink{MemAudit: new(byok.MemAudit)}
		env := byoktest.New(t, &byoktest.Options{Sink: sink})
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		sink.before(func(e byok.Event) {
			if e.Op == byok.OpOpen && e.Outcome == byok.OutcomeSuccess {
				time.Sleep(time.Minute)
			}
		})
		const n = 3 * byok.LaneCount
		var under atomic.Int32
		for range n {
			under.Add(1)
			go func() {
				defer under.Add(-1)
				_, err := env.Keeper.Open(t.Context(), byok.Scope{Tenant: "acme"}, sealed, nil)
				want(t, "Open", err, byok.ErrClosed)
			}()
		}
		time.Sleep(time.Second)
		if under.Load() != n {
			t.Fatal("they are not under way: this test could pass on nothing")
		}
		begun := time.Now()
		_ = env.Keeper.Close()
		if after := time.Since(begun); after != 59*time.Second {
			t.Errorf("closed after %v", after)
		}
	})
}
