package kmsfake

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

//lint:file-ignore SA1019 CustomerMasterKeySpec is deprecated, but still on the wire.

// keyKind is what the developer guide's "Key spec reference" says of one spec.
type keyKind struct {
	family  keyFamily
	bits    int // of an RSA modulus, of an HMAC key
	usages  []types.KeyUsageType
	signing []types.SigningAlgorithmSpec
	mac     types.MacAlgorithmSpec
}

type keyFamily uint8

const (
	familyAES keyFamily = iota
	familyHMAC
	familyRSA
	familyEC
	familyEd25519
)

const (
	usageEncrypt = types.KeyUsageTypeEncryptDecrypt
	usageSign    = types.KeyUsageTypeSignVerify
	usageMac     = types.KeyUsageTypeGenerateVerifyMac
	usageAgree   = types.KeyUsageTypeKeyAgreement
)

var (
	rsaSigning = []types.SigningAlgorithmSpec{
		types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, types.SigningAlgorithmSpecRsassaPkcs1V15Sha384,
		types.SigningAlgorithmSpecRsassaPkcs1V15Sha512, types.SigningAlgorithmSpecRsassaPssSha256,
		types.SigningAlgorithmSpecRsassaPssSha384, types.SigningAlgorithmSpecRsassaPssSha512,
	}
	rsaEncryption = []types.EncryptionAlgorithmSpec{
		types.EncryptionAlgorithmSpecRsaesOaepSha1, types.EncryptionAlgorithmSpecRsaesOaepSha256,
	}
)

func rsaKind(bits int) *keyKind {
	return &keyKind{family: familyRSA, bits: bits, usages: []types.KeyUsageType{usageEncrypt, usageSign}, signing: rsaSigning}
}

func ecKind(a types.SigningAlgorithmSpec) *keyKind {
	return &keyKind{family: familyEC, usages: []types.KeyUsageType{usageSign, usageAgree}, signing: []types.SigningAlgorithmSpec{a}}
}

func hmacKind(bits int, a types.MacAlgorithmSpec) *keyKind {
	return &keyKind{family: familyHMAC, bits: bits, usages: []types.KeyUsageType{usageMac}, mac: a}
}

// keyKinds are the specs that the fake has. Of AWS's others, secp256k1, SM2,
// ML-DSA and ML-KEM in its encoding are not in Go's standard library.
var keyKinds = map[types.KeySpec]*keyKind{
	types.KeySpecSymmetricDefault: {family: familyAES, bits: 256, usages: []types.KeyUsageType{usageEncrypt}},
	types.KeySpecHmac224:          hmacKind(224, types.MacAlgorithmSpecHmacSha224),
	types.KeySpecHmac256:          hmacKind(256, types.MacAlgorithmSpecHmacSha256),
	types.KeySpecHmac384:          hmacKind(384, types.MacAlgorithmSpecHmacSha384),
	types.KeySpecHmac512:          hmacKind(512, types.MacAlgorithmSpecHmacSha512),
	types.KeySpecRsa2048:          rsaKind(2048),
	types.KeySpecRsa3072:          rsaKind(3072),
	types.KeySpecRsa4096:          rsaKind(4096),
	types.KeySpecEccNistP256:      ecKind(types.SigningAlgorithmSpecEcdsaSha256),
	types.KeySpecEccNistP384:      ecKind(types.SigningAlgorithmSpecEcdsaSha384),
	types.KeySpecEccNistP521:      ecKind(types.SigningAlgorithmSpecEcdsaSha512),
	types.KeySpecEccNistEdwards25519: {
		family: familyEd25519, usages: []types.KeyUsageType{usageSign},
		signing: []types.SigningAlgorithmSpec{types.SigningAlgorithmSpecEd25519PhSha512, types.SigningAlgorithmSpecEd25519Sha512},
	},
}

func (k *keyState) kind() *keyKind { return keyKinds[k.Spec] }

// attributes are the condition keys that speak of a key itself, in lower case.
// The same hold for CreateKey, about the key that it would make.
func (k *keyState) attributes() map[string][]string {
	out := map[string][]string{
		"kms:keyspec":     {string(k.Spec)},
		"kms:keyusage":    {string(k.Usage)},
		"kms:keyorigin":   {string(k.Origin)},
		"kms:multiregion": {"false"},
	}
	if k.Primary != "" {
		out["kms:multiregion"] = []string{"true"}
		out["kms:multiregionkeytype"] = []string{string(types.MultiRegionKeyTypeReplica)}
		if k.isPrimary() {
			out["kms:multiregionkeytype"] = []string{string(types.MultiRegionKeyTypePrimary)}
		}
	}
	return out
}

// kindOfKey reads which kind of key CreateKey asks for. What the fake cannot make
// is refused as an operation that KMS does not support there, never replaced by
// another kind.
func kindOfKey(in *kms.CreateKeyInput) (*keyState, error) {
	unsupported := func(what string) error {
		return fail("UnsupportedOperationException", "kmsfake does not support %s.", what)
	}
	if in.KeySpec != "" && in.CustomerMasterKeySpec != "" {
		return nil, validation("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	k := &keyState{Spec: in.KeySpec, Usage: in.KeyUsage, Origin: in.Origin}
	if k.Spec == "" {
		k.Spec = types.KeySpec(in.CustomerMasterKeySpec)
	}
	if k.Spec != "" && k.Spec != types.KeySpecSymmetricDefault && k.Usage == "" {
		return nil, validation("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	}
	k.complete()
	switch {
	case in.CustomKeyStoreId != nil, in.XksKeyId != nil:
		return nil, unsupported("custom key stores")
	case k.Origin != types.OriginTypeAwsKms && k.Origin != types.OriginTypeExternal:
		return nil, unsupported("Origin " + string(k.Origin))
	case k.kind() == nil:
		return nil, unsupported("KeySpec " + string(k.Spec))
	case !slices.Contains(k.kind().usages, k.Usage):
		return nil, validation("KeyUsage %s is not compatible with KeySpec %s", k.Usage, k.Spec)
	}
	if aws.ToBool(in.MultiRegion) {
		k.Primary = "here" // the caller knows where that is
	}
	return k, nil
}

// describeKind fills in what a key can do.
func (k *keyState) describeKind(m *types.KeyMetadata) {
	m.CustomerMasterKeySpec, m.KeySpec, m.KeyUsage = types.CustomerMasterKeySpec(k.Spec), k.Spec, k.Usage
	switch k.Usage {
	case usageEncrypt:
		m.EncryptionAlgorithms = k.encryptionAlgorithms()
	case usageSign:
		m.SigningAlgorithms = slices.Clone(k.kind().signing)
	case usageMac:
		m.MacAlgorithms = []types.MacAlgorithmSpec{k.kind().mac}
	case usageAgree:
		m.KeyAgreementAlgorithms = []types.KeyAgreementAlgorithmSpec{types.KeyAgreementAlgorithmSpecEcdh}
	}
}

func (k *keyState) encryptionAlgorithms() []types.EncryptionAlgorithmSpec {
	if k.symmetric() {
		return []types.EncryptionAlgorithmSpec{symmetric}
	}
	return slices.Clone(rsaEncryption)
}

// usedFor refuses a key whose usage is for another kind of operation.
func (r *request) usedFor(k *keyState, usage types.KeyUsageType) error {
	if k.Usage == usage {
		return nil
	}
	return fail("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.", k.ARN(), k.Usage, r.op)
}
