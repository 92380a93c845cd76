package format

import (
	"encoding/binary"
	"io"

	"github.com/byok-go/byok/internal/source"
)

// Read reads a header from a stream, and not a byte more. It returns the header and core,
// as [Parse] does. The errors are a *[MalformedError], also when src ends too early, src's own, and
// io.ErrNoProgress for one that breaks its contract.
//
// Nothing is read, nor allocated, on the word of a length that has not been compared with
// its limit: [MaxHeader] bytes at most, and 25 of what does not begin like an envelope.
func Read(src io.Reader) (h *Header, core []byte, err error) {
	b := make([]byte, 0, 256)
	if b, err = more(src, b, coreFixed); err != nil {
		return nil, nil, err
	}
	// So far only the tenant can be missing. Whatever else is wrong is wrong for good.
	if _, _, _, err = Parse(b); err != errShort {
		if err == nil {
			err = errTenant
		}
		return nil, nil, err
	}
	if t := b[coreFixed-1]; t < 1 || t > MaxTenant {
		return nil, nil, errTenant
	}
	if b, err = more(src, b, int(b[coreFixed-1])); err != nil {
		return nil, nil, err
	}
	if b[len(magic)+2] != PolicyREF {
		if b, err = more(src, b, 2); err != nil {
			return nil, nil, err
		}
		n := binary.BigEndian.Uint16(b[len(b)-2:])
		if n < 1 || n > MaxRecipientsSection {
			return nil, nil, errSection
		}
		if b, err = more(src, b, int(n)); err != nil {
			return nil, nil, err
		}
	}
	h, core, rest, err := Parse(b)
	if err == nil && len(rest) != 0 {
		panic("byok: internal error: format: a header is longer than it says")
	}
	return h, core, err
}

// more appends n bytes of src to b. What ends too early is parsed as it is: it may be no
// envelope at all.
func more(src io.Reader, b []byte, n int) ([]byte, error) {
	at := len(b)
	b = append(b, make([]byte, n)...)
	k, err := source.ReadUpTo(src, b[at:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		if _, _, _, err = Parse(b[:at+k]); err == nil {
			err = errShort
		}
	}
	return b, err
}
