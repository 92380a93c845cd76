//go:build unix

package byok_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha512"
	"slices"
	"testing"
	"time"

	"github.com/byok-go/byok/byoktest"
)

// BenchmarkRatio compares the append forms with what they cannot do without, a few of each in
// turns, and reports the medians and the median of the ratios: a machine that is busy, or slow
// for a while, slows both. What the garbage collector does in between is left out.
//
//	go test -run '^$' -bench Ratio -benchtime 2s .
//
// Up to a segment (floor) that is the primitives that FLOE prescribes: eleven blocks of SHA-384, an AES-GCM
// with a fresh key, and for Seal 44 random bytes. For large messages (plain) it is AES-GCM with a random
// nonce, one key and one buffer.
func BenchmarkRatio(b *testing.B) {
	gcm := func(key []byte) cipher.AEAD {
		block, err := aes.NewCipher(key)
		if err != nil {
			b.Fatal(err)
		}
		g, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			b.Fatal(err)
		}
		return g
	}
	for _, size := range benchSizes {
		env := byoktest.New(b, &byoktest.Options{Sink: discard{}})
		env.Tenant("acme")
		plain := make([]byte, size.n)
		sealed, err := env.Keeper.Seal(b.Context(), benchScope, plain, benchAAD)
		if err != nil {
			b.Fatal(err)
		}
		buf, key, data := make([]byte, 0, len(sealed)), make([]byte, 32), make([]byte, 11*sha512.BlockSize)
		out := make([]byte, 0, size.n+28)
		reused, hash := gcm(key), sha512.New384()
		gcmSealed := reused.Seal(nil, nil, plain, nil)
		var iv [32]byte
		derive := func() cipher.AEAD {
			hash.Write(data)
			return gcm(key)
		}
		floor := map[bool]func(){
			true:  func() { _, _ = rand.Read(iv[:]); derive().Seal(out, nil, plain, nil) },
			false: func() { derive(); _, _ = reused.Open(out, nil, gcmSealed, nil) }, // sealed under one key: the other is as long
		}
		unit, turns := "floor", 20
		if size.n > 1<<10 {
			unit, turns = "plain", 1
			floor[true] = func() { reused.Seal(out, nil, plain, nil) }
			floor[false] = func() { _, _ = reused.Open(out, nil, gcmSealed, nil) }
		}
		for _, seals := range []bool{true, false} {
			name, op := "AppendOpen", func() error {
				_, err := env.Keeper.AppendOpen(b.Context(), buf, benchScope, sealed, benchAAD)
				return err
			}
			if seals {
				name, op = "AppendSeal", func() error {
					_, err := env.Keeper.AppendSeal(b.Context(), buf, benchScope, plain, benchAAD)
					return err
				}
			}
			b.Run(size.name+"/"+name, func(b *testing.B) {
				var ours, theirs, ratio []float64
				for b.Loop() {
					begun := time.Now()
					for range turns {
						if err := op(); err != nil {
							b.Fatal(err)
						}
					}
					half := time.Now()
					for range turns {
						floor[seals]()
					}
					o, t := float64(half.Sub(begun))/float64(turns), float64(time.Since(half))/float64(turns)
					ours, theirs, ratio = append(ours, o), append(theirs, t), append(ratio, o/t)
				}
				b.ReportMetric(0, "ns/op") // of both: it says nothing
				b.ReportMetric(median(ours), "ns")
				b.ReportMetric(median(theirs), unit+"-ns")
				b.ReportMetric(median(ratio), "x-"+unit)
			})
		}
	}
}

var clockSink time.Time // what is read into it is not optimized away

// BenchmarkFloor is what the floor of BenchmarkRatio consists of, for 64 bytes, and a reading of the
// clock: medians.
func BenchmarkFloor(b *testing.B) {
	key, plain, out := make([]byte, 32), make([]byte, 64), make([]byte, 0, 92)
	fresh := func() cipher.AEAD {
		block, err := aes.NewCipher(key)
		if err != nil {
			b.Fatal(err)
		}
		gcm, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			b.Fatal(err)
		}
		return gcm
	}
	var iv [32]byte
	hash, blocks, gcm := sha512.New384(), make([]byte, 11*sha512.BlockSize), fresh()
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"sha384-11-blocks", func() { hash.Write(blocks) }},
		{"gcm-fresh-key", func() { fresh() }},
		{"gcm-seal", func() { gcm.Seal(out, nil, plain, nil) }}, // with 12 of the random bytes
		{"random-32", func() { _, _ = rand.Read(iv[:]) }},
		{"clock", func() { clockSink = time.Now() }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var all []float64
			for b.Loop() {
				begun := time.Now()
				for range 20 {
					c.f()
				}
				all = append(all, float64(time.Since(begun))/20)
			}
			b.ReportMetric(0, "ns/op") // of twenty
			b.ReportMetric(median(all), "ns")
		})
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
