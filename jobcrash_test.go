package byok_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// dyingStore is the Store of a process that dies at its nth call: before that call has any effect, or after
// it has had all of it.
type dyingStore struct {
	byok.Store
	left  atomic.Int64
	after bool
}

var errDead = errors.New("the process is dead")

func (s *dyingStore) alive() (now, next bool) {
	n := s.left.Add(-1)
	return n > 0 || n == 0 && s.after, n > 0
}

func (s *dyingStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if _, ok := s.alive(); !ok {
		return byok.Item{}, errDead
	}
	return s.Store.Get(ctx, r)
}

func (s *dyingStore) List(ctx context.Context, p, after string, n int) ([]byok.Item, error) {
	if _, ok := s.alive(); !ok {
		return nil, errDead
	}
	return s.Store.List(ctx, p, after, n)
}

func (s *dyingStore) Apply(ctx context.Context, w ...byok.Item) error {
	now, next := s.alive()
	if now {
		if err := s.Store.Apply(ctx, w...); err != nil || next {
			return err
		}
	}
	return errDead
}

// A process dies at each of its calls to the Store during a full rotation and a move. Everything opens at once afterwards,
// any other process brings the job to its end, or the command begins it anew, and nothing is left half done.
func TestI19_JobsSurviveACrashAtEveryStoreCall(t *testing.T) {
	silent := &byok.Options{Logger: slog.New(slog.DiscardHandler)}
	for _, kind := range []string{byok.RotateFull, byok.JobMove} {
		for _, after := range []bool{false, true} {
			n, deaths := int64(0), 0
			for done := false; !done; n++ {
				if t.Failed() {
					return
				}
				synctest.Test(t, func(t *testing.T) {
					env := byoktest.New(t, &byoktest.Options{Keeper: silent})
					acme, cmk := env.Tenant("acme")
					next := movable(t, env, true, cmk)
					all := sealMany(t, env.Keeper, 20)
					store := &dyingStore{Store: env.Store, after: after}
					store.left.Store(n + 1)
					dying, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, silent)
					want(t, "New", err, nil)
					begin := func(acme *byok.Tenant) (string, error) {
						if kind == byok.JobMove {
							j, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
							return j.ID, err
						}
						res, err := acme.Rotate(t.Context(), byok.Rotation{Type: kind})
						return res.ID, err
					}
					id, err := begin(dying.Tenant("acme"))
					if err == nil {
						for _, err = range dying.Tenant("acme").RunJob(t.Context(), id) {
						}
					}
					done = err == nil && store.left.Load() > 0
					if !done {
						deaths++
					}
					want(t, "Close", dying.Close(), nil)

					all.open(t, env.NewKeeper())
					more := sealMany(t, env.Keeper, 20) // also under new data keys
					time.Sleep(time.Minute)             // until nobody holds the job any more
					id = ""
					for j, err := range acme.Jobs(t.Context()) {
						want(t, "Jobs", err, nil)
						if j.Type == kind {
							id = j.ID
						}
					}
					if id == "" {
						if id, err = begin(acme); err != nil {
							t.Fatalf("death %d: %v", n, err)
						}
					}
					last := finish(t, env.NewKeeper().Tenant("acme"), id)
					if last.State != byok.JobDone || last.Failed != 0 || last.Left != 0 || kind == byok.JobMove && last.Done < 20 || last.Done > 40 {
						t.Fatalf("death %d, after %v: %+v", n, after, last)
					}
					k := env.NewKeeper()
					if kind == byok.JobMove {
						cmk.Disable()
						underOnly(t, env, next)
					} else {
						underOnly(t, env, cmk)
					}
					all.open(t, k)
					more.open(t, k)
					if items, err := env.Store.List(t.Context(), "openjobs", "", 10); err != nil || len(items) != 1 || string(items[0].Value) != `{"v":1}` {
						t.Errorf("the list of jobs: %v, %v", items, err)
					}
				})
			}
			if deaths < 20 {
				t.Errorf("%s: %d deaths: this test could pass on nothing", kind, deaths)
			}
			t.Logf("%s, after %v: died %d times", kind, after, deaths)
		}
	}
}

var jobRuns = flag.Int("jobs.runs", 60, "histories of TestI19_JobsAgainstAModel")
var jobSeed = flag.Uint64("jobs.seed", 1, "seed of the first one; each further one is its successor")

// jobWorld is a history: processes on one Store that lose answers and die, a mover, rotators and sealers at once, and
// a map that says what was acknowledged.
type jobWorld struct {
	t       *testing.T
	r       *rand.Rand
	env     *byoktest.Env
	cmks    []*kmsfake.Key
	flaky   []*flakyStore
	keepers []*byok.Keeper

	mu      sync.Mutex
	records records
}

func (w *jobWorld) boot(i int) {
	s := &flakyStore{Store: w.env.Store, rng: rand.New(rand.NewPCG(w.r.Uint64(), 7))}
	k, err := byok.New(byoktest.Service, w.env.Keys, s, w.env.Audit, &byok.Options{Logger: slog.New(slog.DiscardHandler)})
	want(w.t, "New", err, nil)
	w.flaky[i], w.keepers[i] = s, k
}

// act is one thing that somebody does. faulty: the Store or a CMK may be the reason for an error.
func (w *jobWorld) act(ctx context.Context, r *rand.Rand, faulty bool) {
	k := w.keepers[r.IntN(len(w.keepers))]
	acme := k.Tenant("acme")
	switch n := r.IntN(20); {
	case n < 7: // a sealer
		rec := sealedRecord{scope: byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", r.IntN(12))}, plain: fmt.Sprint(r.Uint64())}
		var err error
		if rec.sealed, err = k.Seal(ctx, rec.scope, []byte(rec.plain), nil); err == nil {
			w.mu.Lock()
			w.records = append(w.records, rec)
			w.mu.Unlock()
		} else if !faulty {
			w.t.Errorf("Seal: %v", err)
		}
	case n < 12:
		w.mu.Lock()
		var rec sealedRecord
		if len(w.records) > 0 {
			rec = w.records[r.IntN(len(w.records))]
		}
		w.mu.Unlock()
		if rec.sealed == nil {
			return
		}
		got, err := k.Open(ctx, rec.scope, rec.sealed, nil)
		if err == nil && string(got) != rec.plain || err != nil && (!faulty || errors.Is(err, byok.ErrOpen)) {
			w.t.Errorf("Open: %q, %v", got, err)
		}
	case n < 14:
		_, _ = acme.Rotate(ctx, byok.Rotation{Type: byok.RotateDEK})
	case n < 15:
		_, _ = acme.Rotate(ctx, byok.Rotation{Type: byok.RotateFull})
	case n < 16:
		_, _ = acme.Move(ctx, awskms.Key(w.cmks[r.IntN(len(w.cmks))].ARN()), "")
	default:
		for j, err := range acme.Jobs(ctx) {
			if err != nil || j.State.Ended() {
				continue
			}
			if r.IntN(12) == 0 {
				_, _ = acme.CancelJob(ctx, j.ID, "")
				continue
			}
			steps := 1 + r.IntN(4)
			for range acme.RunJob(ctx, j.ID) {
				if steps--; steps == 0 {
					break
				}
			}
		}
	}
}

func (w *jobWorld) run() {
	ctx := w.t.Context()
	for range 25 {
		faulty := w.r.IntN(3) == 0
		var denied *kmsfake.Key
		if faulty {
			if w.r.IntN(2) == 0 {
				denied = w.cmks[w.r.IntN(len(w.cmks))]
				denied.Disable()
			}
			for _, s := range w.flaky {
				s.set(w.r.Float64() * 0.2)
			}
		}
		var wg sync.WaitGroup
		for range 1 + w.r.IntN(13) {
			r := rand.New(rand.NewPCG(w.r.Uint64(), 3))
			wg.Go(func() { w.act(ctx, r, faulty) })
		}
		if dead := w.r.IntN(3 * len(w.keepers)); faulty && dead < len(w.keepers) { // in the middle of whatever it is at
			w.flaky[dead].set(1)
			wg.Wait()
			_ = w.keepers[dead].Close()
			w.boot(dead)
		}
		wg.Wait()
		if denied != nil {
			denied.Enable()
		}
		for _, s := range w.flaky {
			s.set(0)
		}
		if faulty {
			time.Sleep(2 * time.Minute)   // back-offs and leases on jobs
			for _, k := range w.keepers { // of many at once, one asks whether access is back, and the others are refused still
				if _, err := k.Seal(ctx, byok.Scope{Tenant: "acme", Purpose: "p0"}, nil, nil); err != nil {
					w.t.Errorf("Seal when all is well again: %v", err)
				}
			}
		}
	}
}

// Rotators, movers and sealers in random interleavings, with a Store that loses answers, CMKs that deny, and processes that die:
// every acknowledged record opens, there is one data key for a purpose and generation at most, jobs come to an end, and while nothing is
// broken nobody notices anything.
func TestI19_JobsAgainstAModel(t *testing.T) {
	sealed, jobs := 0, map[string]int{}
	for n := range *jobRuns {
		seed := *jobSeed + uint64(n)
		synctest.Test(t, func(t *testing.T) {
			w := &jobWorld{t: t, r: rand.New(rand.NewPCG(seed, 1)), env: byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})}
			acme, cmk := w.env.Tenant("acme")
			w.cmks = []*kmsfake.Key{cmk, w.env.CMK("acme"), w.env.CMK("acme")}
			mayReEncrypt(w.cmks[:2]...)
			w.flaky, w.keepers = make([]*flakyStore, 3), make([]*byok.Keeper, 3)
			for i := range w.keepers {
				w.boot(i)
			}
			w.run()
			for _, k := range w.keepers {
				_ = k.Close()
			}
			time.Sleep(2 * time.Minute)
			for j, err := range acme.Jobs(t.Context()) {
				want(t, "Jobs", err, nil)
				j = finish(t, acme, j.ID)
				jobs[j.Type+" "+string(j.State)]++
			}
			s, err := acme.Status(t.Context())
			want(t, "Status", err, nil)
			for _, c := range w.cmks { // the others are needed for nothing
				if c.ARN() != s.Key.ID {
					c.Disable()
				} else {
					underOnlyIfAny(t, w.env, c)
				}
			}
			w.records.open(t, w.env.NewKeeper())
			sealed += len(w.records)
			matchCalls(t, w.env, w.env.Audit.All())
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d histories, %d records, jobs %v", *jobRuns, sealed, jobs)
	if sealed < 10**jobRuns || jobs["move done"] < *jobRuns/4 || jobs["full done"] < *jobRuns/4 {
		t.Error("too little happened")
	}
}

func underOnlyIfAny(t *testing.T, env *byoktest.Env, cmk *kmsfake.Key) {
	t.Helper()
	if len(itemsOf(t, env.Store, "dek:")) > 0 {
		underOnly(t, env, cmk)
	}
}

// Two processes work at the same job at the same time, each as if the other were not there: the clock of one is far ahead, so that
// it believes no lease. The result is what one alone would have done.
func TestTwoProcessesAtOneJob(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
	acme, cmk := env.Tenant("acme")
	next := movable(t, env, true, cmk)
	const n = 120
	all := sealMany(t, env.Keeper, n)
	job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
	want(t, "Move", err, nil)
	var wg sync.WaitGroup
	for range 3 {
		k, err := byok.New(byoktest.Service, env.Keys, leaseless{env.Store}, env.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		wg.Go(func() {
			for j, err := range k.Tenant("acme").RunJob(t.Context(), job.ID) {
				if err != nil {
					t.Errorf("%+v, %v", j, err)
					return
				}
			}
		})
	}
	wg.Wait()
	last, err := acme.Job(t.Context(), job.ID)
	want(t, "Job", err, nil)
	if last.State != byok.JobDone || last.Done != n || last.Failed != 0 {
		t.Errorf("%+v", last)
	}
	cmk.Disable()
	all.open(t, env.NewKeeper())
	underOnly(t, env, next)
	matchCalls(t, env, env.Audit.All())
}

// leaseless shows a process jobs that nobody holds.
type leaseless struct{ byok.Store }

func (s leaseless) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	i, err := s.Store.Get(ctx, r)
	if err == nil && strings.HasPrefix(r.ID, "job:") {
		var v map[string]any
		if err := json.Unmarshal(i.Value, &v); err != nil {
			return i, err
		}
		delete(v, "owner")
		delete(v, "lease_until")
		i.Value, err = json.Marshal(v)
	}
	return i, err
}
