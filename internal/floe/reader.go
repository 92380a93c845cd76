package floe

import (
	"encoding/binary"
	"io"
	"math"
	"sync"

	"github.com/byok-go/byok/internal/source"
)

// Reader opens a message that arrives as a stream, a few segments at a time. Every byte
// it hands out is authenticated, but only io.EOF says that the message was complete: what
// was read before another error is a true prefix, and must not be taken for the whole.
//
// Once a Read has failed, every later one fails the same way. A Reader may be used
// from many goroutines; each call is atomic, and which gets what is undefined.
type Reader struct {
	mu     sync.Mutex
	src    io.Reader
	f      *frame
	pos    uint64
	step   int      // how many segments the next chunk takes: 1, 2, 4 and so on
	chunks []*chunk // of the workers
	opened []*chunk // those of which something has not been handed out, in order
	last   bool     // nothing more is read from src
	over   bool     // the permit knows how it ended
	err    error    // what Read returns when nothing is left of opened
}

// NewReader checks the header's tag, and returns a Reader for the message whose segments
// follow in src. It takes no memory for them before the tag was right. With more than one
// worker, as many goroutines open segments at once. The error is [ErrAuth], or the permit's;
// the permit is not told of it. The aad is not retained.
func NewReader(src io.Reader, h *Header, permit Permit, aad []byte, workers int) (*Reader, error) {
	f, err := h.resume(permit, aad, workers)
	if err != nil {
		return nil, err
	}
	return &Reader{src: src, f: f, step: 1, chunks: f.chunks()}, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.ready(); err != nil {
		return 0, err
	}
	n := copy(p, r.opened[0].out)
	r.used(n)
	return n, nil
}

// WriteTo implements io.WriterTo: it writes the rest of the message to dst, without
// copying it first. Each of the workers reads from the source, and writes to dst, in turn. An error
// of dst is not the Reader's, which may be read on.
func (r *Reader) WriteTo(dst io.Writer) (written int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	write := func() bool {
		for err == nil && len(r.opened) > 0 && r.may() {
			out := r.opened[0].out
			var n int
			if n, err = dst.Write(out); err == nil && n < len(out) {
				err = io.ErrShortWrite
			}
			n = min(max(0, n), len(out))
			r.used(n)
			written += int64(n)
		}
		return err == nil && r.err == nil
	}
	if write() {
		r.relay(math.MaxInt, write)
	}
	if err == nil {
		r.wipe()
		if err = r.err; err == io.EOF {
			err = nil
		}
	}
	return written, err
}

// ready sees to it that there is something in opened that may be handed out now.
func (r *Reader) ready() error {
	// A loop, since an empty final segment yields no bytes but the end.
	for len(r.opened) == 0 {
		if r.err != nil {
			r.wipe()
			return r.err
		}
		n := 1 // the first bytes shall not wait for many
		if r.step == r.f.most() {
			n = len(r.chunks)
		}
		r.relay(n, func() bool { return r.err == nil })
	}
	if !r.may() {
		return r.err
	}
	return nil
}

// may asks whether what was opened may be handed out now. If not, there is none any more.
func (r *Reader) may() bool {
	err := r.f.permit.Still()
	if err != nil {
		r.err, r.over = err, true
		r.drop()
	}
	return err == nil
}

// used says that so much of the first chunk in opened has been handed out.
func (r *Reader) used(n int) {
	c := r.opened[0]
	if c.out = c.out[n:]; len(c.out) == 0 {
		r.opened = r.opened[:copy(r.opened, r.opened[1:])]
	}
}

// relay moves up to n chunks from src to opened, and calls next after each: whether to go on.
func (r *Reader) relay(n int, next func() bool) {
	whole := false
	defer func() {
		if !whole { // a panic: what was on its way is lost
			if !r.over {
				r.end(ErrClosed)
			}
			if r.err == io.EOF {
				r.err = ErrClosed // it is no end to what was handed out
			}
			r.wipe()
		}
	}()
	relay(r.chunks, func(c *chunk) bool {
		n--
		return n >= 0 && !r.last && r.take(c)
	}, func(c *chunk) {
		if c.n > 0 {
			r.f.open(c)
		}
	}, func(c *chunk) bool {
		r.give(c)
		return next()
	})
	whole = true
}

// take reads a chunk, if only to find out that nothing follows.
func (r *Reader) take(c *chunk) bool {
	c.grow(r.step*r.f.p.segment, r.step*r.f.p.plain())
	b := c.room[:r.step*r.f.p.segment]
	got, err := source.ReadUpTo(r.src, b)
	var length int
	c.n, length, c.final, c.cut = r.cut(b[:got], err)
	c.in, c.pos, c.out, c.good, c.err = b[:length], r.pos, nil, 0, nil
	r.pos += uint64(c.n)
	r.step = r.f.ramp(r.step)
	r.last = c.final || c.cut != nil
	return true
}

// give appends a chunk that was opened, unless what came before it was the end.
func (r *Reader) give(c *chunk) {
	if r.err != nil {
		clear(c.out)
		return
	}
	if c.err != nil {
		r.end(c.err)
		return
	}
	if c.good < c.n {
		c.cut = ErrAuth
	}
	if len(c.out) > 0 {
		r.opened = append(r.opened, c)
	}
	switch {
	case c.cut != nil:
		// At once, and not when somebody has read so far: it may be news of somebody who
		// touched the message. What is in opened comes before it, and may be read.
		r.end(c.cut)
	case c.final:
		// Before the last is released, so that a short message is not released at all
		// unless this succeeds.
		if r.end(nil); r.err == nil {
			r.err = io.EOF
		} else {
			r.drop()
		}
	}
}

// cut finds the segments in b, behind which the source said err. It returns how many there
// are, how long they are together, whether the last of them claims to be the final one, and
// why nothing else can follow. No claim is believed: the tags decide.
func (r *Reader) cut(b []byte, err error) (n, length int, final bool, broken error) {
	ended := err == io.EOF
	err = cutShort(err) // unless the final segment comes first
	for size := r.f.p.segment; ; n++ {
		rest := b[length:]
		if len(rest) < lengthSize {
			return n, length, false, err // also when the buffer is full: then err is nil
		}
		claim := binary.BigEndian.Uint32(rest)
		switch {
		case claim == notFinal && len(rest) < size:
			return n, length, false, err
		case claim == notFinal:
			length += size
			continue
		case claim < SegmentOverhead || uint64(claim) > uint64(size):
			return n, length, false, ErrAuth
		case len(rest) < int(claim):
			return n, length, false, err
		case len(rest) > int(claim):
			return n, length, false, ErrAuth // something follows the end
		}
		// Before the last bytes are released, not after: trailing data means that
		// someone touched the message, and then its end is not vouched for either.
		if err == nil {
			if err = probeEnd(r.src); err != nil {
				return n, length, false, err
			}
		} else if !ended {
			return n, length, false, err
		}
		return n + 1, length + int(claim), true, nil
	}
}

// end tells the permit how it ended, once, and makes its answer what Read returns once
// nothing is left of opened.
func (r *Reader) end(err error) {
	r.over = true
	if r.err = r.f.permit.Done(err); r.err == nil && err != nil {
		r.err = errPermit
	}
}

// Close forgets the plaintext; later Reads fail. It does not close src, and waits for a
// Read that is under way. Reading to an error, io.EOF too, makes it needless.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.end(ErrClosed)
	}
	r.wipe()
	if r.err == nil || r.err == io.EOF {
		r.err = ErrClosed
	}
	return nil
}

// drop clears what has not been handed out.
func (r *Reader) drop() {
	for _, c := range r.opened {
		clear(c.out)
	}
	r.opened = r.opened[:0]
}

// wipe clears the plaintext, also what has been handed out. There are no keys to clear, see Permit.
func (r *Reader) wipe() {
	for _, c := range r.chunks {
		clear(c.result)
		*c = chunk{}
	}
	r.opened = nil
}
