package byokriver

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	_ "modernc.org/sqlite" // "sqlite"

	"github.com/byok-go/byok"
)

// queue is River itself, on a database that needs no server. What is said of a platform's on Postgres is in integration.
type queue struct {
	t  *testing.T
	db *sql.DB
	*river.Client[*sql.Tx]
}

func newQueue(t *testing.T, open func(ctx context.Context, tenant, job string) (resealer, error)) *queue {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "river.db"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1) // as riversqlite says
	t.Cleanup(func() { _ = db.Close() })
	migrator, err := rivermigrate.New(riversqlite.New(db), nil)
	if err == nil {
		_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	q := &queue{t: t, db: db}
	workers := river.NewWorkers()
	river.AddWorker(workers, newWorker(q.inTx, open))
	q.Client, err = river.NewClient(riversqlite.New(db), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, Workers: workers, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 10 * time.Millisecond, TestOnly: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// opens says what f is the Resealer of.
func (f *fakeResealer) opens(_ context.Context, tenant, job string) (resealer, error) {
	if tenant != "acme" || job != "j" {
		return nil, fmt.Errorf("%w: %s %s", byok.ErrJobNotFound, tenant, job)
	}
	return f, nil
}

func (q *queue) inTx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := q.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (q *queue) start() {
	q.t.Helper()
	if err := q.Start(context.Background()); err != nil {
		q.t.Fatal(err)
	}
	q.t.Cleanup(func() { _ = q.StopAndCancel(context.Background()) })
}

func (q *queue) insert(shards int) []*rivertype.JobInsertResult {
	q.t.Helper()
	r, err := Insert(q.t.Context(), q.Client, "acme", "j", shards)
	if err != nil {
		q.t.Fatal(err)
	}
	return r
}

// until waits until River's job is as ok says.
func (q *queue) until(id int64, what string, ok func(*rivertype.JobRow) bool) *rivertype.JobRow {
	q.t.Helper()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		j, err := q.JobGet(q.t.Context(), id)
		if err != nil {
			q.t.Fatal(err)
		}
		if ok(j) {
			return j
		}
		if time.Since(begun) > time.Minute {
			q.t.Fatalf("never %s: %s, attempt %d, %s, %+v", what, j.State, j.Attempt, j.Metadata, j.Errors)
		}
	}
}

func is(s rivertype.JobState) func(*rivertype.JobRow) bool {
	return func(j *rivertype.JobRow) bool { return j.State == s }
}

// cursor is what River has of a job's position.
func cursor(t *testing.T, j *rivertype.JobRow) position {
	t.Helper()
	var m struct {
		Cursors map[string]position `json:"river:resumable_cursor"`
	}
	if err := json.Unmarshal(j.Metadata, &m); err != nil {
		t.Fatal(err)
	}
	return m.Cursors[step]
}

// Each shard is one job of River's, and all are worked at; inserting them again changes nothing.
func TestRiverDoesAllShards(t *testing.T) {
	t.Parallel()
	f := &fakeResealer{steps: 3}
	q := newQueue(t, f.opens)
	first, again := q.insert(3), q.insert(3)
	for i := range first {
		if first[i].UniqueSkippedAsDuplicate || !again[i].UniqueSkippedAsDuplicate || again[i].Job.ID != first[i].Job.ID {
			t.Errorf("shard %d: %+v, then %+v", i, first[i], again[i])
		}
	}
	q.start()
	for _, r := range first {
		q.until(r.Job.ID, "completed", is(rivertype.JobStateCompleted))
	}
	if len(f.taken) != 9 || fmt.Sprint(f.kept) != "map[0:3 1:3 2:3]" {
		t.Errorf("steps %v; the Store says %v", f.taken, f.kept)
	}
	for _, r := range q.insert(3) {
		if !r.UniqueSkippedAsDuplicate {
			t.Error("a shard that is done is done again")
		}
	}
}

// InsertTx is a part of the platform's transaction.
func TestRiverInsertTx(t *testing.T) {
	t.Parallel()
	q := newQueue(t, (&fakeResealer{steps: 1}).opens)
	count := func() (n int) {
		if err := q.db.QueryRow("SELECT count(*) FROM river_job").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, commit := range []bool{false, true} {
		tx, err := q.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := InsertTx(t.Context(), q.Client, tx, "acme", "j", 2); err != nil {
			t.Fatal(err)
		}
		end, want := tx.Rollback, 0
		if commit {
			end, want = tx.Commit, 2
		}
		if err := end(); err != nil || count() != want {
			t.Errorf("committed: %v: %v, %d jobs", commit, err, count())
		}
	}
	for _, shards := range []int{-1, 0, maxShards + 1} {
		if _, err := Insert(t.Context(), q.Client, "acme", "j", shards); byok.Code(err) != byok.Code(byok.ErrArgument) {
			t.Errorf("%d shards: %v", shards, err)
		}
	}
}

// A denial of any length uses up no attempt, and the job goes on where it was, by itself.
func TestRiverPauses(t *testing.T) {
	t.Parallel()
	denials := 0
	f := &fakeResealer{steps: 5}
	f.fail = func(step int) error {
		if step == 2 && denials < 2 {
			denials++
			return byok.ErrKeyDenied
		}
		return nil
	}
	q := newQueue(t, f.opens)
	id := q.insert(1)[0].Job.ID
	q.start()
	paused := q.until(id, "paused", func(j *rivertype.JobRow) bool { return j.State != rivertype.JobStateRunning && cursor(t, j).Pauses > 0 })
	if at := cursor(t, paused); at.Cursor != "2" || paused.ScheduledAt.Sub(*paused.AttemptedAt) < 450*time.Millisecond {
		t.Errorf("paused at %+v until %v", at, paused.ScheduledAt)
	}
	j := q.until(id, "completed", is(rivertype.JobStateCompleted))
	if j.Attempt != 1 || len(j.Errors) != 0 || fmt.Sprint(f.taken) != "[0 1 2 3 4]" {
		t.Errorf("attempt %d, %d errors, steps %v", j.Attempt, len(j.Errors), f.taken)
	}
}

// A job that is cancelled is cancelled in River; what can never work is a failed attempt, which people see there.
func TestRiverCancelledAndFailed(t *testing.T) {
	t.Parallel()
	f := &fakeResealer{steps: 5, fail: func(int) error { return byok.ErrJobCancelled }}
	q := newQueue(t, f.opens)
	id := q.insert(1)[0].Job.ID
	unknown, err := Insert(t.Context(), q.Client, "acme", "another", 1)
	if err != nil {
		t.Fatal(err)
	}
	q.start()
	q.until(id, "cancelled", is(rivertype.JobStateCancelled))
	q.until(unknown[0].Job.ID, "failed", func(j *rivertype.JobRow) bool {
		return j.State == rivertype.JobStateRetryable || j.State == rivertype.JobStateAvailable && len(j.Errors) > 0
	})
}

// The end of a process in the middle loses nothing that was done, and takes no attempt; the next one goes on there.
func TestRiverStops(t *testing.T) {
	t.Parallel()
	f := &fakeResealer{steps: 1 << 30, takes: 10 * time.Millisecond}
	q := newQueue(t, f.opens)
	id := q.insert(1)[0].Job.ID
	q.start()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		n := len(f.taken)
		f.mu.Unlock()
		if n >= 5 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("it does not begin")
		}
	}
	if err := q.StopAndCancel(context.Background()); err != nil {
		t.Fatal(err)
	}
	j, err := q.JobGet(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(len(f.taken))
	if j.State != rivertype.JobStateAvailable || j.Attempt != 0 || cursor(t, j).Cursor != want || f.kept[0] != want {
		t.Errorf("after %s steps: %s, attempt %d, at %+v; the Store says %v", want, j.State, j.Attempt, cursor(t, j), f.kept)
	}
}

// A process that is killed leaves a job that River takes for stuck, later. It goes on from what was written down in the middle of the
// slice, durably, and is not given up.
func TestRiverRescues(t *testing.T) {
	t.Parallel()
	f := &fakeResealer{steps: 600, takes: 10 * time.Millisecond}
	q := newQueue(t, f.opens)
	id := q.insert(1)[0].Job.ID
	q.start()
	running := q.until(id, "written down in the middle", func(j *rivertype.JobRow) bool { return cursor(t, j).Cursor != "" })
	if running.State != rivertype.JobStateRunning {
		t.Fatalf("it is %s already", running.State)
	}
	at := cursor(t, running).Cursor
	if err := q.StopAndCancel(context.Background()); err != nil {
		t.Fatal(err)
	}
	// What a kill at the moment of that look would have left, and two hours later.
	f.mu.Lock()
	f.taken, f.steps, f.takes = nil, 300, 0
	f.mu.Unlock()
	if _, err := q.db.Exec(`UPDATE river_job SET state = 'running', attempt = 2, attempted_at = ?, metadata = jsonb(?) WHERE id = ?`,
		time.Now().UTC().Add(-2*time.Hour).Format("2006-01-02 15:04:05.000"), string(running.Metadata), id); err != nil {
		t.Fatal(err)
	}
	q.start()
	j := q.until(id, "completed", is(rivertype.JobStateCompleted))
	if fmt.Sprint(f.taken[0]) != at || len(f.taken) != 300-f.taken[0] || j.Attempt != 3 || j.MaxAttempts < 1000 || len(j.Errors) != 1 {
		t.Errorf("it was at %s, and went on at %d, for %d steps; attempt %d, %+v", at, f.taken[0], len(f.taken), j.Attempt, j.Errors)
	}
}
