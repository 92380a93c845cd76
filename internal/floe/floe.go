// Package floe seals and opens payloads with FLOE: Fast Lightweight Online
// Encryption, https://c2sp.org/FLOE, with AES-256-GCM, HKDF-Expand-SHA-384 and
// 32-byte IVs. It is written from the text of that specification.
//
// A FLOE ciphertext is a header and at least one segment:
//
//	header   AEAD id | KDF id | segment length | IV length | IV | header tag
//	segment  length, or ffffffff when others follow | nonce | ciphertext | tag
//
// The header tag commits to the key and to the associated data, so that a
// ciphertext opens under one key and in one context only; it is compared before
// AES is used at all. Each message has its own keys, derived from the caller's
// key and a fresh 256-bit IV. The caller's key is an HKDF key and nothing else:
// it never becomes an AES key.
//
// Three ways in, which read and write the same bytes: [Seal] and [Open] for what
// fits in memory, [Writer] and [Reader] for streams, [ReaderAt] for a part of what lies
// somewhere. None of them takes a position
// or a final flag: with those under an attacker's control FLOE no longer commits,
// so the functions that have them are not exported.
//
// AES-GCM is only reached through [crypto/cipher.NewGCMWithRandomNonce], the one
// constructor that Go's FIPS 140-3 module accepts under GODEBUG=fips140=only.
package floe

import (
	"encoding/binary"
	"errors"
	"math"
)

// What the specification calls AEAD_ID, KDF_ID and so on. AES-256-GCM and
// HKDF-Expand-SHA-384 both have the number 0.
const (
	aeadID   = 0
	kdfID    = 0
	ivSize   = 32
	tagSize  = 32 // of the header, not of AES-GCM
	gcmNonce = 12
	gcmTag   = 16

	paramsSize  = 1 + 1 + 4 + 4
	prefixSize  = paramsSize + ivSize
	lengthSize  = 4
	notFinal    = math.MaxUint32 // the length field of every segment but the last
	maxSegments = 1 << 40
)

const (
	// KeySize is the length of a key.
	KeySize = 32
	// HeaderSize is the length of the header.
	HeaderSize = prefixSize + tagSize
	// SegmentOverhead is what each segment adds to its plaintext. It is also the
	// length of the shortest segment, the final one of an empty message.
	SegmentOverhead = lengthSize + gcmNonce + gcmTag

	// DefaultSegmentSize is the segment length that a zero [Params] stands for.
	DefaultSegmentSize = 65536

	smallSegmentSize = 4096
	largeSegmentSize = 1048576

	// rotationBits: one AES key seals 2^20 segments, then the next is derived.
	rotationBits = 20
)

// The two errors of opening. There are no finer ones on purpose: which check
// refused a ciphertext is what an attacker would like to know.
var (
	// ErrMalformed says that the public parameters in a header are none that this
	// package accepts. Nothing secret was involved in finding out.
	ErrMalformed = errors.New("floe: unsupported parameters in header")

	// ErrAuth is every other refusal: wrong key, wrong associated data, wrong
	// tag, segments missing, reordered, added or cut short.
	ErrAuth = errors.New("floe: message authentication failed")
)

// ErrClosed is what a stream answers after it was closed or given up.
var ErrClosed = errors.New("floe: already closed")

// Mistakes of the caller, which have nothing to do with any ciphertext.
var (
	errKeySize     = errors.New("floe: key must be 32 bytes long")
	errParams      = errors.New("floe: segment size must be 4096, 65536 or 1048576")
	errTooLong     = errors.New("floe: message too long")
	errSegmentSize = errors.New("floe: plaintext does not fit its segment")
	errPermit      = errors.New("floe: a permit took an error for none")
)

// Params chooses how a message is cut into segments. The zero value is the
// default, 65536.
type Params struct {
	// SegmentSize is the length of a sealed segment: 4096, 65536 or 1048576.
	// Zero means [DefaultSegmentSize].
	SegmentSize int
}

// params is what the machinery works with. Known-answer files use other segment
// lengths and rotate keys after 4 segments, so both are variables here; callers
// of the package cannot reach them.
type params struct {
	segment  int
	rotation uint
}

func (p Params) resolve() (params, error) {
	switch p.SegmentSize {
	case 0:
		return params{DefaultSegmentSize, rotationBits}, nil
	case smallSegmentSize, DefaultSegmentSize, largeSegmentSize:
		return params{p.SegmentSize, rotationBits}, nil
	}
	return params{}, errParams
}

// accept reads the parameters of a header, which is not authenticated yet. Three
// segment lengths are allowed and nothing else, because the length decides how
// much memory a reader takes: a header that asks for 4 GiB is refused here. The
// other parameters have one value each; startOpening compares them all.
func accept(header []byte) (params, error) {
	// The detour through Uint32 and uint64 keeps a 32-bit int from turning
	// negative; resolve is not used, since 0 is no default in a header.
	switch size := uint64(binary.BigEndian.Uint32(header[2:6])); size {
	case smallSegmentSize, DefaultSegmentSize, largeSegmentSize:
		return params{int(size), rotationBits}, nil
	}
	return params{}, ErrMalformed
}

// encode is PARAM_ENCODE.
func (p params) encode() (b [paramsSize]byte) {
	b[0], b[1] = aeadID, kdfID
	binary.BigEndian.PutUint32(b[2:], uint32(p.segment))
	binary.BigEndian.PutUint32(b[6:], ivSize)
	return b
}

// plain is how many bytes of plaintext a full segment carries.
func (p params) plain() int { return p.segment - SegmentOverhead }

// sealedSize is the length of the one encoding that Seal writes for n bytes, or
// -1. The empty message is one empty segment; a message that fills its last
// segment exactly ends there, with no empty segment behind it.
func (p params) sealedSize(n int) int {
	if n < 0 {
		return -1
	}
	segments := 1
	if n > 0 {
		segments = (n-1)/p.plain() + 1
	}
	overhead := HeaderSize + segments*SegmentOverhead
	if int64(segments) > maxSegments || overhead < 0 || n > math.MaxInt-overhead {
		return -1
	}
	return n + overhead
}

// openedSize is the number of plaintext bytes in a ciphertext of n bytes, or -1
// if no ciphertext has that length. It holds for every ciphertext that FLOE
// accepts, since all segments but the last are full.
func (p params) openedSize(n int) int {
	if n < HeaderSize+SegmentOverhead {
		return -1
	}
	body := n - HeaderSize
	segments := (body-1)/p.segment + 1
	last := body - (segments-1)*p.segment
	if int64(segments) > maxSegments || last < SegmentOverhead {
		return -1
	}
	return body - segments*SegmentOverhead
}

// SealedSize is the length of what [Seal] and [Writer] write for n bytes of
// plaintext, or -1 when p or n is impossible.
func SealedSize(p Params, n int) int {
	pp, err := p.resolve()
	if err != nil {
		return -1
	}
	return pp.sealedSize(n)
}

// OpenedSize is the inverse: how many bytes of plaintext a ciphertext of n bytes
// holds if it is authentic, or -1 when no ciphertext has that length. Until the
// final segment is authenticated this is a guess made from untrusted input, good
// for sizing a buffer but not for telling anyone.
func OpenedSize(p Params, n int) int {
	pp, err := p.resolve()
	if err != nil {
		return -1
	}
	return pp.openedSize(n)
}
