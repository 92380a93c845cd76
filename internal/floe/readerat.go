package floe

import (
	"cmp"
	"errors"
	"io"
	"sync"
)

// ReaderAt opens parts of a message that lies somewhere as a whole. Its size is not told,
// and nothing is opened, before the final segment was authentic: so a message that was cut
// short at a segment's border is refused, and which segment is the final one follows from
// the size and is no caller's choice.
//
// A segment that is not authentic, or a refusal by the permit, ends it: every later read
// fails the same way. An error of the source is only that read's. A ReaderAt may be
// used from many goroutines; the permit decides whether they wait for each other.
type ReaderAt struct {
	src  io.ReaderAt
	body int64 // length of all segments
	f    *frame
	size int64 // of the plaintext

	mu    sync.Mutex
	spare []*chunk // of earlier reads, to save others the allocation
	err   error    // what every read returns from now on
}

// NewReaderAt checks the header's tag and the final segment at the end of src, has the permit
// agree, and then returns. src is the whole message, with the header at its start; it is size
// bytes long and must not change. The error is [ErrAuth], the permit's or src's own; the
// permit is not told of it. The aad is not retained.
func NewReaderAt(src io.ReaderAt, size int64, h *Header, permit Permit, aad []byte, workers int) (*ReaderAt, error) {
	opened := h.OpenedSize(size)
	if opened < 0 {
		return nil, ErrAuth
	}
	f, err := h.resume(permit, aad, workers)
	if err != nil {
		return nil, err
	}
	r := &ReaderAt{src: src, body: size - HeaderSize, f: f, size: opened}
	c := &chunk{n: 1, pos: uint64(r.segments() - 1)}
	r.open(c)
	clear(c.result)
	if err = cmp.Or(c.cut, c.err); err == nil && c.good != 1 {
		err = ErrAuth
	}
	if err == nil {
		err = permit.Done(nil)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Size is the length of the plaintext. It is authentic.
func (r *ReaderAt) Size() int64 { return r.size }

// segments is how many there are: at least one.
func (r *ReaderAt) segments() int64 { return (r.body-1)/int64(r.f.p.segment) + 1 }

// ReadAt implements io.ReaderAt. Each call proves access, reads the segments it needs, and
// opens all of each: for a few bytes, tell it of one segment. The workers share a long one.
func (r *ReaderAt) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("floe: negative offset")
	}
	p, end := p[:min(int64(len(p)), max(0, r.size-off))], len(p)
	plain := int64(r.f.p.plain())
	next, last := off/plain, (off+int64(len(p))-1)/plain // segments
	// last is before next where nothing is read.
	chunks, err := r.take(int(max(0, min(last-next, int64(r.f.workers*r.f.most())))) + 1)
	if err != nil {
		return 0, err
	}
	defer r.give(chunks)
	switch c := chunks[0]; {
	case len(p) == 0:
	case last-next < int64(r.f.most()):
		c.pos, c.n = uint64(next), int(last-next+1)
		r.open(c)
		n, err = r.copy(p, off, c)
	default:
		n, err = r.readMany(p, off, chunks)
	}
	if err != nil {
		clear(p[:n]) // nothing is released beside an error but io.EOF
		return 0, err
	}
	if n < end {
		err = io.EOF
	}
	return n, err
}

// readMany is ReadAt with workers.
func (r *ReaderAt) readMany(p []byte, off int64, chunks []*chunk) (n int, err error) {
	plain := int64(r.f.p.plain())
	next, last := off/plain, (off+int64(len(p))-1)/plain
	relay(chunks, func(c *chunk) bool {
		c.pos, c.n = uint64(next), int(min(last-next+1, int64(r.f.most())))
		next += int64(c.n)
		return c.n > 0
	}, r.open, func(c *chunk) bool {
		if err == nil {
			var k int
			k, err = r.copy(p[n:], off+int64(n), c)
			n += k
		}
		return err == nil
	})
	return n, err
}

// copy releases to p what c has from off on, or says why not.
func (r *ReaderAt) copy(p []byte, off int64, c *chunk) (int, error) {
	if err := r.check(c); err != nil {
		return 0, err
	}
	return copy(p, c.out[off-int64(c.pos)*int64(r.f.p.plain()):]), nil
}

// open reads and opens the segments that c says. The source's error is c.cut: it is this read's alone.
func (r *ReaderAt) open(c *chunk) {
	segment := int64(r.f.p.segment)
	c.grow(c.n*int(segment), c.n*r.f.p.plain())
	c.used = max(c.used, c.n*r.f.p.plain())
	from := int64(c.pos) * segment
	c.in = c.room[:min(int64(c.n)*segment, r.body-from)]
	c.final = int64(c.pos)+int64(c.n) == r.segments()
	n, err := r.src.ReadAt(c.in, HeaderSize+from)
	if c.cut = nil; n < len(c.in) {
		if err == nil {
			err = io.ErrNoProgress // it breaks the contract of io.ReaderAt
		}
		c.out, c.cut, c.err = nil, cutShort(err), nil
		return
	}
	r.f.open(c)
}

// check says why nothing of c may be released.
func (r *ReaderAt) check(c *chunk) error {
	switch {
	case c.cut != nil:
		return c.cut
	case c.err != nil:
		r.end(c.err)
		return c.err
	case c.good < c.n:
		err := r.f.permit.Done(ErrAuth)
		if err == nil {
			err = errPermit
		}
		r.end(err)
		return err
	}
	return nil
}

// take returns the means to read n segments, or why nobody may.
func (r *ReaderAt) take(n int) ([]*chunk, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	chunks := make([]*chunk, min(r.f.workers, (n-1)/r.f.most()+1))
	for i := range chunks {
		if k := len(r.spare); k > 0 {
			chunks[i], r.spare = r.spare[k-1], r.spare[:k-1]
		} else {
			chunks[i] = new(chunk)
		}
	}
	return chunks, r.err
}

// give clears the plaintext that is left in chunks.
func (r *ReaderAt) give(chunks []*chunk) {
	for _, c := range chunks {
		clear(c.result[:c.used])
		c.used = 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range chunks {
		if len(r.spare) < r.f.workers {
			r.spare = append(r.spare, c)
		}
	}
}

// end makes err the answer to all that follows, unless there is one.
func (r *ReaderAt) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// Close makes later reads fail. It does not wait for those under way; between reads there
// is no plaintext to forget.
func (r *ReaderAt) Close() error {
	r.end(ErrClosed)
	return nil
}
