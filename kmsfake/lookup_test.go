package kmsfake

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// The four names of a key, and all the ways to miss.
func TestKeyNames(t *testing.T) {
	f := newFixture(t, nil)
	ctx := context.Background()
	if _, err := f.c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/a/b"), TargetKeyId: aws.String(f.key.ARN())}); err != nil {
		t.Fatal(err)
	}
	deleted := f.fake.Account(customer).CreateKey("")
	deleted.Delete()
	uuid := newUUID()
	for _, tc := range []struct{ id, code, says string }{
		{f.key.ID(), "", ""},
		{f.key.ARN(), "", ""},
		{"alias/a/b", "", ""},
		{aliasARN(DefaultRegion, customer, "alias/a/b"), "", ""},
		{deleted.ID(), "NotFoundException", "Key '" + deleted.ARN() + "' does not exist"},
		{uuid, "NotFoundException", "Key '" + keyARN(DefaultRegion, customer, uuid) + "' does not exist"},
		{keyARN(DefaultRegion, customer, uuid), "NotFoundException", "does not exist"},
		{"mrk-0123456789abcdef0123456789abcdef", "NotFoundException", "does not exist"},
		{"key_id", "NotFoundException", "Invalid keyId 'key_id'"},
		{strings.ToUpper(f.key.ID()), "NotFoundException", "Invalid keyId"},
		{"alias/none", "NotFoundException", "Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."},
		{"arn:aws:kms:us-east-1:111122223333:alias/none", "NotFoundException", "is not found."},
		{strings.Replace(f.key.ARN(), "us-east-1", "eu-west-1", 1), "NotFoundException", "Invalid arn eu-west-1"},
		{"arn:aws:kms:us-east-1:111122223333:grant/x", "NotFoundException", "Invalid arn"},
		{"arn:aws-cn:kms:us-east-1:111122223333:key/" + f.key.ID(), "NotFoundException", "Invalid arn"},
		{"arn:aws:s3:::bucket", "NotFoundException", "Invalid arn"},
		{keyARN(DefaultRegion, vendor, uuid), "AccessDeniedException", "no resource-based policy allows the kms:Encrypt action"},
		{"", "ValidationException", "Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{strings.Repeat("x", 2049), "ValidationException", "less than or equal to 2048"},
	} {
		_, err := f.c.Encrypt(ctx, &kms.EncryptInput{KeyId: &tc.id, Plaintext: []byte("x")})
		if code(err) != tc.code || tc.code != "" && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%.80q: %v, want %s %q", tc.id, err, tc.code, tc.says)
		}
	}
	// A short name is a name at home: of the vendor's account, not the customer's.
	_, err := f.fake.Client(vendor).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(f.key.ID())})
	wantCode(t, err, "NotFoundException")
	_, err = f.c.Region("eu-west-1").DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(f.key.ID())})
	wantCode(t, err, "NotFoundException")
	_, err = f.c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("arn:aws:s3:::bucket")})
	wantCode(t, err, "InvalidArnException")
}

func TestAliases(t *testing.T) {
	f := newFixture(t, nil)
	ctx := context.Background()
	other := f.fake.Account(customer).CreateKey("")
	foreign := f.fake.Account(vendor).CreateKey("")
	create := func(name, target string) error {
		_, err := f.c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &target})
		return err
	}
	for _, tc := range []struct{ name, target, code string }{
		{"alias/one", f.key.ID(), ""},
		{"alias/one", other.ID(), "AlreadyExistsException"},
		{"one", f.key.ID(), "ValidationException"},
		{"alias/", f.key.ID(), "ValidationException"},
		{"alias/ä", f.key.ID(), "ValidationException"},
		{"alias/" + strings.Repeat("x", 251), f.key.ID(), "ValidationException"},
		{"alias/two", "alias/one", "ValidationException"},
		{"alias/two", foreign.ARN(), "AccessDeniedException"},
		{"alias/two", newUUID(), "NotFoundException"},
		{"alias/aws/s3", f.key.ID(), "NotAuthorizedException"},
	} {
		wantCode(t, create(tc.name, tc.target), tc.code)
	}
	use := func() string {
		out, err := f.c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/one"), Plaintext: []byte("x")})
		if err != nil {
			return code(err)
		}
		return *out.KeyId
	}
	if use() != f.key.ARN() {
		t.Error(use())
	}
	f.key.Disable()
	f.key.ScheduleDeletion(7) // an alias can be moved away from a dying key, not onto one
	if _, err := f.c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/one"), TargetKeyId: aws.String(other.ID())}); err != nil {
		t.Error(err)
	}
	if use() != other.ARN() {
		t.Error(use())
	}
	_, err := f.c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/one"), TargetKeyId: aws.String(f.key.ID())})
	wantCode(t, err, "KMSInvalidStateException")
	other.Delete()
	if use() != "NotFoundException" {
		t.Errorf("an alias outlived its key: %s", use())
	}
	if err := create("alias/one", f.fake.Account(customer).CreateKey("").ID()); err != nil {
		t.Error(err)
	}
}

// An alias operation needs permission on the alias, which only the account's IAM
// can give, and on each key that it touches.
func TestAliasPermissions(t *testing.T) {
	ctx, name := context.Background(), aws.String("alias/a")
	try := func(resources, op string) error {
		fake := New(&Options{TB: t, StrictIAM: true})
		account := fake.Account(customer)
		one, two := account.CreateKey(""), account.CreateKey("")
		account.PutIdentityPolicy(appRole, `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":[`+
			strings.NewReplacer("ONE", one.ARN(), "TWO", two.ARN(), "ALIAS", aliasARN(DefaultRegion, customer, "alias/a")).Replace(resources)+`]}}`)
		c := fake.Client(appRole)
		if op == "CreateAlias" {
			_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: aws.String(one.ID())})
			return err
		}
		if _, err := fake.Client(customer).CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: aws.String(one.ID())}); err != nil {
			t.Fatal(err)
		}
		if op == "DeleteAlias" {
			_, err := c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: name})
			return err
		}
		_, err := c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: name, TargetKeyId: aws.String(two.ID())})
		return err
	}
	const denied = "AccessDeniedException"
	for _, tc := range []struct{ op, resources, code string }{
		{"CreateAlias", `"ONE","ALIAS"`, ""}, {"CreateAlias", `"ONE"`, denied}, {"CreateAlias", `"ALIAS"`, denied},
		{"DeleteAlias", `"ONE","ALIAS"`, ""}, {"DeleteAlias", `"ONE"`, denied}, {"DeleteAlias", `"ALIAS"`, denied},
		{"UpdateAlias", `"ONE","TWO","ALIAS"`, ""}, {"UpdateAlias", `"TWO","ALIAS"`, denied},
		{"UpdateAlias", `"ONE","ALIAS"`, denied}, {"UpdateAlias", `"ONE","TWO"`, denied},
	} {
		if err := try(tc.resources, tc.op); code(err) != tc.code {
			t.Errorf("%s with permission on %s: %v", tc.op, tc.resources, err)
		}
	}
}

// What the control plane answers is what the key then is.
func TestLifeCycle(t *testing.T) {
	f := newFixture(t, nil)
	ctx, id := context.Background(), aws.String(f.key.ID())
	state := func() types.KeyState {
		out, err := f.c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
		if err != nil {
			t.Fatal(err)
		}
		m := out.KeyMetadata
		if m.Enabled != (m.KeyState == types.KeyStateEnabled) || (m.DeletionDate != nil) != (m.KeyState == types.KeyStatePendingDeletion) {
			t.Errorf("%+v", m)
		}
		return m.KeyState
	}
	for _, step := range []struct {
		op   string
		want types.KeyState
	}{
		{"DisableKey", types.KeyStateDisabled}, {"DisableKey", types.KeyStateDisabled}, {"EnableKey", types.KeyStateEnabled},
		{"ScheduleKeyDeletion", types.KeyStatePendingDeletion}, {"CancelKeyDeletion", types.KeyStateDisabled},
		{"ScheduleKeyDeletion", types.KeyStatePendingDeletion}, {"CancelKeyDeletion", types.KeyStateDisabled}, {"EnableKey", types.KeyStateEnabled},
	} {
		if err := attempt(f.fake, f.key, customer, step.op, nil); err != nil {
			t.Fatal(step.op, err)
		}
		if got := state(); got != step.want || f.key.State() != got {
			t.Errorf("after %s the key is %s", step.op, got)
		}
	}
	f.key.ScheduleDeletion(1)
	f.key.CancelDeletion()
	if got := state(); got != types.KeyStateDisabled {
		t.Errorf("after Key.CancelDeletion the key is %s", got)
	}
	// Nobody can lock himself out by mistake; on purpose he can.
	lockout := &kms.PutKeyPolicyInput{KeyId: id, Policy: aws.String(defaultPolicy(DefaultRegion, vendor))}
	_, err := f.c.PutKeyPolicy(ctx, lockout)
	wantCode(t, err, "MalformedPolicyDocumentException")
	lockout.BypassPolicyLockoutSafetyCheck = true
	if _, err := f.c.PutKeyPolicy(ctx, lockout); err != nil {
		t.Error(err)
	}
	_, err = f.c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: id})
	wantCode(t, err, "AccessDeniedException")
	_, err = f.c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: id, PolicyName: aws.String("other")})
	wantCode(t, err, "AccessDeniedException")
}

// Pages are whole, in order, without repetition, and survive changes.
func TestPagination(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	for i := range 7 {
		key := fake.Account(customer).CreateKey("")
		fake.Account(customer).Region("eu-west-1").CreateKey("")
		fake.Account(vendor).CreateKey("")
		if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(fmt.Sprint("alias/", i)), TargetKeyId: aws.String(key.ID())}); err != nil {
			t.Fatal(err)
		}
	}
	var marker *string
	seen, pages := make(map[string]bool), 0
	for {
		out, err := c.ListKeys(ctx, &kms.ListKeysInput{Limit: aws.Int32(3), Marker: marker})
		if err != nil || len(out.Keys) > 3 || out.Truncated != (out.NextMarker != nil) {
			t.Fatal(out, err)
		}
		for _, k := range out.Keys {
			if seen[*k.KeyId] {
				t.Error("twice: ", *k.KeyId)
			}
			seen[*k.KeyId] = true
		}
		if pages++; !out.Truncated {
			break
		}
		fake.Account(customer).Key(*out.Keys[0].KeyId).Delete() // behind us: changes nothing
		marker = out.NextMarker
	}
	if len(seen) != 7 || pages != 3 {
		t.Errorf("%d keys on %d pages", len(seen), pages)
	}
	out, err := c.ListAliases(ctx, &kms.ListAliasesInput{Limit: aws.Int32(1)})
	if err != nil || len(out.Aliases) != 1 || !out.Truncated {
		t.Errorf("%+v, %v", out, err)
	}
	_, err = c.ListKeys(ctx, &kms.ListKeysInput{Marker: aws.String("%")})
	wantCode(t, err, "InvalidMarkerException")
	_, err = c.ListKeys(ctx, &kms.ListKeysInput{Limit: aws.Int32(1001)})
	wantCode(t, err, "ValidationException")
	_, err = c.ListKeys(ctx, &kms.ListKeysInput{Limit: aws.Int32(0)})
	wantCode(t, err, "ValidationException")
}

// AWS's words for what an input must be.
func TestValidation(t *testing.T) {
	f := newFixture(t, nil)
	ctx, id := context.Background(), aws.String(f.key.ID())
	long := map[string]string{"k": strings.Repeat("v", maxContext)}
	encrypt := func(in kms.EncryptInput) error {
		if in.KeyId == nil {
			in.KeyId = id
		}
		if in.Plaintext == nil {
			in.Plaintext = []byte("x")
		}
		_, err := f.c.Encrypt(ctx, &in)
		return err
	}
	gen := func(in kms.GenerateDataKeyInput) error {
		in.KeyId = id
		_, err := f.c.GenerateDataKey(ctx, &in)
		return err
	}
	dec := func(in kms.DecryptInput) error {
		_, err := f.c.Decrypt(ctx, &in)
		return err
	}
	create := func(in kms.CreateKeyInput) error {
		_, err := f.c.CreateKey(ctx, &in)
		return err
	}
	const v = "ValidationException"
	for i, tc := range []struct {
		err        error
		code, says string
	}{
		{encrypt(kms.EncryptInput{Plaintext: []byte{}}), v, "Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{encrypt(kms.EncryptInput{Plaintext: make([]byte, 4096)}), "", ""},
		{encrypt(kms.EncryptInput{Plaintext: make([]byte, 4097)}), v, "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		{encrypt(kms.EncryptInput{EncryptionAlgorithm: "ROT13"}), v, "Value 'ROT13' at 'encryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1"},
		{encrypt(kms.EncryptInput{EncryptionAlgorithm: "RSAES_OAEP_SHA_1"}), "InvalidKeyUsageException", "is incompatible with key spec SYMMETRIC_DEFAULT."},
		{encrypt(kms.EncryptInput{EncryptionContext: long}), v, "encryption context"},
		{encrypt(kms.EncryptInput{EncryptionContext: map[string]string{"k": strings.Repeat("v", maxContext-1)}}), "", ""},
		{encrypt(kms.EncryptInput{GrantTokens: make([]string, 11)}), v, "grantTokens"},
		{encrypt(kms.EncryptInput{GrantTokens: []string{""}}), v, "grantTokens.1.member"},
		{encrypt(kms.EncryptInput{GrantTokens: []string{"not a token!"}}), "InvalidGrantTokenException", ""},
		{encrypt(kms.EncryptInput{GrantTokens: []string{"AQpAM2RhZ=="}}), "InvalidGrantTokenException", ""},
		{encrypt(kms.EncryptInput{GrantTokens: []string{newGrantToken(f.fake.st.Secret, f.key.ARN(), newGrantID())}}), "", ""},
		{encrypt(kms.EncryptInput{DryRun: aws.Bool(true)}), "DryRunOperationException", "The request would have succeeded, but the DryRun option is set."},
		{gen(kms.GenerateDataKeyInput{}), v, "Please specify either number of bytes or key spec."},
		{gen(kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes128, NumberOfBytes: aws.Int32(16)}), v, "Please specify either number of bytes or key spec."},
		{gen(kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(0)}), v, "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{gen(kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1024)}), "", ""},
		{gen(kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1025)}), v, "Member must have value less than or equal to 1024"},
		{gen(kms.GenerateDataKeyInput{KeySpec: "AES_512"}), v, "enum value set: [AES_256, AES_128]"},
		{gen(kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256, Recipient: &types.RecipientInfo{}}), "UnsupportedOperationException", ""},
		{gen(kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256, DryRun: aws.Bool(true)}), "DryRunOperationException", ""},
		{dec(kms.DecryptInput{}), v, "Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null"},
		{dec(kms.DecryptInput{CiphertextBlob: make([]byte, 6145)}), v, "less than or equal to 6144"},
		{dec(kms.DecryptInput{CiphertextBlob: make([]byte, 6144)}), "InvalidCiphertextException", ""},
		{dec(kms.DecryptInput{CiphertextBlob: f.blob, DryRun: aws.Bool(true)}), "DryRunOperationException", ""},
		{dec(kms.DecryptInput{KeyId: id, DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}}), "DryRunOperationException", ""},
		{dec(kms.DecryptInput{DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}}), v, ""},
		{create(kms.CreateKeyInput{KeySpec: "X"}), v, "enum value set"},
		{create(kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048}), v, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."},
		{create(kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeKeyAgreement}), v, "KeyUsage KEY_AGREEMENT is not compatible with KeySpec RSA_2048"},
		{create(kms.CreateKeyInput{KeySpec: types.KeySpecSm2, KeyUsage: types.KeyUsageTypeSignVerify}), "UnsupportedOperationException", "KeySpec SM2"},
		{create(kms.CreateKeyInput{KeyUsage: types.KeyUsageTypeSignVerify}), v, "not compatible"},
		{create(kms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm}), "UnsupportedOperationException", ""},
		{create(kms.CreateKeyInput{XksKeyId: aws.String("x")}), "UnsupportedOperationException", ""},
		{create(kms.CreateKeyInput{CustomKeyStoreId: aws.String("x")}), "UnsupportedOperationException", ""},
		{create(kms.CreateKeyInput{Policy: aws.String("{")}), "MalformedPolicyDocumentException", ""},
		{create(kms.CreateKeyInput{Policy: aws.String(defaultPolicy(DefaultRegion, vendor))}), "MalformedPolicyDocumentException", "The new key policy will not allow you to update the key policy in the future."},
		{create(kms.CreateKeyInput{Policy: aws.String(defaultPolicy(DefaultRegion, vendor)), BypassPolicyLockoutSafetyCheck: true}), "", ""},
		{create(kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("aws:x"), TagValue: aws.String("")}}}), "TagException", ""},
		{create(kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("x"), TagValue: aws.String("")}, {TagKey: aws.String("x"), TagValue: aws.String("1")}}}), "TagException", "Duplicate tag keys"},
		{create(kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String(strings.Repeat("x", 129)), TagValue: aws.String("")}}}), v, "at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128"},
	} {
		if code(tc.err) != tc.code || tc.code != "" && !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("case %d: %v, want %s %q", i, tc.err, tc.code, tc.says)
		}
	}
}

// ReEncrypt asks two keys, each under its own context.
func TestReEncryptAsksBothKeys(t *testing.T) {
	fake := New(&Options{TB: t})
	statement := func(action, context string) string {
		return `{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:` + action +
			`","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:c":"` + context + `","kms:ReEncryptOnSameKey":"false"}}}}`
	}
	from, to := fake.Account(customer).CreateKey(statement("ReEncryptFrom", "old")), fake.Account(customer).CreateKey(statement("ReEncryptTo", "new"))
	k := fake.st.Keys[from.ARN()]
	blob := func(c string) []byte {
		return seal(fake.st.Secret, k, k.current(), []byte("x"), map[string]string{"c": c})
	}
	try := func(c, d, id string, dst *Key) error {
		in := &kms.ReEncryptInput{CiphertextBlob: blob(c), SourceEncryptionContext: map[string]string{"c": c},
			DestinationEncryptionContext: map[string]string{"c": d}, DestinationKeyId: aws.String(dst.ARN())}
		if id != "" {
			in.SourceKeyId = &id
		}
		_, err := fake.Client(role).ReEncrypt(context.Background(), in)
		return err
	}
	for _, id := range []string{"", from.ARN()} {
		if err := try("old", "new", id, to); err != nil {
			t.Error(err)
		}
		wantCode(t, try("new", "new", id, to), "AccessDeniedException")
		wantCode(t, try("old", "old", id, to), "AccessDeniedException")
		wantCode(t, try("old", "new", id, from), "AccessDeniedException") // onto the same key
	}
	c := fake.Calls()[0]
	if c.KeyARN != from.ARN() || c.DestinationKeyARN != to.ARN() || c.EncryptionContext["c"] != "old" || c.DestinationEncryptionContext["c"] != "new" {
		t.Errorf("%+v", c)
	}
	wantCode(t, try("old", "new", to.ARN(), to), "AccessDeniedException")
	to.Disable()
	wantCode(t, try("old", "new", "", to), "DisabledException")
	to.Enable()
	from.Disable()
	wantCode(t, try("old", "new", "", to), "DisabledException")
}

// tb records what a test would have been told.
type tb struct{ said string }

func (*tb) Helper() {}
func (b *tb) Fatalf(format string, args ...any) {
	b.said = fmt.Sprintf(format, args...)
	panic(b) // as t.Fatalf ends the goroutine
}

// Mistakes of a test end it, with words; without a TB they panic.
func TestMisuse(t *testing.T) {
	for name, do := range map[string]func(*KMS){
		"principal":      func(f *KMS) { f.Client("bob") },
		"wildcard":       func(f *KMS) { f.Client("arn:aws:iam::111122223333:role/*") },
		"role path":      func(f *KMS) { f.Client("arn:aws:iam::111122223333:role/") },
		"region":         func(f *KMS) { f.Client(customer).Region("Europe") },
		"account":        func(f *KMS) { f.Account("1") },
		"account region": func(f *KMS) { f.Account(customer).Region("") },
		"policy":         func(f *KMS) { f.Account(customer).CreateKey("{}") },
		"new policy":     func(f *KMS) { f.Account(customer).CreateKey("").SetPolicy("{}") },
		"identity":       func(f *KMS) { f.Account(customer).PutIdentityPolicy(appRole, "{}") },
		"other account":  func(f *KMS) { f.Account(customer).PutIdentityPolicy(role, "{}") },
		"key":            func(f *KMS) { f.Account(customer).Key("x") },
		"gone":           func(f *KMS) { k := f.Account(customer).CreateKey(""); k.Delete(); k.Disable() },
		"fault":          func(f *KMS) { f.Inject(Fault{}) },
		"fault count":    func(f *KMS) { f.Fail("Decrypt", "ThrottlingException", 0) },
		"state":          func(f *KMS) { f.Account(customer).CreateKey("").SetState("Asleep") },
		"state by date":  func(f *KMS) { f.Account(customer).CreateKey("").SetState(types.KeyStatePendingDeletion) },
		"lost material":  func(f *KMS) { f.Account(customer).CreateKey("").SetState(types.KeyStatePendingImport) },
		"import into it": func(f *KMS) { f.Account(customer).CreateKey("").ImportMaterial(make([]byte, 32), time.Time{}) },
		"other material": func(f *KMS) {
			k := f.Account(customer).Key(externalKey(t, f, kms.CreateKeyInput{}).key)
			k.ImportMaterial(make([]byte, 32), time.Time{})
			k.ImportMaterial(randomMaterial(32), time.Time{})
		},
		"short material": func(f *KMS) {
			f.Account(customer).Key(externalKey(t, f, kms.CreateKeyInput{}).key).ImportMaterial(make([]byte, 31), time.Time{})
		},
		"primary first": func(f *KMS) {
			out, _ := f.Client(customer).CreateKey(context.Background(), &kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
			id := out.KeyMetadata.KeyId
			f.Client(customer).ReplicateKey(context.Background(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String("eu-west-1")})
			f.Account(customer).Key(*id).Delete()
		},
		"access key": func(f *KMS) { f.RegisterAccessKey("a/b", role) },
		"secret":     func(f *KMS) { f.RegisterAccessKey("AKIA", role, "short") },
	} {
		caught := func(f *KMS) (v any) {
			defer func() { v = recover() }()
			do(f)
			return nil
		}
		b := new(tb)
		if caught(New(&Options{TB: b})); !strings.HasPrefix(b.said, "kmsfake: ") {
			t.Errorf("%s: the test was told %q", name, b.said)
		}
		if s, _ := caught(New(nil)).(string); !strings.HasPrefix(s, "kmsfake: ") || strings.Contains(s, "internal error") {
			t.Errorf("%s: panic %q", name, s)
		}
	}
}
