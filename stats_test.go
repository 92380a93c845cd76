package byok_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// What an operator alarms on tells what happened.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k, g := gauged(t, env, nil)
		if s := k.Stats(); len(s.Calls) != 0 || s.KMSCalls+s.Hits+s.Misses+s.Leases+s.UnderWay != 0 || s.BudgetInUse != 0 {
			t.Errorf("new: %+v", s)
		}
		g.delay.Store(int64(60 * time.Millisecond))
		go func() { _, _ = k.Open(t.Context(), byok.Scope{Tenant: "acme"}, sealed, nil) }()
		time.Sleep(10 * time.Millisecond)
		if s := k.Stats(); s.UnderWay != 1 {
			t.Errorf("%d requests are under way", s.UnderWay)
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		for range 10 {
			mustOpen(t, k, "acme", sealed, "", "x")
		}
		s := k.Stats()
		ok := s.Calls[0]
		if s.Leases != 1 || s.Hits != 10 || s.Misses != 1 || s.UnderWay != 0 || s.KMSCalls != 1 ||
			ok.Count != 1 || ok.Total != 60*time.Millisecond || ok.Buckets[3] != 1 { // 50 to 100 ms
			t.Errorf("after a load and ten hits: %+v", s)
		}

		time.Sleep(40 * time.Second)
		mustOpen(t, k, "acme", sealed, "", "x")
		time.Sleep(time.Second)
		if s := k.Stats(); s.Renewals != 1 || s.FailedRenewals != 0 {
			t.Errorf("after a renewal: %+v", s)
		}
		restore := env.Fake.Outage()
		g.delay.Store(0)
		time.Sleep(40 * time.Second)
		mustOpen(t, k, "acme", sealed, "", "x")
		time.Sleep(time.Second)
		s = k.Stats()
		if out := s.Calls[byok.ClassOutage]; s.Renewals != 1 || s.FailedRenewals != 1 || out.Count != 3 || s.KMSCalls != 5 || out.Buckets[0] != 3 {
			t.Errorf("after a renewal that failed: %+v", s)
		}
		restore()

		// Revoked 10 s after the last success, seen 60 s later.
		time.Sleep(byok.DefaultMaxAge)
		mustOpen(t, k, "acme", sealed, "", "x")
		time.Sleep(10 * time.Second)
		cmk.Disable()
		time.Sleep(60 * time.Second)
		_, err := open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
		if s := k.Stats(); s.Denials != 1 || s.Calls[byok.ClassDenied].Count != 1 || s.DetectionDelay != 70*time.Second || s.Leases != 0 {
			t.Errorf("after a denial: %+v", s)
		}
		cmk.Enable()
		time.Sleep(5 * time.Second)
		mustOpen(t, k, "acme", sealed, "", "x")
		time.Sleep(20 * time.Second)
		cmk.Disable()
		_, err = k.Tenant("acme").Health(t.Context())
		want(t, "Health", err, nil)
		if s := k.Stats(); s.Denials != 2 || s.DetectionDelay != 20*time.Second || s.DetectionDelayMax != 70*time.Second {
			t.Errorf("after another denial: %+v", s)
		}
		cmk.Enable()
		time.Sleep(5 * time.Second)
		mustOpen(t, k, "acme", sealed, "", "x")

		before := k.Stats()
		bad := junk(t, env, "acme")
		for range 30 {
			if _, err := open(t, k, "acme", bad(), ""); !errors.Is(err, byok.ErrOpen) {
				want(t, "Open", err, byok.ErrThrottled)
			}
		}
		if s := k.Stats(); s.Throttled != 10 || s.BudgetInUse != 1 || s.Calls[byok.ClassBlob].Count != 20 || s.KMSCalls != before.KMSCalls+20 {
			t.Errorf("after junk: %+v", s)
		}
		time.Sleep(time.Second)
		if s := k.Stats(); s.BudgetInUse != 0 {
			t.Errorf("a second later: %+v", s)
		}
		seal(t, k, "acme", "x", "")
		if s := k.Stats(); s.Blocks != 1 {
			t.Errorf("after the first seal of a process: %+v", s)
		}
	})
}
