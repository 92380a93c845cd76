package byok_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// Our own budget is no outage of a key: one of any that is not asked for want of it has not
// failed to answer. Here envelopes that anybody with the other key can make come at just the rate at
// which there is one request left when each begins.
func TestMUST16_BudgetDoesNotSilenceAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tenantOf(t, 2, byok.PolicyAny, &byok.Options{MaxAge: time.Second})
		scope := byok.Scope{Tenant: "acme"}
		d, err := byok.NewDirect(byoktest.Service, newRegional(t, s.Fake), s.ids()[0], s.Audit)
		want(t, "NewDirect", err, nil)
		var envelopes [][]byte
		for range 150 {
			e, err := d.Seal(t.Context(), scope, []byte("secret"), nil)
			want(t, "Seal", err, nil)
			envelopes = append(envelopes, e)
		}
		next := func() error {
			e := envelopes[0]
			envelopes = envelopes[1:]
			_, err := s.k.Open(t.Context(), scope, e, nil)
			return err
		}
		for range 12 {
			_ = next()
		}
		s.cmks[1].Disable()
		denied := time.Now()
		for time.Since(denied) < 5*time.Second {
			if err := next(); err == nil && time.Since(denied) > 2*time.Second {
				t.Fatalf("opened %v after a key was disabled", time.Since(denied))
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}
