package kmsfake

//lint:file-ignore SA1019 CustomerMasterKeySpec is deprecated, but still on the wire.

import (
	"cmp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// operations are those that the fake performs, by name.
var operations = func() map[string]*operation {
	byName := make(map[string]*operation)
	for _, op := range []*operation{
		define("CancelKeyDeletion", (*request).cancelKeyDeletion),
		define("CreateAlias", (*request).createAlias),
		define("CreateGrant", (*request).createGrant),
		define("CreateKey", (*request).createKey),
		define("Decrypt", (*request).decrypt),
		define("DeleteAlias", (*request).deleteAlias),
		define("DeleteImportedKeyMaterial", (*request).deleteImportedKeyMaterial),
		define("DeriveSharedSecret", (*request).deriveSharedSecret),
		define("DescribeKey", (*request).describeKey),
		define("DisableKey", (*request).disableKey),
		define("DisableKeyRotation", (*request).disableKeyRotation),
		define("EnableKey", (*request).enableKey),
		define("EnableKeyRotation", (*request).enableKeyRotation),
		define("Encrypt", (*request).encrypt),
		define("GenerateDataKey", (*request).generateDataKey),
		define("GenerateDataKeyPair", (*request).generateDataKeyPair),
		define("GenerateDataKeyPairWithoutPlaintext", (*request).generateDataKeyPairWithoutPlaintext),
		define("GenerateDataKeyWithoutPlaintext", (*request).generateDataKeyWithoutPlaintext),
		define("GenerateMac", (*request).generateMac),
		define("GenerateRandom", (*request).generateRandom),
		define("GetKeyLastUsage", (*request).getKeyLastUsage),
		define("GetKeyPolicy", (*request).getKeyPolicy),
		define("GetKeyRotationStatus", (*request).getKeyRotationStatus),
		define("GetParametersForImport", (*request).getParametersForImport),
		define("GetPublicKey", (*request).getPublicKey),
		define("ImportKeyMaterial", (*request).importKeyMaterial),
		define("ListAliases", (*request).listAliases),
		define("ListGrants", (*request).listGrants),
		define("ListKeyPolicies", (*request).listKeyPolicies),
		define("ListKeyRotations", (*request).listKeyRotations),
		define("ListKeys", (*request).listKeys),
		define("ListResourceTags", (*request).listResourceTags),
		define("ListRetirableGrants", (*request).listRetirableGrants),
		define("PutKeyPolicy", (*request).putKeyPolicy),
		define("ReEncrypt", (*request).reEncrypt),
		define("ReplicateKey", (*request).replicateKey),
		define("RetireGrant", (*request).retireGrant),
		define("RevokeGrant", (*request).revokeGrant),
		define("RotateKeyOnDemand", (*request).rotateKeyOnDemand),
		define("ScheduleKeyDeletion", (*request).scheduleKeyDeletion),
		define("Sign", (*request).sign),
		define("TagResource", (*request).tagResource),
		define("UntagResource", (*request).untagResource),
		define("UpdateAlias", (*request).updateAlias),
		define("UpdateKeyDescription", (*request).updateKeyDescription),
		define("UpdatePrimaryRegion", (*request).updatePrimaryRegion),
		define("Verify", (*request).verify),
		define("VerifyMac", (*request).verifyMac),
	} {
		byName[op.name] = op
	}
	prepareRSA(byName)
	return byName
}()

// prepareRSA tells which RSA key an operation is about to need. A call that is
// then refused has wasted some time, its own.
func prepareRSA(byName map[string]*operation) {
	byName["CreateKey"].prepare = func(in any) string {
		if c := in.(*kms.CreateKeyInput); c.Origin == "" || c.Origin == types.OriginTypeAwsKms {
			return cmp.Or(string(c.KeySpec), string(c.CustomerMasterKeySpec))
		}
		return ""
	}
	byName["GetParametersForImport"].prepare = func(in any) string {
		return string(in.(*kms.GetParametersForImportInput).WrappingKeySpec)
	}
	byName["GenerateDataKeyPair"].prepare = func(in any) string {
		c := in.(*kms.GenerateDataKeyPairInput)
		return pairSpec(c.KeyPairSpec, c.DryRun)
	}
	byName["GenerateDataKeyPairWithoutPlaintext"].prepare = func(in any) string {
		c := in.(*kms.GenerateDataKeyPairWithoutPlaintextInput)
		return pairSpec(c.KeyPairSpec, c.DryRun)
	}
}

func pairSpec(spec types.DataKeyPairSpec, dry *bool) string {
	if aws.ToBool(dry) {
		return ""
	}
	return string(spec)
}

// unsupported are the operations that KMS has and the fake has not: they answer
// UnsupportedOperationException. Anything else is no operation of KMS at all.
var unsupported = map[string]bool{
	"ConnectCustomKeyStore": true, "CreateCustomKeyStore": true, "Decapsulate": true,
	"DeleteCustomKeyStore": true, "DescribeCustomKeyStores": true, "DisconnectCustomKeyStore": true, "Encapsulate": true,
	"UpdateCustomKeyStore": true}
