package awskms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/kmsfake"
)

const (
	platformAccount = "999988887777"
	tenantAccount   = "111122223333"
	role            = "arn:aws:iam::" + platformAccount + ":role/byok-platform"
	testARN         = "arn:aws:kms:us-east-1:" + tenantAccount + ":key/12345678-90ab-cdef-1234-567890abcdef"
	otherARN        = "arn:aws:kms:us-east-1:" + tenantAccount + ":key/00000000-90ab-cdef-1234-567890abcdef"
	accessKey       = "AKIAIOSFODNN7EXAMPLE"
	secretKey       = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY01" // 40 characters
)

// The context of a test carries a tenant as a Keeper's would.
type tenantKey struct{}

func init() {
	tenantOf = func(ctx context.Context) string {
		s, _ := ctx.Value(tenantKey{}).(string)
		return s
	}
}

func withTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

func static(id, secret, token string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}, nil
	})
}

func context4(tenant string) byok.EncryptionContext {
	return byok.EncryptionContext{
		byok.ContextTenant: tenant, byok.ContextService: "example-saas", byok.ContextPurpose: "invoices",
		byok.ContextDataKey: "00112233445566778899aabbccddeeff",
	}
}

// newFake is a KMS with the key of a tenant, whose policy KeyPolicy has written.
func newFake(t *testing.T) (*kmsfake.KMS, *kmsfake.Key) {
	t.Helper()
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	return fake, fake.Account(tenantAccount).CreateKey(KeyPolicy(tenantAccount, role, context4("acme")).JSON())
}

// onWire serves a fake over HTTP and returns a configuration for it.
func onWire(t *testing.T, fake *kmsfake.KMS) aws.Config {
	t.Helper()
	fake.RegisterAccessKey(accessKey, role, secretKey)
	srv := httptest.NewServer(fake.Handler())
	t.Cleanup(srv.Close)
	return aws.Config{BaseEndpoint: aws.String(srv.URL), Credentials: static(accessKey, secretKey, "")}
}

// doer is an HTTP client for the SDK that never touches a network.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func answer(status int, requestID, body string) *http.Response {
	h := http.Header{"Content-Type": {"application/x-amz-json-1.1"}}
	if requestID != "" {
		h.Set("X-Amzn-Requestid", requestID)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewBufferString(body)), ContentLength: int64(len(body))}
}

// realClient is a *kms.Client whose HTTP requests go to do.
func realClient(do doer, change ...func(*kms.Options)) *kms.Client {
	o := kms.Options{Region: "us-east-1", Credentials: static(accessKey, secretKey, "the-session-token"), HTTPClient: do}
	return kms.New(o, change...)
}

func newFrom(t *testing.T, client API, opts *Options) *Keyring {
	t.Helper()
	k, err := NewFromClient(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newDEK(t *testing.T) *byok.DEK {
	t.Helper()
	raw := make([]byte, 32)
	rand.Read(raw)
	dek, err := byok.NewDEK(raw)
	if err != nil {
		t.Fatal(err)
	}
	return dek
}

// operations are the five, as one shape.
func operations(t *testing.T, k *Keyring) map[string]func(context.Context, byok.KeyID) error {
	return map[string]func(context.Context, byok.KeyID) error{
		"GenerateDataKey": func(ctx context.Context, key byok.KeyID) error {
			dek, w, err := k.GenerateDataKey(ctx, key, context4("acme"))
			if err != nil && (dek != nil || len(w.Bytes) > 0 || w.Receipt != (byok.Receipt{})) {
				t.Errorf("GenerateDataKey returned a result beside %v", err)
			}
			return err
		},
		"Encrypt": func(ctx context.Context, key byok.KeyID) error {
			w, err := k.WrapDataKey(ctx, key, newDEK(t), context4("acme"))
			if err != nil && (len(w.Bytes) > 0 || w.Receipt != (byok.Receipt{})) {
				t.Errorf("WrapDataKey returned a result beside %v", err)
			}
			return err
		},
		"Decrypt": func(ctx context.Context, key byok.KeyID) error {
			dek, r, err := k.UnwrapDataKey(ctx, key, []byte("wrapped"), context4("acme"))
			if err != nil && (dek != nil || r != (byok.Receipt{})) {
				t.Errorf("UnwrapDataKey returned a result beside %v", err)
			}
			return err
		},
		"ReEncrypt": func(ctx context.Context, key byok.KeyID) error {
			w, err := k.RewrapDataKey(ctx, key, key, []byte("wrapped"), context4("acme"))
			if err != nil && (len(w.Bytes) > 0 || w.Receipt != (byok.Receipt{})) {
				t.Errorf("RewrapDataKey returned a result beside %v", err)
			}
			return err
		},
		"DescribeKey": func(ctx context.Context, key byok.KeyID) error {
			info, err := k.DescribeKey(ctx, key)
			if err != nil && info != (byok.KeyInfo{}) {
				t.Errorf("DescribeKey returned a result beside %v", err)
			}
			return err
		},
	}
}

// wantClass checks that err is a whole KeyError of the class, and returns it.
func wantClass(t *testing.T, err error, op string, class byok.Class) *byok.KeyError {
	t.Helper()
	ke, ok := err.(*byok.KeyError)
	if !ok {
		t.Fatalf("%s: got %T (%v), want a *byok.KeyError of class %v", op, err, err, class)
	}
	if ke.Class != class || ke.Op != op || ke.Err == nil || ke.Key == (byok.KeyID{}) {
		t.Errorf("%s: got op %q, class %v, cause %v; want class %v", op, ke.Op, ke.Class, ke.Err, class)
	}
	return ke
}

// stub is an API that counts, and answers as its fields say.
type stub struct {
	mu       sync.Mutex
	calls    int
	generate func(context.Context, *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error)
	encrypt  func(context.Context, *kms.EncryptInput) (*kms.EncryptOutput, error)
	decrypt  func(context.Context, *kms.DecryptInput) (*kms.DecryptOutput, error)
	describe func(context.Context, *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error)
	rewrap   func(context.Context, *kms.ReEncryptInput) (*kms.ReEncryptOutput, error)
}

var errStub = errors.New("stub: no answer")

func (s *stub) count() { s.mu.Lock(); s.calls++; s.mu.Unlock() }

func (s *stub) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput, _ ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	s.count()
	if s.generate == nil {
		return nil, errStub
	}
	return s.generate(ctx, in)
}

func (s *stub) Encrypt(ctx context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	s.count()
	if s.encrypt == nil {
		return nil, errStub
	}
	return s.encrypt(ctx, in)
}

func (s *stub) Decrypt(ctx context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	s.count()
	if s.decrypt == nil {
		return nil, errStub
	}
	return s.decrypt(ctx, in)
}

func (s *stub) DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, _ ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	s.count()
	if s.describe == nil {
		return nil, errStub
	}
	return s.describe(ctx, in)
}

func (s *stub) ReEncrypt(ctx context.Context, in *kms.ReEncryptInput, _ ...func(*kms.Options)) (*kms.ReEncryptOutput, error) {
	s.count()
	if s.rewrap == nil {
		return nil, errStub
	}
	return s.rewrap(ctx, in)
}
