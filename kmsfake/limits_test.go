package kmsfake

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// AWS's quotas, which are where its users meet them: fifty aliases a key, a
// hundred thousand keys in an account and Region.
func TestQuotas(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	a, b := fake.Account(customer).CreateKey(""), fake.Account(customer).CreateKey("")
	alias := func(i int) *string { return aws.String(fmt.Sprintf("alias/a%d", i)) }
	for i := range 50 {
		if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias(i), TargetKeyId: aws.String(a.ID())}); err != nil {
			t.Fatal(i, err)
		}
	}
	_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias(50), TargetKeyId: aws.String(a.ID())})
	wantCode(t, err, "LimitExceededException")
	if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias(50), TargetKeyId: aws.String(b.ID())}); err != nil {
		t.Error(err)
	}
	_, err = c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias(50), TargetKeyId: aws.String(a.ID())})
	wantCode(t, err, "LimitExceededException")
	if _, err := c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias(1), TargetKeyId: aws.String(a.ID())}); err != nil {
		t.Errorf("an update that changes nothing: %v", err)
	}

	for i := range maxKeys - 2 {
		k := *fake.st.Keys[a.ARN()]
		k.ID = fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)
		fake.st.Keys[k.ARN()] = &k
	}
	_, err = c.CreateKey(ctx, nil)
	wantCode(t, err, "LimitExceededException")
	if _, err := c.Region("eu-west-1").CreateKey(ctx, nil); err != nil {
		t.Errorf("another Region: %v", err)
	}
	if _, err := fake.Client(vendor).CreateKey(ctx, nil); err != nil {
		t.Errorf("another account: %v", err)
	}
	a.Delete()
	if _, err := c.CreateKey(ctx, nil); err != nil {
		t.Errorf("after one is gone: %v", err)
	}
}

func TestGenerateRandom(t *testing.T) {
	fake := New(&Options{TB: t, StrictIAM: true})
	c, ctx := fake.Client(customer), context.Background()
	seen := make(map[string]bool)
	for range 100 {
		out, err := c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(16)})
		if err != nil || len(out.Plaintext) != 16 {
			t.Fatal(out, err)
		}
		seen[string(out.Plaintext)] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d different answers", len(seen))
	}
	for _, tc := range []struct {
		in   kms.GenerateRandomInput
		code string
	}{
		{kms.GenerateRandomInput{}, "ValidationException"},
		{kms.GenerateRandomInput{NumberOfBytes: aws.Int32(0)}, "ValidationException"},
		{kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1025)}, "ValidationException"},
		{kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024)}, ""},
		{kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1), CustomKeyStoreId: aws.String("cks-1")}, "UnsupportedOperationException"},
		{kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1), Recipient: &types.RecipientInfo{}}, "UnsupportedOperationException"},
	} {
		if err := second2(c.GenerateRandom(ctx, &tc.in)); code(err) != tc.code {
			t.Errorf("%+v: %v", tc.in, err)
		}
	}
	wantCode(t, second2(fake.Client(appRole).GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})), "AccessDeniedException")
}

func TestUpdateKeyDescription(t *testing.T) {
	fake := New(&Options{TB: t})
	key, c, ctx := fake.Account(customer).CreateKey(""), fake.Client(customer), context.Background()
	update := func(id, d string) error {
		return second2(c.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: &id, Description: &d}))
	}
	for _, d := range []string{"a description", ""} {
		if err := update(key.ARN(), d); err != nil {
			t.Fatal(err)
		}
		if out, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(key.ID())}); err != nil || *out.KeyMetadata.Description != d {
			t.Errorf("%+v, %v", out, err)
		}
	}
	wantCode(t, update(key.ARN(), string(make([]byte, 8193))), "ValidationException")
	if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: aws.String(key.ID())}); err != nil {
		t.Fatal(err)
	}
	// What manages a key takes its id or ARN; an alias, which others can move, is for using it.
	wantText(t, update("alias/a", "d"), "Invalid keyId 'alias/a'")
}

// GetKeyLastUsage tells the last cryptographic operation that succeeded; reading,
// refusals and dry runs are none.
func TestLastUsage(t *testing.T) {
	clock := newClock()
	fake := New(&Options{TB: t, Now: clock.Now})
	key, c, ctx := fake.Account(customer).CreateKey(""), fake.Client(customer), context.Background()
	to := fake.Account(customer).CreateKey("")
	id := aws.String(key.ARN())
	born := clock.now
	usage := func(k *Key) *types.KeyLastUsageData {
		out, err := c.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: aws.String(k.ARN())})
		if err != nil || !out.KeyCreationDate.Equal(born) || !out.TrackingStartDate.Equal(born) || *out.KeyId != k.ID() {
			t.Fatal(out, err)
		}
		return out.KeyLastUsage
	}
	if u := usage(key); u == nil || u.Operation != "" || u.Timestamp != nil {
		t.Errorf("a new key: %+v", u)
	}
	clock.pass(time.Hour)
	out, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, NumberOfBytes: aws.Int32(32)})
	if err != nil {
		t.Fatal(err)
	}
	used := clock.now
	clock.pass(time.Hour)
	for _, err := range []error{
		second2(c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})),
		second2(c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), DryRun: aws.Bool(true)})),
		second2(c.Decrypt(ctx, &kms.DecryptInput{KeyId: id, CiphertextBlob: []byte("x")})),
		second2(fake.Client(role).Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})),
	} {
		_ = err
	}
	event := fake.Account(customer).CloudTrail()[1] // after the first GetKeyLastUsage
	if u := usage(key); u.Operation != types.KeyLastUsageTrackingOperationGenerateDataKey || !u.Timestamp.Equal(used) ||
		*u.KmsRequestId != event.RequestID || *u.CloudTrailEventId != event.EventID || event.EventName != "GenerateDataKey" {
		t.Errorf("%+v, the event is %+v", u, event)
	}
	if _, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: out.CiphertextBlob, DestinationKeyId: aws.String(to.ARN())}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*Key{key, to} {
		if u := usage(k); u.Operation != types.KeyLastUsageTrackingOperationReEncrypt || !u.Timestamp.Equal(clock.now) {
			t.Errorf("%+v", u)
		}
	}
}
