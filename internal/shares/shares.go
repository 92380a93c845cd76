// Package shares makes the data key of an envelope with policy ALL, of which each recipient
// wraps a share: SPEC.md, "Data key under policy ALL"; and it wraps a data key that exists already under such shares: SPEC.md,
// "A data key at rest".
package shares

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"
	"errors"
)

// Size is the length of a share, and of the data key.
const Size = 32

// The labels keep these keys apart from everything else that HKDF ever derives.
const (
	salt = "byok/v1/all\x00"
	info = "byok/v1/data-key\x00"
	wrap = "byok/v1/wrap-key\x00"
)

// WrappedSize is the length of a data key that Wrap has wrapped: nonce, ciphertext and tag.
const WrappedSize = 12 + Size + 16

var errShares = errors.New("shares: fewer than two, one that is not 32 bytes long, or no id of 16 bytes")

// Combine returns the data key with this id. The order of the shares is that of the recipients
// in the header, so another order is another data key. Who lacks one share knows nothing
// about the result: HKDF-Extract is keyed by public bytes, and what it is given is as unpredictable
// as the share that is missing.
//
// The result and the shares are the caller's to wipe.
func Combine(id []byte, shares [][]byte) ([]byte, error) { return derive(id, shares, info) }

// Wrap wraps a data key, which was made otherwise, under a key of all shares. These are for this one data key
// and nothing else. There is no additional data: whoever has the shares unwrapped says what they are for.
func Wrap(id []byte, shares [][]byte, key []byte) ([]byte, error) {
	if len(key) != Size {
		return nil, errShares
	}
	a, err := wrapper(id, shares)
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, key, nil), nil
}

// Unwrap returns what Wrap was given. An error says nothing about what was wrong.
func Unwrap(id []byte, shares [][]byte, wrapped []byte) ([]byte, error) {
	if len(wrapped) != WrappedSize {
		return nil, errShares
	}
	a, err := wrapper(id, shares)
	if err != nil {
		return nil, err
	}
	return a.Open(nil, nil, wrapped, nil)
}

func wrapper(id []byte, shares [][]byte) (cipher.AEAD, error) {
	key, err := derive(id, shares, wrap)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(b) // the only one that FIPS 140-3 mode has
}

func derive(id []byte, shares [][]byte, info string) ([]byte, error) {
	// With one share, ALL would be ANY under another name.
	if len(shares) < 2 || len(id) != 16 {
		return nil, errShares
	}
	ikm := make([]byte, 0, len(shares)*(2+Size))
	defer func() { clear(ikm) }()
	for _, s := range shares {
		if len(s) != Size {
			return nil, errShares
		}
		ikm = append(binary.BigEndian.AppendUint16(ikm, Size), s...)
	}
	prk, err := hkdf.Extract(sha512.New384, ikm, append([]byte(salt), id...))
	if err != nil {
		return nil, err
	}
	defer clear(prk)
	return hkdf.Expand(sha512.New384, prk, info, Size)
}
