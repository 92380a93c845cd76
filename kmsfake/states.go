package kmsfake

import "github.com/aws/aws-sdk-go-v2/service/kms/types"

// refusal is how an operation fails in a key state; the zero value is success.
type refusal struct{ code, says string }

const invalidState = "KMSInvalidStateException"

var (
	ok          = refusal{}
	disabled    = refusal{"DisabledException", "is disabled."}
	pending     = refusal{invalidState, "is pending deletion."}
	notPending  = refusal{invalidState, "is not pending deletion."}
	noMaterial  = refusal{invalidState, "is pending import."}
	unavailable = refusal{invalidState, "is unavailable."}
	creating    = refusal{invalidState, "is creating."}
	updating    = refusal{invalidState, "is updating."}
	// Only keys of custom key stores are ever unavailable, and they do not rotate.
	noRotation = refusal{"UnsupportedOperationException", "is in a custom key store which is not valid for this operation."}
)

// stateRow is one line of the table, a cell for each state of stateColumns.
type stateRow [7]refusal

// stateColumns is where a state stands in a stateRow. PendingReplicaDeletion
// shares the column of PendingDeletion.
var stateColumns = map[types.KeyState]int{
	types.KeyStateEnabled: 0, types.KeyStateDisabled: 1,
	types.KeyStatePendingDeletion: 2, types.KeyStatePendingReplicaDeletion: 2,
	types.KeyStatePendingImport: 3, types.KeyStateUnavailable: 4,
	types.KeyStateCreating: 5, types.KeyStateUpdating: 6,
}

// The rows of the developer guide's table "Key states of KMS keys", of which
// many operations share one. Columns: Enabled, Disabled, PendingDeletion,
// PendingImport, Unavailable, Creating, Updating.
var (
	// Who reads or repairs can do so in every state: a customer can always see
	// its key, and change who may use it.
	always = stateRow{}
	// What uses the key material.
	using = stateRow{ok, disabled, pending, noMaterial, unavailable, creating, ok}
	// What changes the properties of a key, but neither its state nor its use.
	editing   = stateRow{ok, ok, pending, ok, ok, ok, ok}
	switching = stateRow{ok, ok, pending, noMaterial, ok, creating, updating}
	granting  = stateRow{ok, disabled, pending, noMaterial, ok, creating, ok}
	deleting  = stateRow{ok, ok, pending, ok, ok, ok, updating}
	rescuing  = stateRow{notPending, notPending, ok, notPending, notPending, notPending, notPending}
	rotating  = stateRow{ok, disabled, pending, noMaterial, noRotation, creating, ok}
	importing = stateRow{ok, ok, pending, ok, unavailable, creating, ok}
)

var stateTable = map[string]stateRow{
	"CancelKeyDeletion":                   rescuing,
	"CreateAlias":                         editing,
	"CreateGrant":                         granting,
	"Decrypt":                             using,
	"DeleteAlias":                         always,
	"DeleteImportedKeyMaterial":           {ok, ok, ok, ok, unavailable, creating, updating},
	"DeriveSharedSecret":                  using,
	"DescribeKey":                         always,
	"DisableKey":                          switching,
	"DisableKeyRotation":                  rotating,
	"EnableKey":                           switching,
	"EnableKeyRotation":                   rotating,
	"Encrypt":                             using,
	"GenerateDataKey":                     using,
	"GenerateDataKeyPair":                 using,
	"GenerateDataKeyPairWithoutPlaintext": using,
	"GenerateDataKeyWithoutPlaintext":     using,
	"GenerateMac":                         using,
	"GetKeyLastUsage":                     always,
	"GetKeyPolicy":                        always,
	"GetKeyRotationStatus":                {ok, ok, ok, ok, noRotation, ok, ok},
	"GetParametersForImport":              {ok, ok, pending, ok, unavailable, creating, updating},
	"GetPublicKey":                        using,
	"ImportKeyMaterial":                   importing,
	"ListAliases":                         always,
	"ListGrants":                          always,
	"ListKeyPolicies":                     always,
	"ListKeyRotations":                    always,
	"ListResourceTags":                    always,
	"PutKeyPolicy":                        always,
	"ReEncrypt":                           using,
	"ReplicateKey":                        {ok, disabled, pending, noMaterial, unavailable, creating, updating},
	"RetireGrant":                         always,
	"RevokeGrant":                         always,
	"RotateKeyOnDemand":                   {ok, disabled, pending, noMaterial, noRotation, creating, updating},
	"ScheduleKeyDeletion":                 deleting,
	"Sign":                                using,
	"TagResource":                         editing,
	"UntagResource":                       editing,
	"UpdateAlias":                         editing, // of the new target; the old one may be in any state
	"UpdateKeyDescription":                editing,
	"UpdatePrimaryRegion":                 using,
	"Verify":                              using,
	"VerifyMac":                           using,
}

// usable refuses an operation that the key's state does not allow. Always after
// authorization: a stranger must not learn a key's state.
func (r *request) usable(k *keyState) error {
	state := k.State
	if cryptographic[r.op] {
		state = k.acting()
	}
	column, known := stateColumns[state]
	row, has := stateTable[r.op]
	if !known || !has {
		panic("kmsfake: internal error: " + r.op + " of a key that is " + string(state))
	}
	no := row[column]
	switch {
	case no == ok:
		return nil
	case no == pending && state == types.KeyStatePendingReplicaDeletion:
		return fail(no.code, "%s is pending replica deletion.", k.ARN())
	}
	return fail(no.code, "%s %s", k.ARN(), no.says)
}
