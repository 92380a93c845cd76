package byok

import (
	"context"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// grant is the permission to use one data key once, and what the event of that
// use has to say.
type grant struct {
	e      *entry
	under  witness  // of the lease
	policy uint8    // that envelopes which carry e have
	quota  *quota   // what it may seal; nil for a data key that seals no more, or one message only
	from   wrapping // where an envelope carries the data key; else none
	inside bool     // per-operation: e is for one envelope, which carries it
	calls  []KMSCall
	lane   int        // of the operation
	seen   lease.Time // when use found that the result may leave; zero: it has not
}

// borrower asks for a data key, and works with it.
type borrower interface {
	find(ctx context.Context) (grant, error)
	user
}

// use lends b the data key that it finds. An entry that was evicted between the
// grant and the use is fetched anew.
func (t *tenantCache) use(ctx context.Context, b borrower) (g grant, err error) {
	for range 3 {
		if t.k.closed.Load() {
			return g, ErrClosed
		}
		if g, err = b.find(ctx); err != nil {
			return g, err
		}
		if err = g.e.dek.lend(b, g.lane); err != errWiped {
			break
		}
	}
	if g.calls != nil {
		g.e.dek.Wipe() // per-operation: used once
	}
	if err == errWiped {
		err = ErrKeyUnavailable
	}
	var rerr error
	if g.seen, rerr = t.stillAt(ctx, g); rerr != nil {
		err = rerr // whatever came out, a denial is the newer truth
	}
	return g, err
}

// still asks whether a result may leave. A lease that ended during the
// operation, with nobody refusing anything, is proved anew: an operation that began well
// shall not fail because the audit log was slow (I7).
func (t *tenantCache) still(ctx context.Context, g grant) error {
	_, err := t.stillAt(ctx, g)
	return err
}

// stillAt is still, and says when the answer was true.
func (t *tenantCache) stillAt(ctx context.Context, g grant) (lease.Time, error) {
	now, err := t.release(g.e, g.lane)
	if err != errLeaseEnded || g.inside {
		return now, err
	}
	id := g.e.id
	var e *entry
	if g.e.generation == 0 {
		e, err = t.loadInside(ctx, id.purpose, id.dataKey, g.from, OpLease)
	} else {
		e, err = t.loadStored(ctx, id.purpose, id.dataKey, OpLease)
	}
	if err != nil {
		return lease.Time{}, err
	}
	if id.key = e.id.key; e.id != id { // never; but that another CMK wraps it by now is no matter: it is the same data key
		return lease.Time{}, errLeaseEnded
	}
	return t.release(e, g.lane)
}

// header returns what stands before the payload, and the part of it that is bound.
func (g grant) header(tenant string) (header, core []byte, err error) {
	if !g.inside {
		return g.e.core, g.e.core, nil
	}
	return g.e.wrapped.headers(tenant, g.e.id.dataKey)
}

// grantSeal finds the data key that seals now, and uses up what one message of size
// bytes takes of its limits.
func (t *tenantCache) grantSeal(ctx context.Context, purpose string, size int64, lane int) (g grant, err error) {
	g, err = t.grantKey(ctx, purpose, size, lane)
	if len(t.k.platform) == 0 {
		return g, err
	}
	if err == ErrNotRegistered { // and no other error that is one
		if err = t.adopt(ctx); err == nil {
			g, err = t.grantKey(ctx, purpose, size, lane)
		}
	}
	if err == nil && g.inside {
		if err = t.noteCarried(ctx); err != nil {
			g.e.dek.Wipe()
		}
	}
	return g, err
}

// grantKey is grantSeal for a tenant that has a key.
func (t *tenantCache) grantKey(ctx context.Context, purpose string, size int64, lane int) (g grant, err error) {
	if t.k.perOperation {
		return t.sealAlone(ctx, purpose)
	}
	for range rollTries {
		if g, err = t.grantCurrent(ctx, purpose, lane); err != nil {
			return g, err
		}
		if g.quota == nil { // the generation moved on while it was loaded
			err = errSpent
			continue
		}
		if err = g.quota.charge(ctx, 1, size); err != errSpent {
			break
		}
	}
	return g, err
}

// rollTries bounds how many data keys in a row an operation finds used up. Each takes a
// whole generation, so a second one is a curiosity; but generations that pass while a data key of theirs is
// loaded, on a machine that is late, count too.
const rollTries = 32

// grantCurrent finds the data key that seals now.
func (t *tenantCache) grantCurrent(ctx context.Context, purpose string, lane int) (grant, error) {
	t.mu[lane].RLock()
	g, st, err := t.look(t.current[purpose])
	t.mu[lane].RUnlock()
	g.lane = lane
	if err == nil && st == lease.Expired {
		t.k.stats.misses.Add(1)
		g.e, err = t.loadCurrent(ctx, purpose)
		return t.loaded(g, err)
	}
	return t.served(ctx, g, st, err)
}

// grantOpen finds the data key that an envelope names.
func (t *tenantCache) grantOpen(ctx context.Context, purpose string, h *format.Header, lane int) (grant, error) {
	if t.k.perOperation {
		return t.openAlone(ctx, purpose, h)
	}
	return t.grantLeased(ctx, purpose, h, lane)
}

// grantLeased is grantOpen with a lease, whatever the mode.
func (t *tenantCache) grantLeased(ctx context.Context, purpose string, h *format.Header, lane int) (grant, error) {
	var inside wrapping
	if h.Policy != format.PolicyREF {
		inside = wrappingOf(h)
	}
	t.mu[lane].RLock()
	id := entryID{purpose: purpose, dataKey: h.DataKey, key: t.primary()}
	e := t.entries[id]
	if e == nil && !inside.none() {
		id.wrapped = inside.hash()
		e = t.entries[id]
	}
	g, st, err := t.look(e)
	t.mu[lane].RUnlock()
	g.from, g.lane = inside, lane
	if err != nil || st != lease.Expired {
		g, err = t.served(ctx, g, st, err)
	} else {
		t.k.stats.misses.Add(1)
		g.e, err = t.loadStored(ctx, purpose, h.DataKey, OpLease)
		if err == ErrNotFound && !inside.none() {
			// The Store has said that it does not know this data key. A Store that
			// fails says no such thing.
			g.e, err = t.loadInside(ctx, purpose, h.DataKey, inside, OpLease)
		}
		g, err = t.loaded(g, err)
	}
	// A data key is one of ANY or of ALL, whatever the cache or the Store has for its id (threat C6).
	if err == nil && !inside.none() && g.policy != inside.policy {
		err = ErrOpen
	}
	return g, err
}

// look judges what the cache has. The caller holds mu.
func (t *tenantCache) look(e *entry) (g grant, st lease.State, err error) {
	st = lease.Expired
	if e != nil {
		st = t.check(e)
	}
	if st == lease.Expired || st == lease.Denied {
		return grant{}, lease.Expired, t.mayAsk() // at once, whatever the Store would say; nil: a question to KMS is due
	}
	if st == lease.Refresh && t.flights[e.id.flight()] != nil {
		st = lease.Active // its renewal is under way
	}
	return grant{e: e, under: e.witness, policy: e.wrapped.said(), quota: e.quota}, st, nil
}

// served ends a hit, and sees to its renewal.
func (t *tenantCache) served(ctx context.Context, g grant, st lease.State, err error) (grant, error) {
	if err != nil {
		return g, err
	}
	t.mu[g.lane].hits.Add(1)
	if st == lease.Refresh && !inBackground(ctx) { // a job loads anew what nobody else uses, at its own cost
		t.renew(ctx, g.e, g.from)
	}
	return g, nil
}

// loaded ends a miss.
func (t *tenantCache) loaded(g grant, err error) (grant, error) {
	if err == nil {
		t.mu.RLock()
		g.under, g.policy, g.quota = g.e.witness, g.e.wrapped.said(), g.e.quota
		t.mu.RUnlock()
	}
	return g, err
}
