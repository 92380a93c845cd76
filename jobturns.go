package byok

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// How a process shares itself among jobs.
const (
	jobsAtOnce = 4               // each of another tenant
	jobTurn    = time.Second     // then it is another one's turn; a step that has begun is ended
	jobScan    = 5 * time.Second // between two looks for jobs, with jitter; one that begins here is seen at once
)

// jobTurns says which tenants' jobs somebody of this process is at.
type jobTurns struct {
	rate jobRate
	mu   sync.Mutex
	busy map[string]bool
	wake chan struct{} // there is a new one
}

func (w *jobTurns) init(perSecond int) {
	w.busy, w.wake = make(map[string]bool), make(chan struct{}, 1)
	w.rate.init(perSecond)
}

func (w *jobTurns) take(tenant string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[tenant] {
		return false
	}
	w.busy[tenant] = true
	return true
}

func (w *jobTurns) give(tenant string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, tenant)
}

func (w *jobTurns) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// openJob is a job on the list.
type openJob struct{ tenant, id string }

// jobQueue says whose turn it is. A job that could go on stands behind all others after each turn, so one of very
// many data keys holds up nobody. It belongs to one goroutine.
type jobQueue struct {
	waiting []openJob
	known   map[openJob]bool          // that wait, or have their turn
	rest    map[openJob]time.Duration // when one may be looked at again, on the monotonic clock
}

func (q *jobQueue) put(j openJob) { q.waiting, q.known[j] = append(q.waiting, j), true }

func (q *jobQueue) take() openJob {
	j := q.waiting[0]
	q.waiting = q.waiting[1:]
	return j
}

// found puts what is listed and neither known nor resting into the queue, and forgets the rest of what is not listed any more.
func (q *jobQueue) found(listed []openJob, now time.Duration) {
	rest := make(map[openJob]time.Duration)
	for _, j := range listed {
		if until := q.rest[j]; until > now {
			rest[j] = until
		} else if !q.known[j] {
			q.put(j)
		}
	}
	q.rest = rest
}

// turnOver is the end of a turn. more: the job could go on; else not before rest has passed.
type turnOver struct {
	job  openJob
	more bool
	rest time.Duration
}

// ended takes the end of a turn.
func (q *jobQueue) ended(o turnOver, now time.Duration) {
	delete(q.known, o.job)
	if o.more {
		q.put(o.job)
	} else if o.rest > 0 {
		q.rest[o.job] = now + o.rest
	}
}

// runJobs works at the jobs of all tenants, until ctx is done.
func (k *Keeper) runJobs(ctx context.Context) {
	q := jobQueue{known: make(map[openJob]bool), rest: make(map[openJob]time.Duration)}
	over, working := make(chan turnOver, jobsAtOnce), 0
	defer func() {
		for ; working > 0; working-- {
			<-over
		}
	}()
	look := time.NewTimer(0)
	defer look.Stop()
	for ctx.Err() == nil {
		for ; working < jobsAtOnce && len(q.waiting) > 0; working++ {
			j := q.take()
			go func() { over <- k.turn(ctx, j) }()
		}
		select {
		case o := <-over:
			working--
			q.ended(o, k.clock.Now().Mono)
			continue
		case <-k.jobs.wake: // also of one that rests
			clear(q.rest)
		case <-look.C:
			look.Reset(jobScan - jobScan/10 + rand.N(jobScan/5))
		case <-ctx.Done():
			return
		}
		listed, err := k.openJobs(ctx)
		if err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "byok: the jobs could not be listed", "error", err.Error())
		}
		if listed != nil || err == nil {
			q.found(listed, k.clock.Now().Mono)
		}
	}
}

// turn works at one job until its turn is over, it has ended or is paused, or somebody else is at it.
func (k *Keeper) turn(ctx context.Context, o openJob) turnOver {
	t, end := k.Tenant(o.tenant), k.clock.Now().Mono+jobTurn
	rest, err := t.rest(ctx, o.id)
	if err != nil && ctx.Err() == nil {
		k.log.WarnContext(ctx, "byok: a job cannot be read", "tenant", o.tenant, "job", o.id, "error", err.Error())
	}
	if err != nil || rest > 0 { // at most, since another process may be told to go on with it
		return turnOver{job: o, rest: min(rest, jobPauseMax)}
	}
	for {
		job, err := t.stepJob(ctx, o.id)
		switch {
		case err == errJobHeld: // whoever it is may die, and has the job until its lease ends
			return turnOver{job: o, rest: jobLease/4 + rand.N(jobLease/4)}
		case err == errNotGiven: // it is for others
			return turnOver{job: o, rest: jobLease}
		case ctx.Err() != nil || job.State.Ended():
			return turnOver{job: o}
		case err != nil:
			if !errors.Is(err, ErrKeyRevoked) && !errors.Is(err, ErrKeyUnavailable) && !errors.Is(err, ErrWaiverRequired) && err != errAnyAlone { // which have events of their own
				k.log.WarnContext(ctx, "byok: a job is paused", "tenant", o.tenant, "job", o.id, "error", err.Error())
			}
			return turnOver{job: o}
		case k.clock.Now().Mono >= end:
			return turnOver{job: o, more: true}
		}
	}
}

// rest returns how long a job that is paused is to be left alone. A clock that was far ahead when it was paused does not
// count: no pause is longer than jobRepair.
func (t *Tenant) rest(ctx context.Context, id string) (time.Duration, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	j, err := c.readJob(ctx, id)
	if err != nil || j.State.Ended() {
		return 0, err
	}
	d := j.NotBefore.Sub(c.k.clock.Now().Wall)
	if d > jobRepair {
		d = 0
	}
	return max(0, d), nil
}
