package byok

import (
	"context"
	"errors"
)

// A claim says which tenant uses a CMK: at most one. It is an item that is
// created once per CMK and compared-and-set from then on.

// heldClaim is what a registration found about the CMK it wants.
type heldClaim struct {
	ref      Ref
	revision uint64
	tenant   string // "" if free
	key      KeyID
}

// contest looks at the claim on the CMK. A claim never locks out the owner: if
// the policy is bound to the newcomer, and refuses the old claimant now, it falls.
func (p *prober) contest(ctx context.Context, binding string) (*heldClaim, error) {
	h, err := p.k.readClaim(ctx, p.key)
	if err != nil || h.tenant == "" || h.tenant == p.tenant {
		return h, err
	}
	if binding != bindingBound {
		return nil, ErrKeyTaken
	}
	own := p.k.context(p.tenant, "default", newDataKeyID())
	old := own.Clone()
	old[ContextTenant] = h.tenant
	if p.refused(ctx, old) != probeRefused || p.refused(ctx, own) != probeAllowed {
		return nil, ErrKeyTaken
	}
	return h, nil
}

// take returns the write that makes the claim t's, if nobody was faster.
func (h *heldClaim) take(ctx context.Context, t *tenantCache) (Item, error) {
	now, err := t.k.readClaim(ctx, h.key)
	if err != nil {
		return Item{}, err
	}
	if now.tenant != "" && now.tenant != t.tenant && now.revision != h.revision {
		return Item{}, ErrKeyTaken
	}
	return encodeItem(now.ref, now.revision, claim{layoutVersion, t.tenant, h.key}), nil
}

func (k *Keeper) readClaim(ctx context.Context, key KeyID) (*heldClaim, error) {
	h := &heldClaim{ref: refClaim(key), key: key}
	var c claim
	rev, err := k.getJSON(ctx, h.ref, &c)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	h.revision, h.tenant = rev, c.Tenant
	return h, nil
}

// releaseClaim returns the write that frees a CMK, if the tenant has claimed it.
func (k *Keeper) releaseClaim(ctx context.Context, key KeyID, tenant string) ([]Item, error) {
	h, err := k.readClaim(ctx, key)
	if err != nil || h.tenant != tenant {
		return nil, err
	}
	return []Item{encodeItem(h.ref, h.revision, claim{V: layoutVersion, Key: key})}, nil
}
