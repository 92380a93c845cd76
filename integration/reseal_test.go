package integration

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byokriver"
	"github.com/byok-go/byok/sqlstore"
)

var (
	resealRecords = flag.Int("reseal-records", 6000, "records of TestReseal, at least 5000")
	resealAll     = flag.Bool("reseal-all", false, "TestReseal does all its set-ups, and not two of the six")
	resealRate    = flag.Int("reseal-rate", 500, "records a second that each of the two processes of TestReseal may re-seal")
	resealWindow  = flag.Duration("reseal-window", time.Second, "how long TestReseal measures live operations before the job")
)

const (
	resealShards = 8
	resealMaxAge = 3 * time.Second
)

// A table of records is re-sealed, or adopted, by two processes, while others read and write it. Both processes are killed with kill -9 in the
// middle; and the CMK is disabled for a while. In the end nothing is left, lost or done twice, the bad records are
// named, exactly those, and no reader has seen a wrong thing.
func TestReseal(t *testing.T) {
	if *resealRecords < 5000 {
		t.Fatal("-reseal-records must be 5000 at least")
	}
	for _, driver := range []string{"sqlite", "postgres"} {
		eachDriver(t, []string{driver}, func(t *testing.T, empty func() *site) {
			for _, setup := range []struct {
				driver, engine string
				adopt, always  bool
			}{
				{driver: "sqlite", engine: "in process"},
				{driver: "sqlite", engine: "in process", adopt: true, always: true},
				{driver: "postgres", engine: "in process"},
				{driver: "postgres", engine: "in process", adopt: true},
				{driver: "postgres", engine: "river", always: true},
				{driver: "postgres", engine: "river", adopt: true},
			} {
				if setup.driver == driver && (setup.always || *resealAll) {
					t.Run(map[bool]string{false: "re-seal ", true: "adopt "}[setup.adopt]+setup.engine, func(t *testing.T) {
						s := empty()
						s.t = t
						reseal(t, s, setup.engine, setup.adopt)
					})
				}
			}
		})
	}
}

func reseal(t *testing.T, s *site, engine string, adopt bool) {
	begun := time.Now()
	r := newResealTable(t, s, *resealRecords, adopt)
	t.Logf("%d records in %v", r.n, time.Since(begun).Round(time.Millisecond))
	bare := r.bareRate()

	_, store := s.store()
	k := s.keeper(store, store, &byok.Options{MaxAge: resealMaxAge})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = k.Run(ctx) })
	tenant := k.Tenant(resealTenant)
	l := r.load(k)
	l.window()
	l.phase.Store(1)

	src, err := resealSource(t.Context(), s.driver, s.dsn, "records")
	if err != nil {
		t.Fatal(err)
	}
	shards, err := src.Split(t.Context(), resealShards)
	if err != nil {
		t.Fatal(err)
	}
	total, err := src.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	job, err := tenant.Reseal(t.Context(), byok.Resealing{Source: "table records", Adopt: adopt, Shards: shards, Total: total, Reason: "the test"})
	if err != nil {
		t.Fatal(err)
	}
	var q *pgxpool.Pool
	if engine == "river" {
		q = r.insertRiver(job.ID, len(shards)+1)
	}
	c := resealerConfig{Driver: s.driver, DSN: s.dsn, KMS: s.url, AccessKey: platformAccessKey, Service: crashService, Engine: engine, Job: job.ID, PerSecond: *resealRate}
	var workers []*resealerProcess
	start := func() {
		c.Name = fmt.Sprint("worker-", len(workers))
		workers = append(workers, startResealer(t, c))
	}
	start()
	start()
	until := func(what string, ok func(j byok.Job) bool) byok.Job {
		t.Helper()
		begun, last, patience := time.Now(), int64(-1), 15*time.Second
		for ; ; time.Sleep(20 * time.Millisecond) {
			j, err := tenant.Job(t.Context(), job.ID)
			if err != nil {
				t.Fatal(err)
			}
			if ok(j) {
				return j
			}
			if j.Done+j.Verified != last {
				begun, last, patience = time.Now(), j.Done+j.Verified, 15*time.Second
			}
			if q != nil && time.Since(begun) > patience {
				// A server ends the statement that a killed process has sent: River may have given it another job after its death.
				anHourPasses(t, q)
				patience += 15 * time.Second
			}
			if time.Since(begun) > 2*time.Minute || t.Failed() {
				t.Fatalf("never %s: %s\n%s\n%s", what, brief(j), workers[len(workers)-2].errs, workers[len(workers)-1].errs)
			}
		}
	}
	at := func(part int) func(byok.Job) bool {
		return func(j byok.Job) bool { return j.Done >= int64(r.n*part/100) || j.State.Ended() }
	}
	taken := 0 // shards that somebody held when half a minute passed
	kill := func(p *resealerProcess) {
		p.kill()
		start() // as whatever watches over processes would
		if q != nil {
			anHourPasses(t, q)
		} else {
			taken += shardsAreFree(r.t, store, resealTenant)
		}
	}
	until("a quarter", at(25))
	kill(workers[0])
	until("half", at(50))
	paused := r.revoke(l, func() byok.Job { return until("paused", func(j byok.Job) bool { return j.State == byok.JobPaused }) })
	resumed := time.Now()
	until("going on", func(j byok.Job) bool { return j.Done > paused.Done || j.State.Ended() })
	t.Logf("it went on by itself %v after the CMK was enabled", time.Since(resumed).Round(10*time.Millisecond))
	until("two thirds", at(66)) // what is told is half a second old, or two with River
	kill(workers[1])
	job = until("ended", func(j byok.Job) bool { return j.State.Ended() })
	took := time.Since(began)
	if q != nil {
		checkRiver(t, q, len(shards)+1)
	} else if taken == 0 {
		t.Error("no worker ever held a shard: who does stands elsewhere by now")
	}
	for _, w := range workers[2:] {
		w.end()
	}
	l.end()

	writes, records, twice := r.replaced()
	t.Logf("%d records replaced, with %d writes, in %v: %.0f a second; the limit of both processes is %d, and the bare database makes %.0f updates a second",
		records, writes, took.Round(10*time.Millisecond), float64(writes)/took.Seconds(), 2**resealRate, bare)
	if twice != 0 {
		t.Errorf("%d records were done twice", twice)
	}
	var named, want []string
	for _, f := range job.Failures {
		named = append(named, f.Key)
	}
	for id := range r.bad {
		want = append(want, strconv.Itoa(id))
	}
	slices.Sort(named)
	slices.Sort(want)
	if job.State != byok.JobDone || job.Failed != resealBad || job.Left != 0 || !slices.Equal(named, want) {
		t.Errorf("%s; it names %v, want %v", brief(job), named, want)
	}
	t.Logf("the job names %d bad records, exactly those: %v; the first: %+v", len(named), slices.Equal(named, want), job.Failures[:min(1, len(named))])
	r.check(func(id int) int { return int(l.acked[id].Load()) })
}

// brief tells of a job without all of its bad records.
func brief(j byok.Job) string {
	j.Failures = j.Failures[:min(3, len(j.Failures))]
	return fmt.Sprintf("%+v", j)
}

// revoke disables the CMK: the job must have stopped when MaxAge has passed. It returns how far it was then.
func (r *resealTable) revoke(l *resealLoad, job func() byok.Job) byok.Job {
	l.denied.Store(true)
	r.cmk.Disable()
	time.Sleep(resealMaxAge + time.Second) // what was released just before reaches the table
	before, _, _ := r.replaced()
	paused := job()
	time.Sleep(500 * time.Millisecond)
	if after, _, _ := r.replaced(); after != before {
		r.t.Errorf("%d records were replaced more than %v after the CMK was disabled", after-before, resealMaxAge)
	}
	r.t.Logf("with the CMK disabled the job is %s (%s), at %d", paused.State, paused.Why, paused.Done)
	r.cmk.Enable()
	go func() { // the live Keeper asks again by itself
		for !r.t.Failed() {
			if _, err := l.k.Seal(context.Background(), resealScope, []byte("x"), nil); err == nil {
				time.Sleep(200 * time.Millisecond) // of operations that had been refused just before
				l.denied.Store(false)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return paused
}

// bareRate is how many rows a second the database updates, in the same pages with the same comparison, without anything of byok.
func (r *resealTable) bareRate() float64 {
	r.t.Helper()
	const rows, workers = 4000, 4
	blob := map[string]string{"pgx": "BYTEA", "sqlite3": "BLOB"}[r.driver]
	mustExec(r.t, r.db, "CREATE TABLE bare (id BIGINT PRIMARY KEY, body "+blob+" NOT NULL, sealed BOOLEAN NOT NULL)")
	page := make([][]byte, rows)
	for i := range page {
		page[i] = make([]byte, 300)
	}
	r.fill("bare", 1, page, func(int) bool { return true })
	src, err := resealSource(r.t.Context(), r.driver, r.dsn, "bare")
	if err != nil {
		r.t.Fatal(err)
	}
	begun := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			after := fmt.Sprint(max(1, rows*w/workers))
			for {
				page, err := src.Records(r.t.Context(), after, fmt.Sprint(rows*(w+1)/workers), 100)
				if err != nil || len(page) == 0 {
					if err != nil {
						r.t.Error(err)
					}
					return
				}
				bodies := make([][]byte, len(page))
				for i := range page {
					bodies[i] = make([]byte, 301)
				}
				if _, err := src.Replace(r.t.Context(), page, bodies); err != nil {
					r.t.Error(err)
					return
				}
				after = page[len(page)-1].Key
			}
		})
	}
	wg.Wait()
	return rows / time.Since(begun).Seconds()
}

// insertRiver makes River's tables, and gives it the job.
func (r *resealTable) insertRiver(job string, shards int) *pgxpool.Pool {
	r.t.Helper()
	pool, err := pgxpool.New(r.t.Context(), r.dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(pool.Close)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err == nil {
		_, err = migrator.Migrate(r.t.Context(), rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		r.t.Fatal(err)
	}
	// In a transaction of the platform's.
	err = pgx.BeginFunc(r.t.Context(), pool, func(tx pgx.Tx) error {
		_, err := byokriver.InsertTx(r.t.Context(), client, tx, resealTenant, job, shards)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return pool
}

// anHourPasses for River: it takes all jobs for stuck that run, and gives them to whoever is free. One of them is the killed process's; what the
// living one is at has two workers from now on. Also over is each pause, and there is another leader, if it was that one which was killed.
func anHourPasses(t *testing.T, q *pgxpool.Pool) {
	t.Helper()
	if _, err := q.Exec(t.Context(), "UPDATE river_job SET state = 'available', scheduled_at = now() WHERE state IN ('running', 'scheduled')"); err != nil {
		t.Fatal(err)
	}
}

// shardsAreFree as they are when half a minute has passed: whoever holds one holds it no longer, and others may come. The killed process's is one of them; what the living
// one is at may have two workers from now on.
func shardsAreFree(t *testing.T, store *sqlstore.Store, tenant string) (taken int) {
	t.Helper()
	for id, value := range items(t, store, "tenant:"+tenant) {
		var shard map[string]any
		if !strings.HasPrefix(id, "shard:") || json.Unmarshal(value, &shard) != nil || shard["owner"] == nil {
			continue
		}
		for {
			i, err := store.Get(t.Context(), byok.Ref{Partition: "tenant:" + tenant, ID: id})
			if err != nil || json.Unmarshal(i.Value, &shard) != nil {
				t.Fatalf("%s, %v", i.Value, err)
			}
			delete(shard, "owner")
			delete(shard, "lease_until")
			if i.Value, err = json.Marshal(shard); err != nil {
				t.Fatal(err)
			}
			if err = store.Apply(t.Context(), i); err == nil {
				taken++
				break
			}
			if !errors.Is(err, byok.ErrConflict) { // a worker that lives writes it
				t.Fatal(err)
			}
		}
	}
	return taken
}

// checkRiver finds all shards completed in River, none given up, and none with an attempt that failed.
func checkRiver(t *testing.T, q *pgxpool.Pool, shards int) {
	t.Helper()
	var jobs, completed, failed int
	begun, patience := time.Now(), 15*time.Second
	for ; completed < shards && time.Since(begun) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > patience { // as in reseal
			anHourPasses(t, q)
			patience += 15 * time.Second
		}
		if err := q.QueryRow(t.Context(), "SELECT count(*), count(*) FILTER (WHERE state = 'completed'), count(*) FILTER (WHERE errors IS NOT NULL) FROM river_job").Scan(&jobs, &completed, &failed); err != nil {
			t.Fatal(err)
		}
	}
	if jobs != shards || completed != jobs || failed != 0 {
		t.Errorf("River has %d jobs, %d completed, %d that failed", jobs, completed, failed)
	}
}
