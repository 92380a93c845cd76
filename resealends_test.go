package byok_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// A move to dual control begins a generation, however long ago the last rotation was: a process that has not heard of it seals with
// the one before.
func TestG17_ResealAfterAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, cmk := env.Tenant("acme")
		s := newTable()
		late := env.NewKeeper() // does not Run
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		time.Sleep(time.Hour)
		fill(t, late, s, 0, 10)
		job, err := acme.MoveTo(t.Context(), byok.Move{Key: registration(cmk).Key, Others: []byok.KeyID{registration(env.CMK("acme")).Key}, Policy: byok.PolicyAll})
		want(t, "MoveTo", err, nil)
		for j, err := range acme.RunJob(t.Context(), job.ID) {
			if want(t, "RunJob", err, nil); j.State == byok.JobSwitching {
				break
			}
		}
		begun := time.Now()
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		for cursor, done := "", false; !done; {
			if cursor, done, err = r.Step(t.Context(), 0, cursor); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(begun) < 50*time.Second {
			fill(t, late, s, 5, 1)
		}
		for key := range s.rows {
			if due, err := env.Keeper.Due(t.Context(), invoices, s.read(key).Value); due || err != nil {
				t.Errorf("%s is due still: %v", key, err)
			}
		}
	})
}

// With PerOperation, too, what another key has wrapped is not passed over: a job cannot say that nothing of it is left.
func TestG17_ResealLeavesNoOthersKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: &byok.Options{PerOperation: true, Logger: silently.Logger}})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		s := newTable()
		fill(t, k, s, 0, 3)
		_, err := acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		_, err = acme.Revoke(t.Context(), "leaves")
		want(t, "Revoke", err, nil)
		r := registration(env.CMK("acme"))
		r.AbandonExistingData = true
		st, err := acme.Register(t.Context(), r)
		want(t, "Register", err, nil)
		if st.Job != "" {
			finish(t, acme, st.Job)
		}
		fill(t, k, s, 3, 3)
		job, w := beginReseal(t, k, s, byok.Resealing{Complete: true}, nil)
		want(t, "Run", w.Run(t.Context()), byok.ErrRecordsFailed)
		if job, err := acme.Job(t.Context(), job.ID); err != nil || job.Failed != 3 || job.Done != 3 {
			t.Errorf("%+v, %v", job, err)
		}
		if st, err = acme.Status(t.Context()); err != nil || !slices.Contains(st.Warnings, byok.WarnDataKeysOnceElsewhere) {
			t.Errorf("%v, %v", st.Warnings, err)
		}
		for i := range 6 {
			if due, err := k.Due(t.Context(), invoices, s.read(recordKey(i)).Value); err != nil || due != (i < 3) || s.writes(recordKey(i)) != 0 {
				t.Errorf("%d: due %v, %v", i, due, err)
			}
		}
	})
}

// However the bad records are named, what a shard says of them fits its item.
func TestG19_ResealFailuresFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		for _, c := range []string{"<", "\"", "\u2028", "x"} {
			s := newTable()
			for i := range 300 {
				key := fmt.Sprintf("%03d", i)
				s.write(key+strings.Repeat(c, (byok.MaxRecordKey-len(key))/len(c)), []byte("bad"), false)
			}
			job, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
			want(t, "Run", r.Run(t.Context()), byok.ErrRecordsFailed)
			if job, err := acme.Job(t.Context(), job.ID); err != nil || job.Failed != 300 || len(job.Failures) < 10 {
				t.Errorf("%q: %d failed, %d named, %v", c, job.Failed, len(job.Failures), err)
			}
		}
	})
}

// A page whose data keys take longer than MaxAge to ask for is done in parts: else what is opened first could never leave.
func TestG19_ResealSlowerThanMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{MaxAge: 4 * time.Second, JobRequests: 10, Logger: silently.Logger}})
		_, cmk := env.Tenant("acme")
		s := newTable()
		fillCarried(t, env, registration(cmk).Key, s, 0, 100)
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		want(t, "Run", r.Run(ctx), nil)
		for i := range 100 {
			if n := s.writes(recordKey(i)); n != 1 {
				t.Errorf("%d was replaced %d times", i, n)
			}
		}
	})
}

// The requests of a step stand in one event, so they have a bound.
func TestG19_ResealEventHasABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{JobRequests: 10_000, Logger: silently.Logger}})
		_, cmk := env.Tenant("acme")
		s := newTable()
		fillCarried(t, env, registration(cmk).Key, s, 0, 900)
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, &byok.ResealOptions{PerSecond: 1000, Page: 1000})
		want(t, "Run", r.Run(t.Context()), nil)
		for _, e := range env.Audit.All() {
			if len(e.Calls) > 520 {
				t.Errorf("an event of %d requests", len(e.Calls))
			}
		}
	})
}

// Processes whose clocks are further apart than a shard is held take it from each other, and get on all the same.
func TestG19_ResealClocksApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 300)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		s.between = func() { time.Sleep(100 * time.Millisecond) }
		job, err := acme.Reseal(t.Context(), byok.Resealing{Source: "s"})
		want(t, "Reseal", err, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		ended := make(chan error, 2)
		for _, off := range []time.Duration{0, time.Hour} {
			k := env.NewKeeper()
			k.SkewClock(off)
			r, err := k.Tenant("acme").Resealer(t.Context(), job.ID, s, &byok.ResealOptions{Page: 10})
			want(t, "Resealer", err, nil)
			go func() { ended <- r.Run(ctx) }()
		}
		want(t, "Run", <-ended, nil)
		want(t, "Run", <-ended, nil)
		s.all(t, env.NewKeeper(), nil)
	})
}

// A process that has not heard of the tenant's new key goes on with a pass that another one began: it goes by the keys that the tenant has now, or
// it would prove that nothing is left of the one of before.
func TestG17_ResealGoesByTheKeysOfToday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: &byok.Options{PerOperation: true, Logger: silently.Logger}})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		s := newTable()
		fill(t, k, s, 0, 4)
		late := env.NewKeeper() // does not Run
		_, err := late.Seal(t.Context(), invoices, []byte("it knows the tenant"), nil)
		want(t, "Seal", err, nil)
		_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		_, err = acme.Revoke(t.Context(), "leaves")
		want(t, "Revoke", err, nil)
		r := registration(env.CMK("acme"))
		r.AbandonExistingData = true
		st, err := acme.Register(t.Context(), r)
		want(t, "Register", err, nil)
		if st.Job != "" {
			finish(t, acme, st.Job)
		}
		job, w := beginReseal(t, k, s, byok.Resealing{Complete: true}, &byok.ResealOptions{Page: 1})
		w2, err := late.Tenant("acme").Resealer(t.Context(), job.ID, s, nil)
		want(t, "Resealer", err, nil)
		cursor, done := "", false
		for !strings.Contains(cursor, `"pass":2,"after"`) {
			cursor, done, err = w.Step(t.Context(), 0, cursor)
			want(t, "Step", err, nil)
		}
		for !done {
			cursor, done, err = w2.Step(t.Context(), 0, cursor)
			want(t, "Step of the other process", err, nil)
		}
		want(t, "Checkpoint", w2.Checkpoint(t.Context(), 0, cursor), nil)
		if job, err := acme.Job(t.Context(), job.ID); err != nil || job.State != byok.JobDone || job.Failed != 4 {
			t.Errorf("%+v, %v", job, err)
		}
	})
}
