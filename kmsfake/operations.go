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
		define("GetKeyPolicy", (*request).getKeyPolicy),
		define("GetKeyRotationStatus", (*request).getKeyRotationStatus),
		define("ListAliases", (*request).listAliases),
		define("ListGrants", (*request).listGrants),
		define("ListKeyPolicies", (*request).listKeyPolicies),
		define("ListKeys", (*request).listKeys),
		define("ListRetirableGrants", (*request).listRetirableGrants),
		define("PutKeyPolicy", (*request).putKeyPolicy),
		define("ReEncrypt", (*request).reEncrypt),
		define("RetireGrant", (*request).retireGrant),
		define("RevokeGrant", (*request).revokeGrant),
		define("ScheduleKeyDeletion", (*request).scheduleKeyDeletion),
		define("UpdateAlias", (*request).updateAlias),
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
	"GenerateRandom": true, "GetKeyLastUsage": true, "GetParametersForImport": true, "GetPublicKey": true,
	"ImportKeyMaterial": true, "ListKeyRotations": true, "ListResourceTags": true,
	"ReplicateKey":      true,
	"RotateKeyOnDemand": true, "Sign": true, "TagResource": true, "UntagResource": true,
	"UpdateCustomKeyStore": true, "UpdateKeyDescription": true, "UpdatePrimaryRegion": true,
	"Verify": true, "VerifyMac": true,
}
