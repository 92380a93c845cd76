package byok_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// fullRotation makes a tenant with n data keys, and begins a full rotation of them.
func fullRotation(t *testing.T, env *byoktest.Env, name string, n int) (*byok.Tenant, string) {
	t.Helper()
	tenant, _ := env.Tenant(name)
	for i := range n {
		_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: name, Purpose: fmt.Sprint("p", i)}, nil, nil)
		want(t, "Seal", err, nil)
	}
	r, err := tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
	want(t, "Rotate", err, nil)
	return tenant, r.ID
}

// Jobs take turns: as many of very many data keys as a process works at at once do not hold up fifty small ones, and
// go on themselves.
func TestJobsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Sink: discard{}})
		type job struct {
			of *byok.Tenant
			id string
		}
		var huge, small []job
		for i := range 4 {
			of, id := fullRotation(t, env, fmt.Sprint("huge", i), 500)
			huge = append(huge, job{of, id})
		}
		for i := range 50 {
			of, id := fullRotation(t, env, fmt.Sprint("small", i), 3)
			small = append(small, job{of, id})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		begun := time.Now()
		go func() { ran <- env.Keeper.Run(ctx) }()
		// ended returns when the last of them has ended.
		ended := func(jobs []job) time.Duration {
			for _, j := range jobs {
				for {
					now, err := j.of.Job(t.Context(), j.id)
					if want(t, "Job", err, nil); now.State == byok.JobDone {
						break
					}
					if time.Since(begun) > time.Hour {
						t.Fatalf("%+v", now)
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
			return time.Since(begun)
		}
		few := ended(small)
		for _, j := range huge {
			now, err := j.of.Job(t.Context(), j.id)
			if want(t, "Job", err, nil); now.State != byok.JobRunning || now.Done == 0 {
				t.Errorf("%v after the small ones: %+v", few, now)
			}
		}
		many := ended(huge)
		t.Logf("50 jobs of 3 data keys ended after %v, and 4 of 500 after %v", few, many)
		if few > many/2 {
			t.Errorf("50 jobs of 3 data keys ended after %v, and 4 of 500 after %v", few, many)
		}
		cancel()
		<-ran
	})
}

// listed is which jobs stand in the index, and how many items that has.
func listed(t *testing.T, store byok.Store) (jobs map[string]string, items int) {
	t.Helper()
	all, err := store.List(context.Background(), "openjobs", "", 1000)
	want(t, "List", err, nil)
	jobs = map[string]string{}
	for _, i := range all {
		var x struct{ Jobs map[string]string }
		want(t, "Unmarshal", json.Unmarshal(i.Value, &x), nil)
		for tenant, id := range x.Jobs {
			jobs[tenant] = id
		}
	}
	return jobs, len(all)
}

// What processes look through for jobs holds those that are under way, in a number of items that does not grow with
// tenants, and finds again what was lost from it.
func TestJobIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- env.Keeper.Run(ctx) }()
		odd := strings.Repeat(`"`, 128)
		ids := map[string]string{}
		for i := range 300 {
			name := fmt.Sprint("t", i)
			if i == 0 {
				name = odd
			}
			tenant, _ := env.Tenant(name)
			r, err := tenant.Rotate(ctx, byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
			ids[name] = r.ID
		}
		time.Sleep(time.Minute)
		jobs, items := listed(t, env.Store)
		if len(jobs) != 0 || items < 100 || items > 256 {
			t.Errorf("%d jobs in %d items when all have ended", len(jobs), items)
		}
		for name, id := range ids {
			if j, err := env.Keeper.Tenant(name).Job(ctx, id); err != nil || j.State != byok.JobDone {
				t.Errorf("%s: %+v, %v", name, j, err)
			}
		}

		// A job that waits is listed; one that a Revoke ended is not for long, nor one that was cancelled.
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		sealMany(t, env.Keeper, 3)
		cancelled, err := acme.Move(ctx, awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		_, err = acme.CancelJob(ctx, cancelled.ID, "")
		want(t, "CancelJob", err, nil)
		r, err := acme.Rotate(ctx, byok.Rotation{Type: byok.RotateFull})
		want(t, "Rotate", err, nil)
		cmk.Disable()
		for range acme.RunJob(ctx, cancelled.ID) { // which takes nothing off the list but itself
		}
		for range acme.RunJob(ctx, r.ID) {
		}
		if jobs, _ := listed(t, env.Store); len(jobs) != 1 || jobs["acme"] != r.ID {
			t.Errorf("listed %v, want %s", jobs, r.ID)
		}
		// The list is lost, or is that of an older version.
		all, err := env.Store.List(ctx, "openjobs", "", 1000)
		want(t, "List", err, nil)
		for _, i := range all {
			i.Value = []byte(`{"v":1}`)
			want(t, "Apply", env.Store.Apply(ctx, i), nil)
		}
		cmk.Enable()
		time.Sleep(30 * time.Minute)
		if j, err := acme.Job(ctx, r.ID); err != nil || j.State != byok.JobDone {
			t.Errorf("it was not found again: %+v, %v", j, err)
		}
		if jobs, _ := listed(t, env.Store); len(jobs) != 0 {
			t.Errorf("listed %v", jobs)
		}
		cancel()
		<-ran

		// A job begins right after another has ended, before that one is off the list.
		first, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
		want(t, "Rotate", err, nil)
		var second byok.RotationResult
		store := &whenDone{Store: env.Store, then: func() {
			second, err = acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
		}}
		k, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		finish(t, k.Tenant("acme"), first.ID)
		if jobs, _ := listed(t, env.Store); len(jobs) != 1 || jobs["acme"] != second.ID {
			t.Errorf("listed %v, want %s", jobs, second.ID)
		}
	})
}

// whenDone does something once, when a job has just ended.
type whenDone struct {
	byok.Store
	then func()
}

func (s *whenDone) Apply(ctx context.Context, writes ...byok.Item) error {
	err := s.Store.Apply(ctx, writes...)
	for _, w := range writes {
		if then := s.then; then != nil && err == nil && strings.HasPrefix(w.ID, "job:") && strings.Contains(string(w.Value), `"state":"done"`) {
			s.then = nil
			then()
		}
	}
	return err
}
