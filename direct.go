package byok

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
	"github.com/byok-go/byok/internal/random"
)

// Direct seals and opens under one CMK with one KMS request each, for exports,
// tools and platforms without a Store. It has no waiver, no registration, no
// lease, no probe of the key policy and no memory of a denial: whoever holds it
// is trusted to know that the key may be used, and KMS is asked every time. If in doubt you want a [Keeper].
//
// What it seals carries its wrapped data key; a Keeper whose tenant has
// registered the same CMK opens it too, and a Direct opens what a Keeper in
// per-operation mode sealed. It is safe for concurrent use.
type Direct struct {
	k   *Keeper // without a Store
	key KeyID
}

// NewDirect returns a Direct; see New for service. It does no I/O. The errors are New's, and ErrKeyID.
func NewDirect(service string, keys Keyring, key KeyID, sink AuditSink) (*Direct, error) {
	if err := random.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	switch {
	case len(service) < 1 || len(service) > 64 || !only(service, isVersionByte):
		return nil, fmt.Errorf("%w: service must be 1 to 64 bytes of [A-Za-z0-9._-]", ErrArgument)
	case keys == nil || sink == nil:
		return nil, fmt.Errorf("%w: a Keyring and an AuditSink are required", ErrArgument)
	case !format.ValidProvider(key.Provider) || !format.ValidKey(key.ID):
		return nil, errNoKeyID
	}
	k := &Keeper{service: service, keys: keys, sink: sink, clock: lease.System(), log: slog.Default()}
	k.ids.init()
	k.done, k.stop = context.WithCancel(context.Background())
	return &Direct{k, key}, nil
}

// Seal is as Keeper.Seal, without the errors of what a Direct does not have.
func (d *Direct) Seal(ctx context.Context, s Scope, plaintext, aad []byte) ([]byte, error) {
	s, err := s.check(aad)
	if err != nil {
		return nil, err
	}
	id := newDataKeyID()
	c := &caller{k: d.k, tenant: s.Tenant, key: d.key}
	r, err := c.generate(ctx, d.k.context(s.Tenant, s.Purpose, id))
	var out []byte
	if err == nil {
		var header, core []byte
		w := wrapping{policy: format.PolicyANY, recipients: []format.Recipient{recipient(d.key, r.wrapped)}}
		if header, core, err = w.headers(s.Tenant, id); err == nil {
			err = r.dek.Use(func(raw []byte) (err error) {
				out, err = floe.Seal(header, raw, floe.Params{}, format.PayloadAAD(core, s.Purpose, aad), plaintext)
				return err
			})
		}
		r.dek.Wipe()
	}
	if err = d.conclude(ctx, OpSeal, s, id, c, r, err); err != nil {
		return nil, err
	}
	return out, nil
}

// Open is as Keeper.Open. An envelope without the key inside, or for another
// CMK, is ErrOpen, and KMS is not asked.
func (d *Direct) Open(ctx context.Context, s Scope, sealed, aad []byte) ([]byte, error) {
	s, err := s.check(aad)
	if err != nil {
		return nil, err
	}
	c := &caller{k: d.k, tenant: s.Tenant, key: d.key}
	h, core, payload, err := format.Parse(sealed)
	if err != nil {
		return nil, d.conclude(ctx, OpOpen, s, DataKeyID{}, c, result{}, malformed(err))
	}
	if err := floe.Check(payload); err != nil {
		return nil, d.conclude(ctx, OpOpen, s, h.DataKey, c, result{}, opaque(err))
	}
	inside := wrappingOf(h).by(d.key)
	if h.Tenant != s.Tenant || h.Policy != format.PolicyANY || inside == nil {
		return nil, d.conclude(ctx, OpOpen, s, h.DataKey, c, result{}, ErrOpen)
	}
	r, err := c.unwrap(ctx, inside, d.k.context(s.Tenant, s.Purpose, h.DataKey))
	var out []byte
	if err == nil {
		err = r.dek.Use(func(raw []byte) (err error) {
			out, err = floe.Open(nil, raw, format.PayloadAAD(core, s.Purpose, aad), payload)
			return err
		})
		r.dek.Wipe()
	}
	err = opaque(err)
	if err = d.conclude(ctx, OpOpen, s, h.DataKey, c, r, err); err != nil {
		clear(out)
		return nil, err
	}
	return out, nil
}

func (d *Direct) conclude(ctx context.Context, op Op, s Scope, id DataKeyID, c *caller, r result, err error) error {
	_, err = d.k.conclude(ctx, Event{Op: op, Scope: s, Key: d.key, DataKey: id, Proof: r.RequestID, Calls: c.calls}, err)
	return err
}

// opaque makes one error of every cryptographic refusal.
func opaque(err error) error {
	switch {
	case errors.Is(err, floe.ErrMalformed):
		return ErrMalformed
	case errors.Is(err, floe.ErrAuth), errors.Is(err, ErrNotFound), errors.Is(err, ErrOpen):
		return ErrOpen // bare: anything more would tell what was wrong
	}
	return err
}
