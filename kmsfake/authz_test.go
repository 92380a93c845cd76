package kmsfake

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

type authzCase struct {
	ID               string
	KeyAccount       string                       `json:"key_account"`
	KeyPolicy        json.RawMessage              `json:"key_policy"`
	IdentityPolicies map[string][]json.RawMessage `json:"identity_policies"`
	Grants           []struct {
		Grantee     string
		Operations  []types.GrantOperation
		Constraints *types.GrantConstraints
	}
	Requests []struct {
		Caller, Operation, Expect string
		Context                   map[string]string
		Message                   string `json:"message_contains"`
	}
}

// The decisions that each stand for one documented rule come out as written,
// with the words that say which side decided.
func TestAuthorizationCases(t *testing.T) {
	files := []string{"testdata/authz_cases.json"}
	if shared := findShared("authz_cases.json"); shared != "" {
		files = append(files, shared)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Cases []authzCase }
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		cases, decisions := 0, 0
		for _, c := range doc.Cases {
			cases++
			decisions += len(c.Requests)
			t.Run(c.ID, func(t *testing.T) { c.run(t) })
		}
		t.Logf("%s: %d cases with %d decisions", filepath.Base(filepath.Dir(file)), cases, decisions)
		if cases < 37 || decisions < 89 {
			t.Errorf("%d cases, %d decisions: too few to prove anything", cases, decisions)
		}
	}
}

func (c *authzCase) run(t *testing.T) {
	fake := New(&Options{TB: t, StrictIAM: true})
	key := fake.Account(c.KeyAccount).CreateKey(string(c.KeyPolicy))
	for who, docs := range c.IdentityPolicies {
		account := strings.Split(who, ":")[4]
		for _, d := range docs {
			fake.Account(account).PutIdentityPolicy(who, string(d))
		}
	}
	for _, g := range c.Grants { // by the hand of the test: what a policy denies was granted before it did
		ks := fake.st.Keys[key.ARN()]
		grant := &grantState{ID: newGrantID(), Issuer: c.KeyAccount, Grantee: g.Grantee, Operations: g.Operations, Created: fake.now()}
		if err := firstOf(grant.constrain(g.Constraints), grant.parse(), grant.suits(ks)); err != nil {
			t.Fatal(err)
		}
		ks.grant(grant)
	}
	for _, q := range c.Requests {
		err := attempt(fake, key, q.Caller, q.Operation, q.Context)
		switch {
		case q.Expect == "allow" && err != nil:
			t.Errorf("%s by %s with %v: %v, want it allowed", q.Operation, q.Caller, q.Context, err)
		case q.Expect == "deny" && code(err) != "AccessDeniedException":
			t.Errorf("%s by %s with %v: %v, want it denied", q.Operation, q.Caller, q.Context, err)
		case q.Expect == "deny" && !strings.Contains(err.Error(), q.Message):
			t.Errorf("%s by %s: %v, want it to say %q", q.Operation, q.Caller, err, q.Message)
		}
	}
}

// attempt makes one call of an operation; only authorization can refuse it.
func attempt(fake *KMS, key *Key, who, operation string, ec map[string]string) error {
	ctx := context.Background()
	c := fake.Client(who)
	id := aws.String(key.ARN())
	blob := func() []byte {
		return seal(fake.st.Secret, fake.st.Keys[key.ARN()], fake.st.Keys[key.ARN()].current(), []byte("x"), ec)
	}
	var err error
	switch operation {
	case "Encrypt":
		_, err = c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), EncryptionContext: ec})
	case "Decrypt":
		_, err = c.Decrypt(ctx, &kms.DecryptInput{KeyId: id, CiphertextBlob: blob(), EncryptionContext: ec})
	case "ReEncrypt":
		_, err = c.ReEncrypt(ctx, &kms.ReEncryptInput{SourceKeyId: id, DestinationKeyId: id, CiphertextBlob: blob(),
			SourceEncryptionContext: ec, DestinationEncryptionContext: ec})
	case "GenerateDataKey":
		_, err = c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, NumberOfBytes: aws.Int32(1), EncryptionContext: ec})
	case "GenerateDataKeyWithoutPlaintext":
		_, err = c.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{
			KeyId: id, NumberOfBytes: aws.Int32(1), EncryptionContext: ec})
	case "DescribeKey":
		_, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
	case "EnableKey":
		_, err = c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
	case "DisableKey":
		_, err = c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
	case "ScheduleKeyDeletion":
		_, err = c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id})
	case "CancelKeyDeletion":
		_, err = c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
	case "PutKeyPolicy":
		_, err = c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: aws.String(key.Policy()), BypassPolicyLockoutSafetyCheck: true})
	case "GetKeyPolicy":
		_, err = c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: id})
	case "ListKeyPolicies":
		_, err = c.ListKeyPolicies(ctx, &kms.ListKeyPoliciesInput{KeyId: id})
	case "EnableKeyRotation":
		_, err = c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id})
	case "DisableKeyRotation":
		_, err = c.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: id})
	case "GetKeyRotationStatus":
		_, err = c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
	case "CreateAlias":
		_, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/attempt"), TargetKeyId: id})
	case "UpdateAlias":
		_, err = c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/attempt"), TargetKeyId: id})
	case "DeleteAlias":
		_, err = c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/attempt")})
	case "ListAliases":
		_, err = c.ListAliases(ctx, &kms.ListAliasesInput{KeyId: id})
	case "CreateGrant":
		_, err = c.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: id, GranteePrincipal: aws.String(appRole),
			Operations: []types.GrantOperation{types.GrantOperationDecrypt}})
	case "ListGrants":
		_, err = c.ListGrants(ctx, &kms.ListGrantsInput{KeyId: id})
	case "RevokeGrant", "RetireGrant":
		g := &grantState{ID: newGrantID(), Issuer: key.account, Created: fake.now(), Operations: []types.GrantOperation{types.GrantOperationDecrypt}}
		fake.st.Keys[key.ARN()].grant(g)
		if operation == "RevokeGrant" {
			_, err = c.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: &g.ID})
		} else {
			_, err = c.RetireGrant(ctx, &kms.RetireGrantInput{KeyId: id, GrantId: &g.ID})
		}
	case "TagResource":
		_, err = c.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{{TagKey: aws.String("k"), TagValue: aws.String("v")}}})
	case "RotateKeyOnDemand":
		_, err = c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
	case "GetKeyLastUsage":
		_, err = c.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: id})
	default:
		panic("no attempt for " + operation)
	}
	return err
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// findShared finds a file of facts that lies beside the checkout of those who
// have it; nobody needs it.
func findShared(name string) string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		file := filepath.Join(dir, "shared", "kms", name)
		if _, err := os.Stat(file); err == nil {
			return file
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}
