package floe

import (
	"encoding/binary"
	"io"
	"sync"
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
	step   int    // how many segments the next step takes: 1, 2, 4 and so on
	sealed []byte // room for the segments of a step
	opened []byte // and for their plaintext
	unread []byte // the part of opened that has not been handed out
	over   bool   // the permit knows how it ended
	err    error  // what Read returns when unread is empty
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
	return &Reader{src: src, f: f, step: 1}, nil
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
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: it writes the rest of the message to dst, without
// copying it first. An error of dst is not the Reader's, which may be read on.
func (r *Reader) WriteTo(dst io.Writer) (written int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if err := r.ready(); err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
		n, err := dst.Write(r.unread)
		if err == nil && n < len(r.unread) {
			err = io.ErrShortWrite
		}
		n = min(max(0, n), len(r.unread))
		r.unread, written = r.unread[n:], written+int64(n)
		if err != nil {
			return written, err
		}
	}
}

// ready sees to it that there is something unread that may be handed out now.
func (r *Reader) ready() error {
	// A loop, since an empty final segment yields no bytes but the end.
	for len(r.unread) == 0 {
		if r.err != nil {
			r.wipe()
			return r.err
		}
		r.next()
	}
	if err := r.f.permit.Still(); err != nil {
		r.err, r.over = err, true
		r.wipe()
		return err
	}
	return nil
}

// next makes one step: afterwards there is something unread, or r.err is set, or both.
func (r *Reader) next() {
	if size := r.step * r.f.p.segment; len(r.sealed) < size {
		r.wipe()
		r.sealed, r.opened = make([]byte, size), make([]byte, r.step*r.f.p.plain())
	}
	sealed := r.sealed[:r.step*r.f.p.segment]
	got, err := readUpTo(r.src, sealed)
	n, length, final, cut := r.cut(sealed[:got], err)
	if n > 0 {
		opened, good, err := r.f.open(r.opened, sealed[:length], n, r.pos, final)
		if err != nil {
			r.end(err)
			return
		}
		if good < n {
			cut = ErrAuth
		}
		r.unread, r.pos = opened, r.pos+uint64(n)
	}
	r.step = min(2*r.step, r.f.most())
	switch {
	case cut != nil:
		// At once, and not when somebody has read so far: it may be news of somebody who
		// touched the message. What is unread comes before it, and may be read.
		r.end(cut)
	case final:
		// Before the last is released, so that a short message is not released at all
		// unless this succeeds.
		if r.end(nil); r.err == nil {
			r.err = io.EOF
		} else {
			r.wipe()
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
// nothing is unread any more.
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

// wipe clears the plaintext. There are no keys to clear, see Permit.
func (r *Reader) wipe() {
	clear(r.opened)
	r.sealed, r.opened, r.unread = nil, nil, nil
}
