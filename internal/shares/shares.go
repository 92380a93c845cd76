// Package shares makes the data key of an envelope with policy ALL, of which each recipient
// wraps a share: SPEC.md, "Data key under policy ALL".
package shares

import (
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
)

var errShares = errors.New("shares: fewer than two, one that is not 32 bytes long, or no id of 16 bytes")

// Combine returns the data key with this id. The order of the shares is that of the recipients
// in the header, so another order is another data key. Who lacks one share knows nothing
// about the result: HKDF-Extract is keyed by public bytes, and what it is given is as unpredictable
// as the share that is missing.
//
// The result and the shares are the caller's to wipe.
func Combine(id []byte, shares [][]byte) ([]byte, error) {
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
