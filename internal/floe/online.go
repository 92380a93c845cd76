package floe

import (
	"math"
	"slices"
)

// Encryptor seals a message segment by segment, in order. It keeps count itself:
// the online interface of the specification, which is harder to misuse than one
// with positions. Prefer [Writer], which also does the cutting.
//
// An Encryptor must not be used concurrently.
type Encryptor struct {
	m   *message
	pos uint64
}

// NewEncryptor starts a message. Its header, which the opener needs first, is
// available at once from [Encryptor.Header]. The key and aad are not retained.
func NewEncryptor(key []byte, p Params, aad []byte) (*Encryptor, error) {
	pp, err := p.resolve()
	if err != nil {
		return nil, err
	}
	return newEncryptor(key, pp, aad)
}

func newEncryptor(key []byte, p params, aad []byte) (*Encryptor, error) {
	// A caller may reuse its aad; a later key rotation would then derive from
	// other bytes than the header did.
	m, err := startSealing(key, p, slices.Clone(aad))
	if err != nil {
		return nil, err
	}
	return &Encryptor{m: m}, nil
}

// Header returns a copy of the message's header.
func (e *Encryptor) Header() []byte { return slices.Clone(e.m.header[:]) }

// PlaintextSize is the exact length of plaintext that SealSegment takes, and the
// most that SealLast takes.
func (e *Encryptor) PlaintextSize() int { return e.m.p.plain() }

// SealSegment appends a segment that is not the last one to dst.
func (e *Encryptor) SealSegment(dst, plaintext []byte) ([]byte, error) {
	return e.seal(dst, plaintext, false)
}

// SealLast appends the last segment to dst and ends the message: after it, the
// Encryptor refuses. A message without a last segment never opens. So that each
// message has one encoding, the last segment is empty only if the message is.
func (e *Encryptor) SealLast(dst, plaintext []byte) ([]byte, error) {
	out, err := e.seal(dst, plaintext, true)
	if err == nil {
		e.Close()
	}
	return out, err
}

func (e *Encryptor) seal(dst, plaintext []byte, final bool) ([]byte, error) {
	if e.m.wiped {
		return nil, errClosed
	}
	if len(plaintext) > e.m.p.plain() || len(dst) > math.MaxInt-e.m.p.segment {
		return nil, errSegmentSize
	}
	dst = reserve(dst, len(plaintext)+SegmentOverhead, plaintext)
	out, err := e.m.sealSegment(dst, plaintext, e.pos, final)
	if err != nil {
		return nil, err
	}
	e.pos++
	return out, nil
}

// Close wipes the message's keys. A message that has no last segment yet will
// never open. Close may be called more than once.
func (e *Encryptor) Close() { e.m.wipe() }

// Decryptor opens a message segment by segment, in order. Prefer [Reader], which
// also finds the segments, and checks that nothing follows the last one; a user
// of Decryptor has to do both.
//
// A Decryptor must not be used concurrently.
type Decryptor struct {
	m   *message
	pos uint64
}

// NewDecryptor checks a header: its parameters ([ErrMalformed]), the key and the
// aad it commits to ([ErrAuth]). The arguments are not retained.
func NewDecryptor(key, aad, header []byte) (*Decryptor, error) {
	return newDecryptor(key, aad, header, accept)
}

func newDecryptor(key, aad, header []byte, allowed func([]byte) (params, error)) (*Decryptor, error) {
	if len(header) != HeaderSize {
		return nil, ErrAuth
	}
	p, err := allowed(header)
	if err != nil {
		return nil, err
	}
	m, err := startOpening(key, p, slices.Clone(aad), header)
	if err != nil {
		return nil, err
	}
	return &Decryptor{m: m}, nil
}

// SegmentSize is the exact length of every segment but the last, and the most
// that the last one may have.
func (d *Decryptor) SegmentSize() int { return d.m.p.segment }

// OpenSegment appends the plaintext of a segment that is not the last one to dst.
// After any error the Decryptor only repeats it.
func (d *Decryptor) OpenSegment(dst, segment []byte) ([]byte, error) {
	return d.open(dst, segment, false)
}

// OpenLast appends the plaintext of the last segment to dst. Only when it succeeds
// is the message known to be complete. After it, the Decryptor refuses with
// [ErrAuth], since whatever comes then is no part of the message.
func (d *Decryptor) OpenLast(dst, segment []byte) ([]byte, error) {
	out, err := d.open(dst, segment, true)
	d.Close()
	return out, err
}

func (d *Decryptor) open(dst, segment []byte, final bool) ([]byte, error) {
	if d.m.wiped {
		return nil, ErrAuth
	}
	if len(segment) <= d.m.p.segment && len(dst) <= math.MaxInt-d.m.p.segment {
		dst = reserve(dst, max(0, len(segment)-SegmentOverhead), segment)
	}
	out, err := d.m.openSegment(dst, segment, d.pos, final)
	if err != nil {
		// No second guess at the same position: with one, a caller could be
		// made to try a segment as final and as not final.
		d.Close()
		return nil, err
	}
	d.pos++
	return out, nil
}

// Close wipes the message's keys; the Decryptor then refuses. It may be called
// more than once.
func (d *Decryptor) Close() { d.m.wipe() }
