package byok

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
)

// A load fetches one data key into the cache, asking the Store and then KMS. All
// operations that need it at once share one load (a flight), which belongs to
// none of them: it goes on when the one that began it gives up, and leaves its
// own event, so that a KMS call stands in exactly one.

// flightID says what a load is of.
type flightID struct {
	current bool // whatever data key seals now; else the one named, whoever named it
	purpose string
	dataKey DataKeyID
	wrapped [sha512.Size384]byte
	jobs    bool // it pays as a job does, so that nobody else waits for it
}

func (id entryID) flight() flightID {
	return flightID{false, id.purpose, id.dataKey, id.wrapped, false}
}

// flight is a load under way; e and err are final once done is closed.
type flight struct {
	done  chan struct{}
	e     *entry
	err   error
	stale bool // leases were dropped meanwhile: what it brings counts for nothing. Guarded by the tenantCache's lock
}

// fly joins the flight id, or begins it with f, and waits for its end or ctx's.
func (t *tenantCache) fly(ctx context.Context, id flightID, op Op, f func(context.Context) (*entry, error)) (*entry, error) {
	id.jobs = inBackground(ctx)
	fl, err := t.takeoff(ctx, id, op, f)
	if err != nil {
		return nil, err
	}
	select {
	case <-fl.done:
		return fl.e, fl.err
	case <-ctx.Done():
		return nil, &hiddenCause{ErrKeyUnavailable, ctx.Err()}
	}
}

// takeoff begins the flight id, unless it is under way.
func (t *tenantCache) takeoff(ctx context.Context, id flightID, op Op, f func(context.Context) (*entry, error)) (*flight, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fl := t.flights[id]; fl != nil {
		return fl, nil
	}
	if !t.k.enter() {
		return nil, ErrClosed
	}
	fl := &flight{done: make(chan struct{}), err: fmt.Errorf("%w: a load ended early", ErrInternal)}
	t.flights[id] = fl
	go func() {
		defer t.k.leave()
		// Last: it waits for whoever uses a data key whose lease has ended, of another tenant perhaps.
		defer t.k.sweep()
		defer func() { // also if a Store panics: then the process ends, and nobody hangs on the way
			t.mu.Lock()
			delete(t.flights, id)
			stale := fl.stale && fl.e != nil
			if stale {
				t.drop(fl.e)
			}
			t.mu.Unlock()
			if stale { // whoever waits finds it wiped, and loads it anew
				t.k.wipe([]*entry{fl.e})
			}
			close(fl.done)
		}()
		ctx, cancel := t.k.detach(ctx, kmsDeadline)
		defer cancel()
		fl.e, fl.err = f(ctx)
		switch {
		case op != OpRenew:
		case fl.err == nil:
			t.k.stats.renewals.Add(1)
		default:
			t.k.stats.failedRenewals.Add(1)
			t.calm(fl.err)
		}
	}()
	return fl, nil
}

// calm makes renewals wait after one that failed; other loads that fail, of junk for
// one, say nothing about them. What KMS did not answer has made them wait already.
func (t *tenantCache) calm(err error) {
	if errors.Is(err, ErrKeyUnavailable) && !errors.Is(err, errOverBudget) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.keys {
		a.lease.Stall(t.k.clock.Now())
	}
}
