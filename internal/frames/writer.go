package frames

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
)

// Writer writes frames. It is not for concurrent use.
type Writer struct {
	dst    io.Writer
	id     ID
	number uint64
	size   int64
	sum    hash.Hash
	buf    []byte
	err    error // of dst: what it holds is unknown since
}

// NewWriter returns a Writer to dst, which gets each frame in one Write. id is random.
func NewWriter(dst io.Writer, id ID) *Writer { return &Writer{dst: dst, id: id, sum: sha256.New()} }

// Write writes one frame whose body is the parts one after the other, at most MaxBody bytes
// together. Its error is dst's, and stays.
func (w *Writer) Write(kind Kind, parts ...[]byte) error {
	if w.err != nil {
		return w.err
	}
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > MaxBody {
		panic("byok: internal error: frames: a body is too long")
	}
	b := appendHead(w.buf[:0], kind, w.id, w.number, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	w.buf = b
	k, err := w.dst.Write(b)
	if err == nil && k < len(b) {
		err = io.ErrShortWrite
	}
	if w.err = err; err != nil {
		return err
	}
	w.number++
	w.size += int64(len(b))
	w.sum.Write(b)
	return nil
}

// Size is how many bytes have been written.
func (w *Writer) Size() int64 { return w.size }

// Sum is their SHA-256, in binary.
func (w *Writer) Sum() string { return string(w.sum.Sum(nil)) }
