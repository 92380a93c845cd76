package bench

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/byok-go/byok/bench/peers"
)

var long = flag.Int64("long", 64<<20, "bytes of the stream of BenchmarkMemory")

// The memory that it takes to seal a long stream and to open it at the same time, through a
// pipe: peak-MiB is what the kernel counted at its peak, less what the process had before. A
// peer without streams has the message, of 64 MiB then, in memory: message-MiB tells.
func BenchmarkMemory(b *testing.B) {
	for _, p := range inTurn() {
		if p.MaxSize > 0 {
			continue
		}
		b.Run(p.Name, func(b *testing.B) {
			w := peers.NewWorld("acme")
			l := start(b, p, w)
			if sealed, err := l.Seal(b.Context(), "acme", []byte("hello"), aad); err != nil {
				b.Fatal(err)
			} else if _, err := l.Open(b.Context(), "acme", sealed, aad); err != nil {
				b.Fatal(err) // what the first operation needs is no part of it
			}
			n, s := *long, streamer(l)
			var plain []byte
			if s == nil {
				n = 64 << 20
				plain = make([]byte, n)
				for i := range plain {
					plain[i] = byte(i) // it is there before, not one page that is mapped everywhere
				}
			}
			runtime.GC()
			debug.FreeOSMemory()
			if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak counts from here on
				b.Fatal(err)
			}
			before := status(b, "VmRSS:")
			repeat(b, w, n, func() error {
				if s != nil {
					return throughPipe(b, s, n)
				}
				sealed, err := l.Seal(b.Context(), "acme", plain, aad)
				if err == nil {
					plain, err = l.Open(b.Context(), "acme", sealed, aad)
				}
				return err
			})
			b.ReportMetric(float64(status(b, "VmHWM:")-before)/(1<<20), "peak-MiB")
			b.ReportMetric(float64(n)/(1<<20), "message-MiB")
		})
	}
}

func streamer(l peers.Library) peers.Streamer {
	s, _ := l.(peers.Streamer)
	return s
}

func throughPipe(b *testing.B, s peers.Streamer, n int64) error {
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(w, 64<<10) // age writes headers in small pieces
		err := s.SealStream(b.Context(), buffered, io.LimitReader(zeros{}, n), "acme", aad)
		if err == nil {
			err = buffered.Flush()
		}
		w.CloseWithError(err)
	}()
	var opened discard
	if err := s.OpenStream(b.Context(), &opened, r, "acme", aad); err != nil {
		return err
	}
	if int64(opened) != n {
		return fmt.Errorf("opened %d bytes of %d", opened, n)
	}
	return nil
}

// status returns a size of /proc/self/status in bytes.
func status(b *testing.B, name string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if rest, ok := strings.CutPrefix(string(line), name); ok {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatalf("no %s", name)
	return 0
}
