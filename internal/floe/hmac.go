package floe

import (
	"bytes"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha512"
	"crypto/subtle"
	"encoding"
	"hash"
)

// HMAC-SHA-384 (RFC 2104, FIPS 198-1) comes from one of two places, with the same result.
//
// In FIPS 140-3 mode it is crypto/hmac, so that all of key derivation is inside Go's
// validated module. Otherwise nothing is validated, and it is made here of crypto/sha512:
// crypto/hmac needs three new objects for each key, and keeps the key's pads in them, where
// nobody can clear them. Here a pad is in memory for as long as it is hashed.
var validated = fips140.Enabled()

// The two pads that a key is combined with.
var (
	innerPad = bytes.Repeat([]byte{0x36}, sha512.BlockSize)
	outerPad = bytes.Repeat([]byte{0x5c}, sha512.BlockSize)
)

// padded is a key as HMAC uses it: SHA-384 after its inner, and after its outer pad. It is as
// secret as the key, from which it cannot be told, and it is not changed until it is wiped.
type padded struct{ inner, outer []byte }

// hasher computes HMACs. It must not be used concurrently.
type hasher struct {
	hash  hash.Hash // SHA-384
	block [sha512.BlockSize]byte
	inner [sha512.Size384]byte

	// In FIPS mode: what the HMAC of a message's key hashes with, and the function that hands
	// it out. crypto/hmac cannot be given another key, but it can be given hashes whose last
	// HMAC is no longer in use.
	digests [2]hash.Hash
	turn    int
	digest  func() hash.Hash
}

func (h *hasher) init() {
	h.digests = [2]hash.Hash{sha512.New384(), sha512.New384()}
	h.hash, h.digest = h.digests[0], h.next
}

// next returns an empty hash, in turn one of the two: an HMAC needs an inner and
// an outer one. In FIPS-only mode crypto/hmac asks for a third, to look at its type.
func (h *hasher) next() hash.Hash {
	h.turn ^= 1
	d := h.digests[h.turn]
	d.Reset()
	return d
}

// validatedMAC returns crypto/hmac's HMAC. In FIPS-only mode it panics for keys below 112 bits;
// ours are 32 and 48 bytes long.
func validatedMAC(hash func() hash.Hash, key []byte) hash.Hash { return hmac.New(hash, key) }

// hmac sets out to the HMAC of data under key.
func (h *hasher) hmac(out *[sha512.Size384]byte, key, data []byte) {
	if validated {
		mac := validatedMAC(h.digest, key)
		mac.Write(data)
		mac.Sum(out[:0])
		return
	}
	h.pad(key, innerPad)
	h.hash.Write(data)
	h.hash.Sum(h.inner[:0])
	h.pad(key, outerPad)
	h.hash.Write(h.inner[:])
	h.hash.Sum(out[:0])
}

// padded returns key with its two pads hashed, for hmacOf.
func (h *hasher) padded(key []byte) *padded {
	return &padded{h.state(key, innerPad), h.state(key, outerPad)}
}

// hmacOf is hmac for the key that p was made of: two blocks less to hash.
func (h *hasher) hmacOf(out *[sha512.Size384]byte, p *padded, data []byte) {
	h.resume(p.inner)
	h.hash.Write(data)
	h.hash.Sum(h.inner[:0])
	h.resume(p.outer)
	h.hash.Write(h.inner[:])
	h.hash.Sum(out[:0])
}

// pad begins a hash with a pad of key, which is not longer than a block.
func (h *hasher) pad(key []byte, with []byte) {
	if len(key) > len(h.block) {
		panic("byok: internal error: floe: HMAC key longer than a block")
	}
	copy(h.block[:], with)
	subtle.XORBytes(h.block[:], h.block[:], key)
	h.hash.Reset()
	h.hash.Write(h.block[:]) // a whole block, of which the hash keeps no copy
	clear(h.block[:])
}

func (h *hasher) state(key []byte, with []byte) []byte {
	h.pad(key, with)
	b, err := h.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic("byok: internal error: floe: " + err.Error())
	}
	return b
}

func (h *hasher) resume(state []byte) {
	if err := h.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		panic("byok: internal error: floe: " + err.Error())
	}
}

// wipe clears what the last HMAC has left: the state of its hash, and the end of its input,
// which Reset leaves where it was.
func (h *hasher) wipe() {
	clear(h.inner[:])
	for i, d := range h.digests {
		if i == 0 || validated {
			d.Reset()
			d.Write(h.block[1:]) // less than a block: it is kept, not hashed
			d.Reset()
		}
	}
}

func (p *padded) wipe() {
	clear(p.inner)
	clear(p.outer)
}
