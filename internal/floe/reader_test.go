package floe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// released reads until an error, with buffers of n bytes.
func released(r io.Reader, n int) ([]byte, error) {
	var out []byte
	for buf := make([]byte, n); ; {
		k, err := r.Read(buf)
		out = append(out, buf[:k]...)
		if err != nil {
			return out, err
		}
	}
}

func TestStreamsAgreeWithOneShot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := params{rapid.IntRange(33, 80).Draw(t, "segment"), rapid.UintRange(0, 4).Draw(t, "rotation")}
		msg := rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(t, "msg")
		var sink bytes.Buffer
		w, err := newWriter(&sink, testKey, p, testAAD)
		if err != nil {
			t.Fatal(err)
		}
		for rest := msg; len(rest) > 0; {
			n := rapid.IntRange(0, len(rest)).Draw(t, "n")
			if k, err := w.Write(rest[:n]); k != n || err != nil {
				t.Fatal(k, err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if sink.Len() != p.sealedSize(len(msg)) {
			t.Fatalf("%d bytes for %d: not the one encoding", sink.Len(), len(msg))
		}
		got, err := open(nil, testKey, testAAD, sink.Bytes(), pinned(p))
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatal(err)
		}
		r, err := newReader(&sink, testKey, testAAD, pinned(p))
		if err != nil {
			t.Fatal(err)
		}
		got, err = released(r, rapid.IntRange(1, 100).Draw(t, "buffer"))
		if err != io.EOF || !bytes.Equal(got, msg) {
			t.Fatal(err)
		}
	})
}

// The standard library's own test of a reader, over sources of every temper.
func TestReaderIsAGoodReader(t *testing.T) {
	msg := randomBytes(1000)
	ct := mustSeal(t, tiny, msg)
	for name, temper := range map[string]func(io.Reader) io.Reader{
		"plain":         func(r io.Reader) io.Reader { return r },
		"one byte":      iotest.OneByteReader,
		"half":          iotest.HalfReader,
		"data with EOF": iotest.DataErrReader,
		"empty reads":   func(r io.Reader) io.Reader { return &hesitant{src: r} },
		"one, with EOF": func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
	} {
		r, err := newReader(temper(bytes.NewReader(ct)), testKey, testAAD, pinned(tiny))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := iotest.TestReader(r, msg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hesitant returns nothing, without an error, before each byte: allowed, if rude.
type hesitant struct {
	src  io.Reader
	turn int
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.turn++; h.turn%3 != 0 || len(p) == 0 {
		return 0, nil
	}
	return h.src.Read(p[:1])
}

// A13: a bad segment k releases exactly k full segments, then the same error for
// ever; a caller that ignores an error gets nothing more.
func TestReaderReleasesOnlyWholeAuthenticSegments(t *testing.T) {
	msg := randomBytes(5*32 + 9)
	good := mustSeal(t, tiny, msg)
	for k := range 6 {
		ct := bytes.Clone(good)
		ct[min(HeaderSize+64*(k+1), len(ct))-1] ^= 0x80 // last tag byte of segment k
		for _, size := range []int{1, 7, 32, 1000} {
			r, err := newReader(iotest.OneByteReader(bytes.NewReader(ct)), testKey, testAAD, pinned(tiny))
			if err != nil {
				t.Fatal(err)
			}
			got, err := released(r, size)
			if err != ErrAuth || !bytes.Equal(got, msg[:32*k]) {
				t.Errorf("segment %d bad: %d bytes, %v", k, len(got), err)
			}
			for range 3 {
				if n, err := r.Read(make([]byte, size)); n != 0 || err != ErrAuth {
					t.Errorf("segment %d bad, read again: %d, %v", k, n, err)
				}
			}
			if r.opened != nil || r.chunks[0].result != nil {
				t.Error("plaintext is kept after the error")
			}
		}
	}
}

// A2, A3: cut anywhere, also at a segment border, and never io.EOF.
func TestReaderOfATruncatedMessage(t *testing.T) {
	msg := randomBytes(100)
	ct := mustSeal(t, tiny, msg)
	for n := range ct {
		got, err := stream(ct[:n], testKey, testAAD, pinned(tiny))
		whole := max(0, n-HeaderSize) / 64 * 32
		if err != ErrAuth || !bytes.Equal(got, msg[:whole]) {
			t.Errorf("cut to %d: released %d of %d, %v", n, len(got), whole, err)
		}
	}
}

// A4: the last bytes are not released before the end of the source was seen. A message of
// 1, 3 or 7 full segments ends with a step: only asking for more shows what follows.
func TestReaderProbesForTrailingData(t *testing.T) {
	for _, n := range []int{32, 40, 96, 7 * 32} {
		msg := randomBytes(n)
		ct := mustSeal(t, tiny, msg)
		for _, tail := range [][]byte{{0}, ct, ct[len(ct)-40:], make([]byte, 1000)} {
			got, err := stream(append(bytes.Clone(ct), tail...), testKey, testAAD, pinned(tiny))
			if err != ErrAuth || !bytes.Equal(got, msg[:(n-1)/32*32]) {
				t.Errorf("%d bytes follow %d: released %d, %v", len(tail), n, len(got), err)
			}
		}
	}
}

// A source's own errors pass unchanged and stick, except for those that a caller
// could take for the end of the message.
func TestReaderAndErrorsOfTheSource(t *testing.T) {
	ct := mustSeal(t, tiny, randomBytes(100))
	broken := errors.New("disk on fire")
	for _, c := range []struct{ give, want error }{
		{broken, broken},
		{io.ErrUnexpectedEOF, ErrAuth},
		{fmt.Errorf("wrapped: %w", io.EOF), ErrAuth},
	} {
		for n := range len(ct) + 1 {
			src := io.MultiReader(bytes.NewReader(ct[:n]), iotest.ErrReader(c.give))
			r, err := newReader(src, testKey, testAAD, pinned(tiny))
			if n < HeaderSize {
				if err != c.want {
					t.Fatalf("%v at %d: %v", c.give, n, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != c.want || len(got) > 96 {
				t.Errorf("%v at %d: %d bytes, %v", c.give, n, len(got), err)
			}
			if _, err = r.Read(make([]byte, 1)); err != c.want {
				t.Errorf("%v at %d, again: %v", c.give, n, err)
			}
		}
	}
}

// flaky has its error once, in the middle, and then goes on as if nothing were.
type flaky struct {
	src io.Reader
	at  int
	err error
}

func (f *flaky) Read(p []byte) (int, error) {
	if f.at--; f.at == 0 {
		return 0, f.err
	}
	return f.src.Read(p)
}

// A14: an error sticks even when the source recovers, since bytes may be missing.
func TestReaderErrorIsSticky(t *testing.T) {
	ct := mustSeal(t, tiny, randomBytes(200))
	passing := errors.New("for a moment")
	r, err := newReader(&flaky{src: bytes.NewReader(ct), at: 3, err: passing}, testKey, testAAD, pinned(tiny))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != passing {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := r.Read(make([]byte, 9)); n != 0 || err != passing {
			t.Errorf("read on after an error: %d, %v", n, err)
		}
	}
}

// lying says it read what it did not, or reads nothing for ever.
type lying int

func (l lying) Read(p []byte) (int, error) {
	if l < 0 {
		return int(l), nil
	}
	return int(l) * (len(p) + 1), nil
}

func TestReaderOfABrokenSource(t *testing.T) {
	ct := mustSeal(t, tiny, randomBytes(40))
	for _, l := range []lying{-1, 0, 1} {
		for _, n := range []int{0, 5, HeaderSize, HeaderSize + 4, HeaderSize + 64} {
			r, err := newReader(io.MultiReader(bytes.NewReader(ct[:n]), l), testKey, testAAD, pinned(tiny))
			if err == nil {
				_, err = io.ReadAll(r)
			}
			if err == nil {
				t.Errorf("%d at %d: no error", l, n)
			}
		}
	}
	r, err := newReader(io.MultiReader(bytes.NewReader(ct), lying(0)), testKey, testAAD, pinned(tiny))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != io.ErrNoProgress || len(got) != 32 {
		t.Errorf("an end that never comes: %d bytes, %v", len(got), err)
	}
}

func TestReaderClose(t *testing.T) {
	ct := mustSeal(t, tiny, randomBytes(100))
	r, err := newReader(bytes.NewReader(ct), testKey, testAAD, pinned(tiny))
	if err != nil {
		t.Fatal(err)
	}
	r.Read(make([]byte, 5))
	opened := r.chunks[0].result
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 5)); n != 0 || err != ErrClosed {
		t.Errorf("after Close: %d, %v", n, err)
	}
	if !bytes.Equal(opened, make([]byte, 32)) {
		t.Error("Close leaves plaintext")
	}
}
