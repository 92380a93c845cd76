package kmsfake

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"hash"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// oaepHash is the hash of an RSAES_OAEP algorithm. noSHA1 comes before.
func oaepHash(a types.EncryptionAlgorithmSpec) hash.Hash {
	if a == types.EncryptionAlgorithmSpecRsaesOaepSha1 {
		return sha1.New()
	}
	return sha256.New()
}

// sealOAEP encrypts under an RSA key. Nothing binds such a ciphertext to a
// context, and whoever has the public key could have made it.
func (k *keyState) sealOAEP(a types.EncryptionAlgorithmSpec, plaintext []byte) ([]byte, error) {
	public, h := &k.signer().(*rsa.PrivateKey).PublicKey, oaepHash(a)
	if most := public.Size() - 2*h.Size() - 2; len(plaintext) > most {
		return nil, validation("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", a, k.Spec, most)
	}
	out, err := rsa.EncryptOAEP(h, rand.Reader, public, plaintext, nil)
	if err != nil {
		return nil, fail("KMSInternalException", "kmsfake could not encrypt.")
	}
	return out, nil
}

func (k *keyState) openOAEP(a types.EncryptionAlgorithmSpec, ciphertext []byte) ([]byte, error) {
	out, err := rsa.DecryptOAEP(oaepHash(a), nil, k.signer().(*rsa.PrivateKey), ciphertext, nil)
	if err != nil {
		return nil, errInvalidCiphertext
	}
	return out, nil
}
