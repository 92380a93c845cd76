package kmsfake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// bothFaces runs a test in process and with a real SDK client over HTTP.
func bothFaces(t *testing.T, test func(t *testing.T, f *fixture, c API)) {
	for _, face := range []string{"in process", "over HTTP"} {
		t.Run(face, func(t *testing.T) {
			f := newFixture(t, nil)
			var c API = f.c
			if face == "over HTTP" {
				c = sdkClient(t, f.fake, customer, testSecret)
			}
			test(t, f, c)
		})
	}
}

// pattern is which of n calls fail: "x" for those that do.
func pattern(n int, call func() error) string {
	var b strings.Builder
	for range n {
		if call() != nil {
			b.WriteByte('x')
		} else {
			b.WriteByte('.')
		}
	}
	return b.String()
}

// Which calls a rule strikes: skip, every, count, and the die.
func TestFaultsStrikeTheCallsTheyName(t *testing.T) {
	for _, tt := range []struct {
		fault Fault
		want  string
	}{
		{Fault{}, "xxxxxxxxxx"},
		{Fault{Count: 2}, "xx........"},
		{Fault{Skip: 3}, "...xxxxxxx"},
		{Fault{Skip: 4, Count: 1}, "....x....."}, // the fifth call
		{Fault{Every: 3}, "..x..x..x."},
		{Fault{Every: 3, Count: 2}, "..x..x...."},
		{Fault{Skip: 1, Every: 4}, "....x...x."},
		{Fault{Every: 1}, "xxxxxxxxxx"},
		{Fault{Probability: 1, Count: 1}, "x........."},
	} {
		f := newFixture(t, nil)
		tt.fault.Code, tt.fault.Operation = "KMSInternalException", "Decrypt"
		f.fake.Inject(tt.fault)
		if got := pattern(10, func() error { return second(f.decrypt(f.blob, nil)) }); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.fault, got, tt.want)
		}
	}
}

// A die falls the same in each run, differently for each seed and each rule, and
// about as often as it is told.
func TestFaultsAreSeeded(t *testing.T) {
	const n = 2000
	run := func(seed uint64, before int, p float64) string {
		f := newFixture(t, nil)
		for range before {
			f.fake.Inject(Fault{Operation: "ListKeys", Code: "ThrottlingException"})
		}
		f.fake.Inject(Fault{Probability: p, Seed: seed, Code: "ThrottlingException"})
		return pattern(n, func() error { return second(f.decrypt(f.blob, nil)) })
	}
	one := run(1, 0, 0.1)
	if one != run(1, 0, 0.1) {
		t.Error("the same seed strikes differently")
	}
	if one == run(2, 0, 0.1) || one == run(1, 1, 0.1) {
		t.Error("two dice fall alike")
	}
	for _, p := range []float64{0.01, 0.1, 0.5, 0.9} {
		mean, sd := n*p, math.Sqrt(n*p*(1-p))
		if hits := float64(strings.Count(run(7, 0, p), "x")); math.Abs(hits-mean) > 5*sd {
			t.Errorf("p = %v: %v of %d", p, hits, n)
		}
	}
}

// A rule for a key strikes however a call names it, and a rule for a tenant by
// the encryption context; other keys, tenants, accounts and Regions are left alone.
func TestFaultsKnowKeyAndTenant(t *testing.T) {
	bothFaces(t, func(t *testing.T, f *fixture, c API) {
		ctx := context.Background()
		if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: aws.String(f.key.ID())}); err != nil {
			t.Fatal(err)
		}
		other := f.fake.Account(customer).CreateKey("")
		encrypt := func(id string, ec map[string]string) (*kms.EncryptOutput, error) {
			return c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(id), Plaintext: []byte("x"), EncryptionContext: ec})
		}
		foreign, err := encrypt(other.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		remove := f.fake.Inject(Fault{KeyARN: f.key.ARN(), Code: "KeyUnavailableException"})
		for _, id := range []string{f.key.ARN(), f.key.ID(), "alias/a", aliasARN(DefaultRegion, customer, "alias/a")} {
			wantCode(t, second(encrypt(id, nil)), "KeyUnavailableException")
		}
		_, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: f.blob})
		wantCode(t, err, "KeyUnavailableException")
		_, err = c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: foreign.CiphertextBlob, DestinationKeyId: aws.String(f.key.ID())})
		wantCode(t, err, "KeyUnavailableException")
		wantCode(t, second(encrypt(other.ID(), nil)), "")
		_, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: foreign.CiphertextBlob})
		wantCode(t, err, "")
		remove()

		remove = f.fake.Inject(Fault{EncryptionContext: map[string]string{"tenant": "t1"}, Code: "ThrottlingException"})
		wantCode(t, second(encrypt(f.key.ID(), map[string]string{"tenant": "t1", "more": "m"})), "ThrottlingException")
		wantCode(t, second(encrypt(f.key.ID(), map[string]string{"tenant": "t2"})), "")
		wantCode(t, second(encrypt(f.key.ID(), map[string]string{"Tenant": "t1"})), "")
		wantCode(t, second(encrypt(f.key.ID(), nil)), "")
		remove()

		for _, fault := range []Fault{{Account: "999999999999"}, {Region: "eu-west-1"}, {Principal: role}} {
			fault.Code = "ThrottlingException"
			remove = f.fake.Inject(fault)
			wantCode(t, second(encrypt(f.key.ID(), nil)), "")
			remove()
		}
		for _, fault := range []Fault{{Account: customer}, {Region: DefaultRegion}, {Principal: f.c.who.arn}} {
			fault.Code = "ThrottlingException"
			remove = f.fake.Inject(fault)
			wantCode(t, second(encrypt(f.key.ID(), nil)), "ThrottlingException")
			remove()
		}
	})
}

// What each effect looks like to a client, through either face alike.
func TestEffectsLookTheSameOnBothFaces(t *testing.T) {
	bothFaces(t, func(t *testing.T, f *fixture, c API) {
		gen := func(ctx context.Context) (*kms.GenerateDataKeyOutput, error) {
			return c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(f.key.ID()), KeySpec: types.DataKeySpecAes256})
		}
		once := func(x Fault) (*kms.GenerateDataKeyOutput, error) {
			t.Helper()
			x.Count = 1
			f.fake.Inject(x)
			return gen(context.Background())
		}
		last := func() Call { calls := f.fake.Calls(); return calls[len(calls)-1] }

		_, err := once(Fault{Effect: ConnectionReset})
		var send *smithyhttp.RequestSendError
		if !errors.As(err, &send) || !errors.Is(err, syscall.ECONNRESET) || code(err) != "" {
			t.Errorf("reset: %v (%v)", err, layers(err))
		}
		if c := last(); c.Code != CodeUnreachable || c.RequestID != "" || c.Fault != "reset" {
			t.Errorf("%+v", c)
		}

		before := f.key.MaterialID()
		_, err = once(Fault{Effect: LostAnswer})
		if !errors.As(err, &send) || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("lost answer: %v", err)
		}
		if c := last(); c.Code != "" || c.RequestID == "" || c.Operation != "GenerateDataKey" {
			t.Errorf("a call whose answer is lost happened: %+v", c)
		}

		_, err = once(Fault{Effect: TruncatedAnswer})
		var bad *smithy.DeserializationError
		if !errors.As(err, &bad) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &send) {
			t.Errorf("truncated: %v (%v)", err, layers(err))
		}

		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		f.fake.Inject(Fault{Effect: Hang, Count: 1})
		_, err = gen(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hang: %v", err)
		}

		start := time.Now()
		out, err := once(Fault{Effect: SlowAnswer, Latency: Fixed(60 * time.Millisecond)})
		if err != nil || len(out.Plaintext) != 32 || time.Since(start) < 50*time.Millisecond {
			t.Errorf("slow answer: %v after %v", err, time.Since(start))
		}
		ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
		f.fake.Inject(Fault{Effect: SlowAnswer, Latency: Fixed(time.Minute), Count: 1})
		_, err = gen(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slow answer, given up: %v", err)
		}

		out, err = once(Fault{Effect: WrongKeyID})
		if err != nil || *out.KeyId == f.key.ARN() || !strings.HasPrefix(*out.KeyId, "arn:aws:kms:us-east-1:"+customer+":key/") {
			t.Errorf("wrong key id: %+v, %v", out, err)
		}
		out, err = once(Fault{Effect: WrongMaterialID})
		if err != nil || *out.KeyMaterialId == before || len(*out.KeyMaterialId) != 64 {
			t.Errorf("wrong material id: %+v, %v", out, err)
		}
		for _, n := range []int{0, 31, 33, 64} {
			out, err = once(Fault{Effect: WrongKeyLength, Bytes: n})
			if err != nil || len(out.Plaintext) != n {
				t.Errorf("%d bytes: %d, %v", n, len(out.Plaintext), err)
			}
		}
		if out, err = gen(context.Background()); err != nil || *out.KeyId != f.key.ARN() || len(out.Plaintext) != 32 {
			t.Errorf("after all faults: %v", err)
		}
	})
}

// While one call hangs and another is slow, all others are served at once.
func TestFaultsHoldNobodyElseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.fake.Inject(Fault{Effect: Hang, EncryptionContext: map[string]string{"tenant": "hangs"}})
		f.fake.Inject(Fault{Latency: Fixed(time.Minute), EncryptionContext: map[string]string{"tenant": "slow"}})
		ctx, cancel := context.WithCancel(context.Background())
		results := make(chan error, 2)
		call := func(tenant string) error {
			_, err := f.c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(f.key.ID()), Plaintext: []byte("x"),
				EncryptionContext: map[string]string{"tenant": tenant}})
			return err
		}
		go func() { results <- call("hangs") }()
		go func() { results <- call("slow") }()
		synctest.Wait()
		start := time.Now()
		wantCode(t, call("other"), "")
		if d := time.Since(start); d != 0 {
			t.Errorf("an untouched tenant waited for %v", d)
		}
		if err := <-results; err != nil || time.Since(start) != time.Minute {
			t.Errorf("slow: %v after %v", err, time.Since(start))
		}
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("hang: %v", err)
		}
	})
}

// Latencies of several rules, and of KMS.Latency, add up; each rule's error may
// come after its own.
func TestLatenciesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.fake.Latency(time.Second)
		f.fake.Inject(Fault{Latency: Fixed(2 * time.Second)})
		f.fake.Inject(Fault{Latency: Fixed(4 * time.Second), Code: "DependencyTimeoutException"})
		f.fake.Inject(Fault{Code: "ThrottlingException"}) // the call has its fate already
		start := time.Now()
		wantCode(t, second(f.decrypt(f.blob, nil)), "DependencyTimeoutException")
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// A distribution has the quantiles that it was asked for.
func TestDelaysHaveTheirQuantiles(t *testing.T) {
	const n = 100_000
	ms := time.Millisecond
	for _, tt := range []struct {
		d                    Delay
		p50, p99, least, top time.Duration
	}{
		{Fixed(10 * ms), 10 * ms, 10 * ms, 10 * ms, 10 * ms},
		{Uniform(10*ms, 20*ms), 15 * ms, 19900 * time.Microsecond, 10 * ms, 20 * ms},
		{Exponential(10 * ms), 10 * ms, 66400 * time.Microsecond, 0, maxDelay},
		{LogNormal(10*ms, 80*ms), 10 * ms, 80 * ms, 0, maxDelay},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		draws := make([]time.Duration, n)
		for i := range draws {
			draws[i] = tt.d.draw(r)
		}
		slices.Sort(draws)
		near := func(got, want time.Duration) bool { return math.Abs(float64(got-want)) <= 0.03*float64(want) }
		if !near(draws[n/2], tt.p50) || !near(draws[n*99/100], tt.p99) || draws[0] < tt.least || draws[n-1] > tt.top {
			t.Errorf("%v: p50 %v, p99 %v, from %v to %v", tt.d, draws[n/2], draws[n*99/100], draws[0], draws[n-1])
		}
		text, _ := json.Marshal(tt.d)
		var back Delay
		if err := json.Unmarshal(text, &back); err != nil || back != tt.d {
			t.Errorf("%s: %v, %v", text, back, err)
		}
	}
	if d := LogNormal(time.Hour, time.Hour).draw(rand.New(rand.NewPCG(1, 2))); d != time.Hour {
		t.Errorf("a narrow one: %v", d)
	}
	for _, bad := range []string{"10", "fast", "fixed", "uniform 10ms", "uniform 20ms 10ms", "lognormal 0s 10ms", "exponential 0s",
		"-1ms", "2h", "10ms 20ms", "lognormal 20ms 10ms", "normal 10ms 20ms", "9999999h"} {
		var d Delay
		if err := d.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is %v", bad, d)
		}
	}
}

// A rule that makes no sense is a mistake in the test, never one that does nothing.
func TestFaultsThatMakeNoSense(t *testing.T) {
	good := Fault{Code: "ThrottlingException"}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []Fault{
		{}, {Effect: "explode"}, {Effect: SlowAnswer}, {Effect: Hang, Code: "X"}, {Code: "X", Bytes: 1},
		{Effect: WrongKeyLength, Bytes: -1}, {Effect: WrongKeyLength, Bytes: 5000}, {Code: "X", Probability: 1.1},
		{Code: "X", Probability: -0.1}, {Code: "X", Probability: math.NaN()}, {Code: "X", Skip: -1}, {Code: "X", Every: -1},
		{Code: "X", Status: 200}, {Effect: Hang, Message: "m"}, {Code: "X", Operation: "decrypt"}, {Code: "X", Account: "1"},
		{Code: "X", KeyARN: "alias/a"}, {Code: "X", Principal: "somebody"}, {Latency: Uniform(2, 1)}, {Latency: Fixed(-1)},
		{Latency: Fixed(2 * time.Hour)},
	} {
		if err := x.check(); err == nil {
			t.Errorf("%+v passed", x)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Inject took %+v", x)
				}
			}()
			New(nil).Inject(x)
		}()
	}
}

// Each account has AWS's shared quota in each Region, and time fills it again.
func TestThrottleIsAQuotaPerCallingAccountAndRegion(t *testing.T) {
	f := newFixture(t, nil)
	f.key.SetPolicy(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`)
	now := time.Unix(1e9, 0)
	f.fake.wall = func() time.Time { return now }
	f.fake.Throttle(10)
	ctx := context.Background()
	stranger := f.fake.Client("444455556666")
	call := func(c *Client) error {
		return second(c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(f.key.ARN()), Plaintext: []byte("x")}))
	}
	if got := pattern(15, func() error { return call(f.c) }); got != "..........xxxxx" {
		t.Error(got)
	}
	err := call(f.c)
	wantCode(t, err, "ThrottlingException")
	if !strings.Contains(err.Error(), "exceeded the rate at which you may call KMS") {
		t.Error(err)
	}
	// The quota is shared by the symmetric operations, and by no others.
	wantCode(t, second(f.c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(f.key.ID()), KeySpec: "AES_256"})), "ThrottlingException")
	wantCode(t, second(f.decrypt(f.blob, nil)), "ThrottlingException")
	wantCode(t, second(f.c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(f.key.ID())})), "")
	// Not the key's account counts, but the caller's; and each Region for itself.
	if got := pattern(11, func() error { return call(stranger) }); got != "..........x" {
		t.Error(got)
	}
	_, err = f.c.Region("eu-west-1").Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(f.key.ID()), Plaintext: []byte("x")})
	wantCode(t, err, "NotFoundException")
	for range 2 {
		f.fake.Advance(500 * time.Millisecond)
		if got := pattern(8, func() error { return call(f.c) }); got != ".....xxx" {
			t.Error(got)
		}
	}
	f.fake.Advance(time.Hour) // no more than a second's worth is saved up
	if got := pattern(12, func() error { return call(f.c) }); got != "..........xx" {
		t.Error(got)
	}
	f.fake.SetTime(now) // back: nothing is taken away, nothing given
	wantCode(t, call(f.c), "ThrottlingException")
	f.fake.Throttle(0)
	wantCode(t, call(f.c), "")
	f.fake.Throttle(AWSQuota)
	wantCode(t, call(f.c), "")
	if DefaultQuota("us-east-1") != 100_000 || DefaultQuota("eu-central-1") != 20_000 || DefaultQuota("sa-east-1") != 10_000 {
		t.Error("the quotas of the developer guide")
	}
}

// Who calls with ever new accounts takes no memory without end.
func TestBucketsAreBounded(t *testing.T) {
	fake := New(&Options{TB: t})
	fake.Throttle(1)
	for i := range 3 * maxBuckets / 2 {
		who, _ := parsePrincipal(fmt.Sprintf("%012d", i))
		fake.throttled("Decrypt", caller{who: &who, region: DefaultRegion}, fake.now())
	}
	if n := len(fake.buckets); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
}
