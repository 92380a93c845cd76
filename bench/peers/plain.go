package peers

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
)

// The yardsticks are AES-256-GCM and nothing else, with random nonces. cipher.NewGCM with a
// nonce that is drawn beforehand costs the same, and is refused in FIPS-only mode.

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // they are 32 bytes
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

func newKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}

// plainReused has one key for everything, which nobody can take away.
type plainReused struct{ aead cipher.AEAD }

func startPlainReused(_ context.Context, w *World) (Library, error) {
	if w.disk == nil {
		w.disk = newKey()
	}
	return &plainReused{newGCM(w.disk.([]byte))}, nil
}

func (p *plainReused) Seal(ctx context.Context, tenant string, plain, aad []byte) ([]byte, error) {
	return p.AppendSeal(ctx, nil, tenant, plain, aad)
}

func (p *plainReused) Open(ctx context.Context, tenant string, sealed, aad []byte) ([]byte, error) {
	return p.AppendOpen(ctx, nil, tenant, sealed, aad)
}

func (p *plainReused) AppendSeal(_ context.Context, dst []byte, _ string, plain, aad []byte) ([]byte, error) {
	return p.aead.Seal(dst, nil, plain, aad), nil
}

func (p *plainReused) AppendOpen(_ context.Context, dst []byte, _ string, sealed, aad []byte) ([]byte, error) {
	return p.aead.Open(dst, nil, sealed, aad)
}

func (p *plainReused) Close() error { return nil }

// plainFresh is an envelope without its purpose: each message has a key of its own, which
// stands before it, in clear.
type plainFresh struct{}

func startPlainFresh(context.Context, *World) (Library, error) { return plainFresh{}, nil }

func (plainFresh) Seal(_ context.Context, _ string, plain, aad []byte) ([]byte, error) {
	key := newKey()
	out := append(make([]byte, 0, 32+12+len(plain)+16), key...)
	return newGCM(key).Seal(out, nil, plain, aad), nil
}

func (plainFresh) Open(_ context.Context, _ string, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < 32 {
		return nil, errors.New("no key")
	}
	return newGCM(sealed[:32]).Open(nil, nil, sealed[32:], aad)
}

func (plainFresh) Close() error { return nil }
