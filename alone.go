package byok

import (
	"context"
	"crypto/sha512"

	"github.com/byok-go/byok/internal/format"
)

// Per-operation mode: every Seal and Open asks the Store and KMS, and nothing is
// kept but whether KMS denied us last.

// sealAlone makes a data key for one envelope, which will carry it.
func (t *tenantCache) sealAlone(ctx context.Context, purpose string) (grant, error) {
	id := newDataKeyID()
	return t.alone(ctx, entryID{purpose: purpose, dataKey: id},
		func(KeyID) ([]byte, *pool, error) { return nil, &t.budget.known, nil },
		func(c *caller, _ entryID, _ []byte, ec EncryptionContext) (result, error) { return c.generate(ctx, ec) })
}

// openAlone unwraps the data key of one envelope.
func (t *tenantCache) openAlone(ctx context.Context, purpose string, h *format.Header) (grant, error) {
	return t.alone(ctx, entryID{purpose: purpose, dataKey: h.DataKey}, func(key KeyID) ([]byte, *pool, error) {
		p := &t.budget.known
		_, r, err := t.readDataKey(ctx, purpose, h.DataKey)
		if err == ErrNotFound {
			p, r, err = &t.budget.unknown, recipientOf(h, key), nil
		}
		if err == nil && (r.Provider != key.Provider || r.Key != key.ID) {
			err = ErrOpen // no KMS is asked about a key that is not the one registered now
		}
		return r.Wrapped, p, err
	}, func(c *caller, blob entryID, wrapped []byte, ec EncryptionContext) (result, error) {
		r, err := c.unwrapBlob(ctx, blob, wrapped, ec)
		r.wrapped = wrapped
		return r, err
	})
}

// alone reads the tenant's state, makes one call, and proves it, all for one
// use. find comes before the right to ask KMS is taken: junk must not use it up.
func (t *tenantCache) alone(ctx context.Context, id entryID, find func(KeyID) ([]byte, *pool, error),
	call func(*caller, entryID, []byte, EncryptionContext) (result, error)) (grant, error) {
	ctx, done, err := t.k.within(ctx)
	if err != nil {
		return grant{}, err
	}
	defer done()
	read, s, err := t.permitted(ctx)
	if err != nil {
		return grant{}, err
	}
	wrapped, p, err := find(s.Key)
	if err != nil {
		return grant{}, err
	}
	id.key = s.Key
	blob := id
	blob.wrapped = hashWrapped(wrapped)
	c, err := t.askAbout(blob, p)
	if err != nil {
		return grant{}, err
	}
	ec := t.context(id.purpose, id.dataKey)
	r, err := call(c, blob, wrapped, ec)
	first := c.last
	if err == nil && !c.access.overtaken(first) {
		err = c.restore(ctx, r.wrapped, r.dek, ec)
	}
	g := grant{e: &entry{id: id, dek: r.dek, request: r.RequestID}, proof: r.RequestID, inside: true, wrapped: r.wrapped, calls: c.calls}
	if err != nil {
		r.dek.Wipe()
		return g, err
	}
	t.mu.Lock()
	proof, ok := c.access.lease.Prove(first, read, t.k.maxAge, 0)
	t.mu.Unlock()
	if !ok {
		r.dek.Wipe()
		return g, t.lost(c.access)
	}
	g.e.proof = proof
	return g, nil
}

func hashWrapped(wrapped []byte) [sha512.Size384]byte { return sha512.Sum384(wrapped) }
