package floe

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"github.com/byok-go/byok/internal/random"
)

// message is the state of one message: what the specification calls State, plus
// the AES key in use. Everything that hash and cipher interfaces touch lives in
// this one allocation, because whatever is passed to an interface escapes.
//
// It must not be used concurrently, and not after wipe.
type message struct {
	p      params
	header [HeaderSize]byte
	aad    []byte // the caller's; streams hand in a copy
	key    [sha512.Size384]byte
	wiped  bool

	aead  cipher.AEAD // nil until the first segment
	group uint64      // the masked position that aead belongs to

	info    [24]byte // the longest purpose: "DEK:" and a position
	okm     [sha512.Size384]byte
	segment [9]byte // the associated data of a segment: position, final flag
}

// startSealing draws an IV and fills in the header: startEncryption.
func startSealing(key []byte, p params, aad []byte) (*message, error) {
	if len(key) != KeySize {
		return nil, errKeySize
	}
	m := &message{p: p, aad: aad}
	encoded := p.encode()
	copy(m.header[:], encoded[:])
	random.Read(m.header[paramsSize:prefixSize])
	m.derive(key, m.header[prefixSize:])
	return m, nil
}

// startOpening checks the header against the only parameters allowed, then its
// tag: startDecryption. Nothing else is decided before the tag is known to be
// right, and no AES key exists until then.
func startOpening(key []byte, p params, aad, header []byte) (*message, error) {
	if len(key) != KeySize {
		return nil, errKeySize
	}
	if len(header) != HeaderSize {
		return nil, ErrAuth // cut short
	}
	if want := p.encode(); string(header[:paramsSize]) != string(want[:]) {
		return nil, ErrMalformed
	}
	m := &message{p: p, aad: aad}
	copy(m.header[:], header)
	var tag [tagSize]byte
	m.derive(key, tag[:])
	// This comparison is the commitment. Without it an attacker can make one
	// ciphertext that authenticates under two keys (testdata has such a one), so
	// all 32 bytes are compared, in constant time, before any call of the AEAD.
	if subtle.ConstantTimeCompare(tag[:], m.header[prefixSize:]) != 1 {
		m.wipe()
		return nil, ErrAuth
	}
	return m, nil
}

// derive computes the header tag and the message key, the two things that come
// from the caller's key itself.
func (m *message) derive(key, tag []byte) {
	mac := hmac.New(sha512.New384, key)
	m.expand(mac, tag, copy(m.info[:], "HEADER_TAG:"))
	mac.Reset()
	m.expand(mac, m.key[:], copy(m.info[:], "MESSAGE_KEY:"))
}

// expand is FLOE_KDF with the purpose in m.info[:n]: HKDF-Expand keyed by mac,
// over the parameters, the IV, the purpose and the associated data. No output is
// longer than one SHA-384 block, so RFC 5869's T(1) = HMAC(PRK, info | 0x01) is
// all of it. crypto/hkdf would do the same with a copy of info, which holds the
// caller's associated data, as a string for each call.
func (m *message) expand(mac hash.Hash, out []byte, n int) {
	if len(out) > len(m.okm) {
		panic("byok: internal error: floe: HKDF output longer than a block")
	}
	mac.Write(m.header[:prefixSize])
	mac.Write(m.info[:n])
	mac.Write(m.aad)
	m.info[0] = 1
	mac.Write(m.info[:1])
	mac.Sum(m.okm[:0])
	copy(out, m.okm[:])
	clear(m.okm[:])
}

// cipherFor returns the AEAD for the segment at position pos: DERIVE_KEY. The key
// changes every 2^rotation segments, to stay far below the number of random
// nonces after which two might be equal.
func (m *message) cipherFor(pos uint64) cipher.AEAD {
	if m.wiped {
		panic("byok: internal error: floe: message used after wipe")
	}
	group := pos &^ (1<<m.p.rotation - 1)
	if m.aead != nil && m.group == group {
		return m.aead
	}
	n := copy(m.info[:], "DEK:")
	binary.BigEndian.PutUint64(m.info[n:], group)
	var key [KeySize]byte
	m.expand(hmac.New(sha512.New384, m.key[:]), key[:], n+8)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("byok: internal error: floe: " + err.Error())
	}
	clear(key[:])
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("byok: internal error: floe: " + err.Error())
	}
	m.aead, m.group = aead, group
	return aead
}

// bind returns the associated data of a segment. The final flag is in it, so that
// a segment sealed as one of many never passes for the end, nor the other way.
func (m *message) bind(pos uint64, final bool) []byte {
	binary.BigEndian.PutUint64(m.segment[:], pos)
	m.segment[8] = 0
	if final {
		m.segment[8] = 1
	}
	return m.segment[:]
}

// beyond reports whether a message can have no such segment. The last position
// is for a final segment only: nothing could follow a segment there.
func beyond(pos uint64, final bool) bool {
	return pos >= maxSegments || (pos == maxSegments-1 && !final)
}

// sealSegment appends the sealed form of one segment: encryptSegment. It draws a
// random nonce, so even the same position sealed twice repeats none.
func (m *message) sealSegment(dst, plaintext []byte, pos uint64, final bool) ([]byte, error) {
	if beyond(pos, final) {
		return nil, errTooLong
	}
	if len(plaintext) > m.p.plain() || (!final && len(plaintext) != m.p.plain()) {
		return nil, errSegmentSize
	}
	length := uint32(notFinal)
	if final {
		length = uint32(len(plaintext) + SegmentOverhead)
	}
	aead := m.cipherFor(pos)
	dst = binary.BigEndian.AppendUint32(dst, length)
	return aead.Seal(dst, nil, plaintext, m.bind(pos, final)), nil
}

// openSegment appends the plaintext of one segment: decryptSegment. On failure
// it returns nil and leaves nothing of the plaintext behind dst.
func (m *message) openSegment(dst, segment []byte, pos uint64, final bool) ([]byte, error) {
	if beyond(pos, final) || len(segment) < SegmentOverhead || len(segment) > m.p.segment {
		return nil, ErrAuth
	}
	// The length field is redundant once the whole segment is here. It is still
	// checked, because it is not covered by the tag: an unchecked field would be
	// four bytes that anyone can change in an authentic message.
	length := binary.BigEndian.Uint32(segment)
	if final && uint64(length) != uint64(len(segment)) {
		return nil, ErrAuth
	}
	if !final && (length != notFinal || len(segment) != m.p.segment) {
		return nil, ErrAuth
	}
	out, err := m.cipherFor(pos).Open(dst, nil, segment[lengthSize:], m.bind(pos, final))
	if err != nil {
		return nil, ErrAuth
	}
	return out, nil
}

// wipe clears the key material that this package holds. The round keys inside
// crypto/aes and the pads inside crypto/hmac are out of its reach and stay until
// the garbage collector reuses their memory: no promise may go further than that.
func (m *message) wipe() {
	clear(m.key[:])
	clear(m.okm[:])
	m.aead, m.aad = nil, nil
	m.wiped = true
}
