package byok_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// The engines of docs/resealing.md: what is of Temporal and SQS in them are arguments, so that nothing of these is needed here.

// shardOf names a shard: the input of an activity, or a message.
type shardOf struct {
	Tenant, Job string
	Shard       int
}

// engine is what both need.
type engine struct {
	keeper *byok.Keeper
	source func(tenant string) byok.Source
}

func (e *engine) resealer(ctx context.Context, s shardOf) (*byok.Resealer, error) {
	return e.keeper.Tenant(s.Tenant).Resealer(ctx, s.Job, e.source(s.Tenant), nil)
}

// ResealActivity is an activity of Temporal, one execution for each shard. last is what activity.GetHeartbeatDetails returns, and heartbeat is
// activity.RecordHeartbeat. What it returns is tried again by the RetryPolicy, with the last heartbeat, without end:
// but for ErrJobCancelled, ErrJobNotFound and ErrArgument, for which temporal.NewNonRetryableApplicationError is made.
func (e *engine) ResealActivity(ctx context.Context, s shardOf, last string, heartbeat func(cursor string)) error {
	r, err := e.resealer(ctx, s)
	if err != nil {
		return err
	}
	if last == "" {
		if last, err = r.Cursor(ctx, s.Shard); err != nil {
			return err
		}
	}
	for kept := time.Now(); ; {
		next, done, err := r.Step(ctx, s.Shard, last)
		last = next
		heartbeat(last)
		if err != nil || done || time.Since(kept) > 2*time.Second {
			kept = time.Now()
			err = errors.Join(err, r.Checkpoint(context.WithoutCancel(ctx), s.Shard, last))
		}
		if err != nil {
			return errors.Join(err, r.Pause(context.WithoutCancel(ctx), s.Shard, err))
		}
		if done {
			return nil
		}
	}
}

// ResealMessage handles a message of SQS, one for each shard. It takes a minute at most: the queue's visibility timeout is two. The cursor is in the
// Store, since a message never changes. again is how long the message is to be invisible now (ChangeMessageVisibility); if done, or with
// ErrJobCancelled, ErrJobNotFound or ErrArgument, it is deleted. Messages come twice at times, which does no harm.
func (e *engine) ResealMessage(ctx context.Context, s shardOf) (done bool, again time.Duration, err error) {
	r, err := e.resealer(ctx, s)
	if err != nil {
		return false, time.Minute, err
	}
	cursor, err := r.Cursor(ctx, s.Shard)
	if err != nil {
		return false, time.Minute, err
	}
	for begun := time.Now(); err == nil && !done && time.Since(begun) < 30*time.Second; {
		cursor, done, err = r.Step(ctx, s.Shard, cursor)
	}
	if kerr := r.Checkpoint(context.WithoutCancel(ctx), s.Shard, cursor); kerr != nil {
		return false, time.Minute, errors.Join(err, kerr)
	}
	if err != nil {
		return false, time.Minute, errors.Join(err, r.Pause(context.WithoutCancel(ctx), s.Shard, err))
	}
	return done, 0, nil
}

// Both bring a job to its end, over a denial, in pieces, and with everything delivered twice at once.
func TestResealEngines(t *testing.T) {
	for name, work := range map[string]func(e *engine, ctx context.Context, s shardOf) error{
		"Temporal": func(e *engine, ctx context.Context, s shardOf) error {
			last := ""
			for { // as the RetryPolicy says
				err := e.ResealActivity(ctx, s, last, func(cursor string) { last = cursor })
				if err == nil || !errors.Is(err, byok.ErrKeyRevoked) {
					return err
				}
				time.Sleep(time.Second)
			}
		},
		"SQS": func(e *engine, ctx context.Context, s shardOf) error {
			for {
				done, again, err := e.ResealMessage(ctx, s)
				if done || err != nil && !errors.Is(err, byok.ErrKeyRevoked) {
					return err
				}
				time.Sleep(again)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, nil)
				acme, cmk := env.Tenant("acme")
				s := newTable()
				fill(t, env.Keeper, s, 0, 300)
				_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
				want(t, "Rotate", err, nil)
				job, _ := beginReseal(t, env.Keeper, s, byok.Resealing{Shards: []string{recordKey(150)}}, nil)
				cmk.Disable()
				time.AfterFunc(10*time.Minute, cmk.Enable)
				time.Sleep(6 * time.Minute) // no lease is left
				e := &engine{keeper: env.Keeper, source: func(string) byok.Source { return s }}
				ended := make(chan error)
				for i := range 4 {
					go func() { ended <- work(e, t.Context(), shardOf{Tenant: "acme", Job: job.ID, Shard: i % 2}) }()
				}
				for range 4 {
					want(t, "a shard", <-ended, nil)
				}
				job, err = acme.Job(t.Context(), job.ID)
				want(t, "Job", err, nil)
				if job.State != byok.JobDone || job.Done != 300 || job.Failed != 0 {
					t.Errorf("%+v", job)
				}
				for key, row := range s.rows {
					if row.writes != 1 {
						t.Errorf("%s was replaced %d times", key, row.writes)
					}
				}
				s.all(t, env.Keeper, nil)
			})
		})
	}
}
