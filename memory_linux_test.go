package byok_test

import (
	"context"
	"crypto/fips140"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// Reads /proc/self/mem, which Linux has and others have not.

// patterns returns the shapes in which a key is looked for, masked as the key is:
// itself, the pads of an HMAC that is keyed with it (the key with each byte ^ 0x36,
// ^ 0x5c), and base64, in which KMS sends it.
func patterns(masked []byte) map[string][]byte {
	p := map[string][]byte{"raw": masked, "ipad": make([]byte, len(masked)), "opad": make([]byte, len(masked))}
	raw := make([]byte, len(masked))
	for i, m := range masked {
		raw[i], p["ipad"][i], p["opad"][i] = m^mask, m^0x36, m^0x5c
	}
	b := make([]byte, base64.StdEncoding.EncodedLen(len(raw)))
	base64.StdEncoding.Encode(b, raw)
	clear(raw)
	for i := range b {
		b[i] ^= mask
	}
	p["base64"] = b[:40] // without the end, which depends on what follows
	return p
}

// needles are masked patterns, by the first two bytes of what they look for.
type needles map[[2]byte][]needle

type needle struct {
	form string
	b    []byte
}

func newNeedles(masked [][]byte) needles {
	all, seen := needles{}, map[string]bool{}
	for _, m := range masked {
		if seen[string(m)] { // unwrapped again: a copy is not to be counted for each time
			continue
		}
		seen[string(m)] = true
		for form, p := range patterns(m) {
			first := [2]byte{p[0] ^ mask, p[1] ^ mask}
			all[first] = append(all[first], needle{form, p})
		}
	}
	return all
}

// count adds up what begins in b before until. It looks at each byte of the
// process, which the race detector would make ten times slower.
//
//go:norace
func (n needles) count(b []byte, until int, found map[string]int) {
	var begins [1 << 16]bool
	for first := range n {
		begins[int(first[0])<<8|int(first[1])] = true
	}
	for i := 0; i < until && i+1 < len(b); i++ {
		if !begins[int(b[i])<<8|int(b[i+1])] {
			continue
		}
		for _, p := range n[[2]byte(b[i:i+2])] {
			j := 0
			for j < len(p.b) && i+j < len(b) && b[i+j]^mask == p.b[j] {
				j++
			}
			if j == len(p.b) {
				found[p.form]++
			}
		}
	}
}

// residue counts the forms of the keys in this process's memory, all of it that
// can be read.
func residue(masked [][]byte) (map[string]int, error) {
	needles := newNeedles(masked)
	found := map[string]int{}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	buf := make([]byte, 1<<20)
	scanned := 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil {
			return nil, err
		}
		if perms[1] != 'w' { // code and constants
			continue
		}
		const overlap = 64 // more than the longest pattern
		for from < to {
			n, err := mem.ReadAt(buf[:min(uint64(len(buf)), to-from)], int64(from))
			if n == 0 {
				return nil, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
			}
			until := n
			if n > overlap && from+uint64(n) < to {
				until = n - overlap
			}
			needles.count(buf[:n], until, found)
			clear(buf[:n]) // it is part of what is scanned
			from += uint64(until)
			scanned += until
		}
	}
	if scanned < 1<<20 {
		return nil, fmt.Errorf("only %d bytes of memory were read", scanned)
	}
	return found, nil
}

// residues is what a child found out.
type residues struct {
	Keys        int
	Live, After map[string]int
}

// useKeys does everything that handles data keys, and looks at memory before and
// after Close.
func useKeys(out io.Writer, keys byok.Keyring, key byok.KeyID) error {
	ctx := context.Background()
	tap := &tapKeyring{Keyring: keys}
	k, err := byok.New(byoktest.Service, tap, new(byok.MemStore), new(byok.MemAudit), &byok.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	acme := k.Tenant("acme")
	steps := []func() error{
		func() error { _, err := acme.Register(ctx, byok.Registration{Key: key}); return err },
		func() error { _, err := acme.AcknowledgeWaiver(ctx, accepted); return err },
	}
	use := func() error {
		for i := range 80 {
			s := byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i%8)}
			sealed, err := k.Seal(ctx, s, make([]byte, 1000*(i%3)), nil)
			if err == nil {
				_, err = k.Open(ctx, s, sealed, nil)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for range 3 {
		steps = append(steps, use,
			func() error { _, err := acme.Recheck(ctx); return err }, // drops all leases
			func() error { _, err := acme.Health(ctx); return err },
			func() error { _, err := acme.Rotate(ctx, byok.Rotation{Type: byok.RotateDEK}); return err })
	}
	for _, step := range append(steps, use) {
		if err := step(); err != nil {
			return err
		}
	}
	r := residues{Keys: len(tap.masked)}
	if r.Live, err = residue(tap.masked); err != nil {
		return err
	}
	if err := k.Close(); err != nil {
		return err
	}
	runtime.GC()
	runtime.GC()
	if r.After, err = residue(tap.masked); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

func init() {
	children["memory-raw"] = func(out io.Writer) error { return useKeys(out, newRawKeyring(), rawKey) }
	children["memory-aws"] = func(out io.Writer) error {
		keys, err := awskms.New(wireConfig(os.Getenv("KMS_URL")), nil)
		if err != nil {
			return err
		}
		return useKeys(out, keys, awskms.Key(os.Getenv("KMS_KEY")))
	}
}

// What is left of data keys in memory once the Keeper is closed: of the bytes that
// byok holds, nothing. The pads are those inside crypto/hmac, in FIPS mode, which nobody can
// reach; the base64 is that of the answers inside the AWS SDK. SECURITY.md says so.
// Each is 0 as well where the runtime erases secrets: TestI_4_RuntimeSecret.
// I-6, a key that stays in the heap after its use, is the same question.
func TestI_3_I_6_MemoryResidue(t *testing.T) {
	raw, inAWS := memoryOf(t, "memory-raw"), memoryOf(t, "memory-aws")
	for name, r := range map[string]residues{"raw keyring": raw, "awskms": inAWS} {
		t.Logf("%s, %d data keys: %v while in use, %v after Close", name, r.Keys, r.Live, r.After)
		if r.Keys < 30 || r.Live["raw"] < 8 {
			t.Errorf("%s: %d keys, of which %d were found in use: this test could pass on nothing", name, r.Keys, r.Live["raw"])
		}
		if r.After["raw"] != 0 {
			t.Errorf("%s: %d data keys are left in memory after Close", name, r.After["raw"])
		}
	}
	if n := raw.After["base64"]; n != 0 {
		t.Errorf("raw keyring: %d data keys are left as base64", n)
	}
	// The recorded number: at most two a request, what the SDK's decoder leaves.
	if n := inAWS.After["base64"]; n > 2*inAWS.Keys {
		t.Errorf("awskms: %d copies of %d data keys are left as base64: more than SECURITY.md says", n, inAWS.Keys)
	}
	// In FIPS mode each goroutine at a data key has made an HMAC, whose two pads are garbage
	// afterwards. Otherwise a pad is gone once it is hashed.
	limit := 0
	if fips140.Enabled() {
		limit = 2 * 4 * 80 * 2
	}
	for name, r := range map[string]residues{"raw keyring": raw, "awskms": inAWS} {
		if n := r.After["ipad"] + r.After["opad"]; n > limit {
			t.Errorf("%s: %d pads of HMAC are left, want at most %d", name, n, limit)
		}
	}
}

func memoryOf(t *testing.T, name string) (r residues) {
	t.Helper()
	url, arn := serveKMS(t)
	out := child(t, name, "KMS_URL="+url, "KMS_KEY="+arn)
	want(t, "Unmarshal", json.Unmarshal([]byte(out), &r), nil)
	return r
}
