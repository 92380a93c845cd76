package byok

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/frames"
	"github.com/byok-go/byok/internal/shares"
)

// The bodies of an export's frames, as docs/export.md has them. Each is canonical, and refused as a
// whole if anything of it is not as written there.

// MaxExportName is the longest name of a record in an export, in bytes.
const MaxExportName = 1024

// maxExportKeys bounds what the data keys of an export take together, as frame bodies: whoever
// reads it keeps them. With one CMK each takes about 350 bytes, so there is room for
// some 190 000.
const maxExportKeys = 64 << 20

// Flags of a part of a record.
const (
	partFinal   = 1 << iota // nothing of the record follows
	partGivenUp             // nor would it open: the platform could not read the rest; only with partFinal
)

// exportHead begins an export.
type exportHead struct {
	tenant, service string
	at              int64 // seconds since 1970
}

func (h *exportHead) append(b []byte) []byte {
	b = append(append(b, byte(len(h.tenant))), h.tenant...)
	b = append(append(b, byte(len(h.service))), h.service...)
	return binary.BigEndian.AppendUint64(b, uint64(h.at))
}

func parseExportHead(b []byte) (h exportHead, ok bool) {
	s := cryptobyte.String(b)
	var tenant, service cryptobyte.String
	var at uint64
	ok = s.ReadUint8LengthPrefixed(&tenant) && s.ReadUint8LengthPrefixed(&service) && s.ReadUint64(&at) && s.Empty()
	h = exportHead{string(tenant), string(service), int64(at)}
	return h, ok && format.ValidTenant(h.tenant) && validService(h.service) && h.at >= 0
}

func validService(s string) bool { return len(s) >= 1 && len(s) <= 64 && only(s, isVersionByte) }

// exportKey is a data key: what the Store has of it.
type exportKey struct {
	header     string // CORE | RECIPIENTS; first, so that the data key's id is where it always is
	purpose    string
	generation uint64
	at         int64
	moved      string // the data key under shares.Wrap, if it was moved to policy ALL; else none
}

func (k *exportKey) append(b []byte) []byte {
	b = append(b, k.header...)
	b = append(append(b, byte(len(k.purpose))), k.purpose...)
	b = binary.BigEndian.AppendUint64(b, k.generation)
	return append(binary.BigEndian.AppendUint64(b, uint64(k.at)), k.moved...)
}

// parseExportKey returns the data key with its parsed header.
func parseExportKey(b []byte) (k exportKey, h *format.Header, ok bool) {
	h, _, rest, err := format.Parse(b)
	if err != nil || h.Policy == format.PolicyREF {
		return k, nil, false
	}
	s := cryptobyte.String(rest)
	var purpose cryptobyte.String
	var at uint64
	ok = s.ReadUint8LengthPrefixed(&purpose) && s.ReadUint64(&k.generation) && s.ReadUint64(&at)
	if k.moved = string(s); len(s) != 0 {
		ok = ok && h.Policy == format.PolicyALL && len(s) == shares.WrappedSize
	}
	k.header, k.purpose, k.at = string(b[:len(b)-len(rest)]), string(purpose), int64(at)
	return k, h, ok && format.ValidPurpose(k.purpose) && k.at >= 0
}

// guessDataKey returns the id of the data key in a body that is damaged.
func guessDataKey(b []byte) (id DataKeyID) {
	if len(b) >= format.MinCore {
		copy(id[:], b[8:])
	}
	return id
}

// exportPart is the first part of a record, with what the envelope does not have, or (index
// 1 and up) a further part of its envelope.
type exportPart struct {
	record  uint64 // 1, 2 ...
	index   uint32
	flags   uint8
	name    string
	purpose string
	aad     []byte
	sealed  []byte // of the envelope
}

// head is all of the body but sealed.
func (p *exportPart) head(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.record)
	if p.index != 0 {
		return append(binary.BigEndian.AppendUint32(b, p.index), p.flags)
	}
	b = append(b, p.flags)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(p.name))), p.name...)
	b = append(append(b, byte(len(p.purpose))), p.purpose...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(p.aad))), p.aad...)
}

func (p *exportPart) kind() frames.Kind {
	if p.index == 0 {
		return frames.Record
	}
	return frames.Data
}

// parseExportPart parses the body of a frame of kind Record or Data. Sealed is a part of b.
func parseExportPart(kind frames.Kind, b []byte) (p exportPart, ok bool) {
	s := cryptobyte.String(b)
	if !s.ReadUint64(&p.record) || p.record == 0 {
		return p, false
	}
	if kind == frames.Data {
		ok = s.ReadUint32(&p.index) && p.index != 0 && s.ReadUint8(&p.flags)
	} else {
		var name, purpose, aad cryptobyte.String
		ok = s.ReadUint8(&p.flags) && s.ReadUint16LengthPrefixed(&name) && len(name) >= 1 && len(name) <= MaxExportName
		if !ok {
			return p, false
		}
		p.name = string(name) // also beside a false, for people
		ok = s.ReadUint8LengthPrefixed(&purpose) && s.ReadUint16LengthPrefixed(&aad) &&
			format.ValidPurpose(string(purpose)) && len(aad) <= MaxAAD
		if ok {
			p.purpose, p.aad = string(purpose), append([]byte(nil), aad...)
		}
	}
	p.sealed = s
	return p, ok && (p.flags == 0 || p.flags == partFinal || p.flags == partFinal|partGivenUp)
}

// exportEnd ends an export.
type exportEnd struct {
	keys, records uint64
	size          uint64 // bytes before the frame
	sum           string // SHA-256 of them, in binary
}

func (e *exportEnd) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, e.keys)
	b = binary.BigEndian.AppendUint64(b, e.records)
	b = binary.BigEndian.AppendUint64(b, e.size)
	return append(b, e.sum...)
}

func parseExportEnd(b []byte) (e exportEnd, ok bool) {
	s := cryptobyte.String(b)
	ok = s.ReadUint64(&e.keys) && s.ReadUint64(&e.records) && s.ReadUint64(&e.size) && len(s) == sha256.Size
	e.sum = string(s)
	return e, ok
}

func unixUTC(at int64) time.Time { return time.Unix(at, 0).UTC() }
