package byok_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// gauge is a Keyring that counts the requests under way, and can be slow or deaf to ctx.
type gauge struct {
	byok.Keyring
	now, most, all atomic.Int64
	delay          atomic.Int64 // ns
	deaf           atomic.Bool
}

func (g *gauge) begin(ctx context.Context) func() {
	g.all.Add(1)
	n := g.now.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	if d := time.Duration(g.delay.Load()); d > 0 {
		if g.deaf.Load() {
			time.Sleep(d)
		} else {
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
		}
	}
	return func() { g.now.Add(-1) }
}

func (g *gauge) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	defer g.begin(ctx)()
	return g.Keyring.GenerateDataKey(ctx, key, ec)
}

func (g *gauge) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	defer g.begin(ctx)()
	return g.Keyring.WrapDataKey(ctx, key, dek, ec)
}

func (g *gauge) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	defer g.begin(ctx)()
	return g.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
}

// gauged returns a Keeper on env whose KMS requests are counted.
func gauged(t *testing.T, env *byoktest.Env, opts *byok.Options) (*byok.Keeper, *gauge) {
	t.Helper()
	g := &gauge{Keyring: env.Keys}
	k, err := byok.New(byoktest.Service, g, env.Store, env.Audit, opts)
	want(t, "New", err, nil)
	t.Cleanup(func() { _ = k.Close() })
	return k, g
}

// junk returns a function that makes envelopes with a data key of their own, under
// the tenant's registered CMK, whose wrapped key is random. Each is another one.
func junk(t *testing.T, env *byoktest.Env, tenant string) func() []byte {
	t.Helper()
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	good := seal(t, alone, tenant, "x", "")
	h, err := byok.Inspect(good)
	want(t, "Inspect", err, nil)
	at := bytes.Index(good, h.Recipients[0].Wrapped)
	return func() []byte {
		bad := bytes.Clone(good)
		_, _ = rand.Read(bad[at : at+len(h.Recipients[0].Wrapped)])
		return bad
	}
}

// throttled checks that err is ErrThrottled, of the budget and not of KMS, and
// returns when to come again.
func throttled(t *testing.T, what string, err error) time.Duration {
	t.Helper()
	want(t, what, err, byok.ErrThrottled)
	var ke *byok.KeyError
	if !errors.As(err, &ke) || ke.RequestID != "" {
		t.Fatalf("%s: %v is not of the budget", what, err)
	}
	return ke.RetryAfter
}

// A thousand envelopes a second with random wrapped keys: they cost their own small
// budget, and neither this tenant's data keys nor anybody else notices.
func TestD9_JunkStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		env.Tenant("other")
		mine, theirs := seal(t, env.Keeper, "acme", "x", ""), seal(t, env.Keeper, "other", "y", "")
		bad := junk(t, env, "acme")
		k, g := gauged(t, env, nil)
		var refused int
		for second := range 10 {
			for range 1000 {
				_, err := open(t, k, "acme", bad(), "")
				if err == byok.ErrOpen {
					continue
				}
				refused++
				if wait := throttled(t, "Open junk", err); wait <= 0 || wait > time.Second/20 {
					t.Fatalf("told to come again in %v", wait)
				}
			}
			if n := g.all.Load(); n > 20+20*int64(second) {
				t.Fatalf("%d requests in %d s of junk", n, second)
			}
			time.Sleep(time.Second)
		}
		if refused == 0 {
			t.Fatal("nothing was refused")
		}
		before := g.all.Load()
		for range 1000 { // the bucket is empty again
			_, _ = open(t, k, "acme", bad(), "")
		}
		mustOpen(t, k, "acme", mine, "", "x")
		mustOpen(t, k, "other", theirs, "", "y")
		for i := range 100 {
			_, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)}, nil, nil)
			want(t, "Seal", err, nil)
		}
		if n := g.all.Load() - before; n != 20+102 {
			t.Errorf("%d requests, want 20 for the junk and 102", n)
		}
		h, err := acme.Health(t.Context())
		if want(t, "Health", err, nil); h.Status != byok.Healthy {
			t.Errorf("%+v", h)
		}
		time.Sleep(byok.DefaultMaxAge / 2 * 3 / 2)
		for range 1000 {
			_, _ = open(t, k, "acme", bad(), "")
		}
		before = g.all.Load()
		mustOpen(t, k, "acme", mine, "", "x") // and is renewed
		synctest.Wait()
		if n := g.all.Load() - before; n != 1 {
			t.Errorf("%d requests for a renewal under junk", n)
		}
	})
}

// The same wrapped key is tried three times and then refused without KMS, for a
// minute; the right one under another purpose is not it.
func TestD9_ThreeTriesForABlob(t *testing.T) {
	for name, opts := range map[string]*byok.Options{"leased": nil, "per operation": {PerOperation: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, nil)
				env.Tenant("acme")
				bad := junk(t, env, "acme")()
				alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
				want(t, "New", err, nil)
				defer alone.Close()
				good := seal(t, alone, "acme", "x", "")
				k, g := gauged(t, env, opts)
				tries := func(want int64) {
					t.Helper()
					before := g.all.Load()
					for range 10 {
						if _, err := open(t, k, "acme", bad, ""); err != byok.ErrOpen {
							t.Fatalf("Open: %v, want a bare ErrOpen", err)
						}
						time.Sleep(time.Second)
					}
					if n := g.all.Load() - before; n != want {
						t.Errorf("%d requests, want %d", n, want)
					}
				}
				tries(3)
				time.Sleep(40 * time.Second)
				tries(0) // asking again does not prolong it
				time.Sleep(5 * time.Second)
				tries(3)

				for range 5 { // the right bytes under the wrong purpose
					_, err := k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "wrong"}, good, nil)
					want(t, "Open under a wrong purpose", err, byok.ErrOpen)
				}
				mustOpen(t, k, "acme", good, "", "x")

				more := junk(t, env, "acme")
				for range 400 { // what is remembered is bounded
					_, _ = open(t, k, "acme", more(), "")
					time.Sleep(time.Second / 20)
				}
				if n := k.RememberedBlobs("acme"); n == 0 || n > 256 {
					t.Errorf("%d blobs are remembered", n)
				}
			})
		})
	}
}

// Data keys that the Store knows: 200 a second, 50 at once. Who has to wait for a
// slot leaves by its own ctx; who is over the rate is told when to come again.
func TestD9_BudgetOfKnownDataKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		env.Tenant("other")
		theirs := seal(t, env.Keeper, "other", "y", "")
		k, g := gauged(t, env, nil)
		g.delay.Store(int64(time.Second))
		var wg sync.WaitGroup
		var good, over, left atomic.Int64
		for i := range 500 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				if i%3 == 0 {
					ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
				}
				defer cancel()
				start := time.Now()
				_, err := k.Seal(ctx, byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)}, nil, nil)
				switch {
				case err == nil:
					good.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					if left.Add(1); time.Since(start) > 550*time.Millisecond {
						t.Errorf("waited %v for a slot", time.Since(start))
					}
				default:
					if over.Add(1); throttled(t, "Seal", err) <= 0 {
						t.Error("not told when to come again")
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		mustOpen(t, k, "other", theirs, "", "y")
		if d := time.Since(start); d != time.Second {
			t.Errorf("another tenant waited %v", d)
		}
		wg.Wait()
		if m := g.most.Load(); m != 51 {
			t.Errorf("%d requests at once, want 50 and the other tenant's", m)
		}
		if n := g.all.Load(); n != 401 {
			t.Errorf("%d requests, want a burst of 200, those that waited up to a second, and the other tenant's", n)
		}
		if good.Load()+left.Load()+over.Load() != 500 || over.Load() < 60 || good.Load() < 200 {
			t.Errorf("%d good, %d over budget, %d left", good.Load(), over.Load(), left.Load())
		}
		time.Sleep(time.Second)
		if _, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "late"}, nil, nil); err != nil {
			t.Errorf("the budget does not come back: %v", err)
		}
	})
}

// A process that has just started reads what lies under many data keys: as fast as the
// budget permits, in any order, and nothing is refused that would come within a second. Who has
// no time leaves, and what a tenant waits for is no other's.
func TestD9_ManyDataKeysAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		scope := func(i int) byok.Scope { return byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)} }
		var sealed [][]byte
		for i := range 600 {
			s, err := env.Keeper.Seal(t.Context(), scope(i), nil, nil)
			want(t, "Seal", err, nil)
			sealed = append(sealed, s)
			time.Sleep(10 * time.Millisecond)
		}
		k, g := gauged(t, env, nil)
		start := time.Now()
		for i, s := range sealed {
			_, err := k.Open(t.Context(), scope(i), s, nil)
			want(t, "Open", err, nil)
		}
		if d := time.Since(start); d < 1990*time.Millisecond || d > 2100*time.Millisecond || g.all.Load() != 600 {
			t.Errorf("one after the other: %d requests in %v, want 600 in 2 s", g.all.Load(), d)
		}

		k, g = gauged(t, env, nil)
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		for i, s := range sealed[:399] {
			wg.Go(func() {
				_, err := k.Open(t.Context(), scope(i), s, nil)
				want(t, "Open", err, nil)
			})
		}
		wg.Go(func() {
			synctest.Wait()
			_, err := k.Open(ctx, scope(500), sealed[500], nil) // the last in the queue, and in a hurry
			if d := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || d > 310*time.Millisecond {
				t.Errorf("%v after %v", err, d)
			}
		})
		wg.Wait()
		if d := time.Since(start); d != 995*time.Millisecond {
			t.Errorf("all at once: 399 requests in %v, want 1 s", d)
		}
		if time.Sleep(10 * time.Millisecond); g.all.Load() != 400 { // the load goes on without who began it
			t.Errorf("all at once: %d requests in %v, want 400 in 1 s", g.all.Load(), time.Since(start))
		}
	})
}

// What cannot pay does not take the question that a denied key has per step: else
// junk could keep a tenant out after access has returned.
func TestI5_JunkDoesNotDelayRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		bad := junk(t, env, "acme")
		flood := func() {
			for range 100 {
				_, _ = open(t, env.Keeper, "acme", bad(), "")
			}
		}
		cmk.Disable()
		_, err := acme.Health(t.Context())
		want(t, "Health", err, nil)
		for range 120 { // the back-off is at its longest
			flood()
			time.Sleep(time.Second)
		}
		cmk.Enable()
		start := time.Now()
		for {
			flood()
			if _, err := open(t, env.Keeper, "acme", sealed, ""); err == nil {
				break
			}
			if time.Sleep(100 * time.Millisecond); time.Since(start) > 30*time.Second {
				t.Fatal("junk keeps the tenant out")
			}
		}

		// The same for the breaker: junk takes the probe, KMS answers, all is well.
		time.Sleep(2 * byok.DefaultMaxAge)
		restore := env.Fake.Outage()
		for range 30 {
			_, _ = open(t, env.Keeper, "acme", sealed, "")
			time.Sleep(time.Second)
		}
		restore()
		start = time.Now()
		for {
			flood()
			_, err := open(t, env.Keeper, "acme", sealed, "")
			if err == nil {
				break
			}
			if time.Sleep(100 * time.Millisecond); time.Since(start) > 5*time.Second {
				t.Fatal(err, "junk keeps the breaker open")
			}
		}
	})
}

// KMS is down: one load finds out, then one attempt per back-off step goes on
// asking; everybody else is told at once. It ends by itself, within the back-off.
func TestI5_Breaker(t *testing.T) {
	for name, opts := range map[string]*byok.Options{"leased": nil, "per operation": {PerOperation: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, nil)
				acme, cmk := env.Tenant("acme")
				sealed := seal(t, env.Keeper, "acme", "x", "")
				k, g := gauged(t, env, opts)
				restore := env.Fake.Outage()
				_, err := open(t, k, "acme", sealed, "")
				want(t, "Open", err, byok.ErrKeyUnavailable)
				if n := g.all.Load(); n != 3 {
					t.Fatalf("%d attempts, want 3", n)
				}
				g.delay.Store(int64(time.Second)) // and slow at that
				var slow int
				for range 600 { // a minute
					start := time.Now()
					_, err := open(t, k, "acme", sealed, "")
					want(t, "Open", err, byok.ErrKeyUnavailable)
					if d := time.Since(start); d > 0 {
						slow++
					} else if ke := new(byok.KeyError); !errors.As(err, &ke) || ke.RetryAfter <= 0 || ke.RetryAfter > 5*time.Second {
						t.Fatalf("not told when to come again: %v", err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := int(g.all.Load()) - 3; n != slow || n < 8 || n > 20 {
					t.Errorf("%d attempts in a minute, %d operations waited", n, slow)
				}
				restore()
				g.delay.Store(0)
				start := time.Now()
				for {
					if _, err := open(t, k, "acme", sealed, ""); err == nil {
						break
					}
					if time.Sleep(50 * time.Millisecond); time.Since(start) > 5*time.Second {
						t.Fatal("not back within the back-off (I5)")
					}
				}

				// A health call that succeeds closes it for all.
				time.Sleep(2 * byok.DefaultMaxAge)
				restore = env.Fake.Outage()
				for range 300 {
					_, _ = open(t, k, "acme", sealed, "")
					time.Sleep(100 * time.Millisecond)
				}
				for range 100 { // until a step has begun, so that it does not end in the next line
					_, err := open(t, k, "acme", sealed, "")
					if ke := new(byok.KeyError); errors.As(err, &ke) && ke.RetryAfter > 0 {
						break
					}
				}
				restore()
				_, err = open(t, k, "acme", sealed, "")
				want(t, "Open while the breaker is open", err, byok.ErrKeyUnavailable)
				h, err := k.Tenant("acme").Health(t.Context())
				if want(t, "Health", err, nil); h.Status != byok.Healthy {
					t.Fatalf("%+v", h)
				}
				mustOpen(t, k, "acme", sealed, "", "x")

				// A suspension and a denial are told as what they are.
				time.Sleep(2 * byok.DefaultMaxAge)
				restore = env.Fake.Outage()
				for range 30 {
					_, _ = open(t, k, "acme", sealed, "")
					time.Sleep(100 * time.Millisecond)
				}
				_, err = k.Tenant("acme").Suspend(t.Context(), "")
				want(t, "Suspend", err, nil)
				_, err = open(t, k, "acme", sealed, "")
				want(t, "Open of a suspended tenant with the breaker open", err, byok.ErrSuspended)
				restore()
				_, err = acme.Resume(t.Context(), "")
				want(t, "Resume", err, nil)
				cmk.Disable()
				_, err = k.Tenant("acme").Health(t.Context())
				want(t, "Health", err, nil)
				_, err = open(t, k, "acme", sealed, "")
				want(t, "Open of a denied key with the breaker open", err, byok.ErrKeyDenied)
			})
		})
	}
}

// Callers that have no patience say nothing about KMS: they do not open the
// breaker for those that have.
func TestI7_ImpatientCallersDoNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k, g := gauged(t, env, &byok.Options{PerOperation: true})
		g.delay.Store(int64(100 * time.Millisecond))
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			_, err := k.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil)
			want(t, "Open with a short deadline", err, byok.ErrKeyUnavailable)
			cancel()
		}
		mustOpen(t, k, "acme", sealed, "", "x")
	})
}

// One slow KMS call takes nobody longer than the deadline it came with, and 50 ms.
func TestD12_DeadlineHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		cmk := env.CMK("new")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		leased, g := gauged(t, env, nil)
		alone, h := gauged(t, env, &byok.Options{PerOperation: true})
		for _, g := range []*gauge{g, h} {
			g.deaf.Store(true)
			g.delay.Store(int64(time.Hour))
		}
		s := byok.Scope{Tenant: "acme"}
		direct, err := byok.NewDirect(byoktest.Service, g, byok.KeyID{Provider: "aws-kms", ID: cmk.ARN()}, env.Audit)
		want(t, "NewDirect", err, nil)
		ops := map[string]func(context.Context) error{
			"Direct.Seal": func(ctx context.Context) error { _, err := direct.Seal(ctx, s, nil, nil); return err },
			"Register": func(ctx context.Context) error {
				_, err := leased.Tenant("new").Register(ctx, byok.Registration{Key: byok.KeyID{Provider: "aws-kms", ID: cmk.ARN()}})
				return err
			},
		}
		for name, k := range map[string]*byok.Keeper{"leased": leased, "alone": alone} {
			acme := k.Tenant("acme")
			ops[name+" Open"] = func(ctx context.Context) error { _, err := k.Open(ctx, s, sealed, nil); return err }
			ops[name+" Seal"] = func(ctx context.Context) error { _, err := k.Seal(ctx, s, nil, nil); return err }
			ops[name+" Health"] = func(ctx context.Context) error { _, err := acme.Health(ctx); return err }
			ops[name+" Recheck"] = func(ctx context.Context) error { _, err := acme.Recheck(ctx); return err }
			ops[name+" Rotate"] = func(ctx context.Context) error {
				_, err := acme.Rotate(ctx, byok.Rotation{Type: byok.RotateDEK})
				return err
			}
		}
		for name, op := range ops {
			for _, deadline := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 3 * time.Second, 20 * time.Second} {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				start := time.Now()
				if err := op(ctx); err == nil && name != "leased Health" && name != "alone Health" {
					t.Errorf("%s succeeded with a KMS that does not answer", name)
				}
				if d := time.Since(start); d > deadline+50*time.Millisecond {
					t.Errorf("%s with %v took %v", name, deadline, d)
				}
				cancel()
				time.Sleep(6 * time.Second) // past a back-off
			}
		}
		time.Sleep(2 * time.Hour) // the deaf driver's own goroutines
	})
}

// Retries pay, and so does the control plane, out of a budget of its own: a KMS that is
// down does not make a crowd of registrations a flood.
func TestD9_RetriesPay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k, g := gauged(t, env, nil)
		restore := env.Fake.Outage()
		var wg sync.WaitGroup
		for range 80 {
			wg.Go(func() {
				_, err := k.Tenant("new").Register(t.Context(), byok.Registration{Key: byok.KeyID{Provider: "aws-kms", ID: cmk.ARN()}})
				if !errors.Is(err, byok.ErrKeyUnavailable) {
					t.Errorf("Register: %v", err)
				}
			})
		}
		wg.Wait()
		if n := g.all.Load(); n < 80 || n > 80+80 { // the burst, and what came within the second that retries take
			t.Errorf("%d attempts by 80 registrations, of which each may make 3", n)
		}
		restore()
		mustOpen(t, k, "acme", sealed, "", "x")
	})
}

// In per-operation mode nothing stands between an operation and the requests that
// may be under way at once: it waits as long as its ctx lasts.
func TestD9_WaitsForASlotWithinCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		k, g := gauged(t, env, &byok.Options{PerOperation: true})
		g.delay.Store(int64(4 * time.Second))
		var wg sync.WaitGroup
		defer wg.Wait()
		for range 50 {
			wg.Go(func() { seal(t, k, "acme", "x", "") })
		}
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := k.Seal(ctx, byok.Scope{Tenant: "acme"}, nil, nil)
		throttled(t, "Seal", err)
		want(t, "Seal", err, context.DeadlineExceeded)
		if d := time.Since(start); d > 1050*time.Millisecond {
			t.Errorf("waited %v for a slot", d)
		}
	})
}
