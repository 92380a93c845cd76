// Package bench measures byok beside other libraries that seal data under a key in a KMS.
//
//	GOWORK=off go test ./...                                      # every peer seals, opens and refuses
//	GOMAXPROCS=1 GOWORK=off go test -run '^$' -bench 'Message/64B/Seal' -cpu 1  # one table
//	GOWORK=off go run ./cmd/report                                # all, into docs/performance.md
package bench

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/byok-go/byok/bench/peers"
)

var aad = []byte("invoice/42")

// random returns n bytes that do not compress and are the same each time.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// start starts p in w, and ends it with the test.
func start(t testing.TB, p peers.Peer, w *peers.World) peers.Library {
	t.Helper()
	l, err := p.Start(t.Context(), w)
	if err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("%s: Close: %v", p.Name, err)
		}
	})
	return l
}

// What is measured is right: every peer opens after a restart what it has sealed, and
// refuses it once a bit of it is wrong, its end is missing, or it is about something else.
func TestPeers(t *testing.T) {
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			w := peers.NewWorld("acme")
			before, after := start(t, p, w), start(t, p, w)
			for _, n := range []int{0, 1, 64, 4000, 64 << 10, 1<<20 + 1} {
				if p.MaxSize > 0 && n > p.MaxSize || n == 0 && p.NoEmpty {
					continue
				}
				plain := random(n)
				sealed, err := before.Seal(t.Context(), "acme", plain, aad)
				if err != nil {
					t.Fatalf("%d bytes: Seal: %v", n, err)
				}
				if n > 16 && bytes.Contains(sealed, plain[:16]) {
					t.Fatalf("%d bytes: the plaintext is in it", n)
				}
				got, err := after.Open(t.Context(), "acme", sealed, aad)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%d bytes: Open: %d bytes, %v", n, len(got), err)
				}
				refused := func(what string, sealed, aad []byte) {
					if _, err := after.Open(t.Context(), "acme", sealed, aad); err == nil {
						t.Errorf("%d bytes: opened with %s", n, what)
					}
				}
				refused("its end missing", sealed[:len(sealed)-1], aad)
				refused("only its beginning", sealed[:8], aad) // none of it makes the AWS Encryption SDK panic
				changed := bytes.Clone(sealed)
				changed[len(changed)/2] ^= 1
				refused("a changed bit", changed, aad)
				if !p.NoAAD {
					refused("another aad", sealed, []byte("invoice/43"))
				}
			}
		})
	}
}

// How often the KMS is asked for a message of a tenant that is in use: what peers promise,
// so that the counter is right.
func TestCalls(t *testing.T) {
	each := map[string]int64{"byok-direct": 1, "tink-envelope": 1, "awsesdk-kms": 1, "kms-wrapping": 1, "gocloud": 1, "sio": 1, "age": 1}
	for _, p := range peers.All() {
		w := peers.NewWorld("acme")
		l := start(t, p, w)
		const n = 10
		before := int64(-1)
		for range 1 + n { // the first makes it hot
			sealed, err := l.Seal(t.Context(), "acme", []byte("hello"), aad)
			if err != nil {
				t.Fatalf("%s: %v", p.Name, err)
			}
			if _, err := l.Open(t.Context(), "acme", sealed, aad); err != nil {
				t.Fatalf("%s: %v", p.Name, err)
			}
			if before < 0 {
				before = w.KMS.Calls()
			}
		}
		if got := w.KMS.Calls() - before; got != 2*n*each[p.Name] {
			t.Errorf("%s: %d calls for %d messages sealed and opened", p.Name, got, n)
		}
	}
}

func TestAppenders(t *testing.T) {
	found := 0
	for _, p := range peers.All() {
		l := start(t, p, peers.NewWorld("acme"))
		a, ok := l.(peers.Appender)
		if !ok {
			continue
		}
		found++
		plain, before := random(1000), []byte("before")
		sealed, err := a.AppendSeal(t.Context(), before, "acme", plain, aad)
		if err != nil || !bytes.HasPrefix(sealed, before) {
			t.Fatalf("%s: AppendSeal: %v", p.Name, err)
		}
		opened, err := a.AppendOpen(t.Context(), before, "acme", sealed[len(before):], aad)
		if err != nil || !bytes.Equal(opened, append(before, plain...)) {
			t.Fatalf("%s: AppendOpen: %d bytes, %v", p.Name, len(opened), err)
		}
	}
	if found == 0 {
		t.Fatal("no peer appends")
	}
}

// Streams open after a restart, in the middle as well, and not without their end.
func TestStreams(t *testing.T) {
	streamers, rangers := 0, 0
	plain := random(3<<20 + 1)
	for _, p := range peers.All() {
		w := peers.NewWorld("acme")
		before, ok := start(t, p, w).(peers.Streamer)
		if !ok {
			continue
		}
		streamers++
		var sealed, opened bytes.Buffer
		if err := before.SealStream(t.Context(), &sealed, bytes.NewReader(plain), "acme", aad); err != nil {
			t.Fatalf("%s: SealStream: %v", p.Name, err)
		}
		after := start(t, p, w).(peers.Streamer)
		if err := after.OpenStream(t.Context(), &opened, bytes.NewReader(sealed.Bytes()), "acme", aad); err != nil || !bytes.Equal(opened.Bytes(), plain) {
			t.Fatalf("%s: OpenStream: %d bytes, %v", p.Name, opened.Len(), err)
		}
		for _, missing := range []int{1, 16, 1 << 20, sealed.Len() - 500} {
			if err := after.OpenStream(t.Context(), io.Discard, bytes.NewReader(sealed.Bytes()[:sealed.Len()-missing]), "acme", aad); err == nil {
				t.Errorf("%s: opened to its end, of which %d bytes were missing", p.Name, missing)
			}
		}
		r, ok := after.(peers.Ranger)
		if !ok {
			continue
		}
		rangers++
		at, err := r.OpenReaderAt(t.Context(), bytes.NewReader(sealed.Bytes()), int64(sealed.Len()), "acme", aad)
		if err != nil {
			t.Fatalf("%s: OpenReaderAt: %v", p.Name, err)
		}
		for _, off := range []int{0, 1, 64<<10 - 1, 1 << 20, len(plain) - 4096} {
			got := make([]byte, 4096)
			if _, err := at.ReadAt(got, int64(off)); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, plain[off:off+4096]) {
				t.Errorf("%s: at %d: %v", p.Name, off, err)
			}
		}
	}
	if streamers < 4 || rangers < 3 {
		t.Fatalf("only %d peers have streams, and %d random access", streamers, rangers)
	}
}
