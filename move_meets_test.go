package byok_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// meeting is a Store at which something happens, once, before an item is read whose ID begins so.
type meeting struct {
	byok.Store
	prefix string
	once   sync.Once
	f      func()
}

func (s *meeting) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if strings.HasPrefix(r.ID, s.prefix) {
		s.once.Do(s.f)
	}
	return s.Store.Get(ctx, r)
}

// A move by another process switches between two reads of one load: what was read first is of the old CMK, and what
// comes then of the new one. Neither Seal nor Open notices.
func TestMoveFailsNobodyWhoMeetsTheSwitch(t *testing.T) {
	for _, prefix := range []string{"state", "gen:", "dek:"} {
		for _, op := range []string{"Seal", "Open"} {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, nil)
				acme, cmk := env.Tenant("acme")
				next := env.CMK("acme")
				sealed := seal(t, env.Keeper, "acme", "x", "")
				met := false
				store := &meeting{Store: env.Store, prefix: prefix, f: func() {
					met = true
					job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
					want(t, "Move", err, nil)
					if last := finish(t, acme, job.ID); last.State != byok.JobDone {
						t.Errorf("the move is %s", last.State)
					}
					cmk.Disable()
				}}
				k, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, nil)
				want(t, "New", err, nil)
				defer k.Close()
				if op == "Seal" {
					mustOpen(t, env.NewKeeper(), "acme", seal(t, k, "acme", "y", ""), "", "y")
				}
				mustOpen(t, k, "acme", sealed, "", "x")
				if !met && (op == "Seal" || prefix != "gen:") {
					t.Errorf("%s at %q: it met nothing", op, prefix)
				}
			})
		}
	}
}
