package floe

import (
	"errors"
	"io"
	"slices"
	"sync"
)

// Writer seals a message as it is written, a few segments at a time. It must be closed:
// only Close writes the final segment, and a message without one never opens. That is
// what to do with a message that must not be completed: call [Writer.Abort].
//
// Once an operation has failed, every later one fails the same way. A Writer may
// be used from many goroutines; each call is atomic, in an undefined order.
type Writer struct {
	mu     sync.Mutex
	dst    io.Writer
	f      *frame
	pos    uint64
	step   int    // how many segments the next step takes: 1, 2, 4 and so on
	buf    []byte // plaintext not sealed yet
	sealed []byte // room for the segments of a step
	closed bool
	err    error // what every operation returns from now on
}

// NewWriter writes head, which is whatever stands before the message, and the message's header
// to dst. The Writer seals with so many goroutines at once, 1 without any. If it fails, the
// permit is not told. The aad is not retained.
func NewWriter(dst io.Writer, head []byte, permit Permit, p Params, aad []byte, workers int) (*Writer, error) {
	pp, err := p.resolve()
	if err != nil {
		return nil, err
	}
	return startWriter(dst, head, permit, pp, aad, workers)
}

func startWriter(dst io.Writer, head []byte, permit Permit, p params, aad []byte, workers int) (*Writer, error) {
	f, err := begin(permit, p, aad, workers)
	if err != nil {
		return nil, err
	}
	if err := writeAll(dst, append(slices.Clone(head), f.header[:]...)); err != nil {
		return nil, err
	}
	return &Writer{dst: dst, f: f, step: 1}, nil
}

// Write implements io.Writer. The plaintext is copied or sealed before it returns.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	written := 0
	for len(p) > 0 {
		// A full buffer is sealed only when a byte follows it, since until then
		// its end may be the final segment: one encoding for each length.
		if len(w.buf) == w.room() {
			if err := w.seal(w.buf, false); err != nil {
				return written, err
			}
		}
		if n := w.room(); len(w.buf) == 0 && len(p) > n { // straight from the caller's slice
			if err := w.seal(p[:n], false); err != nil {
				return written, err
			}
			p, written = p[n:], written+n
			continue
		}
		w.grow()
		n := min(len(p), w.room()-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p, written = p[n:], written+n
	}
	return written, nil
}

// ReadFrom implements io.ReaderFrom: it seals what src has, without copying it. An error
// of src, other than io.EOF, is the Writer's from then on: half of an input must not pass
// for all of it.
func (w *Writer) ReadFrom(src io.Reader) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	// A full buffer may still be the end: one byte more decides it.
	var read int64
	var next [1]byte
	for {
		w.grow()
		n, err := readUpTo(src, w.buf[len(w.buf):w.room()])
		w.buf = w.buf[:len(w.buf)+n]
		read += int64(n)
		if err == nil {
			n, err = readUpTo(src, next[:])
			read += int64(n)
		}
		if err == io.EOF {
			return read, nil
		}
		if err == nil {
			err = w.seal(w.buf, false)
		} else {
			err = w.fail(err)
		}
		if err != nil {
			clear(next[:])
			return read, err
		}
		w.grow()
		w.buf = append(w.buf, next[0])
	}
}

// usable is why nothing can be written any more.
func (w *Writer) usable() error {
	if w.err == nil && w.closed {
		return ErrClosed
	}
	return w.err
}

// room is how many bytes of plaintext the next step takes.
func (w *Writer) room() int { return w.step * w.f.p.plain() }

// grow makes the buffers large enough for the next step. They begin small: most messages
// are.
func (w *Writer) grow() {
	if cap(w.buf) < w.room() {
		old := w.buf
		w.buf = append(make([]byte, 0, w.room()), old...)
		clear(old)
	}
}

// Close seals what is left, ending with the final segment, has the permit agree, and only
// then writes it. It does not close the underlying writer. A second Close repeats the
// outcome of the first.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.err != nil {
		return w.err
	}
	// Set first: should dst panic, a second Close must not seal a second end.
	w.closed = true
	err := w.seal(w.buf, true)
	w.wipe()
	return err
}

// Abort gives the message up: what was written so far never opens, and Write and
// Close fail from now on. After Close it does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.err == nil {
		_ = w.fail(ErrClosed)
	}
}

// seal makes one step and writes what came of it.
func (w *Writer) seal(plaintext []byte, final bool) error {
	if need := w.f.p.segment * w.step; cap(w.sealed) < need {
		w.sealed = make([]byte, need)
	}
	out, err := w.f.seal(w.sealed, plaintext, w.pos, final)
	if err == nil && final {
		err = w.f.permit.Done(nil)
		if err != nil {
			w.err = err
			return err
		}
	}
	if err == nil {
		err = writeAll(w.dst, out)
	}
	if err != nil {
		return w.fail(err)
	}
	w.pos += uint64(w.step)
	w.step = min(2*w.step, w.f.most())
	w.buf = w.buf[:0]
	return nil
}

// writeAll passes b on. A sink that takes less without saying why has failed too.
func writeAll(dst io.Writer, b []byte) error {
	n, err := dst.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// fail makes what the permit says to err the answer to everything that follows. A
// message that lost a piece must not be completed.
func (w *Writer) fail(err error) error {
	if w.err = w.f.permit.Done(err); w.err == nil {
		w.err = errors.Join(err, errPermit)
	}
	w.wipe()
	return w.err
}

// wipe clears the plaintext. There are no keys to clear, see Permit.
func (w *Writer) wipe() {
	clear(w.buf[:cap(w.buf)])
	w.buf = w.buf[:0]
}
