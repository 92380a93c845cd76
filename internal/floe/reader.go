package floe

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// Reader opens a message that arrives as a stream. Every byte it hands out is
// authenticated, but only io.EOF says that the message was complete: what was read
// before another error is a true prefix, and must not be taken for the whole.
//
// Once a Read has failed, every later one fails the same way. A Reader may be used
// from many goroutines; each call is atomic, and which gets what is undefined.
type Reader struct {
	mu     sync.Mutex
	src    io.Reader
	d      *Decryptor
	sealed []byte // one segment, as it came; its capacity is the segment size
	opened []byte // plaintext of one segment; its capacity is for a full one
	unread []byte // the part of opened that has not been handed out
	err    error  // what Read returns when unread is empty
}

// NewReader reads the header from src and checks it. It reads no further than
// that, and takes no memory for segments before the header's tag was right. The
// error is [ErrMalformed], [ErrAuth], about the key's length, or src's own.
func NewReader(src io.Reader, key, aad []byte) (*Reader, error) {
	return newReader(src, key, aad, accept)
}

func newReader(src io.Reader, key, aad []byte, allowed func([]byte) (params, error)) (*Reader, error) {
	header := make([]byte, HeaderSize)
	if err := readFull(src, header); err != nil {
		return nil, err
	}
	d, err := newDecryptor(key, aad, header, allowed)
	if err != nil {
		return nil, err
	}
	return &Reader{
		src:    src,
		d:      d,
		sealed: make([]byte, d.m.p.segment),
		opened: make([]byte, 0, d.m.p.plain()),
	}, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	// A loop, since an empty final segment yields no bytes but the end.
	for len(r.unread) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.next()
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// next opens one segment: afterwards there is something unread, or r.err is set,
// or both at the last segment, whose bytes come before io.EOF.
func (r *Reader) next() {
	err := r.readSegment()
	if err == nil {
		return
	}
	r.err = err
	r.d.Close()
	if err != io.EOF {
		r.unread = nil
		clear(r.opened[:cap(r.opened)])
	}
}

func (r *Reader) readSegment() error {
	if err := readFull(r.src, r.sealed[:lengthSize]); err != nil {
		return err
	}
	// The field is a claim until the tag is checked. It decides how much to
	// read, within the buffer that is already there, and nothing else.
	length := binary.BigEndian.Uint32(r.sealed)
	if length == notFinal {
		if err := readFull(r.src, r.sealed[lengthSize:]); err != nil {
			return err
		}
		opened, err := r.d.OpenSegment(r.opened[:0], r.sealed)
		r.unread = opened
		return err
	}
	if length < SegmentOverhead || uint64(length) > uint64(len(r.sealed)) {
		return ErrAuth
	}
	segment := r.sealed[:length]
	if err := readFull(r.src, segment[lengthSize:]); err != nil {
		return err
	}
	// Before the last bytes are released, not after: trailing data means that
	// someone touched the message, and then its end is not vouched for either.
	if err := probeEnd(r.src); err != nil {
		return err
	}
	opened, err := r.d.OpenLast(r.opened[:0], segment)
	if err != nil {
		return err
	}
	r.unread = opened
	return io.EOF
}

// Close forgets keys and plaintext; later Reads fail. It does not close src.
// Reading to the end or to an error already wipes the keys, so Close matters to
// those who stop early, and to those who want the last plaintext gone.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.d.Close()
	clear(r.opened[:cap(r.opened)])
	r.unread = nil
	if r.err == nil || r.err == io.EOF {
		r.err = errClosed
	}
	return nil
}

// A source that keeps returning nothing and no error would hang its reader. After
// this many times in a row, as in package bufio, it is called broken.
const maxEmptyReads = 100

// readFull fills buf. A stream that ends before is ErrAuth: it was cut short.
// Other errors are the source's own and pass, so that a caller can try again
// from the start.
func readFull(src io.Reader, buf []byte) error {
	for n, empty := 0, 0; n < len(buf); {
		k, err := src.Read(buf[n:])
		if k < 0 || k > len(buf)-n {
			return io.ErrNoProgress // it breaks the contract of io.Reader
		}
		if n += k; n == len(buf) {
			return nil // an error that came with the last byte comes again
		}
		if err != nil {
			return cutShort(err)
		}
		if empty++; k > 0 {
			empty = 0
		}
		if empty >= maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return nil
}

// probeEnd asks for one byte more and wants to be told that there is none.
func probeEnd(src io.Reader) error {
	var one [1]byte
	for range maxEmptyReads {
		switch n, err := src.Read(one[:]); {
		case n != 0:
			return ErrAuth
		case err == io.EOF:
			return nil
		case err != nil:
			return cutShort(err)
		}
	}
	return io.ErrNoProgress
}

// cutShort turns an end of file into ErrAuth. Anything that wraps io.EOF counts,
// since errors.Is would let a caller take it for success.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || err == io.ErrUnexpectedEOF {
		return ErrAuth
	}
	return err
}
