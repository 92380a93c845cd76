package kmsfake

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const owner = "arn:aws:iam::111122223333:user/team/owner"

// carriers are the operations whose requests carry a condition key of KMS, as
// the developer guide lists them: "key" is every operation on a key, "crypto" every
// one that uses its material.
var carriers = map[string][]string{
	"kms:BypassPolicyLockoutSafetyCheck": {"CreateKey", "PutKeyPolicy"},
	"kms:CallerAccount":                  {"key"},
	"kms:DataKeyPairSpec":                {"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"},
	"kms:EncryptionAlgorithm":            {"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"},
	"kms:EncryptionContext:t":            {"CreateGrant", "Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"},
	"kms:EncryptionContextKeys":          {"CreateGrant", "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "ReEncrypt"},
	"kms:ExpirationModel":                {"ImportKeyMaterial"},
	"kms:GrantConstraintType":            {"CreateGrant"},
	"kms:GrantIsForAWSResource":          {"CreateGrant", "ListGrants", "RevokeGrant"},
	"kms:GrantOperations":                {"CreateGrant"},
	"kms:GranteePrincipal":               {"CreateGrant"},
	"kms:KeyOrigin":                      {"CreateKey", "key"},
	"kms:KeySpec":                        {"CreateKey", "key"},
	"kms:KeyUsage":                       {"CreateKey", "key"},
	"kms:MacAlgorithm":                   {"GenerateMac", "VerifyMac"},
	"kms:MessageType":                    {"Sign", "Verify"},
	"kms:MultiRegion":                    {"CreateKey", "key"},
	"kms:MultiRegionKeyType":             {"CreateKey", "key"}, // of multi-Region keys
	"kms:PrimaryRegion":                  {"UpdatePrimaryRegion"},
	"kms:ReEncryptOnSameKey":             {"ReEncrypt"},
	"kms:RequestAlias":                   {"crypto", "DescribeKey", "GetPublicKey"},
	"kms:ResourceAliases":                {"key"},
	"kms:ReplicaRegion":                  {"ReplicateKey"},
	"kms:RetiringPrincipal":              {"CreateGrant"},
	"kms:SigningAlgorithm":               {"Sign", "Verify"},
	"kms:ValidTo":                        {"ImportKeyMaterial"},
	"kms:ViaService":                     {"key"},
	"kms:WrappingAlgorithm":              {"GetParametersForImport"},
	"kms:WrappingKeySpec":                {"GetParametersForImport"},
}

// noKey are the operations whose decisions are about no key; ListAliases names
// one and asks about all.
var noKey = []string{"CreateKey", "GenerateRandom", "ListAliases", "ListKeys", "ListRetirableGrants"}

func carries(key, op string) bool {
	for _, group := range carriers[key] {
		switch group {
		case "key":
			if !slices.Contains(noKey, op) {
				return true
			}
		case "crypto":
			if cryptographic[op] {
				return true
			}
		case op:
			return true
		}
	}
	return false
}

// askAll calls op on a key of a trial, by alias if there is one, and returns the
// request's values of all condition keys of KMS, over all decisions.
func askAll(t *testing.T, op string) map[string][]string {
	t.Helper()
	tr := newTrial(t, op, types.KeyStateEnabled)
	account := tr.fake.Account(customer)
	all := make(map[string]string, len(carriers))
	for key := range carriers {
		all[key] = "never"
	}
	never := fmt.Sprintf(`"Condition":{"ForAnyValue:StringEquals":%s}`, strings.ReplaceAll(fmt.Sprintf("%q", all)[3:], `" "`, `","`))
	never = strings.NewReplacer("[", "{", "]", "}").Replace(never)
	account.PutIdentityPolicy(owner, `{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"},{"Effect":"Deny","Action":"kms:*","Resource":"*",`+never+`}]}`)
	aliasName := "alias/askAll"
	if _, err := tr.fake.Client(customer).CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: &aliasName, TargetKeyId: aws.String(tr.key.ID())}); err != nil {
		t.Fatal(err)
	}
	var in any
	switch op {
	case "CreateKey":
		in = &kms.CreateKeyInput{MultiRegion: aws.Bool(true)}
	case "GenerateRandom":
		in = &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)}
	case "ListKeys":
		in = &kms.ListKeysInput{}
	case "ListRetirableGrants":
		in = &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(owner)}
	default:
		in = tr.input(op)
	}
	v := reflect.ValueOf(in).Elem()
	ec := map[string]string{"t": "1"}
	for _, member := range []string{"EncryptionContext", "SourceEncryptionContext", "DestinationEncryptionContext"} {
		if f := v.FieldByName(member); f.IsValid() {
			f.Set(reflect.ValueOf(ec))
		}
	}
	if f := v.FieldByName("KeyId"); f.IsValid() && (cryptographic[op] || op == "DescribeKey" || op == "GetPublicKey") {
		f.Set(reflect.ValueOf(&aliasName))
	}
	switch in := in.(type) {
	case *kms.CreateGrantInput:
		in.RetiringPrincipal, in.Constraints = aws.String(appRole), &types.GrantConstraints{EncryptionContextSubset: ec}
	case *kms.ImportKeyMaterialInput:
		in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, aws.Time(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))
	case *kms.ReEncryptInput:
		in.DestinationKeyId = &aliasName
	}
	from := caller{who: tr.fake.mustPrincipal(owner), region: DefaultRegion, session: &Session{ViaService: "s3.us-east-1.amazonaws.com"}}
	a := tr.fake.do(context.Background(), from, operations[op], in)
	e := tr.fake.Explain(a.requestID)
	if e == nil || len(e.Decisions) == 0 {
		t.Fatalf("%s: nothing was decided: %v", op, a.err)
	}
	values := make(map[string][]string)
	for _, d := range e.Decisions {
		for key, v := range d.Request {
			if v != nil {
				values[key] = v
			}
		}
		if !d.Allowed {
			t.Errorf("%s: %s", op, e)
		}
	}
	return values
}

// Every operation carries the condition keys that it is documented to carry, and
// no others, with the right values.
func TestConditionKeys(t *testing.T) {
	values := map[string][]string{
		"kms:BypassPolicyLockoutSafetyCheck": {"false"}, "kms:CallerAccount": {customer}, "kms:DataKeyPairSpec": {"ECC_NIST_P256"},
		"kms:EncryptionAlgorithm": {"SYMMETRIC_DEFAULT"}, "kms:EncryptionContext:t": {"1"}, "kms:EncryptionContextKeys": {"t"},
		"kms:ExpirationModel": {"KEY_MATERIAL_EXPIRES"}, "kms:GrantConstraintType": {"EncryptionContextSubset"},
		"kms:GrantIsForAWSResource": {"true"}, "kms:GrantOperations": {"DescribeKey"}, "kms:GranteePrincipal": {appRole},
		"kms:MacAlgorithm": {"HMAC_SHA_256"}, "kms:MessageType": {"RAW"}, "kms:PrimaryRegion": {"eu-west-1"},
		"kms:ReEncryptOnSameKey": {"true"}, "kms:RequestAlias": {"alias/askAll"}, "kms:ReplicaRegion": {"us-west-2"},
		"kms:RetiringPrincipal": {appRole}, "kms:SigningAlgorithm": {"ECDSA_SHA_256"}, "kms:ValidTo": {"2030-01-02T03:04:05Z"},
		"kms:ViaService": {"s3.us-east-1.amazonaws.com"}, "kms:WrappingAlgorithm": {"RSAES_OAEP_SHA_256"}, "kms:WrappingKeySpec": {"RSA_2048"},
	}
	multiRegion := []string{"CreateKey", "ReplicateKey", "UpdatePrimaryRegion"}
	checked, seen := 0, map[string]int{}
	for op := range operations {
		got := askAll(t, op)
		for key := range carriers {
			has := got[strings.ToLower(key)]
			want := carries(key, op)
			if key == "kms:MultiRegionKeyType" {
				want = slices.Contains(multiRegion, op)
			}
			if (len(has) > 0) != want {
				t.Errorf("%s: %s is %q, carried: %v", op, key, has, want)
			}
			if v, known := values[key]; known && want && !slices.Equal(has, v) {
				t.Errorf("%s: %s is %q, want %q", op, key, has, v)
			}
			checked++
			seen[key] += len(has)
		}
		switch spec := got["kms:keyspec"]; op {
		case "Sign", "Verify", "GetPublicKey":
			if !slices.Equal(spec, []string{"ECC_NIST_P256"}) || !slices.Equal(got["kms:keyusage"], []string{"SIGN_VERIFY"}) {
				t.Errorf("%s: %v", op, got)
			}
		case "ImportKeyMaterial":
			if !slices.Equal(got["kms:keyorigin"], []string{"EXTERNAL"}) {
				t.Errorf("%s: %v", op, got)
			}
		case "Encrypt":
			if !slices.Equal(spec, []string{"SYMMETRIC_DEFAULT"}) || !slices.Equal(got["kms:keyorigin"], []string{"AWS_KMS"}) ||
				!slices.Equal(got["kms:multiregion"], []string{"false"}) || !slices.Contains(got["kms:resourcealiases"], "alias/askAll") {
				t.Errorf("%s: %v", op, got)
			}
		case "ReplicateKey":
			if !slices.Equal(got["kms:multiregion"], []string{"true"}) || !slices.Equal(got["kms:multiregionkeytype"], []string{"PRIMARY"}) {
				t.Errorf("%s: %v", op, got)
			}
		}
	}
	t.Logf("%d condition keys in %d operations: %d checked", len(carriers), len(operations), checked)
	for key := range carriers {
		if seen[key] == 0 {
			t.Errorf("no operation carried %s", key)
		}
	}
	compared := 0
	for _, row := range rows(t, "condition_keys.tsv") {
		key := strings.Replace(row[0], ":context-key", ":t", 1)
		if carriers[key] == nil {
			t.Errorf("%s is not among ours", row[0])
		}
		var listed []string
		for _, cell := range row[1:] { // the table lacks a column here and there
			if !strings.Contains(cell, "policies") && !strings.Contains(cell, "valued") && cell != "String" && cell != "String (list)" && cell != "Boolean" && cell != "Timestamp" {
				cell = strings.NewReplacer("KMS key resource operations", "key", "Custom key store operations", "", "Cryptographic operations", "crypto",
					"GenerateMacVerifyMac", "GenerateMac VerifyMac").Replace(cell)
				listed = strings.Fields(cell)
			}
		}
		if got := slices.Sorted(slices.Values(carriers[key])); !slices.Equal(got, slices.Sorted(slices.Values(listed))) {
			t.Errorf("%s is carried by %v, the guide says %v", key, got, listed)
		}
		compared++
	}
	if compared > 0 && compared != len(carriers) {
		t.Errorf("compared %d of %d keys: %v", compared, len(carriers), slices.Sorted(maps.Keys(carriers)))
	}
}
