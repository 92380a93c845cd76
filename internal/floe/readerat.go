package floe

import (
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
	spare *scratch // of the last read, to save the next one the allocation
	err   error    // what every read returns from now on
}

// scratch is what a read needs. It is as large as the largest read in one step so far.
type scratch struct {
	sealed, opened []byte
	used           int // of opened, this time
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
	var s scratch
	last := r.segments() - 1
	_, good, err := r.open(&s, last, 1)
	s.wipe()
	if err == nil && good != 1 {
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
// opens all of each: for a few bytes, tell it of one segment.
func (r *ReaderAt) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("floe: negative offset")
	}
	s, err := r.take()
	if err != nil {
		return 0, err
	}
	defer r.give(s)
	for n < len(p) {
		if off >= r.size {
			return n, io.EOF
		}
		plain := int64(r.f.p.plain())
		first := off / plain
		count := min((min(off+int64(len(p)-n), r.size)-1)/plain-first+1, int64(r.f.most()))
		opened, good, err := r.open(s, first, int(count))
		if err == nil && good < int(count) {
			err = r.f.permit.Done(ErrAuth)
			if err == nil {
				err = errPermit
			}
			r.end(err)
		}
		if err != nil {
			clear(p[:n]) // nothing is released beside an error but io.EOF
			return 0, err
		}
		k := copy(p[n:], opened[off-first*plain:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// open reads and opens count segments, in s.
func (r *ReaderAt) open(s *scratch, first int64, count int) (opened []byte, good int, err error) {
	segment, plain := r.f.p.segment, r.f.p.plain()
	s.wipe()
	if len(s.sealed) < count*segment {
		s.sealed, s.opened = make([]byte, count*segment), make([]byte, count*plain)
	}
	s.used = count * plain
	from := first * int64(segment)
	length := min(int64(count)*int64(segment), r.body-from)
	sealed := s.sealed[:length]
	n, err := r.src.ReadAt(sealed, HeaderSize+from)
	if n < len(sealed) {
		if err == nil {
			err = io.ErrNoProgress // it breaks the contract of io.ReaderAt
		}
		return nil, 0, cutShort(err)
	}
	final := first+int64(count) == r.segments()
	opened, good, err = r.f.open(s.opened, sealed, count, uint64(first), final)
	if err != nil {
		r.end(err)
	}
	return opened, good, err
}

// take returns the means to read, or why nobody may.
func (r *ReaderAt) take() (*scratch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.spare
	if r.spare = nil; s == nil {
		s = new(scratch)
	}
	return s, r.err
}

func (r *ReaderAt) give(s *scratch) {
	s.wipe()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spare == nil || len(r.spare.sealed) < len(s.sealed) {
		r.spare = s
	}
}

func (s *scratch) wipe() {
	clear(s.opened[:s.used])
	s.used = 0
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
