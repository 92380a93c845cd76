package kmsfake

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Every operation in every state, tried for real by the account's root. The
// expectation is written down here once more, on purpose not read from the
// table under test.
func TestOperationsInKeyStates(t *testing.T) {
	const d, p, n = "DisabledException", "KMSInvalidStateException", "KMSInvalidStateException"
	says := map[types.KeyState]string{
		types.KeyStateEnabled: " is not pending deletion.", types.KeyStateDisabled: " is disabled.",
		types.KeyStatePendingDeletion: " is pending deletion.",
	}
	want := map[string][3]string{
		"Encrypt": {"", d, p}, "Decrypt": {"", d, p}, "ReEncrypt": {"", d, p},
		"GenerateDataKey": {"", d, p}, "GenerateDataKeyWithoutPlaintext": {"", d, p},
		"DescribeKey": {}, "EnableKey": {"", "", p}, "DisableKey": {"", "", p},
		"ScheduleKeyDeletion": {"", "", p}, "CancelKeyDeletion": {n, n, ""},
		"PutKeyPolicy": {}, "GetKeyPolicy": {}, "ListKeyPolicies": {},
		"EnableKeyRotation": {"", d, p}, "DisableKeyRotation": {"", d, p}, "GetKeyRotationStatus": {},
		"CreateGrant": {"", d, p}, "ListGrants": {}, "RevokeGrant": {}, "RetireGrant": {},
		"CreateAlias": {"", "", p}, "UpdateAlias": {"", "", p}, "DeleteAlias": {}, "ListAliases": {},
	}
	if len(want) != len(stateTable) || len(want) != len(operations)-3 { // CreateKey, ListKeys and ListRetirableGrants have no key
		t.Errorf("%d operations here, %d in the table, %d in all", len(want), len(stateTable), len(operations))
	}
	for op, row := range want {
		for i, state := range stateColumns {
			fake := New(&Options{TB: t})
			key := fake.Account(customer).CreateKey("")
			if op == "UpdateAlias" || op == "DeleteAlias" {
				if err := attempt(fake, key, customer, "CreateAlias", nil); err != nil {
					t.Fatal(err)
				}
			}
			key.set("test", state, 7)
			err := attempt(fake, key, customer, op, nil)
			if got := code(err); got != row[i] {
				t.Errorf("%s of a key that is %s: %v, want %q", op, state, err, row[i])
			}
			suffix := says[state]
			if op == "CancelKeyDeletion" {
				suffix = " is not pending deletion."
			}
			if row[i] != "" && !strings.HasSuffix(err.Error(), key.ARN()+suffix) {
				t.Errorf("%s of a key that is %s says %v", op, state, err)
			}
			// A stranger is told nothing about the state.
			if op != "ListAliases" && op != "DeleteAlias" && op != "UpdateAlias" && op != "CreateAlias" {
				if err := attempt(fake, key, role, op, nil); code(err) != "AccessDeniedException" {
					t.Errorf("%s by a stranger of a key that is %s: %v", op, state, err)
				}
			}
		}
	}
}

// The table is the developer guide's, where that is at hand.
func TestStateTableAgainstTheGuide(t *testing.T) {
	file := findShared("key_state_table.tsv")
	if file == "" {
		t.Log("the guide's table is not at hand; TestOperationsInKeyStates stands alone")
		return
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	byNote := map[string]refusal{"[1]": disabled, "[2]": pending, "[3]": pending, "[4]": notPending}
	compared := 0
	for in := bufio.NewScanner(f); in.Scan(); {
		cell := strings.Split(in.Text(), "\t")
		row, known := stateTable[cell[0]]
		if !known {
			continue
		}
		for i := range stateColumns {
			want := ok // "ok", and "?" whose note is not about our kind of key
			if rest, fails := strings.CutPrefix(cell[i+1], "FAIL"); fails {
				want = byNote[rest[:3]]
			}
			if cell[0] == "UpdateAlias" && i == 2 {
				want = pending // note 10: of the new target
			}
			if row[i] != want {
				t.Errorf("%s, %s: %v, the guide says %s", cell[0], stateColumns[i], row[i], cell[i+1])
			}
			compared++
		}
	}
	if compared < 50 {
		t.Errorf("compared only %d cells", compared)
	}
}
