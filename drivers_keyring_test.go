package byok_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/keyringtest"
)

// The Keyring of docs/drivers.md, on a KMS that is as small as one can be.

// exampleKMS answers as a service would, with errors that have codes.
type exampleKMS struct {
	mu       sync.Mutex
	keys     map[string]cipher.AEAD
	disabled map[string]bool
	slow     time.Duration
	calls    int
}

type exampleOut struct {
	Key, RequestID     string
	Plaintext, Wrapped []byte
}

// exampleRefusal is an answer that says no.
type exampleRefusal struct{ code string }

func (r exampleRefusal) Error() string { return "example KMS: " + r.code }

func newExampleKMS(names ...string) *exampleKMS {
	k := &exampleKMS{keys: map[string]cipher.AEAD{}, disabled: map[string]bool{}}
	for _, n := range names {
		kek := make([]byte, 32)
		_, _ = rand.Read(kek)
		block, err := aes.NewCipher(kek)
		if err != nil {
			panic(err)
		}
		if k.keys[n], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			panic(err)
		}
	}
	return k
}

// enter does what every request has to pass.
func (k *exampleKMS) enter(ctx context.Context, key string) (cipher.AEAD, exampleOut, error) {
	k.mu.Lock()
	k.calls++
	aead, disabled, slow := k.keys[key], k.disabled[key], k.slow
	out := exampleOut{Key: key, RequestID: fmt.Sprint("request-", k.calls)}
	k.mu.Unlock()
	wait := time.NewTimer(slow)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return nil, out, err
	}
	switch {
	case aead == nil:
		return nil, out, exampleRefusal{"NoSuchKey"}
	case disabled:
		return nil, out, exampleRefusal{"Disabled"}
	}
	return aead, out, nil
}

func exampleContext(ec map[string]string) []byte {
	b, _ := json.Marshal(maps.Collect(maps.All(ec))) // in the order of names; none is {}, as an empty one
	return b
}

func (k *exampleKMS) Encrypt(ctx context.Context, key string, plain []byte, ec map[string]string) (exampleOut, error) {
	aead, out, err := k.enter(ctx, key)
	if err == nil {
		out.Wrapped = aead.Seal(nil, nil, plain, exampleContext(ec))
	}
	return out, err
}

func (k *exampleKMS) Decrypt(ctx context.Context, key string, wrapped []byte, ec map[string]string) (exampleOut, error) {
	aead, out, err := k.enter(ctx, key)
	if err == nil {
		if out.Plaintext, err = aead.Open(nil, nil, wrapped, exampleContext(ec)); err != nil {
			err = exampleRefusal{"BadCiphertext"}
		}
	}
	return out, err
}

// exampleKeyring is the driver.
type exampleKeyring struct{ api *exampleKMS }

var validName = regexp.MustCompile(`^key-[0-9a-f]{8}$`).MatchString

// codeOf is the code of a refusal, and "" of what is no answer.
func codeOf(err error) string {
	var r exampleRefusal
	errors.As(err, &r)
	return r.code
}

func classOf(err error) byok.Class {
	switch codeOf(err) {
	case "":
		return byok.ClassOutage // no answer is never a denial
	case "BadCiphertext":
		return byok.ClassBlob
	}
	return byok.ClassDenied // whatever it is, this KMS has said no
}

func (k *exampleKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	const op = "Decrypt"
	if key.Provider != "example-kms" || !validName(key.ID) { // before anything is sent
		return nil, byok.Receipt{}, &byok.KeyError{Op: op, Key: key, Class: byok.ClassKeyID}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // one attempt, bounded
	defer cancel()
	out, err := k.api.Decrypt(ctx, key.ID, wrapped, maps.Clone(ec))
	if err != nil {
		return nil, byok.Receipt{}, &byok.KeyError{Op: op, Key: key, Class: classOf(err), Code: codeOf(err), RequestID: out.RequestID, Err: err}
	}
	defer clear(out.Plaintext)
	if out.Key != key.ID { // an answer about another key
		return nil, byok.Receipt{}, &byok.KeyError{Op: op, Key: key, Class: byok.ClassInternal, RequestID: out.RequestID}
	}
	dek, err := byok.NewDEK(out.Plaintext) // 32 bytes or an error; clears its argument
	if err != nil {
		return nil, byok.Receipt{}, &byok.KeyError{Op: op, Key: key, Class: byok.ClassInternal, RequestID: out.RequestID, Err: err}
	}
	return dek, byok.Receipt{RequestID: out.RequestID}, nil
}

func (k *exampleKeyring) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	const op = "Encrypt"
	if key.Provider != "example-kms" || !validName(key.ID) {
		return byok.Wrapped{}, &byok.KeyError{Op: op, Key: key, Class: byok.ClassKeyID}
	}
	var plain []byte // Use must not be open while the network is waited for
	if err := dek.Use(func(raw []byte) error { plain = append(plain, raw...); return nil }); err != nil {
		return byok.Wrapped{}, &byok.KeyError{Op: op, Key: key, Class: byok.ClassInternal, Err: err}
	}
	defer clear(plain)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := k.api.Encrypt(ctx, key.ID, plain, maps.Clone(ec))
	if err != nil {
		return byok.Wrapped{}, &byok.KeyError{Op: op, Key: key, Class: classOf(err), Code: codeOf(err), RequestID: out.RequestID, Err: err}
	}
	return byok.Wrapped{Bytes: out.Wrapped, Receipt: byok.Receipt{RequestID: out.RequestID}}, nil
}

// GenerateDataKey is for a KMS that makes no data keys: made here, wrapped there.
func (k *exampleKeyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // does not fail: the program ends if there is no randomness
	dek, err := byok.NewDEK(raw)
	if err != nil {
		return nil, byok.Wrapped{}, err
	}
	w, err := k.WrapDataKey(ctx, key, dek, ec)
	if err != nil {
		dek.Wipe()
		return nil, byok.Wrapped{}, err
	}
	return dek, w, nil
}

func TestExampleKeyring(t *testing.T) {
	kms := newExampleKMS("key-00000001", "key-00000002")
	set := func(f func()) { kms.mu.Lock(); defer kms.mu.Unlock(); f() }
	keyringtest.Run(t, keyringtest.Harness{
		Keyring: &exampleKeyring{kms},
		Key:     byok.KeyID{Provider: "example-kms", ID: "key-00000001"},
		Other:   byok.KeyID{Provider: "example-kms", ID: "key-00000002"},
		Calls:   func() (n int) { set(func() { n = kms.calls }); return n },
		Disable: func(key byok.KeyID) { set(func() { kms.disabled[key.ID] = true }) },
		Enable:  func(key byok.KeyID) { set(func() { kms.disabled[key.ID] = false }) },
		Stall: func() func() {
			set(func() { kms.slow = time.Minute })
			return func() { set(func() { kms.slow = 0 }) }
		},
	})
}
