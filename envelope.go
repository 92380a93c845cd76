package byok

import (
	"context"
	"errors"
	"fmt"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
)

// MaxAAD is the longest aad, in bytes.
const MaxAAD = format.MaxAAD

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
	g, err := t.use(ctx, func() (grant, error) { return t.grantSeal(ctx, s.Purpose, len(plaintext)) },
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
		t.k.report(ctx, t.k.withheld(event, err))
	}
	return err
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
