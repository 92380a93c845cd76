package keyringtest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"time"

	"github.com/byok-go/byok"
)

// The cases of byok.Rewrapper, for a Keyring that is one.

func canRewrap(h *Harness) bool {
	_, ok := h.Keyring.(byok.Rewrapper)
	return ok
}

func (h *Harness) rewrap(ctx context.Context, from, to byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
	w, err := h.Keyring.(byok.Rewrapper).RewrapDataKey(ctx, from, to, wrapped, ec)
	if err != nil && len(w.Bytes) != 0 {
		err = errors.Join(errors.New("a wrapping came with the error"), err)
	}
	return w, err
}

// targets are the keys that Key's wrappings can be rewrapped under: itself, and Other
// unless the KMS cannot.
func (h *Harness) targets(t caseT, wrapped []byte, ec byok.EncryptionContext) []byok.KeyID {
	t.Helper()
	_, err := h.rewrap(context.Background(), h.Key, h.Other, wrapped, ec)
	if err == nil {
		return []byok.KeyID{h.Key, h.Other}
	}
	if !errors.Is(err, errors.ErrUnsupported) || !isClass(err, h.Other, byok.ClassKeyID) {
		t.Errorf("RewrapDataKey under another key: got %s, want none or class %v that is ErrUnsupported", say(err), byok.ClassKeyID)
	}
	return []byok.KeyID{h.Key}
}

func rewrapUnwrap(t caseT, h *Harness) {
	ec := tenantContext("acme")
	dek, w := h.generate(t, h.Key, ec)
	for _, to := range h.targets(t, w.Bytes, ec) {
		blob := bytes.Clone(w.Bytes)
		sent := maps.Clone(ec)
		fresh, err := h.rewrap(context.Background(), h.Key, to, blob, sent)
		if err != nil || len(fresh.Bytes) < 1 || len(fresh.Bytes) > 6144 {
			t.Fatalf("RewrapDataKey: %d bytes, %s", len(fresh.Bytes), say(err))
		}
		if bytes.Equal(fresh.Bytes, w.Bytes) {
			t.Errorf("RewrapDataKey returned what it was given")
		}
		if !bytes.Equal(blob, w.Bytes) || !maps.Equal(sent, ec) {
			t.Errorf("RewrapDataKey changed its arguments")
		}
		clear(blob)
		sameDEK(t, dek, h.unwrap(t, to, fresh.Bytes, ec))
		sameDEK(t, dek, h.unwrap(t, h.Key, w.Bytes, ec)) // the old one goes on
		h.refuses(t, to, fresh.Bytes, tenantContext("acmf"), byok.ClassBlob)
	}
}

func rewrapRefuses(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	_, foreign := h.generate(t, h.Other, ec)
	flipped := bytes.Clone(blob)
	flipped[len(flipped)-1] ^= 1
	for name, bad := range map[string]struct {
		wrapped []byte
		ec      byok.EncryptionContext
	}{
		"another context":  {blob, tenantContext("acmf")},
		"no context":       {blob, nil},
		"another key's":    {foreign.Bytes, ec},
		"flipped":          {flipped, ec},
		"truncated":        {blob[:len(blob)-1], ec},
		"nothing":          {nil, ec},
		"longer than 6144": {make([]byte, 6145), ec},
	} {
		if _, err := h.rewrap(context.Background(), h.Key, h.Key, bad.wrapped, bad.ec); !isClass(err, h.Key, byok.ClassBlob) {
			t.Errorf("RewrapDataKey, %s: got %s, want class %v", name, say(err), byok.ClassBlob)
		}
	}
}

func rewrapBadKeyID(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	before := 0
	if h.Calls != nil {
		before = h.Calls()
	}
	for _, id := range h.badKeys() {
		if _, err := h.rewrap(context.Background(), id, h.Key, blob, ec); !isClass(err, id, byok.ClassKeyID) {
			t.Errorf("RewrapDataKey from %q: got %s, want class %v", id, say(err), byok.ClassKeyID)
		}
		if _, err := h.rewrap(context.Background(), h.Key, id, blob, ec); !isClass(err, id, byok.ClassKeyID) {
			t.Errorf("RewrapDataKey to %q: got %s, want class %v", id, say(err), byok.ClassKeyID)
		}
	}
	if h.Calls != nil && h.Calls() != before {
		t.Errorf("%d calls were sent for ids that are no keys", h.Calls()-before)
	}
}

func rewrapOneCall(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	for _, with := range []byok.EncryptionContext{ec, nil} { // done, and refused
		before := h.Calls()
		_, _ = h.rewrap(context.Background(), h.Key, h.Key, blob, with)
		if n := h.Calls() - before; n != 1 {
			t.Errorf("RewrapDataKey made %d calls, want 1", n)
		}
	}
}

func rewrapDenied(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	_, foreign := h.generate(t, h.Other, ec)
	targets := h.targets(t, blob, ec)
	h.Disable(h.Key)
	defer h.Enable(h.Key)
	for _, to := range targets {
		if _, err := h.rewrap(context.Background(), h.Key, to, blob, ec); !isClass(err, h.Key, byok.ClassDenied) {
			t.Errorf("RewrapDataKey of a disabled key: got %s, want class %v", say(err), byok.ClassDenied)
		}
	}
	if len(targets) > 1 {
		if _, err := h.rewrap(context.Background(), h.Other, h.Key, foreign.Bytes, ec); !isClass(err, h.Other, byok.ClassDenied) {
			t.Errorf("RewrapDataKey to a disabled key: got %s, want class %v", say(err), byok.ClassDenied)
		}
	}
}

func rewrapDoneContext(t caseT, h *Harness) {
	ec := tenantContext("acme")
	blob := generate(t, h, ec)
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	h.outageSoon(t, "done", func() map[string]error {
		_, err := h.rewrap(ctx, h.Key, h.Key, blob, ec)
		return map[string]error{"RewrapDataKey": err}
	})
}
