package sqlstore_test

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
)

// boxKeyring is a KMS that all processes of a test share by a file: its one key
// wraps with AES-GCM, and lets tenant acme in unless the file says otherwise.
type boxKeyring struct{ policy string }

var boxKey = byok.KeyID{Provider: "box", ID: "box-1"}

func (b *boxKeyring) box(op string, ec byok.EncryptionContext) (cipher.AEAD, []byte, error) {
	policy, err := os.ReadFile(b.policy)
	if err != nil {
		return nil, nil, &byok.KeyError{Op: op, Key: boxKey, Class: byok.ClassOutage, Err: err}
	}
	if ec[byok.ContextTenant] != "acme" || string(policy) != "allow" {
		return nil, nil, &byok.KeyError{Op: op, Key: boxKey, Class: byok.ClassDenied, Code: "AccessDeniedException", RequestID: "r"}
	}
	block, err := aes.NewCipher([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	aad, _ := json.Marshal(ec) // maps are written in order
	return aead, aad, err
}

func (b *boxKeyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	raw := make([]byte, 32)
	for i, c := range []byte(ec[byok.ContextDataKey]) { // which is random
		raw[i] = c
	}
	dek, err := byok.NewDEK(raw)
	if err != nil {
		return nil, byok.Wrapped{}, err
	}
	w, err := b.WrapDataKey(ctx, key, dek, ec)
	return dek, w, err
}

func (b *boxKeyring) WrapDataKey(_ context.Context, _ byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (w byok.Wrapped, err error) {
	aead, aad, err := b.box("Encrypt", ec)
	if err == nil {
		err = dek.Use(func(raw []byte) error { w.Bytes = aead.Seal(nil, nil, raw, aad); return nil })
	}
	return w, err
}

func (b *boxKeyring) UnwrapDataKey(_ context.Context, _ byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	aead, aad, err := b.box("Decrypt", ec)
	if err != nil {
		return nil, byok.Receipt{}, err
	}
	raw, err := aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, byok.Receipt{}, &byok.KeyError{Op: "Decrypt", Key: boxKey, Class: byok.ClassBlob}
	}
	dek, err := byok.NewDEK(raw)
	return dek, byok.Receipt{}, err
}

func boxKeeper(s *sqlstore.Store, path string) (*byok.Keeper, error) {
	return byok.New("fleet", &boxKeyring{path + ".policy"}, s, s, nil)
}

// followAndOpen opens one record all the time, and says whenever what comes of it changes.
func followAndOpen(ctx context.Context, s *sqlstore.Store) error {
	k, err := boxKeeper(s, os.Getenv(fileEnv))
	if err != nil {
		return err
	}
	defer k.Close()
	go func() { _ = k.Run(ctx) }()
	sealed, err := hex.DecodeString(os.Getenv(nameEnv))
	if err != nil {
		return err
	}
	said := "nothing"
	for ctx.Err() == nil {
		_, err := k.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil)
		if code := byok.Code(err); code != said {
			said = code
			fmt.Printf("now %s\n", code)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return ctx.Err()
}

// TestFleet has real processes on one file: what one commands, and a denial that
// one sees, take effect in the others long before their leases end.
func TestFleet(t *testing.T) {
	path := file(t)
	policy := func(word string) {
		if err := errors.Join(os.WriteFile(path+".new", []byte(word), 0o600), os.Rename(path+".new", path+".policy")); err != nil {
			t.Fatal(err)
		}
	}
	policy("allow")
	k, err := boxKeeper(open(t, path).Store, path)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	acme := k.Tenant("acme")
	_, err = acme.Register(t.Context(), byok.Registration{Key: boxKey})
	if err == nil {
		_, err = acme.AcknowledgeWaiver(t.Context(), byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	const n = 3
	said := make([]chan string, n)
	for i := range n {
		cmd := child("follow", path, hex.EncodeToString(sealed))
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		said[i] = make(chan string, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for r := bufio.NewScanner(out); r.Scan(); {
				said[i] <- strings.TrimPrefix(r.Text(), "now ")
			}
			close(said[i])
		}()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() })
	}
	// A lease is renewed after 27 s at the earliest. A loaded machine may take its time.
	const soon = 15 * time.Second
	expect := func(what, code string) {
		t.Helper()
		limit := time.After(soon)
		for i := range n {
			for got := "nothing"; got != code; {
				select {
				case got = <-said[i]:
				case <-limit:
					t.Fatalf("process %d does not answer %q within %v of %s", i, code, soon, what)
				}
				if !slices.Contains([]string{"", "BYOK_010", "BYOK_002"}, got) {
					t.Fatalf("process %d says %q after %s", i, got, what)
				}
			}
		}
	}
	expect("the start", "")
	for round := range 2 {
		start := time.Now()
		if _, err := acme.Suspend(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		expect("Suspend", "BYOK_010")
		t.Logf("round %d: suspended everywhere after %v", round, time.Since(start))
		if _, err := acme.Resume(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		expect("Resume", "")
	}
	start := time.Now()
	policy("deny")
	if _, err := acme.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("a denial", "BYOK_002")
	t.Logf("denied everywhere after %v", time.Since(start))
}
