package byok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// long is a long operation under test: one step a second.
type long struct {
	t   *testing.T
	h   *byok.Hold
	key []byte // the data key that it saw first
}

func hold(t *testing.T, k *byok.Keeper, sealed []byte) *long {
	t.Helper()
	h, err := k.Hold(t.Context(), byok.Scope{Tenant: "acme", Purpose: "default"}, sealed)
	want(t, "begin", err, nil)
	return &long{t: t, h: h}
}

func (l *long) step() error {
	return l.h.Step(l.t.Context(), 1000, func(raw []byte) error {
		if l.key == nil {
			l.key = bytes.Clone(raw)
		}
		if !bytes.Equal(l.key, raw) {
			l.t.Fatal("the data key has changed in the middle")
		}
		return nil
	})
}

// until makes steps until one fails, at most for d, and returns how long that took.
func (l *long) until(d time.Duration) (time.Duration, error) {
	start := time.Now()
	for time.Since(start) < d {
		if err := l.step(); err != nil {
			if again := l.step(); again != err {
				l.t.Errorf("a step after %v: %v", err, again)
			}
			return time.Since(start), err
		}
		time.Sleep(time.Second)
	}
	return d, nil
}

// forms runs f for a long Seal and a long Open, with and without leases.
func forms(t *testing.T, f func(t *testing.T, env *byoktest.Env, acme *byok.Tenant, cmk *kmsfake.Key, begin func() *long)) {
	for name, opts := range map[string]*byok.Options{"leased": nil, "per operation": {PerOperation: true}} {
		for _, sealing := range []bool{true, false} {
			t.Run(name+map[bool]string{true: " seal", false: " open"}[sealing], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					env := byoktest.New(t, &byoktest.Options{Keeper: opts})
					acme, cmk := env.Tenant("acme")
					f(t, env, acme, cmk, func() *long {
						if sealing {
							return hold(t, env.Keeper, nil)
						}
						return hold(t, env.Keeper, seal(t, env.Keeper, "acme", "x", ""))
					})
				})
			})
		}
	}
}

// outcomes returns the events that say how seals and opens ended.
func outcomes(env *byoktest.Env) (n map[byok.Outcome]int) {
	n = map[byok.Outcome]int{}
	for _, e := range env.Audit.All() {
		if e.Op == byok.OpSeal || e.Op == byok.OpOpen {
			n[e.Outcome]++
		}
	}
	return n
}

// Healthy for ten times MaxAge, with a KMS that takes two seconds: no step waits but
// those that begin it, access is proved all along, also through a rotation, and one event tells
// of it all.
func TestI8_LongOperation(t *testing.T) {
	forms(t, func(t *testing.T, env *byoktest.Env, acme *byok.Tenant, _ *kmsfake.Key, begin func() *long) {
		l := begin()
		before := outcomes(env)[byok.OutcomeSuccess]
		want(t, "first step", l.step(), nil)
		env.Fake.ResetCalls()
		env.Fake.Latency(2 * time.Second)
		for i := range 600 {
			start := time.Now()
			want(t, "step", l.step(), nil)
			if d := time.Since(start); d != 0 {
				t.Fatalf("step %d waited %v", i, d)
			}
			if time.Sleep(time.Second); i == 300 {
				env.Fake.Latency(0)
				_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
				want(t, "Rotate", err, nil)
				env.Fake.Latency(2 * time.Second)
			}
		}
		if n := len(env.Fake.Calls()); n < 15 || n > 25 {
			t.Errorf("%d KMS calls in ten times MaxAge", n)
		}
		want(t, "end", l.h.End(t.Context(), nil), nil)
		want(t, "end again", l.h.End(t.Context(), nil), nil)
		if n := outcomes(env)[byok.OutcomeSuccess] - before; n != 1 {
			t.Errorf("%d events of one operation", n)
		}
		if l.step() == nil {
			t.Error("a step after the end")
		}
	})
}

// The customer revokes in the middle. Unseen it stops within MaxAge; seen, by
// anything in this process, at the next step; and what sees it does not wait for the hold.
func TestI8_LongOperationIsDenied(t *testing.T) {
	forms(t, func(t *testing.T, env *byoktest.Env, acme *byok.Tenant, cmk *kmsfake.Key, begin func() *long) {
		a, b := begin(), begin()
		if d, err := a.until(3 * time.Minute); err != nil {
			t.Fatalf("after %v: %v", d, err)
		}
		cmk.Disable()
		d, err := a.until(3 * time.Minute)
		if want(t, "step", err, byok.ErrKeyDenied); d >= byok.DefaultMaxAge {
			t.Errorf("went on for %v", d)
		}
		want(t, "step of another one", b.step(), byok.ErrKeyDenied)
		before := outcomes(env)
		want(t, "end", a.h.End(t.Context(), nil), byok.ErrKeyDenied)
		if now := outcomes(env); now[byok.OutcomeDenied] != before[byok.OutcomeDenied]+1 || now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess] {
			t.Errorf("events %v, before %v", now, before)
		}
		cmk.Enable()
		time.Sleep(time.Minute)
		want(t, "step after access has returned", b.step(), byok.ErrKeyDenied) // begin anew

		c := begin()
		want(t, "step", c.step(), nil)
		cmk.Disable()
		start := time.Now()
		_, err = acme.Health(t.Context())
		want(t, "Health", err, nil)
		if d := time.Since(start); d != 0 {
			t.Errorf("a denial waited %v for a hold between its steps", d)
		}
		want(t, "step", c.step(), byok.ErrKeyDenied)

		// Denied during a step, and after the last one: nothing is released either.
		cmk.Enable()
		time.Sleep(time.Minute)
		for _, last := range []bool{false, true} {
			d := begin()
			want(t, "step", d.step(), nil)
			cmk.Disable()
			if last {
				_, _ = acme.Health(t.Context())
				want(t, "end", d.h.End(t.Context(), nil), byok.ErrKeyDenied)
			} else {
				seen := make(chan struct{})
				err := d.h.Step(t.Context(), 0, func([]byte) error {
					go func() { defer close(seen); _, _ = acme.Health(context.Background()) }()
					for { // no sleeping: the wipe waits for us with a mutex, and so would the bubble's clock
						if st, err := acme.Status(t.Context()); err != nil || st.Access == byok.AccessBlocked {
							return err
						}
						runtime.Gosched()
					}
				})
				<-seen
				want(t, "step during which access was denied", err, byok.ErrKeyDenied)
			}
			cmk.Enable()
			time.Sleep(time.Minute)
		}
		if outcomes(env)[byok.OutcomeWithheld] != 1 {
			t.Errorf("events: %v", outcomes(env))
		}
	})
}

// An outage is ridden out to MaxAge, and ends it then; a Store that fails does too.
func TestI8_LongOperationInAnOutage(t *testing.T) {
	forms(t, func(t *testing.T, env *byoktest.Env, _ *byok.Tenant, _ *kmsfake.Key, begin func() *long) {
		l := begin()
		want(t, "step", l.step(), nil)
		restore := env.Fake.Outage()
		time.Sleep(20 * time.Second)
		restore()
		if d, err := l.until(time.Minute); err != nil { // shorter than MaxAge: not noticed
			t.Fatalf("after %v: %v", d, err)
		}
		restore = env.Fake.Outage()
		d, err := l.until(3 * time.Minute)
		want(t, "step", err, byok.ErrKeyUnavailable)
		if errors.Is(err, byok.ErrKeyRevoked) || d >= byok.DefaultMaxAge+time.Second || d < byok.DefaultMaxAge/2-6*time.Second {
			t.Errorf("ended after %v: %v", d, err)
		}
		restore()
		want(t, "end", l.h.End(t.Context(), nil), byok.ErrKeyUnavailable)
		time.Sleep(5 * time.Second)
		l = begin()
		want(t, "step of a new one", l.step(), nil)
		want(t, "end", l.h.End(t.Context(), nil), nil)
	})
}

func TestI8_LongOperationIsSuspended(t *testing.T) {
	forms(t, func(t *testing.T, env *byoktest.Env, acme *byok.Tenant, _ *kmsfake.Key, begin func() *long) {
		l := begin()
		want(t, "step", l.step(), nil)
		start := time.Now()
		_, err := acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		if d := time.Since(start); d != 0 {
			t.Errorf("Suspend waited %v", d)
		}
		want(t, "step", l.step(), byok.ErrSuspended)
		want(t, "end", l.h.End(t.Context(), nil), byok.ErrSuspended)
		_, err = acme.Resume(t.Context(), "")
		want(t, "Resume", err, nil)

		l = begin() // by another process: seen when access is proved again, at the latest
		want(t, "step", l.step(), nil)
		_, err = env.NewKeeper().Tenant("acme").Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		d, err := l.until(3 * time.Minute)
		if want(t, "step", err, byok.ErrSuspended); d >= byok.DefaultMaxAge {
			t.Errorf("went on for %v", d)
		}
	})
}

// Close does not wait for a hold between its steps, and ends it.
func TestI20_LongOperationIsClosed(t *testing.T) {
	forms(t, func(t *testing.T, env *byoktest.Env, _ *byok.Tenant, _ *kmsfake.Key, begin func() *long) {
		l := begin()
		want(t, "step", l.step(), nil)
		start := time.Now()
		want(t, "Close", env.Keeper.Close(), nil)
		if d := time.Since(start); d != 0 {
			t.Errorf("Close waited %v", d)
		}
		want(t, "step", l.step(), byok.ErrClosed)
		before := outcomes(env)
		want(t, "end", l.h.End(t.Context(), nil), byok.ErrClosed)
		if now := outcomes(env); now[byok.OutcomeFailure] != before[byok.OutcomeFailure]+1 {
			t.Errorf("events %v, before %v", now, before)
		}
	})
}

// So they do if it has the data key for itself. There is no other that it could go on with, so nothing is sealed.
func TestI15_LongOperationAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: true}})
		env.Tenant("acme")
		env.Keeper.SetLimits(1<<32, 2*plainSegment, 1<<20, 3000)
		for n, ok := range map[int]bool{2 * plainSegment: true, 2*plainSegment + 1: false, 9 * plainSegment: false} {
			var dst bytes.Buffer
			w, err := env.Keeper.SealWriter(t.Context(), &dst, acmeScope, nil)
			want(t, "SealWriter", err, nil)
			if _, err = w.Write(pattern(n)); err == nil {
				err = w.Close()
			}
			if ok {
				want(t, "as much as the limit", err, nil)
				continue
			}
			want(t, fmt.Sprint(n, " bytes"), err, byok.ErrKeyUnavailable)
			want(t, "Close", w.Close(), byok.ErrKeyUnavailable)
			if _, err := openStream(t, env.Keeper, dst.Bytes(), ""); !errors.Is(err, byok.ErrOpen) {
				t.Errorf("%d bytes open: %v", n, err)
			}
		}
	})
}

// The bytes of a long Seal count towards the limits of its data key.
func TestI15_LongOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		env.Keeper.SetLimits(1<<32, 10_000, 1<<20, 3000)
		l := hold(t, env.Keeper, nil)
		for range 10 {
			want(t, "step of 1000 bytes", l.step(), nil)
			synctest.Wait()
		}
		want(t, "step over the limit", l.step(), byok.ErrKeyUnavailable)
		want(t, "end", l.h.End(t.Context(), nil), byok.ErrKeyUnavailable)
		l2 := hold(t, env.Keeper, nil) // begun anew it goes on
		want(t, "step", l2.step(), nil)
		if bytes.Equal(l.key, l2.key) {
			t.Error("the same data key")
		}
	})
}
