package kmsfake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.SHA256.New
	"crypto/sha512"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// signingHashes are the hashes of the signing algorithms, all but ED25519_SHA_512:
// that one signs the message itself.
var signingHashes = map[types.SigningAlgorithmSpec]crypto.Hash{
	types.SigningAlgorithmSpecRsassaPssSha256:      crypto.SHA256,
	types.SigningAlgorithmSpecRsassaPssSha384:      crypto.SHA384,
	types.SigningAlgorithmSpecRsassaPssSha512:      crypto.SHA512,
	types.SigningAlgorithmSpecRsassaPkcs1V15Sha256: crypto.SHA256,
	types.SigningAlgorithmSpecRsassaPkcs1V15Sha384: crypto.SHA384,
	types.SigningAlgorithmSpecRsassaPkcs1V15Sha512: crypto.SHA512,
	types.SigningAlgorithmSpecEcdsaSha256:          crypto.SHA256,
	types.SigningAlgorithmSpecEcdsaSha384:          crypto.SHA384,
	types.SigningAlgorithmSpecEcdsaSha512:          crypto.SHA512,
	types.SigningAlgorithmSpecEd25519PhSha512:      crypto.SHA512,
}

func pss(a types.SigningAlgorithmSpec) bool {
	return a == types.SigningAlgorithmSpecRsassaPssSha256 || a == types.SigningAlgorithmSpecRsassaPssSha384 ||
		a == types.SigningAlgorithmSpecRsassaPssSha512
}

// signing is one call of Sign or Verify.
type signing struct {
	id        *string
	tokens    []string
	algorithm types.SigningAlgorithmSpec
	kind      types.MessageType
	message   []byte
}

// signingKey finds the key for a signature, checked, authorized and usable, and
// returns what is signed: a digest, or the message of ED25519_SHA_512.
func (r *request) signingKey(c *checks, s *signing) (k *keyState, signed []byte, err error) {
	c.key("keyId", s.id)
	c.blob("message", s.message, maxMessage, true)
	required(c, "signingAlgorithm", s.algorithm)
	enum(c, "messageType", s.kind, s.kind.Values())
	c.tokens(s.tokens)
	if err := c.err(); err != nil {
		return nil, nil, err
	}
	if s.kind == "" {
		s.kind = types.MessageTypeRaw
	}
	k, err = r.authorized(aim{action: "kms:" + r.op, id: *s.id, extra: map[string][]string{
		"kms:signingalgorithm": {string(s.algorithm)}, "kms:messagetype": {string(s.kind)},
	}})
	if err != nil {
		return nil, nil, err
	}
	if err := firstOf(r.usable(k), r.usedFor(k, usageSign)); err != nil {
		return nil, nil, err
	}
	if !slices.Contains(k.kind().signing, s.algorithm) {
		return nil, nil, incompatible(k, s.algorithm)
	}
	signed, err = s.digest()
	return k, signed, err
}

func (s *signing) digest() ([]byte, error) {
	fits := s.kind == types.MessageTypeRaw || s.kind == types.MessageTypeDigest
	switch s.algorithm {
	case types.SigningAlgorithmSpecEd25519Sha512:
		fits = s.kind == types.MessageTypeRaw
	case types.SigningAlgorithmSpecEd25519PhSha512:
		fits = s.kind == types.MessageTypeDigest
	}
	if !fits {
		return nil, validation("MessageType %s is not valid for algorithm %s.", s.kind, s.algorithm)
	}
	h, hashes := signingHashes[s.algorithm]
	if !hashes {
		return s.message, nil
	}
	if s.kind == types.MessageTypeDigest && len(s.message) != h.Size() {
		return nil, validation("Digest is invalid length for algorithm %s.", s.algorithm)
	}
	if s.kind == types.MessageTypeDigest && s.algorithm != types.SigningAlgorithmSpecEd25519PhSha512 {
		return s.message, nil
	}
	sum := h.New() // of the message; or again of a digest, for the one algorithm where KMS does so
	sum.Write(s.message)
	return sum.Sum(nil), nil
}

func (r *request) sign(in *kms.SignInput) (*kms.SignOutput, error) {
	var c checks
	s := signing{in.KeyId, in.GrantTokens, in.SigningAlgorithm, in.MessageType, in.Message}
	k, signed, err := r.signingKey(&c, &s)
	if err := firstOf(err, dryRun(in.DryRun)); err != nil {
		return nil, err
	}
	out, err := k.signer().Sign(rand.Reader, signed, signerOptions(s.algorithm))
	if err != nil {
		return nil, fail("KMSInternalException", "kmsfake could not sign.")
	}
	r.used(k)
	return &kms.SignOutput{KeyId: aws.String(k.ARN()), Signature: out, SigningAlgorithm: s.algorithm}, nil
}

func signerOptions(a types.SigningAlgorithmSpec) crypto.SignerOpts {
	h := signingHashes[a] // 0 says "not hashed" to Ed25519
	if pss(a) {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	if a == types.SigningAlgorithmSpecEd25519PhSha512 {
		return &ed25519.Options{Hash: h}
	}
	return h
}

// verify never answers false: a signature that does not match is an exception.
func (r *request) verify(in *kms.VerifyInput) (*kms.VerifyOutput, error) {
	var c checks
	c.blob("signature", in.Signature, 6144, true)
	s := signing{in.KeyId, in.GrantTokens, in.SigningAlgorithm, in.MessageType, in.Message}
	k, signed, err := r.signingKey(&c, &s)
	if err != nil {
		return nil, err
	}
	if !verifies(k.signer().Public(), s.algorithm, signed, in.Signature) {
		return nil, &apiError{code: "KMSInvalidSignatureException", silent: true}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	r.used(k)
	return &kms.VerifyOutput{KeyId: aws.String(k.ARN()), SignatureValid: true, SigningAlgorithm: s.algorithm}, nil
}

func verifies(public crypto.PublicKey, a types.SigningAlgorithmSpec, signed, sig []byte) bool {
	h := signingHashes[a]
	switch key := public.(type) {
	case *rsa.PublicKey:
		if pss(a) {
			return rsa.VerifyPSS(key, h, signed, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}) == nil
		}
		return rsa.VerifyPKCS1v15(key, h, signed, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, signed, sig)
	case ed25519.PublicKey:
		if h == 0 {
			return ed25519.Verify(key, signed, sig)
		}
		return len(signed) == sha512.Size && ed25519.VerifyWithOptions(key, signed, sig, &ed25519.Options{Hash: h}) == nil
	}
	return false
}
