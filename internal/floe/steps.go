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
	// Lend calls f with the key and what its messages share, for size bytes of plaintext. If it
	// fails, nothing of what f did is released. It may call f anew when f failed. A stream with
	// several workers lends for several at once, each for one chunk.
	Lend(size int64, f func(key []byte, shared *Keyed) error) error

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

// chunkSize is how many sealed bytes a worker takes at once: many enough to pay for the
// derivation, few enough to stay in a core's cache with their plaintext.
const chunkSize = 512 << 10

// most is how many segments a chunk takes at most.
func (f *frame) most() int { return max(1, chunkSize/f.p.segment) }

// ramp is how many segments the chunk after one of n takes: 1, 2, 4 and so on.
func (f *frame) ramp(n int) int { return min(2*n, f.most()) }

// chunks returns one for each worker.
func (f *frame) chunks() []*chunk {
	c := make([]*chunk, f.workers)
	for i := range c {
		c[i] = new(chunk)
	}
	return c
}

// begin draws an IV and makes the header of a new message.
func begin(permit Permit, p params, aad []byte, workers int) (*frame, error) {
	f := &frame{p: p, aad: slices.Clone(aad), permit: permit, workers: max(1, workers)}
	err := permit.Lend(0, func(key []byte, shared *Keyed) error {
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
	return f, f.lend(0, func(*message) error { return nil })
}

// lend calls work with a message of its own.
//
// The header's tag is checked each time, for sealing too: should the permit lend
// another key than before, nothing is made or opened with it.
func (f *frame) lend(size int64, work func(m *message) error) error {
	return f.permit.Lend(size, func(key []byte, shared *Keyed) error {
		m, err := shared.startOpening(key, f.p, f.aad, f.header[:])
		if err != nil {
			return err
		}
		defer shared.give(m)
		return work(m)
	})
}

// seal makes c.out of c.in, of which all segments but the message's last are full.
func (f *frame) seal(c *chunk) {
	size := f.p.plain()
	c.err = f.lend(int64(len(c.in)), func(m *message) error {
		c.out = c.result[:0]
		for i, rest := 0, c.in; i < c.n; i++ {
			var err error
			k := min(size, len(rest))
			if c.out, err = m.sealSegment(c.out, rest[:k], c.pos+uint64(i), c.final && i == c.n-1); err != nil {
				return err
			}
			rest = rest[k:]
		}
		return nil
	})
	c.in = nil // it may be the caller's
}

// open makes c.out of the segments in c.in: the plaintext of those before the first that is not
// authentic. They and no others are a part of the message.
func (f *frame) open(c *chunk) {
	c.err = f.lend(0, func(m *message) error {
		c.out, c.good = c.result[:0], 0
		for rest := c.in; c.good < c.n; c.good++ {
			k := min(f.p.segment, len(rest))
			opened, err := m.openSegment(c.out, rest[:k], c.pos+uint64(c.good), c.final && c.good == c.n-1)
			if err != nil {
				return nil // not lend's: those before it are good
			}
			c.out, rest = opened, rest[k:]
		}
		return nil
	})
	if c.err != nil {
		clear(c.result)
		c.out, c.good = nil, 0
	}
}
