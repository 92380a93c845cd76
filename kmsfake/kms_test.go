package kmsfake

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	customer = "111122223333"
	vendor   = "444455556666"
	role     = "arn:aws:iam::444455556666:role/vendor"
	appRole  = "arn:aws:iam::111122223333:role/app"
)

// A round trip, and what it is all for: the customer says stop.
func TestDisableStops(t *testing.T) {
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey("")
	c := fake.Client(key.f.Account(customer).Root())
	ctx := context.Background()
	out, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(key.ARN()), KeySpec: types.DataKeySpecAes256})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a blob of a 32 byte key has %d bytes", len(out.CiphertextBlob))
	in := &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, KeyId: aws.String(key.ARN())}
	if dec, err := c.Decrypt(ctx, in); err != nil || string(dec.Plaintext) != string(out.Plaintext) {
		t.Fatal(dec, err)
	}
	key.Disable()
	var disabled *types.DisabledException
	if _, err := c.Decrypt(ctx, in); !errors.As(err, &disabled) {
		t.Fatalf("Decrypt under a disabled key: %v", err)
	}
	key.Enable()
	if _, err := c.Decrypt(ctx, in); err != nil {
		t.Fatal(err)
	}
	if calls := fake.Calls(); len(calls) != 4 || calls[2].Code != "DisabledException" {
		t.Fatalf("%+v", calls)
	}
}
