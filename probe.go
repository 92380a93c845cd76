package byok

import (
	"context"
	"errors"
	"fmt"

	"github.com/byok-go/byok/internal/random"
)

// prober asks KMS what a CMK lets us do, and what it should not. What it should
// not never feeds a lease. What it should does if access is set: a denial is one, and a success grants
// nothing. It is not set in a registration: the CMK is not the tenant's yet.
type prober struct{ caller }

// validate uses the CMK as the tenant would, and as nobody may. A denial of the
// former is an error; what the latter found is the binding.
func (p *prober) validate(ctx context.Context) (binding string, err error) {
	ec := p.k.context(p.tenant, "default", newDataKeyID())
	made, err := p.generate(ctx, ec)
	if err != nil {
		return "", err
	}
	defer made.dek.Wipe()
	if err := p.opens(ctx, made.wrapped, made.dek, ec); err != nil {
		return "", err
	}
	wrapped, err := p.wrap(ctx, made.dek, ec)
	if err != nil {
		return "", err
	}
	if err := p.opens(ctx, wrapped.wrapped, made.dek, ec); err != nil {
		return "", err
	}
	// Never a real tenant's id: a stranger's probe must not look like a customer's use.
	stranger := ec.Clone()
	stranger[ContextTenant] = "probe-" + random.Text()
	a, b := p.refused(ctx, stranger), p.refused(ctx, nil)
	// "Refused" means something only if we are let in right before and after.
	if _, err := p.wrap(ctx, made.dek, ec); err != nil {
		return "", err
	}
	switch {
	case a == probeAllowed || b == probeAllowed:
		return bindingUnbound, nil
	case a == probeRefused && b == probeRefused:
		return bindingBound, nil
	}
	return bindingUnknown, nil
}

// opens checks that KMS gives back the same key.
func (p *prober) opens(ctx context.Context, wrapped []byte, dek *DEK, ec EncryptionContext) error {
	r, err := p.unwrap(ctx, wrapped, ec)
	if err != nil {
		return err
	}
	defer r.dek.Wipe()
	if !sameKey(r.dek, dek) {
		return fmt.Errorf("%w: KMS unwrapped another key than it wrapped", ErrInternal)
	}
	return nil
}

type probe int

const (
	probeUnknown probe = iota
	probeRefused
	probeAllowed
)

// refused asks KMS for something that the policy should not allow.
func (p *prober) refused(ctx context.Context, ec EncryptionContext) probe {
	raw := make([]byte, dekSize)
	random.Read(raw)
	dek, err := NewDEK(raw)
	if err != nil {
		return probeUnknown
	}
	defer dek.Wipe()
	quiet := &caller{k: p.k, tenant: p.tenant, key: p.key, pool: p.pool} // without access
	_, err = quiet.wrap(ctx, dek, ec)
	p.calls = append(p.calls, quiet.calls...)
	var ke *KeyError
	switch {
	case err == nil:
		return probeAllowed
	case errors.As(err, &ke) && ke.Class == ClassDenied:
		return probeRefused
	}
	return probeUnknown
}
