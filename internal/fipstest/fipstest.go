// Package fipstest lets tests in testing/synctest bubbles run in FIPS 140-3 mode.
//
// Go's random generator takes its seed from the jitter of the CPU, which it
// measures with the clock. In a bubble the clock stands still, so a generator that is
// seeded there fails and ends the process. Generators are pooled; so they are
// made before the first test, and the garbage collector, which would empty the
// pool, is kept out of the way.
package fipstest

import (
	"crypto/fips140"
	"crypto/rand"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// Main is the body of a TestMain.
func Main(m *testing.M) {
	if fips140.Enabled() {
		prepare()
	}
	os.Exit(m.Run())
}

// Refresh collects garbage and makes the generators anew, for a test that allocates
// gigabytes in one bubble after another. It is called between bubbles.
func Refresh() {
	if fips140.Enabled() {
		runtime.GC()
		prepare()
	}
}

func prepare() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(4 << 30) // beyond it the collector runs all the same
	// A read so long that its goroutine is preempted, so that as many generators are in use at
	// once as any test has goroutines that draw random bytes, and not one for each processor.
	var wg sync.WaitGroup
	for range max(8, 4*runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			b := make([]byte, 8<<20)
			for until := time.Now().Add(50 * time.Millisecond); time.Now().Before(until); {
				_, _ = rand.Read(b)
			}
		})
	}
	wg.Wait()
}
