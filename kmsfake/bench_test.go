package kmsfake

import (
	"context"
	"testing"

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
	for b.Loop() {
		if decrypt {
			_, err = c.Decrypt(ctx, dec)
		} else {
			_, err = c.GenerateDataKey(ctx, gen)
		}
		if err != nil {
			b.Fatal(err)
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
