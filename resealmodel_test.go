package byok_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

var (
	resealRuns = flag.Int("reseal.runs", 25, "histories of TestG16_ResealModel")
	resealSeed = flag.Uint64("reseal.seed", 1, "seed of the first one; each further one is its successor")
)

// resealProcess is a process that Runs a re-sealing until it dies.
type resealProcess struct {
	store  *dyingStore
	keeper *byok.Keeper
	src    *processTable
	stop   context.CancelFunc
	ended  chan error
}

// processTable is the table as one process sees it: nothing, once it is dead.
type processTable struct {
	*table
	dead  atomic.Bool
	sleep atomic.Int64 // between reading and replacing
}

func (s *processTable) Records(ctx context.Context, after, last string, limit int) ([]byok.Record, error) {
	if s.dead.Load() {
		return nil, errTable
	}
	page, err := s.table.Records(ctx, after, last, limit)
	time.Sleep(time.Duration(s.sleep.Load())) // a machine that stood still does not look at ctx
	return page, err
}

func (s *processTable) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	if s.dead.Load() {
		return nil, errTable
	}
	return s.table.Replace(ctx, records, sealed)
}

// resealWorld is a history of a tenant whose records are re-sealed, by two processes that die and stand still, while the platform writes and
// reads, the CMK comes and goes, and the table fails.
type resealWorld struct {
	t     *testing.T
	r     *rand.Rand
	env   *byoktest.Env
	cmk   *kmsfake.Key
	s     *table
	job   string
	procs [2]*resealProcess
	plain map[string]string // what each record is, as the platform wrote it last
	since map[string]int    // how often it has been replaced since then
	bad   map[string]bool
	off   bool // the CMK is disabled
}

func (w *resealWorld) boot(i int) {
	p := &resealProcess{store: &dyingStore{Store: w.env.Store, after: w.r.IntN(2) == 0}, src: &processTable{table: w.s}, ended: make(chan error, 1)}
	p.store.left.Store(immortal)
	k, err := byok.New(byoktest.Service, w.env.Keys, p.store, w.env.Audit, &byok.Options{Logger: slog.New(slog.DiscardHandler)})
	want(w.t, "New", err, nil)
	p.keeper = k
	ctx, stop := context.WithCancel(w.t.Context())
	p.stop = stop
	go func() {
		for {
			r, err := k.Tenant("acme").Resealer(ctx, w.job, p.src, &byok.ResealOptions{PerSecond: 3, Page: 3})
			if err == nil {
				err = r.Run(ctx)
			}
			if err == nil || errors.Is(err, byok.ErrRecordsFailed) || ctx.Err() != nil {
				p.ended <- err
				return
			}
			time.Sleep(time.Second)
		}
	}()
	w.procs[i] = p
}

func (p *resealProcess) kill() {
	p.src.dead.Store(true)
	p.store.left.Store(0)
	p.stop()
	<-p.ended
	_ = p.keeper.Close()
}

// write is the platform's.
func (w *resealWorld) write(key string) {
	plain := fmt.Sprint(key, " ", w.r.Uint64())
	sealed, err := w.procs[w.r.IntN(2)].keeper.Seal(w.t.Context(), invoices, []byte(plain), []byte("invoice/"+key))
	if err == nil {
		w.s.mu.Lock()
		w.plain[key], w.since[key] = plain, 0
		w.s.mu.Unlock()
		w.s.write(key, sealed, false)
	} else if !w.off {
		w.t.Fatalf("Seal: %v", err)
	}
}

func (w *resealWorld) read(key string) {
	rec := w.s.read(key)
	got, err := rec.Value, error(nil)
	if !rec.Clear {
		got, err = w.procs[w.r.IntN(2)].keeper.Open(w.t.Context(), invoices, rec.Value, rec.AAD)
	}
	if err == nil && string(got) != w.plain[key] || err != nil && !w.off {
		w.t.Fatalf("%s is %q, and was written as %q: %v", key, got, w.plain[key], err)
	}
}

func (w *resealWorld) step() {
	keys := make([]string, 0, len(w.plain))
	for key := range w.plain {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	key := keys[w.r.IntN(len(keys))]
	switch n := w.r.IntN(40); {
	case n < 10:
		w.write(key)
	case n < 18:
		w.read(key)
	case n < 20:
		w.write(fmt.Sprintf("%06d", w.r.IntN(60)+100))
	case n < 21 && len(keys) > 5:
		w.s.mu.Lock()
		delete(w.s.rows, key)
		delete(w.plain, key)
		w.s.mu.Unlock()
	case n < 24:
		if w.off = !w.off; w.off {
			w.cmk.Disable()
		} else {
			w.cmk.Enable()
			time.Sleep(40 * time.Second) // until every process has asked again
		}
	case n < 26:
		i := w.r.IntN(2)
		w.procs[i].kill()
		w.boot(i)
	case n < 28:
		i := w.r.IntN(2) // it dies in the middle of writing to the Store
		w.procs[i].store.left.Store(int64(w.r.IntN(4)))
		time.Sleep(2 * time.Second)
		w.procs[i].kill()
		w.boot(i)
	case n < 30:
		w.procs[w.r.IntN(2)].src.sleep.Store(int64(w.r.IntN(2)) * int64(90*time.Second))
	case n < 32:
		w.s.mu.Lock()
		if w.s.torn = !w.s.torn; w.r.IntN(2) == 0 {
			w.s.broken = func() error { return errTable }
		} else {
			w.s.broken = nil
		}
		w.s.mu.Unlock()
	case n < 33 && !w.off:
		_, err := w.procs[w.r.IntN(2)].keeper.Tenant("acme").Rotate(w.t.Context(), byok.Rotation{Type: byok.RotateDEK})
		if err != nil {
			w.t.Fatalf("Rotate: %v", err)
		}
	default:
		time.Sleep(time.Duration(w.r.IntN(8000)) * time.Millisecond)
	}
}

func (w *resealWorld) run() (replaced int) {
	w.env = byoktest.New(w.t, &byoktest.Options{Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
	acme, cmk := w.env.Tenant("acme")
	w.cmk, w.s = cmk, newTable()
	fill(w.t, w.env.Keeper, w.s, 0, 40)
	for key := range w.s.rows {
		if w.plain[key] = "value of " + key; w.r.IntN(4) == 0 {
			w.s.write(key, []byte(w.plain[key]), true)
		}
	}
	for i := range w.r.IntN(4) {
		key := recordKey(i * 7)
		v, err := w.env.Keeper.Seal(w.t.Context(), invoices, nil, []byte("another record"))
		want(w.t, "Seal", err, nil)
		w.s.write(key, v, false)
		w.bad[key] = true
		delete(w.plain, key)
	}
	_, err := acme.Rotate(w.t.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(w.t, "Rotate", err, nil)
	job, err := acme.Reseal(w.t.Context(), byok.Resealing{Source: "s", Adopt: true, Shards: []string{recordKey(13), recordKey(27)}})
	want(w.t, "Reseal", err, nil)
	w.job = job.ID
	w.s.replaced = func(key string, _, _ []byte) { // under the lock
		if replaced, w.since[key] = replaced+1, w.since[key]+1; w.since[key] > 1 {
			w.t.Errorf("%s was replaced twice", key)
		}
	}
	w.boot(0)
	w.boot(1)
	for range 30 {
		w.step()
	}
	w.cmk.Enable()
	w.s.mu.Lock()
	w.s.torn, w.s.broken = false, nil
	w.s.mu.Unlock()
	for _, p := range w.procs {
		p.src.sleep.Store(0)
	}
	for _, p := range w.procs {
		err := <-p.ended
		if (len(w.bad) > 0) != errors.Is(err, byok.ErrRecordsFailed) || len(w.bad) == 0 && err != nil {
			w.t.Errorf("Run: %v with %d bad records", err, len(w.bad))
		}
		_ = p.keeper.Close()
	}
	fresh := w.env.NewKeeper()
	for key := range w.s.rows {
		if w.bad[key] {
			continue
		}
		rec := w.s.read(key)
		plain, err := fresh.Open(w.t.Context(), invoices, rec.Value, rec.AAD)
		if err != nil || string(plain) != w.plain[key] {
			w.t.Errorf("%s opens as %q, and was written as %q: %v", key, plain, w.plain[key], err)
		}
		if due, err := fresh.Due(w.t.Context(), invoices, rec.Value); due || err != nil {
			w.t.Errorf("%s is left: %v", key, err)
		}
	}
	done, err := acme.Job(w.t.Context(), w.job)
	var named []string
	for _, f := range done.Failures {
		named = append(named, f.Key)
	}
	if err != nil || done.State != byok.JobDone || int(done.Failed) != len(w.bad) || len(named) != len(w.bad) || slices.ContainsFunc(named, func(k string) bool { return !w.bad[k] }) {
		w.t.Errorf("%+v, %v; bad are %v", done, err, w.bad)
	}
	return replaced
}

// Whatever dies, stands still, fails or is denied: no write of the platform's is lost, no record is replaced twice, exactly the bad ones
// are named, and in the end nothing is left.
func TestG16_ResealModel(t *testing.T) {
	replaced := 0
	for seed := *resealSeed; seed < *resealSeed+uint64(*resealRuns); seed++ {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("-reseal.seed %d -reseal.runs 1", seed)
				}
			}()
			w := &resealWorld{t: t, r: rand.New(rand.NewPCG(seed, 7)), plain: map[string]string{}, since: map[string]int{}, bad: map[string]bool{}}
			replaced += w.run()
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d histories, %d records replaced", *resealRuns, replaced)
	if replaced < 20**resealRuns {
		t.Error("hardly anything was replaced")
	}
}
