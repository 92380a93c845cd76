package integration

import (
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
)

// jobs is a rotation of type full and a move, whichever of it is left to do.
func (c *crasher) jobs(ctx context.Context, id string) error {
	t, next := c.keeper.Tenant(id), awskms.Key(c.Next[id])
	if err := c.finish(ctx, t); err != nil {
		return err
	}
	st, err := t.Status(ctx)
	if err != nil || st.Key == next {
		return err
	}
	if _, err := t.Rotate(ctx, byok.Rotation{Type: byok.RotateFull}); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	if err := c.finish(ctx, t); err != nil {
		return err
	}
	if _, err := t.Move(ctx, next, ""); err != nil {
		return fmt.Errorf("move: %w", err)
	}
	if err := c.finish(ctx, t); err != nil {
		return err
	}
	c.say(ack{Op: "move", Tenant: id})
	return nil
}

// finish works at what is under way.
func (c *crasher) finish(ctx context.Context, t *byok.Tenant) error {
	for job, err := range t.Jobs(ctx) {
		if err != nil {
			return fmt.Errorf("jobs: %w", err)
		}
		if job.State.Ended() {
			continue
		}
		for job, err = range t.RunJob(ctx, job.ID) {
			if err != nil {
				return fmt.Errorf("job: %+v: %w", job, err)
			}
		}
	}
	return nil
}

// anyJob goes on with the job that is under way, or begins one: a rotation of type full, or a move there and back.
func (c *crasher) anyJob(ctx context.Context, id string) error {
	t := c.keeper.Tenant(id)
	if err := c.goOn(ctx, t, id); err != nil {
		return err
	}
	st, err := t.Status(ctx)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	to := c.Next[id]
	if st.Key.ID == to {
		to = c.Tenants[id]
	}
	if mrand.IntN(2) == 0 {
		var r byok.RotationResult
		if r, err = t.Rotate(ctx, byok.Rotation{Type: byok.RotateFull}); err == nil {
			c.say(ack{Op: "rotate", Tenant: id, N: r.NewVersion})
		}
	} else if _, err = t.Move(ctx, awskms.Key(to), ""); errors.Is(err, byok.ErrArgument) {
		if st, err = t.Status(ctx); err == nil && st.Key.ID != to {
			return fmt.Errorf("move to %s was refused, and the key is %s", to, st.Key.ID)
		} // else another process has moved it there meanwhile
	}
	if errors.Is(err, byok.ErrJobRunning) || errors.Is(err, byok.ErrThrottled) { // another's, or too many probes a second
		err = nil
	}
	if err != nil {
		return fmt.Errorf("begin a job: %w", err)
	}
	err = c.goOn(ctx, t, id)
	time.Sleep(time.Duration(mrand.IntN(100)) * time.Millisecond)
	return err
}

// goOn works at the job that is under way, as long as ctx lasts and no longer: it may be in the hands of a process
// that is no more.
func (c *crasher) goOn(ctx context.Context, t *byok.Tenant, id string) error {
	for job, err := range t.Jobs(ctx) {
		if err != nil {
			return fmt.Errorf("jobs: %w", err)
		}
		if job.State.Ended() {
			continue
		}
		for job, err = range t.RunJob(ctx, job.ID) {
			switch {
			case ctx.Err() != nil, errors.Is(err, byok.ErrThrottled): // operations have used up the budget, and come first
				return nil
			case err != nil:
				return fmt.Errorf("job: %+v: %w", job, err)
			case job.State == byok.JobDone:
				c.say(ack{Op: "job", Tenant: id, Job: job.ID, Type: job.Type})
			case job.State.Ended():
				return fmt.Errorf("a job that nobody ended has: %+v", job)
			}
		}
	}
	return nil
}

// rewrap makes an envelope that carries its data key, under the CMK that is or was the tenant's, and gives it a new header.
func (c *crasher) rewrap(ctx context.Context, id string) error {
	d, err := byok.NewDirect(c.Service, c.keys, awskms.Key(c.Tenants[id]), c.sink)
	if err != nil {
		return err
	}
	a := ack{Op: "rewrap", Tenant: id, Purpose: "own", Plain: fmt.Sprintf("of its own, %d", mrand.Uint64())}
	scope := byok.Scope{Tenant: id, Purpose: a.Purpose}
	sealed, err := d.Seal(ctx, scope, []byte(a.Plain), nil)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	for range 3 { // a key that is replaced in the middle of it ends the attempt with ErrOpen
		if a.Sealed, err = c.keeper.Rewrap(ctx, scope, sealed); !errors.Is(err, byok.ErrOpen) {
			break
		}
	}
	if errors.Is(err, byok.ErrThrottled) { // 20 of these requests a second
		return nil
	}
	if err != nil {
		return fmt.Errorf("rewrap: %w", err)
	}
	c.say(a)
	return nil
}
