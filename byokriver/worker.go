package byokriver

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"

	"github.com/byok-go/byok"
)

// How long things take.
const (
	slice = 30 * time.Second // of work at a shard; then others have their turn
	spare = time.Minute      // for the step that is under way when a slice ends, and for writing down where it came to
	often = 2 * time.Second  // between two times that it is written down how far it is
)

// step is the name of the only step that River knows of a shard's job.
const step = "re-seal"

// resealer is what a worker needs of a *byok.Resealer.
type resealer interface {
	Step(ctx context.Context, shard int, cursor string) (next string, done bool, err error)
	Cursor(ctx context.Context, shard int) (string, error)
	Checkpoint(ctx context.Context, shard int, cursor string) error
	Pause(ctx context.Context, shard int, why error) error
}

// InTx runs f in a transaction of the database that River's tables are in, and commits it if f returns nil. For pgx it
// is pgx.BeginFunc with a pool.
type InTx[TTx any] func(ctx context.Context, f func(tx TTx) error) error

// AddWorker makes the clients of workers work at jobs that [Insert] inserts. open makes the Resealer of a job, with
// Tenant.Resealer, in each process once for all shards that it is at; so the limits of byok.ResealOptions are those of a process.
//
// A denial of the CMK, an outage, throttling, an error of the Source or the Store: all these are a pause. The job is snoozed, for a
// second first and for a minute at last, and goes on by itself; that uses up no attempt. Records that are bad fail nothing: River's job
// completes, and byok's says in Failed and Failures which they are. A job that is cancelled, with Tenant.CancelJob, is
// cancelled in River too. What can never work (byok.ErrArgument, byok.ErrJobNotFound) is a failed attempt.
//
// It panics where river.AddWorker does, if workers have one of this kind; and without tx or open.
func AddWorker[TTx any](workers *river.Workers, tx InTx[TTx], open func(ctx context.Context, tenant, job string) (*byok.Resealer, error)) {
	if tx == nil || open == nil {
		panic("byokriver: AddWorker needs to know how to begin a transaction, and a Resealer")
	}
	river.AddWorker(workers, newWorker(tx, func(ctx context.Context, tenant, job string) (resealer, error) {
		r, err := open(ctx, tenant, job)
		if err == nil && r == nil {
			err = fmt.Errorf("%w: no Resealer of job %s", byok.ErrArgument, job)
		}
		return r, err
	}))
}

type worker[TTx any] struct {
	river.WorkerDefaults[Args]
	tx   InTx[TTx]
	jobs shared
}

func newWorker[TTx any](tx InTx[TTx], open func(ctx context.Context, tenant, job string) (resealer, error)) *worker[TTx] {
	return &worker[TTx]{tx: tx, jobs: shared{open: open, known: make(map[jobKey]*sharedJob)}}
}

// Timeout implements river.Worker. It is far below the hour after which River takes a job for stuck, and gives it to another
// worker while this one still is at it.
func (w *worker[TTx]) Timeout(*river.Job[Args]) time.Duration { return slice + spare }

// NextRetry implements river.Worker: after a kill, and what failed. River's own would wait for days in the end.
func (w *worker[TTx]) NextRetry(job *river.Job[Args]) time.Time {
	return time.Now().Add(backOff(job.Attempt - 1))
}

// Work implements river.Worker.
func (w *worker[TTx]) Work(ctx context.Context, job *river.Job[Args]) error {
	river.ResumableStepCursor(ctx, step, nil, func(ctx context.Context, at position) error {
		r, release, err := w.jobs.get(ctx, jobKey{job.Args.Tenant, job.Args.Job})
		if err != nil {
			return w.conclude(ctx, at, err)
		}
		defer release()
		t := turn{r: r, shard: job.Args.Shard, at: at, save: func(ctx context.Context, at position) error {
			return w.tx(ctx, func(tx TTx) error {
				_, err := river.ResumableSetStepCursorTx[riverdriver.Driver[TTx]](ctx, tx, job, at)
				return err
			})
		}}
		err = t.run(ctx)
		return w.conclude(ctx, t.at, err)
	})
	return nil // what the step returned is what River goes by
}

// conclude is what River is told, and it keeps the position beside it: also that, if it could not be written down before.
func (w *worker[TTx]) conclude(ctx context.Context, at position, err error) error {
	out := outcome(ctx, &at, err)
	if out == nil {
		return nil
	}
	if err := river.ResumableSetCursor(ctx, at); err != nil {
		return err
	}
	return out
}
