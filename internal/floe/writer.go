package floe

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/byok-go/byok/internal/source"
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
	step   int      // how many segments the next chunk takes: 1, 2, 4 and so on
	buf    []byte   // plaintext not sealed yet
	chunks []*chunk // of the workers
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
	return &Writer{dst: dst, f: f, step: 1, chunks: f.chunks()}, nil
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
			if err := w.seal(w.buf, false, w.give); err != nil {
				return written, err
			}
			w.buf = w.buf[:0]
		}
		if n := w.room(); len(w.buf) == 0 && len(p) > n { // straight from the caller's slice
			n = (len(p) - 1) / n * n
			if err := w.seal(p[:n], false, w.give); err != nil {
				return written, err
			}
			p, written = p[n:], written+n
			continue
		}
		n := min(len(p), w.room()-len(w.buf))
		w.keep(p[:n])
		p, written = p[n:], written+n
	}
	return written, nil
}

// ReadFrom implements io.ReaderFrom: it seals what src has, without copying it. Each of
// the workers reads from src, and writes to the destination, in turn. An error of src, other than
// io.EOF, is the Writer's from then on: half of an input must not pass for all of it.
func (w *Writer) ReadFrom(src io.Reader) (read int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	var failed error // src's
	take := func(c *chunk) bool {
		// A full chunk may still be the end: one byte more decides it. It waits in buf.
		size := w.step * w.f.p.plain()
		c.grow(size+1, w.step*w.f.p.segment)
		n := copy(c.room[:size], w.buf)
		w.buf = w.buf[:copy(w.buf, w.buf[n:])]
		if len(w.buf) == 0 {
			k, err := source.ReadUpTo(src, c.room[n:size+1])
			read, n = read+int64(k), n+k
			w.keep(c.room[min(n, size):n])
			if err != nil {
				if w.buf = w.buf[:0]; err != io.EOF {
					failed = err
				}
				w.keep(c.room[:n])
				return false
			}
		}
		w.number(c, c.room[:size])
		return true
	}
	w.relay(take, w.give)
	if w.err == nil && failed != nil {
		w.fail(failed)
		w.wipe()
	}
	return read, w.err
}

// usable is why nothing can be written any more.
func (w *Writer) usable() error {
	if w.err == nil && w.closed {
		return ErrClosed
	}
	return w.err
}

// room is how many bytes of plaintext wait to be sealed at most: once chunks are as large as they
// get, two of them, which the workers share.
func (w *Writer) room() int {
	if w.step < w.f.most() {
		return w.step * w.f.p.plain()
	}
	return min(len(w.chunks), 2) * w.step * w.f.p.plain()
}

// keep appends to what waits, and leaves no copy of it behind.
func (w *Writer) keep(p []byte) {
	if need := len(w.buf) + len(p); cap(w.buf) < need {
		old := w.buf
		w.buf = append(make([]byte, 0, max(need, min(w.room(), 2*cap(old)))), old...)
		clear(old)
	}
	w.buf = append(w.buf, p...)
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
	// Set first: should dst panic, a second Close must not seal a second end, nor pass for success.
	w.closed = true
	whole := false
	defer func() {
		w.settle(whole)
		w.wipe()
	}()
	var last []*chunk // one of each worker at most, see seal
	_ = w.seal(w.buf, true, func(c *chunk) bool {
		if w.err == nil && c.err != nil {
			w.fail(c.err)
		}
		last = append(last, c)
		return true
	})
	if w.err == nil {
		w.err = w.f.permit.Done(nil)
	}
	for _, c := range last {
		w.give(c)
	}
	whole = true
	return w.err
}

// Abort gives the message up: what was written so far never opens, and Write and
// Close fail from now on. After Close it does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.err == nil {
		w.fail(ErrClosed)
		w.wipe()
	}
}

// seal seals plaintext, which is full segments unless it is the rest of the message.
func (w *Writer) seal(plaintext []byte, final bool, give func(*chunk) bool) error {
	size, more := w.f.p.plain(), true
	// What is not more than room is shared evenly: at most one chunk for each worker, see Close.
	share := max(2, (len(plaintext)+size*len(w.chunks)-1)/(size*len(w.chunks)))
	w.relay(func(c *chunk) bool {
		if !more {
			return false
		}
		n := min(min(w.step, share)*size, len(plaintext))
		c.grow(0, max(1, (n+size-1)/size)*w.f.p.segment)
		w.number(c, plaintext[:n])
		plaintext = plaintext[n:]
		more = len(plaintext) > 0
		c.final = final && !more
		return true
	}, give)
	return w.err
}

// relay moves what take yields.
func (w *Writer) relay(take, give func(*chunk) bool) {
	whole := false
	defer func() { w.settle(whole) }()
	relay(w.chunks, take, w.f.seal, give)
	whole = true
}

// settle ends what was done with the chunks. Whatever a panic has interrupted must not be completed.
func (w *Writer) settle(whole bool) {
	if !whole && w.err == nil {
		w.fail(ErrClosed)
	}
	if w.err != nil {
		w.wipe()
	}
}

// number makes in the next chunk of the message.
func (w *Writer) number(c *chunk, in []byte) {
	c.in, c.pos, c.final = in, w.pos, false
	c.n = max(1, (len(in)+w.f.p.plain()-1)/w.f.p.plain())
	w.pos += uint64(c.n)
	w.step = w.f.ramp(w.step)
}

// give writes a chunk that has been sealed, unless one before it was not written.
func (w *Writer) give(c *chunk) bool {
	if w.err != nil {
		return false
	}
	err := c.err
	if err == nil {
		err = w.f.permit.Still() // it may have waited
	}
	if err == nil {
		err = writeAll(w.dst, c.out)
	}
	if err != nil {
		w.fail(err)
	}
	return err == nil
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
func (w *Writer) fail(err error) {
	if w.err = w.f.permit.Done(err); w.err == nil {
		w.err = errors.Join(err, errPermit)
	}
}

// wipe clears the plaintext. There are no keys to clear, see Permit.
func (w *Writer) wipe() {
	clear(w.buf[:cap(w.buf)])
	w.buf = nil
	for _, c := range w.chunks {
		clear(c.room)
		*c = chunk{}
	}
}
