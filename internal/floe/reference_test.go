package floe

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// A second implementation, as literal as the specification's pseudocode allows and
// on crypto/hkdf, so that the two can only agree if both follow the text. It checks
// nothing: tests use it to make messages that are authentic and wrong, where only a
// rule can refuse and no tag does.

type reference struct {
	segLen     int
	rotation   uint
	key, aad   []byte
	iv         []byte
	messageKey []byte
}

func (r *reference) paramEncode() []byte {
	b := []byte{0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(r.segLen))
	return binary.BigEndian.AppendUint32(b, 32)
}

func (r *reference) floeKDF(key []byte, purpose string, n int) []byte {
	info := string(r.paramEncode()) + string(r.iv) + purpose + string(r.aad)
	out, err := hkdf.Expand(sha512.New384, key, info, n)
	if err != nil {
		panic(err)
	}
	return out
}

func newReference(key, aad, iv []byte, p params) *reference {
	r := &reference{segLen: p.segment, rotation: p.rotation, key: key, aad: aad, iv: iv}
	r.messageKey = r.floeKDF(key, "MESSAGE_KEY:", 48)
	return r
}

func (r *reference) header() []byte {
	b := append(r.paramEncode(), r.iv...)
	return append(b, r.floeKDF(r.key, "HEADER_TAG:", 32)...)
}

func (r *reference) aead(position uint64) cipher.AEAD {
	masked := binary.BigEndian.AppendUint64(nil, position>>r.rotation<<r.rotation)
	block, err := aes.NewCipher(r.floeKDF(r.messageKey, "DEK:"+string(masked), 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (r *reference) seal(plaintext []byte, position uint64, final byte) []byte {
	length := uint32(0xffffffff)
	if final == 1 {
		length = uint32(4 + 12 + len(plaintext) + 16)
	}
	aad := append(binary.BigEndian.AppendUint64(nil, position), final)
	return r.aead(position).Seal(binary.BigEndian.AppendUint32(nil, length), nil, plaintext, aad)
}

func (r *reference) open(segment []byte, position uint64, final byte) ([]byte, error) {
	aad := append(binary.BigEndian.AppendUint64(nil, position), final)
	return r.aead(position).Open(nil, nil, segment[4:], aad)
}

// refSeal makes a message of given pieces, whatever their sizes.
func refSeal(key, aad []byte, p params, pieces ...[]byte) []byte {
	iv := make([]byte, 32)
	rand.Read(iv)
	r := newReference(key, aad, iv, p)
	out := r.header()
	for i, piece := range pieces {
		final := byte(0)
		if i == len(pieces)-1 {
			final = 1
		}
		out = append(out, r.seal(piece, uint64(i), final)...)
	}
	return out
}

// refOpen trusts its input's structure, and verifies only what the tags verify.
func refOpen(t testing.TB, key, aad []byte, p params, ct []byte) []byte {
	t.Helper()
	r := newReference(key, aad, ct[10:42], p)
	if !bytes.Equal(r.header(), ct[:74]) {
		t.Fatal("the reference computes another header")
	}
	var out []byte
	body := ct[74:]
	for pos := uint64(0); ; pos++ {
		final, n := byte(0), min(len(body), r.segLen)
		if binary.BigEndian.Uint32(body) != 0xffffffff {
			final, n = 1, int(binary.BigEndian.Uint32(body))
		}
		pt, err := r.open(body[:n], pos, final)
		if err != nil {
			t.Fatalf("the reference refuses segment %d: %v", pos, err)
		}
		if out, body = append(out, pt...), body[n:]; final == 1 {
			if len(body) != 0 {
				t.Fatal("bytes behind the final segment")
			}
			return out
		}
	}
}

// What we write, the pseudocode reads; what it writes, we read.
func TestAgreesWithTheLiteralSpecification(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := params{rapid.IntRange(33, 90).Draw(rt, "segment"), rapid.UintRange(0, 4).Draw(rt, "rotation")}
		key := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "key")
		aad := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "aad")
		msg := rapid.SliceOfN(rapid.Byte(), 0, 700).Draw(rt, "msg")
		ct, err := seal(nil, key, p, aad, msg)
		if err != nil {
			rt.Fatal(err)
		}
		if got := refOpen(t, key, aad, p, ct); !bytes.Equal(got, msg) {
			rt.Fatal("the reference reads another message")
		}
		var pieces [][]byte
		for rest := msg; ; rest = rest[p.plain():] {
			if len(rest) <= p.plain() {
				pieces = append(pieces, rest)
				break
			}
			pieces = append(pieces, rest[:p.plain()])
		}
		got, err := open(nil, key, aad, refSeal(key, aad, p, pieces...), pinned(p))
		if err != nil || !bytes.Equal(got, msg) {
			rt.Fatalf("we do not read the reference's message: %v", err)
		}
	})
}
