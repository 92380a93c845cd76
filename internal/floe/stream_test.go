package floe

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"hash"
	"io"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// openStream and openAt open what was sealed with the key and aad of the tests.
func openStream(src io.Reader, workers int) (*Reader, error) {
	h, err := ReadHeader(src)
	if err != nil {
		return nil, err
	}
	return NewReader(src, h, &fixed{key: testKey}, testAAD, workers)
}

func openAt(src io.ReaderAt, size int64, workers int) (*ReaderAt, error) {
	h, err := ReadHeader(io.NewSectionReader(src, 0, size))
	if err != nil {
		return nil, err
	}
	return NewReaderAt(src, size, h, &fixed{key: testKey}, testAAD, workers)
}

// A21, for every segment length and with as many goroutines as one likes: what the streams
// write is what Seal writes, and each opens what the others made.
func TestStreamsAtEveryBoundary_A21(t *testing.T) {
	for _, size := range []int{4096, 65536, 1048576} {
		p := params{size, rotationBits}
		for _, n := range []int{0, 1, p.plain() - 1, p.plain(), p.plain() + 1, 2*p.plain() - 1, 2 * p.plain(), 2*p.plain() + 1, 10*p.plain() + 7} {
			msg := randomBytes(n)
			one := mustSeal(t, p, msg)
			for _, workers := range []int{1, 2, 5} {
				var dst bytes.Buffer
				permit := &fixed{key: testKey}
				w, err := NewWriter(&dst, []byte("head"), permit, Params{size}, testAAD, workers)
				if err != nil {
					t.Fatal(err)
				}
				if k, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(msg))); k != int64(n) || err != nil {
					t.Fatal(k, err)
				}
				if err := w.Close(); err != nil || !slices.Equal(permit.done, []error{nil}) {
					t.Fatal(err, permit.done)
				}
				sealed, ok := bytes.CutPrefix(dst.Bytes(), []byte("head"))
				if !ok || len(sealed) != len(one) {
					t.Fatalf("%d bytes for %d", len(sealed), n)
				}
				if got, err := Open(nil, testKey, testAAD, sealed); err != nil || !bytes.Equal(got, msg) {
					t.Fatalf("Open of a stream of %d: %v", n, err)
				}
				r, err := openStream(bytes.NewReader(one), workers)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, msg) {
					t.Fatalf("Reader of %d: %d bytes, %v", n, len(got), err)
				}
				at, err := openAt(bytes.NewReader(sealed), int64(len(sealed)), workers)
				if err != nil || at.Size() != int64(n) {
					t.Fatalf("ReaderAt of %d: %v", n, err)
				}
				got := make([]byte, n+1)
				if k, err := at.ReadAt(got, 0); k != n || err != io.EOF || !bytes.Equal(got[:k], msg) {
					t.Fatalf("ReadAt of %d: %d, %v", n, k, err)
				}
			}
		}
	}
}

// A13, with several segments opened at once: those before the first bad one come out, and
// none behind it, be it authentic.
func TestStreams_A13_SeveralAtOnce(t *testing.T) {
	const segments = 70
	p := params{4096, rotationBits}
	msg := randomBytes((segments-1)*p.plain() + 9)
	good := mustSeal(t, p, msg)
	for k := range segments {
		ct := bytes.Clone(good)
		ct[HeaderSize+4096*k+20] ^= 4
		permit := &fixed{key: testKey}
		h, err := ReadHeader(bytes.NewReader(ct))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(bytes.NewReader(ct[HeaderSize:]), h, permit, testAAD, 4)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err = r.WriteTo(&got); err != ErrAuth || !bytes.Equal(got.Bytes(), msg[:k*p.plain()]) {
			t.Errorf("segment %d bad: %d bytes, %v", k, got.Len(), err)
		}
		if !slices.Equal(permit.done, []error{ErrAuth}) {
			t.Errorf("the permit was told %v", permit.done)
		}
	}
}

// moody is a permit that refuses from some step on, or has each step done twice.
type moody struct {
	fixed
	left  atomic.Int64 // steps that it permits
	twice bool
}

func newMoody(left int, twice bool) *moody {
	p := &moody{fixed: fixed{key: testKey}, twice: twice}
	p.left.Store(int64(left))
	return p
}

var errMoody = errors.New("not any more")

func (p *moody) Lend(size int64, f func([]byte, *Keyed) error) error {
	if p.left.Add(-1) < 0 {
		return errMoody
	}
	if p.twice {
		_ = p.fixed.Lend(size, f)
	}
	return p.fixed.Lend(size, f)
}

// The permit decides: from the step that it refuses nothing comes out, nor from later ones. A
// step that it has done anew does no harm.
func TestStreamsAndTheirPermit(t *testing.T) {
	p := params{4096, rotationBits}
	msg := randomBytes(300*p.plain() + 9)
	good := mustSeal(t, p, msg)
	for _, twice := range []bool{false, true} {
		for left := range 14 {
			var dst bytes.Buffer
			w, err := NewWriter(&dst, nil, newMoody(left, twice), Params{4096}, testAAD, 2)
			if err == nil {
				if _, err = w.Write(msg); err == nil {
					err = w.Close()
				}
			}
			_, openErr := Open(nil, testKey, testAAD, dst.Bytes())
			if (err == nil) != (openErr == nil) || err != nil && err != errMoody {
				t.Fatalf("%d steps: Writer %v, Open %v", left, err, openErr)
			}
			h, err := ReadHeader(bytes.NewReader(good))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			permit := newMoody(left, twice)
			r, err := NewReader(bytes.NewReader(good[HeaderSize:]), h, permit, testAAD, 2)
			if err == nil {
				_, err = r.WriteTo(&got)
				permit.left.Store(100)
				if n, again := r.Read(make([]byte, 1)); n != 0 || err != nil && again != err {
					t.Fatalf("%d steps, read on: %d, %v", left, n, again)
				}
			}
			if !bytes.HasPrefix(msg, got.Bytes()) || err == nil != (got.Len() == len(msg)) || err != nil && err != errMoody {
				t.Fatalf("%d steps: %d bytes, %v", left, got.Len(), err)
			}
			if left == 13 && err != nil {
				t.Fatalf("13 steps are not enough: %v", err)
			}
		}
	}
}

// Between two steps a stream has nothing to forget: no key, no cipher, no state of a hash.
func TestStreamsKeepNoKeys(t *testing.T) {
	forbidden := []reflect.Type{reflect.TypeFor[message](), reflect.TypeFor[cipher.AEAD](), reflect.TypeFor[cipher.Block](), reflect.TypeFor[hash.Hash](), reflect.TypeFor[func()]()}
	seen := map[reflect.Type]bool{}
	var walk func(path string, x reflect.Type)
	walk = func(path string, x reflect.Type) {
		if slices.Contains(forbidden, x) || x.Kind() == reflect.Func {
			t.Errorf("%s is a %v", path, x)
		}
		if seen[x] {
			return
		}
		seen[x] = true
		switch x.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			walk(path, x.Elem())
		case reflect.Struct:
			for i := range x.NumField() {
				walk(path+"."+x.Field(i).Name, x.Field(i).Type)
			}
		}
	}
	walk("Writer", reflect.TypeFor[Writer]())
	walk("Reader", reflect.TypeFor[Reader]())
	walk("ReaderAt", reflect.TypeFor[ReaderAt]())
	if !seen[reflect.TypeFor[frame]()] {
		t.Error("this test looks at nothing")
	}
}

// A17: nothing that other packages can call takes a segment's position or a final flag.
func TestA17_NoPositionFromOutside(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	exported := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() {
				continue
			}
			exported++
			for _, param := range fn.Type.Params.List {
				if id, ok := param.Type.(*ast.Ident); ok && (id.Name == "bool" || id.Name == "uint64") {
					t.Errorf("%s takes a %s", fn.Name, id.Name)
				}
			}
		}
	}
	if exported < 15 {
		t.Errorf("only %d exported functions", exported)
	}
	// The one way in that has positions: a middle segment that is relabelled, with a size that
	// makes it the last one, stays what it is.
	ct := mustSeal(t, tiny, randomBytes(200))
	for k := 1; k < 6; k++ {
		cut := bytes.Clone(ct[:HeaderSize+64*k])
		copy(cut[HeaderSize+64*(k-1):], []byte{0, 0, 0, 64})
		h, err := readHeader(bytes.NewReader(cut), pinned(tiny))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewReaderAt(bytes.NewReader(cut), int64(len(cut)), h, &fixed{key: testKey}, testAAD, 1); err != ErrAuth {
			t.Errorf("segment %d as the last: %v", k, err)
		}
	}
}

// A read of many steps of which one fails releases nothing, not what the steps before it opened.
func TestReadAtIsAllOrNothing(t *testing.T) {
	p := params{4096, rotationBits}
	msg := bytes.Repeat([]byte{0xee}, 300*p.plain())
	ct := mustSeal(t, p, msg)
	ct[HeaderSize+250*4096+100] ^= 1
	r, err := openAt(bytes.NewReader(ct), int64(len(ct)), 1)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(msg))
	if n, err := r.ReadAt(buf, 0); n != 0 || err != ErrAuth || bytes.IndexByte(buf, 0xee) >= 0 {
		t.Errorf("%d bytes, %v; the first of them is at %d", n, err, bytes.IndexByte(buf, 0xee))
	}
	if len(r.spare) != 1 || bytes.IndexByte(r.spare[0].result, 0xee) >= 0 {
		t.Error("plaintext is kept for the next read")
	}
}

// Whatever the segment length, a read of nothing is one: at the edges of segments, at the end, and as far behind it as an
// offset goes.
func TestReadAtOfNothing(t *testing.T) {
	for _, size := range []int{4096, 65536, 1048576} {
		p := params{size, rotationBits}
		for _, n := range []int{0, 1, p.plain(), 2 * p.plain(), 2*p.plain() + 1} {
			ct := mustSeal(t, p, make([]byte, n))
			for _, workers := range []int{1, 3} {
				r, err := openAt(bytes.NewReader(ct), int64(len(ct)), workers)
				if err != nil {
					t.Fatal(err)
				}
				for _, off := range []int64{0, 1, int64(p.plain()) - 1, int64(p.plain()), int64(2 * p.plain()), int64(3 * p.plain()), int64(n), math.MaxInt64 / int64(p.plain()) * int64(p.plain()), math.MaxInt64} {
					if k, err := r.ReadAt(nil, off); k != 0 || err != nil {
						t.Errorf("segments of %d, %d bytes: nothing at %d is %d bytes, %v", size, n, off, k, err)
					}
					if k, err := r.ReadAt(make([]byte, 5), off); off >= int64(n) && (k != 0 || err != io.EOF) {
						t.Errorf("segments of %d, %d bytes: 5 bytes at %d are %d, %v", size, n, off, k, err)
					}
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if _, err := r.ReadAt(nil, int64(p.plain())); err != ErrClosed {
					t.Errorf("nothing of what is closed: %v", err)
				}
			}
		}
	}
}

// A source may lie about what it read; an error of it is that read's alone.
func TestReaderAtAndItsSource(t *testing.T) {
	msg := randomBytes(1000)
	ct := mustSeal(t, tiny, msg)
	src := &moodyAt{b: ct}
	h, err := readHeader(bytes.NewReader(ct), pinned(tiny))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReaderAt(src, int64(len(ct)), h, &fixed{key: testKey}, testAAD, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ give, want error }{{errMoody, errMoody}, {io.EOF, ErrAuth}, {nil, io.ErrNoProgress}, {fmt.Errorf("%w", io.ErrUnexpectedEOF), nil}} {
		src.err, src.short = c.give, 5
		// To begin with the final segment is read: that it cannot be is no sign of tampering.
		if _, err := NewReaderAt(src, int64(len(ct)), h, &fixed{key: testKey}, testAAD, 1); err == nil || c.want != nil && err != c.want || c.want == nil && err != c.give {
			t.Errorf("NewReaderAt with %v: %v", c.give, err)
		}
		p := bytes.Repeat([]byte{7}, 100)
		n, err := r.ReadAt(p, 400)
		if n != 0 || err == nil || c.want != nil && err != c.want || bytes.Contains(p, msg[400:410]) {
			t.Errorf("%v: %d, %v", c.give, n, err)
		}
		src.short = 0
		if n, err := r.ReadAt(p, 400); n != 100 || err != nil || !bytes.Equal(p, msg[400:500]) {
			t.Errorf("after %v: %d, %v", c.give, n, err)
		}
	}
}

type moodyAt struct {
	b     []byte
	short int
	err   error
}

func (m *moodyAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, m.b[min(off, int64(len(m.b))):])
	if m.short > 0 {
		return max(0, n-m.short), m.err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Any part of any message, through a ReaderAt: these bytes and no others.
func TestReadAtIsASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := params{rapid.IntRange(33, 80).Draw(t, "segment"), rapid.UintRange(0, 4).Draw(t, "rotation")}
		msg := rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(t, "msg")
		ct, err := seal(nil, testKey, p, testAAD, msg)
		if err != nil {
			t.Fatal(err)
		}
		h, err := readHeader(bytes.NewReader(ct), pinned(p))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReaderAt(bytes.NewReader(ct), int64(len(ct)), h, &fixed{key: testKey}, testAAD, 2)
		if err != nil || r.Size() != int64(len(msg)) {
			t.Fatal(err)
		}
		for range 5 {
			off, n := rapid.IntRange(0, len(msg)+10).Draw(t, "off"), rapid.IntRange(0, 600).Draw(t, "n")
			buf := make([]byte, n)
			k, err := r.ReadAt(buf, int64(off))
			want := msg[min(off, len(msg)):min(off+n, len(msg))]
			if !bytes.Equal(buf[:k], want) || (err == io.EOF) != (len(want) < n) || err != nil && err != io.EOF {
				t.Fatalf("%d bytes at %d of %d: %d, %v", n, off, len(msg), k, err)
			}
		}
	})
}
