package byok

import (
	"context"
	"crypto/sha512"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// Per-operation mode: every Seal and Open asks the Store and KMS, and nothing is
// kept but whether KMS denied us last.

// sealAlone makes a data key for one envelope, which will carry it.
func (t *tenantCache) sealAlone(ctx context.Context, purpose string) (grant, error) {
	return t.alone(ctx, entryID{purpose: purpose, dataKey: newDataKeyID()},
		func() (wrapping, *pool, error) { return wrapping{}, &t.budget.known, nil },
		func(ctx context.Context, q *inquiry, _ wrapping) (*DEK, wrapping, error) { return q.make(ctx) })
}

// openAlone unwraps the data key of one envelope.
func (t *tenantCache) openAlone(ctx context.Context, purpose string, h *format.Header) (grant, error) {
	return t.alone(ctx, entryID{purpose: purpose, dataKey: h.DataKey}, func() (wrapping, *pool, error) {
		_, w, err := t.readDataKey(ctx, purpose, h.DataKey)
		switch {
		case err == ErrNotFound && h.Policy != format.PolicyREF:
			return wrappingOf(h), &t.budget.unknown, nil
		case err == nil && h.Policy != format.PolicyREF && h.Policy != w.said():
			err = ErrOpen // see grantLeased
		}
		return w, &t.budget.known, err
	}, func(ctx context.Context, q *inquiry, w wrapping) (*DEK, wrapping, error) {
		dek, err := q.open(ctx, w)
		return dek, w, err
	})
}

// alone reads the tenant's state, asks for one data key, and proves it, all for one
// use. find comes before the right to ask KMS is taken: junk must not use it up.
func (t *tenantCache) alone(ctx context.Context, id entryID, find func() (wrapping, *pool, error),
	get func(context.Context, *inquiry, wrapping) (*DEK, wrapping, error)) (grant, error) {
	ctx, done, err := t.k.within(ctx)
	if err != nil {
		return grant{}, err
	}
	defer done()
	var calls []KMSCall // of all tries: the event has to tell of each
	return afresh(ctx, t, func(ctx context.Context, read lease.Time, s *state) (grant, error) {
		w, p, err := find()
		if err != nil {
			return grant{calls: calls}, err
		}
		id := id
		id.key = s.Key
		q, err := t.inquire(ctx, id.purpose, id.dataKey, p)
		e := &entry{id: id}
		if err == nil {
			e.dek, e.wrapped, err = get(ctx, q, w)
		}
		if err != nil && !q.asked {
			return grant{calls: calls}, err
		}
		calls = append(calls, q.calls...)
		e.witness = q.witness()
		g := grant{e: e, under: e.witness, policy: e.wrapped.said(), inside: true, calls: calls}
		if err != nil {
			return g, err
		}
		t.mu.Lock()
		ok := t.prove(e, q, read, 0)
		t.mu.Unlock()
		if !ok {
			e.dek.Wipe()
			return g, t.lost()
		}
		return g, nil
	})
}

func hashWrapped(wrapped []byte) [sha512.Size384]byte { return sha512.Sum384(wrapped) }
