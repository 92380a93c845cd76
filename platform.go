package byok

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/byok-go/byok/internal/format"
)

// A tenant that never registered a key may seal under a CMK of the platform's, if the Keeper was given one
// (Options.PlatformKeys). All that holds for a tenant's own CMK holds for that one, but that the tenant
// cannot stop anything.
//
//	none --Seal--> platform --Register, switch--> pending_waiver, active
//	                   \--Revoke--> revoked --Register, switch--> pending_waiver, active
//
// Nothing leads to platform but a tenant's first Seal (or a Suspend before it): adopted is the only place that sets it,
// and refuses whoever was anything else. What a Store has forgotten of a tenant is told from a new tenant as well as the
// Store permits.

// maxPlatformKeys is fewer than Rewrap remembers.
const maxPlatformKeys = 8

func platformKeysOK(keys []KeyID) bool {
	for i, key := range keys {
		if !format.ValidProvider(key.Provider) || !format.ValidKey(key.ID) || slices.Contains(keys[:i], key) {
			return false
		}
	}
	return len(keys) <= maxPlatformKeys
}

// platformKey reports whether k was given key as one of the platform's.
func (k *Keeper) platformKey(key KeyID) bool { return slices.Contains(k.platform, key) }

// platformOwns reports whether a key of the tenant's own is one of the platform's. It comes before each operation.
func (k *Keeper) platformOwns(s *state) bool {
	return len(k.platform) > 0 && (k.platformKey(s.Key) || slices.ContainsFunc(s.Others, k.platformKey))
}

// Errors about the platform's keys.
var (
	// errNotGiven: another Keeper may go on. This one has never heard of the key.
	errNotGiven = newError(ErrNotRegistered, "the tenant has no key of its own, and this Keeper was not given the platform's (Options.PlatformKeys)")
	// errPlatformOwns: Options.PlatformKeys has the CMK of a tenant.
	errPlatformOwns = newError(ErrPlatform, "one of Options.PlatformKeys is a tenant's own")
	// errHasNone: only Register gives a tenant its own key.
	errHasNone = newError(ErrNotRegistered, "the tenant has no key of its own to be moved: Register one")
	// errForgotten: there are traces of a tenant whose state the Store does not have.
	errForgotten = newError(ErrStore, "the store failed: a tenant's state is lost")
)

// platformOK reports whether s is a state that adopted, or a Revoke after it, leaves, or one of a tenant that has its own key.
func (s *state) platformOK() bool {
	switch s.Lifecycle {
	case lifecyclePlatform:
		return s.Platform && s.Key != (KeyID{}) && s.Policy == ""
	case lifecycleRevoked:
		return !s.Platform || s.Policy == ""
	}
	return !s.Platform
}

// adopts reports whether a Seal of the tenant by k has to write first that it is under the platform's key, and how.
func (k *Keeper) adopts(s *state) bool {
	switch s.Lifecycle {
	case lifecycleNone:
		return len(k.platform) > 0
	case lifecyclePlatform:
		return k.perOperation && !s.Carried && k.platformKey(s.Key)
	}
	return false
}

// adopt writes it. If the tenant is something else by now, nothing changes, and what may be done is asked anew.
func (t *tenantCache) adopt(ctx context.Context) error {
	ctx, done, err := t.k.within(ctx)
	if err != nil {
		return err
	}
	defer done()
	event := t.k.stamp(Event{Op: OpPlatformKey, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Scope: Scope{Tenant: t.tenant}})
	_, err = t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		if !t.k.adopts(s) {
			return change{}, errUnchanged
		}
		var writes []Item
		if s.Lifecycle == lifecycleNone {
			if writes, err = t.adopted(ctx, s); err != nil {
				return change{}, err
			}
		}
		s.Carried = s.Carried || t.k.perOperation
		event.Key, event.Version = s.Key, s.Generation
		return change{quiet: true, events: []Event{event}, writes: writes}, nil
	})
	switch {
	case err == errUnchanged:
		return nil
	case errors.Is(err, ErrNotAudited):
		return ErrAudit // it took effect, and its event will come; nothing is sealed before
	}
	return err
}

// adopted makes s that of a tenant under the platform's key, and returns the writes for that beside it.
func (t *tenantCache) adopted(ctx context.Context, s *state) ([]Item, error) {
	t.mu.RLock()
	seen := t.state
	t.mu.RUnlock()
	if seen != nil && seen.revision > s.revision { // a stop looks at such a state
		return nil, errRolledBack
	}
	if err := t.k.fleet.refusal(); err != nil {
		return nil, err
	}
	if s.revision == 0 {
		switch _, err := t.k.store.Get(ctx, Ref{partTenants, t.tenant}); {
		case err == nil:
			return nil, errForgotten
		case !errors.Is(err, ErrNotFound):
			return nil, storeError(err)
		}
	}
	for _, err := range t.list(ctx, prefixDataKey, "", 1) {
		return nil, errors.Join(errForgotten, err)
	}
	s.Lifecycle, s.Platform, s.Key = lifecyclePlatform, true, t.k.platform[0]
	s.Generation, s.CreatedAt = 1, t.k.clock.Now().Wall.UTC()
	return t.k.claimPlatform(ctx, s.Key)
}

// claimPlatform returns the write that keeps a CMK of the platform's from ever being a tenant's, in Keepers that do not know
// it too; none if it has been written.
func (k *Keeper) claimPlatform(ctx context.Context, key KeyID) ([]Item, error) {
	h, err := k.readClaim(ctx, key)
	switch {
	case err != nil || h.platform:
		return nil, err
	case !h.free:
		return nil, errPlatformOwns
	}
	return []Item{encodeItem(h.ref, h.revision, claim{V: layoutVersion, Key: key, Platform: true})}, nil
}

// noteCarried is for a Seal of a Keeper with PerOperation, before its envelope leaves: no list tells of the data key.
func (t *tenantCache) noteCarried(ctx context.Context) error {
	t.mu.RLock()
	s := t.state
	t.mu.RUnlock()
	if s == nil || !t.k.adopts(s) {
		return nil
	}
	return t.adopt(ctx)
}

// ownKey is the registration that a move ends with: of a tenant that had no key.
type ownKey struct {
	Alias       string `json:"alias,omitempty"`
	Description string `json:"description,omitempty"`
	Drillable   bool   `json:"drillable,omitempty"`
}

// elsewhere is what a tenant's data keys were wrapped by before it had a key.
type elsewhere struct {
	Keys       []KeyID `json:"keys"`
	DataKeys   uint64  `json:"data_keys"`         // how many, all of them
	Generation uint64  `json:"generation"`        // of the newest of them
	Carried    bool    `json:"carried,omitempty"` // and envelopes carry others
}

// errLeaves: the tenant has data keys under the platform's CMK, so that its registration is a move. It never leaves the package.
var errLeaves = errors.New("byok: data keys are to be moved first")

// leavePlatform begins the registration of a tenant whose data keys are under the platform's CMK: they are moved to its own
// first, as in Move, and the switch registers it.
func (t *tenantCache) leavePlatform(ctx context.Context, r Registration, event *Event) (*state, error) {
	_, begun, err := t.move(ctx, Move{Key: r.Key, Others: r.Others, Policy: r.Policy, Reason: "what the platform's key has wrapped is moved first"}, &ownKey{r.Alias, r.Description, r.Drillable}, event)
	if !begun && err != nil {
		return nil, err
	}
	if !begun {
		err = errUnchanged // it is under way already
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.state, err
}

// mayHave returns why a move to a CMK is none for the tenant, or for this Keeper. It is asked when the move begins, in each step, and when it switches.
func (k *Keeper) mayHave(s *state, to keySet, own *ownKey) error {
	switch leaves := own != nil; {
	case s.Lifecycle == lifecycleNone:
		return ErrNotRegistered
	case leaves && !s.Platform: // it has registered another one meanwhile
		return ErrKeyTaken
	case slices.ContainsFunc(to.keys(), k.platformKey) && (leaves || !s.Platform): // as for any CMK that is somebody else's
		return ErrKeyTaken
	case s.Platform && !k.platformKey(s.Key):
		return errNotGiven
	case s.Platform && !leaves && (s.Lifecycle != lifecyclePlatform || to.Policy != "" || !k.platformKey(to.Key)):
		return errHasNone
	}
	return nil
}

// validateTarget validates each key that the tenant is moved to, also one that stays. What is the tenant's own now stays claimed
// as that until the switch, whatever it will be then. One of the platform's lets us in for all tenants, of course, and has no claim.
func (t *tenantCache) validateTarget(ctx context.Context, to keySet, event *Event) (held []*heldClaim, binding string, err error) {
	if t.k.platformKey(to.Key) {
		p := &prober{caller: caller{k: t.k, tenant: t.tenant, key: to.Key, pool: &t.budget.control}}
		_, err = p.validate(ctx)
		event.Calls = append(event.Calls, p.calls...)
		return nil, "", err
	}
	for _, key := range to.keys() {
		h, found, err := t.validate(ctx, key, t.held(key), to.shares(key), event)
		if err != nil {
			return nil, "", err
		}
		if !to.shares(key) {
			binding = worse(binding, found)
		} else if h.tenant == t.tenant {
			h.shared = false
		}
		held = append(held, h)
	}
	return held, binding, nil
}

// takeTarget returns the writes that claim them.
func (t *tenantCache) takeTarget(ctx context.Context, to keySet, held []*heldClaim) ([]Item, error) {
	if held == nil {
		return t.k.claimPlatform(ctx, to.Key)
	}
	return takeAll(ctx, t, held)
}

// left remembers what the tenant leaves with the platform's keys. The caller begins a new generation: what is
// sealed from now on is under data keys that none of them has wrapped.
func (s *state) left(keys []KeyID, to KeyID) []Warning {
	if s.DataKeys > 0 || s.Carried {
		s.Elsewhere = &elsewhere{Keys: keys, DataKeys: s.DataKeys, Generation: s.Generation, Carried: s.Carried}
	}
	s.Platform, s.Carried = false, false
	if s.Elsewhere == nil {
		return nil
	}
	return []Warning{{Kind: WarnDataKeysOnceElsewhere, Key: to, DataKeys: s.DataKeys}}
}

// own makes s, which has been switched, that of a tenant with a key.
func (s *state) own(o *ownKey, at time.Time) []Warning {
	warnings := s.left(s.Former, s.Key)
	s.Alias, s.Description, s.Drillable = o.Alias, o.Description, o.Drillable
	s.CreatedAt, s.LastRotationAt = at, at
	s.Generation++
	return warnings
}

// mayAskFormer reports whether Rewrap may ask about a CMK that the tenant was moved from: one of the platform's only by a
// Keeper that was given it.
func (k *Keeper) mayAskFormer(s *state, key KeyID) bool {
	platforms := s.Platform || s.Elsewhere != nil && slices.Contains(s.Elsewhere.Keys, key)
	return !platforms || k.platformKey(key)
}
