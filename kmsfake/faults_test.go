package kmsfake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func TestFaultsAreCountedAndFiltered(t *testing.T) {
	f := newFixture(t, nil)
	other := f.fake.Account(customer).CreateKey("")
	describe := func(c *Client, k *Key) string {
		_, err := c.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(k.ARN())})
		return code(err)
	}
	f.fake.Fail("DescribeKey", "ThrottlingException", 2)
	got := []string{describe(f.c, f.key), describe(f.c, f.key), describe(f.c, f.key)}
	if fmt.Sprint(got) != "[ThrottlingException ThrottlingException ]" {
		t.Error(got)
	}
	f.fake.Fail("Decrypt", "ThrottlingException", 1)
	if describe(f.c, f.key) != "" {
		t.Error("a fault of Decrypt hit DescribeKey")
	}
	remove := f.fake.Inject(Fault{KeyARN: other.ARN(), Code: "AccessDeniedException", Message: "because we say so"})
	if describe(f.c, f.key) != "" || describe(f.c, other) != "AccessDeniedException" || describe(f.c, other) != "AccessDeniedException" {
		t.Error("the fault of one key")
	}
	remove()
	remove()
	remove = f.fake.Inject(Fault{Principal: role, Code: "ExpiredTokenException"})
	if describe(f.c, f.key) != "" || describe(f.fake.Client(role), f.key) != "ExpiredTokenException" {
		t.Error("the fault of one principal")
	}
	remove()
	if describe(f.c, other) != "" {
		t.Error("a removed fault strikes")
	}
	wantCode(t, second(f.decrypt(f.blob, nil)), "ThrottlingException") // still waiting for its one call
}

// What the comments on Fault.Count and Fail say of 0.
func TestFaultWithoutACount(t *testing.T) {
	f := newFixture(t, nil)
	for _, count := range []int{0, -1} {
		remove := f.fake.Inject(Fault{Operation: "Decrypt", Code: "ThrottlingException", Count: count})
		for range 50 {
			wantCode(t, second(f.decrypt(f.blob, nil)), "ThrottlingException")
		}
		remove()
		if _, err := f.decrypt(f.blob, nil); err != nil {
			t.Errorf("Count %d, removed: %v", count, err)
		}
	}
	for _, n := range []int{0, -1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Fail took n = %d", n)
				}
			}()
			New(nil).Fail("Decrypt", "ThrottlingException", n)
		}()
	}
}

func TestOutage(t *testing.T) {
	f := newFixture(t, nil)
	first, again := f.fake.Outage(), f.fake.Outage()
	_, err := f.decrypt(f.blob, nil)
	var send *smithyhttp.RequestSendError
	var op *net.OpError
	if code(err) != "" || !errors.As(err, &send) || !send.ConnectionError() || !errors.As(err, &op) {
		t.Errorf("%v (%v)", err, layers(err))
	}
	calls := f.fake.Calls()
	if last := calls[len(calls)-1]; last.Code != CodeUnreachable || last.RequestID != "" || last.Operation != "Decrypt" {
		t.Errorf("%+v", last)
	}
	first()
	first()
	if _, err := f.decrypt(f.blob, nil); err == nil {
		t.Error("one of two outages is over, and calls succeed")
	}
	again()
	if _, err := f.decrypt(f.blob, nil); err != nil {
		t.Error(err)
	}
	// On the wire the connection ends, and the log is the same.
	restore := f.fake.Outage()
	defer restore()
	_, err = sdkClient(t, f.fake, customer, testSecret).ListKeys(context.Background(), nil)
	if !errors.As(err, &send) {
		t.Errorf("on the wire: %v", err)
	}
	calls = f.fake.Calls()
	if last := calls[len(calls)-1]; last.Code != CodeUnreachable || last.Operation != "ListKeys" {
		t.Errorf("%+v", last)
	}
}

// Latency is travel: a call that is on its way is overtaken by a revocation, and
// an answer that is on its way is not.
func TestLatencyInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.fake.Latency(10 * time.Second)
		results := make(chan error, 1)
		start := time.Now()
		go func() { results <- second(f.decrypt(f.blob, nil)) }()
		time.Sleep(4 * time.Second)
		f.key.Disable() // takes no time, though a call is waiting: no lock is held
		wantCode(t, <-results, "DisabledException")
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("took %v", d)
		}
		f.key.Enable()
		go func() { results <- second(f.decrypt(f.blob, nil)) }()
		time.Sleep(6 * time.Second)
		f.key.Disable()
		if err := <-results; err != nil {
			t.Errorf("decided before it was disabled: %v", err)
		}
		f.key.Enable()

		// A caller who stops waiting for the answer has been served all the same.
		for after, logged := range map[time.Duration]int{time.Second: 0, 7 * time.Second: 1} {
			f.fake.ResetCalls()
			ctx, cancel := context.WithTimeout(context.Background(), after)
			start = time.Now()
			_, err := f.c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(f.key.ID())})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != after || len(f.fake.Calls()) != logged {
				t.Errorf("after %v: %v, %d calls", time.Since(start), err, len(f.fake.Calls()))
			}
			cancel()
		}
	})
}

// Time passes on the bubble's clock: deletion windows and rotations.
func TestTimeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ctx := context.Background()
		id := aws.String(f.key.ID())
		if _, err := f.c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(90)}); err != nil {
			t.Fatal(err)
		}
		before := f.key.MaterialID()
		time.Sleep(90*day - time.Second)
		if f.key.MaterialID() != before {
			t.Error("rotated too early")
		}
		time.Sleep(time.Second)
		if f.key.MaterialID() == before {
			t.Error("not rotated")
		}
		time.Sleep(1000 * day)
		status, err := f.c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
		if err != nil || !status.NextRotationDate.After(time.Now()) {
			t.Errorf("%+v, %v", status, err)
		}
		out, err := f.c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)})
		if err != nil || !out.DeletionDate.Equal(time.Now().Add(7*day)) {
			t.Fatal(out, err)
		}
		time.Sleep(7*day - time.Second)
		wantCode(t, second(f.decrypt(f.blob, nil)), "KMSInvalidStateException")
		time.Sleep(time.Second)
		wantCode(t, second(f.decrypt(f.blob, nil, f.key.ARN())), "NotFoundException")
		if keys, err := f.c.ListKeys(ctx, nil); err != nil || len(keys.Keys) != 0 {
			t.Errorf("%+v, %v", keys, err)
		}
	})
}

func TestTamper(t *testing.T) {
	f := newFixture(t, nil)
	f.fake.Tamper(func(op string, out any) {
		switch out := out.(type) {
		case *kms.GenerateDataKeyOutput:
			out.Plaintext = out.Plaintext[:5]
		case *kms.DecryptOutput:
			out.KeyId = aws.String("another")
		}
	})
	ctx := context.Background()
	for _, c := range []API{f.c, sdkClient(t, f.fake, customer, testSecret)} {
		gen, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(f.key.ID()), KeySpec: types.DataKeySpecAes256})
		if err != nil || len(gen.Plaintext) != 5 {
			t.Errorf("%T: %v, %v", c, gen, err)
		}
		dec, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: f.blob})
		if err != nil || *dec.KeyId != "another" {
			t.Errorf("%T: %v, %v", c, dec, err)
		}
	}
	f.fake.Tamper(nil)
	if dec, err := f.c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: f.blob}); err != nil || *dec.KeyId != f.key.ARN() {
		t.Error(dec, err)
	}
}

// Everybody at once: no race, no lost call, and a disabled key is disabled.
func TestConcurrency(t *testing.T) {
	f := newFixture(t, nil)
	off := f.fake.Account(customer).CreateKey("")
	off.Disable()
	f.fake.ResetCalls()
	const workers, rounds = 64, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			ctx := context.Background()
			key := f.fake.Account(customer).CreateKey("")
			for i := range rounds {
				ec := map[string]string{"w": fmt.Sprint(w), "i": fmt.Sprint(i)}
				out, err := f.c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(key.ARN()), KeySpec: types.DataKeySpecAes256, EncryptionContext: ec})
				if err != nil {
					t.Error(err)
					return
				}
				dec, err := f.c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: ec})
				if err != nil || !bytes.Equal(dec.Plaintext, out.Plaintext) {
					t.Error(err)
				}
				_, err = f.c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(off.ARN()), Plaintext: []byte("x")})
				wantCode(t, err, "DisabledException")
				key.Rotate()
				key.DenyTo(role)
				key.AllowTo(role)
				if i%20 == 0 {
					f.fake.Calls()
				}
			}
			key.Delete()
		})
	}
	wg.Wait()
	if n := len(f.fake.Calls()); n != workers*rounds*3 {
		t.Errorf("%d calls logged, want %d", n, workers*rounds*3)
	}
	seen := make(map[string]bool)
	for _, c := range f.fake.Calls() {
		if seen[c.RequestID] {
			t.Fatalf("request id %s twice", c.RequestID)
		}
		seen[c.RequestID] = true
	}
}

// The log is bounded, and keeps the newest.
func TestLogIsBounded(t *testing.T) {
	fake := New(&Options{TB: t})
	fake.mu.Lock()
	for i := range maxCalls + 10 {
		fake.record(Call{Operation: fmt.Sprint(i)})
	}
	fake.mu.Unlock()
	calls := fake.Calls()
	if len(calls) > maxCalls || len(calls) < maxCalls/2 || calls[len(calls)-1].Operation != fmt.Sprint(maxCalls+9) {
		t.Errorf("%d calls, the last is %s", len(calls), calls[len(calls)-1].Operation)
	}
}

// A log entry is a copy: neither the caller's map nor the reader's can change it.
func TestLogOwnsItsContext(t *testing.T) {
	ec := map[string]string{"tenant": "t1"}
	f := newFixture(t, ec)
	ec["tenant"] = "t2"
	f.fake.Calls()[0].EncryptionContext["tenant"] = "t3"
	c := f.fake.Calls()[0]
	if c.EncryptionContext["tenant"] != "t1" || c.KeyARN != f.key.ARN() || c.Principal != f.c.who.arn || c.Region != DefaultRegion {
		t.Errorf("%+v", c)
	}
	// A refused call says what it asked, too.
	f.fake.Client(role).Decrypt(context.Background(), &kms.DecryptInput{
		CiphertextBlob: f.blob, KeyId: aws.String(f.key.ARN()), EncryptionContext: map[string]string{"tenant": "t9"}})
	c = f.fake.Calls()[1]
	if c.Code != "AccessDeniedException" || c.EncryptionContext["tenant"] != "t9" || c.KeyARN != f.key.ARN() || !strings.Contains(c.Message, "kms:Decrypt") {
		t.Errorf("%+v", c)
	}
}
