package byok

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/byok-go/byok/internal/format"
)

// Register makes a CMK the tenant's key. It is validated by use, not by
// description: GenerateDataKey, Decrypt, Encrypt and Decrypt with the tenant's own encryption
// context must work, and must not work for others (see
// Options.AllowUnboundPolicy). The key becomes active at once if the current
// waiver is acknowledged.
//
// The error is ErrKeyTaken if the tenant has a key or another tenant uses this
// CMK, ErrKeyID, ErrKeyDenied, ErrKeyUnavailable, ErrPolicyUnbound,
// ErrMoveRequired, ErrArgument, ErrStore, ErrAudit, ErrInternal or ErrClosed; nothing
// has changed then. It is ErrNotAudited beside the status if the key is
// registered but its event waits for the sink. Makes 7 KMS requests.
func (t *Tenant) Register(ctx context.Context, r Registration) (KeyStatus, error) {
	if err := errors.Join(checkText("the alias", r.Alias, maxAlias), checkText("the description", r.Description, maxText)); err != nil {
		return KeyStatus{}, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return KeyStatus{}, err
	}
	defer done()
	event := t.k.stamp(Event{Op: OpRegister, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Scope: Scope{Tenant: t.id}})
	event.Key = r.Key
	s, err := c.register(ctx, r, &event)
	if errors.Is(err, ErrKeyID) {
		event.Key = KeyID{} // it may be anything, a token that was pasted into the wrong field too
	}
	if s == nil {
		_, err = t.k.conclude(ctx, event, err)
		return KeyStatus{}, err
	}
	return c.snapshot(s), err
}

func (t *tenantCache) register(ctx context.Context, r Registration, event *Event) (*state, error) {
	if !format.ValidProvider(r.Key.Provider) || !format.ValidKey(r.Key.ID) {
		return nil, ErrKeyID
	}
	s, err := t.readState(ctx)
	if err == nil {
		_, err = t.mayRegister(ctx, s, r)
	}
	if err != nil {
		return nil, err
	}
	// KMS is asked before anybody's claim is looked at: a stranger to the CMK
	// learns nothing about who is a customer.
	p := &prober{caller: caller{k: t.k, tenant: t.tenant, key: r.Key, pool: &t.budget.control}}
	binding, err := p.validate(ctx)
	if err == nil && !t.k.allowUnbound {
		switch binding {
		case bindingUnbound:
			err = ErrPolicyUnbound
		case bindingUnknown:
			err = fmt.Errorf("%w: could not check that the key policy is bound to the tenant", ErrKeyUnavailable)
		}
	}
	var held *heldClaim
	if err == nil {
		held, err = p.contest(ctx, binding)
	}
	event.Calls = p.calls
	if err != nil {
		return nil, err
	}
	s, err = t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		abandon, err := t.mayRegister(ctx, s, r)
		if err != nil {
			return change{}, err
		}
		claimed, err := held.take(ctx, t)
		if err != nil {
			return change{}, err
		}
		now := *event
		if s.Generation == 0 || abandon {
			s.Generation++ // no generation ever has data keys under two CMKs
		}
		if abandon {
			now.Reason = "existing data abandoned: " + s.Key.ID
		}
		if s.Key != r.Key { // these are about the other CMK
			s.LastRotationAt, s.MaterialID, s.MaterialAt = time.Time{}, "", time.Time{}
		}
		s.Key, s.Alias, s.Description, s.Binding = r.Key, r.Alias, r.Description, binding
		s.Drillable = r.Drillable
		s.CreatedAt, s.LastValidatedAt = now.Time, now.Time
		s.Lifecycle, s.RevokeReason = lifecyclePending, ""
		now.Version = s.Generation
		ch := change{events: append([]Event{now}, t.activate(s, now)...), writes: claimed}
		t.material(s, now, &ch)
		return ch, nil
	})
	if s != nil {
		t.mu.Lock()
		if a := t.access; a != nil && a.key == r.Key {
			// Seven answers say that we are let in. None of them is a proof for a data
			// key; but an earlier denial need not wait any longer to be looked into.
			if a.lease.Hint(t.k.clock.Now()); a.seen == AccessUnknown {
				a.sees(AccessAccessible, nil)
			}
		}
		t.mu.Unlock()
	}
	if s != nil && held.tenant != "" && held.tenant != t.tenant {
		_ = t.k.cache(held.tenant).flush(ctx) // or later: it is in its outbox
	}
	return s, err
}

// mayRegister reports whether s permits the registration, and whether it
// abandons data.
func (t *tenantCache) mayRegister(ctx context.Context, s *state, r Registration) (abandon bool, err error) {
	switch {
	case s.Lifecycle == lifecyclePending || s.Lifecycle == lifecycleActive:
		return false, ErrKeyTaken
	case s.Lifecycle == lifecycleNone || s.Key == r.Key:
		return false, nil
	}
	for after := prefixDataKey; ; {
		items, err := t.k.store.List(ctx, partTenant(t.tenant), after, MaxListLimit)
		if err != nil {
			return false, storeError(err)
		}
		for _, i := range items {
			if !strings.HasPrefix(i.ID, prefixDataKey) {
				return false, nil
			}
			if i.ID <= after {
				return false, fmt.Errorf("%w: its list of data keys is out of order", ErrStore)
			}
			after = i.ID
			var d dataKeyItem
			if err := decodeItem(i.Value, &d); err != nil {
				return false, err
			}
			h, _, _, err := format.Parse(d.Header)
			if err != nil {
				return false, fmt.Errorf("%w: a data key is damaged", ErrStore)
			}
			if recipientOf(h, s.Key).Key != "" && !r.AbandonExistingData {
				return false, ErrMoveRequired
			} else if recipientOf(h, s.Key).Key != "" {
				return true, nil
			}
		}
		if len(items) < MaxListLimit {
			return false, nil
		}
	}
}

// activate makes a pending key active if the waiver permits, and returns the
// event of it.
func (t *tenantCache) activate(s *state, cause Event) []Event {
	if s.Lifecycle != lifecyclePending || !s.Ack.of(&t.k.waiver, t.k.waiverHash) {
		return nil
	}
	s.Lifecycle = lifecycleActive
	return []Event{t.k.stamp(Event{Op: OpActivate, Outcome: OutcomeSuccess, Actor: cause.Actor, Scope: cause.Scope,
		Key: s.Key, Version: s.Generation, Reason: "waiver " + s.Ack.Version})}
}
