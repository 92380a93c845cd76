package kmsfake

import "github.com/aws/aws-sdk-go-v2/service/kms/types"

// refusal is how an operation fails in a key state; the zero value is success.
type refusal struct{ code, says string }

var (
	ok           = refusal{}
	disabled     = refusal{"DisabledException", "is disabled."}
	pending      = refusal{"KMSInvalidStateException", "is pending deletion."}
	notPending   = refusal{"KMSInvalidStateException", "is not pending deletion."}
	stateColumns = []types.KeyState{types.KeyStateEnabled, types.KeyStateDisabled, types.KeyStatePendingDeletion}
)

// stateTable is the developer guide's table "Key states of KMS keys", one
// column for each of stateColumns. Operations that read or repair (DescribeKey,
// the policies, DeleteAlias, the lists) work in every state: a customer can
// always see its key, and change who may use it.
var stateTable = map[string][]refusal{
	"CancelKeyDeletion":               {notPending, notPending, ok},
	"CreateAlias":                     {ok, ok, pending},
	"CreateGrant":                     {ok, disabled, pending},
	"Decrypt":                         {ok, disabled, pending},
	"DeleteAlias":                     {ok, ok, ok},
	"DescribeKey":                     {ok, ok, ok},
	"DisableKey":                      {ok, ok, pending},
	"DisableKeyRotation":              {ok, disabled, pending},
	"EnableKey":                       {ok, ok, pending},
	"EnableKeyRotation":               {ok, disabled, pending},
	"Encrypt":                         {ok, disabled, pending},
	"GenerateDataKey":                 {ok, disabled, pending},
	"GenerateDataKeyWithoutPlaintext": {ok, disabled, pending},
	"GetKeyPolicy":                    {ok, ok, ok},
	"GetKeyRotationStatus":            {ok, ok, ok},
	"ListAliases":                     {ok, ok, ok},
	"ListGrants":                      {ok, ok, ok},
	"ListKeyPolicies":                 {ok, ok, ok},
	"PutKeyPolicy":                    {ok, ok, ok},
	"ReEncrypt":                       {ok, disabled, pending},
	"RetireGrant":                     {ok, ok, ok},
	"RevokeGrant":                     {ok, ok, ok},
	"ScheduleKeyDeletion":             {ok, ok, pending},
	"UpdateAlias":                     {ok, ok, pending}, // of the new target; the old one may be in any state
}

// usable refuses an operation that the key's state does not allow. Always after
// authorization: a stranger must not learn a key's state.
func (r *request) usable(k *keyState) error {
	for i, s := range stateColumns {
		if s != k.State {
			continue
		}
		if no := stateTable[r.op][i]; no != ok {
			return fail(no.code, "%s %s", k.ARN(), no.says)
		}
		return nil
	}
	panic("kmsfake: internal error: key state " + string(k.State))
}
