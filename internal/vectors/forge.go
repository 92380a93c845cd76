package vectors

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"

	"github.com/byok-go/byok/internal/random"
)

// Forger makes FLOE ciphertexts of any shape, also those that no writer may make.
// Every tag in them is right, so that nothing but a rule of the specification can
// refuse them: flipping bits would only show that tags are checked.
type Forger struct {
	Key, AAD []byte
	Segment  uint32 // the segment length that the header tells
	AEAD     byte
	KDF      byte
	IVLength uint32

	iv      [32]byte
	message []byte
}

// Forge returns a Forger with the parameters of version 1 but for the segment length.
func Forge(key, aad []byte, segment uint32) *Forger {
	return &Forger{Key: key, AAD: aad, Segment: segment, IVLength: 32}
}

// Header draws an IV and returns the header.
func (f *Forger) Header() []byte {
	random.Read(f.iv[:])
	f.message = f.derive(f.Key, "MESSAGE_KEY:", 48)
	return append(append(f.parameters(), f.iv[:]...), f.derive(f.Key, "HEADER_TAG:", 32)...)
}

func (f *Forger) parameters() []byte {
	b := binary.BigEndian.AppendUint32([]byte{f.AEAD, f.KDF}, f.Segment)
	return binary.BigEndian.AppendUint32(b, f.IVLength)
}

func (f *Forger) derive(key []byte, purpose string, n int) []byte {
	out, err := hkdf.Expand(sha512.New384, key, string(f.parameters())+string(f.iv[:])+purpose+string(f.AAD), n)
	if err != nil {
		panic(err)
	}
	return out
}

// Piece seals one segment, after Header.
func (f *Forger) Piece(plain []byte, position uint64, final bool) []byte {
	group := binary.BigEndian.AppendUint64(nil, position>>20<<20)
	block, err := aes.NewCipher(f.derive(f.message, "DEK:"+string(group), 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	length, flag := uint32(0xffffffff), byte(0)
	if final {
		length, flag = uint32(32+len(plain)), 1
	}
	out := binary.BigEndian.AppendUint32(nil, length)
	return aead.Seal(out, nil, plain, append(binary.BigEndian.AppendUint64(nil, position), flag))
}

// Message seals pieces one after the other, the last one as the final segment.
func (f *Forger) Message(pieces ...[]byte) []byte {
	out := f.Header()
	for i, p := range pieces {
		out = append(out, f.Piece(p, uint64(i), i == len(pieces)-1)...)
	}
	return out
}
