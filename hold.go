package byok

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/byok-go/byok/internal/floe"
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
// The first error ends it. It is not safe for concurrent use.
type hold struct {
	t     *tenantCache
	event Event
	g     grant    // newest
	id    entryID  // of the data key, which stays the same
	from  wrapping // where an envelope carries it; else none
	seals bool
	err   error

	recorded bool // event is the outcome, and has been delivered
	withheld bool // so has the event that takes a success back
	ended    bool
}

// holdSeal begins a long Seal, under the data key that seals now. It counts as one
// message; its steps count the bytes.
func (t *tenantCache) holdSeal(ctx context.Context, purpose string) (*hold, error) {
	h := &hold{t: t, event: Event{Op: OpSeal, Scope: Scope{t.tenant, purpose}}, seals: true}
	return h.begin(ctx, func() (grant, error) { return t.grantSeal(ctx, purpose, 0, 0) })
}

// holdOpen begins a long Open of an envelope with header f.
func (t *tenantCache) holdOpen(ctx context.Context, purpose string, f *format.Header) (*hold, error) {
	h := &hold{t: t, event: Event{Op: OpOpen, Scope: Scope{t.tenant, purpose}, DataKey: f.DataKey}}
	return h.begin(ctx, func() (grant, error) { return t.grantLeased(ctx, purpose, f, 0) })
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

// step lends the data key to f, from as many goroutines as there are workers, which
// together work on size bytes, and then asks whether what came of it may be released. If
// step fails, nothing may be. f is called anew if the data key was evicted meanwhile.
func (h *hold) step(ctx context.Context, size int64, workers int, f stepFunc) error {
	if h.err != nil {
		return h.err
	}
	if h.ended {
		return ErrClosed
	}
	if !h.t.k.enter() {
		return h.fail(ctx, ErrClosed)
	}
	defer h.t.k.leave()
	if q := h.g.quota; h.seals && q != nil {
		if err := q.charge(ctx, 0, size); err != nil {
			return h.fail(ctx, err)
		}
	}
	if err := h.lend(ctx, workers, f); err != nil {
		return h.fail(ctx, err)
	}
	return nil
}

// lend is one step, with a data key that is found anew.
func (h *hold) lend(ctx context.Context, workers int, f stepFunc) error {
	err := error(errWiped)
	for try := 0; try < 3 && err == errWiped; try++ {
		if h.t.k.closed.Load() {
			return ErrClosed
		}
		g, gerr := h.again(ctx)
		if g.e != nil {
			g.calls, g.quota = h.g.calls, h.g.quota // what began it
			h.g = g
		}
		if gerr != nil {
			return gerr
		}
		err = g.e.dek.share(workers, f)
	}
	if err == errWiped {
		err = ErrKeyUnavailable
	}
	if rerr := h.t.still(ctx, h.g); rerr != nil {
		err = rerr // whatever came out, a denial is the newer truth
	}
	return err
}

// still asks whether what came of an earlier step may leave now. That the next step has
// failed for a reason of its own, a segment that is not authentic, say, does not matter.
func (h *hold) still(ctx context.Context) error {
	if err := h.t.still(ctx, h.g); err != nil {
		return h.fail(ctx, err)
	}
	return nil
}

// again finds the data key anew, as grantLeased does.
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
	if err != nil {
		err = h.fail(ctx, err)
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
	if err = h.still(ctx); err == nil {
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
	h.ended = true
	return err
}

// stepFunc is what a worker of a step does with the data key, as user.
type stepFunc func(worker int, raw []byte, shared *floe.Keyed) error

// worker is a user that knows which one it is.
type worker struct {
	f stepFunc
	i int
}

func (w worker) withKey(raw []byte, shared *floe.Keyed) error { return w.f(w.i, raw, shared) }

// share lends the key to n calls of f at once, each in a goroutine of its own but for the
// first: whatever erases the traces of key bytes does so for each goroutine.
func (d *DEK) share(n int, f stepFunc) error {
	if n <= 1 {
		return d.lend(worker{f, 0}, 0)
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Go(func() { errs[i] = d.lend(worker{f, i}, i%laneCount) })
	}
	errs[0] = d.lend(worker{f, 0}, 0)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
