// Package source reads from an [io.Reader] that somebody else wrote, and that may keep to less than its contract:
// one that says nothing for ever hangs nobody, and one that lies about how much it has read makes nobody panic.
package source

import "io"

// maxEmptyReads is how many times in a row a source may return nothing and no error, as in package bufio. Then it
// is called broken: it would hang its reader.
const maxEmptyReads = 100

// ReadUpTo fills buf, or says why it could not: io.EOF and nothing else means that src ended here, however much
// was read. io.ErrNoProgress says that src is broken; other errors are src's own. An error that came with the
// last byte is not told: it comes again.
func ReadUpTo(src io.Reader, buf []byte) (n int, err error) {
	for empty := 0; n < len(buf); {
		k, err := src.Read(buf[n:])
		if k < 0 || k > len(buf)-n {
			return n, io.ErrNoProgress // it breaks the contract of io.Reader
		}
		if n += k; n == len(buf) {
			return n, nil
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
