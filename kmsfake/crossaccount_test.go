package kmsfake

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// acrossAccounts are the operations that a principal of another account can be
// given on a key, as the API reference says of each. RetireGrant is a grant's to
// give, and has a test of its own.
var acrossAccounts = []string{
	"CreateGrant", "Decrypt", "DeriveSharedSecret", "DescribeKey", "Encrypt",
	"GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "GenerateMac",
	"GetKeyRotationStatus", "GetPublicKey", "ListGrants", "ReEncrypt", "RevokeGrant", "Sign", "Verify", "VerifyMac",
}

// Every operation, tried by a principal of another account to whom both sides
// allow everything, then nothing on one side, then nothing on the other.
func TestEveryOperationAcrossAccounts(t *testing.T) {
	const everything = `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`
	open := fmt.Sprintf(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":["%s","%s"]},"Action":"kms:*","Resource":"*"}]}`, customer, vendor)
	tried := 0
	for op := range stateTable {
		// The alias side is in the caller's own account; ListAliases says that there is no such key.
		other := map[string]string{"ListAliases": "NotFoundException", "UpdateAlias": "NotFoundException", "DeleteAlias": "NotFoundException", "RetireGrant": denied}
		for _, tc := range []struct {
			name, keyPolicy, identity string
			both                      bool
		}{
			{"both sides", open, everything, true},
			{"the key's side only", open, strings.Replace(everything, "kms:*", "iam:*", 1), false},
			{"the caller's side only", defaultPolicy(DefaultRegion, customer), everything, false},
		} {
			tr := newTrial(t, op, types.KeyStateEnabled)
			tr.key.SetPolicy(tc.keyPolicy)
			tr.fake.Account(vendor).PutIdentityPolicy(role, tc.identity)
			err := tr.do(role, op)
			got, want := "", denied
			if err != nil {
				got = err.code
			}
			if code, special := other[op]; special {
				if tc.both || code == "NotFoundException" && got == code { // found out before permission is asked for
					want = code
				}
			} else if tc.both && slices.Contains(acrossAccounts, op) {
				want = ""
			}
			if got != want {
				t.Errorf("%s with %s: %v, want %q", op, tc.name, err, want)
			}
			// The key's account learns nothing from the words of a refusal by ours.
			if tc.name == "the key's side only" && err != nil && err.code == denied && slices.Contains(acrossAccounts, op) &&
				!strings.Contains(err.msg, "no identity-based policy allows") {
				t.Errorf("%s with %s says %s", op, tc.name, err.msg)
			}
			tried++
		}
	}
	t.Logf("%d calls across accounts", tried)
	compared := 0
	for _, row := range rows(t, "cross_account.tsv") {
		if _, about := stateTable[row[0]]; !about || row[0] == "RetireGrant" {
			continue
		}
		if want := strings.HasPrefix(row[1], "Yes"); want != slices.Contains(acrossAccounts, row[0]) {
			t.Errorf("%s across accounts, documented: %s", row[0], row[1])
		}
		compared++
	}
	t.Logf("%d compared with the reference", compared)
	if compared > 0 && compared < 40 {
		t.Errorf("compared only %d", compared)
	}
}
