package kmsfake

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// unwrapMaterial undoes what the importer did to its key material:
//
//	RSAES_OAEP_*        RSA-OAEP(material)
//	RSA_AES_KEY_WRAP_*  RSA-OAEP(AES-256 key) | AES-KWP(material) under that key
func unwrapMaterial(private *rsa.PrivateKey, a types.AlgorithmSpec, wrapped []byte) ([]byte, error) {
	var h hash.Hash
	switch a {
	case types.AlgorithmSpecRsaesOaepSha256, types.AlgorithmSpecRsaAesKeyWrapSha256:
		h = sha256.New()
	case types.AlgorithmSpecRsaesOaepSha1, types.AlgorithmSpecRsaAesKeyWrapSha1:
		h = sha1.New()
	default:
		return nil, errWrapping
	}
	if a == types.AlgorithmSpecRsaesOaepSha1 || a == types.AlgorithmSpecRsaesOaepSha256 {
		return rsa.DecryptOAEP(h, nil, private, wrapped, nil)
	}
	if len(wrapped) < private.Size() {
		return nil, errWrapping
	}
	key, err := rsa.DecryptOAEP(h, nil, private, wrapped[:private.Size()], nil)
	if err != nil || len(key) != 32 {
		return nil, errWrapping
	}
	defer clear(key)
	return unwrapKWP(key, wrapped[private.Size():])
}

var errWrapping = errors.New("not wrapped under this key")

// kwpIV is the constant half of the initial value of AES Key Wrap with Padding.
const kwpIV = 0xA65959A6

// unwrapKWP is the unwrapping of RFC 5649 (AES-KWP, NIST SP 800-38F).
func unwrapKWP(key, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 16 || len(wrapped)%8 != 0 || len(wrapped) > 8<<10 {
		return nil, errWrapping
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errWrapping
	}
	a, r := make([]byte, 8), make([]byte, len(wrapped)-8)
	if len(r) == 8 { // a single block is simply encrypted
		var buf [16]byte
		block.Decrypt(buf[:], wrapped)
		copy(a, buf[:8])
		copy(r, buf[8:])
	} else {
		copy(a, wrapped)
		copy(r, wrapped[8:])
		unwrapRounds(block.Decrypt, a, r)
	}
	n := int(binary.BigEndian.Uint32(a[4:]))
	if binary.BigEndian.Uint32(a) != kwpIV || n <= len(r)-8 || n > len(r) {
		return nil, errWrapping
	}
	if subtle.ConstantTimeCompare(r[n:], make([]byte, len(r)-n)) != 1 {
		return nil, errWrapping
	}
	return r[:n], nil
}

// unwrapRounds are the six rounds of RFC 3394, 2.2.2, backwards, in place.
func unwrapRounds(decrypt func(dst, src []byte), a, r []byte) {
	var buf [16]byte
	n := len(r) / 8
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			t := binary.BigEndian.Uint64(a) ^ uint64(n*j+i)
			binary.BigEndian.PutUint64(buf[:8], t)
			copy(buf[8:], r[8*(i-1):8*i])
			decrypt(buf[:], buf[:])
			copy(a, buf[:8])
			copy(r[8*(i-1):], buf[8:])
		}
	}
}

// newWrappingKey makes an RSA key of a wrapping key spec.
func (r *request) newWrappingKey(spec types.WrappingKeySpec) (*rsa.PrivateKey, error) {
	if r.fresh != nil {
		return r.fresh, nil
	}
	return rsa.GenerateKey(rand.Reader, keyKinds[types.KeySpec(spec)].bits)
}
