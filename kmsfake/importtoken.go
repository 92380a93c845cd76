package kmsfake

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// importTokenLife is how long the parameters of an import can be used.
const importTokenLife = 24 * time.Hour

// importToken is what an import token says: the service keeps nothing of it. It
// is sealed under this KMS's secret and bound to the ARN of the key, so that it is
// of no use elsewhere and for no other wrapping key.
type importToken struct {
	Algorithm types.AlgorithmSpec
	Expires   time.Time
	Private   []byte // the wrapping key, PKCS #8
}

var importTokenSalt = []byte("kmsfake import token v1")

func sealToken(secret []byte, k *keyState, t *importToken) []byte {
	data, err := json.Marshal(t)
	if err != nil {
		panic("kmsfake: internal error: " + err.Error())
	}
	return aead(secret, importTokenSalt).Seal(nil, nil, data, []byte(k.ARN()))
}

// openToken returns an *apiError for what is not a token for this key, or no more.
func (r *request) openToken(k *keyState, sealed []byte) (a types.AlgorithmSpec, private *rsa.PrivateKey, err error) {
	invalid := fail("InvalidImportTokenException", "The import token is invalid, or is associated with a different KMS key.")
	data, err := aead(r.st.Secret, importTokenSalt).Open(nil, nil, sealed, []byte(k.ARN()))
	if err != nil {
		return "", nil, invalid
	}
	var t importToken
	if err := json.Unmarshal(data, &t); err != nil {
		return "", nil, invalid
	}
	if !r.now.Before(t.Expires) {
		return "", nil, fail("ExpiredImportTokenException", "The import token has expired.")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(t.Private)
	if err != nil {
		return "", nil, invalid
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return "", nil, invalid
	}
	return t.Algorithm, private, nil
}

func (r *request) getParametersForImport(in *kms.GetParametersForImportInput) (*kms.GetParametersForImportOutput, error) {
	k, err := r.aboutKeyWith(in.KeyId, map[string][]string{
		"kms:wrappingalgorithm": {string(in.WrappingAlgorithm)}, "kms:wrappingkeyspec": {string(in.WrappingKeySpec)},
	}, func(c *checks) {
		required(c, "wrappingAlgorithm", in.WrappingAlgorithm)
		required(c, "wrappingKeySpec", in.WrappingKeySpec)
	})
	if err == nil {
		err = k.wrappable(in.WrappingAlgorithm, in.WrappingKeySpec)
	}
	if err != nil {
		return nil, err
	}
	private, err := r.newWrappingKey(in.WrappingKeySpec)
	if err != nil {
		return nil, fail("KMSInternalException", "kmsfake could not make a wrapping key.")
	}
	t := &importToken{Algorithm: in.WrappingAlgorithm, Expires: r.now.Add(importTokenLife), Private: encodePrivateKey(private)}
	defer clear(t.Private)
	return &kms.GetParametersForImportOutput{
		KeyId: aws.String(k.ARN()), PublicKey: encodePublicKey(private),
		ImportToken: sealToken(r.st.Secret, k, t), ParametersValidTo: aws.Time(t.Expires),
	}, nil
}

// wrappable refuses the ways of wrapping that cannot carry the key's material.
func (k *keyState) wrappable(a types.AlgorithmSpec, spec types.WrappingKeySpec) error {
	unsupported := func(what any) error {
		return fail("UnsupportedOperationException", "kmsfake does not support %s.", what)
	}
	if spec == types.WrappingKeySpecSm2 {
		return unsupported("WrappingKeySpec SM2")
	}
	whole := false // encrypted by RSA itself, not by an AES key
	switch a {
	case types.AlgorithmSpecRsaesOaepSha256:
		whole = true
	case types.AlgorithmSpecRsaAesKeyWrapSha256:
	case types.AlgorithmSpecRsaesOaepSha1, types.AlgorithmSpecRsaAesKeyWrapSha1:
		if err := noSHA1(string(a)); err != nil {
			return err
		}
		whole = a == types.AlgorithmSpecRsaesOaepSha1
	case types.AlgorithmSpecRsaesPkcs1V15:
		return fail("UnsupportedOperationException", "RSAES_PKCS1_V1_5 is not supported any more, by KMS itself.")
	default:
		return unsupported("WrappingAlgorithm " + string(a))
	}
	tooLong := k.kind().family == familyRSA || k.Spec == types.KeySpecEccNistP521 && spec == types.WrappingKeySpecRsa2048
	if whole && tooLong {
		return validation("WrappingAlgorithm %s with WrappingKeySpec %s cannot wrap key material of key spec %s.", a, spec, k.Spec)
	}
	return nil
}
