package keyringtest

import (
	"context"

	"github.com/byok-go/byok"
)

// Cases of denials, and of what a driver tells about a key.

func denied(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	h.Disable(h.Key)
	defer h.Enable(h.Key)
	for op, err := range h.all(context.Background(), h.Key, blob, newDEK(t), ec) {
		if !isClass(err, h.Key, byok.ClassDenied) {
			t.Errorf("%s of a disabled key: got %s, want class %v", op, say(err), byok.ClassDenied)
		}
	}
}

func deniedIsNotRetried(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	h.Disable(h.Key)
	defer h.Enable(h.Key)
	before := h.Calls()
	ops := h.all(context.Background(), h.Key, blob, newDEK(t), ec)
	if n := h.Calls() - before; n != len(ops) {
		t.Errorf("%d denied operations made %d calls", len(ops), n)
	}
}

func deniedEnds(t caseT, h *Harness) {
	ec := tenantContext("acme")
	dek, w := h.generate(t, h.Key, ec)
	h.Disable(h.Key)
	err := h.refusal(h.Key, w.Bytes, ec)
	h.Enable(h.Key)
	if !isClass(err, h.Key, byok.ClassDenied) {
		t.Errorf("got %s, want class %v", say(err), byok.ClassDenied)
	}
	sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, ec))
}

func deniedIsOneKeys(t caseT, h *Harness) {
	ec := tenantContext("acme")
	h.Disable(h.Key)
	defer h.Enable(h.Key)
	if err := h.refusal(h.Key, []byte("x"), ec); err == nil {
		t.Errorf("no error")
	}
	dek, w := h.generate(t, h.Other, ec)
	sameDEK(t, dek, h.unwrap(t, h.Other, w.Bytes, ec))
}

// Describer.

func describe(t caseT, h *Harness) {
	info, err := h.Keyring.(byok.Describer).DescribeKey(context.Background(), h.Key)
	if err != nil || info.State == "" || !info.DeletionAt.IsZero() {
		t.Errorf("DescribeKey: %+v, %v; want a state and no deletion", info, err)
	}
}

func describeBadKeyID(t caseT, h *Harness) {
	for _, id := range h.badKeys() {
		if _, err := h.Keyring.(byok.Describer).DescribeKey(context.Background(), id); !isClass(err, id, byok.ClassKeyID) {
			t.Errorf("DescribeKey(%q): got %s, want class %v", id, say(err), byok.ClassKeyID)
		}
	}
}
