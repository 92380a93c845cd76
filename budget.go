package byok

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/byok-go/byok/internal/budget"
)

// The KMS requests of all tenants count against one quota, that of the platform's
// account. So each tenant has a budget in each process, in three parts that cannot
// starve each other (threat D9).
//
// Known pays for data keys that the Store knows, for making them, and for
// renewals: all that the platform itself asked for. Unknown pays for the first look at
// what an envelope carries: anybody can make such bytes, and only KMS can tell.
// Control pays for Register and Health, so that neither is refused because data is busy.
// Jobs get what known can spare; see jobbudget.go.
var (
	limitKnown   = poolLimit{perSecond: 200, atOnce: 50, patience: time.Second}
	limitUnknown = poolLimit{perSecond: 20, atOnce: 10}
	limitControl = poolLimit{perSecond: 80, atOnce: 20} // a move from 8 CMKs to 8 others makes 64
)

// poolLimit: perSecond is also the burst. A request that would go over the rate waits for
// its turn if that comes within patience: so a process that has just started reads at the
// rate what lies under a thousand data keys, and does not refuse what is nobody's fault.
type poolLimit struct {
	perSecond, atOnce int
	patience          time.Duration
}

// pool is one part of a tenant's budget. Retries count like first attempts.
type pool struct {
	mu       sync.Mutex
	bucket   budget.Bucket
	patience time.Duration
	slots    chan struct{} // holds one for each request under way
	warned   time.Duration // when an operator was told that it is nearly used
	refused  atomic.Uint64
}

func (p *pool) init(l poolLimit) {
	p.bucket = budget.Bucket{Every: time.Second / time.Duration(l.perSecond), Burst: l.perSecond}
	p.patience = l.patience
	p.slots = make(chan struct{}, l.atOnce)
}

// errOverBudget is the cause of an ErrThrottled that KMS has not said.
var errOverBudget = newError(nil, "the tenant's budget of KMS requests is used up")

// spend takes one request out of the budget, for the time that it returns and not before
// it, or refuses. A nil pool has no limit. The caller may hold a lock.
func (p *pool) spend(key KeyID, now time.Duration) (due time.Duration, ke *KeyError) {
	if p == nil {
		return now, nil
	}
	p.mu.Lock()
	wait, ok := p.bucket.Take(now, p.patience)
	p.mu.Unlock()
	if ok {
		return now + wait, nil
	}
	p.refused.Add(1)
	return 0, &KeyError{Op: "budget", Class: ClassThrottled, Key: key, RetryAfter: wait, Err: errOverBudget}
}

// spare takes one request for a job, if more than half of the burst is left. Else it returns how long until that may be so.
func (p *pool) spare(now time.Duration) (wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bucket.TakeSpare(now, p.bucket.Burst/2)
}

// used returns how much of the burst is used, 0 to 1.
func (p *pool) used(now time.Duration) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 1 - float64(p.bucket.Left(now))/float64(max(1, p.bucket.Burst))
}

// nearly reports whether most of the burst is used, at most once in nearlyPause.
func (p *pool) nearly(now time.Duration) (used float64, tell bool) {
	if p == nil {
		return 0, false
	}
	if used = p.used(now); used < nearlyUsed {
		return used, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.warned != 0 && now-p.warned < nearlyPause {
		return used, false
	}
	p.warned = max(now, 1)
	return used, true
}

// When an operator is told of a budget, and how often.
const (
	nearlyUsed  = 0.8
	nearlyPause = time.Minute
)

// await returns at the time due, or when ctx is done.
func (p *pool) await(ctx context.Context, key KeyID, due, now time.Duration) *KeyError {
	if due <= now {
		return nil
	}
	timer := time.NewTimer(due - now)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return p.gaveUp(ctx, key)
	}
}

func (p *pool) gaveUp(ctx context.Context, key KeyID) *KeyError {
	p.refused.Add(1)
	return &KeyError{Op: "budget", Class: ClassThrottled, Key: key, Err: &hiddenCause{errOverBudget, ctx.Err()}}
}

// enter waits for one of the requests that may be under way at once, as long as ctx
// lasts. leave gives it back.
func (p *pool) enter(ctx context.Context, key KeyID) *KeyError {
	if p == nil {
		return nil
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return p.gaveUp(ctx, key)
	}
}

func (p *pool) leave() {
	if p != nil {
		<-p.slots
	}
}

// tenantBudget is all of one tenant's budget in this process.
type tenantBudget struct{ known, unknown, control pool }

func (b *tenantBudget) init(perOperation bool) {
	b.known.init(limitKnown)
	b.control.init(limitControl)
	if perOperation { // here every envelope carries its data key
		b.unknown.init(limitKnown)
	} else {
		b.unknown.init(limitUnknown)
	}
}
