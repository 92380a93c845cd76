package random

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"testing"
)

type reader func([]byte) (int, error)

func (r reader) Read(b []byte) (int, error) { return r(b) }

// What the self-test must tell from a random source (threat J1).
func TestJ1_SelfTest(t *testing.T) {
	if err := Err(); err != nil {
		t.Fatal(err)
	}
	fill := func(c byte) reader {
		return func(b []byte) (int, error) { copy(b, bytes.Repeat([]byte{c}, len(b))); return len(b), nil }
	}
	counter := byte(0)
	for name, r := range map[string]io.Reader{
		"zeros": fill(0), "ones": fill(0xff), "a letter": fill('a'),
		"another byte each time": reader(func(b []byte) (int, error) { counter++; return fill(counter)(b) }),
		"the same each time": reader(func(b []byte) (int, error) {
			for i := range b {
				b[i] = byte(i)
			}
			return len(b), nil
		}),
		"nothing":      bytes.NewReader(nil),
		"one read":     bytes.NewReader([]byte("0123456789abcdef0123456789ABCDEF")),
		"half a read":  bytes.NewReader([]byte("0123456789abcdef")),
		"an error":     reader(func([]byte) (int, error) { return 0, errors.New("no entropy") }),
		"reads of nil": reader(func(b []byte) (int, error) { return len(b), nil }),
	} {
		if selfTest(r) == nil {
			t.Errorf("%s passes for random", name)
		}
	}
	if err := selfTest(rand.Reader); err != nil {
		t.Error(err)
	}
}

// A source that does not deliver ends the operation, whatever became of
// crypto/rand.Reader since.
func TestJ1_CapturedAtInit(t *testing.T) {
	before := rand.Reader
	defer func() { rand.Reader = before }()
	rand.Reader = bytes.NewReader(nil) // crypto/rand.Read would end the process
	var a, b [32]byte
	Read(a[:])
	Read(b[:])
	if selfTest(bytes.NewReader(append(a[:], b[:]...))) != nil {
		t.Errorf("%x and %x are not random", a, b)
	}
	if x, y := Text(), Text(); x == y || !regexp.MustCompile(`^[a-z2-7]{26}$`).MatchString(x) {
		t.Errorf("%q and %q", x, y)
	}
	defer func(r io.Reader) { source, broken = r, nil }(source)
	panics := func(what string) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: Read returned", what)
			}
		}()
		Read(a[:])
	}
	source = bytes.NewReader(a[:31])
	panics("a source that ran dry")
	source, broken = before, errBroken
	panics("a source that failed its self-test")
}
