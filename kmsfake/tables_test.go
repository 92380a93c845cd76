package kmsfake

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rows reads a table of facts that lies beside some checkouts, or else the
// package's own; nil without either, where a test has its cases in the code.
func rows(t *testing.T, name string) (out [][]string) {
	t.Helper()
	file := findShared(name)
	if file == "" {
		if file = filepath.Join("testdata", name); !exists(file) {
			t.Logf("%s is not at hand; the package's own cases stand alone", name)
			return nil
		}
	}
	return readRows(t, file)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func readRows(t *testing.T, name string) (out [][]string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if line := in.Text(); !strings.HasPrefix(line, "#") {
			out = append(out, strings.Split(line, "\t"))
		}
	}
	if in.Err() != nil || len(out) == 0 {
		t.Fatal(name, in.Err())
	}
	return out
}

// The package's own tables say what those of the service model say.
func TestOwnTables(t *testing.T) {
	for name, least := range map[string]int{"input_constraints.tsv": 140, "errors_by_operation.tsv": 45} {
		own := readRows(t, filepath.Join("testdata", name))
		if len(own) < least {
			t.Errorf("%s has only %d rows", name, len(own))
		}
		model := make(map[string]bool)
		for _, row := range rows(t, name) { // the shared table, if there is one
			model[strings.Join(row, "\t")] = true
		}
		for _, row := range own {
			if !model[strings.Join(row, "\t")] {
				t.Errorf("%s: the model has no %v", name, row)
			}
		}
	}
}

// wholeInput is an input whose required members are all there, as JSON on the wire.
func wholeInput(key *Key, operation string) map[string]any {
	in := map[string]any{"KeyId": key.ID()}
	switch operation {
	case "CreateAlias", "UpdateAlias":
		in = map[string]any{"AliasName": "alias/whole", "TargetKeyId": key.ID()}
	case "DeleteAlias":
		in = map[string]any{"AliasName": "alias/whole"}
	case "Encrypt":
		in["Plaintext"] = []byte("x")
	case "Decrypt":
		in["CiphertextBlob"] = []byte("x")
	case "ReEncrypt":
		in = map[string]any{"CiphertextBlob": []byte("x"), "DestinationKeyId": key.ID()}
	case "GenerateDataKey", "GenerateDataKeyWithoutPlaintext":
		in["NumberOfBytes"] = 32
	case "DeriveSharedSecret":
		in["KeyAgreementAlgorithm"], in["PublicKey"] = "ECDH", []byte("x")
	case "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext":
		in["KeyPairSpec"] = "ECC_NIST_P256"
	case "GenerateMac", "VerifyMac":
		in["MacAlgorithm"], in["Message"] = "HMAC_SHA_256", []byte("x")
		if operation == "VerifyMac" {
			in["Mac"] = []byte("x")
		}
	case "Sign", "Verify":
		in["SigningAlgorithm"], in["Message"] = "ECDSA_SHA_256", []byte("x")
		if operation == "Verify" {
			in["Signature"] = []byte("x")
		}
	case "GetParametersForImport":
		in["WrappingAlgorithm"], in["WrappingKeySpec"] = "RSAES_OAEP_SHA_256", "RSA_2048"
	case "ImportKeyMaterial":
		in["ImportToken"], in["EncryptedKeyMaterial"] = []byte("x"), []byte("x")
	case "ReplicateKey":
		in["ReplicaRegion"] = "eu-west-1"
	case "UpdatePrimaryRegion":
		in["PrimaryRegion"] = "eu-west-1"
	case "TagResource":
		in["Tags"] = []map[string]string{{"TagKey": "a", "TagValue": "b"}}
	case "UntagResource":
		in["TagKeys"] = []string{"a"}
	case "UpdateKeyDescription":
		in["Description"] = "d"
	case "PutKeyPolicy":
		in["Policy"] = defaultPolicy(DefaultRegion, customer)
	case "CreateGrant":
		in["GranteePrincipal"], in["Operations"] = role, []string{"Decrypt"}
	case "RevokeGrant", "RetireGrant":
		in["GrantId"] = newGrantID()
	case "ListRetirableGrants":
		in = map[string]any{"RetiringPrincipal": appRole}
	case "CreateKey", "ListKeys", "GenerateRandom":
		delete(in, "KeyId")
	}
	return in
}

// Every constraint of the service model, broken one at a time on the wire, is
// the ValidationException that names the member.
func TestConstraintsOfTheModel(t *testing.T) {
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey("")
	h := fake.Handler()
	tried := 0
	for _, row := range rows(t, "input_constraints.tsv") {
		operation, member := row[0], row[1]
		if operations[operation] == nil || member == "CustomKeyStoreId" || member == "XksKeyId" { // those are refused as unsupported
			continue
		}
		broken := make(map[string]any) // by what is wrong with it
		if row[2] == "required" {
			broken["missing"] = nil
		}
		kind, limits, _ := strings.Cut(row[3], " ")
		for limit := range strings.FieldsSeq(limits) {
			name, value, _ := strings.Cut(limit, "=")
			n, _ := strconv.Atoi(value)
			switch {
			case name == "enum":
				broken["enum"] = "NONSENSE"
			case name == "pattern":
				broken["pattern"] = "\u0100 @" // which none of them allows
			case name == "min" && kind == "integer":
				broken["min"] = n - 1
			case name == "max" && kind == "integer":
				broken["max"] = n + 1
			case name == "min" && kind == "string" && n > 0:
				broken["min"] = ""
			case name == "max" && kind == "string":
				broken["max"] = strings.Repeat("a", n+1)
			case name == "max" && kind == "blob":
				broken["max"] = make([]byte, n+1)
			case name == "min" && kind == "blob":
				broken["min"] = []byte{}
			case name == "max" && kind == "list":
				broken["max"] = slices.Repeat([]string{"a"}, n+1)
			}
		}
		for what, value := range broken {
			in := wholeInput(key, operation)
			in[member] = value
			body, _ := json.Marshal(in)
			status, out, _ := post(t, h, targetPrefix+operation, asCustomer, string(body))
			text, _ := out["message"].(string)
			at := "'" + strings.ToLower(member[:1]) + member[1:] + "'"
			if status != 400 || out["__type"] != "ValidationException" || !strings.Contains(text, " at "+at+" failed to satisfy constraint: Member must ") {
				t.Errorf("%s with %s wrong by %s: %d %.300v", operation, member, what, status, out)
			}
			tried++
		}
	}
	t.Logf("%d constraints broken", tried)
	if tried < 300 {
		t.Errorf("only %d", tried)
	}
}

// Which operations work across accounts is what the documentation says.
func TestCrossAccountTable(t *testing.T) {
	compared := 0
	for _, row := range rows(t, "cross_account.tsv") {
		actions := []string{"kms:" + row[0]}
		if row[0] == "ReEncrypt" {
			actions = []string{"kms:ReEncryptFrom", "kms:ReEncryptTo"}
		}
		for _, a := range actions {
			want := strings.HasPrefix(row[1], "Yes")
			if crossAccount[a] != want {
				t.Errorf("%s across accounts: %v, documented: %s", a, crossAccount[a], row[1])
			}
			compared++
		}
	}
	if compared > 0 && compared < 40 {
		t.Errorf("compared only %d", compared)
	}
}

// No operation answers an exception that its model does not have, over every
// attempt that the state and authorization tests make.
func TestOnlyModelledExceptions(t *testing.T) {
	modelOf := make(map[string][]string)
	for _, row := range rows(t, "errors_by_operation.tsv") {
		modelOf[row[0]] = strings.Fields(row[1])
	}
	unmodelled := []string{"", "AccessDeniedException", "ValidationException"}
	seen := make(map[string]bool)
	for op := range operations {
		if _, ofKey := stateTable[op]; !ofKey {
			continue
		}
		for _, state := range allStates {
			for _, who := range []string{customer, role} {
				tr := newTrial(t, op, state)
				tr.into(state)
				got := ""
				if err := tr.do(who, op); err != nil {
					got = err.code
				}
				if !slices.Contains(unmodelled, got) && !slices.Contains(modelOf[op], got) {
					t.Errorf("%s answers %s, its model has %v", op, got, modelOf[op])
				}
				seen[op+" "+got] = true
			}
		}
	}
	for op := range operations {
		if invalidArn[op] != slices.Contains(modelOf[op], "InvalidArnException") && op != "CreateKey" {
			t.Errorf("%s and InvalidArnException: %v", op, invalidArn[op])
		}
	}
	if len(seen) < 40 {
		t.Errorf("saw only %v", slices.Sorted(maps.Keys(seen)))
	}
}

// Every principal ARN that there is, and what is none.
func TestPrincipals(t *testing.T) {
	for _, tc := range []struct{ in, caller, policyARN string }{
		{"111122223333", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root"},
		{"arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root"},
		{"arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:user/bob"},
		{"arn:aws:iam::111122223333:user/a/b/bob", "arn:aws:iam::111122223333:user/a/b/bob", "arn:aws:iam::111122223333:user/a/b/bob"},
		{"arn:aws:iam::111122223333:role/app", "arn:aws:sts::111122223333:assumed-role/app/kmsfake", "arn:aws:iam::111122223333:role/app"},
		{"arn:aws:iam::111122223333:role/team/app", "arn:aws:sts::111122223333:assumed-role/app/kmsfake", "arn:aws:iam::111122223333:role/team/app"},
		{"arn:aws:sts::111122223333:assumed-role/app/s@x", "arn:aws:sts::111122223333:assumed-role/app/s@x", "arn:aws:iam::111122223333:role/app"},
		{"arn:aws-cn:iam::111122223333:role/app", "arn:aws-cn:sts::111122223333:assumed-role/app/kmsfake", "arn:aws-cn:iam::111122223333:role/app"},
		{"arn:aws:sts::111122223333:federated-user/bob", "arn:aws:sts::111122223333:federated-user/bob", "arn:aws:sts::111122223333:federated-user/bob"},
	} {
		p, err := parsePrincipal(tc.in)
		if err != nil || p.caller() != tc.caller || p.policyARN() != tc.policyARN || p.account != customer {
			t.Errorf("%s: %+v %s %s, %v", tc.in, p, p.caller(), p.policyARN(), err)
		}
	}
	for _, bad := range []string{"", "*", "bob", "11112222333", "1111222233334", "arn:aws:iam::111122223333:root/x", "arn:aws:iam::111122223333:role",
		"arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:role/a/", "arn:aws:iam::111122223333:role/*", "arn:aws:iam::*:role/a",
		"arn:aws:iam:us-east-1:111122223333:role/a", "arn:azure:iam::111122223333:role/a", "arn:aws:sts::111122223333:assumed-role/a",
		"arn:aws:sts::111122223333:assumed-role/a/", "arn:aws:sts::111122223333:assumed-role/a/b/c", "arn:aws:s3:::b", "arn:aws:iam::111122223333:group/g",
		"arn:aws:iam::111122223333:role/ä", "arn:aws:iam::111122223333:user/" + strings.Repeat("x", 129)} {
		if p, err := parsePrincipal(bad); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}
