package byok

import (
	"context"
	"errors"
	"slices"
)

// A claim says which tenant uses a CMK: at most one, or that tenants share it as a further key of
// all (PolicyAll), where it can stop them and open nothing. It is an item that is created once per
// CMK and compared-and-set from then on.

// heldClaim is what a registration found about the CMK it wants.
type heldClaim struct {
	ref      Ref
	revision uint64
	tenant   string // "" if free
	key      KeyID
	free     bool // nobody's, and not shared
	platform bool // the platform's: nobody gets it
	shared   bool // is wanted as a shared one
}

// contest looks at the claim on the CMK. A claim never locks out the owner: if
// the policy is bound to the newcomer, and refuses the old claimant now, it falls.
//
// Who wants to share takes nothing from anybody: it has to be free, shared or its own. And
// who shares a CMK keeps nobody from owning it, if the policy says that it is theirs.
func (p *prober) contest(ctx context.Context, binding string, shared bool) (*heldClaim, error) {
	h, err := p.k.readClaim(ctx, p.key)
	if err != nil {
		return nil, err
	}
	h.shared = shared
	switch {
	case h.platform:
		return nil, ErrKeyTaken
	case h.free, h.tenant == p.tenant:
		return h, nil
	case shared && h.tenant == "":
		return h, nil
	case shared:
		return nil, ErrKeyTaken
	case h.tenant == "" && binding == bindingBound:
		return h, nil
	case h.tenant == "":
		return nil, ErrKeyTaken
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

// takeAll returns the writes that make the claims t's, if nobody was faster: the claims
// themselves, and the events of it for whom they are taken from.
func takeAll(ctx context.Context, t *tenantCache, held []*heldClaim) (writes []Item, err error) {
	boxes := map[string]*outbox{} // one of a tenant, however many claims it loses
	for _, h := range held {
		now, err := t.k.readClaim(ctx, h.key)
		if err != nil {
			return nil, err
		}
		if now.platform {
			return nil, ErrKeyTaken
		}
		if h.shared && now.tenant == "" && !now.free {
			continue // as it should be: no tenant has to wait for another one here
		}
		mine := claim{V: layoutVersion, Tenant: t.tenant, Key: h.key, Shared: h.shared}
		if h.shared {
			mine.Tenant = ""
		}
		writes = append(writes, encodeItem(now.ref, now.revision, mine))
		if now.free || now.tenant == t.tenant {
			continue
		}
		if now.revision != h.revision {
			return nil, ErrKeyTaken
		}
		if now.tenant == "" {
			continue
		}
		box := boxes[now.tenant]
		if box == nil {
			if box, err = (&tenantCache{k: t.k, tenant: now.tenant}).readOutbox(ctx); err != nil {
				return nil, err
			}
			boxes[now.tenant] = box
		}
		if len(box.Events) >= maxPending {
			return nil, ErrAudit
		}
		box.Events = append(box.Events, t.k.stamp(Event{Op: OpRelease, Outcome: OutcomeSuccess, Scope: Scope{Tenant: now.tenant},
			Key: h.key, Reason: "the key policy refuses this tenant, and is bound to another one"}))
	}
	for tenant, box := range boxes {
		writes = append(writes, encodeItem(refOutbox(tenant), box.revision, box))
	}
	return writes, nil
}

func (k *Keeper) readClaim(ctx context.Context, key KeyID) (*heldClaim, error) {
	h := &heldClaim{ref: refClaim(key), key: key}
	var c claim
	rev, err := k.getJSON(ctx, h.ref, &c)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	h.revision, h.tenant, h.platform = rev, c.Tenant, c.Platform
	h.free = c.Tenant == "" && !c.Shared && !c.Platform
	return h, nil
}

// releaseClaims returns the writes that free those of the CMKs that the tenant has claimed for itself. Shared
// ones stay shared for good: envelopes and backups may need them, which no list tells of, and under a policy that lets in everybody
// the next tenant could own one and keep this one from coming back. It costs nobody anything: others share it too, and an owner is who the
// policy is bound to.
func (k *Keeper) releaseClaims(ctx context.Context, keys []KeyID, tenant string) (writes []Item, err error) {
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			continue
		}
		h, err := k.readClaim(ctx, key)
		if err != nil {
			return writes, err
		}
		if h.tenant == tenant {
			writes = append(writes, encodeItem(h.ref, h.revision, claim{V: layoutVersion, Key: key}))
		}
	}
	return writes, nil
}

// unclaim returns the writes that take back the claims of a move which does not switch: what s needs is claimed as
// it needs it, and nothing else.
func (t *tenantCache) unclaim(ctx context.Context, s *state, to keySet) (writes []Item, err error) {
	var left []KeyID
	for _, key := range to.keys() {
		if s.Lifecycle == lifecycleRevoked || !slices.Contains(s.keys(), key) {
			left = append(left, key)
			continue
		}
		if !s.shares(key) {
			continue
		}
		h, err := t.k.readClaim(ctx, key)
		if err != nil {
			return nil, err
		}
		if h.tenant == t.tenant { // it would have been the tenant's own
			writes = append(writes, encodeItem(h.ref, h.revision, claim{V: layoutVersion, Key: key, Shared: true}))
		}
	}
	free, err := t.k.releaseClaims(ctx, left, t.tenant)
	return append(writes, free...), err
}

// switchClaims returns the writes with which a move switches: its new keys stay claimed, those that only had been
// the tenant's are free. Claims are written as they are, too: if somebody takes one before this does, this does not.
func (t *tenantCache) switchClaims(ctx context.Context, from, to keySet) (writes []Item, err error) {
	for _, key := range to.keys() {
		h, err := t.claimed(ctx, to, key)
		if err != nil {
			return nil, err
		}
		switch {
		case h.tenant == "": // a shared one, or the platform's, whose claim stands for good
		case to.shares(key): // as long as the tenant had it as its own it stayed that
			writes = append(writes, encodeItem(h.ref, h.revision, claim{V: layoutVersion, Key: key, Shared: true}))
		default:
			writes = append(writes, encodeItem(h.ref, h.revision, claim{V: layoutVersion, Tenant: t.tenant, Key: key}))
		}
	}
	free, err := t.k.releaseClaims(ctx, slices.DeleteFunc(from.keys(), func(k KeyID) bool { return slices.Contains(to.keys(), k) }), t.tenant)
	return append(writes, free...), err
}

// claimed returns the claim on a key that the tenant is moved to, and ErrKeyTaken if it is not the tenant's to use.
func (t *tenantCache) claimed(ctx context.Context, to keySet, key KeyID) (*heldClaim, error) {
	h, err := t.k.readClaim(ctx, key)
	switch {
	case err != nil, h.tenant == t.tenant, h.platform && t.k.platformKey(key):
	case h.free, h.tenant != "", h.platform, !to.shares(key):
		err = ErrKeyTaken
	}
	return h, err
}
