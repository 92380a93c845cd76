package source

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// lying says that it read so much, whatever there is room for.
type lying int

func (l lying) Read([]byte) (int, error) { return int(l), nil }

// Whatever a source does, ReadUpTo returns: with what was read, and with io.EOF only at its end.
func TestReadUpTo(t *testing.T) {
	broken := errors.New("broken")
	text := func(s string) io.Reader { return strings.NewReader(s) }
	for name, c := range map[string]struct {
		src io.Reader
		n   int
		err error
	}{
		"all of it":          {text("12345678"), 8, nil},
		"more than all":      {text("123456789"), 8, nil},
		"byte by byte":       {iotest.OneByteReader(text("12345678")), 8, nil},
		"an end beside data": {iotest.DataErrReader(text("12345678")), 8, nil},
		"ends before":        {text("123"), 3, io.EOF},
		"nothing at all":     {text(""), 0, io.EOF},
		"an error":           {io.MultiReader(text("123"), iotest.ErrReader(broken)), 3, broken},
		"pauses":             {io.MultiReader(text("123"), &pausing{n: 99}, text("45678")), 8, nil},
		"silence":            {io.MultiReader(text("123"), lying(0)), 3, io.ErrNoProgress},
		"less than nothing":  {io.MultiReader(text("123"), lying(-1)), 3, io.ErrNoProgress},
		"more than room":     {io.MultiReader(text("123"), lying(6)), 3, io.ErrNoProgress},
	} {
		buf := make([]byte, 8)
		n, err := ReadUpTo(c.src, buf)
		if n != c.n || err != c.err || !bytes.Equal(buf[:n], []byte("12345678")[:n]) {
			t.Errorf("%s: %q, %v", name, buf[:n], err)
		}
	}
	if n, err := ReadUpTo(lying(-1), nil); n != 0 || err != nil {
		t.Errorf("nothing to fill: %d, %v", n, err)
	}
}

// pausing has nothing, n times, and then ends.
type pausing struct{ n int }

func (p *pausing) Read([]byte) (int, error) {
	if p.n--; p.n < 0 {
		return 0, io.EOF
	}
	return 0, nil
}
