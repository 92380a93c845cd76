package kmsfake

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// at is a clock that a test sets.
type at struct{ now time.Time }

func newClock() *at { return &at{time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *at) Now() time.Time       { return c.now }
func (c *at) pass(d time.Duration) { c.now = c.now.Add(d) }

// Rotation on demand works 25 times a key, leaves the automatic schedule alone,
// and every generation still opens what it sealed.
func TestRotationOnDemand(t *testing.T) {
	clock := newClock()
	fake := New(&Options{TB: t, Now: clock.Now})
	key, c, ctx := fake.Account(customer).CreateKey(""), fake.Client(customer), context.Background()
	id := aws.String(key.ID())
	if _, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(100)}); err != nil {
		t.Fatal(err)
	}
	due := clock.now.AddDate(0, 0, 100)
	var blobs [][]byte
	var ids []string
	for i := range 26 {
		clock.pass(time.Hour)
		out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte{byte(i)}})
		if err != nil {
			t.Fatal(err)
		}
		blobs, ids = append(blobs, out.CiphertextBlob), append(ids, key.MaterialID())
		rotated, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
		if i < 25 && (err != nil || *rotated.KeyId != key.ID()) {
			t.Fatal(i, err)
		}
		if i == 25 {
			wantCode(t, err, "LimitExceededException")
		}
	}
	for i, blob := range blobs {
		out, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob})
		if err != nil || out.Plaintext[0] != byte(i) || *out.KeyMaterialId != ids[i] {
			t.Errorf("generation %d: %+v, %v", i, out, err)
		}
	}
	status, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
	if err != nil || !status.KeyRotationEnabled || !status.NextRotationDate.Equal(due) || *status.RotationPeriodInDays != 100 {
		t.Errorf("the schedule: %+v, %v", status, err)
	}
	clock.now = due
	if key.MaterialID() == ids[25] {
		t.Error("the limit stopped the automatic rotation, too")
	}
}

// ListKeyRotations pages through what happened, oldest first; the first material
// and what waits are in it only on demand.
func TestListKeyRotations(t *testing.T) {
	clock := newClock()
	fake := New(&Options{TB: t, Now: clock.Now})
	key, c, ctx := fake.Account(customer).CreateKey(""), fake.Client(customer), context.Background()
	id := aws.String(key.ARN())
	first := key.MaterialID()
	for range 3 {
		clock.pass(time.Hour)
		if _, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	clock.pass(365 * day)
	var got []types.RotationsListEntry
	var marker *string
	for pages := 0; ; pages++ {
		out, err := c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id, Limit: aws.Int32(2), Marker: marker,
			IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial})
		if err != nil || len(out.Rotations) > 2 || out.Truncated != (out.NextMarker != nil) {
			t.Fatal(out, err)
		}
		got = append(got, out.Rotations...)
		if marker = out.NextMarker; marker == nil {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	if len(got) != 5 || *got[0].KeyMaterialId != first || got[0].RotationDate != nil || got[0].RotationType != "" {
		t.Fatalf("%+v", got)
	}
	for i, e := range got {
		want, state := types.RotationTypeOnDemand, types.KeyMaterialStateNonCurrent
		switch i {
		case 0:
			want = ""
		case 4:
			want, state = types.RotationTypeAutomatic, types.KeyMaterialStateCurrent
		}
		if e.RotationType != want || e.KeyMaterialState != state || *e.KeyId != key.ID() || e.ImportState != "" || e.ExpirationModel != "" {
			t.Errorf("%d: %+v", i, e)
		}
		if i > 1 && !e.RotationDate.After(*got[i-1].RotationDate) {
			t.Errorf("%d is not after the one before", i)
		}
	}
	out, err := c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id})
	if err != nil || len(out.Rotations) != 4 || *out.Rotations[0].KeyMaterialId == first {
		t.Errorf("rotations only: %+v, %v", out, err)
	}
	_, err = c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id, Marker: aws.String("%")})
	wantCode(t, err, "InvalidMarkerException")
}

// A key that waits for its deletion shows no rotation and makes none; a
// cancellation brings the schedule back, and what is due comes with Enable.
func TestRotationWaitsWithTheKey(t *testing.T) {
	clock := newClock()
	fake := New(&Options{TB: t, Now: clock.Now})
	key, c, ctx := fake.Account(customer).CreateKey(""), fake.Client(customer), context.Background()
	id := aws.String(key.ID())
	if _, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(90)}); err != nil {
		t.Fatal(err)
	}
	old := key.MaterialID()
	status := func() bool {
		out, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
		if err != nil {
			t.Fatal(err)
		}
		if out.KeyRotationEnabled != (out.NextRotationDate != nil) {
			t.Errorf("%+v", out)
		}
		return out.KeyRotationEnabled
	}
	clock.pass(80 * day)
	key.ScheduleDeletion(30)
	clock.pass(20 * day)
	if status() || key.MaterialID() != old {
		t.Error("a key that is to be deleted rotates")
	}
	key.CancelDeletion()
	if !status() || key.MaterialID() != old {
		t.Error("disabled: the schedule is there, the rotation is not")
	}
	key.Enable()
	if key.MaterialID() == old {
		t.Error("the rotation that was due did not come with Enable")
	}
}

// Rotation is for symmetric keys whose material KMS made.
func TestRotationOfOtherKinds(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	create := func(in kms.CreateKeyInput) (string, *string) {
		out, err := c.CreateKey(ctx, &in)
		if err != nil {
			t.Fatal(err)
		}
		return *out.KeyMetadata.Arn, out.KeyMetadata.Arn
	}
	hmacARN, hmacKey := create(kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: usageMac})
	external, externalKey := create(kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	for _, id := range []*string{hmacKey, externalKey} {
		errs := []error{
			second2(c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id})),
			second2(c.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: id})),
			second2(c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})),
		}
		for _, err := range errs {
			wantCode(t, err, "UnsupportedOperationException")
			if id == externalKey {
				wantText(t, err, external+" origin is EXTERNAL which is not valid for this operation.")
			}
		}
	}
	_, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: hmacKey})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: hmacKey})
	wantCode(t, err, "UnsupportedOperationException")
	_, err = c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: externalKey})
	wantText(t, err, external+" is pending import.")
	if hmacARN == external {
		t.Fatal("one key")
	}
}
