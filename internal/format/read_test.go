package format

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
)

// Read and Parse accept the same headers, and Read leaves alone what comes behind.
func readAgrees(t interface{ Fatalf(string, ...any) }, b []byte) {
	want, core, rest, wantErr := Parse(b)
	src := bytes.NewReader(b)
	h, gotCore, err := Read(iotest.OneByteReader(src))
	if (err == nil) != (wantErr == nil) || err != nil && !errors.Is(err, ErrMalformed) {
		t.Fatalf("Read: %v, Parse: %v\n%x", err, wantErr, b)
	}
	if err == nil && (!reflect.DeepEqual(h, want) || !bytes.Equal(gotCore, core) || src.Len() != len(rest)) {
		t.Fatalf("Read: %+v, %d bytes left of %d", h, src.Len(), len(rest))
	}
	if err != nil && (h != nil || gotCore != nil) {
		t.Fatalf("a header beside %v", err)
	}
	if read := len(b) - src.Len(); read > MaxHeader {
		t.Fatalf("%d bytes read for a header", read)
	}
}

func TestReadAgreesWithParse(t *testing.T) {
	rows := 0
	for _, r := range malformedRows() {
		rows++
		readAgrees(t, r.in)
		readAgrees(t, append(bytes.Clone(r.in), "and what follows"...))
	}
	for _, r := range []*raw{ref(), one(), two(), full()} {
		rows++
		b := r.bytes()
		for n := range b {
			readAgrees(t, b[:n])
		}
		readAgrees(t, b)
		readAgrees(t, append(bytes.Clone(b), "payload"...))
	}
	if rows < 50 {
		t.Errorf("only %d rows", rows)
	}
}

// What is no envelope is refused after 25 bytes, and no length is believed: B12 for streams.
func TestReadIsBounded(t *testing.T) {
	junk := bytes.NewReader(bytes.Repeat([]byte{'x'}, 1<<20))
	if _, _, err := Read(junk); !errors.Is(err, ErrMalformed) || 1<<20-junk.Len() > 25 {
		t.Errorf("%d bytes of junk read: %v", 1<<20-junk.Len(), err)
	}
	lies := one()
	lies.sectionLen = 0xffff
	b := append(lies.bytes(), make([]byte, 1<<20)...)
	n := testing.AllocsPerRun(100, func() {
		src := bytes.NewReader(b)
		if _, _, err := Read(src); !errors.Is(err, ErrMalformed) || len(b)-src.Len() > 100 {
			t.Fatalf("%d bytes read: %v", len(b)-src.Len(), err)
		}
	})
	if n > 20 {
		t.Errorf("%v allocations", n)
	}
	for n := range len(one().bytes()) { // a source that says nothing for ever, or lies about what it read
		for _, l := range []lying{-1, 0, 20_000} {
			src := io.MultiReader(bytes.NewReader(one().bytes()[:n]), l)
			if h, _, err := Read(src); h != nil || err != io.ErrNoProgress {
				t.Fatalf("%d after %d bytes: %v", l, n, err)
			}
		}
	}
	for n := range len(one().bytes()) { // what is cut short, by its source's own account
		src := io.MultiReader(bytes.NewReader(one().bytes()[:n]), iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, _, err := Read(src); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	broken := errors.New("connection reset")
	for n := range len(one().bytes()) {
		src := io.MultiReader(bytes.NewReader(one().bytes()[:n]), iotest.ErrReader(broken))
		if _, _, err := Read(src); err != broken {
			t.Fatalf("an error of the source at %d: %v", n, err)
		}
	}
}

// lying says that it read so much, whatever there is room for.
type lying int

func (l lying) Read([]byte) (int, error) { return int(l), nil }
