package kmsfake

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// allStates are the states of a key, in the order of the guide's columns.
var allStates = []types.KeyState{
	types.KeyStateEnabled, types.KeyStateDisabled, types.KeyStatePendingDeletion, types.KeyStatePendingImport,
	types.KeyStateUnavailable, types.KeyStateCreating, types.KeyStateUpdating, types.KeyStatePendingReplicaDeletion,
}

// into puts a key into any state at all.
func (tr *trial) into(s types.KeyState) {
	switch s {
	case types.KeyStatePendingDeletion:
		tr.key.ScheduleDeletion(7)
	case types.KeyStatePendingReplicaDeletion: // whether it has replicas or not
		tr.key.set("test", s)
	default:
		tr.key.SetState(s)
	}
}

// do makes one call as a principal, whole and well-formed.
func (tr *trial) do(who, op string) *apiError {
	in := tr.input(op)
	err := tr.fake.do(context.Background(), caller{who: tr.fake.mustPrincipal(who), region: DefaultRegion}, operations[op], in).err
	var refused *apiError
	if err != nil && !errors.As(err, &refused) {
		tr.fake.misuse("%v", err)
	}
	return refused
}

// Every operation in every state, tried for real by the account's root. The
// expectation is written down here once more, on purpose not read from the
// table under test: "-" succeeds, D is DisabledException, S is
// KMSInvalidStateException, U is UnsupportedOperationException, in the order of
// allStates.
func TestOperationsInKeyStates(t *testing.T) {
	want := map[string]string{
		"CancelKeyDeletion":                   "S S - S S S S -",
		"CreateAlias":                         "- - S - - - - S",
		"CreateGrant":                         "- D S S - S - S",
		"Decrypt":                             "- D S S S S - S",
		"DeleteAlias":                         "- - - - - - - -",
		"DeleteImportedKeyMaterial":           "- - - - S S S -",
		"DeriveSharedSecret":                  "- D S S S S - S",
		"DescribeKey":                         "- - - - - - - -",
		"DisableKey":                          "- - S S - S S S",
		"DisableKeyRotation":                  "- D S U U S - S",
		"EnableKey":                           "- - S S - S S S",
		"EnableKeyRotation":                   "- D S U U S - S",
		"Encrypt":                             "- D S S S S - S",
		"GenerateDataKey":                     "- D S S S S - S",
		"GenerateDataKeyPair":                 "- D S S S S - S",
		"GenerateDataKeyPairWithoutPlaintext": "- D S S S S - S",
		"GenerateDataKeyWithoutPlaintext":     "- D S S S S - S",
		"GenerateMac":                         "- D S S S S - S",
		"GetKeyLastUsage":                     "- - - - - - - -",
		"GetKeyPolicy":                        "- - - - - - - -",
		"GetKeyRotationStatus":                "- - - U U - - -",
		"GetParametersForImport":              "- - S - S S S S",
		"GetPublicKey":                        "- D S S S S - S",
		"ImportKeyMaterial":                   "- - S - S S - S",
		"ListAliases":                         "- - - - - - - -",
		"ListGrants":                          "- - - - - - - -",
		"ListKeyPolicies":                     "- - - - - - - -",
		"ListKeyRotations":                    "- - - - - - - -",
		"ListResourceTags":                    "- - - - - - - -",
		"PutKeyPolicy":                        "- - - - - - - -",
		"ReEncrypt":                           "- D S S S S - S",
		"ReplicateKey":                        "- D S S S S S S",
		"RetireGrant":                         "- - - - - - - -",
		"RevokeGrant":                         "- - - - - - - -",
		"RotateKeyOnDemand":                   "- D S S U S S S",
		"ScheduleKeyDeletion":                 "- - S - - - S S",
		"Sign":                                "- D S S S S - S",
		"TagResource":                         "- - S - - - - S",
		"UntagResource":                       "- - S - - - - S",
		"UpdateAlias":                         "- - S - - - - S",
		"UpdateKeyDescription":                "- - S - - - - S",
		"UpdatePrimaryRegion":                 "- D S S S S - S",
		"Verify":                              "- D S S S S - S",
		"VerifyMac":                           "- D S S S S - S",
	}
	codes := map[string]string{"-": "", "D": "DisabledException", "S": "KMSInvalidStateException", "U": "UnsupportedOperationException"}
	says := map[types.KeyState]string{
		types.KeyStateDisabled: " is disabled.", types.KeyStatePendingDeletion: " is pending deletion.",
		types.KeyStatePendingReplicaDeletion: " is pending replica deletion.", types.KeyStatePendingImport: " is pending import.",
		types.KeyStateUnavailable: " is unavailable.", types.KeyStateCreating: " is creating.", types.KeyStateUpdating: " is updating.",
	}
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(names, slices.Sorted(maps.Keys(stateTable))) {
		t.Errorf("the cases are of %v, the table of %v", names, slices.Sorted(maps.Keys(stateTable)))
	}
	tried := 0
	for op, row := range want {
		if operations[op] == nil {
			continue
		}
		for i, cell := range strings.Fields(row) {
			state := allStates[i]
			tr := newTrial(t, op, state)
			tr.into(state)
			err := tr.do(customer, op)
			got, text := "", ""
			if err != nil {
				got, text = err.code, err.msg
			}
			if got != codes[cell] {
				t.Errorf("%s of a key that is %s: %v, want %q", op, state, err, codes[cell])
			}
			suffix := says[tr.key.State()] // a primary with replicas waits for them
			if op == "CancelKeyDeletion" {
				suffix = " is not pending deletion."
			}
			if (cell == "D" || cell == "S") && text != tr.key.ARN()+suffix {
				t.Errorf("%s of a key that is %s says %q", op, state, text)
			}
			tried++
			// A stranger is told nothing about the state.
			if !slices.Contains([]string{"ListAliases", "DeleteAlias", "UpdateAlias", "CreateAlias", "RetireGrant"}, op) {
				if err := tr.do(role, op); err == nil || err.code != "AccessDeniedException" {
					t.Errorf("%s by a stranger of a key that is %s: %v", op, state, err)
				}
				tried++
			}
		}
	}
	t.Logf("%d calls tried", tried)
	if tried < 660 {
		t.Errorf("tried only %d", tried)
	}
}

// The table is the developer guide's, where that is at hand.
func TestStateTableAgainstTheGuide(t *testing.T) {
	byNote := map[string]refusal{
		"[1]": disabled, "[2]": pending, "[3]": pending, "[4]": notPending, "[5]": noMaterial,
		"[8]": pending, "[11]": unavailable, "[14]": creating, "[15]": updating,
	}
	// Notes 6, 7 and 9 are about the kind of key, which is looked at before the
	// state: then the cell is out of reach. So is what does not apply.
	byKind := []string{"FAIL[6]", "FAIL[7]", "FAIL[9]", "N/A"}
	compared := 0
	for _, cell := range rows(t, "key_state_table.tsv") {
		row, known := stateTable[cell[0]]
		if cell[0] == "operation" {
			continue
		}
		if !known {
			t.Errorf("%s is not in the table", cell[0])
		}
		for i := range row {
			if slices.Contains(byKind, cell[i+1]) {
				continue
			}
			want := ok // "ok", and "?" whose note is not about the state
			if rest, fails := strings.CutPrefix(cell[i+1], "FAIL"); fails {
				want, known = byNote[rest[:strings.IndexByte(rest, ']')+1]]
				if !known {
					t.Errorf("%s: no note for %s", cell[0], cell[i+1])
				}
			}
			if cell[0] == "UpdateAlias" && i == 2 {
				want = pending // note 10: of the new target
			}
			if row[i] != want {
				t.Errorf("%s, %s: %v, the guide says %s", cell[0], allStates[i], row[i], cell[i+1])
			}
			compared++
		}
	}
	t.Logf("%d cells compared", compared)
	if compared > 0 && compared < 250 {
		t.Errorf("compared only %d cells", compared)
	}
}
