package byok_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// What an audit of the library tried, and found. Each of these once failed.

// hookKeyring asks a function before each call.
type hookKeyring struct {
	byok.Keyring
	hook atomic.Pointer[func(ctx context.Context, op string) error]
}

func (h *hookKeyring) before(f func(ctx context.Context, op string) error) { h.hook.Store(&f) }

func (h *hookKeyring) ask(ctx context.Context, op string) error {
	if f := h.hook.Load(); f != nil && *f != nil {
		return (*f)(ctx, op)
	}
	return nil
}

func (h *hookKeyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	if err := h.ask(ctx, "generate"); err != nil {
		return nil, byok.Wrapped{}, err
	}
	return h.Keyring.GenerateDataKey(ctx, key, ec)
}

func (h *hookKeyring) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	if err := h.ask(ctx, "wrap"); err != nil {
		return byok.Wrapped{}, err
	}
	return h.Keyring.WrapDataKey(ctx, key, dek, ec)
}

func (h *hookKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	if err := h.ask(ctx, "unwrap"); err != nil {
		return nil, byok.Receipt{}, err
	}
	return h.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
}

// hooked returns another Keeper on env, whose Keyring can be interfered with.
func hooked(t *testing.T, env *byoktest.Env) (*byok.Keeper, *hookKeyring) {
	t.Helper()
	h := &hookKeyring{Keyring: env.Keys}
	k, err := byok.New(byoktest.Service, h, env.Store, env.Audit, quietly(byok.Options{}))
	want(t, "New", err, nil)
	t.Cleanup(func() { _ = k.Close() })
	return k, h
}

// hangSink hangs until its ctx ends.
type hangSink struct {
	*byok.MemAudit
	on atomic.Bool
}

func (s *hangSink) Record(ctx context.Context, e byok.Event) error {
	if s.on.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.MemAudit.Record(ctx, e)
}

func quietly(o byok.Options) *byok.Options {
	o.Logger = slog.New(slog.DiscardHandler)
	return &o
}

// The sink hangs, with an event undelivered already: Revoke takes effect all the same.
func TestH5_StopDoesNotWaitForTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &hangSink{MemAudit: new(byok.MemAudit)}
		env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: quietly(byok.Options{})})
		acme, _ := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		sink.on.Store(true)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, byok.ErrNotAudited)
		start := time.Now()
		_, err = acme.Revoke(t.Context(), "stop") // with no end to its patience
		want(t, "Revoke", err, byok.ErrNotAudited)
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("Revoke took %v", d)
		}
		sink.on.Store(false)
		_, err = open(t, env.NewKeeper(), "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyRemoved)
	})
}

// A caller that hangs up in the middle of Health: its KMS calls are in the log,
// and nobody takes it for an outage of KMS.
func TestHealthOfACallerThatHangsUp(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{})})
	env.Tenant("acme")
	k, h := hooked(t, env)
	acme := k.Tenant("acme")
	_, err := acme.Health(t.Context())
	want(t, "Health", err, nil)
	ctx, cancel := context.WithCancel(t.Context())
	h.before(func(_ context.Context, op string) error {
		if op == "wrap" {
			cancel()
		}
		return nil
	})
	_, _ = acme.Health(ctx)
	st, err := acme.Status(t.Context())
	if want(t, "Status", err, nil); st.Access != byok.AccessAccessible {
		t.Errorf("a client hung up, and access is %s", st.Access)
	}
	want(t, "Close", k.Close(), nil) // joins what records it
	matchCalls(t, env, env.Audit.All())
}

// After a rotation many purposes need a data key at once, in several processes: all get theirs.
func TestI7_ManyFirstUsesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		acme, _ := env.Tenant("acme")
		keepers := []*byok.Keeper{env.Keeper, env.NewKeeper(), env.NewKeeper(), env.NewKeeper()}
		store.delay.Store(int64(time.Millisecond))
		for _, n := range []int{10, 60} {
			_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
			want(t, "Rotate", err, nil)
			time.Sleep(byok.DefaultMaxAge)
			var wg sync.WaitGroup
			for i := range n {
				for _, k := range keepers {
					wg.Go(func() {
						if _, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)}, nil, nil); err != nil {
							t.Errorf("Seal: %v", err)
						}
					})
				}
			}
			wg.Wait()
		}
		dataKeys(t, env, "acme")
	})
}

// The owner stops a tenant in the middle of such a crowd: it need not wait its turn.
func TestStopInACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		acme, _ := env.Tenant("acme")
		store.delay.Store(int64(time.Millisecond))
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)}, nil, nil)
				if err != nil && !errors.Is(err, byok.ErrSuspended) {
					t.Errorf("Seal: %v", err)
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		start := time.Now()
		_, err := acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		if d := time.Since(start); d > time.Second {
			t.Errorf("Suspend took %v", d)
		}
		wg.Wait()
	})
}

// Close ends what waits for KMS without an end of its own.
func TestCloseEndsCommands(t *testing.T) {
	env := byoktest.New(t, nil)
	k, h := hooked(t, env)
	h.before(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
	failed := make(chan error)
	go func() {
		_, err := register(t, k.Tenant("acme"), env.CMK("acme"))
		failed <- err
	}()
	time.Sleep(50 * time.Millisecond)
	closed := make(chan struct{})
	go func() { _ = k.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close hangs")
	}
	if err := <-failed; err == nil {
		t.Error("Register succeeded")
	}
}

// One tenant's damaged outbox, or a sink that hangs, keeps neither the events of
// others back nor their data keys in memory.
func TestRunGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &hangSink{MemAudit: new(byok.MemAudit)}
		env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: quietly(byok.Options{})})
		env.Tenant("a")
		z, _ := env.Tenant("z")
		seal(t, env.Keeper, "a", "x", "")
		sink.on.Store(true)
		_, err := z.Suspend(t.Context(), "")
		want(t, "Suspend", err, byok.ErrNotAudited)
		box, err := env.Store.Get(t.Context(), byok.Ref{Partition: "tenant:a", ID: "outbox"})
		want(t, "Get", err, nil)
		box.Value = []byte(`{"v":2}`)
		want(t, "Apply", env.Store.Apply(t.Context(), box), nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = env.Keeper.Run(ctx) }()
		time.Sleep(byok.DefaultMaxAge + 5*time.Second)
		if n := env.Keeper.Stats().Leases; n != 0 {
			t.Errorf("%d leases: the sweep waits for the sink", n)
		}
		sink.on.Store(false)
		time.Sleep(3 * time.Minute)
		page, err := sink.Events(t.Context(), "z", byok.AuditQuery{Op: byok.OpSuspend})
		if want(t, "Events", err, nil); len(page.Events) != 1 {
			t.Errorf("%d suspend events: the outbox of another tenant is in the way", len(page.Events))
		}
	})
}

// A waiver that New accepts can be acknowledged, whatever is in it.
func TestEveryWaiverFitsTheStore(t *testing.T) {
	for name, char := range map[string]string{"markup": "<b>&</b>", "line breaks": "\n", "control": "\x01", "quotes": `"`, "wide": "界"} {
		w := byok.DefaultWaiver()
		for n := 1 << 15; n > 64; n -= n / 8 { // as long as New takes it
			w.Text = strings.Repeat(char, n/len(char))
			k, err := byok.New(byoktest.Service, &oddKeyring{}, new(byok.MemStore), new(byok.MemAudit), &byok.Options{Waiver: &w})
			if err != nil {
				want(t, name, err, byok.ErrArgument)
				continue
			}
			_, err = k.Tenant("acme").AcknowledgeWaiver(t.Context(), accepted)
			want(t, fmt.Sprintf("%s, %d bytes", name, len(w.Text)), err, nil)
			want(t, "Close", k.Close(), nil)
			break
		}
	}
}

// The Store stalls while a data key is being made: the KMS call is in the log.
func TestI18_CallsOfALoadThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &stallStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		store.on.Store(true)
		_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
		want(t, "Seal", err, byok.ErrStore)
		store.on.Store(false)
		matchCalls(t, env, env.Audit.All())
	})
}

// stallStore stalls writes.
type stallStore struct {
	byok.Store
	on atomic.Bool
}

func (s *stallStore) Apply(ctx context.Context, w ...byok.Item) error {
	if s.on.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.Apply(ctx, w...)
}

// A damaged claim, or a lost answer, does not keep a Revoke from taking effect, or the log from saying so.
func TestRevokeWhateverTheStoreSays(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{})})
	acme, _ := env.Tenant("acme")
	claims, err := env.Store.List(t.Context(), "cmk", "", 10)
	want(t, "List", err, nil)
	claims[0].Value = []byte(`{"v":2}`)
	want(t, "Apply", env.Store.Apply(t.Context(), claims[0]), nil)
	st, err := acme.Revoke(t.Context(), "")
	if want(t, "Revoke with a damaged claim", err, nil); st.Status != byok.StatusRevoked {
		t.Errorf("%+v", st)
	}

	_, err = acme.Suspend(t.Context(), "") // nothing to deliver now; damage the outbox too
	want(t, "Suspend", err, nil)
	_, err = acme.Resume(t.Context(), "")
	want(t, "Resume", err, nil)
	box, err := env.Store.Get(t.Context(), byok.Ref{Partition: "tenant:acme", ID: "outbox"})
	want(t, "Get", err, nil)
	box.Value = []byte(`{"v":2}`)
	want(t, "Apply", env.Store.Apply(t.Context(), box), nil)
	st, err = acme.Suspend(t.Context(), "with a damaged outbox")
	if want(t, "Suspend", err, nil); !strings.Contains(st.Reason+fmt.Sprint(st.Status), "revoked") {
		t.Errorf("%+v", st)
	}
	page, err := env.Audit.Events(t.Context(), "acme", byok.AuditQuery{Op: byok.OpSuspend, Limit: 1})
	if want(t, "Events", err, nil); page.Events[0].Reason != "with a damaged outbox" {
		t.Errorf("%+v", page.Events)
	}
	_, err = acme.Resume(t.Context(), "")
	want(t, "Resume with a damaged outbox", err, byok.ErrStore)

	synctest.Test(t, func(t *testing.T) {
		store := &goneStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store, Keeper: quietly(byok.Options{})})
		acme, _ := env.Tenant("acme")
		store.arm.Store(true)
		_, err := acme.Revoke(t.Context(), "stop")
		want(t, "Revoke with a Store that went away", err, byok.ErrStore)
		store.gone.Store(false)
		st, err := acme.Status(t.Context())
		if want(t, "Status", err, nil); st.Status != byok.StatusRevoked {
			t.Errorf("%+v", st)
		}
		page, err := acme.Audit(t.Context(), byok.AuditQuery{Op: byok.OpRevoke})
		want(t, "Audit", err, nil)
		done := 0
		for _, e := range page.Events {
			if e.Outcome == byok.OutcomeSuccess && e.Reason == "stop" {
				done++
			}
		}
		if done != 1 {
			t.Errorf("it took effect, and the log has %+v", page.Events)
		}
	})
}

// goneStore writes once more, and then cannot be reached.
type goneStore struct {
	byok.Store
	arm, gone atomic.Bool
}

func (s *goneStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if s.gone.Load() {
		return byok.Item{}, errFlaky
	}
	return s.Store.Get(ctx, r)
}

func (s *goneStore) Apply(ctx context.Context, w ...byok.Item) error {
	err := s.Store.Apply(ctx, w...)
	if s.arm.CompareAndSwap(true, false) {
		s.gone.Store(true)
		return errFlaky
	}
	return err
}

// A lease that ends while the event of an operation is being recorded is proved
// anew: with KMS, Store and sink healthy nothing is refused (I7).
func TestI7_HitShortlyBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &slowSink{hookSink: hookSink{MemAudit: new(byok.MemAudit)}, delay: 10 * time.Millisecond}
		env := byoktest.New(t, &byoktest.Options{Sink: sink})
		_, cmk := env.Tenant("acme")
		alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
		want(t, "New", err, nil)
		defer alone.Close()
		inside, err := alone.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("x"), nil)
		want(t, "Seal", err, nil)
		for _, sealed := range [][]byte{seal(t, env.Keeper, "acme", "x", ""), inside} {
			for d := time.Duration(0); d < 30*time.Millisecond; d += time.Millisecond {
				time.Sleep(2 * byok.DefaultMaxAge) // idle: the lease ends
				mustOpen(t, env.Keeper, "acme", sealed, "", "x")
				time.Sleep(byok.DefaultMaxAge - 30*time.Millisecond + d)
				mustOpen(t, env.Keeper, "acme", sealed, "", "x")
			}
		}
		// But if KMS has changed its mind by then, it is withheld.
		sealed := seal(t, env.Keeper, "acme", "x", "")
		time.Sleep(byok.DefaultMaxAge - 15*time.Millisecond)
		cmk.Disable()
		_, err = open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
	})
}

// Renewals that fail for another reason than KMS's silence back off too.
func TestFailedRenewalsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, fail := range map[string]error{
			"a damaged wrapping": &byok.KeyError{Class: byok.ClassBlob, Op: "Decrypt"},
			"a wrong answer":     &byok.KeyError{Class: byok.ClassInternal, Op: "Decrypt"},
			"no answer":          &byok.KeyError{Class: byok.ClassOutage, Op: "Decrypt"},
		} {
			env := byoktest.New(t, nil)
			env.Tenant("acme")
			k, h := hooked(t, env)
			sealed := seal(t, k, "acme", "x", "")
			h.before(func(context.Context, string) error { return fail })
			time.Sleep(35 * time.Second)
			before := k.Stats().KMSCalls
			for range 2000 { // 20 s
				mustOpen(t, k, "acme", sealed, "", "x")
				time.Sleep(10 * time.Millisecond)
			}
			if n := k.Stats().KMSCalls - before; n == 0 || n > 30 {
				t.Errorf("%s: %d questions in 20 s", name, n)
			}
		}
	})
}

// A denial is one whenever it comes, also when nobody waits for it any more.
func TestI1_LateDenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		k, h := hooked(t, env)
		sealed := seal(t, k, "acme", "x", "")
		h.before(func(context.Context, string) error {
			time.Sleep(time.Second) // deaf to ctx
			return &byok.KeyError{Class: byok.ClassDenied, Code: "DisabledException", RequestID: "late"}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, _ = k.Tenant("acme").Health(ctx)
		time.Sleep(2 * time.Second)
		h.before(nil)
		page, err := env.Audit.Events(t.Context(), "acme", byok.AuditQuery{Op: byok.OpDeny})
		if want(t, "Events", err, nil); len(page.Events) != 1 || page.Events[0].Proof != "late" {
			t.Errorf("%+v", page.Events)
		}
		if n := k.Stats().Leases; n != 0 {
			t.Errorf("%d leases after a denial", n)
		}
		mustOpen(t, k, "acme", sealed, "", "x") // its back-off is over; KMS is asked, and says yes
	})
}

// The log says which data were given up.
func TestAbandonmentIsInTheLog(t *testing.T) {
	env := byoktest.New(t, nil)
	acme, cmk := env.Tenant("acme")
	seal(t, env.Keeper, "acme", "x", "")
	_, err := acme.Revoke(t.Context(), "")
	want(t, "Revoke", err, nil)
	_, err = acme.Register(t.Context(), byok.Registration{Key: awskms.Key(env.CMK("acme").ARN()), AbandonExistingData: true})
	want(t, "Register", err, nil)
	page, err := acme.Audit(t.Context(), byok.AuditQuery{Op: byok.OpRegister})
	want(t, "Audit", err, nil)
	if got := page.Events[0].Reason; got != "existing data abandoned: "+cmk.ARN() {
		t.Errorf("reason %q", got)
	}
}

// A denied tenant that removes its key and registers it again, with access
// granted: seven answers of KMS say so, and no back-off of before makes it wait.
func TestI5_RegisterAfterADenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		cmk.Disable()
		for range 60 { // until the back-off is at its longest
			_, err := acme.Recheck(t.Context())
			want(t, "Recheck", err, nil)
			time.Sleep(2 * time.Second)
		}
		_, err := acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		cmk.Enable()
		_, err = register(t, acme, cmk)
		want(t, "Register", err, nil)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x") // at once
	})
}

// The event that a claim was taken away is part of the change: a sink that fails
// just then only delays it.
func TestI18_ReleaseIsNotLost(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: quietly(byok.Options{AllowUnboundPolicy: true})})
	acme, squatter := env.Keeper.Tenant("acme"), env.Keeper.Tenant("squatter")
	cmk := env.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
	_, err := register(t, squatter, cmk)
	want(t, "Register", err, nil)
	cmk.SetPolicy(awskms.KeyPolicy(byoktest.Account, byoktest.PlatformRole, acme.EncryptionContext()).JSON())
	sink.failing(errors.New("down"))
	_, err = register(t, acme, cmk)
	want(t, "Register", err, byok.ErrNotAudited)
	sink.failing(nil)
	page, err := env.NewKeeper().Tenant("squatter").Audit(t.Context(), byok.AuditQuery{Op: byok.OpRelease})
	if want(t, "Audit", err, nil); len(page.Events) != 1 {
		t.Errorf("%d release events", len(page.Events))
	}
}
