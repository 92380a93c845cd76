package byok_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// mayReEncrypt lets the platform's role rewrap under the key's policy, with the tenant's context.
func mayReEncrypt(keys ...*kmsfake.Key) {
	for _, k := range keys {
		k.SetPolicy(strings.Replace(k.Policy(), `"kms:Decrypt",`, `"kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo",`, 1))
	}
}

// rewrapKeyring is a Keyring whose rewrapping and wrapping a test replaces. It is a Rewrapper.
type rewrapKeyring struct {
	*awskms.Keyring
	rewrap func(ctx context.Context, from, to byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (byok.Wrapped, error)
	wrap   func(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error)
}

func (r *rewrapKeyring) RewrapDataKey(ctx context.Context, from, to byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
	if r.rewrap != nil {
		return r.rewrap(ctx, from, to, wrapped, ec)
	}
	return r.Keyring.RewrapDataKey(ctx, from, to, wrapped, ec)
}

func (r *rewrapKeyring) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	if r.wrap != nil {
		return r.wrap(ctx, key, dek, ec)
	}
	return r.Keyring.WrapDataKey(ctx, key, dek, ec)
}

// operationsOf counts what KMS was asked, by operation, after the first n calls.
func operationsOf(fake *kmsfake.KMS, n int) map[string]int {
	out := map[string]int{}
	for _, c := range fake.Calls()[n:] {
		out[c.Operation]++
	}
	return out
}

// SPEC MUST-22: an envelope gets a new header, and not a byte of anything else is another one.
// Both open afterwards; KMS was asked twice with ReEncrypt, and without it three times more than to be
// told that it may not.
func TestRewrap(t *testing.T) {
	for _, granted := range []bool{true, false} {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: true}})
		_, cmk := env.Tenant("acme")
		if granted {
			mayReEncrypt(cmk)
		}
		sealed := seal(t, env.Keeper, "acme", "hello", "aad")
		given := bytes.Clone(sealed)
		cmk.Rotate()
		before := len(env.Fake.Calls())
		fresh, err := env.Keeper.Rewrap(t.Context(), acmeScope, sealed)
		want(t, "Rewrap", err, nil)
		got := operationsOf(env.Fake, before)
		if granted && (got["ReEncrypt"] != 1 || got["Decrypt"] != 1 || len(got) != 2) ||
			!granted && (got["ReEncrypt"] != 1 || got["Decrypt"] != 2 || got["Encrypt"] != 1 || len(got) != 3) {
			t.Errorf("granted %v: KMS was asked %v", granted, got)
		}
		if !bytes.Equal(given, sealed) {
			t.Error("the old envelope was changed")
		}
		old, err := byok.Inspect(sealed)
		want(t, "Inspect", err, nil)
		now, err := byok.Inspect(fresh)
		want(t, "Inspect", err, nil)
		if bytes.Equal(old.Recipients[0].Wrapped, now.Recipients[0].Wrapped) || len(now.Recipients) != 1 || now.Recipients[0].Key != old.Recipients[0].Key {
			t.Errorf("recipients %+v", now.Recipients)
		}
		core := 25 + len("acme")
		if !bytes.Equal(sealed[:core], fresh[:core]) || !bytes.HasSuffix(fresh, sealed[len(sealed)-131+29:]) {
			t.Error("CORE or PAYLOAD are others")
		}
		mustOpen(t, env.Keeper, "acme", fresh, "aad", "hello")
		mustOpen(t, env.Keeper, "acme", sealed, "aad", "hello")
		if _, err := env.Keeper.Rewrap(t.Context(), byok.Scope{Tenant: "acme", Purpose: "other"}, sealed); !errors.Is(err, byok.ErrOpen) {
			t.Errorf("under another purpose: %v", err)
		}
		last := env.Audit.All()
		matchCalls(t, env, last)
		n := 0
		for _, e := range last {
			if e.Op == byok.OpRewrap && e.Outcome == byok.OutcomeSuccess {
				n++
				if e.DataKey != now.DataKey || e.Proof == "" || e.Key != awskms.Key(cmk.ARN()) {
					t.Errorf("event %+v", e)
				}
			}
		}
		if n != 1 {
			t.Errorf("%d events", n)
		}
	}
}

// A data key that the Store knows is wrapped there: the envelope gets that wrapping, under the lease
// that proves it, and KMS is asked nothing. What carries no data key stays as it is.
func TestRewrapOfKnownDataKeys(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	ref := seal(t, env.Keeper, "acme", "hello", "aad")
	var stream bytes.Buffer
	w, err := env.Keeper.SealWriter(t.Context(), &stream, acmeScope, nil)
	want(t, "SealWriter", err, nil)
	_, err = w.Write([]byte("of a stream"))
	want(t, "Write", err, nil)
	want(t, "Close", w.Close(), nil)
	before := len(env.Fake.Calls())
	for _, sealed := range [][]byte{ref, stream.Bytes()} {
		fresh, err := env.Keeper.Rewrap(t.Context(), acmeScope, sealed)
		want(t, "Rewrap", err, nil)
		if !bytes.Equal(fresh, sealed) {
			t.Error("the wrapping in the Store is another one")
		}
		clear(fresh)
	}
	mustOpen(t, env.Keeper, "acme", ref, "aad", "hello")
	mustOpen(t, env.Keeper, "acme", stream.Bytes(), "", "of a stream")
	if n := len(env.Fake.Calls()) - before; n != 0 {
		t.Errorf("%d requests", n)
	}
}

// SPEC MUST-23: a wrapping that does not open, or opens to another data key, is returned to nobody.
func TestRewrapProvesByUse(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: true}})
	_, cmk := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "hello", "")
	keys := &rewrapKeyring{Keyring: env.Keys}
	k, err := byok.New(byoktest.Service, keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer k.Close()
	refuse := func(context.Context, byok.KeyID, byok.KeyID, []byte, byok.EncryptionContext) (byok.Wrapped, error) {
		return byok.Wrapped{}, &byok.KeyError{Op: "ReEncrypt", Class: byok.ClassDenied, Code: "AccessDeniedException"}
	}
	for name, arm := range map[string]func(){
		"rewrapped to junk": func() {
			keys.rewrap = func(context.Context, byok.KeyID, byok.KeyID, []byte, byok.EncryptionContext) (byok.Wrapped, error) {
				return byok.Wrapped{Bytes: []byte("junk")}, nil
			}
		},
		"wrapped to junk": func() {
			keys.rewrap = refuse
			keys.wrap = func(context.Context, byok.KeyID, *byok.DEK, byok.EncryptionContext) (byok.Wrapped, error) {
				return byok.Wrapped{Bytes: []byte("junk")}, nil
			}
		},
		"wrapped another data key": func() {
			keys.rewrap = refuse
			keys.wrap = func(ctx context.Context, key byok.KeyID, _ *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
				_, w, err := env.Keys.GenerateDataKey(ctx, key, ec)
				return w, err
			}
		},
	} {
		keys.rewrap, keys.wrap = nil, nil
		arm()
		out, err := k.Rewrap(t.Context(), acmeScope, sealed)
		if !errors.Is(err, byok.ErrInternal) || out != nil {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	keys.rewrap, keys.wrap = nil, nil
	mayReEncrypt(cmk)
	_, err = k.Rewrap(t.Context(), acmeScope, sealed)
	want(t, "Rewrap", err, nil)
}

// Where ReEncrypt is not granted, it is asked for once in a while and not for each envelope: each refusal stands
// in the tenant's CloudTrail. A denial of the CMK itself is no reason to remember anything.
func TestRewrapRemembersThatItIsNotGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: true}})
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "hello", "")
		rewrap := func(n int) (asked int) {
			t.Helper()
			before := len(env.Fake.Calls())
			for range n {
				_, err := env.Keeper.Rewrap(t.Context(), acmeScope, sealed)
				want(t, "Rewrap", err, nil)
			}
			return operationsOf(env.Fake, before)["ReEncrypt"]
		}
		if n := rewrap(5); n != 1 {
			t.Errorf("asked %d times in 5", n)
		}
		time.Sleep(9 * time.Minute)
		if n := rewrap(5); n != 0 {
			t.Errorf("asked %d times again within ten minutes", n)
		}
		mayReEncrypt(cmk)
		time.Sleep(2 * time.Minute)
		if n := rewrap(5); n != 5 {
			t.Errorf("granted, and used %d times of 5", n)
		}
		cmk.Disable()
		if _, err := env.Keeper.Rewrap(t.Context(), acmeScope, sealed); !errors.Is(err, byok.ErrKeyDenied) {
			t.Errorf("a disabled CMK: %v", err)
		}
		cmk.Enable()
		time.Sleep(time.Minute)
		if rewrap(1); rewrap(5) != 5 { // the first one finds out that access is back
			t.Error("a denial is remembered as a grant that is missing")
		}
	})
}

// A stop stops rewrapping too, and so does what a stranger writes into an envelope.
func TestRewrapFailsSecure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: true}})
		acme, cmk := env.Tenant("acme")
		_, foreign := env.Tenant("umbrella")
		mayReEncrypt(cmk, foreign)
		sealed := seal(t, env.Keeper, "acme", "hello", "")
		refused := func(name string, in []byte, s byok.Scope, target error, asked bool) {
			t.Helper()
			before := len(env.Fake.Calls())
			out, err := env.Keeper.Rewrap(t.Context(), s, in)
			if !errors.Is(err, target) || out != nil {
				t.Errorf("%s: %d bytes, %v", name, len(out), err)
			}
			if n := len(env.Fake.Calls()) - before; (n != 0) != asked {
				t.Errorf("%s: %d requests", name, n)
			}
		}
		theirs := bytes.Replace(bytes.Clone(sealed), []byte(cmk.ARN()), []byte(foreign.ARN()), 1)
		refused("another tenant's CMK", theirs, acmeScope, byok.ErrOpen, false)
		refused("another tenant", sealed, byok.Scope{Tenant: "umbrella"}, byok.ErrOpen, false)
		refused("junk", []byte("junk"), acmeScope, byok.ErrMalformed, false)
		refused("truncated", sealed[:len(sealed)-20], acmeScope, byok.ErrOpen, false)

		cmk.Disable()
		refused("a disabled CMK", sealed, acmeScope, byok.ErrKeyDenied, true)
		refused("a CMK known to be disabled", sealed, acmeScope, byok.ErrKeyDenied, false)
		cmk.Enable()
		time.Sleep(time.Minute)
		_, err := env.Keeper.Rewrap(t.Context(), acmeScope, sealed)
		want(t, "Rewrap after it was enabled", err, nil)
		_, err = acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		refused("suspended", sealed, acmeScope, byok.ErrSuspended, false)
		_, err = acme.Resume(t.Context(), "")
		want(t, "Resume", err, nil)
		_, err = acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		refused("removed", sealed, acmeScope, byok.ErrKeyRemoved, false)
		matchCalls(t, env, env.Audit.All())
	})
}
