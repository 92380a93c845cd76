//go:build unix

package byok_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

var benchSizes = []struct {
	name string
	n    int
}{{"64B", 64}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

var (
	benchScope = byok.Scope{Tenant: "acme"}
	benchAAD   = []byte("invoice/42")
)

// go test -run '^$' -bench . -count 5 .
func BenchmarkSeal(b *testing.B) {
	benchKeeper(b, func(k *byok.Keeper, plain, _ []byte) func() error {
		return func() error {
			_, err := k.Seal(b.Context(), benchScope, plain, benchAAD)
			return err
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	benchKeeper(b, func(k *byok.Keeper, _, sealed []byte) func() error {
		return func() error {
			_, err := k.Open(b.Context(), benchScope, sealed, benchAAD)
			return err
		}
	})
}

func BenchmarkAppendSeal(b *testing.B) {
	benchKeeper(b, func(k *byok.Keeper, plain, sealed []byte) func() error {
		buf := make([]byte, 0, len(sealed))
		return func() error {
			_, err := k.AppendSeal(b.Context(), buf, benchScope, plain, benchAAD)
			return err
		}
	})
}

func BenchmarkAppendOpen(b *testing.B) {
	benchKeeper(b, func(k *byok.Keeper, plain, sealed []byte) func() error {
		buf := make([]byte, 0, len(plain))
		return func() error {
			_, err := k.AppendOpen(b.Context(), buf, benchScope, sealed, benchAAD)
			return err
		}
	})
}

// benchKeeper measures what op returns, one after the other, and then in GOMAXPROCS
// goroutines, each with an op of its own: so with two cores, wall time should halve.
func benchKeeper(b *testing.B, op func(k *byok.Keeper, plain, sealed []byte) func() error) {
	for _, size := range benchSizes {
		env := byoktest.New(b, &byoktest.Options{Sink: discard{}})
		env.Tenant("acme")
		plain := make([]byte, size.n)
		sealed, err := env.Keeper.Seal(b.Context(), benchScope, plain, benchAAD)
		if err != nil {
			b.Fatal(err) // hot from here on
		}
		run := func(name string, loop func(b *testing.B)) {
			b.Run(size.name+"/"+name, func(b *testing.B) {
				before := env.Keeper.Stats().KMSCalls
				measure(b, size.n, func() { loop(b) })
				b.ReportMetric(float64(env.Keeper.Stats().KMSCalls-before)/float64(b.N), "kms/op")
			})
		}
		run("one", func(b *testing.B) {
			f := op(env.Keeper, plain, sealed)
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
		run("all", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				f := op(env.Keeper, plain, sealed)
				for pb.Next() {
					if err := f(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkScale is Seal and Open in turns in one goroutine for each core, of one tenant and
// purpose or of one each:
//
//	go test -run '^$' -bench Scale -cpu 1,2 -count 10 .
//
// What the goroutines cost each other is how much cpu-ns/op grows: twice that with one
// core, divided by that with two, is the speed-up on two idle cores.
func BenchmarkScale(b *testing.B) {
	for _, size := range benchSizes[:2] {
		for _, tenants := range []string{"one", "each"} {
			b.Run(size.name+"/"+tenants, func(b *testing.B) {
				env := byoktest.New(b, &byoktest.Options{Sink: discard{}})
				var scopes []byok.Scope
				for i := range runtime.GOMAXPROCS(0) {
					name := fmt.Sprint("acme", i)
					if tenants == "one" {
						name = "acme"
					}
					if i == 0 || tenants == "each" {
						env.Tenant(name)
					}
					scopes = append(scopes, byok.Scope{Tenant: name})
					if _, err := env.Keeper.Seal(b.Context(), scopes[i], nil, nil); err != nil { // hot from here on
						b.Fatal(err)
					}
				}
				var n atomic.Int64
				measure(b, size.n, func() {
					b.RunParallel(func(pb *testing.PB) {
						s, plain := scopes[int(n.Add(1)-1)%len(scopes)], make([]byte, size.n)
						for pb.Next() {
							sealed, err := env.Keeper.Seal(b.Context(), s, plain, benchAAD)
							if err == nil {
								_, err = env.Keeper.Open(b.Context(), s, sealed, benchAAD)
							}
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			})
		}
	}
}

// measure reports the process's CPU time beside the wall time: on a machine with other
// work to do the former is steadier. It includes the garbage collector's.
func measure(b *testing.B, size int, loop func()) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	before := cpuTime(b)
	loop()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// The yardsticks: AES-256-GCM and nothing else, with a fresh key for each message, and with
// one key and one buffer for all.
func BenchmarkPlainGCM(b *testing.B) {
	aead := func() cipher.AEAD {
		key := make([]byte, 32)
		_, _ = rand.Read(key)
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
	for _, size := range benchSizes {
		plain := make([]byte, size.n)
		b.Run(size.name+"/fresh", func(b *testing.B) {
			measure(b, size.n, func() {
				for b.Loop() {
					aead().Seal(nil, nil, plain, nil)
				}
			})
		})
		b.Run(size.name+"/reused", func(b *testing.B) {
			gcm, buf := aead(), make([]byte, 0, size.n+28)
			measure(b, size.n, func() {
				for b.Loop() {
					gcm.Seal(buf, nil, plain, nil)
				}
			})
		})
	}
}
