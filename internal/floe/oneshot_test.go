package floe

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

var (
	testKey = bytes.Repeat([]byte{7}, KeySize)
	testAAD = []byte("row 42")
	tiny    = params{64, rotationBits} // 32 bytes of plaintext a segment
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// boundaries are the lengths where the cutting could go wrong.
func boundaries(plain int) []int {
	return []int{0, 1, plain - 1, plain, plain + 1, 2*plain - 1, 2 * plain, 2*plain + 1, 10*plain + 7}
}

func TestRoundTripAtEveryBoundary(t *testing.T) {
	for _, size := range []int{0, smallSegmentSize, DefaultSegmentSize, largeSegmentSize} {
		p := Params{SegmentSize: size}
		pp, err := p.resolve()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range boundaries(pp.plain()) {
			msg := randomBytes(n)
			ct, err := Seal(nil, testKey, p, testAAD, msg)
			if err != nil {
				t.Fatal(err)
			}
			if len(ct) != SealedSize(p, n) || OpenedSize(p, len(ct)) != n {
				t.Errorf("%d bytes: %d sealed, SealedSize says %d, OpenedSize %d",
					n, len(ct), SealedSize(p, n), OpenedSize(p, len(ct)))
			}
			got, err := Open(nil, testKey, testAAD, ct)
			if err != nil || !bytes.Equal(got, msg) || got == nil {
				t.Errorf("%d bytes in segments of %d: %v", n, size, err)
			}
		}
	}
}

func TestRoundTripOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := params{rapid.IntRange(33, 200).Draw(t, "segment"), rapid.UintRange(0, 5).Draw(t, "rotation")}
		msg := rapid.SliceOfN(rapid.Byte(), 0, 900).Draw(t, "msg")
		aad := rapid.SliceOfN(rapid.Byte(), 0, 90).Draw(t, "aad")
		prefix := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "prefix")
		ct, err := seal(bytes.Clone(prefix), testKey, p, aad, msg)
		if err != nil || !bytes.HasPrefix(ct, prefix) || len(ct)-len(prefix) != p.sealedSize(len(msg)) {
			t.Fatalf("%d bytes, %v", len(ct), err)
		}
		got, err := open(bytes.Clone(prefix), testKey, aad, ct[len(prefix):], pinned(p))
		if err != nil || !bytes.Equal(got, append(prefix, msg...)) {
			t.Fatal(err)
		}
	})
}

// One encoding for each length: a message that fills its last segment ends there.
// FLOE accepts the other encoding, and so do we, but it is never written.
func TestAlignedMessageEndsInAFullSegment(t *testing.T) {
	msg := randomBytes(2 * tiny.plain())
	ct, err := seal(nil, testKey, tiny, nil, msg)
	if err != nil || len(ct) != HeaderSize+2*tiny.segment {
		t.Fatalf("%d bytes, want two full segments: %v", len(ct), err)
	}
	other := refSeal(testKey, nil, tiny, msg[:32], msg[32:], nil)
	if got, err := open(nil, testKey, nil, other, pinned(tiny)); err != nil || !bytes.Equal(got, msg) {
		t.Errorf("an empty final segment behind full ones is refused: %v", err)
	}
}

func TestA22_EqualMessagesDoNotLookEqual(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		ct, err := Seal(nil, testKey, Params{}, nil, []byte("same"))
		if err != nil || seen[string(ct[paramsSize:prefixSize])] || seen[string(ct[HeaderSize:])] {
			t.Fatalf("an IV or a segment repeats: %v", err)
		}
		seen[string(ct[paramsSize:prefixSize])], seen[string(ct[HeaderSize:])] = true, true
	}
}

// A1 and A2: no bit of a message can change, and no prefix of it passes.
func TestEveryBitFlipAndEveryTruncationIsRefused(t *testing.T) {
	for _, n := range []int{0, 5, 32, 75} {
		ct, err := seal(nil, testKey, tiny, testAAD, randomBytes(n))
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(ct) * 8 {
			bad := bytes.Clone(ct)
			bad[i/8] ^= 1 << (i % 8)
			if pt, err := open(nil, testKey, testAAD, bad, pinned(tiny)); err == nil || pt != nil {
				t.Errorf("%d bytes: bit %d can be flipped", n, i)
			}
		}
		for i := range ct {
			if pt, err := open(nil, testKey, testAAD, ct[:i], pinned(tiny)); err != ErrAuth || pt != nil {
				t.Errorf("%d bytes cut to %d: %v", len(ct), i, err)
			}
		}
		for _, tail := range [][]byte{{0}, ct[HeaderSize:], ct} {
			if _, err := open(nil, testKey, testAAD, append(bytes.Clone(ct), tail...), pinned(tiny)); err != ErrAuth {
				t.Errorf("%d bytes behind the message: %v", len(tail), err)
			}
		}
	}
}

func TestWrongKeyAndWrongContextGiveOneError(t *testing.T) {
	ct, err := Seal(nil, testKey, Params{}, testAAD, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct{ key, aad []byte }{
		"wrong key":  {bytes.Repeat([]byte{8}, KeySize), testAAD},
		"zero key":   {make([]byte, KeySize), testAAD},
		"other row":  {testKey, []byte("row 43")},
		"no aad":     {testKey, nil},
		"longer aad": {testKey, []byte("row 420")},
	} {
		if pt, err := Open(nil, try.key, try.aad, ct); err != ErrAuth || pt != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing and an empty slice are the same associated data.
	ct, _ = Seal(nil, testKey, Params{}, nil, nil)
	if _, err := Open(nil, testKey, []byte{}, ct); err != nil {
		t.Errorf("nil and empty aad differ: %v", err)
	}
}

// A11 and A12: authentic messages with parameters that are not ours. Every tag in
// them is right, so only the rule refuses them; and it costs no memory.
func TestOnlyThreeSegmentSizesAreOpened(t *testing.T) {
	sizes := []uint32{33, 64, 4095, 4097, 8192, 65535, 65537, 1 << 20 >> 1, 1<<20 + 1, 1 << 24, math.MaxInt32, math.MaxUint32, 0}
	for _, written := range sizes {
		size := int(written) // -1, in place of the largest, where an int has 32 bits: it is written the same
		p := params{size, rotationBits}
		ct := refSeal(testKey, testAAD, p, []byte("hello"))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Open(nil, testKey, testAAD, ct)
		_, streamErr := newReader(bytes.NewReader(ct), testKey, testAAD, accept)
		onlineErr := headerError(testKey, testAAD, ct[:HeaderSize], accept)
		runtime.ReadMemStats(&after)
		if err != ErrMalformed || streamErr != ErrMalformed || onlineErr != ErrMalformed {
			t.Errorf("segments of %d: %v, %v, %v", size, err, streamErr, onlineErr)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10 {
			t.Errorf("segments of %d: %d bytes allocated for a refusal", size, grown)
		}
		if _, err := Seal(nil, testKey, Params{SegmentSize: size}, nil, nil); size != 0 && err == nil {
			t.Errorf("Seal accepts segments of %d", size)
		}
	}
	for _, p := range []Params{{}, {4096}, {65536}, {1048576}} {
		if ct, err := Seal(nil, testKey, p, nil, nil); err != nil {
			t.Error(err)
		} else if _, err := Open(nil, testKey, nil, ct); err != nil {
			t.Errorf("segments of %d: %v", p.SegmentSize, err)
		}
	}
}

// A10: sealed with all the right keys, but in the wrong shape.
func TestAuthenticMessagesOfAWrongShapeAreRefused(t *testing.T) {
	full := randomBytes(tiny.plain())
	for name, pieces := range map[string][][]byte{
		"short segment in the middle": {full, full[:31], full},
		"short segment first":         {full[:0], full},
		"long segment first":          {append(full, 1), full},
		"final segment too long":      {full, append(full, 1)},
	} {
		ct := refSeal(testKey, nil, tiny, pieces...)
		if pt, err := open(nil, testKey, nil, ct, pinned(tiny)); err != ErrAuth || pt != nil {
			t.Errorf("%s: Open: %v", name, err)
		}
		if _, err := stream(ct, testKey, nil, pinned(tiny)); err != ErrAuth {
			t.Errorf("%s: Reader: %v", name, err)
		}
	}
}

func TestMistakesOfTheCaller(t *testing.T) {
	ct, _ := Seal(nil, testKey, Params{}, nil, nil)
	for _, n := range []int{0, 16, 31, 33, 48} {
		key := make([]byte, n)
		if _, err := Seal(nil, key, Params{}, nil, nil); err != errKeySize {
			t.Errorf("Seal with a %d byte key: %v", n, err)
		}
		if _, err := Open(nil, key, nil, ct); err != errKeySize {
			t.Errorf("Open with a %d byte key: %v", n, err)
		}
	}
	for _, n := range []int{-1, math.MinInt, math.MaxInt, math.MaxInt - HeaderSize} {
		if got := SealedSize(Params{}, n); got != -1 {
			t.Errorf("SealedSize(%d) = %d", n, got)
		}
	}
	for _, n := range []int{-1, 0, HeaderSize, HeaderSize + 31, HeaderSize + 65536 + 31, math.MinInt} {
		if got := OpenedSize(Params{}, n); got != -1 {
			t.Errorf("OpenedSize(%d) = %d", n, got)
		}
	}
	if SealedSize(Params{1}, 0) != -1 || OpenedSize(Params{1}, 200) != -1 {
		t.Error("sizes for impossible parameters")
	}
}

// The result is right wherever the buffers lie. Sealing over one's own plaintext
// must not seal half a header instead of it.
func TestI_8_OverlappingBuffers(t *testing.T) {
	for shift := range 200 {
		for _, n := range []int{1, 31, 100} {
			buf := make([]byte, 1000)
			msg := randomBytes(n)
			copy(buf[shift:], msg)
			ct, err := seal(buf[:0], testKey, tiny, testAAD, buf[shift:shift+n])
			if err != nil {
				t.Fatal(err)
			}
			sealed := bytes.Clone(ct)
			copy(buf[shift:], sealed)
			got, err := open(buf[:0], testKey, testAAD, buf[shift:shift+len(sealed)], pinned(tiny))
			if err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%d bytes at %d: %v", n, shift, err)
			}
		}
	}
	// Also when it is the aad that lies where the output goes.
	buf := append(make([]byte, 0, 1000), testAAD...)
	ct, err := seal(buf[:0], testKey, params{64, 0}, buf, make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(nil, testKey, testAAD, ct, pinned(params{64, 0})); err != nil {
		t.Error(err)
	}
}

// Plaintext of the good segments before a bad one must not stay in the caller's
// buffer, and what was in that buffer must.
func TestI_8_FailureLeavesNoPlaintextBehind(t *testing.T) {
	msg := bytes.Repeat([]byte("PLAINTEXT"), 20)
	ct, err := seal(nil, testKey, tiny, nil, msg)
	if err != nil {
		t.Fatal(err)
	}
	ct[len(ct)-1] ^= 1
	buf := append(make([]byte, 0, 1000), "kept"...)
	if pt, err := open(buf, testKey, nil, ct, pinned(tiny)); err != ErrAuth || pt != nil {
		t.Fatalf("%v", err)
	}
	if got := buf[:cap(buf)]; string(got[:4]) != "kept" || bytes.Count(got, []byte{0}) != 996 {
		t.Errorf("left behind: %q", bytes.TrimRight(got, "\x00"))
	}
}

func TestConcurrentUseOfOneKey(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				msg := fmt.Appendf(nil, "goroutine %d", i)
				ct, err := Seal(nil, testKey, Params{}, testAAD, msg)
				if err != nil {
					t.Error(err)
				}
				if got, err := Open(nil, testKey, testAAD, ct); err != nil || !bytes.Equal(got, msg) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestErrorsAreDistinctAndBare(t *testing.T) {
	if errors.Is(ErrAuth, ErrMalformed) || errors.Is(ErrMalformed, ErrAuth) {
		t.Error("the two errors are one")
	}
	if errors.Unwrap(ErrAuth) != nil {
		t.Error("ErrAuth wraps a cause, which could tell attackers something")
	}
}

// C5 and the rule for FIPS mode, checked in the source: the only GCM is the one
// with random nonces, and the only comparison of the tag is in constant time.
func TestC5_J7_ForbiddenCalls(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok {
					calls[pkg.Name+"."+sel.Sel.Name]++
				}
			}
			return true
		})
	}
	for _, bad := range []string{"cipher.NewGCM", "cipher.NewGCMWithNonceSize", "cipher.NewGCMWithTagSize",
		"bytes.Equal", "slices.Equal", "hmac.Equal", "cipher.NewCTR"} {
		if calls[bad] != 0 {
			t.Errorf("%s is called", bad)
		}
	}
	for _, good := range []string{"cipher.NewGCMWithRandomNonce", "subtle.ConstantTimeCompare", "random.Read"} {
		if calls[good] != 1 {
			t.Errorf("%s is called %d times, want once", good, calls[good])
		}
	}
}

// Check says of public parameters what Open says, and nothing of the rest.
func TestCheckAgreesWithOpen(t *testing.T) {
	key, other := make([]byte, KeySize), bytes.Repeat([]byte{1}, KeySize)
	sealed, err := Seal(nil, key, Params{SegmentSize: 4096}, nil, make([]byte, 9000))
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(sealed); err != nil {
		t.Errorf("Check of a good message: %v", err)
	}
	sealed[len(sealed)-1] ^= 1
	if err := Check(sealed); err != nil {
		t.Errorf("Check looked at more than what is public: %v", err)
	}
	refused := 0
	for n := range sealed {
		if err := Check(sealed[:n]); err != nil {
			refused++
			if _, want := Open(nil, other, nil, sealed[:n]); n >= HeaderSize && want != ErrAuth || err != ErrAuth {
				t.Errorf("prefix of %d: Check %v, Open %v", n, err, want)
			}
		}
	}
	for i := range paramsSize {
		b := bytes.Clone(sealed)
		b[i] ^= 1
		if _, want := Open(nil, key, nil, b); Check(b) != ErrMalformed || want != ErrMalformed {
			t.Errorf("parameter byte %d: Check %v, Open %v", i, Check(b), want)
		}
		refused++
	}
	if refused < HeaderSize+paramsSize {
		t.Errorf("only %d refused", refused)
	}
}
