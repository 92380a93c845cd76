package byok

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Pause says in the Store that a shard does not go on for now, and why, so that Tenant.Job tells of it. A Checkpoint that is
// further ends that. It is for engines that call Step and have to wait, for what a Step returned; Run does it by itself. Of a shard that is
// done, or a job that has ended, it says nothing.
//
// The error is ErrArgument, ErrJobNotFound, ErrStore or ErrClosed.
func (r *Resealer) Pause(ctx context.Context, shard int, why error) error {
	ctx, t, leave, err := r.t.open(ctx)
	if err != nil {
		return err
	}
	defer leave()
	j, err := t.readReseal(ctx, r.id)
	if err != nil {
		return err
	}
	if why == nil || shard < 0 || shard >= j.Reseal.Shards {
		return fmt.Errorf("%w: a reason, and a shard from 0 to %d", ErrArgument, j.Reseal.Shards-1)
	}
	if j.State.Ended() {
		return nil
	}
	for try := range changeTries {
		if try > 0 {
			pause(ctx, try)
		}
		s, err := t.readShard(ctx, j, shard)
		if err != nil || s.at.Done {
			return err
		}
		first := s.pause(t.k.clock.Now().Wall.UTC(), why)
		switch err = t.writeShard(ctx, j, shard, s); {
		case err == ErrConflict:
			continue
		case err == nil && first:
			t.notePause(ctx, j, shard, why)
		}
		return err
	}
	return fmt.Errorf("%w: the shard is being changed all the time", ErrStore)
}

// pause keeps others from the shard for a while, longer each time. first: it was not paused.
func (s *shardItem) pause(now time.Time, why error) (first bool) {
	first = s.Why == ""
	d := min(jobPause<<min(max(s.Pauses, 0), 10), jobPauseMax)
	s.Owner, s.LeaseUntil = "", time.Time{}
	s.Why, s.Pauses, s.NotBefore = Code(why), s.Pauses+1, now.Add(d/2+rand.N(d/2))
	return first
}

// notePause is the event of the first pause in a row.
func (t *tenantCache) notePause(ctx context.Context, j *jobItem, shard int, why error) {
	e := Event{Op: OpJob, Scope: Scope{Tenant: t.tenant}, Key: j.To.Key, Actor: j.Actor, Reason: fmt.Sprintf("%s %s, shard %d, is paused", JobReseal, j.id, shard)}
	e.fail(why)
	t.k.note(ctx, e)
}
