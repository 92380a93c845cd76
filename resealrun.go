package byok

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// How Run works.
const (
	shardLease   = 30 * time.Second       // how long a worker that falls silent keeps others from its shard
	shardPersist = 500 * time.Millisecond // between two checkpoints: as much is looked at again after a crash
	shardIdle    = time.Second            // between two looks for a shard that is free
)

// Cursor returns the newest checkpoint of a shard, for Step; "" is the beginning. The error is as of Checkpoint.
func (r *Resealer) Cursor(ctx context.Context, shard int) (string, error) {
	ctx, t, leave, err := r.t.open(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	j, err := t.readReseal(ctx, r.id)
	if err != nil {
		return "", err
	}
	if shard < 0 || shard >= j.Reseal.Shards {
		return "", fmt.Errorf("%w: the job has shards 0 to %d", ErrArgument, j.Reseal.Shards-1)
	}
	s, err := t.readShard(ctx, j, shard)
	return string(s.Cursor), err
}

// Checkpoint keeps in the Store how far a shard is, so that Tenant.Job tells of it, and ends the job with the last
// shard that is done. A cursor that is behind what the Store has changes nothing. It is for engines that call Step; Run does it by itself.
//
// The error is ErrArgument for what is no cursor, ErrJobNotFound, ErrStore, ErrAudit or ErrClosed.
func (r *Resealer) Checkpoint(ctx context.Context, shard int, cursor string) error {
	ctx, t, leave, err := r.t.open(ctx)
	if err != nil {
		return err
	}
	defer leave()
	j, err := t.readReseal(ctx, r.id)
	if err != nil {
		return err
	}
	if shard < 0 || shard >= j.Reseal.Shards {
		return fmt.Errorf("%w: the job has shards 0 to %d", ErrArgument, j.Reseal.Shards-1)
	}
	c, err := parseCursor(cursor, r.id, shard)
	if err != nil {
		return err
	}
	for try := range changeTries {
		if try > 0 {
			pause(ctx, try)
		}
		s, err := t.readShard(ctx, j, shard)
		if err != nil {
			return err
		}
		if s.advance(&c, t.k.clock.Now().Wall.UTC()) {
			err = t.writeShard(ctx, j, shard, s)
		}
		switch {
		case err == ErrConflict:
			continue
		case err == nil && c.Done:
			_, _, err = t.finishReseal(ctx, r.id)
		}
		return err
	}
	return fmt.Errorf("%w: the shard is being changed all the time", ErrStore)
}

// Run works at the job until it has ended, and returns nil, or ErrRecordsFailed if there are records that could not be re-sealed. It shares
// the shards with all who Run the same job, in this process and others, and takes over those of one that died half a minute after it fell
// silent. What stops it, a denial, an outage, an error of the Source or the Store, makes it wait, a minute at most, and
// try again: it goes on by itself.
//
// When ctx is done it returns ctx's error, and the job stays where it is: whoever Runs it next goes on. Other errors are ErrJobCancelled,
// ErrJobNotFound, ErrArgument and ErrClosed.
func (r *Resealer) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), 4)
	results := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			err := r.work(ctx, r.t.k.ids.next(r.t.k.clock.Now().Wall))
			if err != nil && !errors.Is(err, ErrRecordsFailed) {
				stop(err)
			}
			results <- err
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return <-results // all have found that the job has ended
}

// ends reports whether err is one that waiting does not help against.
func (r *Resealer) ends(err error) bool {
	for _, end := range []error{ErrJobCancelled, ErrJobNotFound, ErrArgument, ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// work is one worker of Run.
func (r *Resealer) work(ctx context.Context, me string) error {
	for n := 0; ; {
		shard, s, job, err := r.claim(ctx, me)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && job.State == JobDone:
			if job.Failed > 0 {
				return ErrRecordsFailed
			}
			return nil
		case err == nil && s != nil:
			err, n = r.workAt(ctx, me, shard, s), 0
			if err == nil {
				continue
			}
			if err == errJobHeld { // let whoever it is go on: whose clock is behind would take it back for ever
				err = nil
			}
		}
		if err != nil && r.ends(err) {
			return err
		}
		d := shardIdle
		if err != nil {
			d = min(jobPause<<min(n, 10), jobPauseMax)
			n++
			if ctx.Err() == nil {
				r.t.k.log.WarnContext(ctx, "byok: a re-sealing waits", "tenant", r.t.id, "job", r.id, "error", err.Error())
			}
		}
		if !sleep(ctx, d/2+rand.N(d/2)) {
			return context.Cause(ctx)
		}
	}
}

// claim makes a shard this worker's, if one is free, and ends the job if none is left.
func (r *Resealer) claim(ctx context.Context, me string) (n int, s *shardItem, job Job, err error) {
	ctx, t, leave, err := r.t.open(ctx)
	if err != nil {
		return 0, nil, Job{}, err
	}
	defer leave()
	j, err := t.readReseal(ctx, r.id)
	if err != nil {
		return 0, nil, Job{}, err
	}
	if j.State == JobCancelled {
		return 0, nil, Job{}, ErrJobCancelled
	}
	shards, err := t.shards(ctx, j)
	if err != nil {
		return 0, nil, Job{}, err
	}
	now, left := t.k.clock.Now().Wall.UTC(), false
	begin := rand.N(len(shards))
	for i := range shards {
		n := (begin + i) % len(shards)
		s := shards[n]
		if s.at.Done {
			continue
		}
		left = true
		if !s.free(now) {
			continue
		}
		s.Owner, s.LeaseUntil = me, now.Add(shardLease)
		err := t.writeShard(ctx, j, n, s)
		if err == nil {
			return n, s, Job{}, nil
		}
		if err != ErrConflict {
			return 0, nil, Job{}, err
		}
	}
	if !left {
		job, _, err = t.finishReseal(ctx, r.id)
	}
	return 0, nil, job, err
}

// free reports whether nobody is at the shard, and it need not rest. Clocks that were far ahead do not count.
func (s *shardItem) free(now time.Time) bool {
	held, rest := s.LeaseUntil.Sub(now), s.NotBefore.Sub(now)
	return (s.Owner == "" || held <= 0 || held > shardLease) && (rest <= 0 || rest > jobPauseMax)
}

// workAt works at a shard until it is done, something stops it, or somebody else has it. It returns what stopped it.
func (r *Resealer) workAt(ctx context.Context, me string, shard int, s *shardItem) error {
	cursor := string(s.Cursor)
	last := r.t.k.clock.Now().Mono
	for {
		next, done, err := r.Step(ctx, shard, cursor)
		cursor = next
		if err == nil && !done && r.t.k.clock.Now().Mono-last < shardPersist {
			continue
		}
		last = r.t.k.clock.Now().Mono
		// What was done is kept although ctx may have ended.
		kept, kerr := r.keep(context.WithoutCancel(ctx), shard, s, cursor, err, ctx.Err() != nil)
		switch {
		case err != nil:
			return err
		case kerr != nil:
			return kerr
		case done || !kept:
			return nil
		}
	}
}

// keep writes how far this worker's shard is, and why it does not go on if it does not. kept: it is this worker's still, or is done.
// The error is errJobHeld if somebody else has taken it.
func (r *Resealer) keep(ctx context.Context, shard int, s *shardItem, cursor string, why error, leaves bool) (kept bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	ctx, t, leave, err := r.t.open(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	j, err := t.readReseal(ctx, r.id)
	if err != nil {
		return false, err
	}
	c, err := parseCursor(cursor, r.id, shard)
	if err != nil {
		return false, err
	}
	now := t.k.clock.Now().Wall.UTC()
	s.advance(&c, now)
	s.LeaseUntil = now.Add(shardLease)
	// Until the pass that proves may begin there is time for other shards.
	wait := c.waits(j.Reseal.Settled, now)
	first := false
	switch {
	case c.Done, leaves:
		s.Owner, s.LeaseUntil = "", time.Time{}
	case why != nil:
		first = s.pause(now, why)
	case wait > 0:
		s.Owner, s.LeaseUntil, s.NotBefore = "", time.Time{}, now.Add(min(wait, jobPauseMax))
	}
	if err := t.writeShard(ctx, j, shard, s); err != nil {
		if err == ErrConflict { // its lease had ended, and somebody else is at it. What this one did counts
			return false, errJobHeld
		}
		return false, err
	}
	if first {
		t.notePause(ctx, j, shard, why)
	}
	if c.Done {
		_, _, err = t.finishReseal(ctx, r.id)
	}
	return wait == 0, err
}
