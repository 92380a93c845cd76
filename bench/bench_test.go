//go:build unix

package bench

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/byok-go/byok/bench/peers"
)

// The metrics beside Go's own: cpu-ns/op is the processor time of the process, the garbage
// collector's included, which other work on the machine disturbs little; kms/op are requests to
// the KMS, more-B/op what is stored beyond the message, and procs is GOMAXPROCS.

var turn = flag.Int("turn", 0, "which peer begins: what is first in a process pays for what others find done")

// inTurn is all peers.
func inTurn() []peers.Peer {
	all := peers.All()
	first := *turn % len(all)
	return append(all[first:], all[:first]...)
}

func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // RUSAGE_SELF is always there
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// measure reports what loop has taken, which runs b.N operations on size bytes each.
func measure(b *testing.B, w *peers.World, size int64, loop func()) {
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer() // what was before is none of it
	calls, cpu := w.KMS.Calls(), cpuTime()
	loop()
	cpu, calls = cpuTime()-cpu, w.KMS.Calls()-calls
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(calls)/float64(b.N), "kms/op")
	b.ReportMetric(float64(runtime.GOMAXPROCS(0)), "procs")
}

// repeat measures one operation after the other. Its GOMAXPROCS is the environment's, since
// package testing sets that of -cpu only after a first run, which is the only one of b.Loop.
func repeat(b *testing.B, w *peers.World, size int64, op func() error) {
	b.Helper()
	measure(b, w, size, func() {
		for b.Loop() {
			if err := op(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// work is what is done with a message. dst has room for the result.
type work struct {
	name    string
	appends bool
	do      func(b *testing.B, l peers.Library, dst, plain, sealed []byte) error
}

var (
	seal = work{"Seal", false, func(b *testing.B, l peers.Library, _, plain, _ []byte) error {
		_, err := l.Seal(b.Context(), "acme", plain, aad)
		return err
	}}
	open = work{"Open", false, func(b *testing.B, l peers.Library, _, _, sealed []byte) error {
		_, err := l.Open(b.Context(), "acme", sealed, aad)
		return err
	}}
	appendSeal = work{"AppendSeal", true, func(b *testing.B, l peers.Library, dst, plain, _ []byte) error {
		_, err := l.(peers.Appender).AppendSeal(b.Context(), dst, "acme", plain, aad)
		return err
	}}
	appendOpen = work{"AppendOpen", true, func(b *testing.B, l peers.Library, dst, _, sealed []byte) error {
		_, err := l.(peers.Appender).AppendOpen(b.Context(), dst, "acme", sealed, aad)
		return err
	}}
)

// sizeName is for whole numbers of its units.
func sizeName[I int | int64](n I) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	for len(units) > 1 && n%1024 == 0 {
		n, units = n/1024, units[1:]
	}
	return fmt.Sprint(n, units[0])
}

// messages calls run for each peer, size and work, with a tenant that is hot.
func messages(b *testing.B, sizes []int, works []work, run func(b *testing.B, w *peers.World, size, more int, do func(dst []byte) error)) {
	for _, size := range sizes {
		plain := random(size)
		for _, work := range works {
			for _, p := range inTurn() {
				if p.MaxSize > 0 && size > p.MaxSize || work.appends && !isAppender(b, p) {
					continue
				}
				b.Run(fmt.Sprintf("%s/%s/%s", sizeName(size), work.name, p.Name), func(b *testing.B) {
					w := peers.NewWorld("acme")
					l := start(b, p, w)
					sealed, err := l.Seal(b.Context(), "acme", plain, aad)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := l.Open(b.Context(), "acme", sealed, aad); err != nil {
						b.Fatal(err)
					}
					run(b, w, size, len(sealed)-size, func(dst []byte) error { return work.do(b, l, dst, plain, sealed) })
				})
			}
		}
	}
}

func isAppender(b *testing.B, p peers.Peer) bool {
	_, ok := start(b, p, peers.NewWorld("acme")).(peers.Appender)
	return ok
}

// One message after the other.
func BenchmarkMessage(b *testing.B) {
	messages(b, []int{64, 1 << 10, 64 << 10, 1 << 20}, []work{seal, open, appendSeal, appendOpen}, func(b *testing.B, w *peers.World, size, more int, do func([]byte) error) {
		dst := make([]byte, 0, size+more)
		repeat(b, w, int64(size), func() error { return do(dst) })
		b.ReportMetric(float64(more), "more-B/op")
	})
}

// GOMAXPROCS messages at a time: -cpu 1,2 tells how much faster two cores are, one right after the other.
func BenchmarkParallel(b *testing.B) {
	messages(b, []int{64, 1 << 10}, []work{seal, open}, func(b *testing.B, w *peers.World, size, _ int, do func([]byte) error) {
		measure(b, w, int64(size), func() {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := do(nil); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	})
}

// The first message that a process opens, with all that it starts.
func BenchmarkCold(b *testing.B) {
	for _, p := range inTurn() {
		b.Run(p.Name, func(b *testing.B) {
			w := peers.NewWorld("acme")
			sealed, err := start(b, p, w).Seal(b.Context(), "acme", random(64), aad)
			if err != nil {
				b.Fatal(err)
			}
			repeat(b, w, 64, func() error {
				l, err := p.Start(b.Context(), w)
				if err != nil {
					return err
				}
				if _, err := l.Open(b.Context(), "acme", sealed, aad); err != nil {
					return err
				}
				return l.Close()
			})
		})
	}
}

// A thousand tenants. First is a process that starts and opens a message of each; Hot seals for
// one after the other.
func BenchmarkTenants(b *testing.B) {
	var tenants [1000]string
	var sealed [len(tenants)][]byte
	for i := range tenants {
		tenants[i] = fmt.Sprintf("tenant-%d", i)
	}
	plain := random(64)
	for _, p := range inTurn() {
		w := peers.NewWorld(tenants[:]...)
		l := start(b, p, w)
		for i, tenant := range tenants {
			var err error
			if sealed[i], err = l.Seal(b.Context(), tenant, plain, aad); err != nil {
				b.Fatal(err)
			}
		}
		b.Run("First/"+p.Name, func(b *testing.B) {
			repeat(b, w, 0, func() error {
				l, err := p.Start(b.Context(), w)
				if err != nil {
					return err
				}
				for i, tenant := range tenants {
					if _, err := l.Open(b.Context(), tenant, sealed[i], aad); err != nil {
						return err
					}
				}
				return l.Close()
			})
		})
		b.Run("Hot/"+p.Name, func(b *testing.B) {
			i := 0
			repeat(b, w, 64, func() error {
				i++
				_, err := l.Seal(b.Context(), tenants[i%len(tenants)], plain, aad)
				return err
			})
		})
	}
}

// discard counts.
type discard int64

func (d *discard) Write(p []byte) (int, error) { *d += discard(len(p)); return len(p), nil }

// 64 MiB from memory to nowhere. With GOMAXPROCS=2 a library may use the second core.
func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	plain := random(size)
	sealed := bytes.NewBuffer(make([]byte, 0, size+size>>6)) // of all peers: it shall not be a garbage collection's work
	for _, p := range inTurn() {
		w := peers.NewWorld("acme")
		l, ok := start(b, p, w).(peers.Streamer)
		if !ok {
			continue
		}
		b.Run("Seal/"+p.Name, func(b *testing.B) {
			l := start(b, p, w).(peers.Streamer)
			repeat(b, w, size, func() error {
				return l.SealStream(b.Context(), new(discard), bytes.NewReader(plain), "acme", aad)
			})
		})
		sealed.Reset()
		if err := l.SealStream(b.Context(), sealed, bytes.NewReader(plain), "acme", aad); err != nil {
			b.Fatal(err)
		}
		b.Run("Open/"+p.Name, func(b *testing.B) {
			l := start(b, p, w).(peers.Streamer)
			repeat(b, w, size, func() error {
				return l.OpenStream(b.Context(), new(discard), bytes.NewReader(sealed.Bytes()), "acme", aad)
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

var object = flag.Int64("object", 64<<20, "bytes of the object that BenchmarkReadAt reads from")

// 4 KiB at a random place of an object that is in a file and has been opened: see -object.
func BenchmarkReadAt(b *testing.B) {
	for _, p := range inTurn() {
		w := peers.NewWorld("acme")
		l := start(b, p, w)
		if _, ok := l.(peers.Ranger); !ok {
			continue
		}
		f, err := os.Create(filepath.Join(b.TempDir(), "sealed"))
		if err != nil {
			b.Fatal(err)
		}
		if err := l.(peers.Streamer).SealStream(b.Context(), f, io.LimitReader(zeros{}, *object), "acme", aad); err != nil {
			b.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(sizeName(*object)+"/"+p.Name, func(b *testing.B) {
			r, err := l.(peers.Ranger).OpenReaderAt(b.Context(), f, info.Size(), "acme", aad)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 4096)
			repeat(b, w, 4096, func() error {
				_, err := r.ReadAt(buf, rand.Int64N(*object-4096))
				return err
			})
		})
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		if err := os.Remove(f.Name()); err != nil { // there is room for one
			b.Fatal(err)
		}
	}
}
