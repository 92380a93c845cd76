package byok

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/byok-go/byok/internal/lease"
)

// access is what this process knows of its access to one CMK for one tenant.
// All but the constant fields is guarded by the tenantCache's lock.
type access struct {
	t   *tenantCache
	key KeyID

	lease lease.Key
	seen  Access
	last  *KeyError  // newest refusal; nil after a success
	good  lease.Call // that succeeded last
	facts accessFacts
}

// accessFacts are for people: nothing depends on them.
type accessFacts struct {
	since    time.Time // of access.seen
	proof    time.Time // when the newest GenerateDataKey or Decrypt that succeeded was issued
	request  string    // its KMS request id
	deletion deletion
}

// sees takes what was seen. The caller holds mu.
func (a *access) sees(seen Access, last *KeyError) {
	if a.seen != seen {
		a.facts.since = a.t.k.clock.Now().Wall.UTC()
	}
	a.seen, a.last = seen, last
}

func (a *access) begin(op lease.Ops) lease.Call {
	if a == nil {
		return lease.Call{}
	}
	a.t.mu.RLock()
	defer a.t.mu.RUnlock()
	return a.lease.Begin(op, a.t.k.clock.Now())
}

// broken reports whether the breaker is open: further attempts are for later.
func (a *access) broken() bool {
	if a == nil {
		return false
	}
	a.t.mu.RLock()
	defer a.t.mu.RUnlock()
	return a.lease.Broken()
}

// succeeded takes the success of a call.
func (a *access) succeeded(ctx context.Context, c lease.Call, request string) {
	if a == nil {
		return
	}
	t := a.t
	t.mu.Lock()
	old, was := t.status(), a.lease.Denied()
	counts := a.lease.Succeed(c)
	a.good = c
	if counts && !a.lease.Denied() {
		a.sees(AccessAccessible, nil)
		t.hinted, a.facts.deletion.at = lease.Time{}, time.Time{} // a CMK that works is not about to be deleted
	}
	if at, ok := c.Proves(); counts && ok && at.Wall.After(a.facts.proof) {
		a.facts.proof, a.facts.request = at.Wall.UTC(), request
	}
	restored := was && !a.lease.Denied()
	now := t.status()
	t.mu.Unlock()
	if restored {
		t.k.note(ctx, Event{Op: OpRestore, Outcome: OutcomeSuccess, Scope: Scope{Tenant: t.tenant}, Key: a.key, Proof: request})
	}
	t.k.changed(old, now)
}

// refused takes a refusal. A denial purges every data key of the tenant, before anybody can
// see the new state: each of its keys can stop it.
func (a *access) refused(ctx context.Context, c lease.Call, ke *KeyError) {
	if a == nil {
		return
	}
	t := a.t
	var purged []*entry
	var delay time.Duration
	t.mu.Lock()
	old, first, hinted := t.status(), false, false
	switch ke.Class {
	case ClassDenied, ClassPlatformDenied:
		first, hinted = !a.lease.Denied(), t.oldNews(t.k.clock.Now())
		if t.hinted = (lease.Time{}); first {
			t.hints = hintSteps{} // whoever said so was right
		}
		delay = a.unseen(t.k.clock.Now())
		a.lease.Deny(c, t.k.clock.Now())
		if ke.Class == ClassPlatformDenied {
			a.sees(AccessDegraded, ke)
		} else {
			a.sees(AccessBlocked, ke)
		}
		if slices.Contains(t.keys, a) {
			t.epoch++
			purged = t.purge(func(*entry) bool { return true })
		}
	case ClassOutage, ClassThrottled, ClassPlatform:
		if at := t.k.clock.Now(); hungUp(ctx, c.Age(at)) {
			break
		}
		a.lease.Fail(c, t.k.clock.Now(), rand.Float64())
		if !a.lease.Denied() {
			a.sees(AccessDegraded, ke)
		}
	case ClassBlob:
		// About one wrapped key only (I9). But KMS looks at a blob only after it has let
		// us in, and has answered: neither is a reason to wait with the next question.
		if a.lease.Wait(t.k.clock.Now()) > 0 {
			a.lease.Hint(t.k.clock.Now())
		}
	}
	now := t.status()
	t.mu.Unlock()
	t.k.wipe(purged)
	if first && !hinted { // else the others know: it is they who told
		t.k.publish(t.tenant, kindHint)
	}
	if first {
		t.k.stats.denial(delay)
		t.k.note(ctx, Event{Op: OpDeny, Outcome: OutcomeDenied, Class: ke.Class, Code: Code(ke),
			Scope: Scope{Tenant: t.tenant}, Key: a.key, Proof: ke.RequestID})
	}
	t.k.changed(old, now)
}

// kmsPatience is how long a KMS may take before it is its fault that a caller left.
const kmsPatience = time.Second

// unseen is how long ago KMS let us in last, and 0 if it never has.
func (a *access) unseen(now lease.Time) time.Duration {
	if a.good == (lease.Call{}) {
		return 0
	}
	return a.good.Age(now)
}

// hungUp reports whether a call got no answer because its caller left, and not
// because KMS did not answer: impatient callers must not open the breaker for others.
func hungUp(ctx context.Context, took time.Duration) bool {
	return errors.Is(ctx.Err(), context.Canceled) || ctx.Err() != nil && took < kmsPatience
}

// verdict is what no answer means: that, unless the newest answer there was is
// a denial. Then it still stands (I6).
func (a *access) verdict(unanswered *KeyError) error {
	if a == nil {
		return unanswered
	}
	a.t.mu.RLock()
	defer a.t.mu.RUnlock()
	if a.lease.Denied() {
		return a.denial()
	}
	return unanswered
}

// denial is why a denied key refuses, and ErrKeyUnavailable for one that is not
// denied: no lease. The caller holds mu.
func (a *access) denial() error {
	if a == nil || a.last == nil {
		return ErrKeyUnavailable
	}
	return a.last
}

// wait returns why KMS is not asked now: it denied us, or it has not answered for a
// while (the breaker is open), and the back-off has not passed. Nil: it may be. The caller
// holds mu.
func (a *access) wait() error {
	if a == nil {
		return nil
	}
	wait := a.lease.Wait(a.t.k.clock.Now())
	if wait <= 0 {
		return nil
	}
	if a.lease.Denied() || a.last == nil {
		return a.denial()
	}
	ke := *a.last
	ke.RetryAfter = wait
	return &ke
}

// release is the last question before a result leaves: is the lease that e had
// still good? It returns when it was, or why it is not; errLeaseEnded can be helped, see still.
func (t *tenantCache) release(e *entry, lane int) (now lease.Time, err error) {
	if t.k.closed.Load() {
		return now, ErrClosed
	}
	t.mu[lane].RLock()
	defer t.mu[lane].RUnlock()
	if err := t.refusal(); err != nil {
		return now, err
	}
	now = t.k.clock.Now()
	switch t.checkAt(e, now) {
	case lease.Active, lease.Refresh:
		return now, nil
	}
	return lease.Time{}, errLeaseEnded // refusal has told a denial
}

// errLeaseEnded: nobody refuses, but the proof is too old by now.
var errLeaseEnded = newError(ErrKeyUnavailable, "the lease ended meanwhile")

// refusal is what the newest state and access say against serving anything, by
// themselves. The caller holds mu.
func (t *tenantCache) refusal() error {
	if err := t.k.fleet.refusal(); err != nil {
		return err
	}
	if err := t.state.usable(t.k); err != nil {
		return err
	}
	for _, a := range t.keys {
		if a.lease.Denied() {
			return a.denial()
		}
	}
	return nil
}
