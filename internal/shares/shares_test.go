package shares

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha512.New384, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// The data key is what SPEC.md says, by RFC 5869 and nothing else, and what it prints.
func TestCombine(t *testing.T) {
	id := bytes.Repeat([]byte{0xd1}, 16)
	a, b := bytes.Repeat([]byte{1}, Size), bytes.Repeat([]byte{2}, Size)
	got, err := Combine(id, [][]byte{a, b})
	if err != nil {
		t.Fatal(err)
	}
	prk := mac(append([]byte("byok/v1/all\x00"), id...), []byte{0, 32}, a, []byte{0, 32}, b)
	if want := mac(prk, []byte("byok/v1/data-key\x00"), []byte{1})[:32]; !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	spec, err := os.ReadFile("../../SPEC.md")
	if err != nil || !strings.Contains(string(spec), "\n"+hex.EncodeToString(got)+"\n") {
		t.Errorf("%v: %x is not in SPEC.md", err, got)
	}
}

// Another share, order, number of shares or id is another data key.
func TestEverythingCounts(t *testing.T) {
	id := make([]byte, 16)
	shares := [][]byte{bytes.Repeat([]byte{1}, Size), bytes.Repeat([]byte{2}, Size), bytes.Repeat([]byte{3}, Size)}
	seen := map[string]string{}
	try := func(what string, id []byte, s ...[]byte) {
		got, err := Combine(id, s)
		if err != nil || len(got) != Size {
			t.Fatalf("%s: %x, %v", what, got, err)
		}
		if was, dup := seen[string(got)]; dup {
			t.Errorf("%s and %s give one data key", what, was)
		}
		seen[string(got)] = what
	}
	try("two", id, shares[:2]...)
	try("three", id, shares...)
	try("another order", id, shares[1], shares[0])
	try("twice the same", id, shares[0], shares[0])
	for i := range 2 * Size * 8 {
		s := bytes.Join(shares[:2], nil)
		s[i/8] ^= 1 << (i % 8)
		try("a bit", id, s[:Size], s[Size:])
	}
	other := bytes.Clone(id)
	other[15] = 1
	try("another id", other, shares[:2]...)
}

// What is wrapped under shares is unwrapped by all of them, with the id, and by nothing else; and it is what SPEC.md
// says, by AES-GCM with the nonce in front.
func TestWrap(t *testing.T) {
	id, key := bytes.Repeat([]byte{0xd1}, 16), bytes.Repeat([]byte{7}, Size)
	a, b := bytes.Repeat([]byte{1}, Size), bytes.Repeat([]byte{2}, Size)
	wrapped, err := Wrap(id, [][]byte{a, b}, key)
	if err != nil || len(wrapped) != WrappedSize {
		t.Fatalf("%x, %v", wrapped, err)
	}
	again, err := Wrap(id, [][]byte{a, b}, key)
	if err != nil || bytes.Equal(again, wrapped) {
		t.Errorf("twice the same, %v", err)
	}
	prk := mac(append([]byte("byok/v1/all\x00"), id...), []byte{0, 32}, a, []byte{0, 32}, b)
	block, err := aes.NewCipher(mac(prk, []byte("byok/v1/wrap-key\x00"), []byte{1})[:32])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range [][]byte{wrapped, again} {
		for _, open := range []func() ([]byte, error){
			func() ([]byte, error) { return Unwrap(id, [][]byte{a, b}, w) },
			func() ([]byte, error) { return gcm.Open(nil, nil, w, nil) },
		} {
			if got, err := open(); err != nil || !bytes.Equal(got, key) {
				t.Errorf("%x, %v", got, err)
			}
		}
	}
	spec, err := os.ReadFile("../../SPEC.md") // which another implementation has made
	if err != nil {
		t.Fatal(err)
	}
	_, printed, ok := strings.Cut(string(spec), "in 60 bytes:\n\n```\n")
	printed, _, _ = strings.Cut(printed, "```")
	moved, err := hex.DecodeString(strings.Join(strings.Fields(printed), ""))
	if err != nil || !ok {
		t.Fatalf("SPEC.md prints no moved data key: %v", err)
	}
	want := make([]byte, Size)
	for i := range want {
		want[i] = byte(i)
	}
	if got, err := Unwrap(id, [][]byte{a, b}, moved); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what SPEC.md prints: %x, %v", got, err)
	}
	other := bytes.Clone(id)
	other[0] ^= 1
	for what, f := range map[string]func() ([]byte, error){
		"one share":     func() ([]byte, error) { return Unwrap(id, [][]byte{a}, wrapped) },
		"another share": func() ([]byte, error) { return Unwrap(id, [][]byte{a, a}, wrapped) },
		"another order": func() ([]byte, error) { return Unwrap(id, [][]byte{b, a}, wrapped) },
		"more shares":   func() ([]byte, error) { return Unwrap(id, [][]byte{a, b, b}, wrapped) },
		"another id":    func() ([]byte, error) { return Unwrap(other, [][]byte{a, b}, wrapped) },
		"shorter":       func() ([]byte, error) { return Unwrap(id, [][]byte{a, b}, wrapped[1:]) },
		"longer":        func() ([]byte, error) { return Unwrap(id, [][]byte{a, b}, append(bytes.Clone(wrapped), 0)) },
		"nothing":       func() ([]byte, error) { return Unwrap(id, [][]byte{a, b}, nil) },
		"a short key":   func() ([]byte, error) { return Wrap(id, [][]byte{a, b}, key[1:]) },
		"under one":     func() ([]byte, error) { return Wrap(id, [][]byte{a}, key) },
	} {
		if got, err := f(); err == nil || got != nil {
			t.Errorf("%s: %x", what, got)
		}
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if got, err := Unwrap(id, [][]byte{a, b}, bad); err == nil {
			t.Errorf("byte %d: %x", i, got)
		}
	}
}

func TestMUST21_Refused(t *testing.T) {
	id, good := make([]byte, 16), make([]byte, Size)
	for what, s := range map[string][][]byte{
		"none": nil, "one": {good}, "short": {good, good[:31]}, "long": {good, append(good, 0)}, "empty": {nil, good}, "nil": {good, nil},
	} {
		if got, err := Combine(id, s); err == nil || got != nil {
			t.Errorf("%s: %x", what, got)
		}
	}
	for _, id := range [][]byte{nil, id[:15], append(id, 0)} {
		if _, err := Combine(id, [][]byte{good, good}); err == nil {
			t.Errorf("an id of %d bytes", len(id))
		}
	}
}
