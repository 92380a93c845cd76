package byok_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// What callers do with their slices and maps, before, after and while byok has
// them, changes nothing of what byok has (threat I-7).
func TestI_7_CallersReuseTheirSlices(t *testing.T) {
	env := byoktest.New(t, nil)
	waiver, observer := byok.DefaultWaiver(), byok.Observer{}
	opts := &byok.Options{Waiver: &waiver, Observer: &observer, MaxAge: time.Minute}
	k, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, opts)
	want(t, "New", err, nil)
	defer k.Close()
	waiver.Text, waiver.Version = "another text", "99"
	observer.KMSCall = func(string, byok.KMSCall) { t.Error("a hook that was set after New was called") }
	*opts = byok.Options{PerOperation: true}
	if k.Waiver() != byok.DefaultWaiver() {
		t.Error("the caller's waiver is ours")
	}
	clear(k.Tenant("acme").EncryptionContext())
	cmk := env.CMK("acme")
	_, err = register(t, k.Tenant("acme"), cmk)
	want(t, "Register", err, nil)
	_, err = k.Tenant("acme").AcknowledgeWaiver(t.Context(), accepted)
	want(t, "AcknowledgeWaiver", err, nil)

	plain, aad := []byte("plaintext"), []byte("row 42")
	s := byok.Scope{Tenant: "acme"}
	sealed, err := k.Seal(t.Context(), s, plain, aad)
	want(t, "Seal", err, nil)
	if string(plain) != "plaintext" || string(aad) != "row 42" {
		t.Error("Seal changed its arguments")
	}
	clear(plain)
	clear(aad)
	given, row := bytes.Clone(sealed), []byte("row 42")
	first, err := k.Open(t.Context(), s, given, row)
	want(t, "Open", err, nil)
	if !bytes.Equal(given, sealed) || string(row) != "row 42" {
		t.Error("Open changed its arguments")
	}
	clear(given)
	clear(row)
	if string(first) != "plaintext" {
		t.Errorf("what was opened is now %q", first)
	}
	clear(first)
	mustOpen(t, k, "acme", sealed, "row 42", "plaintext")

	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	within := seal(t, alone, "acme", "x", "")
	h, err := byok.Inspect(within)
	want(t, "Inspect", err, nil)
	clear(h.Recipients[0].Wrapped)
	mustOpen(t, k, "acme", within, "", "x")
	page, err := env.Audit.Events(t.Context(), "acme", byok.AuditQuery{Limit: 1})
	want(t, "Events", err, nil)
	page.Events[0].Op = "spoiled"
	page, err = env.Audit.Events(t.Context(), "acme", byok.AuditQuery{Limit: 1})
	if want(t, "Events", err, nil); page.Events[0].Op == "spoiled" {
		t.Error("events are shared")
	}
}

// A caller that leaves while its envelope's data key is being loaded, and uses its
// buffer for something else: others wait for the same load, and get their data key.
func TestI_7_BufferReusedDuringALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
		want(t, "New", err, nil)
		defer alone.Close()
		sealed := seal(t, alone, "acme", "x", "")
		store.delay.Store(int64(time.Second)) // before KMS is asked
		given := bytes.Clone(sealed)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		left := make(chan error)
		go func() {
			_, err := env.Keeper.Open(ctx, byok.Scope{Tenant: "acme"}, given, nil)
			clear(given)
			left <- err
		}()
		time.Sleep(1200 * time.Millisecond)
		waits := make(chan error)
		go func() {
			plain, err := env.Keeper.Open(t.Context(), byok.Scope{Tenant: "acme"}, sealed, nil)
			if err == nil && string(plain) != "x" {
				t.Errorf("opened as %q", plain)
			}
			waits <- err
		}()
		want(t, "Open of the caller that left", <-left, context.DeadlineExceeded)
		want(t, "Open of the one that waited", <-waits, nil)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	})
}

// Plaintext, envelope and aad in one array, the output of one call the input of
// the next: whole results, and no plaintext where a call failed (threat I-8). The
// results are new memory: internal/floe has the cases in which they are not.
func TestI_8_OneArray(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	s := byok.Scope{Tenant: "acme"}
	array := []byte("plaintext and aad in one array, overlapping each other")
	copyOf := bytes.Clone(array)
	for from := range 20 {
		for to := from; to < from+20; to++ {
			plain, aad := array[from:to], array[from/2:to]
			sealed, err := env.Keeper.Seal(t.Context(), s, plain, aad)
			want(t, "Seal", err, nil)
			buffer := append(make([]byte, 0, 2*len(sealed)), sealed...)
			opened, err := env.Keeper.Open(t.Context(), s, buffer, aad)
			want(t, "Open", err, nil)
			if !bytes.Equal(opened, plain) || !bytes.Equal(buffer, sealed) {
				t.Fatalf("[%d:%d] opens as %q", from, to, opened)
			}
			buffer[len(buffer)-1] ^= 1
			opened, err = env.Keeper.Open(t.Context(), s, buffer, aad)
			if want(t, "Open", err, byok.ErrOpen); opened != nil || len(plain) > 8 && bytes.Contains(buffer[:cap(buffer)], plain) {
				t.Fatal("plaintext beside an error")
			}
			_, err = env.Keeper.Open(t.Context(), s, sealed, sealed[:min(len(sealed), byok.MaxAAD)]) // the envelope is its own aad
			want(t, "Open", err, byok.ErrOpen)
		}
	}
	if !bytes.Equal(array, copyOf) {
		t.Error("the caller's array was changed")
	}
}
