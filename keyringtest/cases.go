package keyringtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/byok-go/byok"
)

// cases are in the order in which a new driver wants to meet them.
var cases = []testCase{
	{"GenerateUnwrap", nil, generateUnwrap},
	{"WrapUnwrap", nil, wrapUnwrap},
	{"WrapUnderAnotherKey", nil, wrapUnderAnother},
	{"DataKeysDiffer", nil, dataKeysDiffer},
	{"WrappedSize", nil, wrappedSize},
	{"RequestIDsDiffer", nil, requestIDsDiffer},
	{"EmptyContext", nil, emptyContext},
	{"ContextCharacters", nil, contextCharacters},
	{"ContextExact/Generate", nil, contextExact(generate)},
	{"ContextExact/Wrap", nil, contextExact(wrapNew)},
	{"OtherKeyRefused", nil, otherKeyRefused},
	{"BlobTruncated", nil, blobTruncated},
	{"BlobFlipped", nil, blobFlipped},
	{"BlobForeign", nil, blobForeign},
	{"BadKeyID", nil, badKeyID},
	{"BadKeyIDSendsNothing", canCount, badKeyIDSendsNothing},
	{"InputsUntouched", nil, inputsUntouched},
	{"OutputsIndependent", nil, outputsIndependent},
	{"WipedDataKey", nil, wipedDataKey},
	{"WipedDataKeySendsNothing", canCount, wipedDataKeySendsNothing},
	{"DoneContext", nil, doneContext},
	{"CancelledWhileWaiting", canStall, cancelledWhileWaiting},
	{"DeadlineWhileWaiting", canStall, deadlineWhileWaiting},
	{"Concurrent", nil, concurrent},
	{"OneCallEach", canCount, oneCallEach},
	{"Denied", canSwitch, denied},
	{"DeniedIsNotRetried", func(h *Harness) bool { return canSwitch(h) && canCount(h) }, deniedIsNotRetried},
	{"DeniedEndsByItself", canSwitch, deniedEnds},
	{"DeniedIsOneKeys", canSwitch, deniedIsOneKeys},
	{"Describe", canDescribe, describe},
	{"DescribeBadKeyID", canDescribe, describeBadKeyID},
	{"RewrapUnwrap", canRewrap, rewrapUnwrap},
	{"RewrapRefuses", canRewrap, rewrapRefuses},
	{"RewrapBadKeyID", canRewrap, rewrapBadKeyID},
	{"RewrapOneCall", func(h *Harness) bool { return canRewrap(h) && canCount(h) }, rewrapOneCall},
	{"RewrapDenied", func(h *Harness) bool { return canRewrap(h) && canSwitch(h) }, rewrapDenied},
	{"RewrapDoneContext", canRewrap, rewrapDoneContext},
}

// Round trips.

func generateUnwrap(t caseT, h *Harness) {
	ec := tenantContext("acme")
	dek, w := h.generate(t, h.Key, ec)
	sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, ec))
}

func wrapUnwrap(t caseT, h *Harness) {
	ec := tenantContext("acme")
	dek := newDEK(t)
	w := h.wrap(t, h.Key, dek, ec)
	sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, ec))
}

func wrapUnderAnother(t caseT, h *Harness) {
	ec := tenantContext("acme")
	dek, w := h.generate(t, h.Key, ec)
	other := h.wrap(t, h.Other, dek, ec)
	sameDEK(t, dek, h.unwrap(t, h.Other, other.Bytes, ec))
	sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, ec)) // and the first wrapping goes on
}

func dataKeysDiffer(t caseT, h *Harness) {
	ec := tenantContext("acme")
	seen := make(map[string]bool)
	for range 8 {
		dek, w := h.generate(t, h.Key, ec)
		raw := string(rawOf(t, dek))
		if seen[raw] || seen[string(w.Bytes)] {
			t.Fatalf("GenerateDataKey returned a data key or a wrapping twice")
		}
		if raw == string(make([]byte, len(raw))) {
			t.Fatalf("GenerateDataKey returned zeros")
		}
		seen[raw], seen[string(w.Bytes)] = true, true
	}
}

func wrappedSize(t caseT, h *Harness) {
	ec := tenantContext("acme")
	dek, w := h.generate(t, h.Key, ec)
	for _, n := range []int{len(w.Bytes), len(h.wrap(t, h.Key, dek, ec).Bytes)} {
		if n < 1 || n > 6144 {
			t.Errorf("wrapped to %d bytes, want 1 to 6144", n)
		}
	}
}

func requestIDsDiffer(t caseT, h *Harness) {
	ec := tenantContext("acme")
	seen := make(map[string]bool)
	note := func(r byok.Receipt) {
		t.Helper()
		if r.RequestID != "" && seen[r.RequestID] {
			t.Errorf("two calls have the request id %q", r.RequestID)
		}
		seen[r.RequestID] = true
	}
	dek, w := h.generate(t, h.Key, ec)
	note(w.Receipt)
	note(h.wrap(t, h.Key, dek, ec).Receipt)
	for range 2 {
		_, r, err := h.Keyring.UnwrapDataKey(context.Background(), h.Key, w.Bytes, ec)
		if err != nil {
			t.Fatalf("UnwrapDataKey: %v", err)
		}
		note(r)
	}
}

// The encryption context.

func emptyContext(t caseT, h *Harness) {
	for _, ec := range []byok.EncryptionContext{nil, {}} {
		dek, w := h.generate(t, h.Key, ec)
		sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, nil))
		sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, byok.EncryptionContext{}))
		h.refuses(t, h.Key, w.Bytes, tenantContext("acme"), byok.ClassBlob)
	}
}

// contextCharacters are those a tenant may have, and that encoders like to change.
func contextCharacters(t caseT, h *Harness) {
	for _, v := range []string{`"`, `\`, `\"`, `<&>'`, `\u0026`, `${aws:username}`, `%7B`, `a=b;c`, strings.Repeat("~", 128)} {
		ec := tenantContext(v)
		dek, w := h.generate(t, h.Key, ec)
		sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, ec))
		h.refuses(t, h.Key, w.Bytes, tenantContext(v+"x"), byok.ClassBlob)
	}
	_, w := h.generate(t, h.Key, tenantContext(`\u0026`))
	h.refuses(t, h.Key, w.Bytes, tenantContext(`&`), byok.ClassBlob)
}

func contextExact(wrapping func(caseT, *Harness, byok.EncryptionContext) []byte) func(caseT, *Harness) {
	return func(t caseT, h *Harness) {
		ec := byok.EncryptionContext{"tenant_id": "acme", "service": "s", "purpose": "p", "ab": "c"}
		change := func(f func(byok.EncryptionContext)) byok.EncryptionContext {
			other := maps.Clone(ec)
			f(other)
			return other
		}
		blob := wrapping(t, h, ec)
		h.unwrap(t, h.Key, blob, maps.Clone(ec)) // it does open
		for name, other := range map[string]byok.EncryptionContext{
			"none":           nil,
			"missing":        change(func(m byok.EncryptionContext) { delete(m, "purpose") }),
			"extra":          change(func(m byok.EncryptionContext) { m["extra"] = "x" }),
			"extra empty":    change(func(m byok.EncryptionContext) { m["extra"] = "" }),
			"other value":    change(func(m byok.EncryptionContext) { m["tenant_id"] = "acmf" }),
			"prefix":         change(func(m byok.EncryptionContext) { m["tenant_id"] = "acm" }),
			"case":           change(func(m byok.EncryptionContext) { m["tenant_id"] = "Acme" }),
			"space":          change(func(m byok.EncryptionContext) { m["tenant_id"] = "acme " }),
			"swapped":        change(func(m byok.EncryptionContext) { m["service"], m["purpose"] = "p", "s" }),
			"renamed":        change(func(m byok.EncryptionContext) { delete(m, "ab"); m["aB"] = "c" }),
			"moved boundary": change(func(m byok.EncryptionContext) { delete(m, "ab"); m["a"] = "bc" }),
		} {
			if err := h.refusal(h.Key, blob, other); !isClass(err, h.Key, byok.ClassBlob) {
				t.Errorf("context %s: got %s, want class %v", name, say(err), byok.ClassBlob)
			}
		}
	}
}

// Wrapped bytes.

func otherKeyRefused(t caseT, h *Harness) {
	ec := tenantContext("acme")
	h.refuses(t, h.Other, generate(t, h, ec), ec, byok.ClassBlob)
	h.refuses(t, h.Other, wrapNew(t, h, ec), ec, byok.ClassBlob)
}

func blobTruncated(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	for _, n := range []int{0, 1, 2, len(blob) / 4, len(blob) / 2, len(blob) - 16, len(blob) - 1} {
		h.refuses(t, h.Key, blob[:max(n, 0)], ec, byok.ClassBlob)
	}
	h.refuses(t, h.Key, nil, ec, byok.ClassBlob)
	h.refuses(t, h.Key, append(bytes.Clone(blob), 0), ec, byok.ClassBlob)
}

func blobFlipped(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	const flips = 64
	for i := range flips {
		bit := i * (8*len(blob) - 1) / (flips - 1) // the first, the last, and between
		bad := bytes.Clone(blob)
		bad[bit/8] ^= 1 << (bit % 8)
		h.refuses(t, h.Key, bad, ec, byok.ClassBlob)
	}
}

func blobForeign(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	random := make([]byte, len(blob))
	rand.Read(random)
	for _, bad := range [][]byte{
		random,
		make([]byte, len(blob)),
		append(bytes.Clone(blob), blob...),
		[]byte("not a wrapped data key"),
		make([]byte, 6145),
	} {
		h.refuses(t, h.Key, bad, ec, byok.ClassBlob)
	}
}

// Key ids.

func badKeyID(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	for _, id := range h.badKeys() {
		for op, err := range h.all(context.Background(), id, blob, newDEK(t), ec) {
			if !isClass(err, id, byok.ClassKeyID) {
				t.Errorf("%s(%q): got %s, want class %v", op, id, say(err), byok.ClassKeyID)
			}
		}
	}
}

func badKeyIDSendsNothing(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	before := h.Calls()
	for _, id := range h.badKeys() {
		h.all(context.Background(), id, blob, newDEK(t), ec)
	}
	if n := h.Calls() - before; n != 0 {
		t.Errorf("%d calls were sent for ids that are no keys", n)
	}
}

// Memory.

func inputsUntouched(t caseT, h *Harness) {
	ec, sent := tenantContext("acme"), tenantContext("acme")
	dek, w := h.generate(t, h.Key, sent)
	raw, blob := rawOf(t, dek), bytes.Clone(w.Bytes)
	h.wrap(t, h.Key, dek, sent)
	h.unwrap(t, h.Key, blob, sent)
	if !maps.Equal(sent, ec) {
		t.Errorf("the encryption context was changed")
	}
	if !bytes.Equal(blob, w.Bytes) {
		t.Errorf("the wrapped bytes were changed")
	}
	if !bytes.Equal(rawOf(t, dek), raw) {
		t.Errorf("the data key was changed")
	}
}

func outputsIndependent(t caseT, h *Harness) {
	ec := tenantContext("acme")
	dek, w := h.generate(t, h.Key, ec)
	raw, blob := rawOf(t, dek), bytes.Clone(w.Bytes)
	dek2, w2 := h.generate(t, h.Key, ec) // a second call must not reach into the first's result
	w3 := h.wrap(t, h.Key, dek2, ec)
	if !bytes.Equal(w.Bytes, blob) || !bytes.Equal(rawOf(t, dek), raw) {
		t.Fatalf("a later call changed an earlier result")
	}
	clear(w2.Bytes)
	clear(w3.Bytes)
	one, two := h.unwrap(t, h.Key, blob, ec), h.unwrap(t, h.Key, blob, ec)
	one.Wipe()
	dek2.Wipe()
	if !bytes.Equal(rawOf(t, two), raw) || !bytes.Equal(rawOf(t, dek), raw) {
		t.Errorf("wiping one data key changed another")
	}
	given := bytes.Clone(blob)
	got := h.unwrap(t, h.Key, given, ec)
	clear(given)
	if !bytes.Equal(rawOf(t, got), raw) {
		t.Errorf("the data key is a view of the wrapped bytes")
	}
}

func wipedDataKey(t caseT, h *Harness) {
	wiped := newDEK(t)
	wiped.Wipe()
	for name, dek := range map[string]*byok.DEK{"nil": nil, "zero": {}, "wiped": wiped} {
		w, err := h.Keyring.WrapDataKey(context.Background(), h.Key, dek, tenantContext("acme"))
		if err == nil || len(w.Bytes) != 0 {
			t.Errorf("a %s data key was wrapped", name)
		} else if !isClass(err, h.Key, 0) {
			t.Errorf("%s data key: got %s, want a *byok.KeyError", name, say(err))
		}
	}
}

func wipedDataKeySendsNothing(t caseT, h *Harness) {
	before := h.Calls()
	wipedDataKey(t, h)
	if n := h.Calls() - before; n != 0 {
		t.Errorf("%d calls were sent to wrap no key", n)
	}
}

// Time.

func doneContext(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel2 := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel2()
	for name, ctx := range map[string]context.Context{"cancelled": cancelled, "late": late} {
		h.outageSoon(t, name, func() map[string]error { return h.all(ctx, h.Key, blob, newDEK(t), ec) })
	}
}

func cancelledWhileWaiting(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	resume := h.Stall()
	defer resume()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	h.outageSoon(t, "cancelled", func() map[string]error { return h.all(ctx, h.Key, blob, newDEK(t), ec) })
}

func deadlineWhileWaiting(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	resume := h.Stall()
	defer resume()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	h.outageSoon(t, "deadline", func() map[string]error { return h.all(ctx, h.Key, blob, newDEK(t), ec) })
}

func concurrent(t caseT, h *Harness) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			ec := tenantContext("tenant-" + string(rune('a'+i)))
			key := h.Key
			if i%2 == 1 {
				key = h.Other
			}
			for range 8 {
				dek, w, err := h.Keyring.GenerateDataKey(context.Background(), key, ec)
				if err != nil {
					t.Errorf("GenerateDataKey: %v", err)
					return
				}
				w2, err := h.Keyring.WrapDataKey(context.Background(), key, dek, ec)
				if err != nil {
					t.Errorf("WrapDataKey: %v", err)
					return
				}
				for _, blob := range [][]byte{w.Bytes, w2.Bytes} {
					got, _, err := h.Keyring.UnwrapDataKey(context.Background(), key, blob, ec)
					if err != nil || !equalDEK(dek, got) {
						t.Errorf("UnwrapDataKey: another data key, or %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func oneCallEach(t caseT, h *Harness) {
	ec := tenantContext("acme")
	count := func(what string, f func()) {
		t.Helper()
		before := h.Calls()
		f()
		if n := h.Calls() - before; n != 1 {
			t.Errorf("%s made %d calls, want 1", what, n)
		}
	}
	var dek *byok.DEK
	var w byok.Wrapped
	count("GenerateDataKey", func() { dek, w = h.generate(t, h.Key, ec) })
	for range 2 { // the second time too: a Keyring has no cache
		count("WrapDataKey", func() { h.wrap(t, h.Key, dek, ec) })
		count("UnwrapDataKey", func() { h.unwrap(t, h.Key, w.Bytes, ec) })
		count("UnwrapDataKey, refused", func() { h.refusal(h.Key, w.Bytes, nil) })
	}
}
