package floe

import (
	"io"
	"sync"
)

// Writer seals a message as it is written. It must be closed: only Close writes
// the final segment, and a message without one never opens. That is what to do
// with a message that must not be completed: drop the Writer, call [Writer.Abort].
//
// Once an operation has failed, every later one fails the same way. A Writer may
// be used from many goroutines; each call is atomic, in an undefined order.
type Writer struct {
	mu     sync.Mutex
	dst    io.Writer
	e      *Encryptor
	buf    []byte // plaintext not sealed yet; its capacity is for a full segment
	sealed []byte // room for one sealed segment
	closed bool
	err    error // what every operation returns from now on
}

// NewWriter writes a header to dst and returns a Writer for the message. The key
// and aad are not retained.
func NewWriter(dst io.Writer, key []byte, p Params, aad []byte) (*Writer, error) {
	pp, err := p.resolve()
	if err != nil {
		return nil, err
	}
	return newWriter(dst, key, pp, aad)
}

func newWriter(dst io.Writer, key []byte, p params, aad []byte) (*Writer, error) {
	e, err := newEncryptor(key, p, aad)
	if err != nil {
		return nil, err
	}
	w := &Writer{
		dst:    dst,
		e:      e,
		buf:    make([]byte, 0, p.plain()),
		sealed: make([]byte, 0, p.segment),
	}
	if err := w.flush(e.m.header[:]); err != nil {
		e.Close()
		return nil, err
	}
	return w, nil
}

// Write implements io.Writer. The plaintext is copied or sealed before it returns.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.closed {
		return 0, errClosed
	}
	written := 0
	for len(p) > 0 {
		// A full buffer is sealed only when a byte follows it, since until then
		// it may be the final segment: one encoding for each length.
		if len(w.buf) == cap(w.buf) {
			if err := w.seal(false); err != nil {
				return written, err
			}
		}
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p, written = p[n:], written+n
	}
	return written, nil
}

// Close seals what is left as the final segment and writes it. It does not close
// the underlying writer. A second Close repeats the outcome of the first.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.err != nil {
		return w.err
	}
	// Set first: should dst panic, a second Close must not seal a second end.
	w.closed = true
	err := w.seal(true)
	w.wipe()
	return err
}

// Abort gives the message up: what was written so far never opens, and Write and
// Close fail from now on. After Close it does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.err == nil {
		w.fail(errClosed)
	}
}

// seal writes the buffer as one segment.
func (w *Writer) seal(final bool) error {
	var out []byte
	var err error
	if final {
		out, err = w.e.SealLast(w.sealed[:0], w.buf)
	} else {
		out, err = w.e.SealSegment(w.sealed[:0], w.buf)
	}
	if err != nil {
		return w.fail(err)
	}
	w.buf = w.buf[:0]
	return w.flush(out)
}

// flush passes b on. A sink that takes less without saying why has failed too.
func (w *Writer) flush(b []byte) error {
	n, err := w.dst.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return w.fail(err)
	}
	return nil
}

// fail makes err the answer to everything that follows. A message that lost a
// piece must not be completed, so the keys go at once.
func (w *Writer) fail(err error) error {
	w.err = err
	w.wipe()
	return err
}

func (w *Writer) wipe() {
	w.e.Close()
	clear(w.buf[:cap(w.buf)])
	w.buf = w.buf[:0]
}
