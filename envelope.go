package byok

import (
	"context"
	"errors"
	"fmt"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// MaxAAD is the longest aad, in bytes.
const MaxAAD = format.MaxAAD

// grant is the permission to use one data key once, and what the event of that
// use has to say.
type grant struct {
	e       *entry
	proof   string           // request id under the lease
	from    format.Recipient // where an envelope carries the data key; else zero
	inside  bool             // per-operation: the envelope carries wrapped
	wrapped []byte
	calls   []KMSCall
}

// Seal encrypts plaintext for a tenant and purpose, bound to aad: Open needs the
// same three. aad says which record this is ("invoices/42"), is at most 8 KiB, and
// is not stored; nil and empty are the same. The result is 131 bytes and the
// tenant's name longer than plaintext of up to 64 KiB, and is self-describing
// but for purpose and aad.
//
// The error is ErrNotRegistered, ErrWaiverRequired, ErrKeyRevoked (with its
// kinds), ErrKeyUnavailable (with its kinds), ErrAudit, ErrStore, ErrArgument,
// ErrInternal or ErrClosed; in no case is anything but a whole envelope
// returned. Seal does not keep or change its arguments.
func (k *Keeper) Seal(ctx context.Context, s Scope, plaintext, aad []byte) ([]byte, error) {
	s, err := s.check(aad)
	if err != nil {
		return nil, err
	}
	if !k.enter() {
		return nil, ErrClosed
	}
	defer k.leave()
	t := k.cache(s.Tenant)
	var out []byte
	g, err := t.use(ctx, func() (grant, error) { return t.grantSeal(ctx, s.Purpose) },
		func(g grant, raw []byte) (err error) {
			header, core, err := g.header(s.Tenant)
			if err != nil {
				return err
			}
			dst := make([]byte, len(header), len(header)+floe.SealedSize(floe.Params{}, len(plaintext)))
			copy(dst, header)
			out, err = floe.Seal(dst, raw, floe.Params{}, format.PayloadAAD(core, s.Purpose, aad), plaintext)
			return err
		})
	if errors.Is(err, ErrOpen) {
		// The tenant's own current data key cannot be unwrapped: not the caller's fault.
		err = fmt.Errorf("%w: the current data key is damaged", ErrInternal)
	}
	if err = t.deliver(ctx, Event{Op: OpSeal, Scope: s}, g, err); err != nil {
		clear(out)
		return nil, err
	}
	t.sealed.Store(k.clock.Now().Wall.UnixNano())
	return out, nil
}

// Open decrypts what Seal made, for the same tenant, purpose and aad. Any other
// input gives ErrOpen, which does not say what was wrong; ErrMalformed, which
// is an ErrOpen, says that it is not an envelope at all. Otherwise its errors are
// Seal's. It returns the whole plaintext or none; an empty one is not nil.
func (k *Keeper) Open(ctx context.Context, s Scope, sealed, aad []byte) ([]byte, error) {
	s, err := s.check(aad)
	if err != nil {
		return nil, err
	}
	if !k.enter() {
		return nil, ErrClosed
	}
	defer k.leave()
	t := k.cache(s.Tenant)
	event := Event{Op: OpOpen, Scope: s}
	h, core, payload, err := format.Parse(sealed)
	switch {
	case err != nil:
		return nil, t.deliver(ctx, event, grant{}, malformed(err))
	case h.Tenant != s.Tenant, h.Policy == format.PolicyALL:
		return nil, t.deliver(ctx, event, grant{}, ErrOpen)
	}
	event.DataKey = h.DataKey
	if err := floe.Check(payload); err != nil { // before KMS is asked for a key to it
		return nil, t.deliver(ctx, event, grant{}, opaque(err))
	}
	var out []byte
	g, err := t.use(ctx, func() (grant, error) { return t.grantOpen(ctx, s.Purpose, h) },
		func(_ grant, raw []byte) (err error) {
			out, err = floe.Open(nil, raw, format.PayloadAAD(core, s.Purpose, aad), payload)
			return err
		})
	err = opaque(err)
	if err = t.deliver(ctx, event, g, err); err != nil {
		clear(out)
		return nil, err
	}
	t.opened.Store(k.clock.Now().Wall.UnixNano())
	return out, nil
}

// check returns s with its default purpose, or ErrArgument.
func (s Scope) check(aad []byte) (Scope, error) {
	if s.Purpose == "" {
		s.Purpose = "default"
	}
	switch {
	case !format.ValidTenant(s.Tenant):
		return s, errTenant
	case !format.ValidPurpose(s.Purpose):
		return s, fmt.Errorf("%w: a purpose is 1 to 64 bytes of [a-z0-9._-]", ErrArgument)
	case len(aad) > MaxAAD:
		return s, fmt.Errorf("%w: aad is longer than %d bytes", ErrArgument, MaxAAD)
	}
	return s, nil
}

var errTenant = fmt.Errorf("%w: a tenant is 1 to 128 bytes, 0x21 to 0x7e", ErrArgument)

// use lends the data key of a grant to f. An entry that was evicted between the
// grant and the use is fetched anew.
func (t *tenantCache) use(ctx context.Context, get func() (grant, error), f func(g grant, raw []byte) error) (g grant, err error) {
	for range 3 {
		if t.k.closed.Load() {
			return g, ErrClosed
		}
		if g, err = get(); err != nil {
			return g, err
		}
		if err = g.e.dek.Use(func(raw []byte) error { return f(g, raw) }); err != errWiped {
			break
		}
	}
	if g.calls != nil {
		g.e.dek.Wipe() // per-operation: used once
	}
	if err == errWiped {
		err = ErrKeyUnavailable
	}
	if rerr := t.still(ctx, g); rerr != nil {
		err = rerr // whatever came out, a denial is the newer truth
	}
	return g, err
}

// still asks whether a result may leave. A lease that ended during the
// operation, with nobody refusing anything, is proved anew: an operation that began well
// shall not fail because the audit log was slow (I7).
func (t *tenantCache) still(ctx context.Context, g grant) error {
	err := t.release(g.e)
	if err != errLeaseEnded || g.inside {
		return err
	}
	id := g.e.id
	var e *entry
	if g.e.generation == 0 {
		e, err = t.loadInside(ctx, id.purpose, id.dataKey, g.from, OpLease)
	} else {
		e, err = t.loadStored(ctx, id.purpose, id.dataKey, OpLease)
	}
	if err != nil {
		return err
	}
	if e.id != id { // another CMK wraps it by now
		return errLeaseEnded
	}
	return t.release(e)
}

// deliver records the outcome of an operation, and asks for the last time
// whether its result may leave.
func (t *tenantCache) deliver(ctx context.Context, event Event, g grant, err error) error {
	event.Calls, event.Proof = g.calls, g.proof
	if g.e != nil {
		event.Key, event.DataKey, event.Version = g.e.id.key, g.e.id.dataKey, g.e.generation
	}
	event, err = t.k.conclude(ctx, event, err)
	if err != nil {
		return err
	}
	if err = t.still(ctx, g); err != nil {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		_ = t.k.record(rctx, t.k.withheld(event, err))
	}
	return err
}

// header returns what stands before the payload, and the part of it that is bound.
func (g grant) header(tenant string) (header, core []byte, err error) {
	if !g.inside {
		return g.e.core, g.e.core, nil
	}
	h := format.Header{Suite: format.SuiteFLOE, Policy: format.PolicyANY, DataKey: g.e.id.dataKey, Tenant: tenant,
		Recipients: []format.Recipient{{Provider: g.e.id.key.Provider, Key: g.e.id.key.ID, Wrapped: g.wrapped}}}
	if header, err = h.Append(nil); err == nil {
		core, err = h.AppendCore(nil)
	}
	return header, core, err
}

// grantSeal finds the data key that seals now.
func (t *tenantCache) grantSeal(ctx context.Context, purpose string) (grant, error) {
	if t.k.perOperation {
		return t.sealAlone(ctx, purpose)
	}
	t.mu.RLock()
	g, st, err := t.look(t.current[purpose])
	t.mu.RUnlock()
	if err == nil && st == lease.Expired {
		t.k.stats.misses.Add(1)
		g.e, err = t.loadCurrent(ctx, purpose)
		return t.loaded(g, err)
	}
	return t.served(ctx, g, st, err)
}

// grantOpen finds the data key that an envelope names.
func (t *tenantCache) grantOpen(ctx context.Context, purpose string, h *format.Header) (grant, error) {
	if t.k.perOperation {
		return t.openAlone(ctx, purpose, h)
	}
	t.mu.RLock()
	id := entryID{purpose: purpose, dataKey: h.DataKey}
	if t.access != nil {
		id.key = t.access.key
	}
	inside := recipientOf(h, id.key)
	e := t.entries[id]
	if e == nil && inside.Key != "" {
		id.wrapped = hashWrapped(inside.Wrapped)
		e = t.entries[id]
	}
	g, st, err := t.look(e)
	t.mu.RUnlock()
	g.from = inside
	if err != nil || st != lease.Expired {
		return t.served(ctx, g, st, err)
	}
	t.k.stats.misses.Add(1)
	g.e, err = t.loadStored(ctx, purpose, h.DataKey, OpLease)
	if err == ErrNotFound && h.Policy == format.PolicyANY {
		// The Store has said that it does not know this data key. A Store that
		// fails says no such thing, and ends up in the other arm.
		if g.from = t.registered(h); g.from.Key == "" {
			return g, ErrOpen
		}
		g.e, err = t.loadInside(ctx, purpose, h.DataKey, g.from, OpLease)
	}
	return t.loaded(g, err)
}

// look judges what the cache has. The caller holds mu.
func (t *tenantCache) look(e *entry) (g grant, st lease.State, err error) {
	if a := t.access; a != nil && a.lease.Denied() && !a.lease.MayAsk(t.k.clock.Now()) {
		return g, lease.Denied, a.denial() // at once, whatever the Store would say
	}
	if e == nil {
		return g, lease.Expired, nil
	}
	if st = t.check(e); st == lease.Denied {
		st = lease.Expired // but a question to KMS is due
	}
	if st == lease.Refresh && t.flights[e.id.flight()] != nil {
		st = lease.Active // its renewal is under way
	}
	return grant{e: e, proof: e.request}, st, nil
}

// served ends a hit, and sees to its renewal.
func (t *tenantCache) served(ctx context.Context, g grant, st lease.State, err error) (grant, error) {
	if err != nil {
		return g, err
	}
	t.hits.Add(1)
	if st == lease.Refresh {
		t.renew(ctx, g.e, g.from)
	}
	return g, nil
}

// loaded ends a miss.
func (t *tenantCache) loaded(g grant, err error) (grant, error) {
	if err == nil {
		t.mu.RLock()
		g.proof = g.e.request
		t.mu.RUnlock()
	}
	return g, err
}

// registered returns the recipient of h whose key is the tenant's now, if any.
func (t *tenantCache) registered(h *format.Header) format.Recipient {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.access == nil {
		return format.Recipient{}
	}
	return recipientOf(h, t.access.key)
}

func recipientOf(h *format.Header, key KeyID) format.Recipient {
	for _, r := range h.Recipients {
		if r.Provider == key.Provider && r.Key == key.ID {
			return r
		}
	}
	return format.Recipient{}
}

// malformed says why bytes are no envelope: a header is public.
func malformed(err error) error {
	var m *format.MalformedError
	if errors.As(err, &m) {
		return fmt.Errorf("%w: %s", ErrMalformed, m.Reason)
	}
	return ErrMalformed
}

// Header is what an envelope says of itself.
type Header struct {
	Version, Suite, Policy uint8
	DataKey                DataKeyID
	Tenant                 string
	Recipients             []Recipient // none: the data key is in the Store
}

// Recipient is a CMK, and the data key wrapped by it.
type Recipient struct {
	Key     KeyID
	Wrapped []byte
}

// Inspect reads an envelope's header. Nothing in it is authenticated: whoever
// wrote the bytes wrote whatever it says. The error is ErrMalformed, with the
// reason in its text.
func Inspect(sealed []byte) (Header, error) {
	h, _, _, err := format.Parse(sealed)
	if err != nil {
		return Header{}, malformed(err)
	}
	out := Header{Version: format.Version, Suite: h.Suite, Policy: h.Policy, DataKey: h.DataKey, Tenant: h.Tenant}
	for _, r := range h.Recipients {
		out.Recipients = append(out.Recipients, Recipient{KeyID{r.Provider, r.Key}, r.Wrapped})
	}
	return out, nil
}
