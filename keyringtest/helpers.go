package keyringtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/byok-go/byok"
)

// prompt is how soon a Keyring returns once ctx is done. Loaded test machines
// are slow; a Keyring that waits for the KMS is slower.
const prompt = 3 * time.Second

// tenantContext is what a Keeper sends.
func tenantContext(tenant string) byok.EncryptionContext {
	return byok.EncryptionContext{
		byok.ContextTenant: tenant, byok.ContextService: "keyringtest", byok.ContextPurpose: "default",
		byok.ContextDataKey: "00112233445566778899aabbccddeeff",
	}
}

// badKeys are ids near Key that are not keys.
func (h *Harness) badKeys() []byok.KeyID {
	p, id := h.Key.Provider, h.Key.ID
	bad := []byok.KeyID{
		{}, {Provider: p}, {ID: id}, {Provider: "not-" + p, ID: id}, {Provider: strings.ToUpper(p) + " ", ID: id},
		{Provider: p, ID: " " + id}, {Provider: p, ID: id + " "}, {Provider: p, ID: id + "\n"},
		{Provider: p, ID: id + "\x00"}, {Provider: p, ID: id + "/../" + id}, {Provider: p, ID: strings.Repeat("a", 3000)},
		{Provider: p, ID: h.Key.String()}, {Provider: p, ID: id + "," + h.Other.ID},
	}
	return append(bad, h.BadKeys...)
}

func (h *Harness) generate(t caseT, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped) {
	t.Helper()
	dek, w, err := h.Keyring.GenerateDataKey(context.Background(), key, ec)
	if err != nil || dek == nil || len(w.Bytes) == 0 {
		t.Fatalf("GenerateDataKey: %d wrapped bytes, %s", len(w.Bytes), say(err))
	}
	return dek, w
}

func (h *Harness) wrap(t caseT, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) byok.Wrapped {
	t.Helper()
	w, err := h.Keyring.WrapDataKey(context.Background(), key, dek, ec)
	if err != nil || len(w.Bytes) == 0 {
		t.Fatalf("WrapDataKey: %d wrapped bytes, %s", len(w.Bytes), say(err))
	}
	return w
}

func (h *Harness) unwrap(t caseT, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) *byok.DEK {
	t.Helper()
	dek, _, err := h.Keyring.UnwrapDataKey(context.Background(), key, wrapped, ec)
	if err != nil || dek == nil {
		t.Fatalf("UnwrapDataKey: %s", say(err))
	}
	return dek
}

// generate and wrapNew are the two ways to a wrapped data key under h.Key.
func generate(t caseT, h *Harness, ec byok.EncryptionContext) []byte {
	t.Helper()
	_, w := h.generate(t, h.Key, ec)
	return w.Bytes
}

func wrapNew(t caseT, h *Harness, ec byok.EncryptionContext) []byte {
	t.Helper()
	return h.wrap(t, h.Key, newDEK(t), ec).Bytes
}

// refusal unwraps what must not open. With an error there must be no key.
func (h *Harness) refusal(key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) error {
	dek, _, err := h.Keyring.UnwrapDataKey(context.Background(), key, wrapped, ec)
	if err != nil && dek != nil {
		return fmt.Errorf("a data key came with the error %v", err)
	}
	return err
}

func (h *Harness) refuses(t caseT, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext, want byok.Class) {
	t.Helper()
	if err := h.refusal(key, wrapped, ec); !isClass(err, key, want) {
		t.Errorf("UnwrapDataKey of %d wrong bytes: got %s, want class %v", len(wrapped), say(err), want)
	}
}

// all does the three operations and returns their errors; results beside an
// error make it another one.
func (h *Harness) all(ctx context.Context, key byok.KeyID, wrapped []byte, dek *byok.DEK, ec byok.EncryptionContext) map[string]error {
	errs := make(map[string]error)
	note := func(op string, result bool, err error) {
		if err != nil && result {
			err = fmt.Errorf("a result came with the error %v", err)
		}
		errs[op] = err
	}
	d, w, err := h.Keyring.GenerateDataKey(ctx, key, ec)
	note("GenerateDataKey", d != nil || len(w.Bytes) != 0, err)
	w, err = h.Keyring.WrapDataKey(ctx, key, dek, ec)
	note("WrapDataKey", len(w.Bytes) != 0, err)
	d, _, err = h.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
	note("UnwrapDataKey", d != nil, err)
	return errs
}

// outageSoon runs f, which must return promptly and have outages for errors.
func (h *Harness) outageSoon(t caseT, name string, f func() map[string]error) {
	t.Helper()
	done := make(chan map[string]error, 1)
	go func() { done <- f() }()
	select {
	case errs := <-done:
		for op, err := range errs {
			if !isClass(err, h.Key, byok.ClassOutage) {
				t.Errorf("%s with a %s context: got %s, want class %v", op, name, say(err), byok.ClassOutage)
			}
		}
	case <-time.After(prompt):
		t.Fatalf("%s context: no return within %v", name, prompt)
	}
}

// isClass reports whether err is a whole *byok.KeyError of the class; class 0 is any.
func isClass(err error, key byok.KeyID, class byok.Class) bool {
	ke, ok := err.(*byok.KeyError) // itself: the Keeper does not search a chain for another driver's
	return ok && ke.Op != "" && ke.Key == key && ke.Class != 0 && (class == 0 || ke.Class == class)
}

func say(err error) string {
	if err == nil {
		return "no error"
	}
	var ke *byok.KeyError
	if errors.As(err, &ke) {
		return fmt.Sprintf("class %q, key %q, op %q: %v", ke.Class, ke.Key, ke.Op, err)
	}
	return fmt.Sprintf("%T: %v", err, err)
}

func newDEK(t caseT) *byok.DEK {
	t.Helper()
	raw := make([]byte, 32)
	rand.Read(raw)
	dek, err := byok.NewDEK(raw)
	if err != nil {
		t.Fatalf("NewDEK: %v", err)
	}
	return dek
}

func rawOf(t caseT, dek *byok.DEK) []byte {
	t.Helper()
	var raw []byte
	if err := dek.Use(func(b []byte) error { raw = bytes.Clone(b); return nil }); err != nil {
		t.Fatalf("the data key cannot be used: %v", err)
	}
	return raw
}

func equalDEK(a, b *byok.DEK) (same bool) {
	_ = a.Use(func(x []byte) error {
		return b.Use(func(y []byte) error { same = bytes.Equal(x, y) && len(x) == 32; return nil })
	})
	return same
}

func sameDEK(t caseT, want, got *byok.DEK) {
	t.Helper()
	if !equalDEK(want, got) {
		t.Fatalf("unwrapped to another data key")
	}
}
