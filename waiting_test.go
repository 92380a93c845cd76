package byok_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// stuckSink is an AuditSink that hangs while stuck is open, as long as ctx lasts.
type stuckSink struct {
	byok.MemAudit
	mu    sync.Mutex
	stuck chan struct{}
}

func (s *stuckSink) Record(ctx context.Context, e byok.Event) error {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.MemAudit.Record(ctx, e)
}

// Whoever is refused does not wait for an audit log that hangs longer than its own
// deadline, and the events come when the log is there again, each once (I18).
func TestI18_RefusedInTimeWhenTheSinkHangs(t *testing.T) {
	for name, c := range map[string]struct {
		ops []byok.Op
		f   func(ctx context.Context, env *byoktest.Env, alone *byok.Keeper) error
		err error
	}{
		"junk": {[]byok.Op{byok.OpOpen}, func(ctx context.Context, env *byoktest.Env, _ *byok.Keeper) error {
			_, err := env.Keeper.Open(ctx, byok.Scope{Tenant: "acme"}, []byte("junk"), nil)
			return err
		}, byok.ErrMalformed},
		"a stranger": {[]byok.Op{byok.OpHealth}, func(ctx context.Context, env *byoktest.Env, _ *byok.Keeper) error {
			_, err := env.Keeper.Tenant("nobody").Health(ctx)
			return err
		}, byok.ErrNotRegistered},
		"a denial, per operation": {[]byok.Op{byok.OpDeny, byok.OpSeal}, func(ctx context.Context, _ *byoktest.Env, alone *byok.Keeper) error {
			_, err := alone.Seal(ctx, byok.Scope{Tenant: "acme"}, []byte("x"), nil)
			return err
		}, byok.ErrKeyDenied},
		"a denial, asked for": {[]byok.Op{byok.OpDeny, byok.OpRecheck}, func(ctx context.Context, env *byoktest.Env, _ *byok.Keeper) error {
			st, err := env.Keeper.Tenant("acme").Recheck(ctx)
			if err == nil && st.Access != byok.AccessBlocked {
				err = errors.New("it did not see the denial")
			}
			return err
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := new(stuckSink)
				env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: quietly(byok.Options{})})
				_, cmk := env.Tenant("acme")
				alone, err := byok.New(byoktest.Service, env.Keys, env.Store, sink, quietly(byok.Options{PerOperation: true}))
				want(t, "New", err, nil)
				defer alone.Close()
				cmk.Disable()
				before := len(sink.All())
				stuck := make(chan struct{})
				sink.mu.Lock()
				sink.stuck = stuck
				sink.mu.Unlock()
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				begun := time.Now()
				want(t, "the operation", c.f(ctx, env, alone), c.err)
				if took := time.Since(begun); took > 350*time.Millisecond {
					t.Errorf("it took %v with a deadline of 300ms", took)
				}
				if n := len(sink.All()); n != before {
					t.Fatalf("%d events are in a log that hangs", n-before)
				}
				time.Sleep(time.Second)
				close(stuck)
				synctest.Wait()
				found := map[byok.Op]int{}
				for _, e := range sink.All()[before:] {
					found[e.Op]++
				}
				for _, op := range c.ops {
					if found[op] != 1 {
						t.Errorf("%d events of %s: %v", found[op], op, found)
					}
				}
			})
		})
	}
}

// A data key that is out of its lease, or had to make room, is wiped when its last user
// has let go of it. No other tenant waits for that.
func TestOneTenantsLongUseHoldsUpNobodyElse(t *testing.T) {
	for name, evicted := range map[string]bool{"ended": false, "evicted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{MaxAge: time.Second})})
			if evicted {
				env.Keeper.SetCacheSize(1)
			}
			env.Tenant("long")
			env.Tenant("other")
			h, err := env.Keeper.Hold(t.Context(), byok.Scope{Tenant: "long", Purpose: "p"}, nil)
			want(t, "Hold", err, nil)
			in, out, done := make(chan struct{}), make(chan struct{}), make(chan error)
			go func() {
				done <- h.Step(t.Context(), 1, func([]byte) error { close(in); <-out; return nil })
			}()
			<-in
			if !evicted {
				time.Sleep(time.Second) // the lease ends; what is used is used
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err = env.Keeper.Seal(ctx, byok.Scope{Tenant: "other"}, []byte("x"), nil)
			close(out)
			want(t, "Step", <-done, nil)
			want(t, "Seal of another tenant", err, nil)
		})
	}
}

// hungKeyring is a driver that minds no ctx: it answers when gate is closed, and is denied.
type hungKeyring struct {
	byok.Keyring
	gate chan struct{}
}

func (h *hungKeyring) UnwrapDataKey(_ context.Context, key byok.KeyID, _ []byte, _ byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	<-h.gate
	return nil, byok.Receipt{}, &byok.KeyError{Key: key, Class: byok.ClassDenied, Code: "DisabledException"}
}

// A denial that comes when nobody waits for it any more is one, and leaves its event;
// but once Close has returned nothing is recorded: the sink may be closed by then.
func TestI20_NoEventAfterClose(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			env.Tenant("acme")
			sealed := seal(t, env.Keeper, "acme", "x", "")
			keys, sink := &hungKeyring{env.Keys, make(chan struct{})}, new(byok.MemAudit)
			k, err := byok.New(byoktest.Service, keys, env.Store, sink, quietly(byok.Options{}))
			want(t, "New", err, nil)
			defer k.Close()
			_, err = open(t, k, "acme", sealed, "")
			want(t, "Open", err, byok.ErrKeyUnavailable)
			if closed {
				want(t, "Close", k.Close(), nil)
			}
			before := len(sink.All())
			close(keys.gate)
			synctest.Wait()
			denials := 0
			for _, e := range sink.All()[before:] {
				if e.Op == byok.OpDeny {
					denials++
				}
			}
			if want := map[bool]int{false: 1, true: 0}[closed]; denials != want || closed && len(sink.All()) != before {
				t.Errorf("closed: %v: %d denials are recorded, want %d", closed, denials, want)
			}
		})
	}
}
