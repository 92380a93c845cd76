package kmsfake

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	symmetric     = types.EncryptionAlgorithmSpecSymmetricDefault
)

func algorithm(a types.EncryptionAlgorithmSpec) types.EncryptionAlgorithmSpec {
	if a == "" {
		return symmetric
	}
	return a
}

// encrypts refuses a key that is not for encryption, or not with this algorithm.
func (r *request) encrypts(k *keyState, a types.EncryptionAlgorithmSpec, ec map[string]string) error {
	if err := r.usedFor(k, usageEncrypt); err != nil {
		return err
	}
	a = algorithm(a)
	switch {
	case !slices.Contains(k.encryptionAlgorithms(), a):
		return fail("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", a, k.Spec)
	case len(ec) > 0 && !k.symmetric():
		return validation("An encryption context is valid only with a symmetric encryption KMS key.")
	case a == types.EncryptionAlgorithmSpecRsaesOaepSha1:
		return noSHA1(string(a))
	}
	return nil
}

// dryRun ends a call that would have succeeded, if that is all it asked.
func dryRun(asked *bool) error {
	if aws.ToBool(asked) {
		return fail("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

// seal encrypts under the current material of a symmetric key.
func (r *request) seal(k *keyState, plaintext []byte, ec map[string]string) []byte {
	return seal(r.st.Secret, k, k.current(), plaintext, ec)
}

// sealWith encrypts under a key of any kind.
func (r *request) sealWith(k *keyState, a types.EncryptionAlgorithmSpec, plaintext []byte, ec map[string]string) ([]byte, error) {
	if k.symmetric() {
		return r.seal(k, plaintext, ec), nil
	}
	return k.sealOAEP(a, plaintext)
}

// materialOf is KeyMaterialId, which only symmetric keys have.
func materialOf(k *keyState) *string {
	if !k.symmetric() {
		return nil
	}
	return aws.String(k.current().ID)
}

func (r *request) encrypt(in *kms.EncryptInput) (*kms.EncryptOutput, error) {
	var c checks
	c.key("keyId", in.KeyId)
	c.blob("plaintext", in.Plaintext, maxPlaintext, true)
	c.tokens(in.GrantTokens)
	enum(&c, "encryptionAlgorithm", in.EncryptionAlgorithm, symmetric.Values())
	if err := firstOf(c.err(), contextSize(in.EncryptionContext)); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{
		action: "kms:Encrypt", id: *in.KeyId, ec: in.EncryptionContext, alg: string(algorithm(in.EncryptionAlgorithm)),
	})
	if err != nil {
		return nil, err
	}
	if err := firstOf(r.usable(k), r.encrypts(k, in.EncryptionAlgorithm, in.EncryptionContext), dryRun(in.DryRun)); err != nil {
		return nil, err
	}
	blob, err := r.sealWith(k, in.EncryptionAlgorithm, in.Plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	r.used(k)
	return &kms.EncryptOutput{
		CiphertextBlob:      blob,
		EncryptionAlgorithm: algorithm(in.EncryptionAlgorithm),
		KeyId:               aws.String(k.ARN()),
	}, nil
}

func (r *request) decrypt(in *kms.DecryptInput) (*kms.DecryptOutput, error) {
	permissionsOnly := ignoresCiphertext(in.DryRun, in.DryRunModifiers)
	var c checks
	c.blob("ciphertextBlob", in.CiphertextBlob, maxCiphertext, !permissionsOnly)
	c.str("keyId", in.KeyId, 1, 2048)
	c.tokens(in.GrantTokens)
	enum(&c, "encryptionAlgorithm", in.EncryptionAlgorithm, symmetric.Values())
	err := firstOf(c.err(), contextSize(in.EncryptionContext), noEnclave(in.Recipient))
	if err != nil {
		return nil, err
	}
	src := source{
		aim: aim{action: "kms:Decrypt", id: aws.ToString(in.KeyId), ec: in.EncryptionContext,
			alg: string(algorithm(in.EncryptionAlgorithm))},
		blob: in.CiphertextBlob,
	}
	if err := r.findSource(&src); err != nil {
		return nil, err
	}
	if err := firstOf(r.usable(src.key), r.encrypts(src.key, in.EncryptionAlgorithm, in.EncryptionContext)); err != nil {
		return nil, err
	}
	if permissionsOnly {
		return nil, dryRun(in.DryRun)
	}
	plaintext, material, err := r.openSource(&src)
	if err == nil {
		err = dryRun(in.DryRun)
	}
	if err != nil {
		return nil, err
	}
	r.used(src.key)
	return &kms.DecryptOutput{
		EncryptionAlgorithm: algorithm(in.EncryptionAlgorithm),
		KeyId:               aws.String(src.key.ARN()),
		KeyMaterialId:       material,
		Plaintext:           plaintext,
	}, nil
}

func (r *request) reEncrypt(in *kms.ReEncryptInput) (*kms.ReEncryptOutput, error) {
	permissionsOnly := ignoresCiphertext(in.DryRun, in.DryRunModifiers)
	var c checks
	c.blob("ciphertextBlob", in.CiphertextBlob, maxCiphertext, !permissionsOnly)
	c.str("sourceKeyId", in.SourceKeyId, 1, 2048)
	c.key("destinationKeyId", in.DestinationKeyId)
	c.tokens(in.GrantTokens)
	enum(&c, "sourceEncryptionAlgorithm", in.SourceEncryptionAlgorithm, symmetric.Values())
	enum(&c, "destinationEncryptionAlgorithm", in.DestinationEncryptionAlgorithm, symmetric.Values())
	err := firstOf(c.err(), contextSize(in.SourceEncryptionContext), contextSize(in.DestinationEncryptionContext))
	if err != nil {
		return nil, err
	}
	// Two keys, two permissions, each under its own context. Both are decided
	// before either key's state is looked at.
	src := source{
		aim: aim{action: "kms:ReEncryptFrom", id: aws.ToString(in.SourceKeyId), ec: in.SourceEncryptionContext,
			alg: string(algorithm(in.SourceEncryptionAlgorithm))},
		blob: in.CiphertextBlob,
		onto: *in.DestinationKeyId,
	}
	if err := r.findSource(&src); err != nil {
		return nil, err
	}
	from := r.call.KeyARN
	to, err := r.authorized(aim{
		action: "kms:ReEncryptTo", id: *in.DestinationKeyId, ec: in.DestinationEncryptionContext,
		alg:   string(algorithm(in.DestinationEncryptionAlgorithm)),
		extra: map[string][]string{"kms:reencryptonsamekey": {r.sameKey(src.key, *in.DestinationKeyId)}},
	})
	r.call.KeyARN = from
	if err != nil {
		return nil, err
	}
	r.call.DestinationKeyARN = to.ARN()
	err = firstOf(r.usable(src.key), r.usable(to),
		r.encrypts(src.key, in.SourceEncryptionAlgorithm, in.SourceEncryptionContext),
		r.encrypts(to, in.DestinationEncryptionAlgorithm, in.DestinationEncryptionContext))
	if err != nil {
		return nil, err
	}
	if permissionsOnly {
		return nil, dryRun(in.DryRun)
	}
	plaintext, material, err := r.openSource(&src)
	if err == nil {
		err = dryRun(in.DryRun)
	}
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	if len(plaintext) > maxPlaintext {
		return nil, errInvalidCiphertext
	}
	blob, err := r.sealWith(to, in.DestinationEncryptionAlgorithm, plaintext, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	r.used(src.key)
	r.used(to)
	return &kms.ReEncryptOutput{
		CiphertextBlob:                 blob,
		SourceEncryptionAlgorithm:      algorithm(in.SourceEncryptionAlgorithm),
		DestinationEncryptionAlgorithm: algorithm(in.DestinationEncryptionAlgorithm),
		SourceKeyId:                    aws.String(src.key.ARN()),
		KeyId:                          aws.String(to.ARN()),
		SourceKeyMaterialId:            material,
		DestinationKeyMaterialId:       materialOf(to),
	}, nil
}

func (r *request) generateDataKey(in *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
	if err := noEnclave(in.Recipient); err != nil {
		return nil, err
	}
	k, plaintext, err := r.dataKey("kms:GenerateDataKey", in)
	if err != nil {
		return nil, err
	}
	return &kms.GenerateDataKeyOutput{
		CiphertextBlob: r.seal(k, plaintext, in.EncryptionContext),
		KeyId:          aws.String(k.ARN()),
		KeyMaterialId:  materialOf(k),
		Plaintext:      plaintext,
	}, nil
}

func (r *request) generateDataKeyWithoutPlaintext(
	in *kms.GenerateDataKeyWithoutPlaintextInput,
) (*kms.GenerateDataKeyWithoutPlaintextOutput, error) {
	k, plaintext, err := r.dataKey("kms:GenerateDataKeyWithoutPlaintext", &kms.GenerateDataKeyInput{
		KeyId: in.KeyId, DryRun: in.DryRun, EncryptionContext: in.EncryptionContext,
		GrantTokens: in.GrantTokens, KeySpec: in.KeySpec, NumberOfBytes: in.NumberOfBytes,
	})
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return &kms.GenerateDataKeyWithoutPlaintextOutput{
		CiphertextBlob: r.seal(k, plaintext, in.EncryptionContext),
		KeyId:          aws.String(k.ARN()),
		KeyMaterialId:  materialOf(k),
	}, nil
}

func (r *request) dataKey(action string, in *kms.GenerateDataKeyInput) (*keyState, []byte, error) {
	var c checks
	c.key("keyId", in.KeyId)
	c.num("numberOfBytes", in.NumberOfBytes, 1, 1024)
	c.tokens(in.GrantTokens)
	enum(&c, "keySpec", in.KeySpec, in.KeySpec.Values())
	if err := firstOf(c.err(), contextSize(in.EncryptionContext)); err != nil {
		return nil, nil, err
	}
	if (in.KeySpec == "") == (in.NumberOfBytes == nil) {
		return nil, nil, validation("Please specify either number of bytes or key spec.")
	}
	k, err := r.authorized(aim{action: action, id: *in.KeyId, ec: in.EncryptionContext, alg: string(symmetric)})
	if err != nil {
		return nil, nil, err
	}
	if err := firstOf(r.usable(k), r.wrapsDataKeys(k), dryRun(in.DryRun)); err != nil {
		return nil, nil, err
	}
	r.used(k)
	n := aws.ToInt32(in.NumberOfBytes)
	switch in.KeySpec {
	case types.DataKeySpecAes256:
		n = 32
	case types.DataKeySpecAes128:
		n = 16
	}
	return k, randomMaterial(int(n)), nil
}

// wrapsDataKeys refuses keys that cannot wrap a data key: all but symmetric ones.
func (r *request) wrapsDataKeys(k *keyState) error {
	if err := r.usedFor(k, usageEncrypt); err != nil || k.symmetric() {
		return err
	}
	return fail("InvalidKeyUsageException", "You cannot generate a data key with an asymmetric KMS key: %s", k.ARN())
}

// ignoresCiphertext is the dry run that asks about permissions only.
func ignoresCiphertext(dry *bool, modifiers []types.DryRunModifierType) bool {
	return aws.ToBool(dry) && slices.Contains(modifiers, types.DryRunModifierTypeIgnoreCiphertext)
}

func noEnclave(recipient *types.RecipientInfo) error {
	if recipient != nil {
		return fail("UnsupportedOperationException", "kmsfake does not support Recipient (attestation documents).")
	}
	return nil
}
