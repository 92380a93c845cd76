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
// It must not be used concurrently, and not after wipe, but for [Keyed], which gives a
// wiped one to the next message under the same key.
type message struct {
	p      params
	header [HeaderSize]byte
	aad    []byte // the caller's; streams hand in a copy
	key    [sha512.Size384]byte
	wiped  bool

	// HMAC keyed with the caller's key, and ready for input: what outlives a message.
	mac hash.Hash
	// The two hashes of the HMAC that is keyed with this message's key, and the function
	// that hands them out: crypto/hmac cannot be given another key, but it can be given
	// hashes whose last HMAC is no longer in use.
	digests [2]hash.Hash
	turn    int
	digest  func() hash.Hash

	aead  cipher.AEAD // nil until the first segment
	group uint64      // the masked position that aead belongs to

	info    [24]byte // the longest purpose: "DEK:" and a position
	okm     [sha512.Size384]byte
	tag     [tagSize]byte // what the header's tag should be
	aesKey  [KeySize]byte // for a moment
	segment [9]byte       // the associated data of a segment: position, final flag
}

// newMessage returns a message that can begin, under a key of the right length.
func newMessage(key []byte) (*message, error) {
	if len(key) != KeySize {
		return nil, errKeySize
	}
	m := &message{mac: hmac.New(sha512.New384, key), digests: [2]hash.Hash{sha512.New384(), sha512.New384()}}
	m.digest = m.nextDigest
	return m, nil
}

// nextDigest returns an empty hash, in turn one of the two: an HMAC needs an inner and
// an outer one. In FIPS-only mode crypto/hmac asks for a third, to look at its type.
func (m *message) nextDigest() hash.Hash {
	m.turn ^= 1
	d := m.digests[m.turn]
	d.Reset()
	return d
}

// startSealing begins a message of its own: startEncryption.
func startSealing(key []byte, p params, aad []byte) (*message, error) {
	m, err := newMessage(key)
	if err != nil {
		return nil, err
	}
	m.beginSealing(p, aad)
	return m, nil
}

// beginSealing draws an IV and fills in the header.
func (m *message) beginSealing(p params, aad []byte) {
	m.p, m.aad = p, aad
	encoded := p.encode()
	copy(m.header[:], encoded[:])
	random.Read(m.header[paramsSize:prefixSize])
	m.derive(m.header[prefixSize:])
}

// startOpening begins to open a message of its own: startDecryption.
func startOpening(key []byte, p params, aad, header []byte) (*message, error) {
	m, err := newMessage(key)
	if err != nil {
		return nil, err
	}
	if err := m.beginOpening(p, aad, header); err != nil {
		return nil, err
	}
	return m, nil
}

// beginOpening checks the header against the only parameters allowed, then its
// tag. Nothing else is decided before the tag is known to be right, and no AES key
// exists until then.
func (m *message) beginOpening(p params, aad, header []byte) error {
	if len(header) != HeaderSize {
		return ErrAuth // cut short
	}
	if want := p.encode(); string(header[:paramsSize]) != string(want[:]) {
		return ErrMalformed
	}
	m.p, m.aad = p, aad
	copy(m.header[:], header)
	m.derive(m.tag[:])
	// This comparison is the commitment. Without it an attacker can make one
	// ciphertext that authenticates under two keys (testdata has such a one), so
	// all 32 bytes are compared, in constant time, before any call of the AEAD.
	if subtle.ConstantTimeCompare(m.tag[:], m.header[prefixSize:]) != 1 {
		m.wipe()
		return ErrAuth
	}
	return nil
}

// derive computes the header tag and the message key, the two things that come
// from the caller's key itself.
func (m *message) derive(tag []byte) {
	m.expand(m.mac, tag, copy(m.info[:], "HEADER_TAG:"))
	m.mac.Reset()
	m.expand(m.mac, m.key[:], copy(m.info[:], "MESSAGE_KEY:"))
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
	m.expand(hmac.New(m.digest, m.key[:]), m.aesKey[:], n+8)
	block, err := aes.NewCipher(m.aesKey[:])
	if err != nil {
		panic("byok: internal error: floe: " + err.Error())
	}
	clear(m.aesKey[:])
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
	clear(m.tag[:])
	m.digests[0].Reset()
	m.digests[1].Reset()
	m.aead, m.aad = nil, nil
	m.wiped = true
}
