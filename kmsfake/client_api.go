package kmsfake

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// API is the part of *kms.Client that this package implements. *kms.Client and
// *Client both satisfy it, so code that takes an API runs on either.
type API interface {
	CancelKeyDeletion(context.Context, *kms.CancelKeyDeletionInput, ...func(*kms.Options)) (*kms.CancelKeyDeletionOutput, error)
	CreateAlias(context.Context, *kms.CreateAliasInput, ...func(*kms.Options)) (*kms.CreateAliasOutput, error)
	CreateGrant(context.Context, *kms.CreateGrantInput, ...func(*kms.Options)) (*kms.CreateGrantOutput, error)
	CreateKey(context.Context, *kms.CreateKeyInput, ...func(*kms.Options)) (*kms.CreateKeyOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
	DeleteAlias(context.Context, *kms.DeleteAliasInput, ...func(*kms.Options)) (*kms.DeleteAliasOutput, error)
	DeleteImportedKeyMaterial(context.Context, *kms.DeleteImportedKeyMaterialInput, ...func(*kms.Options)) (*kms.DeleteImportedKeyMaterialOutput, error)
	DeriveSharedSecret(context.Context, *kms.DeriveSharedSecretInput, ...func(*kms.Options)) (*kms.DeriveSharedSecretOutput, error)
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
	DisableKey(context.Context, *kms.DisableKeyInput, ...func(*kms.Options)) (*kms.DisableKeyOutput, error)
	DisableKeyRotation(context.Context, *kms.DisableKeyRotationInput, ...func(*kms.Options)) (*kms.DisableKeyRotationOutput, error)
	EnableKey(context.Context, *kms.EnableKeyInput, ...func(*kms.Options)) (*kms.EnableKeyOutput, error)
	EnableKeyRotation(context.Context, *kms.EnableKeyRotationInput, ...func(*kms.Options)) (*kms.EnableKeyRotationOutput, error)
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	GenerateDataKey(context.Context, *kms.GenerateDataKeyInput, ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error)
	GenerateDataKeyPair(context.Context, *kms.GenerateDataKeyPairInput, ...func(*kms.Options)) (*kms.GenerateDataKeyPairOutput, error)
	GenerateDataKeyPairWithoutPlaintext(context.Context, *kms.GenerateDataKeyPairWithoutPlaintextInput, ...func(*kms.Options)) (*kms.GenerateDataKeyPairWithoutPlaintextOutput, error)
	GenerateDataKeyWithoutPlaintext(context.Context, *kms.GenerateDataKeyWithoutPlaintextInput, ...func(*kms.Options)) (*kms.GenerateDataKeyWithoutPlaintextOutput, error)
	GenerateMac(context.Context, *kms.GenerateMacInput, ...func(*kms.Options)) (*kms.GenerateMacOutput, error)
	GenerateRandom(context.Context, *kms.GenerateRandomInput, ...func(*kms.Options)) (*kms.GenerateRandomOutput, error)
	GetKeyLastUsage(context.Context, *kms.GetKeyLastUsageInput, ...func(*kms.Options)) (*kms.GetKeyLastUsageOutput, error)
	GetKeyPolicy(context.Context, *kms.GetKeyPolicyInput, ...func(*kms.Options)) (*kms.GetKeyPolicyOutput, error)
	GetKeyRotationStatus(context.Context, *kms.GetKeyRotationStatusInput, ...func(*kms.Options)) (*kms.GetKeyRotationStatusOutput, error)
	GetParametersForImport(context.Context, *kms.GetParametersForImportInput, ...func(*kms.Options)) (*kms.GetParametersForImportOutput, error)
	GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
	ImportKeyMaterial(context.Context, *kms.ImportKeyMaterialInput, ...func(*kms.Options)) (*kms.ImportKeyMaterialOutput, error)
	ListAliases(context.Context, *kms.ListAliasesInput, ...func(*kms.Options)) (*kms.ListAliasesOutput, error)
	ListGrants(context.Context, *kms.ListGrantsInput, ...func(*kms.Options)) (*kms.ListGrantsOutput, error)
	ListKeyPolicies(context.Context, *kms.ListKeyPoliciesInput, ...func(*kms.Options)) (*kms.ListKeyPoliciesOutput, error)
	ListKeyRotations(context.Context, *kms.ListKeyRotationsInput, ...func(*kms.Options)) (*kms.ListKeyRotationsOutput, error)
	ListKeys(context.Context, *kms.ListKeysInput, ...func(*kms.Options)) (*kms.ListKeysOutput, error)
	ListResourceTags(context.Context, *kms.ListResourceTagsInput, ...func(*kms.Options)) (*kms.ListResourceTagsOutput, error)
	ListRetirableGrants(context.Context, *kms.ListRetirableGrantsInput, ...func(*kms.Options)) (*kms.ListRetirableGrantsOutput, error)
	PutKeyPolicy(context.Context, *kms.PutKeyPolicyInput, ...func(*kms.Options)) (*kms.PutKeyPolicyOutput, error)
	ReEncrypt(context.Context, *kms.ReEncryptInput, ...func(*kms.Options)) (*kms.ReEncryptOutput, error)
	ReplicateKey(context.Context, *kms.ReplicateKeyInput, ...func(*kms.Options)) (*kms.ReplicateKeyOutput, error)
	RetireGrant(context.Context, *kms.RetireGrantInput, ...func(*kms.Options)) (*kms.RetireGrantOutput, error)
	RevokeGrant(context.Context, *kms.RevokeGrantInput, ...func(*kms.Options)) (*kms.RevokeGrantOutput, error)
	RotateKeyOnDemand(context.Context, *kms.RotateKeyOnDemandInput, ...func(*kms.Options)) (*kms.RotateKeyOnDemandOutput, error)
	ScheduleKeyDeletion(context.Context, *kms.ScheduleKeyDeletionInput, ...func(*kms.Options)) (*kms.ScheduleKeyDeletionOutput, error)
	Sign(context.Context, *kms.SignInput, ...func(*kms.Options)) (*kms.SignOutput, error)
	TagResource(context.Context, *kms.TagResourceInput, ...func(*kms.Options)) (*kms.TagResourceOutput, error)
	UntagResource(context.Context, *kms.UntagResourceInput, ...func(*kms.Options)) (*kms.UntagResourceOutput, error)
	UpdateAlias(context.Context, *kms.UpdateAliasInput, ...func(*kms.Options)) (*kms.UpdateAliasOutput, error)
	UpdateKeyDescription(context.Context, *kms.UpdateKeyDescriptionInput, ...func(*kms.Options)) (*kms.UpdateKeyDescriptionOutput, error)
	UpdatePrimaryRegion(context.Context, *kms.UpdatePrimaryRegionInput, ...func(*kms.Options)) (*kms.UpdatePrimaryRegionOutput, error)
	Verify(context.Context, *kms.VerifyInput, ...func(*kms.Options)) (*kms.VerifyOutput, error)
	VerifyMac(context.Context, *kms.VerifyMacInput, ...func(*kms.Options)) (*kms.VerifyMacOutput, error)
}

var (
	_ API = (*kms.Client)(nil)
	_ API = (*Client)(nil)
)

// CancelKeyDeletion is (*kms.Client).CancelKeyDeletion.
func (c *Client) CancelKeyDeletion(ctx context.Context, in *kms.CancelKeyDeletionInput, optFns ...func(*kms.Options)) (*kms.CancelKeyDeletionOutput, error) {
	return invoke[kms.CancelKeyDeletionInput, kms.CancelKeyDeletionOutput](ctx, c, "CancelKeyDeletion", in, optFns)
}

// CreateAlias is (*kms.Client).CreateAlias.
func (c *Client) CreateAlias(ctx context.Context, in *kms.CreateAliasInput, optFns ...func(*kms.Options)) (*kms.CreateAliasOutput, error) {
	return invoke[kms.CreateAliasInput, kms.CreateAliasOutput](ctx, c, "CreateAlias", in, optFns)
}

// CreateGrant is (*kms.Client).CreateGrant.
func (c *Client) CreateGrant(ctx context.Context, in *kms.CreateGrantInput, optFns ...func(*kms.Options)) (*kms.CreateGrantOutput, error) {
	return invoke[kms.CreateGrantInput, kms.CreateGrantOutput](ctx, c, "CreateGrant", in, optFns)
}

// CreateKey is (*kms.Client).CreateKey.
func (c *Client) CreateKey(ctx context.Context, in *kms.CreateKeyInput, optFns ...func(*kms.Options)) (*kms.CreateKeyOutput, error) {
	return invoke[kms.CreateKeyInput, kms.CreateKeyOutput](ctx, c, "CreateKey", in, optFns)
}

// Decrypt is (*kms.Client).Decrypt.
func (c *Client) Decrypt(ctx context.Context, in *kms.DecryptInput, optFns ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	return invoke[kms.DecryptInput, kms.DecryptOutput](ctx, c, "Decrypt", in, optFns)
}

// DeleteAlias is (*kms.Client).DeleteAlias.
func (c *Client) DeleteAlias(ctx context.Context, in *kms.DeleteAliasInput, optFns ...func(*kms.Options)) (*kms.DeleteAliasOutput, error) {
	return invoke[kms.DeleteAliasInput, kms.DeleteAliasOutput](ctx, c, "DeleteAlias", in, optFns)
}

// DeleteImportedKeyMaterial is (*kms.Client).DeleteImportedKeyMaterial.
func (c *Client) DeleteImportedKeyMaterial(ctx context.Context, in *kms.DeleteImportedKeyMaterialInput, optFns ...func(*kms.Options)) (*kms.DeleteImportedKeyMaterialOutput, error) {
	return invoke[kms.DeleteImportedKeyMaterialInput, kms.DeleteImportedKeyMaterialOutput](ctx, c, "DeleteImportedKeyMaterial", in, optFns)
}

// DeriveSharedSecret is (*kms.Client).DeriveSharedSecret.
func (c *Client) DeriveSharedSecret(ctx context.Context, in *kms.DeriveSharedSecretInput, optFns ...func(*kms.Options)) (*kms.DeriveSharedSecretOutput, error) {
	return invoke[kms.DeriveSharedSecretInput, kms.DeriveSharedSecretOutput](ctx, c, "DeriveSharedSecret", in, optFns)
}

// DescribeKey is (*kms.Client).DescribeKey.
func (c *Client) DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, optFns ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	return invoke[kms.DescribeKeyInput, kms.DescribeKeyOutput](ctx, c, "DescribeKey", in, optFns)
}

// DisableKey is (*kms.Client).DisableKey.
func (c *Client) DisableKey(ctx context.Context, in *kms.DisableKeyInput, optFns ...func(*kms.Options)) (*kms.DisableKeyOutput, error) {
	return invoke[kms.DisableKeyInput, kms.DisableKeyOutput](ctx, c, "DisableKey", in, optFns)
}

// DisableKeyRotation is (*kms.Client).DisableKeyRotation.
func (c *Client) DisableKeyRotation(ctx context.Context, in *kms.DisableKeyRotationInput, optFns ...func(*kms.Options)) (*kms.DisableKeyRotationOutput, error) {
	return invoke[kms.DisableKeyRotationInput, kms.DisableKeyRotationOutput](ctx, c, "DisableKeyRotation", in, optFns)
}

// EnableKey is (*kms.Client).EnableKey.
func (c *Client) EnableKey(ctx context.Context, in *kms.EnableKeyInput, optFns ...func(*kms.Options)) (*kms.EnableKeyOutput, error) {
	return invoke[kms.EnableKeyInput, kms.EnableKeyOutput](ctx, c, "EnableKey", in, optFns)
}

// EnableKeyRotation is (*kms.Client).EnableKeyRotation.
func (c *Client) EnableKeyRotation(ctx context.Context, in *kms.EnableKeyRotationInput, optFns ...func(*kms.Options)) (*kms.EnableKeyRotationOutput, error) {
	return invoke[kms.EnableKeyRotationInput, kms.EnableKeyRotationOutput](ctx, c, "EnableKeyRotation", in, optFns)
}

// Encrypt is (*kms.Client).Encrypt.
func (c *Client) Encrypt(ctx context.Context, in *kms.EncryptInput, optFns ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	return invoke[kms.EncryptInput, kms.EncryptOutput](ctx, c, "Encrypt", in, optFns)
}

// GenerateDataKey is (*kms.Client).GenerateDataKey.
func (c *Client) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput, optFns ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	return invoke[kms.GenerateDataKeyInput, kms.GenerateDataKeyOutput](ctx, c, "GenerateDataKey", in, optFns)
}

// GenerateDataKeyPair is (*kms.Client).GenerateDataKeyPair.
func (c *Client) GenerateDataKeyPair(ctx context.Context, in *kms.GenerateDataKeyPairInput, optFns ...func(*kms.Options)) (*kms.GenerateDataKeyPairOutput, error) {
	return invoke[kms.GenerateDataKeyPairInput, kms.GenerateDataKeyPairOutput](ctx, c, "GenerateDataKeyPair", in, optFns)
}

// GenerateDataKeyPairWithoutPlaintext is (*kms.Client).GenerateDataKeyPairWithoutPlaintext.
func (c *Client) GenerateDataKeyPairWithoutPlaintext(ctx context.Context, in *kms.GenerateDataKeyPairWithoutPlaintextInput, optFns ...func(*kms.Options)) (*kms.GenerateDataKeyPairWithoutPlaintextOutput, error) {
	return invoke[kms.GenerateDataKeyPairWithoutPlaintextInput, kms.GenerateDataKeyPairWithoutPlaintextOutput](ctx, c, "GenerateDataKeyPairWithoutPlaintext", in, optFns)
}

// GenerateDataKeyWithoutPlaintext is (*kms.Client).GenerateDataKeyWithoutPlaintext.
func (c *Client) GenerateDataKeyWithoutPlaintext(ctx context.Context, in *kms.GenerateDataKeyWithoutPlaintextInput, optFns ...func(*kms.Options)) (*kms.GenerateDataKeyWithoutPlaintextOutput, error) {
	return invoke[kms.GenerateDataKeyWithoutPlaintextInput, kms.GenerateDataKeyWithoutPlaintextOutput](ctx, c, "GenerateDataKeyWithoutPlaintext", in, optFns)
}

// GenerateMac is (*kms.Client).GenerateMac.
func (c *Client) GenerateMac(ctx context.Context, in *kms.GenerateMacInput, optFns ...func(*kms.Options)) (*kms.GenerateMacOutput, error) {
	return invoke[kms.GenerateMacInput, kms.GenerateMacOutput](ctx, c, "GenerateMac", in, optFns)
}

// GenerateRandom is (*kms.Client).GenerateRandom.
func (c *Client) GenerateRandom(ctx context.Context, in *kms.GenerateRandomInput, optFns ...func(*kms.Options)) (*kms.GenerateRandomOutput, error) {
	return invoke[kms.GenerateRandomInput, kms.GenerateRandomOutput](ctx, c, "GenerateRandom", in, optFns)
}

// GetKeyLastUsage is (*kms.Client).GetKeyLastUsage.
func (c *Client) GetKeyLastUsage(ctx context.Context, in *kms.GetKeyLastUsageInput, optFns ...func(*kms.Options)) (*kms.GetKeyLastUsageOutput, error) {
	return invoke[kms.GetKeyLastUsageInput, kms.GetKeyLastUsageOutput](ctx, c, "GetKeyLastUsage", in, optFns)
}

// GetKeyPolicy is (*kms.Client).GetKeyPolicy.
func (c *Client) GetKeyPolicy(ctx context.Context, in *kms.GetKeyPolicyInput, optFns ...func(*kms.Options)) (*kms.GetKeyPolicyOutput, error) {
	return invoke[kms.GetKeyPolicyInput, kms.GetKeyPolicyOutput](ctx, c, "GetKeyPolicy", in, optFns)
}

// GetKeyRotationStatus is (*kms.Client).GetKeyRotationStatus.
func (c *Client) GetKeyRotationStatus(ctx context.Context, in *kms.GetKeyRotationStatusInput, optFns ...func(*kms.Options)) (*kms.GetKeyRotationStatusOutput, error) {
	return invoke[kms.GetKeyRotationStatusInput, kms.GetKeyRotationStatusOutput](ctx, c, "GetKeyRotationStatus", in, optFns)
}

// GetParametersForImport is (*kms.Client).GetParametersForImport.
func (c *Client) GetParametersForImport(ctx context.Context, in *kms.GetParametersForImportInput, optFns ...func(*kms.Options)) (*kms.GetParametersForImportOutput, error) {
	return invoke[kms.GetParametersForImportInput, kms.GetParametersForImportOutput](ctx, c, "GetParametersForImport", in, optFns)
}

// GetPublicKey is (*kms.Client).GetPublicKey.
func (c *Client) GetPublicKey(ctx context.Context, in *kms.GetPublicKeyInput, optFns ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error) {
	return invoke[kms.GetPublicKeyInput, kms.GetPublicKeyOutput](ctx, c, "GetPublicKey", in, optFns)
}

// ImportKeyMaterial is (*kms.Client).ImportKeyMaterial.
func (c *Client) ImportKeyMaterial(ctx context.Context, in *kms.ImportKeyMaterialInput, optFns ...func(*kms.Options)) (*kms.ImportKeyMaterialOutput, error) {
	return invoke[kms.ImportKeyMaterialInput, kms.ImportKeyMaterialOutput](ctx, c, "ImportKeyMaterial", in, optFns)
}

// ListAliases is (*kms.Client).ListAliases.
func (c *Client) ListAliases(ctx context.Context, in *kms.ListAliasesInput, optFns ...func(*kms.Options)) (*kms.ListAliasesOutput, error) {
	return invoke[kms.ListAliasesInput, kms.ListAliasesOutput](ctx, c, "ListAliases", in, optFns)
}

// ListGrants is (*kms.Client).ListGrants.
func (c *Client) ListGrants(ctx context.Context, in *kms.ListGrantsInput, optFns ...func(*kms.Options)) (*kms.ListGrantsOutput, error) {
	return invoke[kms.ListGrantsInput, kms.ListGrantsOutput](ctx, c, "ListGrants", in, optFns)
}

// ListKeyPolicies is (*kms.Client).ListKeyPolicies.
func (c *Client) ListKeyPolicies(ctx context.Context, in *kms.ListKeyPoliciesInput, optFns ...func(*kms.Options)) (*kms.ListKeyPoliciesOutput, error) {
	return invoke[kms.ListKeyPoliciesInput, kms.ListKeyPoliciesOutput](ctx, c, "ListKeyPolicies", in, optFns)
}

// ListKeyRotations is (*kms.Client).ListKeyRotations.
func (c *Client) ListKeyRotations(ctx context.Context, in *kms.ListKeyRotationsInput, optFns ...func(*kms.Options)) (*kms.ListKeyRotationsOutput, error) {
	return invoke[kms.ListKeyRotationsInput, kms.ListKeyRotationsOutput](ctx, c, "ListKeyRotations", in, optFns)
}

// ListKeys is (*kms.Client).ListKeys.
func (c *Client) ListKeys(ctx context.Context, in *kms.ListKeysInput, optFns ...func(*kms.Options)) (*kms.ListKeysOutput, error) {
	return invoke[kms.ListKeysInput, kms.ListKeysOutput](ctx, c, "ListKeys", in, optFns)
}

// ListResourceTags is (*kms.Client).ListResourceTags.
func (c *Client) ListResourceTags(ctx context.Context, in *kms.ListResourceTagsInput, optFns ...func(*kms.Options)) (*kms.ListResourceTagsOutput, error) {
	return invoke[kms.ListResourceTagsInput, kms.ListResourceTagsOutput](ctx, c, "ListResourceTags", in, optFns)
}

// ListRetirableGrants is (*kms.Client).ListRetirableGrants.
func (c *Client) ListRetirableGrants(ctx context.Context, in *kms.ListRetirableGrantsInput, optFns ...func(*kms.Options)) (*kms.ListRetirableGrantsOutput, error) {
	return invoke[kms.ListRetirableGrantsInput, kms.ListRetirableGrantsOutput](ctx, c, "ListRetirableGrants", in, optFns)
}

// PutKeyPolicy is (*kms.Client).PutKeyPolicy.
func (c *Client) PutKeyPolicy(ctx context.Context, in *kms.PutKeyPolicyInput, optFns ...func(*kms.Options)) (*kms.PutKeyPolicyOutput, error) {
	return invoke[kms.PutKeyPolicyInput, kms.PutKeyPolicyOutput](ctx, c, "PutKeyPolicy", in, optFns)
}

// ReEncrypt is (*kms.Client).ReEncrypt.
func (c *Client) ReEncrypt(ctx context.Context, in *kms.ReEncryptInput, optFns ...func(*kms.Options)) (*kms.ReEncryptOutput, error) {
	return invoke[kms.ReEncryptInput, kms.ReEncryptOutput](ctx, c, "ReEncrypt", in, optFns)
}

// ReplicateKey is (*kms.Client).ReplicateKey.
func (c *Client) ReplicateKey(ctx context.Context, in *kms.ReplicateKeyInput, optFns ...func(*kms.Options)) (*kms.ReplicateKeyOutput, error) {
	return invoke[kms.ReplicateKeyInput, kms.ReplicateKeyOutput](ctx, c, "ReplicateKey", in, optFns)
}

// RetireGrant is (*kms.Client).RetireGrant.
func (c *Client) RetireGrant(ctx context.Context, in *kms.RetireGrantInput, optFns ...func(*kms.Options)) (*kms.RetireGrantOutput, error) {
	return invoke[kms.RetireGrantInput, kms.RetireGrantOutput](ctx, c, "RetireGrant", in, optFns)
}

// RevokeGrant is (*kms.Client).RevokeGrant.
func (c *Client) RevokeGrant(ctx context.Context, in *kms.RevokeGrantInput, optFns ...func(*kms.Options)) (*kms.RevokeGrantOutput, error) {
	return invoke[kms.RevokeGrantInput, kms.RevokeGrantOutput](ctx, c, "RevokeGrant", in, optFns)
}

// RotateKeyOnDemand is (*kms.Client).RotateKeyOnDemand.
func (c *Client) RotateKeyOnDemand(ctx context.Context, in *kms.RotateKeyOnDemandInput, optFns ...func(*kms.Options)) (*kms.RotateKeyOnDemandOutput, error) {
	return invoke[kms.RotateKeyOnDemandInput, kms.RotateKeyOnDemandOutput](ctx, c, "RotateKeyOnDemand", in, optFns)
}

// ScheduleKeyDeletion is (*kms.Client).ScheduleKeyDeletion.
func (c *Client) ScheduleKeyDeletion(ctx context.Context, in *kms.ScheduleKeyDeletionInput, optFns ...func(*kms.Options)) (*kms.ScheduleKeyDeletionOutput, error) {
	return invoke[kms.ScheduleKeyDeletionInput, kms.ScheduleKeyDeletionOutput](ctx, c, "ScheduleKeyDeletion", in, optFns)
}

// Sign is (*kms.Client).Sign.
func (c *Client) Sign(ctx context.Context, in *kms.SignInput, optFns ...func(*kms.Options)) (*kms.SignOutput, error) {
	return invoke[kms.SignInput, kms.SignOutput](ctx, c, "Sign", in, optFns)
}

// TagResource is (*kms.Client).TagResource.
func (c *Client) TagResource(ctx context.Context, in *kms.TagResourceInput, optFns ...func(*kms.Options)) (*kms.TagResourceOutput, error) {
	return invoke[kms.TagResourceInput, kms.TagResourceOutput](ctx, c, "TagResource", in, optFns)
}

// UntagResource is (*kms.Client).UntagResource.
func (c *Client) UntagResource(ctx context.Context, in *kms.UntagResourceInput, optFns ...func(*kms.Options)) (*kms.UntagResourceOutput, error) {
	return invoke[kms.UntagResourceInput, kms.UntagResourceOutput](ctx, c, "UntagResource", in, optFns)
}

// UpdateAlias is (*kms.Client).UpdateAlias.
func (c *Client) UpdateAlias(ctx context.Context, in *kms.UpdateAliasInput, optFns ...func(*kms.Options)) (*kms.UpdateAliasOutput, error) {
	return invoke[kms.UpdateAliasInput, kms.UpdateAliasOutput](ctx, c, "UpdateAlias", in, optFns)
}

// UpdateKeyDescription is (*kms.Client).UpdateKeyDescription.
func (c *Client) UpdateKeyDescription(ctx context.Context, in *kms.UpdateKeyDescriptionInput, optFns ...func(*kms.Options)) (*kms.UpdateKeyDescriptionOutput, error) {
	return invoke[kms.UpdateKeyDescriptionInput, kms.UpdateKeyDescriptionOutput](ctx, c, "UpdateKeyDescription", in, optFns)
}

// UpdatePrimaryRegion is (*kms.Client).UpdatePrimaryRegion.
func (c *Client) UpdatePrimaryRegion(ctx context.Context, in *kms.UpdatePrimaryRegionInput, optFns ...func(*kms.Options)) (*kms.UpdatePrimaryRegionOutput, error) {
	return invoke[kms.UpdatePrimaryRegionInput, kms.UpdatePrimaryRegionOutput](ctx, c, "UpdatePrimaryRegion", in, optFns)
}

// Verify is (*kms.Client).Verify.
func (c *Client) Verify(ctx context.Context, in *kms.VerifyInput, optFns ...func(*kms.Options)) (*kms.VerifyOutput, error) {
	return invoke[kms.VerifyInput, kms.VerifyOutput](ctx, c, "Verify", in, optFns)
}

// VerifyMac is (*kms.Client).VerifyMac.
func (c *Client) VerifyMac(ctx context.Context, in *kms.VerifyMacInput, optFns ...func(*kms.Options)) (*kms.VerifyMacOutput, error) {
	return invoke[kms.VerifyMacInput, kms.VerifyMacOutput](ctx, c, "VerifyMac", in, optFns)
}
