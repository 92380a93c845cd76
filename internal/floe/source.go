package floe

import (
	"errors"
	"io"
)

// A source that keeps returning nothing and no error would hang its reader. After
// this many times in a row, as in package bufio, it is called broken.
const maxEmptyReads = 100

// readUpTo fills buf, or says why it could not: io.EOF and nothing else means that src
// ended here, however much was read. Other errors are src's own.
func readUpTo(src io.Reader, buf []byte) (n int, err error) {
	for empty := 0; n < len(buf); {
		k, err := src.Read(buf[n:])
		if k < 0 || k > len(buf)-n {
			return n, io.ErrNoProgress // it breaks the contract of io.Reader
		}
		if n += k; n == len(buf) {
			return n, nil // an error that came with the last byte comes again
		}
		if err != nil {
			return n, err
		}
		if empty++; k > 0 {
			empty = 0
		}
		if empty >= maxEmptyReads {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// readFull fills buf. A source that ends before is ErrAuth: it was cut short.
func readFull(src io.Reader, buf []byte) error {
	_, err := readUpTo(src, buf)
	return cutShort(err)
}

// probeEnd asks for one byte more and wants to be told that there is none.
func probeEnd(src io.Reader) error {
	var one [1]byte
	n, err := readUpTo(src, one[:])
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
