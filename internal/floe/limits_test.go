package floe

import (
	"bytes"
	"encoding/binary"
	"flag"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// A key of another length is refused before it is used: HMAC panics on keys that
// are shorter than 112 bits under GODEBUG=fips140=only, and HKDF fails (threat J6).
func TestJ6_ShortKeys(t *testing.T) {
	ct, err := Seal(nil, testKey, Params{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 * KeySize {
		key := bytes.Repeat([]byte{1}, n)
		for name, use := range map[string]func() error{
			"Seal":      func() error { _, err := Seal(nil, key, Params{}, nil, nil); return err },
			"Open":      func() error { _, err := Open(nil, key, nil, ct); return err },
			"NewWriter": func() error { _, err := newWriter(io.Discard, key, params{4096, 20}, nil); return err },
			"NewReader": func() error { _, err := newReader(bytes.NewReader(ct), key, nil, accept); return err },
		} {
			if err := use(); n != KeySize && err != errKeySize {
				t.Errorf("%s with a key of %d bytes: %v", name, n, err)
			}
		}
	}
}

// .ci/run does a million.
var seals = flag.Int("seals", 100_000, "how many messages TestJ3_ManySeals seals")

// Many seals: no IV and no nonce is drawn twice (threat J3). A smoke test: it
// would see a source that repeats itself, and not one that is a little bad.
func TestJ3_ManySeals(t *testing.T) {
	const size = HeaderSize + SegmentOverhead
	total := *seals
	workers := runtime.GOMAXPROCS(0)
	// Of each only the first 64 bits: by chance two of them agree once in 10^7 runs of a million.
	ivs, nonces := make([]uint64, 0, total+workers), make([]uint64, 0, total+workers)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			n := total/workers + 1
			iv, nonce := make([]uint64, 0, n), make([]uint64, 0, n)
			buf := make([]byte, 0, size)
			for range n {
				ct, err := Seal(buf, testKey, Params{}, nil, nil)
				if err != nil || len(ct) != size {
					t.Errorf("%d bytes, %v", len(ct), err)
					return
				}
				iv = append(iv, binary.BigEndian.Uint64(ct[paramsSize:]))
				nonce = append(nonce, binary.BigEndian.Uint64(ct[HeaderSize+lengthSize:]))
			}
			mu.Lock()
			defer mu.Unlock()
			ivs, nonces = append(ivs, iv...), append(nonces, nonce...)
		})
	}
	wg.Wait()
	for what, drawn := range map[string][]uint64{"IV": ivs, "nonce": nonces} {
		slices.Sort(drawn) // Compact wants it
		if n := len(slices.Compact(drawn)); n < total || n != len(ivs) {
			t.Errorf("%s: %d different ones of %d", what, n, len(ivs))
		}
	}
}
