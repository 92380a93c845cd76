package byok_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// A customer disables its CMK: nothing is served after the first denial, nor
// later than MaxAge; and all is back by itself after it is enabled again.
func TestI1_I3_I5_E1_E13_Revocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		_, other := env.Tenant("other")
		sealed, quiet := seal(t, env.Keeper, "acme", "x", ""), seal(t, env.Keeper, "other", "y", "")

		cmk.Disable()
		revoked := time.Now()
		var lastSuccess, firstDenial time.Time
		for time.Since(revoked) < 3*time.Minute {
			_, err := open(t, env.Keeper, "acme", sealed, "")
			switch {
			case err == nil:
				if lastSuccess = time.Now(); !firstDenial.IsZero() {
					t.Fatalf("served %v after the first denial (I1)", time.Since(firstDenial))
				}
			case !errors.Is(err, byok.ErrKeyDenied):
				t.Fatalf("Open: %v, want ErrKeyDenied", err)
			case firstDenial.IsZero():
				firstDenial = time.Now()
			}
			mustOpen(t, env.Keeper, "other", quiet, "", "y") // nobody else notices
			time.Sleep(100 * time.Millisecond)
		}
		if firstDenial.IsZero() || lastSuccess.Sub(revoked) >= byok.DefaultMaxAge {
			t.Fatalf("last success %v after the revocation, first denial at %v", lastSuccess.Sub(revoked), firstDenial)
		}
		st, err := env.Keeper.Tenant("acme").Status(t.Context())
		want(t, "Status", err, nil)
		if st.Status != byok.StatusDisabled || st.Access != byok.AccessBlocked {
			t.Errorf("status while denied: %+v", st)
		}
		if n := env.Keeper.Stats().Denials; n != 1 {
			t.Errorf("Denials = %d, want 1", n)
		}

		cmk.Enable()
		enabled := time.Now()
		for {
			if _, err := open(t, env.Keeper, "acme", sealed, ""); err == nil {
				break
			}
			if time.Since(enabled) > 30*time.Second {
				t.Fatal("not back within the longest back-off (I5)")
			}
			time.Sleep(100 * time.Millisecond)
		}
		other.Disable()
		time.Sleep(time.Minute)
		_, err = open(t, env.Keeper, "other", quiet, "")
		want(t, "Open", err, byok.ErrKeyRevoked)
	})
}

// One denial, of whatever operation, stops all data keys under the CMK, and the
// questions to KMS back off.
func TestI10_E7_E12_DenialStopsEveryDataKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		var sealed [][]byte
		for _, purpose := range []string{"a", "b", "c"} {
			s, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: purpose}, []byte("x"), nil)
			want(t, "Seal", err, nil)
			sealed = append(sealed, s)
		}
		cmk.Disable()
		h, err := acme.Health(t.Context()) // any denial will do: this one sees it first
		want(t, "Health", err, nil)
		if h.Status != byok.Unhealthy || h.CMKAccessible {
			t.Fatalf("health: %+v", h)
		}
		env.Fake.ResetCalls()
		for i, purpose := range []string{"a", "b", "c"} {
			_, err := env.Keeper.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: purpose}, sealed[i], nil)
			want(t, "Open "+purpose, err, byok.ErrKeyDenied)
		}
		if n := len(env.Fake.Calls()); n != 0 {
			t.Errorf("%d KMS calls within the back-off", n)
		}
		if n := env.Keeper.Stats().Leases; n != 0 {
			t.Errorf("%d leases are left after a denial", n)
		}
		// 1 s, 2 s, 4 s, 8 s, 16 s, 30 s, 30 s ...: about 9 questions in 3 minutes.
		for range 1800 {
			time.Sleep(100 * time.Millisecond)
			_, _ = env.Keeper.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "a"}, sealed[0], nil)
		}
		if n := len(env.Fake.Calls()); n < 7 || n > 10 {
			t.Errorf("%d questions to a denying KMS in 3 minutes", n)
		}
	})
}

// KMS is down: a lease goes on to its end, and not a moment longer.
func TestI4_E2_E3_OutageExtendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		proved := time.Now()
		restore := env.Fake.Outage()
		for time.Since(proved) < 2*byok.DefaultMaxAge {
			_, err := open(t, env.Keeper, "acme", sealed, "")
			age := time.Since(proved)
			switch {
			case err == nil && age >= byok.DefaultMaxAge:
				t.Fatalf("served at age %v (I2)", age)
			case err != nil && age < byok.DefaultMaxAge:
				t.Fatalf("refused at age %v (I7): %v", age, err)
			case err != nil:
				want(t, "Open in an outage", err, byok.ErrKeyUnavailable)
				if errors.Is(err, byok.ErrKeyRevoked) {
					t.Fatal("an outage is taken for a revocation (I6)")
				}
			}
			time.Sleep(time.Second)
		}
		restore()
		time.Sleep(5 * time.Second) // the longest back-off (I5)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	})
}

// A lease in use is renewed ahead of its end, in the background, by one call;
// one that is not used is not.
func TestRenewalAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		env.Fake.ResetCalls()
		env.Fake.Latency(3 * time.Second)
		for range 600 { // 10 minutes
			start := time.Now()
			mustOpen(t, env.Keeper, "acme", sealed, "", "x")
			if d := time.Since(start); d != 0 {
				t.Fatalf("an operation waited %v for a renewal", d)
			}
			time.Sleep(time.Second)
		}
		if n := len(env.Fake.Calls()); n < 15 || n > 23 {
			t.Errorf("%d renewals in 10 minutes, want about 18", n)
		}
		time.Sleep(10 * time.Second)
		env.Fake.ResetCalls()
		time.Sleep(time.Hour)
		if n := len(env.Fake.Calls()); n != 0 {
			t.Errorf("%d KMS calls while nobody asked", n)
		}
	})
}

// Without the Store nothing is renewed: a suspension must get through.
func TestRenewalNeedsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &cutStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		store.cut(true)
		start := time.Now()
		for {
			if _, err := open(t, env.Keeper, "acme", sealed, ""); err != nil {
				want(t, "Open without the Store", err, byok.ErrStore)
				break
			}
			time.Sleep(time.Second)
		}
		if age := time.Since(start); age != byok.DefaultMaxAge {
			t.Errorf("refused at age %v, want MaxAge", age)
		}
		store.cut(false)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	})
}

// An authoritative stop in one process reaches another within MaxAge, also
// when KMS would go on saying yes.
func TestSuspendReachesOtherProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k2 := env.NewKeeper()
		mustOpen(t, k2, "acme", sealed, "", "x")
		_, err := acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		_, err = open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open in the same process", err, byok.ErrSuspended)
		start := time.Now()
		for {
			if _, err := open(t, k2, "acme", sealed, ""); err != nil {
				want(t, "Open in the other process", err, byok.ErrSuspended)
				break
			}
			if time.Sleep(time.Second); time.Since(start) > byok.DefaultMaxAge {
				t.Fatal("served beyond MaxAge")
			}
		}
	})
}

// The customer takes kms:Decrypt away alone: GenerateDataKey still succeeds,
// but grants nothing until a Decrypt has.
func TestDeniedUntilEachOperationSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		whole := cmk.Policy()
		cmk.SetPolicy(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + byoktest.Account + `:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"` + byoktest.PlatformRole + `"},"Action":["kms:GenerateDataKey","kms:Encrypt"],"Resource":"*"}]}`)
		time.Sleep(time.Minute)
		for range 120 {
			_, err := open(t, env.Keeper, "acme", sealed, "")
			want(t, "Open", err, byok.ErrKeyDenied)
			_, err = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "new"}, nil, nil)
			want(t, "Seal for a new purpose, which needs no Decrypt", err, byok.ErrKeyDenied)
			_, err = acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
			want(t, "Rotate", err, byok.ErrKeyDenied)
			time.Sleep(time.Second)
		}
		cmk.SetPolicy(whole)
		time.Sleep(30 * time.Second)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	})
}

// A denial while an operation is under way: its result is not released, and
// the log says so.
func TestI8_I18_WithheldAfterDenial(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	env := byoktest.New(t, &byoktest.Options{Sink: sink})
	acme, cmk := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	sink.before(func(e byok.Event) {
		if e.Op == byok.OpOpen && e.Outcome == byok.OutcomeSuccess {
			cmk.Disable()
			_, _ = acme.Health(context.Background()) // sees the denial
		}
	})
	_, err := open(t, env.Keeper, "acme", sealed, "")
	want(t, "Open", err, byok.ErrKeyDenied)
	sink.before(nil)
	var success, withheld []byok.Event
	for _, e := range sink.All() {
		switch {
		case e.Op == byok.OpOpen && e.Outcome == byok.OutcomeSuccess:
			success = append(success, e)
		case e.Op == byok.OpOpen && e.Outcome == byok.OutcomeWithheld:
			withheld = append(withheld, e)
		}
	}
	if len(success) != 1 || len(withheld) != 1 || withheld[0].Reason != success[0].ID {
		t.Fatalf("got %d successes and %d withheld: %+v %+v", len(success), len(withheld), success, withheld)
	}
}

// The platform suspends a tenant while its success is being recorded.
func TestI8_WithheldAfterSuspension(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	env := byoktest.New(t, &byoktest.Options{Sink: sink})
	acme, _ := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	sink.before(func(e byok.Event) {
		if e.Op == byok.OpOpen && e.Outcome == byok.OutcomeSuccess {
			_, _ = acme.Suspend(context.Background(), "")
		}
	})
	_, err := open(t, env.Keeper, "acme", sealed, "")
	want(t, "Open", err, byok.ErrSuspended)
}

// ... or while KMS is being asked: what it gave is not kept.
func TestSuspendedWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := env.NewKeeper()
		env.Fake.Latency(2 * time.Second)
		go func() {
			time.Sleep(time.Second)
			_, _ = k.Tenant("acme").Suspend(context.Background(), "")
		}()
		_, err := open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrSuspended)
		if n := k.Stats().Leases; n != 0 {
			t.Errorf("%d leases", n)
		}
	})
}

// A lease counts from when the Store was asked whether it may be, if that took long.
func TestLeaseCountsFromTheStoreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := env.NewKeeper()
		store.delay.Store(int64(5 * time.Second))
		start := time.Now()
		mustOpen(t, k, "acme", sealed, "", "x")
		if time.Since(start) != 10*time.Second {
			t.Fatalf("the load took %v", time.Since(start))
		}
		store.delay.Store(0)
		defer env.Fake.Outage()()
		for {
			age := time.Since(start)
			if _, err := open(t, k, "acme", sealed, ""); err != nil {
				if age != byok.DefaultMaxAge {
					t.Errorf("refused %v after the Store was asked, want MaxAge", age)
				}
				break
			}
			time.Sleep(time.Second)
		}
	})
}

type slowStore struct {
	byok.Store
	delay atomic.Int64
}

func (s *slowStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	i, err := s.Store.Get(ctx, r)
	time.Sleep(time.Duration(s.delay.Load()))
	return i, err
}

// A health call sees Encrypt alone denied. That stops everything, and ends when
// Encrypt works again, although no operation of the data plane needs it.
func TestDeniedEncryptStopsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		whole := cmk.Policy()
		cmk.SetPolicy(strings.ReplaceAll(strings.ReplaceAll(whole, `"kms:Encrypt",`, ""), `"kms:Encrypt"`, `"kms:Decrypt"`))
		h, err := acme.Health(t.Context())
		if want(t, "Health", err, nil); h.Status != byok.Unhealthy {
			t.Fatalf("%+v", h)
		}
		for range 60 {
			_, err := open(t, env.Keeper, "acme", sealed, "")
			want(t, "Open", err, byok.ErrKeyDenied)
			time.Sleep(time.Second)
		}
		cmk.SetPolicy(whole)
		time.Sleep(31 * time.Second)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	})
}

// When the back-off ends, one question is asked, however many data keys wait.
func TestOneQuestionPerBackoffStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := map[string][]byte{}
		for _, p := range []string{"a", "b", "c", "d", "e"} {
			s, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: p}, nil, nil)
			want(t, "Seal", err, nil)
			sealed[p] = s
		}
		cmk.Disable()
		_, err := acme.Health(t.Context())
		want(t, "Health", err, nil)
		time.Sleep(5 * time.Second)
		env.Fake.ResetCalls()
		env.Fake.Latency(100 * time.Millisecond)
		var wg sync.WaitGroup
		for p, s := range sealed {
			wg.Go(func() {
				_, err := env.Keeper.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: p}, s, nil)
				if !errors.Is(err, byok.ErrKeyDenied) {
					t.Errorf("Open: %v", err)
				}
			})
		}
		wg.Wait()
		if n := len(env.Fake.Calls()); n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
	})
}

// Ten thousand operations meet at a cold key: one KMS call; those that leave
// harm nobody.
func TestI12_E14_OneCallForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := env.NewKeeper()
		env.Fake.ResetCalls()
		env.Fake.Latency(time.Second)
		var wg sync.WaitGroup
		for i := range 10_000 {
			wg.Go(func() {
				ctx := t.Context()
				if i%2 == 0 { // whoever leads, half of them leave
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 500*time.Millisecond)
					defer cancel()
				}
				_, err := k.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil)
				if i%2 == 0 && !(errors.Is(err, context.DeadlineExceeded) && errors.Is(err, byok.ErrKeyUnavailable)) || i%2 == 1 && err != nil {
					t.Errorf("operation %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := len(env.Fake.Calls()); n != 1 {
			t.Errorf("%d KMS calls, want 1", n)
		}
	})
}

// DescribeKey says Enabled, use says denied: denial wins (D17).
func TestD17_DescribeKeyIsNoProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		cmk.SetPolicy(`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + byoktest.Account + `:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"` + byoktest.PlatformRole + `"},"Action":"kms:DescribeKey","Resource":"*"}]}`)
		h, err := acme.Health(t.Context())
		want(t, "Health", err, nil)
		last := h.Checks[len(h.Checks)-1]
		if h.Status != byok.Unhealthy || last.Name != "describe_key" || last.Status != "pass" {
			t.Errorf("%+v", h)
		}
		_, err = open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
	})
}

// Our own identity policy is broken: data stops, but nobody is told that the
// tenant revoked us.
func TestPlatformDenialIsNotTheTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		env.Fake.Account("999999999999").PutIdentityPolicy(byoktest.PlatformRole,
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`)
		_, err := acme.Health(t.Context()) // sees it first
		want(t, "Health", err, nil)
		_, err = open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open, at once", err, byok.ErrPlatform)
		if errors.Is(err, byok.ErrKeyRevoked) {
			t.Error("our own fault is taken for a revocation (I6)")
		}
		st, err := acme.Status(t.Context())
		if want(t, "Status", err, nil); st.Status != byok.StatusActive || st.Access != byok.AccessDegraded {
			t.Errorf("%+v", st)
		}
		env.Fake.Account("999999999999").DeleteIdentityPolicies(byoktest.PlatformRole)
		time.Sleep(time.Second)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	})
}

// cutStore is a Store that can be cut off.
type cutStore struct {
	byok.Store
	mu  sync.Mutex
	off bool
}

func (s *cutStore) cut(off bool) { s.mu.Lock(); s.off = off; s.mu.Unlock() }

func (s *cutStore) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return errors.New("connection refused: user=secret")
	}
	return nil
}

func (s *cutStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if err := s.err(); err != nil {
		return byok.Item{}, err
	}
	return s.Store.Get(ctx, r)
}

func (s *cutStore) Apply(ctx context.Context, w ...byok.Item) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Apply(ctx, w...)
}

// hookSink calls a function before it records, or fails.
type hookSink struct {
	*byok.MemAudit
	mu   sync.Mutex
	hook func(byok.Event)
	fail error
}

func (s *hookSink) before(f func(byok.Event)) { s.mu.Lock(); s.hook = f; s.mu.Unlock() }
func (s *hookSink) failing(err error)         { s.mu.Lock(); s.fail = err; s.mu.Unlock() }

func (s *hookSink) Record(ctx context.Context, e byok.Event) error {
	s.mu.Lock()
	hook, fail := s.hook, s.fail
	s.mu.Unlock()
	if fail != nil {
		return fail
	}
	if hook != nil {
		hook(e)
	}
	return s.MemAudit.Record(ctx, e)
}

// What the fake knows of a denial is told of the Keeper's error too, also of one that stands on an earlier answer, as docs/testing.md says.
func TestWhyOfAKeepersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		cmk.DenyTo(byoktest.PlatformRole)
		time.Sleep(byok.DefaultMaxAge)
		for _, which := range []string{"of the request", "of a block"} {
			_, err := open(t, env.Keeper, "acme", sealed, "")
			want(t, which, err, byok.ErrKeyDenied)
			why := env.Fake.Why(err)
			if why == nil || len(why.Decisions) == 0 || why.Decisions[len(why.Decisions)-1].Allowed || !strings.Contains(why.String(), "Deny") {
				t.Errorf("%s: %v", which, why)
			}
		}
		if why := env.Fake.Why(byok.ErrKeyDenied); why != nil {
			t.Errorf("of no request: %v", why)
		}
	})
}
