package byok

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
)

// MaxAAD is the longest aad, in bytes.
const MaxAAD = format.MaxAAD

// Seal encrypts plaintext for a tenant and purpose, bound to aad: Open needs the
// same three. aad says which record this is ("invoices/42"), is at most 8 KiB, and
// is not stored; nil and empty are the same. The result is 131 bytes and the
// tenant's name longer than plaintext of up to 64 KiB, see [SealedSize], and is
// self-describing but for purpose and aad.
//
// The error is ErrNotRegistered, ErrWaiverRequired, ErrKeyRevoked (with its
// kinds), ErrKeyUnavailable (with its kinds), ErrAudit, ErrStore, ErrArgument,
// ErrInternal or ErrClosed; in no case is anything but a whole envelope
// returned. Seal does not keep or change its arguments.
func (k *Keeper) Seal(ctx context.Context, s Scope, plaintext, aad []byte) ([]byte, error) {
	return k.AppendSeal(ctx, nil, s, plaintext, aad)
}

// AppendSeal is Seal, and appends the envelope to dst. With room for [SealedSize] bytes
// behind dst's length it is written there, and hardly anything is allocated: so a caller
// can reuse one buffer. If that room overlaps plaintext or aad, the result is in new memory,
// and they keep what they hold.
//
// On failure it returns nil; dst is as it was up to its length, and what is behind it
// may have been overwritten.
func (k *Keeper) AppendSeal(ctx context.Context, dst []byte, s Scope, plaintext, aad []byte) ([]byte, error) {
	o, err := k.begin(s, dst, plaintext, aad)
	if err != nil {
		return nil, err
	}
	defer o.end()
	o.seals = true
	o.g, err = o.t.use(ctx, o)
	if errors.Is(err, ErrOpen) {
		// The tenant's own current data key cannot be unwrapped: not the caller's fault.
		err = fmt.Errorf("%w: the current data key is damaged", ErrInternal)
	}
	return o.deliver(ctx, Event{Op: OpSeal, Scope: o.scope}, err)
}

// Open decrypts what Seal made, for the same tenant, purpose and aad. Any other
// input gives ErrOpen, which does not say what was wrong; ErrMalformed, which
// is an ErrOpen, says that it is not an envelope at all. Otherwise its errors are
// Seal's. It returns the whole plaintext or none; an empty one is not nil.
func (k *Keeper) Open(ctx context.Context, s Scope, sealed, aad []byte) ([]byte, error) {
	return k.AppendOpen(ctx, nil, s, sealed, aad)
}

// AppendOpen is Open, and appends the plaintext to dst: as AppendSeal does, into the room
// behind dst's length, if there are [OpenedSize] bytes of it that overlap neither sealed nor
// aad. So AppendOpen(ctx, sealed[:0], ...) works, and leaves sealed as it is.
//
// On failure it returns nil; dst is as it was up to its length, and nothing of the
// plaintext is left behind it.
func (k *Keeper) AppendOpen(ctx context.Context, dst []byte, s Scope, sealed, aad []byte) ([]byte, error) {
	o, err := k.begin(s, dst, sealed, aad)
	if err != nil {
		return nil, err
	}
	defer o.end()
	event := Event{Op: OpOpen, Scope: o.scope}
	if event.DataKey, err = o.parse(); err != nil {
		return o.deliver(ctx, event, err)
	}
	o.g, err = o.t.use(ctx, o)
	return o.deliver(ctx, event, opaque(err))
}

// SealedSize is how long the envelope of n bytes of plaintext is, and -1 if there is no
// such tenant or length. It holds for every Keeper but one with PerOperation, whose
// envelopes carry a wrapped data key, of a length that only the KMS knows.
func SealedSize(tenant string, n int) int {
	h := format.Header{Policy: format.PolicyREF, Tenant: tenant}
	size := floe.SealedSize(floe.Params{}, n)
	if !format.ValidTenant(tenant) || size < 0 || size > math.MaxInt-h.Size() {
		return -1
	}
	return h.Size() + size
}

// OpenedSize is how many bytes of plaintext an envelope holds, and -1 if it is none that
// opens. Nothing of it is authenticated before it is opened: so it sizes a buffer, and says nothing.
func OpenedSize(sealed []byte) int {
	var h format.Header
	_, payload, err := h.Parse(sealed)
	if err != nil {
		return -1
	}
	n, err := floe.PlaintextSize(payload)
	if err != nil {
		return -1
	}
	return n
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
	event.Calls, event.Proof = g.calls, g.under.request
	if g.e != nil {
		event.Key, event.DataKey, event.Version = g.under.key, g.e.id.dataKey, g.e.generation
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
	return headerOf(h), nil
}

func headerOf(h *format.Header) Header {
	out := Header{Version: format.Version, Suite: h.Suite, Policy: h.Policy, DataKey: h.DataKey, Tenant: h.Tenant}
	for _, r := range h.Recipients {
		out.Recipients = append(out.Recipients, Recipient{KeyID{r.Provider, r.Key}, r.Wrapped})
	}
	return out
}
