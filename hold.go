package byok

import (
	"context"
	"errors"
	"fmt"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// A hold is the right to use one data key again and again, for an operation that
// runs for minutes. Each step proves access as an operation of its own would: within a
// lease by the lease, which is renewed ahead of its end, and otherwise by asking
// the Store and KMS. So it stops at a denial, a suspension or Close within one step, and
// when access cannot be proved for MaxAge (I8).
//
// Between steps it holds nothing: no data key, no lock, and nothing that Close waits
// for. A denial that wipes the data key waits for one step at most, so a step must be
// short, and whatever it derives from the data key ends with the hold.
//
// The first error ends it. Steps may be made at once: turn is of whoever reads or changes what they
// share, but not while it has the data key.
type hold struct {
	t     *tenantCache
	turn  chan struct{} // holds one; not a mutex, since it is held across I/O
	event Event
	g     grant    // newest
	id    entryID  // of the data key, which stays the same
	from  wrapping // where an envelope carries it; else none
	seals bool
	bytes int64 // sealed, where no quota counts them: with a data key that is for this operation only
	err   error

	recorded bool // event is the outcome, and has been delivered
	withheld bool // so has the event that takes a success back
	ended    bool
}

func newHold(t *tenantCache, e Event) *hold {
	return &hold{t: t, turn: make(chan struct{}, 1), event: e}
}

func (h *hold) lock()   { h.turn <- struct{}{} }
func (h *hold) unlock() { <-h.turn }

// holdSeal begins a long Seal, under the data key that seals now. It counts as one
// message; its steps count the bytes.
func (t *tenantCache) holdSeal(ctx context.Context, purpose string) (*hold, error) {
	h := newHold(t, Event{Op: OpSeal, Scope: Scope{t.tenant, purpose}})
	h.seals = true
	return h.begin(ctx, func() (grant, error) { return t.grantSeal(ctx, purpose, 0, 0) })
}

// holdOpen begins a long Open of an envelope with header f.
func (t *tenantCache) holdOpen(ctx context.Context, purpose string, f *format.Header) (*hold, error) {
	h := newHold(t, Event{Op: OpOpen, Scope: Scope{t.tenant, purpose}, DataKey: f.DataKey})
	return h.begin(ctx, func() (g grant, err error) {
		if t.k.perOperation { // asked as it begins, whatever the lease of another one says; then leased for as long as it runs
			if g, err = t.openAlone(ctx, purpose, f); err != nil {
				return g, err
			}
			g.e.dek.Wipe()
		}
		calls := g.calls
		g, err = t.grantLeased(ctx, purpose, f, 0)
		g.calls = calls
		return g, err
	})
}

func (h *hold) begin(ctx context.Context, get func() (grant, error)) (*hold, error) {
	if !h.t.k.enter() {
		return nil, ErrClosed
	}
	defer h.t.k.leave()
	g, err := get()
	if h.g = g; err != nil {
		return nil, h.end(ctx, err)
	}
	h.id, h.from = g.e.id, g.from
	if g.inside { // made for one envelope: from here on it is leased like any that an envelope carries
		g.e.dek.Wipe()
		h.from = g.e.wrapped
		h.id.wrapped = h.from.hash()
	}
	return h, nil
}

// step lends the data key to u, which works on size bytes, and then asks whether what came of
// it may be released. If step fails, nothing may be. u is called anew if the data key was evicted meanwhile.
func (h *hold) step(ctx context.Context, size int64, u user) error {
	quota, err := h.usable()
	if err == nil && h.seals && quota == nil {
		err = h.count(ctx, size)
	}
	if err != nil {
		return err
	}
	if !h.t.k.enter() {
		return h.fail(ctx, ErrClosed)
	}
	defer h.t.k.leave()
	if h.seals && quota != nil {
		if err := quota.charge(ctx, 0, size); err != nil {
			return h.fail(ctx, err)
		}
	}
	if err := h.lend(ctx, u); err != nil {
		return h.fail(ctx, err)
	}
	return nil
}

// usable is why no step can be made any more, or what the next one uses up.
func (h *hold) usable() (*quota, error) {
	h.lock()
	defer h.unlock()
	if h.err != nil {
		return nil, h.err
	}
	if h.ended {
		return nil, ErrClosed
	}
	return h.g.quota, nil
}

// count is the limit of a data key that seals this operation only.
func (h *hold) count(ctx context.Context, size int64) error {
	h.lock()
	defer h.unlock()
	if h.bytes += size; h.bytes > h.t.k.limits.bytes {
		return h.failLocked(ctx, errSpent)
	}
	return nil
}

// failed reports whether a step has.
func (h *hold) failed() bool {
	h.lock()
	defer h.unlock()
	return h.err != nil
}

// lend is one step, with a data key that is found anew.
func (h *hold) lend(ctx context.Context, u user) error {
	var g grant
	err := error(errWiped)
	for try := 0; try < 3 && err == errWiped; try++ {
		if h.t.k.closed.Load() {
			return ErrClosed
		}
		var gerr error
		if g, gerr = h.renewed(ctx); gerr != nil {
			return gerr
		}
		err = g.e.dek.lend(u, g.lane)
	}
	if err == errWiped {
		err = ErrKeyUnavailable
	}
	if rerr := h.t.still(ctx, g); rerr != nil {
		err = rerr // whatever came out, a denial is the newer truth
	}
	return err
}

// renewed is again, and remembers what it found.
func (h *hold) renewed(ctx context.Context) (grant, error) {
	h.lock()
	defer h.unlock()
	g, err := h.again(ctx)
	if g.e != nil {
		g.calls, g.quota = h.g.calls, h.g.quota // what began it
		h.g = g
	}
	return g, err
}

// still asks whether what came of an earlier step may leave now. That the next step has
// failed for a reason of its own, a segment that is not authentic, say, does not matter.
func (h *hold) still(ctx context.Context) error {
	h.lock()
	defer h.unlock()
	return h.stillLocked(ctx)
}

func (h *hold) stillLocked(ctx context.Context) error {
	if err := h.t.still(ctx, h.g); err != nil {
		return h.failLocked(ctx, err)
	}
	return nil
}

// again finds the data key anew, as grantLeased does. The caller has the turn.
func (h *hold) again(ctx context.Context) (grant, error) {
	t := h.t
	t.mu.RLock()
	g, st, err := t.look(t.entries[h.id])
	t.mu.RUnlock()
	g.from = h.from
	if err != nil || st != lease.Expired {
		return t.served(ctx, g, st, err)
	}
	t.k.stats.misses.Add(1)
	if h.id.wrapped == (entryID{}).wrapped {
		g.e, err = t.loadStored(ctx, h.id.purpose, h.id.dataKey, OpLease)
	} else {
		g.e, err = t.loadInside(ctx, h.id.purpose, h.id.dataKey, h.from, OpLease)
	}
	if err == nil {
		h.id = g.e.id // another CMK may wrap it by now
	}
	return t.loaded(g, err)
}

// fail makes err what the operation ends with. If its success has been recorded before,
// that is taken back by a withheld event.
func (h *hold) fail(ctx context.Context, err error) error {
	h.lock()
	defer h.unlock()
	return h.failLocked(ctx, err)
}

func (h *hold) failLocked(ctx context.Context, err error) error {
	if h.err != nil {
		return h.err
	}
	if !errors.Is(err, ErrMalformed) { // which says more, of public bytes
		err = opaque(err)
	}
	if h.seals && errors.Is(err, ErrOpen) {
		// The tenant's own current data key cannot be unwrapped, or is another one by now.
		err = fmt.Errorf("%w: the current data key is damaged", ErrInternal)
	}
	h.err = err
	if h.recorded && h.event.Outcome == OutcomeSuccess && !h.withheld {
		h.withheld = true
		h.t.k.report(ctx, h.t.k.withheld(h.event, h.err))
	}
	return h.err
}

// outcome records the one event of the operation: its success, unless err or an earlier
// step says otherwise. It returns what the caller gets. An err after a success has been
// recorded takes it back.
func (h *hold) outcome(ctx context.Context, err error) error {
	h.lock()
	defer h.unlock()
	if err != nil {
		err = h.failLocked(ctx, err)
	} else {
		err = h.err
	}
	if h.recorded {
		return err
	}
	h.recorded = true
	if h.t.k.enter() { // so that Close waits for it
		defer h.t.k.leave()
	}
	e := &h.event
	if e.Calls, e.Proof = h.g.calls, h.g.under.request; h.g.e != nil {
		e.Key, e.DataKey, e.Version = h.g.under.key, h.g.e.id.dataKey, h.g.e.generation
	}
	if h.event, err = h.t.k.conclude(ctx, h.event, err); err != nil {
		h.err = err
		return err
	}
	if err = h.stillLocked(ctx); err == nil {
		when := &h.t.opened
		if h.seals {
			when = &h.t.sealed
		}
		when.Store(h.t.k.clock.Now().Wall.UnixNano())
	}
	return err
}

// end is outcome for what makes no more steps.
func (h *hold) end(ctx context.Context, err error) error {
	err = h.outcome(ctx, err)
	h.lock()
	defer h.unlock()
	h.ended = true
	return err
}
