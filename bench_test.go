package byok_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// discard is an AuditSink that costs nothing, so that the figures are byok's.
type discard struct{}

func (discard) Record(context.Context, byok.Event) error { return nil }

var benchSizes = []struct {
	name string
	n    int
}{{"64B", 64}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

// go test -run '^$' -bench 'Seal|Open|PlainGCM' .
func BenchmarkSeal(b *testing.B) {
	benchKeeper(b, func(b *testing.B, k *byok.Keeper, plain []byte) {
		for b.Loop() {
			if _, err := k.Seal(b.Context(), byok.Scope{Tenant: "acme"}, plain, []byte("invoice/42")); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	benchKeeper(b, func(b *testing.B, k *byok.Keeper, plain []byte) {
		sealed, err := k.Seal(b.Context(), byok.Scope{Tenant: "acme"}, plain, []byte("invoice/42"))
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := k.Open(b.Context(), byok.Scope{Tenant: "acme"}, sealed, []byte("invoice/42")); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchKeeper(b *testing.B, f func(*testing.B, *byok.Keeper, []byte)) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			env := byoktest.New(b, &byoktest.Options{Sink: discard{}})
			env.Tenant("acme")
			plain := make([]byte, size.n)
			if _, err := env.Keeper.Seal(b.Context(), byok.Scope{Tenant: "acme"}, plain, nil); err != nil {
				b.Fatal(err) // hot from here on
			}
			before := env.Keeper.Stats().KMSCalls
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			f(b, env.Keeper, plain)
			b.ReportMetric(float64(env.Keeper.Stats().KMSCalls-before)/float64(b.N), "kms-calls/op")
		})
	}
}

// What a fresh AES-256-GCM key for each message costs without any of it: the
// yardstick in the same run.
func BenchmarkPlainGCM(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			plain, key := make([]byte, size.n), make([]byte, 32)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = rand.Read(key)
				block, err := aes.NewCipher(key)
				if err != nil {
					b.Fatal(err)
				}
				gcm, err := cipher.NewGCMWithRandomNonce(block)
				if err != nil {
					b.Fatal(err)
				}
				gcm.Seal(nil, nil, plain, nil)
			}
		})
	}
}

// A hot operation makes no KMS call and a bounded number of allocations.
func TestHotPath(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Sink: discard{}})
	env.Tenant("acme")
	s, plain := byok.Scope{Tenant: "acme"}, make([]byte, 64)
	sealed := seal(t, env.Keeper, "acme", string(plain), "")
	before := env.Keeper.Stats()
	// 22 and 24 by default, before there were budgets, limits and statistics, and with them;
	// FIPS mode allocates more.
	limit := 26.0 // the race detector adds two
	if fips140.Enabled() {
		limit = 40
	}
	for name, f := range map[string]func() error{
		"Seal": func() error { _, err := env.Keeper.Seal(t.Context(), s, plain, nil); return err },
		"Open": func() error { _, err := env.Keeper.Open(t.Context(), s, sealed, nil); return err },
	} {
		n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: %v allocations", name, n)
		if n > limit {
			t.Errorf("%s makes %v allocations, want at most %v", name, n, limit)
		}
	}
	after := env.Keeper.Stats()
	if after.KMSCalls != before.KMSCalls || after.Hits < before.Hits+200 {
		t.Error(fmt.Sprint("not hot: ", before, after))
	}
}
