//go:build unix

package floe

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// cpu reports the processor time of an operation: on a busy machine the clock on the wall says
// little.
func cpu(b *testing.B) func() {
	used := func() int64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return r.Utime.Nano() + r.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// plainChunks is what a stream is measured against: the same segments, sealed by AES-GCM
// with random nonces under one key, and nothing else.
func plainChunks(tb testing.TB) cipher.AEAD {
	tb.Helper()
	block, err := aes.NewCipher(testKey)
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		tb.Fatal(err)
	}
	return aead
}

const streamSize = 64 << 20

// zeros has n bytes.
type zeros struct{ n int }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), z.n)
	if z.n -= n; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func BenchmarkStream(b *testing.B) {
	msg := make([]byte, streamSize)
	b.Run("plain/seal", func(b *testing.B) {
		aead, dst := plainChunks(b), make([]byte, 0, DefaultSegmentSize)
		b.SetBytes(streamSize)
		defer cpu(b)()
		for b.Loop() {
			for rest := msg; len(rest) > 0; rest = rest[min(len(rest), 65504):] {
				aead.Seal(dst, nil, rest[:min(len(rest), 65504)], nil)
			}
		}
	})
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("floe/seal/%d", workers), func(b *testing.B) {
			b.SetBytes(streamSize)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				w, err := NewWriter(io.Discard, nil, &fixed{key: testKey}, Params{}, testAAD, workers)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.Write(msg); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("floe/seal-copy/%d", workers), func(b *testing.B) {
			b.SetBytes(streamSize)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				w, err := NewWriter(io.Discard, nil, &fixed{key: testKey}, Params{}, testAAD, workers)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(w, &zeros{streamSize}); n != streamSize || err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("plain/open", func(b *testing.B) {
		aead, dst := plainChunks(b), make([]byte, 0, DefaultSegmentSize)
		var all [][]byte
		for rest := msg; len(rest) > 0; rest = rest[min(len(rest), 65504):] {
			all = append(all, aead.Seal(nil, nil, rest[:min(len(rest), 65504)], nil))
		}
		b.SetBytes(streamSize)
		defer cpu(b)()
		for b.Loop() {
			for _, c := range all {
				if _, err := aead.Open(dst, nil, c, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	ct, err := Seal(nil, testKey, Params{}, testAAD, msg)
	if err != nil {
		b.Fatal(err)
	}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("floe/open/%d", workers), func(b *testing.B) {
			b.SetBytes(streamSize)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				r, err := openStream(bytes.NewReader(ct), workers)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); n != streamSize || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// 4 KiB somewhere in a gigabyte, from a file in the page cache. The allocations are those of
// one segment, however large the message is.
func BenchmarkReadAt(b *testing.B) {
	for _, size := range []int{1 << 20, 1 << 30} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "sealed"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			w, err := NewWriter(f, nil, &fixed{key: testKey}, Params{}, testAAD, 2)
			if err != nil {
				b.Fatal(err)
			}
			_, err = io.Copy(w, &zeros{size})
			if err := errors.Join(err, w.Close()); err != nil {
				b.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				b.Fatal(err)
			}
			r, err := openAt(f, info.Size(), 1)
			if err != nil || r.Size() != int64(size) {
				b.Fatal(err)
			}
			p := make([]byte, 4096)
			// In turns with what is left without us: a segment is read, and opened by AES-GCM.
			b.Run("ratio", func(b *testing.B) {
				aead, in, out := plainChunks(b), make([]byte, DefaultSegmentSize), make([]byte, 0, DefaultSegmentSize)
				sealed := aead.Seal(nil, nil, in[:65504], nil)
				var ours, theirs, ratio []float64
				for b.Loop() {
					off := rand.Int64N(int64(size) - 70_000)
					begun := time.Now()
					if _, err := r.ReadAt(p, off); err != nil {
						b.Fatal(err)
					}
					half := time.Now()
					if _, err := f.ReadAt(in, off); err != nil {
						b.Fatal(err)
					}
					if _, err := aead.Open(out, nil, sealed, nil); err != nil {
						b.Fatal(err)
					}
					o, t := float64(half.Sub(begun)), float64(time.Since(half))
					ours, theirs, ratio = append(ours, o), append(theirs, t), append(ratio, o/t)
				}
				b.ReportMetric(0, "ns/op") // of both
				for unit, v := range map[string][]float64{"ns": ours, "plain-ns": theirs, "x-plain": ratio} {
					slices.Sort(v)
					b.ReportMetric(v[len(v)/2], unit)
				}
			})
			b.Run("floe", func(b *testing.B) {
				b.ReportAllocs()
				defer cpu(b)()
				for b.Loop() {
					if _, err := r.ReadAt(p, rand.Int64N(int64(size)-4096)); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
