//go:build unix

package byok_test

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// 4 KiB somewhere in a gigabyte that lies in a file in the page cache: the time, and the allocations, are
// those of the one or two segments that hold them. cpu-ns/op is processor time.
func BenchmarkReaderAt(b *testing.B) {
	const size = 1 << 30
	env := byoktest.New(b, &byoktest.Options{Sink: discard{}, Keeper: &byok.Options{MaxAge: byok.MaxMaxAge}})
	env.Tenant("acme")
	f, err := os.Create(filepath.Join(b.TempDir(), "sealed"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w, err := env.Keeper.SealWriter(b.Context(), f, acmeScope, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(w, zeroes{}, size); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	r, err := env.Keeper.OpenReaderAt(b.Context(), f, info.Size(), acmeScope, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 4096)
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		if _, err := r.ReadAt(p, rand.Int64N(size-4096)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }
