package kmsfake

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func (r *request) generateDataKeyPair(in *kms.GenerateDataKeyPairInput) (*kms.GenerateDataKeyPairOutput, error) {
	var c checks
	c.key("keyId", in.KeyId)
	required(&c, "keyPairSpec", in.KeyPairSpec)
	c.tokens(in.GrantTokens)
	if err := firstOf(c.err(), contextSize(in.EncryptionContext), noEnclave(in.Recipient)); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{
		action: "kms:" + r.op, id: *in.KeyId, ec: in.EncryptionContext, alg: string(symmetric),
		extra: map[string][]string{"kms:datakeypairspec": {string(in.KeyPairSpec)}},
	})
	if err != nil {
		return nil, err
	}
	if err := firstOf(r.usable(k), r.wrapsDataKeys(k)); err != nil {
		return nil, err
	}
	spec := types.KeySpec(in.KeyPairSpec) // of the same names
	if keyKinds[spec] == nil {
		return nil, fail("UnsupportedOperationException", "kmsfake does not support KeyPairSpec %s.", spec)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	private, err := r.newPrivateKey(spec)
	if err != nil {
		return nil, err
	}
	plaintext := encodePrivateKey(private)
	r.used(k)
	return &kms.GenerateDataKeyPairOutput{
		KeyId: aws.String(k.ARN()), KeyMaterialId: materialOf(k), KeyPairSpec: in.KeyPairSpec,
		PrivateKeyCiphertextBlob: r.seal(k, plaintext, in.EncryptionContext),
		PrivateKeyPlaintext:      plaintext,
		PublicKey:                encodePublicKey(private),
	}, nil
}

func (r *request) generateDataKeyPairWithoutPlaintext(
	in *kms.GenerateDataKeyPairWithoutPlaintextInput,
) (*kms.GenerateDataKeyPairWithoutPlaintextOutput, error) {
	out, err := r.generateDataKeyPair(&kms.GenerateDataKeyPairInput{
		KeyId: in.KeyId, KeyPairSpec: in.KeyPairSpec, DryRun: in.DryRun,
		EncryptionContext: in.EncryptionContext, GrantTokens: in.GrantTokens,
	})
	if err != nil {
		return nil, err
	}
	clear(out.PrivateKeyPlaintext)
	return &kms.GenerateDataKeyPairWithoutPlaintextOutput{
		KeyId: out.KeyId, KeyMaterialId: out.KeyMaterialId, KeyPairSpec: out.KeyPairSpec,
		PrivateKeyCiphertextBlob: out.PrivateKeyCiphertextBlob, PublicKey: out.PublicKey,
	}, nil
}
