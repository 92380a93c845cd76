package byok

import (
	"context"
	"sync"
	"time"

	"github.com/byok-go/byok/internal/budget"
)

// Nobody waits for a job, so it gets what live traffic leaves. Each of its KMS requests pays twice: out of
// the tenant's own budget, of which a job never takes the lower half; and out of one budget for all
// jobs of this process, so that many tenants' jobs together do not use up the quota of the platform's account.
// (A fleet makes as many times that as it has processes.)
const (
	jobBurst    = jobParallel
	jobPatience = 4 * time.Second // of one request; a job that gets none in that time is paused

	// KMS that throttles a job means the account as a whole: all jobs of this process become half as fast, once a second at
	// most, down to a 64th, and twice as fast again after each ten seconds without.
	jobSlower  = time.Second
	jobFaster  = 10 * time.Second
	jobSlowest = 6
)

// jobRate is how fast the jobs of a process may go.
type jobRate struct {
	mu     sync.Mutex
	bucket budget.Bucket
	every  time.Duration // between two requests, when KMS throttles nobody
	slow   int           // times that is doubled
	since  time.Duration // when that changed last
}

func (r *jobRate) init(perSecond int) {
	r.every = time.Second / time.Duration(perSecond)
	r.bucket = budget.Bucket{Every: r.every, Burst: jobBurst}
}

// take takes the next request that nobody has taken, and returns how long until it may be made.
func (r *jobRate) take(now time.Duration) (wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.slow > 0 && now-r.since >= jobFaster {
		r.slow, r.since = r.slow-1, r.since+jobFaster
	}
	r.bucket.Every = r.every << r.slow
	return r.bucket.Take(now, jobPatience)
}

// throttled takes that KMS throttles.
func (r *jobRate) throttled(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slow > 0 && now-r.since < jobSlower { // an answer to what was under way together
		return
	}
	r.slow, r.since = min(r.slow+1, jobSlowest), now
}

// background pays for a job's requests.
type background struct {
	rate *jobRate
	live *pool
}

type backgroundKey struct{}

// withBackground makes what is done with ctx pay as a job does.
func withBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

func inBackground(ctx context.Context) bool { return ctx.Value(backgroundKey{}) != nil }

func (t *tenantCache) background() *background { return &background{&t.k.jobs.rate, &t.budget.known} }

// pay waits until the job's next request may be made.
func (b *background) pay(ctx context.Context, c *caller) *KeyError {
	last := c.k.clock.Now().Mono + jobPatience
	for {
		now := c.k.clock.Now().Mono
		wait, ok := b.live.spare(now)
		if ok {
			break
		}
		if now+wait > last {
			return &KeyError{Op: "budget", Class: ClassThrottled, Key: c.key, RetryAfter: wait, Err: errOverBudget}
		}
		if !sleep(ctx, wait) {
			return b.live.gaveUp(ctx, c.key)
		}
	}
	wait, ok := b.rate.take(c.k.clock.Now().Mono)
	if !ok {
		return &KeyError{Op: "budget", Class: ClassThrottled, Key: c.key, RetryAfter: wait, Err: errOverBudget}
	}
	if wait > 0 && !sleep(ctx, wait) {
		return b.live.gaveUp(ctx, c.key)
	}
	return nil
}

// heard takes KMS's answer to a job. It reports whether live traffic should hear of it: a denial is one
// whoever asked, but that a job got no answer, or was throttled, is no reason to stop asking for
// operations that somebody waits for.
func (b *background) heard(ke *KeyError, now time.Duration) (tell bool) {
	if b == nil {
		return true
	}
	switch ke.Class {
	case ClassThrottled:
		b.rate.throttled(now)
		return false
	case ClassOutage, ClassPlatform:
		return false
	}
	return true
}
