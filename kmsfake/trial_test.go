package kmsfake

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// trial is one key of the kind that an operation is for, and what a successful
// call of it needs.
type trial struct {
	fake *KMS
	key  *Key
	ins  map[string]any
}

// newTrial makes a key on which op succeeds, or which can be brought into a
// state: only keys with imported material can be pending import.
func newTrial(t testing.TB, op string, state types.KeyState) *trial {
	t.Helper()
	return newTrialOn(t, New(&Options{TB: t}), op, state)
}

func newTrialOn(t testing.TB, fake *KMS, op string, state types.KeyState) *trial {
	t.Helper()
	in := &kms.CreateKeyInput{}
	switch op {
	case "GenerateMac", "VerifyMac":
		in.KeySpec, in.KeyUsage = types.KeySpecHmac256, usageMac
	case "Sign", "Verify", "GetPublicKey":
		in.KeySpec, in.KeyUsage = types.KeySpecEccNistP256, usageSign
	case "DeriveSharedSecret":
		in.KeySpec, in.KeyUsage = types.KeySpecEccNistP256, usageAgree
	case "ReplicateKey", "UpdatePrimaryRegion":
		in.MultiRegion = aws.Bool(true)
	case "GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial":
		in.Origin = types.OriginTypeExternal
	}
	if state == types.KeyStatePendingImport {
		in.Origin = types.OriginTypeExternal
	}
	c, ctx := fake.Client(customer), context.Background()
	out, err := c.CreateKey(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	tr := &trial{fake: fake, key: fake.Account(customer).Key(*out.KeyMetadata.Arn)}
	id := out.KeyMetadata.Arn
	k := fake.st.Keys[*id]
	var raw []byte
	if k.imported() {
		if raw, err = (&request{}).newMaterial(k); err != nil {
			t.Fatal(err)
		}
		tr.key.ImportMaterial(raw, time.Time{})
	}
	blob, mac, sig := []byte("x"), []byte("x"), []byte("x")
	switch {
	case k.symmetric():
		blob = seal(fake.st.Secret, k, k.current(), []byte("x"), nil)
	case k.Usage == usageMac:
		mac = k.mac([]byte("x"))
	case k.Usage == usageSign:
		digest := sha256.Sum256([]byte("x"))
		if sig, err = k.signer().Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if op == "UpdatePrimaryRegion" {
		if _, err := c.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String("eu-west-1")}); err != nil {
			t.Fatal(err)
		}
		if k.imported() {
			fake.Account(customer).Region("eu-west-1").Key(k.ID).ImportMaterial(raw, time.Time{})
		}
	}
	if op == "RotateKeyOnDemand" && k.imported() {
		k.Materials = append(k.Materials, material{ID: strings.Repeat("a", 64), Key: raw, Pending: true})
	}
	token := sealToken(fake.st.Secret, k, &importToken{Algorithm: types.AlgorithmSpecRsaesOaepSha256,
		Expires: fake.now().Add(time.Hour), Private: encodePrivateKey(testRSA())})
	alias := aws.String("alias/trial-" + op)
	if op == "UpdateAlias" || op == "DeleteAlias" {
		if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: id}); err != nil {
			t.Fatal(err)
		}
	}
	g := &grantState{ID: newGrantID(), Issuer: customer, Created: fake.now(), Operations: []types.GrantOperation{types.GrantOperationDecrypt}}
	k.grant(g)
	tr.ins = map[string]any{
		"CancelKeyDeletion": &kms.CancelKeyDeletionInput{KeyId: id},
		"CreateAlias":       &kms.CreateAliasInput{AliasName: alias, TargetKeyId: id},
		"CreateGrant": &kms.CreateGrantInput{KeyId: id, GranteePrincipal: aws.String(appRole),
			Operations: []types.GrantOperation{types.GrantOperationDescribeKey}},
		"ListGrants":                          &kms.ListGrantsInput{KeyId: id},
		"RetireGrant":                         &kms.RetireGrantInput{KeyId: id, GrantId: &g.ID},
		"RevokeGrant":                         &kms.RevokeGrantInput{KeyId: id, GrantId: &g.ID},
		"DeleteImportedKeyMaterial":           &kms.DeleteImportedKeyMaterialInput{KeyId: id},
		"DeriveSharedSecret":                  &kms.DeriveSharedSecretInput{KeyId: id, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: testECPublic()},
		"GenerateDataKeyPair":                 &kms.GenerateDataKeyPairInput{KeyId: id, KeyPairSpec: types.DataKeyPairSpecEccNistP256},
		"GenerateDataKeyPairWithoutPlaintext": &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: id, KeyPairSpec: types.DataKeyPairSpecEccNistP256},
		"GenerateMac":                         &kms.GenerateMacInput{KeyId: id, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("x")},
		"VerifyMac":                           &kms.VerifyMacInput{KeyId: id, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("x"), Mac: mac},
		"Sign":                                &kms.SignInput{KeyId: id, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte("x")},
		"Verify":                              &kms.VerifyInput{KeyId: id, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte("x"), Signature: sig},
		"GetPublicKey":                        &kms.GetPublicKeyInput{KeyId: id},
		"GetParametersForImport":              &kms.GetParametersForImportInput{KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048},
		"ImportKeyMaterial": &kms.ImportKeyMaterialInput{KeyId: id, ImportToken: token, EncryptedKeyMaterial: wrapOAEP(&testRSA().PublicKey, raw),
			ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire},
		"ReplicateKey":                    &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String("us-west-2")},
		"UpdatePrimaryRegion":             &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: aws.String("eu-west-1")},
		"Decrypt":                         &kms.DecryptInput{KeyId: id, CiphertextBlob: blob},
		"DeleteAlias":                     &kms.DeleteAliasInput{AliasName: alias},
		"DescribeKey":                     &kms.DescribeKeyInput{KeyId: id},
		"DisableKey":                      &kms.DisableKeyInput{KeyId: id},
		"DisableKeyRotation":              &kms.DisableKeyRotationInput{KeyId: id},
		"EnableKey":                       &kms.EnableKeyInput{KeyId: id},
		"EnableKeyRotation":               &kms.EnableKeyRotationInput{KeyId: id},
		"Encrypt":                         &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")},
		"GenerateDataKey":                 &kms.GenerateDataKeyInput{KeyId: id, NumberOfBytes: aws.Int32(1)},
		"GenerateDataKeyWithoutPlaintext": &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, NumberOfBytes: aws.Int32(1)},
		"GetKeyLastUsage":                 &kms.GetKeyLastUsageInput{KeyId: id},
		"GetKeyPolicy":                    &kms.GetKeyPolicyInput{KeyId: id},
		"GetKeyRotationStatus":            &kms.GetKeyRotationStatusInput{KeyId: id},
		"ListAliases":                     &kms.ListAliasesInput{KeyId: id},
		"ListKeyPolicies":                 &kms.ListKeyPoliciesInput{KeyId: id},
		"ListKeyRotations":                &kms.ListKeyRotationsInput{KeyId: id},
		"ListResourceTags":                &kms.ListResourceTagsInput{KeyId: id},
		"PutKeyPolicy":                    &kms.PutKeyPolicyInput{KeyId: id, Policy: aws.String(tr.key.Policy())},
		"ReEncrypt":                       &kms.ReEncryptInput{SourceKeyId: id, DestinationKeyId: id, CiphertextBlob: blob},
		"RotateKeyOnDemand":               &kms.RotateKeyOnDemandInput{KeyId: id},
		"ScheduleKeyDeletion":             &kms.ScheduleKeyDeletionInput{KeyId: id},
		"TagResource":                     &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}},
		"UntagResource":                   &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"a"}},
		"UpdateAlias":                     &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: id},
		"UpdateKeyDescription":            &kms.UpdateKeyDescriptionInput{KeyId: id, Description: aws.String("d")},
	}
	return tr
}

// input is a whole and well-formed input of an operation on the key.
func (tr *trial) input(op string) any {
	in := tr.ins[op]
	if in == nil {
		tr.fake.misuse("no trial of %s", op)
	}
	return in
}

// testRSA is one RSA key for all tests that are not about how keys are made.
var testRSA = sync.OnceValue(func() *rsa.PrivateKey { return freshRSA("RSA_2048") })

var testECPublic = sync.OnceValue(func() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return encodePublicKey(key)
})

// wrapOAEP wraps key material as an importer does.
func wrapOAEP(public *rsa.PublicKey, raw []byte) []byte {
	out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, raw, nil)
	if err != nil {
		panic(err)
	}
	return out
}
