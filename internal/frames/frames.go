// Package frames is the container of an export: a sequence of frames, each with its own
// checksums, written and read as a stream in bounded memory. docs/export.md specifies the bytes.
//
//	 0   8   marker   89 "byokx" 0d 0a
//	 8   1   version  01
//	 9   1   kind
//	10   8   id       random, the same in all frames of one container
//	18   8   number   0, 1, 2 ... of the frames
//	26   4   n        length of the body, at most MaxBody
//	30   4   CRC-32C of bytes 0 to 29
//	34   n   body
//	.    4   CRC-32C of all bytes before
//
// The head has a checksum of its own so that its length can be believed before the body is
// there: a flipped bit in a body costs that frame and no search. A flipped bit in a head costs a search for
// the next marker, and that frame too, but nothing behind it. What is searched through may have been
// chosen by a stranger, who does not know the id: so it holds no head that is taken for one.
//
// A checksum finds accidents. It authenticates nothing: whoever changes a frame on
// purpose writes the right checksum.
package frames

import (
	"encoding/binary"
	"hash/crc32"
)

// Version of the container.
const Version = 1

// Limits and sizes, in bytes.
const (
	MaxBody  = 1 << 20
	headSize = 34
	overhead = headSize + 4
	maxFrame = overhead + MaxBody
)

// marker begins each frame. It has a byte that is not ASCII and an end of line, so that a
// transfer as text damages every frame at once, and is noticed at the first.
const marker = "\x89byokx\r\n"

// Kind says what a body is. This package does not look into bodies.
type Kind byte

// The kinds.
const (
	Header Kind = 'H'
	Key    Kind = 'K'
	Record Kind = 'R'
	Data   Kind = 'D'
	End    Kind = 'E'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// ID tells containers apart.
type ID uint64

// head is a frame's, once its checksum was right.
type head struct {
	id     ID
	kind   Kind
	number uint64
	n      int
}

func (h head) size() int { return overhead + h.n }

func appendHead(dst []byte, kind Kind, id ID, number uint64, n int) []byte {
	at := len(dst)
	dst = append(append(dst, marker...), Version, byte(kind))
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	dst = binary.BigEndian.AppendUint64(dst, number)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	return binary.BigEndian.AppendUint32(dst, checksum(dst[at:]))
}

// parseHead reads the head at the start of b. A frame of another version is as good as
// damaged: what its other fields mean is not ours to say.
func parseHead(b []byte) (h head, ok bool) {
	if len(b) < headSize || string(b[:len(marker)]) != marker ||
		checksum(b[:headSize-4]) != binary.BigEndian.Uint32(b[headSize-4:]) || b[8] != Version {
		return head{}, false
	}
	n := binary.BigEndian.Uint32(b[26:])
	if n > MaxBody {
		return head{}, false
	}
	return head{ID(binary.BigEndian.Uint64(b[10:])), Kind(b[9]), binary.BigEndian.Uint64(b[18:]), int(n)}, true
}
