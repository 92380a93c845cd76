package kmsfake

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// maxMessage is the longest message that KMS authenticates or signs.
const maxMessage = 4096

var macHashes = map[types.MacAlgorithmSpec]func() hash.Hash{
	types.MacAlgorithmSpecHmacSha224: sha256.New224,
	types.MacAlgorithmSpecHmacSha256: sha256.New,
	types.MacAlgorithmSpecHmacSha384: sha512.New384,
	types.MacAlgorithmSpecHmacSha512: sha512.New,
}

// macKey finds the key for a MAC, checked, authorized and usable.
func (r *request) macKey(c *checks, id *string, tokens []string, a types.MacAlgorithmSpec, message []byte) (*keyState, error) {
	c.key("keyId", id)
	c.blob("message", message, maxMessage, true)
	required(c, "macAlgorithm", a)
	c.tokens(tokens)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{action: "kms:" + r.op, id: *id, extra: map[string][]string{"kms:macalgorithm": {string(a)}}})
	if err != nil {
		return nil, err
	}
	if err := firstOf(r.usable(k), r.usedFor(k, usageMac)); err != nil {
		return nil, err
	}
	if k.kind().mac != a {
		return nil, incompatible(k, a)
	}
	return k, nil
}

func incompatible[A ~string](k *keyState, a A) error {
	return fail("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", a, k.Spec)
}

func (k *keyState) mac(message []byte) []byte {
	mac := hmac.New(macHashes[k.kind().mac], k.current().Key)
	mac.Write(message)
	return mac.Sum(nil)
}

func (r *request) generateMac(in *kms.GenerateMacInput) (*kms.GenerateMacOutput, error) {
	k, err := r.macKey(new(checks), in.KeyId, in.GrantTokens, in.MacAlgorithm, in.Message)
	if err := firstOf(err, dryRun(in.DryRun)); err != nil {
		return nil, err
	}
	r.used(k)
	return &kms.GenerateMacOutput{KeyId: aws.String(k.ARN()), Mac: k.mac(in.Message), MacAlgorithm: in.MacAlgorithm}, nil
}

// verifyMac never answers false: a MAC that does not match is an exception.
func (r *request) verifyMac(in *kms.VerifyMacInput) (*kms.VerifyMacOutput, error) {
	var c checks
	c.blob("mac", in.Mac, 6144, true)
	k, err := r.macKey(&c, in.KeyId, in.GrantTokens, in.MacAlgorithm, in.Message)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(k.mac(in.Message), in.Mac) {
		return nil, &apiError{code: "KMSInvalidMacException", silent: true}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	r.used(k)
	return &kms.VerifyMacOutput{KeyId: aws.String(k.ARN()), MacAlgorithm: in.MacAlgorithm, MacValid: true}, nil
}
