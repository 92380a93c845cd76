package kmsfake

import (
	"context"
	"crypto/fips140"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// What differs between two runs of the same call, in the fake's texts and in the
// recorded ones.
var changing = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`Value '(a+|v+|[av]\.\.\.)' at`), "Value 'LONG' at"},
	{regexp.MustCompile(`arn:(aws|<partition>):kms:[^:]+:\d{12}:key/(<key-id:\d>|[0-9a-z-]+)|<(mrk-)?key-arn>`), "ARN"},
	{regexp.MustCompile(`[0-9a-f]{64}|<key-material-id(:\d)?>`), "MATERIAL"},
	{regexp.MustCompile(`KMS key (<key-id:\d>|[0-9a-f-]{36})`), "KMS key ID"},
	{regexp.MustCompile(`Invalid arn (<secondary-region>|[a-z]+-[a-z]+-\d)$`), "Invalid arn REGION"},
}

func normal(text string) string {
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.name)
	}
	return text
}

// The fake's words are the service's, for every refusal of which the service's
// words are known.
func TestWordsOfTheService(t *testing.T) {
	fake := New(&Options{TB: t})
	ctx := context.Background()
	said := make(map[string]bool)
	note := func(err error, code, text string) {
		t.Helper()
		var full string
		if e := asAPIError(err); e != nil {
			full = normal(e.code + ": " + e.msg)
		}
		said[full] = true
		if want := normal(code + ": " + text); full != want {
			t.Errorf("says %q, want %q", full, want)
		}
	}
	do := func(region, op string, in any) error {
		return fake.do(ctx, caller{who: fake.mustPrincipal(customer), region: region}, operations[op], in).err
	}
	const usage, invalid, missing = "InvalidKeyUsageException", "ValidationException", "NotFoundException"
	key := fake.Account(customer).CreateKey("")
	id := aws.String(key.ARN())
	mac224, mac256 := newKeyOf(t, fake, types.KeySpecHmac224, usageMac).Arn, newKeyOf(t, fake, types.KeySpecHmac256, usageMac).Arn
	sign, agree := newKeyOf(t, fake, types.KeySpecEccNistP256, usageSign).Arn, newKeyOf(t, fake, types.KeySpecEccNistP256, usageAgree).Arn
	sign384 := newKeyOf(t, fake, types.KeySpecEccNistP384, usageSign).Arn
	rsaSign := newKeyOf(t, fake, types.KeySpecRsa2048, usageSign).Arn
	m := []byte("m")

	// Usage and algorithms.
	derive := func(id *string, public []byte) error {
		return do(DefaultRegion, "DeriveSharedSecret", &kms.DeriveSharedSecretInput{KeyId: id, PublicKey: public, KeyAgreementAlgorithm: "ECDH"})
	}
	genMac := func(id *string, a types.MacAlgorithmSpec) error {
		return do(DefaultRegion, "GenerateMac", &kms.GenerateMacInput{KeyId: id, Message: m, MacAlgorithm: a})
	}
	signing := func(id *string, a types.SigningAlgorithmSpec, kind types.MessageType) error {
		return do(DefaultRegion, "Sign", &kms.SignInput{KeyId: id, Message: m, SigningAlgorithm: a, MessageType: kind})
	}
	verify := func(id *string) error {
		return do(DefaultRegion, "Verify", &kms.VerifyInput{KeyId: id, Message: m, Signature: m, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	}
	note(derive(id, testECPublic()), usage, "ARN key usage is ENCRYPT_DECRYPT which is not valid for DeriveSharedSecret.")
	note(derive(sign, testECPublic()), usage, "ARN key usage is SIGN_VERIFY which is not valid for DeriveSharedSecret.")
	note(derive(agree, m), invalid, "")
	note(genMac(id, "HMAC_SHA_256"), usage, "ARN key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.")
	note(genMac(mac224, "HMAC_SHA_256"), usage, "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.")
	note(genMac(mac256, "HMAC_SHA_512"), usage, "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256.")
	note(verify(id), usage, "ARN key usage is ENCRYPT_DECRYPT which is not valid for Verify.")
	note(verify(sign), "KMSInvalidSignatureException", "")
	note(do(DefaultRegion, "VerifyMac", &kms.VerifyMacInput{KeyId: mac256, Message: m, Mac: m, MacAlgorithm: "HMAC_SHA_256"}), "KMSInvalidMacException", "")
	note(signing(mac256, types.SigningAlgorithmSpecEcdsaSha256, ""), usage, "ARN key usage is GENERATE_VERIFY_MAC which is not valid for Sign.")
	note(do(DefaultRegion, "Encrypt", &kms.EncryptInput{KeyId: sign, Plaintext: m}), usage, "ARN key usage is SIGN_VERIFY which is not valid for Encrypt.")
	for a, id := range map[types.SigningAlgorithmSpec]*string{
		"ECDSA_SHA_256": sign, "ECDSA_SHA_384": sign384, "RSASSA_PKCS1_V1_5_SHA_256": rsaSign, "RSASSA_PKCS1_V1_5_SHA_512": rsaSign,
		"RSASSA_PSS_SHA_256": rsaSign, "RSASSA_PSS_SHA_384": rsaSign, "RSASSA_PSS_SHA_512": rsaSign,
	} {
		note(signing(id, a, types.MessageTypeDigest), invalid, "Digest is invalid length for algorithm "+string(a)+".")
	}
	for spec, most := range map[types.KeySpec][2]string{"RSA_2048": {"214", "190"}, "RSA_3072": {"342", "318"}, "RSA_4096": {"470", "446"}} {
		k := newKeyOf(t, fake, spec, usageEncrypt).Arn
		for i, a := range rsaEncryption {
			err := do(DefaultRegion, "Encrypt", &kms.EncryptInput{KeyId: k, Plaintext: make([]byte, 500), EncryptionAlgorithm: a})
			if i == 0 && fips140.Enforced() { // SHA-1 is refused there for what it is
				continue
			}
			note(err, invalid, "Algorithm "+string(a)+" and key spec "+string(spec)+" cannot encrypt data larger than "+most[i]+" bytes.")
		}
	}

	// Names of keys.
	describe := func(region, id string) error {
		return do(region, "DescribeKey", &kms.DescribeKeyInput{KeyId: &id})
	}
	for _, bad := range []string{"134f2428cec14b25a1ae9048164dba47", "fake-key-id", "key_id", "mrk-fake-key-id"} {
		note(describe(DefaultRegion, bad), missing, "Invalid keyId '"+bad+"'")
	}
	note(describe("eu-west-1", key.ARN()), missing, "Invalid arn us-east-1")
	note(describe(DefaultRegion, newUUID()), missing, "Key 'ARN' does not exist")
	note(do(DefaultRegion, "CreateAlias", &kms.CreateAliasInput{AliasName: aws.String("a"), TargetKeyId: id}), invalid,
		`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)

	// Ciphertexts, states, dry runs.
	out, err := fake.Client(customer).Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: m})
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func(id *string, blob []byte) error {
		return do(DefaultRegion, "Decrypt", &kms.DecryptInput{KeyId: id, CiphertextBlob: blob})
	}
	other := fake.Account(customer).CreateKey("")
	note(decrypt(aws.String(other.ARN()), out.CiphertextBlob), "IncorrectKeyException",
		"The key ID in the request does not identify a CMK that can perform this operation.")
	note(decrypt(id, out.CiphertextBlob[1:]), "InvalidCiphertextException", "")
	note(do(DefaultRegion, "Encrypt", &kms.EncryptInput{KeyId: id, Plaintext: m, DryRun: aws.Bool(true)}), "DryRunOperationException",
		"The request would have succeeded, but the DryRun option is set.")
	other.Disable()
	note(decrypt(aws.String(other.ARN()), out.CiphertextBlob), "DisabledException", "ARN is disabled.")

	// Tags.
	tag := func(tags []types.Tag) error {
		return do(DefaultRegion, "TagResource", &kms.TagResourceInput{KeyId: id, Tags: tags})
	}
	note(tag(tagsOf("k", "v", "k", "v")), "TagException", "Duplicate tag keys")
	note(tag(tagsOf("aws:k", "v")), "TagException", "Tags beginning with aws: are reserved")
	var many []string
	for i := range 51 {
		many = append(many, strings.Repeat("k", i+1), "v")
	}
	note(tag(tagsOf(many...)), "TagException", "Too many tags")
	note(tag(tagsOf(strings.Repeat("a", 129), "v")), invalid, "1 validation error detected: Value 'LONG' at 'tags.1.member.tagKey' "+
		"failed to satisfy constraint: Member must have length less than or equal to 128")
	note(tag(tagsOf("k", strings.Repeat("v", 257))), invalid, "1 validation error detected: Value 'LONG' at 'tags.1.member.tagValue' "+
		"failed to satisfy constraint: Member must have length less than or equal to 256")

	// Rotation, import, multi-Region keys.
	rotate := func(id *string) error {
		return do(DefaultRegion, "RotateKeyOnDemand", &kms.RotateKeyOnDemandInput{KeyId: id})
	}
	for range 25 {
		if err := rotate(id); err != nil {
			t.Fatal(err)
		}
	}
	note(rotate(id), "LimitExceededException", "The on-demand rotations limit has been reached for the given keyId. "+
		"No more on-demand rotations can be performed for this key: ARN")
	note(do(DefaultRegion, "EnableKeyRotation", &kms.EnableKeyRotationInput{KeyId: sign}), "UnsupportedOperationException", "")
	im := externalKey(t, fake, kms.CreateKeyInput{})
	external := &im.key
	note(rotate(external), invalidState, "ARN is pending import.")
	note(do(DefaultRegion, "EnableKeyRotation", &kms.EnableKeyRotationInput{KeyId: external}), "UnsupportedOperationException",
		"ARN origin is EXTERNAL which is not valid for this operation.")
	note(do(DefaultRegion, "DeleteImportedKeyMaterial", &kms.DeleteImportedKeyMaterialInput{KeyId: id}), "UnsupportedOperationException",
		"ARN origin is AWS_KMS which is not valid for this operation.")
	raw := randomMaterial(32)
	expires := im.do(raw, func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "" })
	note(expires, invalid, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	if err := im.do(raw, nil); err != nil {
		t.Fatal(err)
	}
	note(rotate(external), invalidState, "No available key material pending rotation for the key: ARN.")
	asNew := func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }
	if err := im.do(randomMaterial(32), asNew); err != nil {
		t.Fatal(err)
	}
	note(im.do(randomMaterial(32), asNew), invalidState, "New key material (id: MATERIAL) cannot be imported into KMS key ID, "+
		"because another key material (id: MATERIAL) is pending rotation.")
	note(do(DefaultRegion, "ReplicateKey", &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String("eu-west-1")}), "UnsupportedOperationException",
		"ARN is not a multi-region primary key.")

	// Inputs.
	random := func(n *int32) error {
		return do(DefaultRegion, "GenerateRandom", &kms.GenerateRandomInput{NumberOfBytes: n})
	}
	note(random(nil), invalid, "NumberOfBytes is required.")
	note(random(aws.Int32(0)), invalid, "1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: "+
		"Member must have value greater than or equal to 1")
	note(random(aws.Int32(1025)), invalid, "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: "+
		"Member must have value less than or equal to 1024")
	note(do(DefaultRegion, "Encrypt", &kms.EncryptInput{KeyId: id, Plaintext: make([]byte, 4097)}), invalid,
		"1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096")
	create := func(spec types.KeySpec, usage types.KeyUsageType) error {
		return do(DefaultRegion, "CreateKey", &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	}
	note(create(types.KeySpecRsa2048, usageAgree), invalid, "KeyUsage KEY_AGREEMENT is not compatible with KeySpec RSA_2048")
	note(create(types.KeySpecHmac256, ""), invalid, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")

	// And where the recordings are at hand: each of them is among those.
	compared := 0
	for _, row := range rows(t, "aws_recorded_errors.tsv") {
		if row[0] == "code" || strings.Contains(row[3], "enum value set") { // the service lists values in no order, and by now has more
			continue
		}
		if fips140.Enforced() && strings.Contains(row[3], "RSAES_OAEP_SHA_1 ") {
			continue
		}
		if compared++; !said[normal(row[0]+": "+row[3])] {
			t.Errorf("the service says %s: %s", row[0], row[3])
		}
	}
	t.Logf("%d texts of ours, %d recordings compared", len(said), compared)
	if len(said) < 45 || compared != 0 && compared < 50 {
		t.Errorf("%d texts, %d compared", len(said), compared)
	}
}
