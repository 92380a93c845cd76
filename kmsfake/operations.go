package kmsfake

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
		define("DescribeKey", (*request).describeKey),
		define("DisableKey", (*request).disableKey),
		define("DisableKeyRotation", (*request).disableKeyRotation),
		define("EnableKey", (*request).enableKey),
		define("EnableKeyRotation", (*request).enableKeyRotation),
		define("Encrypt", (*request).encrypt),
		define("GenerateDataKey", (*request).generateDataKey),
		define("GenerateDataKeyWithoutPlaintext", (*request).generateDataKeyWithoutPlaintext),
		define("GenerateRandom", (*request).generateRandom),
		define("GetKeyLastUsage", (*request).getKeyLastUsage),
		define("GetKeyPolicy", (*request).getKeyPolicy),
		define("GetKeyRotationStatus", (*request).getKeyRotationStatus),
		define("ListAliases", (*request).listAliases),
		define("ListGrants", (*request).listGrants),
		define("ListKeyPolicies", (*request).listKeyPolicies),
		define("ListKeyRotations", (*request).listKeyRotations),
		define("ListKeys", (*request).listKeys),
		define("ListResourceTags", (*request).listResourceTags),
		define("ListRetirableGrants", (*request).listRetirableGrants),
		define("PutKeyPolicy", (*request).putKeyPolicy),
		define("ReEncrypt", (*request).reEncrypt),
		define("RetireGrant", (*request).retireGrant),
		define("RevokeGrant", (*request).revokeGrant),
		define("RotateKeyOnDemand", (*request).rotateKeyOnDemand),
		define("ScheduleKeyDeletion", (*request).scheduleKeyDeletion),
		define("TagResource", (*request).tagResource),
		define("UntagResource", (*request).untagResource),
		define("UpdateAlias", (*request).updateAlias),
		define("UpdateKeyDescription", (*request).updateKeyDescription),
	} {
		byName[op.name] = op
	}
	return byName
}()

// unsupported are the operations that KMS has and the fake has not: they answer
// UnsupportedOperationException. Anything else is no operation of KMS at all.
var unsupported = map[string]bool{
	"ConnectCustomKeyStore": true, "CreateCustomKeyStore": true, "Decapsulate": true,
	"DeleteCustomKeyStore": true, "DeleteImportedKeyMaterial": true, "DeriveSharedSecret": true,
	"DescribeCustomKeyStores": true, "DisconnectCustomKeyStore": true, "Encapsulate": true,
	"GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true, "GenerateMac": true,
	"GetParametersForImport": true, "GetPublicKey": true,
	"ImportKeyMaterial": true, "ReplicateKey": true, "Sign": true, "UpdateCustomKeyStore": true, "UpdatePrimaryRegion": true,
	"Verify": true, "VerifyMac": true,
}
