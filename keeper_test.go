package byok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

var accepted = byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}

// want fails the test unless err is target.
func want(t testing.TB, what string, err, target error) {
	t.Helper()
	if target == nil && err != nil || target != nil && !errors.Is(err, target) {
		t.Fatalf("%s: got %v, want %v", what, err, target)
	}
}

func seal(t *testing.T, k *byok.Keeper, tenant, plain, aad string) []byte {
	t.Helper()
	sealed, err := k.Seal(t.Context(), byok.Scope{Tenant: tenant}, []byte(plain), []byte(aad))
	want(t, "Seal", err, nil)
	return sealed
}

func open(t *testing.T, k *byok.Keeper, tenant string, sealed []byte, aad string) (string, error) {
	t.Helper()
	plain, err := k.Open(t.Context(), byok.Scope{Tenant: tenant}, sealed, []byte(aad))
	if err != nil && plain != nil {
		t.Fatal("Open returned plaintext beside an error")
	}
	return string(plain), err
}

func mustOpen(t *testing.T, k *byok.Keeper, tenant string, sealed []byte, aad, plain string) {
	t.Helper()
	got, err := open(t, k, tenant, sealed, aad)
	want(t, "Open", err, nil)
	if got != plain {
		t.Fatalf("Open = %q, want %q", got, plain)
	}
}

// The life of a tenant, from registration to removal and back, in one process
// and across restarts.
func TestLifeOfATenant(t *testing.T) {
	env := byoktest.New(t, nil)
	ctx := byok.WithActor(t.Context(), "ana@acme.example")
	k, acme := env.Keeper, env.Keeper.Tenant("acme")
	scope := byok.Scope{Tenant: "acme", Purpose: "invoices"}

	_, err := k.Seal(ctx, scope, []byte("x"), nil)
	want(t, "Seal before registering", err, byok.ErrNotRegistered)
	_, err = acme.Status(ctx)
	want(t, "Status before registering", err, byok.ErrNotRegistered)

	cmk := env.CMK("acme")
	st, err := acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN()), Alias: "alias/byok", Description: "our key"})
	want(t, "Register", err, nil)
	if st.Status != byok.StatusPendingWaiver || st.DEKVersion != 1 || st.Key.ID != cmk.ARN() || len(st.Warnings) != 0 || st.Access != byok.AccessAccessible {
		t.Fatalf("status after Register: %+v", st)
	}
	_, err = k.Seal(ctx, scope, []byte("x"), nil)
	want(t, "Seal before the waiver", err, byok.ErrWaiverRequired)

	for name, a := range map[string]byok.Acknowledgement{
		byok.FlagDataLossRisk:  {KeyManagement: true, NoLiability: true},
		byok.FlagKeyManagement: {DataLossRisk: true, NoLiability: true},
		byok.FlagNoLiability:   {DataLossRisk: true, KeyManagement: true},
	} {
		_, err := acme.AcknowledgeWaiver(ctx, a)
		want(t, "AcknowledgeWaiver without "+name, err, byok.ErrWaiverRequired)
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	old := accepted
	old.Version = "0.9"
	_, err = acme.AcknowledgeWaiver(ctx, old)
	want(t, "AcknowledgeWaiver of another version", err, byok.ErrWaiverRequired)
	ws, err := acme.AcknowledgeWaiver(ctx, accepted)
	want(t, "AcknowledgeWaiver", err, nil)
	if !ws.Acknowledged || ws.AcknowledgedBy != "ana@acme.example" || ws.AcknowledgedSHA256 != k.Waiver().SHA256() {
		t.Fatalf("waiver status: %+v", ws)
	}

	sealed, err := k.Seal(ctx, scope, []byte("hello"), []byte("invoice/42"))
	want(t, "Seal", err, nil)
	if over := len(sealed) - len("hello") - len("acme"); over != 131 {
		t.Errorf("a REF envelope has %d bytes of overhead beside the tenant, want 131", over)
	}
	for _, c := range []struct {
		name  string
		scope byok.Scope
		aad   string
		err   error
	}{
		{"right", scope, "invoice/42", nil},
		{"another record", scope, "invoice/43", byok.ErrOpen},
		{"another purpose", byok.Scope{Tenant: "acme", Purpose: "mail"}, "invoice/42", byok.ErrOpen},
		{"no purpose", byok.Scope{Tenant: "acme"}, "invoice/42", byok.ErrOpen},
		{"another tenant", byok.Scope{Tenant: "acme2", Purpose: "invoices"}, "invoice/42", byok.ErrOpen},
	} {
		plain, err := k.Open(ctx, c.scope, sealed, []byte(c.aad))
		want(t, c.name, err, c.err)
		if err == nil && string(plain) != "hello" {
			t.Errorf("%s: got %q", c.name, plain)
		}
		if err != nil && (err != byok.ErrOpen || plain != nil) {
			t.Errorf("%s: the refusal is not bare: %v", c.name, err)
		}
	}

	_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(env.CMK("acme").ARN())})
	want(t, "Register a second key", err, byok.ErrKeyTaken)

	// A restart: nothing but the Store survives.
	k2 := env.NewKeeper()
	plain, err := k2.Open(ctx, scope, sealed, []byte("invoice/42"))
	if want(t, "Open after a restart", err, nil); string(plain) != "hello" {
		t.Fatalf("got %q", plain)
	}

	st, err = acme.Revoke(ctx, "leaving")
	want(t, "Revoke", err, nil)
	if st.Status != byok.StatusRevoked || st.Reason != "leaving" {
		t.Fatalf("status after Revoke: %+v", st)
	}
	_, err = k.Open(ctx, scope, sealed, []byte("invoice/42"))
	want(t, "Open after Revoke", err, byok.ErrKeyRemoved)
	want(t, "ErrKeyRemoved in the tree", err, byok.ErrKeyRevoked)
	_, err = k.Seal(ctx, scope, []byte("x"), nil)
	want(t, "Seal after Revoke", err, byok.ErrKeyRemoved)
	st, err = acme.Revoke(ctx, "again")
	if want(t, "Revoke again", err, nil); st.Reason != "leaving" {
		t.Errorf("the second Revoke changed the reason to %q", st.Reason)
	}

	other := env.CMK("acme")
	_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(other.ARN())})
	want(t, "Register another CMK", err, byok.ErrMoveRequired)
	st, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())})
	want(t, "Register the same CMK again", err, nil)
	if st.Status != byok.StatusActive {
		t.Fatalf("the earlier acknowledgement does not count: %+v", st)
	}
	plain, err = k.Open(ctx, scope, sealed, []byte("invoice/42"))
	if want(t, "Open after registering again", err, nil); string(plain) != "hello" {
		t.Fatalf("got %q", plain)
	}

	_, err = acme.Revoke(ctx, "")
	want(t, "Revoke", err, nil)
	st, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(other.ARN()), AbandonExistingData: true})
	if want(t, "Register another CMK, abandoning", err, nil); st.DEKVersion != 2 {
		t.Errorf("DEKVersion = %d after abandoning, want 2", st.DEKVersion)
	}
	env.Fake.ResetCalls()
	_, err = k.Open(ctx, scope, sealed, []byte("invoice/42"))
	if want(t, "Open what was abandoned", err, byok.ErrOpen); len(env.Fake.Calls()) != 0 {
		t.Error("KMS was asked about a key that is not registered (threat D1)")
	}
	fresh := seal(t, k, "acme", "new", "")
	mustOpen(t, k, "acme", fresh, "", "new")
}

func TestSuspendAndResume(t *testing.T) {
	env := byoktest.New(t, nil)
	acme, _ := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	st, err := acme.Suspend(t.Context(), "unpaid")
	want(t, "Suspend", err, nil)
	if st.Status != byok.StatusDisabled || !strings.Contains(st.Reason, "unpaid") {
		t.Fatalf("%+v", st)
	}
	if n := env.Keeper.Stats().Leases; n != 0 {
		t.Errorf("%d leases while suspended", n)
	}
	_, err = open(t, env.Keeper, "acme", sealed, "")
	want(t, "Open while suspended", err, byok.ErrSuspended)
	_, err = open(t, env.NewKeeper(), "acme", sealed, "")
	want(t, "Open while suspended, elsewhere", err, byok.ErrSuspended)
	_, err = acme.Resume(t.Context(), "paid")
	want(t, "Resume", err, nil)
	mustOpen(t, env.Keeper, "acme", sealed, "", "x")
}

// What is not an envelope, or not ours, is refused before any KMS call.
func TestA1_A2_OpenRefusesJunk(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	env.Tenant("umbrella")
	sealed := seal(t, env.Keeper, "acme", "some plaintext that is longer than a tag", "row")
	theirs := seal(t, env.Keeper, "umbrella", "x", "row")
	env.Fake.ResetCalls()

	for i := range len(sealed) * 8 {
		b := bytes.Clone(sealed)
		b[i/8] ^= 1 << (i % 8)
		_, err := open(t, env.Keeper, "acme", b, "row")
		want(t, fmt.Sprintf("bit %d", i), err, byok.ErrOpen)
	}
	for n := range len(sealed) {
		_, err := open(t, env.Keeper, "acme", sealed[:n], "row")
		want(t, fmt.Sprintf("prefix of %d", n), err, byok.ErrOpen)
	}
	_, err := open(t, env.Keeper, "acme", append(bytes.Clone(sealed), 0), "row")
	want(t, "trailing byte", err, byok.ErrOpen)
	_, err = open(t, env.Keeper, "acme", nil, "row")
	want(t, "nothing", err, byok.ErrMalformed)
	_, err = open(t, env.Keeper, "acme", []byte("hello"), "row")
	if want(t, "text", err, byok.ErrMalformed); err.Error() != "byok: not a byok envelope: it does not begin as one" {
		t.Error(err)
	}
	_, err = open(t, env.Keeper, "acme", theirs, "row")
	want(t, "another tenant's", err, byok.ErrOpen)
	if n := len(env.Fake.Calls()); n != 0 {
		t.Errorf("%d KMS calls were made for junk", n)
	}
	mustOpen(t, env.Keeper, "acme", sealed, "row", "some plaintext that is longer than a tag")
}

// Names that run into each other when they are put together are different names (E9, B2).
func TestE9_NamesDoNotRunTogether(t *testing.T) {
	env := byoktest.New(t, nil)
	scopes := []byok.Scope{{Tenant: "a", Purpose: "b.c"}, {Tenant: "a.b", Purpose: "c"}, {Tenant: "a:b", Purpose: "c"},
		{Tenant: "a", Purpose: "b"}, {Tenant: "ab", Purpose: "c"}, {Tenant: "A", Purpose: "b.c"}, {Tenant: "a", Purpose: "default"}}
	registered := map[string]bool{}
	var sealed [][]byte
	for _, s := range scopes {
		if !registered[s.Tenant] {
			env.Tenant(s.Tenant)
			registered[s.Tenant] = true
		}
		b, err := env.Keeper.Seal(t.Context(), s, []byte("x"), nil)
		want(t, "Seal", err, nil)
		sealed = append(sealed, b)
	}
	for i, s := range scopes {
		for j, b := range sealed {
			_, err := env.Keeper.Open(t.Context(), s, b, nil)
			if i == j {
				want(t, fmt.Sprint(s), err, nil)
			} else {
				want(t, fmt.Sprint(s, " opens ", scopes[j]), err, byok.ErrOpen)
			}
		}
	}
}

func TestArguments(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	ctx := t.Context()
	for name, s := range map[string]byok.Scope{
		"no tenant":       {},
		"space":           {Tenant: "a b"},
		"newline":         {Tenant: "a\n"},
		"NUL":             {Tenant: "a\x00"},
		"129 bytes":       {Tenant: strings.Repeat("a", 129)},
		"not ASCII":       {Tenant: "ä"},
		"upper purpose":   {Tenant: "acme", Purpose: "Mail"},
		"slash purpose":   {Tenant: "acme", Purpose: "a/b"},
		"65-byte purpose": {Tenant: "acme", Purpose: strings.Repeat("a", 65)},
	} {
		_, err := env.Keeper.Seal(ctx, s, nil, nil)
		want(t, "Seal: "+name, err, byok.ErrArgument)
		_, err = env.Keeper.Open(ctx, s, nil, nil)
		want(t, "Open: "+name, err, byok.ErrArgument)
	}
	_, err := env.Keeper.Seal(ctx, byok.Scope{Tenant: "acme"}, nil, make([]byte, byok.MaxAAD+1))
	want(t, "aad too long", err, byok.ErrArgument)
	_, err = env.Keeper.Seal(ctx, byok.Scope{Tenant: "acme"}, nil, make([]byte, byok.MaxAAD))
	want(t, "longest aad", err, nil)
	_, err = env.Keeper.Tenant("a b").Register(ctx, byok.Registration{})
	want(t, "Register: bad tenant", err, byok.ErrArgument)
	_, err = env.Keeper.Tenant("new").Register(ctx, byok.Registration{Key: byok.KeyID{}})
	want(t, "Register: no key", err, byok.ErrKeyID)
	_, err = env.Keeper.Tenant("new").Register(ctx, byok.Registration{Key: byok.KeyID{ID: "arn:aws:kms:us-east-1:111122223333:key/x"}})
	if want(t, "Register: no provider", err, byok.ErrKeyID); !strings.Contains(err.Error(), "provider") || strings.Contains(err.Error(), "arn:") {
		t.Errorf("no provider: %v", err)
	}
	_, err = env.Keeper.Tenant("new").Register(ctx, byok.Registration{Key: awskms.Key("alias/x")})
	want(t, "Register: alias", err, byok.ErrKeyID)
	_, err = env.Keeper.Tenant("acme").Rotate(ctx, byok.Rotation{})
	want(t, "Rotate: no type", err, byok.ErrArgument)
	_, err = env.Keeper.Tenant("acme").Revoke(ctx, "line\nbreak")
	want(t, "Revoke: control character", err, byok.ErrArgument)

	for name, o := range map[string]byok.Options{
		"MaxAge too short":  {MaxAge: 1},
		"negative":          {MaxAge: -1},
		"a day":             {MaxAge: 24 * 60 * 60 * 1e9},
		"overflow":          {MaxAge: 1<<63 - 1},
		"with PerOperation": {MaxAge: byok.DefaultMaxAge, PerOperation: true},
		"empty waiver":      {Waiver: &byok.Waiver{}},
	} {
		_, err := byok.New("s", env.Keys, env.Store, env.Audit, &o)
		want(t, "New: "+name, err, byok.ErrArgument)
	}
	for _, service := range []string{"", "a b", strings.Repeat("a", 65), "ä"} {
		_, err := byok.New(service, env.Keys, env.Store, env.Audit, nil)
		want(t, "New: service", err, byok.ErrArgument)
	}
	_, err = byok.New("s", nil, env.Store, env.Audit, nil)
	want(t, "New: no keyring", err, byok.ErrArgument)
}

func TestE20_CloseEndsEverything(t *testing.T) {
	env := byoktest.New(t, nil)
	acme, _ := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	want(t, "Close", env.Keeper.Close(), nil)
	want(t, "Close twice", env.Keeper.Close(), nil)
	_, err := open(t, env.Keeper, "acme", sealed, "")
	want(t, "Open", err, byok.ErrClosed)
	_, err = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
	want(t, "Seal", err, byok.ErrClosed)
	_, err = acme.Status(t.Context())
	want(t, "Status", err, byok.ErrClosed)
	want(t, "Run", env.Keeper.Run(context.Background()), byok.ErrClosed)
	if n := env.Keeper.Stats().Leases; n != 0 {
		t.Errorf("%d leases are left", n)
	}
}
