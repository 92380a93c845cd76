package floe

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// FuzzOpen looks for panics, for two ways of opening that disagree, and for a message
// that opens though nobody sealed it. Its seeds are the 78 cases, since the set of
// messages that may open must be the same in every process of the fuzzer.
func FuzzOpen(f *testing.F) {
	cases := floeCases(f)
	key, aad := fromHex(f, cases[0].Key), fromHex(f, cases[0].AAD)
	sealed := map[string]bool{}
	for _, c := range cases {
		f.Add(fromHex(f, c.CT))
		// Some cases are invalid only because of their own key, aad or segment size.
		sealed[string(fromHex(f, c.CT))] = c.AAD == cases[0].AAD && c.Key == cases[0].Key && c.Result == "valid" ||
			c.Flags[0] == "WrongKey" || c.Flags[0] == "WrongContext" || c.Flags[0] == "Downgrade"
	}
	if len(sealed) < 70 {
		f.Fatalf("only %d different seeds", len(sealed))
	}
	f.Fuzz(func(t *testing.T, ct []byte) {
		opened := false
		for _, allowed := range []func([]byte) (params, error){accept, pinned(tiny)} {
			pt, err := open(nil, key, aad, ct, allowed)
			opened = opened || err == nil
			if err != nil && (pt != nil || err != ErrAuth && err != ErrMalformed) {
				t.Fatalf("%d bytes with error %v", len(pt), err)
			}
			got, streamErr := stream(ct, key, aad, allowed)
			if err == nil && (streamErr != io.EOF || !bytes.Equal(got, pt)) || err != nil && streamErr != err {
				t.Fatalf("Open: %v, Reader: %v", err, streamErr)
			}
		}
		if opened != sealed[string(ct)] {
			t.Fatalf("opens: %v, sealed: %v", opened, sealed[string(ct)])
		}
	})
}

var benchSizes = []int{64, 1 << 10, 64 << 10, 1 << 20}

func BenchmarkSeal(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			msg, dst := make([]byte, n), make([]byte, 0, SealedSize(Params{}, n))
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Seal(dst, testKey, Params{}, testAAD, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ct, err := Seal(nil, testKey, Params{}, testAAD, make([]byte, n))
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(dst, testKey, testAAD, ct); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An allocation more on the hot path is a decision, not an accident.
func TestAllocations(t *testing.T) {
	msg := make([]byte, 64)
	dst := make([]byte, 0, 1000)
	ct, err := Seal(nil, testKey, Params{}, testAAD, msg)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 24 // 15 as measured by the benchmarks; FIPS mode adds 2, the race detector up to 4
	if n := testing.AllocsPerRun(100, func() { Seal(dst, testKey, Params{}, testAAD, msg) }); n > limit {
		t.Errorf("Seal allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { Open(dst, testKey, testAAD, ct) }); n > limit {
		t.Errorf("Open allocates %v times", n)
	}
}
