package frames

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
)

// Frame is one whose checksums are right.
type Frame struct {
	Kind   Kind
	Number uint64
	Offset int64  // of its first byte
	Sum    string // SHA-256 of all bytes before it, in binary; of a frame of kind End only
	Body   []byte // until the next call of Next
}

// Damage is what stands where frames should. Reading goes on behind it.
type Damage struct {
	Offset int64  // of its first byte
	Size   int64  // 0: nothing stands there, frames are missing
	Number uint64 // of the first frame that was due
	Count  uint64 // frames that are lost; 0 if that cannot be told, since no frame follows, or if a frame came out of order
	Kind   Kind   // of the frame that is lost, if its head is whole; else 0
	Raw    []byte // its bytes, if they are no more than one frame may have; until the next call of Next
	Ends   bool   // the source ended in it
}

func (d *Damage) Error() string { return "frames: damaged" }

// Body returns the body that a single damaged frame may have had: a flipped bit leaves most of it
// readable. It is no more than a hint at what was lost.
func (d *Damage) Body() []byte {
	if len(d.Raw) < overhead {
		return nil
	}
	return d.Raw[headSize : len(d.Raw)-4]
}

// Reader reads frames. It is not for concurrent use.
//
// Memory is two frames at most, and grows with what has arrived: no length is believed.
type Reader struct {
	src  io.Reader
	room []byte // of which buf is a part
	buf  []byte // unread
	off  int64  // of buf
	id   *ID    // of the first head that was read
	due  uint64 // the next frame's number
	done int    // bytes of buf that the caller is through with
	sum  hash.Hash
	err  error // of src, at the end of buf
}

// NewReader returns a Reader of what src has.
func NewReader(src io.Reader) *Reader { return &Reader{src: src, sum: sha256.New()} }

// Offset is how far the source has been read, without what was read ahead.
func (r *Reader) Offset() int64 { return r.off + int64(r.done) }

// Next returns the next frame. The error is a *[Damage], after which Next can be called again; io.EOF at the
// end of the source between two frames; or the source's own.
func (r *Reader) Next() (Frame, error) {
	r.advance(r.done)
	r.fill(headSize)
	if len(r.buf) == 0 {
		return Frame{}, r.err
	}
	h, ok := r.head(0)
	if !ok {
		return Frame{}, r.resync()
	}
	r.id = &h.id
	if h.number > r.due { // somebody took out whole frames
		d := &Damage{Offset: r.off, Number: r.due, Count: h.number - r.due}
		r.due = h.number
		return Frame{}, d
	}
	r.fill(h.size())
	if len(r.buf) < h.size() {
		return Frame{}, r.resync() // the end is nearer, or the frame was cut and others follow
	}
	whole := r.buf[:h.size()]
	body := whole[headSize : len(whole)-4]
	good := checksum(whole[:len(whole)-4]) == binary.BigEndian.Uint32(whole[len(whole)-4:])
	if !good {
		// If the next one begins where this one ends, and none in it, nothing was cut out of it.
		r.fill(h.size() + headSize)
		whole = r.buf[:h.size()] // fill may have moved it
		if _, ok := r.head(h.size()); !ok && len(r.buf) > h.size() || r.headIn(whole[1:]) {
			return Frame{}, r.resync()
		}
	}
	if !good || h.number < r.due {
		d := &Damage{Offset: r.off, Size: int64(len(whole)), Number: r.due, Raw: whole}
		if r.done = len(whole); h.number == r.due {
			d.Kind, d.Count = h.kind, 1
			r.due++
		}
		return Frame{}, d
	}
	f := Frame{Kind: h.kind, Number: h.number, Offset: r.off, Body: body}
	if h.kind == End {
		f.Sum = string(r.sum.Sum(nil))
	}
	r.done = len(whole)
	r.due++
	return f, nil
}

// head reads the head at r.buf[at:]. One of another container is none.
func (r *Reader) head(at int) (head, bool) {
	h, ok := parseHead(r.buf[at:])
	return h, ok && (r.id == nil || h.id == *r.id)
}

// headIn tells whether a head lies in b, whole.
func (r *Reader) headIn(b []byte) bool {
	for {
		i := bytes.Index(b, []byte(marker))
		if i < 0 {
			return false
		}
		b = b[i:]
		if h, ok := parseHead(b); ok && h.id == *r.id {
			return true
		}
		b = b[1:]
	}
}

// resync searches for the next head behind the first byte of buf, and describes what it
// has skipped. An error of the source ends the search, and comes out of the next call.
func (r *Reader) resync() error {
	d := &Damage{Offset: r.off, Number: r.due}
	whole := true // all that was skipped is in buf still
	for from := 1; ; {
		i := bytes.Index(r.buf[min(from, len(r.buf)):], []byte(marker))
		if i >= 0 {
			i += from
			r.fill(i + headSize)
			h, ok := r.head(i)
			if !ok {
				from = i + 1
				continue
			}
			d.Size = r.off + int64(i) - d.Offset
			if h.number > r.due {
				d.Count = h.number - r.due
				r.due = h.number
			}
			r.done = i
			break
		}
		if r.err != nil {
			d.Size, d.Ends = r.off+int64(len(r.buf))-d.Offset, true
			r.done = len(r.buf)
			break
		}
		// A marker may have begun in the last bytes.
		if from = max(from, len(r.buf)-len(marker)+1); len(r.buf) >= maxFrame {
			r.advance(from)
			from, whole = 0, false
		}
		r.fill(len(r.buf) + 1)
	}
	if whole && d.Size <= maxFrame {
		d.Raw = r.buf[:d.Size]
	}
	return d
}

// advance forgets the first n bytes of buf.
func (r *Reader) advance(n int) {
	r.sum.Write(r.buf[:n])
	r.buf, r.off, r.done = r.buf[n:], r.off+int64(n), 0
}

// readSize is what is asked of the source at once, at least.
const readSize = 64 << 10

// fill sees to it that there are n bytes in buf, or all that the source has left. n is at most
// two frames. It may move what is in buf.
func (r *Reader) fill(n int) {
	for empty := 0; len(r.buf) < n && r.err == nil; {
		if cap(r.buf)-len(r.buf) < readSize {
			if len(r.room) < 2*(len(r.buf)+readSize) {
				room := make([]byte, 2*len(r.buf)+4*readSize)
				copy(room, r.buf)
				r.room, r.buf = room, room[:len(r.buf)]
			} else {
				r.buf = r.room[:copy(r.room, r.buf)]
			}
		}
		k, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
		if k < 0 || k > cap(r.buf)-len(r.buf) {
			k, err = 0, io.ErrNoProgress // a source that is broken
		}
		r.buf = r.buf[:len(r.buf)+k]
		if empty++; k > 0 {
			empty = 0
		}
		if err == nil && empty == 100 {
			err = io.ErrNoProgress
		}
		r.err = err
	}
}
