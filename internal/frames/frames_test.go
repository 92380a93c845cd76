package frames

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

var testID = ID(binary.BigEndian.Uint64([]byte("ABCDEFGH")))

func sha(b []byte) string { s := sha256.Sum256(b); return string(s[:]) }

func write(t testing.TB, bodies ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, testID)
	for _, b := range bodies {
		if err := w.Write(Record, b[:len(b)/2], b[len(b)/2:]); err != nil {
			t.Fatal(err)
		}
	}
	if w.Size() != int64(out.Len()) || w.Sum() != sha(out.Bytes()) {
		t.Error("size or sum")
	}
	return out.Bytes()
}

// read returns the bodies by frame number, and what was damaged. It fails if that takes for ever.
func read(t testing.TB, src io.Reader) (bodies map[uint64][]byte, damaged []Damage) {
	t.Helper()
	bodies = map[uint64][]byte{}
	r := NewReader(src)
	at := int64(0)
	for {
		f, err := r.Next()
		var d *Damage
		switch {
		case err == io.EOF:
			return bodies, damaged
		case errors.As(err, &d):
			if d.Offset < at {
				t.Fatalf("damage at %d, behind %d", d.Offset, at)
			}
			d.Raw = slices.Clone(d.Raw)
			damaged = append(damaged, *d)
		case err != nil:
			t.Fatal(err)
		default:
			if _, twice := bodies[f.Number]; twice || f.Offset < at {
				t.Fatalf("frame %d at %d comes twice", f.Number, f.Offset)
			}
			bodies[f.Number] = slices.Clone(f.Body)
		}
		if r.Offset() <= at && !(d != nil && d.Size == 0) {
			t.Fatalf("no progress at %d", at)
		}
		at = r.Offset()
	}
}

// The bytes, written out by hand: docs/export.md.
func TestGoldenBytes(t *testing.T) {
	got := hex.EncodeToString(write(t, []byte("hello"), nil))
	const want = "8962796f6b780d0a" + "01" + "52" + "4142434445464748" + "0000000000000000" + "00000005" + "8cee9d27" + "68656c6c6f" + "6f8320e0" +
		"8962796f6b780d0a" + "01" + "52" + "4142434445464748" + "0000000000000001" + "00000000" + "810ee697" + "20a5e603"
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var bodies [][]byte
		for range rapid.IntRange(0, 6).Draw(rt, "frames") {
			n := rapid.OneOf(rapid.IntRange(0, 100), rapid.SampledFrom([]int{MaxBody, MaxBody - 1, readSize})).Draw(rt, "n")
			bodies = append(bodies, bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 1).Draw(rt, "byte"), n))
		}
		b := write(t, bodies...)
		for _, src := range []io.Reader{bytes.NewReader(b), iotest.HalfReader(bytes.NewReader(b)), iotest.DataErrReader(bytes.NewReader(b))} {
			got, damaged := read(t, src)
			if len(damaged) != 0 || len(got) != len(bodies) {
				rt.Fatalf("%d of %d frames, %v", len(got), len(bodies), damaged)
			}
			for i := range bodies {
				if !bytes.Equal(got[uint64(i)], bodies[i]) {
					rt.Fatalf("frame %d differs", i)
				}
			}
		}
	})
}

// One flipped bit, anywhere, costs the frame that it is in, and no other.
func TestEveryFlippedBit(t *testing.T) {
	bodies := [][]byte{[]byte("first"), nil, []byte(marker + " in a body"), bytes.Repeat([]byte{0x5a}, 300), appendHead(nil, Record, ID(1), 1<<40, 3), []byte("last")}
	whole := write(t, bodies...)
	var owner []int
	for i, b := range bodies {
		owner = append(owner, slices.Repeat([]int{i}, overhead+len(b))...)
	}
	for bit := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		got, damaged := read(t, bytes.NewReader(b))
		hit := owner[bit/8]
		if len(damaged) != 1 || len(got) != len(bodies)-1 || got[uint64(hit)] != nil || damaged[0].Number != uint64(hit) {
			t.Fatalf("bit %d of frame %d: %d frames, damaged %+v", bit, hit, len(got), damaged)
		}
		if last := hit == len(bodies)-1; !last && damaged[0].Count != 1 {
			t.Fatalf("bit %d of frame %d: %d frames lost", bit, hit, damaged[0].Count)
		}
		for i, body := range bodies {
			if i != hit && !bytes.Equal(got[uint64(i)], body) {
				t.Fatalf("bit %d of frame %d: frame %d differs", bit, hit, i)
			}
		}
		if body := damaged[0].Body(); len(body) != len(bodies[hit]) {
			t.Fatalf("bit %d of frame %d: a body of %d bytes", bit, hit, len(body))
		}
	}
}

// Whatever is cut out, in one piece: what is whole is read. The bodies have the sizes of frames,
// so that a frame that lost bytes ends, by its length, where another one begins.
func TestEveryCut(t *testing.T) {
	bodies := [][]byte{bytes.Repeat([]byte{1}, overhead+3), []byte("abc"), nil, []byte("abc")}
	whole := write(t, bodies...)
	for from := range whole {
		for to := from + 1; to <= len(whole); to++ {
			got, _ := read(t, bytes.NewReader(slices.Concat(whole[:from], whole[to:])))
			begin := 0
			for i, body := range bodies {
				end := begin + overhead + len(body)
				if b, ok := got[uint64(i)]; ok && !bytes.Equal(b, body) || !ok && (end <= from || begin >= to) {
					t.Fatalf("without %d to %d: frame %d (%d to %d): read %v", from, to, i, begin, end, ok)
				}
				begin = end
			}
		}
	}
}

// Bytes that are lost, that are new, or that are others, anywhere: what is whole is read.
func TestWhatIsWholeIsRead(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var bodies [][]byte
		var ends []int
		end := 0
		for i := range rapid.IntRange(1, 20).Draw(rt, "frames") {
			b := bytes.Repeat([]byte{byte(i)}, rapid.IntRange(0, 2000).Draw(rt, "n"))
			bodies = append(bodies, b)
			end += overhead + len(b)
			ends = append(ends, end)
		}
		whole := write(t, bodies...)
		from := rapid.IntRange(0, len(whole)).Draw(rt, "from")
		to := rapid.IntRange(from, min(len(whole), from+3000)).Draw(rt, "to")
		junk := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(rt, "junk")
		got, _ := read(t, io.MultiReader(bytes.NewReader(whole[:from]), bytes.NewReader(junk), bytes.NewReader(whole[to:])))
		begin := 0
		for i, end := range ends {
			untouched := end <= from || begin >= to
			if b, ok := got[uint64(i)]; ok != untouched && !bytes.Equal(junk, whole[from:to]) && (untouched || !bytes.Equal(b, bodies[i])) || ok && !bytes.Equal(b, bodies[i]) {
				rt.Fatalf("frame %d (%d to %d): read %v; replaced are %d to %d", i, begin, end, ok, from, to)
			}
			begin = end
		}
	})
}

// Frames that are missing, come twice, or are in another order, with all checksums right.
func TestFramesOutOfOrder(t *testing.T) {
	w := write(t, []byte("a"), []byte("b"), []byte("c"))
	n := overhead + 1
	a, b, c := w[:n], w[n:2*n], w[2*n:]
	for name, x := range map[string]struct {
		frames [][]byte
		got    int
		lost   uint64
		bad    int
	}{
		"missing first": {[][]byte{b, c}, 2, 1, 1},
		"missing":       {[][]byte{a, c}, 2, 1, 1},
		"missing two":   {[][]byte{c}, 1, 2, 1},
		"twice":         {[][]byte{a, b, b, c}, 3, 0, 1},
		"swapped":       {[][]byte{a, c, b}, 2, 1, 2},
	} {
		got, damaged := read(t, bytes.NewReader(bytes.Join(x.frames, nil)))
		var lost uint64
		for _, d := range damaged {
			lost += d.Count
		}
		if len(got) != x.got || lost != x.lost || len(damaged) != x.bad {
			t.Errorf("%s: %d frames, %+v", name, len(got), damaged)
		}
	}
}

// However much junk there is: it takes no more memory, and what follows is found.
func TestMuchJunk(t *testing.T) {
	junk := func(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), n) }
	b := write(t, []byte("a"), []byte("b"))
	n := len(b) / 2
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, damaged := read(t, io.MultiReader(bytes.NewReader(b[:n]), junk(50<<20), bytes.NewReader(b[n:]), junk(5<<20)))
	runtime.ReadMemStats(&after)
	if len(got) != 2 || len(damaged) != 2 || damaged[0].Size != 50<<20 || damaged[1].Size != 5<<20 || !damaged[1].Ends || damaged[0].Raw != nil {
		t.Errorf("%d frames, %d damaged", len(got), len(damaged))
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes of memory", grown)
	}
}

// A head that claims the largest body there can be takes no memory for it.
func TestClaimedLength(t *testing.T) {
	b := appendHead(nil, Record, testID, 0, MaxBody)
	if allocated := testing.AllocsPerRun(1, func() {
		_, damaged := read(t, bytes.NewReader(b))
		if len(damaged) != 1 || !damaged[0].Ends {
			t.Errorf("%+v", damaged)
		}
	}); allocated > 100 {
		t.Error(allocated)
	}
	r := NewReader(bytes.NewReader(b))
	if _, err := r.Next(); err == nil || cap(r.room) > 8*readSize {
		t.Errorf("%d bytes", cap(r.room))
	}
	if _, ok := parseHead(appendHead(nil, Record, testID, 0, MaxBody+1)); ok {
		t.Error("a longer body is accepted")
	}
}

func TestErrorsOfOthers(t *testing.T) {
	b := write(t, []byte("a"))
	broken := errors.New("broken")
	r := NewReader(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(broken)))
	if _, err := r.Next(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := r.Next(); err != broken {
			t.Error(err)
		}
	}
	r = NewReader(stuck{})
	if _, err := r.Next(); err != io.ErrNoProgress {
		t.Error(err)
	}
	w := NewWriter(failing{}, testID)
	for range 2 { // it stays
		if err := w.Write(Record, []byte("a")); err != io.ErrShortWrite || w.Size() != 0 {
			t.Error(err)
		}
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

type failing struct{}

func (failing) Write(p []byte) (int, error) { return len(p) - 1, nil }

func FuzzReader(f *testing.F) {
	w := write(f, []byte("a"), []byte("bb"), nil)
	f.Add(w)
	f.Add(w[1:])
	f.Add(w[:len(w)-1])
	f.Add(append(appendHead(nil, End, testID, 1<<63, MaxBody), w...))
	f.Add([]byte(marker + marker + marker))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, damaged := read(t, bytes.NewReader(b))
		size := int64(0)
		for _, body := range got {
			size += int64(overhead + len(body))
		}
		for _, d := range damaged {
			size += d.Size
		}
		if size != int64(len(b)) {
			t.Errorf("%d of %d bytes are accounted for", size, len(b))
		}
	})
}
