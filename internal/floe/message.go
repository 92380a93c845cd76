package floe

import (
	"crypto/aes"
	"crypto/cipher"
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
// It must not be used concurrently, and not after wipe. [Keyed] then gives its memory to
// another message.
type message struct {
	p      params
	header [HeaderSize]byte
	key    [sha512.Size384]byte
	wiped  bool

	// What the HMAC under the caller's key begins with. In FIPS mode it is mac instead, which is
	// ready for input.
	padded *padded
	mac    hash.Hash

	aead  cipher.AEAD // nil until the first segment
	group uint64      // the masked position that aead belongs to

	hasher  hasher
	info    []byte // of HKDF-Expand, see expand; it holds a copy of the associated data
	okm     [sha512.Size384]byte
	tag     [tagSize]byte // what the header's tag should be
	aesKey  [KeySize]byte // for a moment
	segment [9]byte       // the associated data of a segment: position, final flag
}

func newMessage() *message {
	m := new(message)
	m.hasher.init()
	return m
}

// startSealing begins a message: startEncryption. Whoever gets one gives it back.
func (k *Keyed) startSealing(key []byte, p params, aad []byte) (*message, error) {
	m, err := k.take(key)
	if err != nil {
		return nil, err
	}
	encoded := p.encode()
	copy(m.header[:], encoded[:])
	random.Read(m.header[paramsSize:prefixSize])
	m.begin(p, aad)
	m.expandKey(m.header[prefixSize:], "HEADER_TAG:")
	m.expandKey(m.key[:], "MESSAGE_KEY:")
	return m, nil
}

// startOpening begins to open a message: startDecryption. It checks the header against the only
// parameters allowed, then its tag. Nothing else is decided before the tag is known to be right,
// and no AES key exists until then.
func (k *Keyed) startOpening(key []byte, p params, aad, header []byte) (*message, error) {
	m, err := k.take(key)
	if err != nil {
		return nil, err
	}
	if err := m.checkHeader(p, aad, header); err != nil {
		k.give(m)
		return nil, err
	}
	return m, nil
}

func (m *message) checkHeader(p params, aad, header []byte) error {
	if len(header) != HeaderSize {
		return ErrAuth // cut short
	}
	if want := p.encode(); string(header[:paramsSize]) != string(want[:]) {
		return ErrMalformed
	}
	copy(m.header[:], header)
	m.begin(p, aad)
	m.expandKey(m.tag[:], "HEADER_TAG:")
	// This comparison is the commitment. Without it an attacker can make one
	// ciphertext that authenticates under two keys (testdata has such a one), so
	// all 32 bytes are compared, in constant time, before any call of the AEAD.
	if subtle.ConstantTimeCompare(m.tag[:], m.header[prefixSize:]) != 1 {
		return ErrAuth
	}
	m.expandKey(m.key[:], "MESSAGE_KEY:")
	return nil
}

// purposeRoom is the length of the longest purpose: "MESSAGE_KEY:", and "DEK:" with a position.
const purposeRoom = 12

// begin lays out info, in one piece so that it is hashed in one: room for the beginning, which
// differs, the associated data, and the counter of HKDF-Expand.
func (m *message) begin(p params, aad []byte) {
	m.p = p
	m.info = append(m.info[:0], make([]byte, prefixSize+purposeRoom)...)
	m.info = append(m.info, aad...)
	m.info = append(m.info, 1)
}

// purpose completes info: parameters and IV, what the output is for, the associated data, 0x01.
func (m *message) purpose(p string, n int) []byte {
	info := m.info[purposeRoom-len(p)-n:]
	copy(info, m.header[:prefixSize])
	copy(info[prefixSize:], p)
	return info
}

// expandKey is FLOE_KDF under the caller's key: HKDF-Expand over the parameters, the IV, the
// purpose and the associated data. No output is longer than one SHA-384 block, so RFC 5869's
// T(1) = HMAC(PRK, info | 0x01) is all of it. crypto/hkdf would do the same with a copy of
// info, which holds the caller's associated data, as a string for each call.
func (m *message) expandKey(out []byte, purpose string) {
	info := m.purpose(purpose, 0)
	if m.mac != nil {
		m.mac.Write(info)
		m.mac.Sum(m.okm[:0])
		m.mac.Reset() // back to where the key has left it
	} else {
		m.hasher.hmacOf(&m.okm, m.padded, info)
	}
	m.output(out)
}

// expandMessage is FLOE_KDF under the message's key, for the AES key of the segments from
// position group on.
func (m *message) expandMessage(out []byte, group uint64) {
	const purpose = "DEK:"
	info := m.purpose(purpose, 8)
	binary.BigEndian.PutUint64(info[prefixSize+len(purpose):], group)
	m.hasher.hmac(&m.okm, m.key[:], info)
	m.output(out)
}

func (m *message) output(out []byte) {
	if len(out) > len(m.okm) {
		panic("byok: internal error: floe: HKDF output longer than a block")
	}
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
	m.expandMessage(m.aesKey[:], group)
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

// wipe clears the key material that this package holds. The round keys inside crypto/aes, and in
// FIPS mode the pads inside crypto/hmac, are out of its reach and stay until the garbage
// collector reuses their memory: no promise may go further than that.
func (m *message) wipe() {
	clear(m.key[:])
	clear(m.okm[:])
	clear(m.tag[:])
	clear(m.info)
	m.hasher.wipe()
	m.aead, m.padded, m.mac = nil, nil, nil
	m.wiped = true
}
