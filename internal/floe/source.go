package floe

import (
	"errors"
	"io"

	"github.com/byok-go/byok/internal/source"
)

// readFull fills buf. A source that ends before is ErrAuth: it was cut short.
func readFull(src io.Reader, buf []byte) error {
	_, err := source.ReadUpTo(src, buf)
	return cutShort(err)
}

// probeEnd asks for one byte more and wants to be told that there is none.
func probeEnd(src io.Reader) error {
	var one [1]byte
	n, err := source.ReadUpTo(src, one[:])
	switch {
	case n != 0:
		return ErrAuth
	case err == io.EOF:
		return nil
	}
	return cutShort(err)
}

// cutShort turns an end of file into ErrAuth. Anything that wraps io.EOF counts,
// since errors.Is would let a caller take it for success. Other errors pass, so that a
// caller can try again from the start.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || err == io.ErrUnexpectedEOF {
		return ErrAuth
	}
	return err
}
