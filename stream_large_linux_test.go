package byok_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/fipstest"
)

// docs/evidence/streams.md has the output of a run with -large-streams 100.
var largeStreams = flag.Int64("large-streams", 0, "TestLargeStreams seals so many GiB, and a file of 4 GiB")

// A stream takes the memory of a few segments, however long it is: at most 16 MiB more than
// the process had before, as the kernel counts it. Random access finds the right bytes.
func TestLargeStreams(t *testing.T) {
	stream, file, places := int64(256<<20), int64(128<<20), 1000
	if *largeStreams > 0 {
		stream, file, places = *largeStreams<<30, 4<<30, 10_000
	}
	const room = 16 << 20
	defer fipstest.Refresh() // this test collects garbage
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	ctx, k, dir := t.Context(), env.Keeper, t.TempDir()
	seal(t, k, "acme", "x", "") // what the first operation needs is no part of it
	measure := func(what string, n int64, f func()) {
		runtime.GC()
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak is counted from here on
			t.Fatal(err)
		}
		before, start := rss(t, "VmRSS:"), time.Now()
		f()
		took, grown := time.Since(start), rss(t, "VmHWM:")-before
		t.Logf("%-34s %7.2f GiB in %6.1f s, %4.0f MB/s; memory at its peak: %4.1f MiB more than the %.1f MiB before",
			what, float64(n)/(1<<30), took.Seconds(), float64(n)/1e6/took.Seconds(), float64(grown)/(1<<20), float64(before)/(1<<20))
		if grown > room && !raceDetector {
			t.Errorf("%s: %d bytes more than before", what, grown)
		}
	}

	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	want(t, "Create", err, nil)
	defer sparse.Close()
	want(t, "Truncate", sparse.Truncate(stream), nil)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	want(t, "open", err, nil)
	defer null.Close()
	measure("seal a sparse file to /dev/null", stream, func() {
		w, err := k.SealWriter(ctx, null, acmeScope, nil)
		want(t, "SealWriter", err, nil)
		n, err := w.ReadFrom(sparse)
		if want(t, "ReadFrom", err, nil); n != stream {
			t.Fatalf("%d bytes", n)
		}
		want(t, "Close", w.Close(), nil)
	})

	plain, sealed, opened := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed"), filepath.Join(dir, "opened")
	f, err := os.Create(plain)
	want(t, "Create", err, nil)
	b := bufio.NewWriterSize(f, 1<<20)
	for at := int64(0); at < file; at += 8 {
		_, _ = b.Write(binary.LittleEndian.AppendUint64(nil, mix(at)))
	}
	want(t, "Flush", b.Flush(), nil)
	want(t, "Close", f.Close(), nil)
	measure("SealFile", file, func() { want(t, "SealFile", k.SealFile(ctx, sealed, plain, acmeScope, []byte("f")), nil) })

	in, err := os.Open(sealed)
	want(t, "Open", err, nil)
	defer in.Close()
	info, err := in.Stat()
	want(t, "Stat", err, nil)
	measure("4 KiB at each of "+strconv.Itoa(places)+" places", int64(places)*4096, func() {
		r, err := k.OpenReaderAt(ctx, in, info.Size(), acmeScope, []byte("f"))
		if want(t, "OpenReaderAt", err, nil); r.Size() != file {
			t.Fatalf("Size = %d", r.Size())
		}
		p, expect := make([]byte, 4096), make([]byte, 0, 4096+16)
		for range places {
			off := rand.Int64N(file - 4096)
			n, err := r.ReadAt(p, off)
			if want(t, "ReadAt", err, nil); n != len(p) {
				t.Fatalf("%d bytes", n)
			}
			expect = expect[:0]
			for at := off &^ 7; at < off+4096; at += 8 {
				expect = binary.LittleEndian.AppendUint64(expect, mix(at))
			}
			if !bytes.Equal(p, expect[off&7:][:4096]) {
				t.Fatalf("other bytes at %d", off)
			}
		}
		want(t, "Close", r.Close(), nil)
	})
	measure("OpenFile", file, func() { want(t, "OpenFile", k.OpenFile(ctx, opened, sealed, acmeScope, []byte("f")), nil) })
	sameFiles(t, plain, opened)
}

// mix is what the file has at a multiple of 8: nothing that repeats.
func mix(at int64) uint64 {
	x := uint64(at) * 0x9e3779b97f4a7c15
	return x ^ x>>29
}

func rss(t *testing.T, line string) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	want(t, "ReadFile", err, nil)
	for l := range strings.Lines(string(b)) {
		if fields := strings.Fields(l); fields[0] == line {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			want(t, "ParseInt", err, nil)
			return kb << 10
		}
	}
	t.Fatalf("no %s", line)
	return 0
}

func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	var r [2]io.Reader
	for i, name := range []string{a, b} {
		f, err := os.Open(name)
		want(t, "Open", err, nil)
		defer f.Close()
		r[i] = bufio.NewReaderSize(f, 1<<20)
	}
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(r[0], x)
		m, err2 := io.ReadFull(r[1], y)
		if n != m || !bytes.Equal(x[:n], y[:m]) || (err == nil) != (err2 == nil) {
			t.Fatal("the files differ")
		}
		if err != nil {
			return
		}
	}
}
