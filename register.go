package byok

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
// registered but its event waits for the sink. Makes 7 KMS requests for each key.
//
// A tenant that is under the platform's CMK (Options.PlatformKeys) and has data keys registers by a move: what the platform's CMK has
// wrapped is wrapped under the new one first, as in [Tenant.Move], by the job that the status names beside MovingTo, and Seal and Open
// go on meanwhile. The switch makes the key the tenant's, if the current waiver is acknowledged; until then it waits. It
// begins a new generation of data keys, and nothing brings the tenant back. The platform's CMK must work too,
// else nothing changes; ErrSuspended and ErrJobRunning are possible then. The same
// call again returns the same job; [Tenant.CancelJob] ends it until it has switched.
//
// With Registration.Others the tenant has several CMKs, each of which can stop it. Each is
// validated in this way. Under PolicyAll the others may be used by many tenants, and their policies need not be
// bound to one. Other keys than before begin a new generation of data keys; what older data keys sealed goes on
// to open as it was wrapped, and under PolicyAll with the consent of every key.
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
	if s == nil || err == errUnchanged {
		if err == errUnchanged {
			err = nil
		}
		if _, err = t.k.conclude(ctx, event, err); err != nil || s == nil {
			return KeyStatus{}, err
		}
	}
	if s.Job != nil {
		t.k.jobs.nudge()
	}
	return c.snapshot(s), err
}

// register returns the new state, and errUnchanged beside the one that there is.
func (t *tenantCache) register(ctx context.Context, r Registration, event *Event) (*state, error) {
	wanted := &state{keySet: keySet{r.Key, slices.Clone(r.Others), r.Policy}}
	if err := t.k.checkKeys(wanted.keySet); err != nil {
		return nil, err
	}
	if t.k.platformOwns(wanted) {
		return nil, ErrKeyTaken // no request is made under it for whoever names it
	}
	s, err := t.readState(ctx)
	if err == nil {
		_, err = t.mayRegister(ctx, s, wanted, r.AbandonExistingData)
	}
	if err == errLeaves {
		return t.leavePlatform(ctx, r, event)
	}
	if err != nil {
		return nil, err
	}
	var binding string
	var held []*heldClaim
	for _, key := range wanted.keys() {
		h, found, kerr := t.validate(ctx, key, nil, wanted.shares(key), event)
		if kerr != nil {
			return nil, kerr
		}
		if held = append(held, h); !h.shared {
			binding = worse(binding, found)
		}
	}
	s, err = t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		abandon, err := t.mayRegister(ctx, s, wanted, r.AbandonExistingData)
		if err != nil {
			return change{}, err
		}
		claimed, err := takeAll(ctx, t, held)
		if err != nil {
			return change{}, err
		}
		now := *event
		var warnings []Warning
		if s.Platform { // nothing was under it, or it was given up
			warnings, s.Former = s.left(append(slices.Clone(s.Former), s.Key), wanted.Key), nil
		}
		if s.Generation == 0 || s.DataKeys > 0 && !s.sameKeys(wanted) {
			s.Generation++ // all data keys of a generation are wrapped by the same keys
		}
		if abandon {
			now.Reason = "existing data abandoned: " + s.describeKeys()
		} else if r.Policy != "" {
			now.Reason = wanted.describeKeys()
		}
		if s.Key != r.Key { // these are about the other CMK
			s.LastRotationAt, s.MaterialID, s.MaterialAt = time.Time{}, "", time.Time{}
		}
		s.keySet = wanted.keySet
		s.Alias, s.Description, s.Binding = r.Alias, r.Description, binding
		s.Drillable = r.Drillable
		s.CreatedAt, s.LastValidatedAt = now.Time, now.Time
		s.Lifecycle, s.RevokeReason = lifecyclePending, ""
		now.Version = s.Generation
		ch := change{events: append([]Event{now}, t.activate(s, now)...), writes: claimed, warnings: warnings}
		t.material(s, now, &ch)
		return ch, nil
	})
	if err == errLeaves { // the first data key was made meanwhile
		return t.leavePlatform(ctx, r, event)
	}
	if s == nil {
		return nil, err
	}
	t.mu.Lock()
	for _, key := range wanted.keys() {
		if a := t.accessOf(key); a != nil {
			// Seven answers say that we are let in. None of them is a proof for a data
			// key; but an earlier denial need not wait any longer to be looked into.
			if a.lease.Hint(t.k.clock.Now()); a.seen == AccessUnknown {
				a.sees(AccessAccessible, nil)
			}
		}
	}
	t.mu.Unlock()
	for _, h := range held {
		if h.tenant != "" && h.tenant != t.tenant {
			_ = t.k.cache(h.tenant).flush(ctx) // or later: it is in its outbox
		}
	}
	return s, err
}

// checkKeys refuses a key set before anybody is asked about it.
func (k *Keeper) checkKeys(s keySet) error {
	for _, key := range s.keys() {
		if !format.ValidProvider(key.Provider) || !format.ValidKey(key.ID) {
			return errNoKeyID
		}
	}
	switch {
	case s.Key == (KeyID{}):
		return errNoKeyID
	case !s.keysOK():
		return fmt.Errorf("%w: 2 to %d different keys need Policy %q or %q, and one key needs none", ErrArgument, maxKeys, PolicyAny, PolicyAll)
	}
	return k.maySeal(s)
}

// errAnyAlone: see Options.AllowAnyKeyToOpenAlone.
var errAnyAlone = fmt.Errorf("%w: this Keeper makes nothing that each of several keys opens alone (Options.AllowAnyKeyToOpenAlone)", ErrArgument)

// validate uses a CMK, and then looks at who has claimed it. shares: it is a further key of all, which
// restricts and opens nothing. So it may be one that many tenants share, and whom its policy lets in is no matter.
//
// KMS is asked before any tenant's claim is looked at: a stranger to the CMK learns nothing
// about who is a customer. If it is the platform's, KMS is not asked at all.
//
// a hears of denials if key is the tenant's already, and is nil if not.
func (t *tenantCache) validate(ctx context.Context, key KeyID, a *access, shares bool, event *Event) (held *heldClaim, binding string, err error) {
	if held, err = t.k.readClaim(ctx, key); err != nil {
		return nil, "", err
	} else if held.platform { // which another Keeper was given
		return nil, "", ErrKeyTaken
	}
	p := &prober{caller: caller{k: t.k, tenant: t.tenant, key: key, access: a, pool: &t.budget.control}}
	defer func() { event.Calls = append(event.Calls, p.calls...) }()
	if binding, err = p.validate(ctx); err != nil {
		return nil, "", err
	}
	if !t.k.allowUnbound && !shares {
		switch binding {
		case bindingUnbound:
			return nil, "", ErrPolicyUnbound
		case bindingUnknown:
			return nil, "", fmt.Errorf("%w: could not check that the key policy is bound to the tenant", ErrKeyUnavailable)
		}
	}
	held, err = p.contest(ctx, binding, shares)
	return held, binding, err
}

// mayRegister reports whether s permits other keys in its place, and whether they
// abandon data.
func (t *tenantCache) mayRegister(ctx context.Context, s, wanted *state, abandonData bool) (abandon bool, err error) {
	switch {
	case s.Lifecycle == lifecyclePending || s.Lifecycle == lifecycleActive:
		return false, ErrKeyTaken
	case s.Platform && s.Job != nil && s.Job.Own == nil, s.Platform && s.Job != nil && abandonData:
		return false, ErrJobRunning
	case s.Platform && !abandonData && (s.DataKeys > 0 || s.Carried):
		return false, errLeaves
	case s.Lifecycle == lifecyclePlatform && (s.DataKeys > 0 || s.Carried): // whose processes are sealing now
		return false, fmt.Errorf("%w: Revoke first, to give up what the platform's key has wrapped", ErrArgument)
	case s.Platform:
		return s.DataKeys > 0 || s.Carried, nil
	case s.Lifecycle == lifecycleNone || s.sameKeys(wanted):
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
			var id DataKeyID
			w, ok := wrapping{}, id.UnmarshalText([]byte(strings.TrimPrefix(i.ID, prefixDataKey))) == nil
			if ok {
				w, ok = d.settle(t.tenant, id, s.keys())
			}
			if a := s.Job; ok && a != nil && a.Switched && d.Job == a.ID && d.Next != nil { // the other one is being taken out
				if next, whole := d.next(t.tenant, id); whole && a.To.wraps(next) {
					w = next
				}
			}
			if !ok {
				return false, fmt.Errorf("%w: a data key is damaged", ErrStore)
			}
			// What the keys of the past could not open either is lost to none.
			if w.opens(s.keys()) && !w.opens(wanted.keys()) {
				if !abandonData {
					return false, ErrMoveRequired
				}
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
