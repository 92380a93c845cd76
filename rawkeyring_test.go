package byok_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// rawKeyring wraps data keys under an AES key of this process. It is as careful
// with them as a driver can be, so that what is found in memory is the library's.
type rawKeyring struct{ aead cipher.AEAD }

func newRawKeyring() *rawKeyring {
	kek := make([]byte, 32)
	_, _ = rand.Read(kek)
	block, err := aes.NewCipher(kek)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &rawKeyring{aead}
}

// rawKey is the one key that a rawKeyring is asked for.
var rawKey = byok.KeyID{Provider: "raw", ID: "kek-1"}

// bind is the additional data: the key and the whole context. JSON sorts it.
func (r *rawKeyring) bind(key byok.KeyID, ec byok.EncryptionContext) []byte {
	b, _ := json.Marshal([]any{key, ec})
	return b
}

func (r *rawKeyring) allowed(ec byok.EncryptionContext) error {
	if t := ec[byok.ContextTenant]; t == "" || strings.HasPrefix(t, "probe-") {
		return &byok.KeyError{Class: byok.ClassDenied, Code: "AccessDeniedException"}
	}
	return nil
}

func (r *rawKeyring) GenerateDataKey(_ context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	if err := r.allowed(ec); err != nil {
		return nil, byok.Wrapped{}, err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	wrapped := r.aead.Seal(nil, nil, raw, r.bind(key, ec))
	dek, err := byok.NewDEK(raw)
	return dek, byok.Wrapped{Bytes: wrapped}, err
}

func (r *rawKeyring) WrapDataKey(_ context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (w byok.Wrapped, err error) {
	if err := r.allowed(ec); err != nil {
		return byok.Wrapped{}, err
	}
	err = dek.Use(func(raw []byte) error { w.Bytes = r.aead.Seal(nil, nil, raw, r.bind(key, ec)); return nil })
	return w, err
}

func (r *rawKeyring) UnwrapDataKey(_ context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	if err := r.allowed(ec); err != nil {
		return nil, byok.Receipt{}, err
	}
	raw, err := r.aead.Open(make([]byte, 0, 32), nil, wrapped, r.bind(key, ec))
	if err != nil {
		return nil, byok.Receipt{}, &byok.KeyError{Class: byok.ClassBlob, Err: err}
	}
	dek, err := byok.NewDEK(raw)
	return dek, byok.Receipt{}, err
}

// tapKeyring remembers every data key that passes, in a form that a scan of this
// process's memory does not find.
type tapKeyring struct {
	byok.Keyring
	mu     sync.Mutex
	masked [][]byte
}

// mask makes the tap's own copies look like nothing.
const mask = 0xa5

func (s *tapKeyring) tap(dek *byok.DEK) {
	if dek == nil {
		return
	}
	b := make([]byte, 32)
	_ = dek.Use(func(raw []byte) error {
		for i := range raw {
			b[i] = raw[i] ^ mask
		}
		return nil
	})
	s.mu.Lock()
	s.masked = append(s.masked, b)
	s.mu.Unlock()
}

func (s *tapKeyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	d, w, err := s.Keyring.GenerateDataKey(ctx, key, ec)
	s.tap(d)
	return d, w, err
}

func (s *tapKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	d, r, err := s.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
	s.tap(d)
	return d, r, err
}

// What a child needs to ask a KMS that is in another process: this one.
const wireAccessKey, wireSecret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY01"

func wireConfig(url string) aws.Config {
	return aws.Config{BaseEndpoint: aws.String(url), Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: wireAccessKey, SecretAccessKey: wireSecret}, nil
	})}
}

// serveKMS serves a fake with a CMK for the tenant acme.
func serveKMS(t *testing.T) (url, arn string) {
	t.Helper()
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	fake.RegisterAccessKey(wireAccessKey, byoktest.PlatformRole, wireSecret)
	policy := awskms.KeyPolicy(byoktest.Account, byoktest.PlatformRole,
		byok.EncryptionContext{byok.ContextTenant: "acme", byok.ContextService: byoktest.Service})
	cmk := fake.Account(byoktest.Account).CreateKey(policy.JSON())
	srv := httptest.NewServer(fake.Handler())
	t.Cleanup(srv.Close)
	return srv.URL, cmk.ARN()
}
