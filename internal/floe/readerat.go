package floe

import (
	"errors"
	"io"
	"math"
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
	base int64 // where the first segment is
	body int64 // length of all segments
	f    frame
	size int64 // of the plaintext

	mu    sync.Mutex
	spare *scratch // of the last read, to save the next one the allocation
	err   error    // what every read returns from now on
}

// scratch is what a read needs. It is as large as the largest read in one step so far.
type scratch struct{ sealed, opened []byte }

// NewReaderAt checks the header at the start of src and the final segment at its end, has
// permit agree, and then returns. src is size bytes long and must not change. The aad is
// not retained. The errors are those of [NewReader]. If it fails, permit is not told.
func NewReaderAt(src io.ReaderAt, size int64, permit Permit, aad []byte, workers int) (*ReaderAt, error) {
	return startReaderAt(src, size, permit, aad, workers, accept)
}

func startReaderAt(src io.ReaderAt, size int64, permit Permit, aad []byte, workers int, allowed func([]byte) (params, error)) (*ReaderAt, error) {
	f, err := resume(io.NewSectionReader(src, 0, size), permit, aad, workers, allowed)
	if err != nil {
		return nil, err
	}
	r := &ReaderAt{src: src, base: HeaderSize, body: size - HeaderSize, f: f}
	if r.size = f.p.openedSize64(size); r.size < 0 {
		return nil, ErrAuth
	}
	var s scratch
	last := r.segments() - 1
	_, good, err := r.open(&s, last, 1)
	clear(s.opened)
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
	if len(s.sealed) < count*segment {
		clear(s.opened)
		s.sealed, s.opened = make([]byte, count*segment), make([]byte, count*plain)
	}
	from := first * int64(segment)
	length := min(int64(count)*int64(segment), r.body-from)
	sealed := s.sealed[:length]
	n, err := r.src.ReadAt(sealed, r.base+from)
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
	clear(s.opened)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spare == nil || len(r.spare.sealed) < len(s.sealed) {
		r.spare = s
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

// openedSize64 is openedSize for what does not have to fit in memory.
func (p params) openedSize64(n int64) int64 {
	if n < HeaderSize+SegmentOverhead || n > math.MaxInt64-int64(p.segment) {
		return -1
	}
	body, segment := n-HeaderSize, int64(p.segment)
	segments := (body-1)/segment + 1
	if segments > maxSegments || body-(segments-1)*segment < SegmentOverhead {
		return -1
	}
	return body - segments*SegmentOverhead
}
