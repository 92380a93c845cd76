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

// take returns the writes that make the claim t's, if nobody was faster: the claim
// itself, and the event of it for whom it is taken from.
func (h *heldClaim) take(ctx context.Context, t *tenantCache) ([]Item, error) {
	now, err := t.k.readClaim(ctx, h.key)
	if err != nil {
		return nil, err
	}
	mine := encodeItem(now.ref, now.revision, claim{layoutVersion, t.tenant, h.key})
	if now.tenant == "" || now.tenant == t.tenant {
		return []Item{mine}, nil
	}
	if now.revision != h.revision {
		return nil, ErrKeyTaken
	}
	box, err := (&tenantCache{k: t.k, tenant: now.tenant}).readOutbox(ctx)
	if err != nil {
		return nil, err
	}
	if len(box.Events) >= maxPending {
		return nil, ErrAudit
	}
	box.Events = append(box.Events, t.k.stamp(Event{Op: OpRelease, Outcome: OutcomeSuccess, Scope: Scope{Tenant: now.tenant},
		Key: h.key, Reason: "the key policy refuses this tenant, and is bound to another one"}))
	return []Item{mine, encodeItem(refOutbox(now.tenant), box.revision, box)}, nil
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
