package floe

import (
	"io"
	"math"
	"slices"
)

// Permit is whoever holds the key of a stream's message, and decides step by step
// whether it may be used. A stream keeps neither the key nor anything derived from it
// between two steps: each step derives the message's keys anew, which costs one or two
// microseconds for half a megabyte. So when the key is taken away between steps there
// is nothing left to find, to wipe or to forget.
type Permit interface {
	// Lend calls f with the key and what its messages share, from as many goroutines as there
	// are workers, for size bytes of plaintext. If it fails, nothing of what f did is released. It may
	// begin anew when a call of f failed.
	Lend(size int64, workers int, f func(worker int, key []byte, shared *Keyed) error) error

	// Still reports whether plaintext that was opened earlier may leave now.
	Still() error

	// Done says how the message ended: nil when it is whole, before the last of it is
	// released. What Done returns is the answer that the caller gets. After a Done
	// without an error, one with an error says that the last was not released.
	Done(err error) error
}

// frame is a message between its steps: what is public of it, and what it is bound to.
type frame struct {
	p       params
	header  [HeaderSize]byte
	aad     []byte // a copy: a caller may reuse its own
	permit  Permit
	workers int
}

// perWorker is how many sealed bytes a worker gets in a step: many enough to pay for the
// derivation, few enough to stay in a core's cache with their plaintext.
const perWorker = 512 << 10

// most is how many segments a step takes at most.
func (f *frame) most() int { return f.workers * max(1, perWorker/f.p.segment) }

// begin draws an IV and makes the header of a new message.
func begin(permit Permit, p params, aad []byte, workers int) (*frame, error) {
	f := &frame{p: p, aad: slices.Clone(aad), permit: permit, workers: max(1, workers)}
	err := permit.Lend(0, 1, func(_ int, key []byte, shared *Keyed) error {
		m, err := shared.startSealing(key, p, f.aad)
		if err != nil {
			return err
		}
		defer shared.give(m)
		f.header = m.header
		return nil
	})
	return f, err
}

// Header is the header of a message that is to be opened: its parameters are among those
// allowed, and nothing else is known of it.
type Header struct {
	p     params
	bytes [HeaderSize]byte
}

// ReadHeader reads a header from src, and not a byte more. Whoever has to ask for a key
// does it first: for some inputs there is no key. The error is [ErrMalformed], [ErrAuth] for
// one that is cut short, or src's own.
func ReadHeader(src io.Reader) (*Header, error) { return readHeader(src, accept) }

func readHeader(src io.Reader, allowed func([]byte) (params, error)) (*Header, error) {
	h := new(Header)
	if err := readFull(src, h.bytes[:]); err != nil {
		return nil, err
	}
	var err error
	if h.p, err = allowed(h.bytes[:]); err != nil {
		return nil, err
	}
	if want := h.p.encode(); string(h.bytes[:paramsSize]) != string(want[:]) {
		return nil, ErrMalformed
	}
	return h, nil
}

// OpenedSize is how long the plaintext of a message of n bytes is if it is authentic, and -1
// if none is so long.
func (h *Header) OpenedSize(n int64) int64 {
	if n < HeaderSize+SegmentOverhead || n > math.MaxInt64-int64(h.p.segment) {
		return -1
	}
	body, segment := n-HeaderSize, int64(h.p.segment)
	segments := (body-1)/segment + 1
	if segments > maxSegments || body-(segments-1)*segment < SegmentOverhead {
		return -1
	}
	return body - segments*SegmentOverhead
}

// resume checks the header's tag.
func (h *Header) resume(permit Permit, aad []byte, workers int) (*frame, error) {
	f := &frame{p: h.p, header: h.bytes, aad: slices.Clone(aad), permit: permit, workers: max(1, workers)}
	return f, f.each(0, 0, nil)
}

// each calls work for n segments, with a message that is the calling worker's own. A
// worker takes neighbours, and always the same: Lend may begin anew.
//
// The header's tag is checked in every step, for sealing too: should the permit lend
// another key than before, nothing is made or opened with it.
func (f *frame) each(size int64, n int, work func(m *message, i int) error) error {
	// A worker for less than two segments costs more than it brings, unless they are large.
	workers := max(1, min(f.workers, n, n*f.p.segment/(2*DefaultSegmentSize)))
	return f.permit.Lend(size, workers, func(w int, key []byte, shared *Keyed) error {
		m, err := shared.startOpening(key, f.p, f.aad, f.header[:])
		if err != nil {
			return err
		}
		defer shared.give(m)
		for i := w * n / workers; i < (w+1)*n/workers; i++ {
			if err := work(m, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// seal writes the segments of plaintext, from position pos on, to the start of dst, which
// has room for them, and returns them. All but the final one are full.
func (f *frame) seal(dst, plaintext []byte, pos uint64, final bool) ([]byte, error) {
	size := f.p.plain()
	n := max(1, (len(plaintext)+size-1)/size)
	dst = dst[:len(plaintext)+n*SegmentOverhead]
	err := f.each(int64(len(plaintext)), n, func(m *message, i int) error {
		from, to := i*size, min((i+1)*size, len(plaintext))
		_, err := m.sealSegment(dst[i*f.p.segment:i*f.p.segment], plaintext[from:to], pos+uint64(i), final && i == n-1)
		return err
	})
	if err != nil {
		return nil, err
	}
	return dst, nil
}

// open opens the n segments in sealed, from position pos on, to the start of dst, which has
// room for full ones. It returns the plaintext of those before the first that is not
// authentic, and how many they are: those and no others are a part of the message.
func (f *frame) open(dst, sealed []byte, n int, pos uint64, final bool) (plaintext []byte, good int, err error) {
	size := f.p.plain()
	bad := make([]bool, n) // each written by one worker, and again if Lend begins anew
	err = f.each(0, n, func(m *message, i int) error {
		from, to := i*f.p.segment, min((i+1)*f.p.segment, len(sealed))
		_, err := m.openSegment(dst[i*size:i*size], sealed[from:to], pos+uint64(i), final && i == n-1)
		bad[i] = err != nil
		return nil
	})
	for err == nil && good < n && !bad[good] {
		good++
	}
	plaintext = dst[:max(0, min(good*size, len(sealed)-n*SegmentOverhead))]
	clear(dst[len(plaintext) : n*size]) // authentic perhaps, but behind a hole
	return plaintext, good, err
}
