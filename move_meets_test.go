package byok_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// meeting is a Store at which something happens, once, before an item is read whose ID begins so, but for
// the first reads of such.
type meeting struct {
	byok.Store
	prefix string
	first  atomic.Int64
	once   sync.Once
	f      func()
}

func (s *meeting) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if strings.HasPrefix(r.ID, s.prefix) && s.first.Add(-1) < 0 {
		s.once.Do(s.f)
	}
	return s.Store.Get(ctx, r)
}

// A move by another process switches between two reads of one load: what was read first is of the old CMK, and what
// comes then of the new one. Neither Seal nor Open notices.
func TestMoveFailsNobodyWhoMeetsTheSwitch(t *testing.T) {
	for _, prefix := range []string{"state", "gen:", "dek:"} {
		for _, op := range []string{"Seal", "Open", "Open, per operation"} {
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
				k, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, &byok.Options{PerOperation: op == "Open, per operation"})
				want(t, "New", err, nil)
				defer k.Close()
				if op == "Seal" {
					mustOpen(t, env.NewKeeper(), "acme", seal(t, k, "acme", "y", ""), "", "y")
				}
				mustOpen(t, k, "acme", sealed, "", "x")
				if !met && (op == "Seal" || prefix != "gen:") {
					t.Errorf("%s at %q: it met nothing", op, prefix)
				}
				matchCalls(t, env, env.Audit.All())
			})
		}
	}
}

// So does Rotate, of both types, at each of its reads of the tenant's state: it validates the new CMK then. At the old one,
// which nobody may use any more, it does not end.
func TestMoveFailsNoRotationThatMeetsTheSwitch(t *testing.T) {
	for _, kind := range []string{byok.RotateDEK, byok.RotateFull} {
		for first := int64(0); ; first++ {
			met := false
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, nil)
				acme, cmk := env.Tenant("acme")
				next := env.CMK("acme")
				sealed := seal(t, env.Keeper, "acme", "x", "")
				store := &meeting{Store: env.Store, prefix: "state", f: func() {
					met = true
					job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
					want(t, "Move", err, nil)
					if last := finish(t, acme, job.ID); last.State != byok.JobDone {
						t.Errorf("the move is %s", last.State)
					}
					cmk.Disable()
				}}
				store.first.Store(first)
				k, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, nil)
				want(t, "New", err, nil)
				defer k.Close()
				out, err := k.Tenant("acme").Rotate(t.Context(), byok.Rotation{Type: kind})
				if err != nil || out.NewVersion != 2 {
					t.Fatalf("Rotate meets a switch at read %d: %+v, %v", first, out, err)
				}
				if met {
					if kind == byok.RotateFull {
						finish(t, acme, out.ID)
					}
					mustOpen(t, env.Keeper, "acme", seal(t, k, "acme", "y", ""), "", "y")
					mustOpen(t, k, "acme", sealed, "", "x")
					underOnly(t, env, next)
					matchCalls(t, env, env.Audit.All())
				}
			})
			if t.Failed() {
				return
			}
			if !met {
				if first < 2 {
					t.Errorf("%s: %d meetings: this test could pass on nothing", kind, first)
				}
				break
			}
		}
	}
}

// meetingKeys is a Keyring at which something happens, once, after a data key was made.
type meetingKeys struct {
	byok.Keyring
	f func()
}

func (m *meetingKeys) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	dek, w, err := m.Keyring.GenerateDataKey(ctx, key, ec)
	if f := m.f; f != nil {
		m.f = nil
		f()
	}
	return dek, w, err
}

// A process that makes a data key for one envelope, or the first one of a purpose, learns of the switch before it can use
// it. It makes another one, under the new CMK, and leaves events of both requests.
func TestMoveFailsNobodyWhoMakesADataKey(t *testing.T) {
	for _, alone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			_, cmk := env.Tenant("acme")
			next := env.CMK("acme")
			keys := &meetingKeys{Keyring: env.Keys}
			k, err := byok.New(byoktest.Service, keys, env.Store, env.Audit, &byok.Options{PerOperation: alone})
			want(t, "New", err, nil)
			defer k.Close()
			keys.f = func() {
				acme := k.Tenant("acme")
				job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
				want(t, "Move", err, nil)
				if last := finish(t, acme, job.ID); last.State != byok.JobDone {
					t.Errorf("the move is %s", last.State)
				}
				cmk.Disable()
			}
			sealed := seal(t, k, "acme", "y", "")
			if keys.f != nil {
				t.Error("it met nothing")
			}
			mustOpen(t, env.NewKeeper(), "acme", sealed, "", "y")
			matchCalls(t, env, env.Audit.All())
		})
	}
}
