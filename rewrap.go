package byok

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
)

// Rewrap gives an envelope that carries its data key a new header: the data key wrapped by
// the tenant's CMK as it is now, by its current key material. The payload is what it was, byte for byte,
// and so is all that Seal bound to it: purpose and aad, which Rewrap need not know but for the purpose. It opens as before, and sealed
// itself goes on doing so.
//
// The new wrapping has been unwrapped before it is returned. Whether the data key fits the
// payload is not looked at: Open will say. An envelope whose data key is in the Store
// gets the Store's wrapping, without a request to KMS while there is a lease. One that carries no data key has
// nothing to wrap anew, and is returned as it is.
//
// Its errors are Open's, and ErrArgument where Options.AllowAnyKeyToOpenAlone would be needed. Nothing in sealed is changed, and the result shares no memory with it.
func (k *Keeper) Rewrap(ctx context.Context, s Scope, sealed []byte) ([]byte, error) {
	s, err := s.check(nil)
	if err != nil {
		return nil, err
	}
	ctx, done, err := k.within(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	t := k.cache(s.Tenant)
	event := Event{Op: OpRewrap, Scope: s}
	h, _, payload, err := format.Parse(sealed)
	switch {
	case err != nil:
		_, err = k.conclude(ctx, event, malformed(err))
		return nil, err
	case h.Tenant != s.Tenant:
		_, err = k.conclude(ctx, event, ErrOpen)
		return nil, err
	}
	event.DataKey = h.DataKey
	if _, err = floe.PlaintextSize(payload); err != nil { // before KMS is asked for a key to it
		_, err = k.conclude(ctx, event, opaque(err))
		return nil, err
	}
	if h.Policy == format.PolicyREF {
		_, _, err = t.permitted(ctx)
		event.Reason = "it carries no data key"
	} else {
		h.Recipients, err = t.rewrapInside(ctx, s.Purpose, h, &event)
	}
	var out []byte
	if err == nil {
		if out, err = h.Append(make([]byte, 0, h.Size()+len(payload))); err != nil {
			err = fmt.Errorf("%w: %w", ErrInternal, err)
		}
	}
	if event, err = k.conclude(ctx, event, opaque(err)); err != nil {
		return nil, err
	}
	t.mu.RLock()
	err = t.refusal()
	t.mu.RUnlock()
	if err != nil { // a denial that came while the event was being recorded
		k.report(ctx, k.withheld(event, err))
		return nil, err
	}
	return append(out, payload...), nil
}

// rewrapInside finds the recipients for an envelope that carries its data key: the tenant's
// keys that wrap it already, each of which has to answer.
func (t *tenantCache) rewrapInside(ctx context.Context, purpose string, h *format.Header, event *Event) ([]format.Recipient, error) {
	_, s, err := t.permitted(ctx)
	if err != nil {
		return nil, err
	}
	event.Key = s.Key
	_, _, err = t.readDataKey(ctx, purpose, h.DataKey)
	switch {
	case err == nil: // the Store's wrapping is the current one
		g, err := t.grantLeased(ctx, purpose, h, 0)
		if err != nil {
			return nil, err
		}
		event.Key, event.Proof, event.Version = g.under.key, g.under.request, g.e.generation
		w := t.wrappingOf(g.e)
		if w.policy != h.Policy || w.moved != nil { // the envelope's policy is for good: it goes on being opened by what the Store has
			event.Reason = "its data key was moved to keys that no envelope of its policy can name"
			return h.Recipients, t.still(ctx, g)
		}
		return w.recipients, t.still(ctx, g)
	case err != ErrNotFound:
		return nil, err
	}
	old, fresh := wrappingOf(h), wrapping{policy: h.Policy}
	if !old.opens(s.keys()) {
		return t.rewrapFormer(ctx, entryID{purpose: purpose, dataKey: h.DataKey}, old, s, event)
	}
	for _, key := range s.keys() {
		wrapped := old.by(key)
		if wrapped == nil {
			continue
		}
		again, err := t.rewrapUnder(ctx, entryID{purpose: purpose, dataKey: h.DataKey, key: key}, wrapped, event)
		if err != nil {
			return nil, err
		}
		fresh.recipients = append(fresh.recipients, recipient(key, again))
	}
	fresh.sort()
	return fresh.recipients, nil
}

// rewrapFormer brings a data key under the tenant's CMKs from under one that the tenant was moved from. That one is
// asked for this and nothing else, if it is still to be had; no KMS is asked about a key that never was the tenant's. Of several
// the next is asked only if one does not answer.
func (t *tenantCache) rewrapFormer(ctx context.Context, blob entryID, old wrapping, s *state, event *Event) ([]format.Recipient, error) {
	err := error(ErrOpen)
	for _, former := range s.Former {
		wrapped := old.by(former)
		if wrapped == nil || old.policy != format.PolicyANY || s.all() || !t.k.mayAskFormer(s, former) {
			continue
		}
		if err := t.k.maySeal(s.keySet); err != nil { // each of them would open it alone
			return nil, err
		}
		if t.denies() { // first of all, its own key has to let us in
			if err := t.recheck(ctx, s, event); err != nil {
				return nil, err
			}
		}
		blob.key = former
		fresh := wrapping{policy: format.PolicyANY}
		for _, key := range s.keys() {
			var again []byte
			if again, err = t.rewrapTo(ctx, blob, key, wrapped, event); err != nil {
				break
			}
			fresh.recipients = append(fresh.recipients, recipient(key, again))
		}
		if err == nil || !passing(err) {
			fresh.sort()
			return fresh.recipients, err
		}
	}
	return nil, err
}

// denies reports whether one of the tenant's keys denied us last.
func (t *tenantCache) denies() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.ContainsFunc(t.keys, func(a *access) bool { return a.lease.Denied() })
}

// rewrapUnder wraps anew what one key has wrapped: a data key, or a share of one.
func (t *tenantCache) rewrapUnder(ctx context.Context, blob entryID, wrapped []byte, event *Event) ([]byte, error) {
	return t.rewrapTo(ctx, blob, blob.key, wrapped, event)
}

// rewrapTo does so under another key, which is the tenant's.
func (t *tenantCache) rewrapTo(ctx context.Context, blob entryID, to KeyID, wrapped []byte, event *Event) ([]byte, error) {
	blob.wrapped = hashWrapped(wrapped)
	if t.blobs.refuses(blob, t.k.clock.Now().Mono) {
		return nil, ErrOpen
	}
	c, err := t.ask(to, &t.budget.unknown)
	if err != nil {
		return nil, err
	}
	w := &wrapper{t: t, from: blob.key, to: to, toAccess: c.access, pool: c.pool}
	if blob.key == to {
		w.fromAccess = c.access
	}
	w.paid.Store(true)
	fresh, err := w.wrap(ctx, wrapped, t.context(blob.purpose, blob.dataKey))
	event.Calls, event.Reason = append(event.Calls, fresh.calls...), fresh.method
	if err == nil {
		event.Proof = fresh.calls[len(fresh.calls)-1].RequestID
	}
	var ke *KeyError
	if bad := errors.As(err, &ke) && ke.Class == ClassBlob; bad || err == nil {
		t.blobs.note(blob, t.k.clock.Now().Mono, !bad)
	}
	return fresh.wrapped, err
}
