package kmsfake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

var curves = map[types.KeySpec]elliptic.Curve{
	types.KeySpecEccNistP256: elliptic.P256(),
	types.KeySpecEccNistP384: elliptic.P384(),
	types.KeySpecEccNistP521: elliptic.P521(),
}

// newMaterial makes the key material of a new key.
func (r *request) newMaterial(k *keyState) ([]byte, error) {
	kind := k.kind()
	if kind.family == familyAES || kind.family == familyHMAC {
		return randomMaterial(kind.bits / 8), nil
	}
	private, err := r.newPrivateKey(k.Spec)
	if err != nil {
		return nil, err
	}
	return encodePrivateKey(private), nil
}

// newPrivateKey makes a key pair of a spec that the fake has.
func (r *request) newPrivateKey(spec types.KeySpec) (private crypto.Signer, err error) {
	switch kind := keyKinds[spec]; kind.family {
	case familyRSA:
		if r.fresh != nil { // made before the engine was locked
			return r.fresh, nil
		}
		private, err = rsa.GenerateKey(rand.Reader, kind.bits)
	case familyEC:
		private, err = ecdsa.GenerateKey(curves[spec], rand.Reader)
	case familyEd25519:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		return nil, fail("KMSInternalException", "kmsfake could not make a key pair.")
	}
	return private, nil
}

// freshRSA makes the RSA key that an operation is about to need: it takes up to
// seconds, in which the engine serves others.
func freshRSA(spec string) *rsa.PrivateKey {
	kind := keyKinds[types.KeySpec(spec)]
	if kind == nil || kind.family != familyRSA {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, kind.bits)
	if err != nil {
		return nil // newPrivateKey tries again, and says so
	}
	return key
}

func encodePrivateKey(private crypto.Signer) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic("kmsfake: internal error: " + err.Error()) // we know the type
	}
	return der
}

func encodePublicKey(private crypto.Signer) []byte {
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		panic("kmsfake: internal error: " + err.Error())
	}
	return der
}

// parsePrivateKey reads a PKCS #8 private key and says whether it is one of spec.
func parsePrivateKey(spec types.KeySpec, der []byte) (crypto.Signer, bool) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, false
	}
	kind := keyKinds[spec]
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		return key, kind.family == familyRSA && key.N.BitLen() == kind.bits
	case *ecdsa.PrivateKey:
		return key, kind.family == familyEC && key.Curve == curves[spec]
	case ed25519.PrivateKey:
		return key, kind.family == familyEd25519
	}
	return nil, false
}

// signer is the private key of an asymmetric key that is usable.
func (k *keyState) signer() crypto.Signer {
	m := k.current()
	if m.private == nil {
		key, ok := parsePrivateKey(k.Spec, m.Key)
		if !ok {
			panic("kmsfake: internal error: the private key of " + k.ARN()) // checked when it came in
		}
		m.private = key
	}
	return m.private
}

// noSHA1 refuses what needs SHA-1 where the process must not use it.
func noSHA1(algorithm string) error {
	if fips140.Enforced() {
		return fail("UnsupportedOperationException",
			"%s needs SHA-1, which FIPS 140-only mode, in which kmsfake runs here, forbids.", algorithm)
	}
	return nil
}
