package kmsfake

import (
	"context"
	"testing"

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
	fake := New(&Options{TB: t})
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
	out, err := fake.Client(customer).CreateKey(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	tr := &trial{fake: fake, key: fake.Account(customer).Key(*out.KeyMetadata.Arn)}
	id := out.KeyMetadata.Arn
	k := fake.st.Keys[*id]
	blob := []byte("x")
	if in.Origin == types.OriginTypeAwsKms || in.Origin == "" {
		if k.symmetric() {
			blob = seal(fake.st.Secret, k, k.current(), []byte("x"), nil)
		}
	}
	alias := aws.String("alias/trial")
	if op == "UpdateAlias" || op == "DeleteAlias" {
		if _, err := fake.Client(customer).CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: alias, TargetKeyId: id}); err != nil {
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
		"ListGrants":                      &kms.ListGrantsInput{KeyId: id},
		"RetireGrant":                     &kms.RetireGrantInput{KeyId: id, GrantId: &g.ID},
		"RevokeGrant":                     &kms.RevokeGrantInput{KeyId: id, GrantId: &g.ID},
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
