package kmsfake

import (
	"crypto/ecdsa"
	"crypto/x509"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

//lint:file-ignore SA1019 CustomerMasterKeySpec is deprecated, but still on the wire.

func (r *request) getPublicKey(in *kms.GetPublicKeyInput) (*kms.GetPublicKeyOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.tokens(in.GrantTokens) })
	if err != nil {
		return nil, err
	}
	var m types.KeyMetadata
	k.describeKind(&m)
	return &kms.GetPublicKeyOutput{
		KeyId: aws.String(k.ARN()), PublicKey: encodePublicKey(k.signer()),
		CustomerMasterKeySpec: m.CustomerMasterKeySpec, KeySpec: m.KeySpec, KeyUsage: m.KeyUsage,
		EncryptionAlgorithms: m.EncryptionAlgorithms, SigningAlgorithms: m.SigningAlgorithms,
		KeyAgreementAlgorithms: m.KeyAgreementAlgorithms,
	}, nil
}

// deriveSharedSecret is ECDH (NIST SP 800-56A, 5.7.1.2) without a derivation
// function, as in KMS: the secret is the raw x coordinate.
func (r *request) deriveSharedSecret(in *kms.DeriveSharedSecretInput) (*kms.DeriveSharedSecretOutput, error) {
	var c checks
	c.key("keyId", in.KeyId)
	required(&c, "keyAgreementAlgorithm", in.KeyAgreementAlgorithm)
	c.blob("publicKey", in.PublicKey, 8192, true)
	c.tokens(in.GrantTokens)
	if err := firstOf(c.err(), noEnclave(in.Recipient)); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{action: "kms:DeriveSharedSecret", id: *in.KeyId, extra: map[string][]string{
		"kms:keyagreementalgorithm": {string(in.KeyAgreementAlgorithm)},
	}})
	if err != nil {
		return nil, err
	}
	if err := firstOf(r.usable(k), r.usedFor(k, usageAgree)); err != nil {
		return nil, err
	}
	secret, ok := agree(k.signer().(*ecdsa.PrivateKey), in.PublicKey)
	if !ok {
		return nil, &apiError{code: "ValidationException", silent: true} // no text, as recorded from the service
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	r.used(k)
	return &kms.DeriveSharedSecretOutput{
		KeyId: aws.String(k.ARN()), KeyOrigin: k.Origin, SharedSecret: secret, KeyAgreementAlgorithm: in.KeyAgreementAlgorithm,
	}, nil
}

func agree(private *ecdsa.PrivateKey, der []byte) (secret []byte, ok bool) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	public, isEC := parsed.(*ecdsa.PublicKey)
	if err != nil || !isEC || public.Curve != private.Curve {
		return nil, false
	}
	theirs, err := public.ECDH()
	if err != nil {
		return nil, false
	}
	ours, err := private.ECDH()
	if err != nil {
		return nil, false
	}
	secret, err = ours.ECDH(theirs)
	return secret, err == nil
}
