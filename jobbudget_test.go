package byok_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// A job never takes the last half of its tenant's budget: operations that need KMS do not wait for it, however fast
// it might go.
func TestD9_JobsLeaveTheBudgetToOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const latency = 20 * time.Millisecond
		env := byoktest.New(t, &byoktest.Options{Sink: discard{}, Keeper: &byok.Options{JobRequests: byok.MaxJobRequests}})
		acme, id := fullRotation(t, env, "acme", 600)
		time.Sleep(time.Second)
		env.Fake.Latency(latency)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- env.Keeper.Run(ctx) }()
		for round := range 5 {
			time.Sleep(time.Second)
			var wg sync.WaitGroup
			for i := range 45 { // each takes one request
				wg.Go(func() {
					begun := time.Now()
					_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprintf("new%d-%d", round, i)}, nil, nil)
					if took := time.Since(begun); err != nil || took > 2*latency {
						t.Errorf("Seal beside a job took %v, %v", took, err)
					}
				})
			}
			wg.Wait()
		}
		j, err := acme.Job(t.Context(), id)
		if err != nil || j.State != byok.JobRunning || j.Done < 100 {
			t.Errorf("%+v, %v", j, err)
		}
		cancel()
		<-ran
	})
}

// All jobs of a process together make no more requests than it may, and nearly as many.
func TestD9_JobsOfAProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 50
		env := byoktest.New(t, &byoktest.Options{Sink: discard{}, Keeper: &byok.Options{JobRequests: rate}})
		for i := range 8 {
			fullRotation(t, env, fmt.Sprint("t", i), 40)
		}
		env.Fake.Latency(5 * time.Millisecond)
		env.Fake.ResetCalls()
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- env.Keeper.Run(ctx) }()
		const d = 10 * time.Second
		time.Sleep(d)
		calls := env.Fake.Calls()
		for i, c := range calls {
			n := 0
			for n < len(calls)-i && calls[i+n].Time.Sub(c.Time) < time.Second {
				n++
			}
			if n > rate+8+1 {
				t.Fatalf("%d requests in a second", n)
			}
		}
		if n := len(calls); n < rate*9 {
			t.Errorf("%d requests in %v", n, d)
		}
		cancel()
		<-ran
	})
	for _, n := range []int{-1, byok.MaxJobRequests + 1} {
		env := byoktest.New(t, nil)
		if _, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{JobRequests: n}); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("JobRequests %d: %v", n, err)
		}
	}
}

// KMS throttles jobs: they ask seldom, and go on by themselves. Operations hear nothing of it: no breaker opens for
// them. But a denial that a job hears stops them at once.
func TestD9_ThrottledJobs(t *testing.T) {
	for _, code := range []string{"ThrottlingException", "KMSInternalException"} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			type job struct {
				of *byok.Tenant
				id string
			}
			var jobs []job
			for i := range 8 {
				of, id := fullRotation(t, env, fmt.Sprint("t", i), 20)
				jobs = append(jobs, job{of, id})
			}
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			calm := env.Fake.Inject(kmsfake.Fault{Code: code, Operation: "Decrypt"}) // what feeds leases; ReEncrypt does not
			go func() { ran <- env.Keeper.Run(ctx) }()
			time.Sleep(2 * time.Minute)
			env.Fake.ResetCalls()
			time.Sleep(10 * time.Minute)
			if n := len(env.Fake.Calls()); n < 8*5 || n > 8*4*25 {
				t.Errorf("%d requests of 8 jobs in ten minutes", n)
			}
			for _, j := range jobs {
				now, err := j.of.Job(ctx, j.id)
				if err != nil || now.State != byok.JobPaused || now.Why != "BYOK_006" {
					t.Errorf("%+v, %v", now, err)
				}
				s, err := j.of.Status(ctx)
				if err != nil || s.Access != byok.AccessAccessible {
					t.Errorf("operations heard of it: %+v, %v", s, err)
				}
			}
			calm()
			time.Sleep(3 * time.Minute)
			for _, j := range jobs {
				if now, err := j.of.Job(ctx, j.id); err != nil || now.State != byok.JobDone {
					t.Errorf("%+v, %v", now, err)
				}
			}
			cancel()
			<-ran

			acme, cmk := env.Tenant("acme")
			all := sealMany(t, env.Keeper, 2)
			r, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
			cmk.Disable()
			for range acme.RunJob(t.Context(), r.ID) {
			}
			before := len(env.Fake.Calls())
			if _, err := env.Keeper.Open(t.Context(), all[0].scope, all[0].sealed, nil); !errors.Is(err, byok.ErrKeyDenied) || len(env.Fake.Calls()) != before {
				t.Errorf("Open after a job was denied: %v, after %d requests", err, len(env.Fake.Calls())-before)
			}
		})
	}
}
