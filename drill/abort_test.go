package drill_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/drill"
)

var errCrash = errors.New("crash")

// However a drill ends, what it took away it gives back; and it says so if it could not.
func TestDrillGivesAccessBack(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(p *place, cancel context.CancelFunc)
		err     error
		report  bool // the key was denied, or may have been
		blocked bool // ... and still is
	}{
		"a worker crashes while it is denied": {func(p *place, _ context.CancelFunc) {
			p.crashes(func() bool { return p.cmk.State() == "Disabled" })
		}, errCrash, true, false},
		"a worker crashes before": {func(p *place, _ context.CancelFunc) { p.crashes(func() bool { return true }) }, errCrash, false, false},
		"a worker ends without an error": {func(p *place, _ context.CancelFunc) {
			p.config.Worker = func(context.Context, int, func(drill.Sample)) error { return nil }
		}, nil, false, false},
		"a worker does nothing": {func(p *place, _ context.CancelFunc) {
			p.config.Worker = func(ctx context.Context, _ int, _ func(drill.Sample)) error { <-ctx.Done(); return nil }
		}, nil, false, false},
		"a worker cannot seal": {func(p *place, _ context.CancelFunc) { p.Fake.Fail("GenerateDataKey", "KMSInternalException", 1<<30) }, nil, false, false},
		"ctx ends while it is denied": {func(p *place, cancel context.CancelFunc) {
			deny := p.config.Deny
			p.config.Deny = func(ctx context.Context) error { time.AfterFunc(3*time.Second, cancel); return deny(ctx) }
		}, context.Canceled, true, false},
		"ctx ends before": {func(_ *place, cancel context.CancelFunc) { cancel() }, context.Canceled, false, false},
		"Deny fails": {func(p *place, _ context.CancelFunc) {
			deny := p.config.Deny
			p.config.Deny = func(ctx context.Context) error { _ = deny(ctx); return errCrash } // and took effect all the same
		}, errCrash, true, false},
		"Deny panics": {func(p *place, _ context.CancelFunc) {
			deny := p.config.Deny
			p.config.Deny = func(ctx context.Context) error { _ = deny(ctx); panic("deny") }
		}, nil, false, false},
		"Restore fails": {func(p *place, _ context.CancelFunc) {
			p.config.Restore = func(context.Context) error { return errCrash }
		}, errCrash, true, true},
		"Restore fails once": {func(p *place, _ context.CancelFunc) {
			restore, calls := p.config.Restore, 0
			p.config.Restore = func(ctx context.Context) error {
				if calls++; calls == 1 {
					return errCrash
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return restore(ctx)
			}
		}, errCrash, true, false},
		"a person goes away": {func(p *place, cancel context.CancelFunc) {
			p.config.ByHand = true
			p.config.Deny = func(ctx context.Context) error {
				p.cmk.Disable()
				time.AfterFunc(3*time.Second, cancel)
				<-ctx.Done()
				return ctx.Err()
			}
		}, drill.ErrBlocked, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *place) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c.prepare(p, cancel)
				var r *drill.Report
				err := func() (err error) {
					defer func() {
						if v := recover(); v != nil {
							err = fmt.Errorf("panic: %v", v)
						}
					}()
					r, err = drill.Revoke(ctx, p.config)
					return err
				}()
				if err == nil || c.err != nil && !errors.Is(err, c.err) {
					t.Fatalf("error %v, want %v", err, c.err)
				}
				if name == "a worker cannot seal" && !strings.Contains(err.Error(), "does KMS answer") {
					t.Errorf("%v does not say what to check", err)
				}
				if (r != nil) != c.report {
					t.Fatalf("report %+v, want one: %v", r, c.report)
				}
				if r != nil && (r.Verdict != drill.Inconclusive || !strings.Contains(r.Findings[0], "broken off")) {
					t.Errorf("%s: %q", r.Verdict, r.Findings)
				}
				if r != nil {
					checkFaces(t, r)
				}
				if errors.Is(err, drill.ErrBlocked) != c.blocked {
					t.Errorf("%v, want ErrBlocked: %v", err, c.blocked)
				}
				if c.blocked {
					p.cmk.Enable()
				}
				p.enabled()
			})
		})
	}
}

// crashes makes worker 2 end as soon as when says so.
func (p *place) crashes(when func() bool) {
	worker := p.config.Worker
	p.config.Worker = func(ctx context.Context, n int, report func(drill.Sample)) error {
		wctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		err := worker(wctx, n, func(s drill.Sample) {
			report(s)
			if n == 2 && when() {
				cancel(errCrash)
			}
		})
		if ctx.Err() == nil {
			return context.Cause(wctx)
		}
		return err
	}
}

func TestDrillIsOnlyForWhoAgreed(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		touched := false
		p.config.Deny = func(context.Context) error { touched = true; return nil }
		_, err := p.acme.SetDrillable(t.Context(), false, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.run(); !errors.Is(err, drill.ErrNotDrillable) {
			t.Errorf("not marked: %v", err)
		}
		good := p.config
		for what, break_ := range map[string]func(*drill.Config){
			"no Status":     func(c *drill.Config) { c.Status = nil },
			"no Worker":     func(c *drill.Config) { c.Worker = nil },
			"no Deny":       func(c *drill.Config) { c.Deny = nil },
			"no Restore":    func(c *drill.Config) { c.Restore = nil },
			"no MaxAge":     func(c *drill.Config) { c.MaxAge = 0 },
			"a huge MaxAge": func(c *drill.Config) { c.MaxAge = time.Hour },
			"-1 workers":    func(c *drill.Config) { c.Workers = -1 },
			"33 workers":    func(c *drill.Config) { c.Workers = 33 },
		} {
			p.config = good
			if break_(&p.config); true {
				if _, err := p.run(); !errors.Is(err, byok.ErrArgument) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		p.config = good
		p.config.BlockTenant = true
		if _, err := p.acme.Suspend(t.Context(), "not now"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.run(); err == nil || !strings.Contains(err.Error(), "not now") {
			t.Errorf("a suspended tenant: %v", err)
		}
		p.config.Status = p.Keeper.Tenant("nobody").Status
		if _, err := p.run(); !errors.Is(err, byok.ErrNotRegistered) {
			t.Errorf("an unknown tenant: %v", err)
		}
		if touched {
			t.Error("access was taken away all the same")
		}
	})
}

// A real KMS and a person take their time. It is shown, and not counted against
// the bound; nor does it hide anything.
func TestDrillByHand(t *testing.T) {
	person := func(f func()) func(context.Context) error { // types Enter after a second
		return func(context.Context) error { f(); time.Sleep(time.Second); return nil }
	}
	silent := func(f func()) func(context.Context) error { // never types anything
		return func(ctx context.Context) error { f(); <-ctx.Done(); return ctx.Err() }
	}
	for name, c := range map[string]struct {
		deny, restore func(p *place) func(context.Context) error
		verdict       drill.Verdict
		check         func(t *testing.T, r *drill.Report)
	}{
		"at once": {
			func(p *place) func(context.Context) error { return person(p.cmk.Disable) },
			func(p *place) func(context.Context) error { return person(p.cmk.Enable) },
			drill.Pass, func(t *testing.T, r *drill.Report) {
				if r.Propagation != 0 || r.Bound != drill.Millis(maxAge) {
					t.Errorf("propagation %v, bound %v", r.Propagation, r.Bound)
				}
			}},
		"without a word": {
			func(p *place) func(context.Context) error { return silent(p.cmk.Disable) },
			func(p *place) func(context.Context) error { return silent(p.cmk.Enable) },
			drill.Pass, func(t *testing.T, r *drill.Report) {
				if r.FirstDenial == nil || *r.FirstDenial < 0 || time.Duration(*r.FirstDenial) > 200*time.Millisecond {
					t.Errorf("first denial %v", r.FirstDenial)
				}
			}},
		"the KMS needs 20 s": {
			func(p *place) func(context.Context) error {
				return person(func() { time.AfterFunc(21*time.Second, p.cmk.Disable) })
			},
			func(p *place) func(context.Context) error {
				return person(func() { time.AfterFunc(10*time.Second, p.cmk.Enable) })
			},
			drill.Pass, func(t *testing.T, r *drill.Report) {
				if p := time.Duration(r.Propagation); p < 15*time.Second || p > 20*time.Second || r.Bound != r.Propagation+r.MaxAge {
					t.Errorf("propagation %v, bound %v", r.Propagation, r.Bound)
				}
				if *r.LastSuccess <= r.MaxAge || *r.LastSuccess >= r.Bound {
					t.Errorf("last success %v", r.LastSuccess)
				}
			}},
		"the KMS wavers": {
			func(p *place) func(context.Context) error {
				return person(func() {
					p.cmk.Disable()
					time.AfterFunc(4*time.Second, p.cmk.Enable)
					time.AfterFunc(9*time.Second, p.cmk.Disable)
				})
			},
			func(p *place) func(context.Context) error { return person(p.cmk.Enable) },
			drill.Pass, func(t *testing.T, r *drill.Report) {
				if r.Propagation == 0 || r.AfterBound.Tried == 0 {
					t.Errorf("propagation %v, after the bound %+v", r.Propagation, r.AfterBound)
				}
			}},
		"the wrong key": {
			func(p *place) func(context.Context) error { return person(func() {}) },
			func(p *place) func(context.Context) error { return person(func() {}) },
			drill.Inconclusive, func(t *testing.T, r *drill.Report) {
				if !strings.Contains(strings.Join(r.Findings, "\n"), "was access to this key taken away?") {
					t.Errorf("%q", r.Findings)
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *place) {
				p.config.ByHand, p.config.Deny, p.config.Restore = true, c.deny(p), c.restore(p)
				r, err := p.run()
				if err != nil || r.Verdict != c.verdict || !r.ByHand {
					t.Fatalf("%v, %+v", err, r)
				}
				c.check(t, r)
				checkFaces(t, r)
				p.enabled()
			})
		})
	}
	// A Keeper that goes on serving is found in the midst of it.
	bubble(t, func(t *testing.T, p *place) {
		p.config.ByHand = true
		p.config.Deny, p.config.Restore = person(p.cmk.Disable), person(p.cmk.Enable)
		p.config.Worker = p.worker(maxAge, func(f *faulty) {
			f.open = func(f *faulty, do func() ([]byte, error)) ([]byte, error) {
				if out, err := do(); err == nil {
					f.kept = out
				}
				return f.kept, nil
			}
		})
		if r, err := p.run(); err != nil || r.Verdict != drill.Fail || r.AfterBound.Succeeded == 0 || r.AfterDenial.Succeeded == 0 {
			t.Errorf("%v, %+v", err, r)
		}
	})
}
