package byok_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
)

// forge makes an envelope as somebody who holds the data key could: every tag
// verifies, and only parsing or policy can refuse it.
func forge(t *testing.T, h format.Header, dek *byok.DEK, purpose, plain string) []byte {
	t.Helper()
	head, err := h.Append(nil)
	want(t, "Append", err, nil)
	core, err := h.AppendCore(nil)
	want(t, "AppendCore", err, nil)
	var out []byte
	want(t, "Seal", dek.Use(func(raw []byte) (err error) {
		out, err = floe.Seal(head, raw, floe.Params{}, format.PayloadAAD(core, purpose, nil), []byte(plain))
		return err
	}), nil)
	return out
}

// An envelope with several recipients opens by the one that is registered; one
// that needs all of them, or none that is registered, never, and without a question to KMS.
func TestRecipientsAndPolicies(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	key := byok.KeyID{Provider: "aws-kms", ID: cmk.ARN()}
	other := env.CMK("acme")
	id := byok.DataKeyID{1, 2, 3}
	ec := byok.EncryptionContext{"tenant_id": "acme", "service": byoktest.Service, "purpose": "default", "data_key_id": id.String()}
	dek, w, err := env.Keys.GenerateDataKey(t.Context(), key, ec)
	want(t, "GenerateDataKey", err, nil)
	registered := format.Recipient{Provider: "aws-kms", Key: cmk.ARN(), Wrapped: w.Bytes}
	foreign := format.Recipient{Provider: "aws-kms", Key: other.ARN(), Wrapped: w.Bytes}
	pair := []format.Recipient{registered, foreign}
	if foreign.Key < registered.Key {
		pair[0], pair[1] = pair[1], pair[0]
	}
	for _, c := range []struct {
		name       string
		policy     uint8
		recipients []format.Recipient
		calls      int
		err        error
	}{
		{"ANY of one", format.PolicyANY, []format.Recipient{registered}, 1, nil},
		{"ANY of two", format.PolicyANY, pair, 1, nil},
		{"D1 ANY of one that is not registered", format.PolicyANY, []format.Recipient{foreign}, 0, byok.ErrOpen},
		{"C7 ALL", format.PolicyALL, pair, 0, byok.ErrOpen},
		{"REF to a data key that the Store does not know", format.PolicyREF, nil, 0, byok.ErrOpen},
	} {
		h := format.Header{Suite: format.SuiteFLOE, Policy: c.policy, DataKey: id, Tenant: "acme", Recipients: c.recipients}
		sealed := forge(t, h, dek, "default", "x")
		k := env.NewKeeper()
		env.Fake.ResetCalls()
		got, err := open(t, k, "acme", sealed, "")
		want(t, c.name, err, c.err)
		if n := len(env.Fake.Calls()); n != c.calls || err == nil && got != "x" {
			t.Errorf("%s: %q, %d KMS calls, want %d", c.name, got, n, c.calls)
		}
		in, err := byok.Inspect(sealed)
		if want(t, "Inspect", err, nil); in.Policy != c.policy || len(in.Recipients) != len(c.recipients) || in.DataKey != id {
			t.Errorf("%s: Inspect: %+v", c.name, in)
		}
	}
}

// What cannot open under any key costs no question to KMS, although the data key
// is cold (threats A2, A11, A12).
func TestA11_NothingIsAskedForAHopelessPayload(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	head := len(sealed) - floe.SealedSize(floe.Params{}, 1)
	k := env.NewKeeper()
	env.Fake.ResetCalls()
	for name, edit := range map[string]func(b []byte) []byte{
		"no payload":            func(b []byte) []byte { return b[:head] },
		"three bytes":           func(b []byte) []byte { return b[:head+3] },
		"no segment":            func(b []byte) []byte { return b[:head+floe.HeaderSize] },
		"short segment":         func(b []byte) []byte { return b[:head+floe.HeaderSize+31] },
		"segments of 4 GiB":     func(b []byte) []byte { copy(b[head+2:], "\xff\xff\xff\xff"); return b },
		"segments of 8192":      func(b []byte) []byte { copy(b[head+2:], "\x00\x00\x20\x00"); return b },
		"another AEAD":          func(b []byte) []byte { b[head] = 1; return b },
		"an IV of other length": func(b []byte) []byte { b[head+9] = 12; return b },
	} {
		b := edit(bytes.Clone(sealed))
		_, err := open(t, k, "acme", b, "")
		want(t, name, err, byok.ErrOpen)
		_, err = k.OpenReaderAt(t.Context(), bytes.NewReader(b), int64(len(b)), acmeScope, nil)
		want(t, name+", OpenReaderAt", err, byok.ErrOpen)
		if len(b) == len(sealed) { // else a stream does not tell at once
			_, err = k.OpenReader(t.Context(), bytes.NewReader(b), acmeScope, nil)
			want(t, name+", OpenReader", err, byok.ErrOpen)
		}
		if n := len(env.Fake.Calls()); n != 0 {
			t.Fatalf("%s: %d KMS calls", name, n)
		}
	}
	mustOpen(t, k, "acme", sealed, "", "x")
}

// The vectors that SPEC.md prints are true.
func TestSpecVectors(t *testing.T) {
	spec, err := os.ReadFile("SPEC.md")
	want(t, "ReadFile", err, nil)
	_, section, ok := strings.Cut(string(spec), "## Test vectors")
	if !ok {
		t.Fatal("SPEC.md has no test vectors")
	}
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	opened := 0
	for _, block := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(section, -1) {
		b, err := hex.DecodeString(strings.Join(strings.Fields(block[1]), ""))
		want(t, "hex", err, nil)
		h, core, payload, err := format.Parse(b)
		if err != nil || len(payload) == 0 {
			continue // the PayloadAAD, and a data key
		}
		plain, err := floe.Open(nil, key, format.PayloadAAD(core, "invoices", []byte("invoice/42")), payload)
		if want(t, "Open", err, nil); string(plain) != "hello" || h.Tenant != "acme" {
			t.Errorf("%q for %q", plain, h.Tenant)
		}
		opened++
	}
	if opened != 2 {
		t.Errorf("%d envelopes opened, want 2", opened)
	}
}

// The cache is bounded: a flood of tenants, or of data keys of one, pushes out
// what was proved longest ago, and what was pushed out is loaded anew (E16, E18).
func TestE16_CacheIsBounded(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Keeper.SetCacheSize(4)
	var sealed [][]byte
	for i := range 8 {
		tenant := fmt.Sprint("t", i)
		env.Tenant(tenant)
		sealed = append(sealed, seal(t, env.Keeper, tenant, "x", ""))
		if n := env.Keeper.Stats().Leases; n > 4 {
			t.Fatalf("%d leases", n)
		}
	}
	for i, s := range sealed {
		mustOpen(t, env.Keeper, fmt.Sprint("t", i), s, "", "x")
	}
	if n := env.Keeper.Stats().Leases; n != 4 {
		t.Errorf("%d leases, want 4", n)
	}

	env = byoktest.New(t, nil)
	env.Tenant("quiet")
	seal(t, env.Keeper, "quiet", "x", "")
	env.Tenant("greedy")
	for i := range byok.MaxLeasesPerTenant + 10 {
		for {
			_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "greedy", Purpose: fmt.Sprint("p", i)}, nil, nil)
			if err == nil {
				break
			}
			time.Sleep(throttled(t, "Seal", err)) // its budget
		}
	}
	if n := env.Keeper.Stats().Leases; n != byok.MaxLeasesPerTenant+1 {
		t.Errorf("%d leases", n)
	}
	env.Fake.ResetCalls()
	seal(t, env.Keeper, "quiet", "x", "")
	if len(env.Fake.Calls()) != 0 {
		t.Error("a greedy tenant pushed out a quiet one")
	}
}

// What is not used is wiped at its end: by Run, and by anything that is loaded.
func TestIdleKeysAreWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		env.Tenant("busy")
		seal(t, env.Keeper, "acme", "x", "")
		time.Sleep(2 * byok.DefaultMaxAge)
		if n := env.Keeper.Stats().Leases; n != 1 {
			t.Fatalf("%d leases without Run", n)
		}
		seal(t, env.Keeper, "busy", "x", "")
		if n := env.Keeper.Stats().Leases; n != 1 {
			t.Errorf("%d leases after a load", n)
		}
		go func() { _ = env.Keeper.Run(t.Context()) }()
		time.Sleep(byok.DefaultMaxAge + 2*time.Second)
		if n := env.Keeper.Stats().Leases; n != 0 {
			t.Errorf("%d leases with Run", n)
		}
	})
}

// A denial stands until there is a newer answer, also if there is none (I6).
func TestI6_OutageAfterDenialIsStillADenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		cmk.Disable()
		time.Sleep(byok.DefaultMaxAge)
		_, err := open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
		defer env.Fake.Outage()()
		for range 20 {
			time.Sleep(5 * time.Second)
			_, err := open(t, env.Keeper, "acme", sealed, "")
			want(t, "Open in an outage", err, byok.ErrKeyDenied)
		}
	})
}
