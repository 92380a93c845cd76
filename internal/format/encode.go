package format

import (
	"encoding/binary"
	"math"
)

// Append appends CORE and RECIPIENTS to dst. Everything that Parse refuses is
// refused here, with the same error, so that no header is written that cannot be
// read. On failure the result is nil and dst's bytes are untouched.
func (h *Header) Append(dst []byte) ([]byte, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	dst = h.appendCore(dst)
	if h.Policy == PolicyREF {
		return dst, nil
	}
	// No conversion below cuts anything off: Validate compared every length with a
	// limit that fits its field.
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.sectionSize()))
	dst = append(dst, uint8(len(h.Recipients)))
	for i := range h.Recipients {
		r := &h.Recipients[i]
		dst = append(append(dst, uint8(len(r.Provider))), r.Provider...)
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(r.Key))), r.Key...)
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(r.Wrapped))), r.Wrapped...)
	}
	return dst, nil
}

// AppendCore appends CORE alone: what is bound into the payload, and for policy REF
// all there is. The recipients are not looked at; they may not be known yet.
func (h *Header) AppendCore(dst []byte) ([]byte, error) {
	if err := h.validateCore(); err != nil {
		return nil, err
	}
	return h.appendCore(dst), nil
}

// Size is the length of what Append appends to a valid header.
func (h *Header) Size() int {
	n := coreFixed + len(h.Tenant)
	if h.Policy != PolicyREF {
		n += 2 + h.sectionSize()
	}
	return n
}

// Validate reports the first rule that h breaks, nil if Append would write it.
func (h *Header) Validate() error {
	if err := h.validateCore(); err != nil {
		return err
	}
	count := len(h.Recipients)
	switch {
	case h.Policy == PolicyREF && count > 0:
		return errRef
	case h.Policy == PolicyREF:
		return nil
	case count < 1 || count > MaxRecipients:
		return errCount
	case h.Policy == PolicyALL && count < 2:
		return errAll
	}
	for i := range h.Recipients {
		r := &h.Recipients[i]
		switch {
		case !ValidProvider(r.Provider):
			return errProvider
		case !ValidKey(r.Key):
			return errKey
		case len(r.Wrapped) < 1 || len(r.Wrapped) > MaxWrapped:
			return errWrapped
		case i > 0 && !h.Recipients[i-1].less(r):
			// Not sorted here: the shares of policy ALL are joined in this
			// order, and a quiet change of it would make another data key.
			return errOrder
		}
	}
	if h.sectionSize() > MaxRecipientsSection {
		return errSection
	}
	return nil
}

// validateCore is the part that does not depend on recipients. Version and flags have
// no field in Header, so that nobody can ask for other values.
func (h *Header) validateCore() error {
	switch {
	case h.Suite != SuiteFLOE:
		return errSuite
	case h.Policy > PolicyALL:
		return errPolicy
	case !ValidTenant(h.Tenant):
		return errTenant
	}
	return nil
}

// appendCore writes what validateCore has passed: the tenant's length fits a byte.
func (h *Header) appendCore(dst []byte) []byte {
	dst = append(dst, magic...)
	dst = append(dst, Version, h.Suite, h.Policy, 0)
	dst = append(dst, h.DataKey[:]...)
	return append(append(dst, uint8(len(h.Tenant))), h.Tenant...)
}

// sectionSize is what the section's length field says: everything behind it.
func (h *Header) sectionSize() int {
	n := 1
	for i := range h.Recipients {
		r := &h.Recipients[i]
		n += 1 + len(r.Provider) + 2 + len(r.Key) + 2 + len(r.Wrapped)
	}
	return n
}

// payloadLabel keeps these bytes apart from everything else that might ever be
// associated data under the same data key.
const payloadLabel = "byok/v1/payload\x00"

// PayloadAAD is the payload's associated data: CORE, the purpose and the caller's
// aad, each behind its length, so that no two triples give the same bytes and an aad
// that imitates the framing stays an aad. A nil and an empty aad are the same.
//
// The purpose and the limit of the aad have been checked by then ([ValidPurpose],
// [MaxAAD]); lengths that do not fit their fields panic, since cutting them would
// make different triples equal.
func PayloadAAD(core []byte, purpose string, aad []byte) []byte {
	n := len(payloadLabel) + 4 + len(core) + 2 + len(purpose) + 4 + len(aad)
	return AppendPayloadAAD(make([]byte, 0, n), core, purpose, aad)
}

// AppendPayloadAAD is PayloadAAD for a caller that brings its own buffer.
func AppendPayloadAAD(dst, core []byte, purpose string, aad []byte) []byte {
	if uint64(len(core)) > math.MaxUint32 || len(purpose) > math.MaxUint16 || uint64(len(aad)) > math.MaxUint32 {
		panic("byok: internal error: format: length does not fit its field")
	}
	dst = append(dst, payloadLabel...)
	dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(core))), core...)
	dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(purpose))), purpose...)
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(aad))), aad...)
}
