package drill_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/drill"
	"github.com/byok-go/byok/kmsfake"
)

const maxAge = 5 * time.Second

// place is a platform with one tenant, on which a drill can be run.
type place struct {
	*byoktest.Env
	t      *testing.T
	acme   *byok.Tenant
	cmk    *kmsfake.Key
	config drill.Config
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{Env: byoktest.New(t, nil), t: t}
	p.acme, p.cmk = p.Tenant("acme")
	if _, err := p.acme.SetDrillable(t.Context(), true, ""); err != nil {
		t.Fatal(err)
	}
	p.config = drill.Config{
		Status: p.acme.Status, MaxAge: maxAge, Worker: drill.InProcess("acme", p.open(maxAge)),
		Deny: func(context.Context) error { p.cmk.Disable(); return nil },
		Restore: func(ctx context.Context) error {
			if ctx.Err() == nil { // as whoever has to ask somebody
				p.cmk.Enable()
			}
			return ctx.Err()
		},
	}
	return p
}

// open makes what a process of the platform has.
func (p *place) open(maxAge time.Duration) func(*byok.Observer) (*byok.Keeper, error) {
	return func(o *byok.Observer) (*byok.Keeper, error) {
		return byok.New(byoktest.Service, p.Keys, p.Store, p.Audit, &byok.Options{MaxAge: maxAge, Observer: o})
	}
}

func (p *place) run() (*drill.Report, error) { return drill.Revoke(p.t.Context(), p.config) }

// enabled: whatever came of a drill, the tenant must work after it.
func (p *place) enabled() {
	p.t.Helper()
	if p.cmk.State() != "Enabled" {
		p.t.Errorf("the CMK was left %s", p.cmk.State())
	}
}

func bubble(t *testing.T, f func(t *testing.T, p *place)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newPlace(t)) })
}

func TestDrillPasses(t *testing.T) {
	for name, c := range map[string]struct {
		maxAge       time.Duration
		deny, revert func(*kmsfake.Key)
	}{
		"disabled":              {maxAge, (*kmsfake.Key).Disable, (*kmsfake.Key).Enable},
		"MaxAge 1 s":            {time.Second, (*kmsfake.Key).Disable, (*kmsfake.Key).Enable},
		"MaxAge 60 s":           {time.Minute, (*kmsfake.Key).Disable, (*kmsfake.Key).Enable},
		"the policy":            {maxAge, func(k *kmsfake.Key) { k.DenyTo(byoktest.PlatformRole) }, func(k *kmsfake.Key) { k.AllowTo(byoktest.PlatformRole) }},
		"deletion is scheduled": {maxAge, func(k *kmsfake.Key) { k.ScheduleDeletion(7) }, func(k *kmsfake.Key) { k.CancelDeletion(); k.Enable() }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *place) {
				p.config.MaxAge, p.config.Worker = c.maxAge, drill.InProcess("acme", p.open(c.maxAge))
				p.config.Deny = func(context.Context) error { c.deny(p.cmk); return nil }
				p.config.Restore = func(context.Context) error { c.revert(p.cmk); return nil }
				var said []string
				p.config.Progress = func(s string) { said = append(said, s) }
				begun := time.Now()
				r, err := p.run()
				if err != nil {
					t.Fatal(err)
				}
				if r.Verdict != drill.Pass || len(r.Findings) != 0 {
					t.Fatalf("%s: %q", r.Verdict, r.Findings)
				}
				bound := drill.Millis(c.maxAge)
				if r.Bound != bound || r.Propagation != 0 || r.KMSPermitted != nil || r.KMSDenied == nil || *r.KMSDenied > bound {
					t.Errorf("bound %v, propagation %v, KMS permitted %v, denied %v", r.Bound, r.Propagation, r.KMSPermitted, r.KMSDenied)
				}
				if r.FirstDenial == nil || r.LastFirstDenial == nil || *r.FirstDenial > *r.LastFirstDenial || *r.LastFirstDenial > bound {
					t.Errorf("first denials: %v to %v", r.FirstDenial, r.LastFirstDenial)
				}
				if r.LastSuccess == nil || *r.LastSuccess >= bound || *r.LastSuccess <= 0 {
					t.Errorf("last success: %v", r.LastSuccess)
				}
				// Two goroutines of three workers, every 100 ms.
				if least := int(60 * c.maxAge / time.Second / 4); r.AfterDenial.Succeeded != 0 || r.AfterDenial.Tried < least {
					t.Errorf("after the denial: %+v", r.AfterDenial)
				}
				if r.AfterBound.Succeeded != 0 || r.AfterBound.Tried < 60 {
					t.Errorf("after the bound: %+v", r.AfterBound)
				}
				// The longest pause of the back-off, and what is left until the next attempt of a worker.
				if r.Recovery == nil || *r.Recovery <= 0 || time.Duration(*r.Recovery) > 30*time.Second+100*time.Millisecond {
					t.Errorf("recovery: %v", r.Recovery)
				}
				if len(r.Workers) != 3 || r.Tenant != "acme" || r.Key.ID != p.cmk.ARN() || len(said) < 4 || !r.Began.Equal(begun) {
					t.Errorf("%d workers, %s, %s, %q, began %v", len(r.Workers), r.Tenant, r.Key.ID, said, r.Began)
				}
				for _, w := range r.Workers {
					if w.Served < 10 || w.Failed != 0 || w.Wrong != 0 || w.KMSDenials == 0 || w.Recovery == nil || *w.Recovery > w.RecoveryLimit {
						t.Errorf("%+v", w)
					}
				}
				p.enabled()
				checkFaces(t, r)

				// Only canaries were touched, and by nobody else than the drill.
				for _, e := range p.Audit.All() {
					if (e.Op == byok.OpSeal || e.Op == byok.OpOpen) && (e.Scope.Purpose != drill.Purpose || e.Actor != drill.Actor) {
						t.Fatalf("an operation of the drill: %+v", e)
					}
				}
			})
		})
	}
}

// checkFaces checks what the report is outside.
func checkFaces(t *testing.T, r *drill.Report) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back drill.Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); string(again) != string(b) || back.Verdict != r.Verdict || !reflect.DeepEqual(back.AfterBound, r.AfterBound) {
		t.Errorf("JSON:\n%s\n%s", b, again)
	}
	page := r.Markdown()
	wants := append([]string{"# Revocation drill: " + strings.ToUpper(string(r.Verdict)), r.Key.ID}, r.Findings...)
	if !r.Stop.IsZero() {
		wants = append(wants, "| successes after the first denial, in the same worker | ", "| successes after the bound, in any worker | ")
	}
	for _, want := range wants {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
	if lines := strings.Count(page, "\n"); lines > 60 {
		t.Errorf("%d lines are more than a page", lines)
	}
}

// What a Keeper must not do, done on purpose: the drill has to find each of them.
type faulty struct {
	drill.Keeper
	n     int // worker
	began time.Time
	seal  func(f *faulty, do func() ([]byte, error)) ([]byte, error)
	open  func(f *faulty, do func() ([]byte, error)) ([]byte, error)

	kept   []byte
	denied time.Time
}

func (f *faulty) Seal(ctx context.Context, s byok.Scope, plaintext, aad []byte) ([]byte, error) {
	do := func() ([]byte, error) { return f.Keeper.Seal(ctx, s, plaintext, aad) }
	if f.seal == nil {
		return do()
	}
	return f.seal(f, do)
}

func (f *faulty) Open(ctx context.Context, s byok.Scope, sealed, aad []byte) ([]byte, error) {
	do := func() ([]byte, error) { return f.Keeper.Open(ctx, s, sealed, aad) }
	if f.open == nil {
		return do()
	}
	return f.open(f, do)
}

// worker is drill.InProcess with a fault in between.
func (p *place) worker(maxAge time.Duration, fault func(f *faulty)) drill.Worker {
	return func(ctx context.Context, n int, report func(drill.Sample)) error {
		k, err := p.open(maxAge)(nil)
		if err != nil {
			return err
		}
		defer k.Close()
		f := &faulty{Keeper: k, n: n, began: time.Now()}
		fault(f)
		return drill.Work(ctx, f, "acme", n, report)
	}
}

func TestDrillFindsFaults(t *testing.T) {
	cached := func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
		out, err := do()
		if err == nil {
			f.kept = out
			return out, nil
		}
		return f.kept, nil
	}
	for name, c := range map[string]struct {
		maxAge time.Duration // of the Keepers; not what the drill is told
		fault  func(p *place, f *faulty)
		find   string
	}{
		"seals on after a denial": {maxAge, func(_ *place, f *faulty) {
			f.seal = func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				out, err := do()
				if err != nil && f.n == 2 {
					return []byte("plaintext, for want of a key"), nil
				}
				return out, err
			}
		}, "worker 2: "},
		"opens on after a denial": {maxAge, func(_ *place, f *faulty) { f.open = cached }, "succeeded after its first denial"},
		"opens on for 1 s after a denial": {maxAge, func(_ *place, f *faulty) {
			f.open = func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				out, err := do()
				if errors.Is(err, byok.ErrKeyDenied) {
					if f.denied.IsZero() {
						f.denied = time.Now()
					}
					if time.Since(f.denied) < time.Second {
						return []byte("x"), nil
					}
				}
				return out, err
			}
		}, "succeeded after its first denial"},
		"a longer lease than it says": {time.Minute, func(_ *place, f *faulty) {}, "that were begun after the bound"},
		"a denial that sticks": {maxAge, func(_ *place, f *faulty) {
			f.open = func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				if f.denied.IsZero() {
					out, err := do()
					if errors.Is(err, byok.ErrKeyDenied) {
						f.denied = time.Now()
					}
					return out, err
				}
				return nil, byok.ErrKeyDenied
			}
		}, "did not recover within"},
		"a back-off that is too long": {maxAge, func(_ *place, f *faulty) {
			f.seal = func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				out, err := do()
				if errors.Is(err, byok.ErrKeyDenied) && f.denied.IsZero() {
					f.denied = time.Now()
				}
				if !f.denied.IsZero() && time.Since(f.denied) < 45*time.Second {
					return nil, byok.ErrKeyDenied
				}
				return out, err
			}
		}, "back-off plus one call"},
		"a canary that is another's": {maxAge, func(_ *place, f *faulty) {
			f.open = func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				out, err := do()
				if err == nil && time.Since(f.began) > 2*time.Second {
					out[0] ^= 1
				}
				return out, err
			}
		}, "opened to something else"},
		"an operation that hangs": {maxAge, func(p *place, f *faulty) {
			hang := func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				if p.cmk.State() == "Disabled" && f.n == 3 {
					time.Sleep(10 * time.Minute)
				}
				return do()
			}
			f.seal, f.open = hang, hang
		}, "worker 3 never saw a denial"},
		"an outage, by its own word": {maxAge, func(_ *place, f *faulty) {
			mask := func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				out, err := do()
				if errors.Is(err, byok.ErrKeyDenied) {
					err = byok.ErrKeyUnavailable
				}
				return out, err
			}
			f.seal, f.open = mask, mask
		}, "never saw a denial"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *place) {
				p.config.Worker = p.worker(c.maxAge, func(f *faulty) { c.fault(p, f) })
				r, _ := p.run() // a worker that hangs is an error, too
				if r == nil || r.Verdict != drill.Fail || !strings.Contains(strings.Join(r.Findings, "\n"), c.find) {
					t.Fatalf("want a failure with %q, got %+v", c.find, r)
				}
				checkFaces(t, r)
				p.enabled()
				time.Sleep(15 * time.Minute) // until what hangs has come back
			})
		})
	}
	// Without any fault, this harness passes.
	bubble(t, func(t *testing.T, p *place) {
		p.config.Worker = p.worker(maxAge, func(*faulty) {})
		if r, err := p.run(); err != nil || r.Verdict != drill.Pass {
			t.Errorf("%v, %+v", err, r)
		}
	})
}

// Nobody denies anything: the stop has not taken effect, and that is no pass.
func TestDrillWithoutADenialFails(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.config.Deny = func(context.Context) error { return nil }
		r, err := p.run()
		if err != nil || r.Verdict != drill.Fail || r.FirstDenial != nil || r.Propagation == 0 {
			t.Fatalf("%v, %+v", err, r)
		}
		if !strings.Contains(strings.Join(r.Findings, "\n"), "worker 3 never saw a denial") {
			t.Errorf("%q", r.Findings)
		}
	})
}

// A KMS that needs 7 s until all of it knows: that is shown, beside the bound.
func TestDrillShowsPropagation(t *testing.T) {
	const spreads = 7 * time.Second
	bubble(t, func(t *testing.T, p *place) {
		p.Fake.Propagation(spreads)
		r, err := p.run()
		if err != nil || r.Verdict != drill.Pass {
			t.Fatalf("%v, %+v", err, r)
		}
		if d := time.Duration(r.Propagation); d <= spreads/2 || d >= spreads || r.Bound != r.Propagation+r.MaxAge || *r.KMSPermitted != r.Propagation {
			t.Errorf("propagation %v, bound %v", r.Propagation, r.Bound)
		}
		if *r.LastSuccess >= r.Bound || r.AfterBound.Tried == 0 || !strings.Contains(r.Markdown(), "(propagation) | "+r.Propagation.String()) {
			t.Errorf("last success %v, %+v\n%s", r.LastSuccess, r.AfterBound, r.Markdown())
		}
	})
}

// A worker whose clock is wrong would move its successes to where they look lawful.
func TestDrillDoesNotTrustOddClocks(t *testing.T) {
	for name, shift := range map[string]time.Duration{"behind": -time.Second, "ahead": time.Second, "an hour behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *place) {
				worker := p.config.Worker
				p.config.Worker = func(ctx context.Context, n int, report func(drill.Sample)) error {
					return worker(ctx, n, func(s drill.Sample) {
						if n == 2 {
							s.Issued, s.Completed = s.Issued.Add(shift), s.Completed.Add(shift)
						}
						report(s)
					})
				}
				r, err := p.run()
				if err != nil || r.Verdict == drill.Pass || !strings.Contains(strings.Join(r.Findings, "\n"), "worker 2's clock") {
					t.Errorf("%v, %+v", err, r)
				}
			})
		})
	}
}
