package kmsfake

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"pgregory.net/rapid"
)

// Until a change has arrived, use goes on as before, and not a moment longer;
// what describes the key tells of it at once.
func TestChangesPropagate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		ctx := context.Background()
		id := aws.String(f.key.ID())
		const delay = 30 * time.Second
		f.fake.Propagation(delay)
		decrypts := func(want string) {
			t.Helper()
			wantCode(t, second(f.decrypt(f.blob, nil)), want)
		}
		state := func() types.KeyState {
			out, err := f.c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
			if err != nil {
				t.Fatal(err)
			}
			return out.KeyMetadata.KeyState
		}

		if _, err := f.c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id}); err != nil {
			t.Fatal(err)
		}
		if state() != types.KeyStateDisabled || f.key.State() != types.KeyStateDisabled {
			t.Error("the description is old")
		}
		time.Sleep(delay - 1)
		decrypts("")
		time.Sleep(time.Nanosecond)
		decrypts("DisabledException")
		f.key.Enable() // the owner's hand is no faster
		time.Sleep(delay - 1)
		decrypts("DisabledException")
		time.Sleep(time.Nanosecond)
		decrypts("")

		// Which change may follow which goes by the new state.
		if _, err := f.c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id}); err != nil {
			t.Fatal(err)
		}
		decrypts("")
		time.Sleep(delay)
		decrypts("")

		// A policy: denied callers go on; the owner reads what was put.
		who := f.c.who.arn
		before := f.key.Policy()
		f.key.DenyTo(who)
		if f.key.Policy() == before {
			t.Error("the policy reads as before")
		}
		time.Sleep(delay - 1)
		decrypts("")
		if out, err := f.c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: id}); err != nil || *out.Policy != f.key.Policy() {
			t.Errorf("%v: GetKeyPolicy answers an old policy", err)
		}
		time.Sleep(time.Nanosecond)
		decrypts("AccessDeniedException")
		f.key.AllowTo(who)
		time.Sleep(delay - 1)
		decrypts("AccessDeniedException")
		time.Sleep(time.Nanosecond)
		decrypts("")

		// Without a delay a change is at once, and overtakes what is still on its way.
		f.key.Disable()
		f.fake.Propagation(0)
		f.key.DenyTo(who)
		decrypts("AccessDeniedException")
		f.key.AllowTo(who)
		decrypts("")
		f.key.Enable()
		f.key.Disable()
		decrypts("DisabledException")
		time.Sleep(delay)
		decrypts("DisabledException")
	})
}

// Decisions see the changes in the order of their arrival, the last one to
// arrive wins, and no delay makes two of them different from what a plain list
// of arrivals says.
func TestPropagationAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		fake := New(&Options{Now: func() time.Time { return now }})
		key := fake.Account(customer).CreateKey("")
		c := fake.Client(customer)
		type arrival struct {
			at    time.Time
			state types.KeyState
		}
		arrivals := []arrival{{now, types.KeyStateEnabled}}
		change := func(s types.KeyState) {
			if arrivals[len(arrivals)-1].state != s { // disabling twice changes nothing
				arrivals = append(arrivals, arrival{now.Add(fake.propagation), s})
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				fake.Propagation(time.Duration(rapid.IntRange(0, 5).Draw(t, "delay")) * time.Second)
			case 1:
				now = now.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "passes")) * time.Second)
			case 2:
				key.Disable()
				change(types.KeyStateDisabled)
			case 3:
				key.Enable()
				change(types.KeyStateEnabled)
			}
			want := ""
			for i := len(arrivals) - 1; i >= 0; i-- { // the newest change that has arrived
				if !now.Before(arrivals[i].at) {
					if arrivals[i].state == types.KeyStateDisabled {
						want = "DisabledException"
					}
					break
				}
			}
			_, err := c.Encrypt(context.Background(), &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: []byte("x")})
			if code(err) != want {
				t.Fatalf("%v, want %q", err, want)
			}
			if latest := arrivals[len(arrivals)-1].state; key.State() != latest {
				t.Fatalf("described as %s, is %s", key.State(), latest)
			}
		}
	})
}

// What is still on its way arrives after a restart as well, and the clock goes on
// from where it was.
func TestPropagationAndClockSurviveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	now := time.Unix(1e9, 0)
	open := func() *KMS { return New(&Options{TB: t, File: file, Now: func() time.Time { return now }}) }
	fake := open()
	key := fake.Account(customer).CreateKey("")
	fake.Advance(40 * day)
	fake.Propagation(time.Minute)
	key.Disable()
	key.SetPolicy(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:*","Resource":"*"}]}`)
	encrypt := func() error {
		return second(fake.Client(customer).Encrypt(context.Background(), &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: []byte("x")}))
	}
	wantCode(t, encrypt(), "")
	fake.Close()
	fake = open()
	defer fake.Close()
	if got := fake.Now().Sub(now); got != 40*day {
		t.Errorf("the clock is %v ahead", got)
	}
	wantCode(t, encrypt(), "")
	fake.Advance(time.Minute)
	wantCode(t, encrypt(), "AccessDeniedException")
	fake.Account(customer).Key(key.ID()).SetPolicy(defaultPolicy(DefaultRegion, customer))
	wantCode(t, encrypt(), "DisabledException")
}

// Advance drives what time drives: deletion windows and rotation, without sleep.
func TestAdvance(t *testing.T) {
	f := newFixture(t, nil)
	ctx := context.Background()
	id := aws.String(f.key.ID())
	if _, err := f.c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(90)}); err != nil {
		t.Fatal(err)
	}
	before := f.key.MaterialID()
	f.fake.Advance(90 * day)
	if f.key.MaterialID() == before {
		t.Error("not rotated")
	}
	f.key.ScheduleDeletion(7)
	f.fake.Advance(7*day - time.Second)
	wantCode(t, second(f.decrypt(f.blob, nil)), "KMSInvalidStateException")
	f.fake.Advance(2 * time.Second)
	wantCode(t, second(f.decrypt(f.blob, nil, f.key.ARN())), "NotFoundException")
	// A client whose own clock did not move is not told that its signature expired.
	f.fake.RegisterAccessKey("AKIASIGNED", customer, testSecret)
	if _, err := sdkClient(t, f.fake, "AKIASIGNED", testSecret).ListKeys(ctx, nil); err != nil {
		t.Error(err)
	}
	year := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	f.fake.SetTime(year)
	if d := f.fake.Now().Sub(year); d < 0 || d > time.Minute {
		t.Errorf("it is %v", f.fake.Now())
	}
	defer func() {
		if recover() == nil {
			t.Error("Advance went back")
		}
	}()
	New(nil).Advance(-1)
}
