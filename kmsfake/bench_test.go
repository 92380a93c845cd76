package kmsfake

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// A policy as a platform would have it: delegation, and one statement bound to
// the tenant's context.
const benchPolicy = `{"Statement":[
	{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},
	{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":["kms:GenerateDataKey","kms:Decrypt","kms:Encrypt"],
	 "Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"acme"}}}]}`

var benchContext = map[string]string{"tenant": "acme", "purpose": "invoices", "service": "example"}

func benchmark(b *testing.B, face func(*KMS) API, decrypt bool) {
	fake := New(nil)
	key := fake.Account(customer).CreateKey(benchPolicy)
	fake.RegisterAccessKey("AKIABENCH", role)
	c, ctx := face(fake), context.Background()
	gen := &kms.GenerateDataKeyInput{KeyId: aws.String(key.ARN()), KeySpec: types.DataKeySpecAes256, EncryptionContext: benchContext}
	out, err := c.GenerateDataKey(ctx, gen)
	if err != nil {
		b.Fatal(err)
	}
	dec := &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, KeyId: aws.String(key.ARN()), EncryptionContext: benchContext}
	b.ReportAllocs()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if decrypt {
			_, err = c.Decrypt(ctx, dec)
		} else {
			_, err = c.GenerateDataKey(ctx, gen)
		}
		took = append(took, time.Since(start))
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(quantile(took, 50)), "p50-ns")
	b.ReportMetric(float64(quantile(took, 99)), "p99-ns")
}

// quantile sorts.
func quantile(d []time.Duration, percent int) time.Duration {
	slices.Sort(d)
	return d[len(d)*percent/100]
}

// Half of the calls take at most 30 microseconds in process and 0.25 ms over HTTP,
// on a machine that has nothing else to do; this is where twenty times as much
// would be noticed on one that has.
func TestCallsAreFast(t *testing.T) {
	for name, tt := range map[string]struct {
		face  func(*KMS) API
		bound time.Duration
	}{
		"in process": {func(f *KMS) API { return f.Client(role) }, 20 * 30 * time.Microsecond},
		"over HTTP":  {func(f *KMS) API { return sdkClient(t, f, "AKIABENCH", testSecret) }, 20 * 250 * time.Microsecond},
	} {
		fake := New(nil)
		key := fake.Account(customer).CreateKey(benchPolicy)
		fake.RegisterAccessKey("AKIABENCH", role, testSecret)
		c := tt.face(fake)
		var took []time.Duration
		for range 300 {
			start := time.Now()
			_, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(key.ARN()), KeySpec: types.DataKeySpecAes256, EncryptionContext: benchContext})
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		if p50 := quantile(took, 50); p50 > tt.bound {
			t.Errorf("%s: p50 is %v", name, p50)
		} else {
			t.Logf("%s: p50 %v", name, p50)
		}
	}
}

func BenchmarkInProcess(b *testing.B) {
	face := func(f *KMS) API { return f.Client(role) }
	b.Run("GenerateDataKey", func(b *testing.B) { benchmark(b, face, false) })
	b.Run("Decrypt", func(b *testing.B) { benchmark(b, face, true) })
}

func BenchmarkSDKOverHTTP(b *testing.B) {
	face := func(f *KMS) API { return sdkClient(b, f, "AKIABENCH", testSecret) }
	b.Run("GenerateDataKey", func(b *testing.B) { benchmark(b, face, false) })
	b.Run("Decrypt", func(b *testing.B) { benchmark(b, face, true) })
}
