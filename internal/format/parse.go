package format

import (
	"golang.org/x/crypto/cryptobyte"
)

// Parse reads the header at the start of b. It returns the header; core, the part
// of b that is CORE and that goes into [PayloadAAD]; and rest, the part of b behind
// the header, which may be empty: whether a payload has to follow, or must not, is
// for the caller to check. The header shares no memory with b.
//
// Every error is a *[MalformedError].
func Parse(b []byte) (h *Header, core, rest []byte, err error) {
	h = new(Header)
	if core, rest, err = h.Parse(b); err != nil {
		return nil, nil, nil, err
	}
	return h, core, rest, nil
}

// Parse is the function of that name for a caller that brings its own Header: with
// policy REF it allocates nothing but the tenant's string, and not that if h.Tenant is
// the same before. What h held before is gone; after an error h is the zero Header.
func (h *Header) Parse(b []byte) (core, rest []byte, err error) {
	expected := h.Tenant
	*h = Header{}
	s := cryptobyte.String(b)
	if err := h.parseCore(&s, expected); err != nil {
		*h = Header{}
		return nil, nil, err
	}
	// s has moved past what was read, so the difference is CORE, byte for byte as it
	// came. Encoding h again would give the same, but the payload is bound to the
	// bytes and not to our idea of them.
	core = b[: len(b)-len(s) : len(b)-len(s)] // an append to core must not write into b
	if h.Policy != PolicyREF {
		if err := h.parseRecipients(&s); err != nil {
			*h = Header{}
			return nil, nil, err
		}
	}
	return core, s, nil
}

// parseCore reads from the magic to the tenant and leaves s behind them. It fills in
// h as it goes; Parse clears h when it fails. An expected tenant saves memory, no more.
func (h *Header) parseCore(s *cryptobyte.String, expected string) error {
	// The first four bytes come first, to tell what is no envelope at all, or one
	// in a coat, from an envelope that is cut short.
	if len(*s) < len(magic) || string((*s)[:len(magic)]) != magic {
		return notAnEnvelope(*s)
	}
	s.Skip(len(magic))
	var version, flags uint8
	// Each byte is judged once the ones before it are known to be good, and version
	// first: what a later version means by the rest is not ours to say.
	if !s.ReadUint8(&version) {
		return errShort
	}
	if version != Version {
		return errVersion
	}
	if !s.ReadUint8(&h.Suite) || !s.ReadUint8(&h.Policy) || !s.ReadUint8(&flags) {
		return errShort
	}
	switch {
	case h.Suite != SuiteFLOE:
		return errSuite
	case h.Policy > PolicyALL:
		return errPolicy
	case flags != 0:
		return errFlags
	}
	var tenant cryptobyte.String
	if !s.CopyBytes(h.DataKey[:]) || !s.ReadUint8LengthPrefixed(&tenant) {
		return errShort
	}
	// Judged as bytes, before a string is made of them.
	if !visible([]byte(tenant), MaxTenant) {
		return errTenant
	}
	if h.Tenant = expected; expected != string(tenant) {
		h.Tenant = string(tenant)
	}
	return nil
}

// parseRecipients reads the section with its length field and leaves s at the payload.
func (h *Header) parseRecipients(s *cryptobyte.String) error {
	var section cryptobyte.String
	var count uint8
	if !s.ReadUint16LengthPrefixed(&section) {
		return errShort
	}
	if len(section) > MaxRecipientsSection || !section.ReadUint8(&count) {
		return errSection
	}
	if count < 1 || count > MaxRecipients {
		return errCount
	}
	if h.Policy == PolicyALL && count < 2 {
		return errAll
	}
	// The count is checked against what is there before it sizes anything.
	if int(count)*minRecipient > len(section) {
		return errShort
	}
	h.Recipients = make([]Recipient, count)
	for i := range h.Recipients {
		if err := h.Recipients[i].parse(&section); err != nil {
			return err
		}
		// Strictly ascending also means no duplicates: two wrappings for one key
		// would leave it to the reader which data key comes out.
		if i > 0 && !h.Recipients[i-1].less(&h.Recipients[i]) {
			return errOrder
		}
	}
	// Recipients are not authenticated by anything here, so room left over would be
	// a place to hide bytes in, and to make many envelopes of one.
	if !section.Empty() {
		return errSlack
	}
	return nil
}

// parse reads one recipient; its order among the others is the section's business.
func (r *Recipient) parse(s *cryptobyte.String) error {
	var provider, key, wrapped cryptobyte.String
	// cryptobyte hands out sub-slices: a length that lies fails here, and only what
	// passed the limits below is copied.
	if !s.ReadUint8LengthPrefixed(&provider) || !s.ReadUint16LengthPrefixed(&key) ||
		!s.ReadUint16LengthPrefixed(&wrapped) {
		return errShort
	}
	switch {
	case !visible([]byte(provider), MaxProvider):
		return errProvider
	case !visible([]byte(key), MaxKey):
		return errKey
	case len(wrapped) < 1 || len(wrapped) > MaxWrapped:
		return errWrapped
	}
	r.Provider, r.Key = string(provider), string(key)
	// A copy: an envelope's bytes are the caller's, who may reuse them.
	r.Wrapped = append(make([]byte, 0, len(wrapped)), wrapped...)
	return nil
}

// notAnEnvelope names the two mistakes that are made in practice: handing over the
// text from a JSON document or a text column, in place of the bytes it stands for.
// Anything else, even a decodable text, stays an error: an envelope that opened in
// two spellings would be two envelopes.
func notAnEnvelope(b []byte) error {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n' || b[0] == '"' || b[0] == '\'') {
		b = b[1:]
	}
	starts := func(prefix string) bool {
		return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
	}
	switch {
	case starts("Ynlvaw"): // "byok" and a version below 16, in both alphabets
		return errBase64
	case starts("62796f6b"), starts("62796F6B"), starts(`\x62796f6b`), starts("0x62796f6b"):
		return errHex
	case len(b) < len(magic) && string(b) == magic[:len(b)]:
		return errShort
	}
	return errMagic
}
