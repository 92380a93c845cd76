package byokriver

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"

	"github.com/byok-go/byok"
)

// position is what River keeps of a shard's job: how far it is.
type position struct {
	Cursor string `json:"cursor"`           // of Resealer.Step
	Pauses int    `json:"pauses,omitempty"` // in a row
}

// turn is a slice of work at a shard.
//
// Two of them may be at one shard at once: River gives a job that it takes for stuck to another worker. That does no harm. A
// step replaces a record by compare-and-set, so of two that read the same record one replaces it, and the other leaves what is there; and
// a cursor only says from where on to look, so one that goes back costs reading.
type turn struct {
	r     resealer
	shard int
	at    position
	save  func(ctx context.Context, at position) error // in River, durably
}

var errSliceOver = errors.New("byokriver: others have their turn")

// run returns nil when the shard is done.
func (t *turn) run(ctx context.Context) (err error) {
	if t.at.Cursor == "" { // River's job is new. The shard need not be
		if t.at.Cursor, err = t.r.Cursor(ctx, t.shard); err != nil {
			return err
		}
	}
	begun := time.Now()
	for kept := begun; ; {
		next, done, err := t.r.Step(ctx, t.shard, t.at.Cursor)
		if next != "" {
			t.at.Cursor = next
		}
		if err == nil {
			t.at.Pauses = 0
		}
		over := time.Since(begun) >= slice
		if err == nil && !done && !over && time.Since(kept) < often {
			continue
		}
		if kerr := t.keep(ctx, err); err == nil {
			err = kerr
		}
		switch kept = time.Now(); {
		case err != nil:
			return err
		case done:
			return nil
		case over:
			return errSliceOver
		}
	}
}

// keep writes down how far it is, and why it does not go on: for River, and for Tenant.Job to tell. It does so when ctx is done, too:
// what was done shall not be read again.
func (t *turn) keep(ctx context.Context, why error) error {
	pauses := kind(ctx, why) == paused
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spare/4)
	defer cancel()
	if err := t.save(ctx, t.at); err != nil {
		return err
	}
	if err := t.r.Checkpoint(ctx, t.shard, t.at.Cursor); err != nil || !pauses {
		return err
	}
	return t.r.Pause(ctx, t.shard, why)
}

// How a turn ends.
const (
	shardDone = iota // the shard is
	again            // when others have had their turn; or the process ends, or the last step was slow
	paused           // what may end by itself
	cancelled        // the job is cancelled
	failed           // what never works
)

func kind(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return shardDone
	case errors.Is(err, byok.ErrJobCancelled):
		return cancelled
	case errors.Is(err, byok.ErrArgument), errors.Is(err, byok.ErrJobNotFound):
		return failed
	case err == errSliceOver, ctx.Err() != nil:
		return again
	}
	return paused
}

// outcome is what River is told of how a turn ended.
func outcome(ctx context.Context, at *position, err error) error {
	switch kind(ctx, err) {
	case shardDone:
		return nil
	case again:
		return river.JobSnooze(0)
	case cancelled:
		return river.JobCancel(byok.ErrJobCancelled)
	case failed:
		return err
	}
	at.Pauses++
	return river.JobSnooze(backOff(at.Pauses - 1))
}

// backOff is how long the pause after n others is: about 1, 2, 4 ... 60 s. By chance up to half of it less, since a
// denial stops all shards at the same moment.
func backOff(n int) time.Duration {
	d := min(time.Second<<min(max(n, 0), 6), time.Minute)
	return d/2 + rand.N(d/2)
}
