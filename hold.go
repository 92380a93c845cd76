package byok

import (
	"context"

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
	g     grant            // newest
	id    entryID          // of the data key, which stays the same
	from  format.Recipient // where an envelope carries it; else zero
	seals bool
	err   error
	ended bool
}

// holdSeal begins a long Seal, under the data key that seals now. It counts as one
// message; its steps count the bytes.
func (t *tenantCache) holdSeal(ctx context.Context, purpose string) (*hold, error) {
	h := &hold{t: t, event: Event{Op: OpSeal, Scope: Scope{t.tenant, purpose}}, seals: true}
	return h.begin(ctx, func() (grant, error) { return t.grantSeal(ctx, purpose, 0) })
}

// holdOpen begins a long Open of an envelope with header f.
func (t *tenantCache) holdOpen(ctx context.Context, purpose string, f *format.Header) (*hold, error) {
	h := &hold{t: t, event: Event{Op: OpOpen, Scope: Scope{t.tenant, purpose}, DataKey: f.DataKey}}
	return h.begin(ctx, func() (grant, error) { return t.grantLeased(ctx, purpose, f) })
}

func (h *hold) begin(ctx context.Context, get func() (grant, error)) (*hold, error) {
	if !h.t.k.enter() {
		return nil, ErrClosed
	}
	defer h.t.k.leave()
	g, err := get()
	if h.g = g; err != nil {
		h.err = err
		return nil, h.end(ctx, nil)
	}
	h.id, h.from = g.e.id, g.from
	if g.inside { // made for one envelope: from here on it is leased like any that an envelope carries
		g.e.dek.Wipe()
		h.from = format.Recipient{Provider: h.id.key.Provider, Key: h.id.key.ID, Wrapped: g.wrapped}
		h.id.wrapped = hashWrapped(g.wrapped)
	}
	return h, nil
}

// step lends the data key to f, which works on size bytes, and then asks whether
// what came of it may be released. If step fails, nothing may be.
func (h *hold) step(ctx context.Context, size int64, f func(raw []byte) error) error {
	if h.err != nil {
		return h.err
	}
	if h.ended {
		return ErrClosed
	}
	if !h.t.k.enter() {
		h.err = ErrClosed
		return h.err
	}
	defer h.t.k.leave()
	if q := h.g.quota; h.seals && q != nil {
		if h.err = q.charge(ctx, 0, size); h.err != nil {
			return h.err
		}
	}
	var g grant
	g, h.err = h.t.use(ctx, func() (grant, error) { return h.again(ctx) }, func(_ grant, raw []byte) error { return f(raw) })
	if g.e != nil {
		g.calls, g.quota = h.g.calls, h.g.quota // what began it
		h.g = g
	}
	return h.err
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

// end records the one event of the operation, and reports whether it succeeded: err
// is what went wrong beside the steps. It may be called more than once.
func (h *hold) end(ctx context.Context, err error) error {
	if h.ended {
		return h.err
	}
	h.ended = true
	if h.err != nil {
		err = h.err
	}
	h.err = h.t.deliver(ctx, h.event, h.g, err)
	return h.err
}
