package byok

import (
	"cmp"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/byok-go/byok/internal/erase"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/shares"
)

// wrapping is a data key as CMKs have wrapped it: whole by each recipient (format.PolicyANY),
// or in shares (format.PolicyALL). It is what an item of the Store or an envelope holds, and not
// changed. The zero wrapping is none.
type wrapping struct {
	policy     uint8
	recipients []format.Recipient // strictly ascending, as in a header

	// Of a data key that was moved, in an item of the Store: never in an envelope, whose policy is for good.
	moved []byte // the data key, wrapped by shares.Wrap; nil: it is made of the shares, if there are any
	made  uint8  // the policy with which it was made; 0: this one
}

func wrappingOf(h *format.Header) wrapping {
	return wrapping{policy: h.Policy, recipients: h.Recipients}
}

// said is the policy that envelopes which carry the data key have.
func (w wrapping) said() uint8 { return cmp.Or(w.made, w.policy) }

func (w wrapping) none() bool { return len(w.recipients) == 0 }

// index returns which recipient key is, and -1 if it is none.
func (w wrapping) index(key KeyID) int {
	for i := range w.recipients {
		if r := &w.recipients[i]; r.Provider == key.Provider && r.Key == key.ID {
			return i
		}
	}
	return -1
}

// by returns what key has wrapped, and nil if it is no recipient.
func (w wrapping) by(key KeyID) []byte {
	if i := w.index(key); i >= 0 {
		return w.recipients[i].Wrapped
	}
	return nil
}

// opens reports whether the keys suffice to open w.
func (w wrapping) opens(keys []KeyID) bool {
	n := 0
	for _, key := range keys {
		if w.by(key) != nil {
			n++
		}
	}
	return n > 0 && (w.policy == format.PolicyANY || n == len(w.recipients))
}

// hash is an identity of w, policy and all: each part stands behind its length, so that no
// two wrappings give the same bytes.
func (w wrapping) hash() [sha512.Size384]byte {
	b := append(make([]byte, 0, 512), w.policy) // for one recipient of AWS, on the stack
	for i := range w.recipients {
		r := &w.recipients[i]
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Provider))), r.Provider...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Key))), r.Key...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Wrapped))), r.Wrapped...)
	}
	return sha512.Sum384(b)
}

// sort puts the recipients into the order of a header. Not with slices.SortFunc, which would be compiled for
// recipients alone: 20 KB of program for eight of them.
func (w wrapping) sort() {
	sort.Slice(w.recipients, func(i, j int) bool {
		a, b := w.recipients[i], w.recipients[j]
		return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.Key, b.Key)) < 0
	})
}

// headers returns what stands before the payload of an envelope that carries the data key, and
// the part of it that is bound.
func (w wrapping) headers(tenant string, id DataKeyID) (header, core []byte, err error) {
	h := &format.Header{Suite: format.SuiteFLOE, Policy: w.policy, DataKey: id, Tenant: tenant, Recipients: w.recipients}
	if header, err = h.Append(nil); err != nil { // eight keys of a provider whose wrapped keys are long, say
		return nil, nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	core, err = h.AppendCore(nil)
	return header, core, err
}

func recipient(key KeyID, wrapped []byte) format.Recipient {
	return format.Recipient{Provider: key.Provider, Key: key.ID, Wrapped: wrapped}
}

func keyOf(r format.Recipient) KeyID { return KeyID{r.Provider, r.Key} }

// join makes the data key of what the recipients unwrapped, in their order, and wipes or
// takes over all of it. Under ANY what was unwrapped must be one and the same (threat C4); under ALL all parts must
// be there, else it is errNoPart.
func (w wrapping) join(id DataKeyID, parts []*DEK) (dek *DEK, err error) {
	if w.policy == format.PolicyALL {
		return combine(id, parts, w.moved)
	}
	for _, p := range parts {
		switch {
		case p == nil:
		case dek == nil:
			dek = p
		case !sameKey(dek, p):
			wipeAll(parts)
			return nil, ErrOpen
		default:
			p.Wipe()
		}
	}
	if dek == nil {
		return nil, errNoPart
	}
	return dek, nil
}

// errNoPart: what is needed for the data key did not come. It never leaves the package.
var errNoPart = errors.New("byok: a part of the data key is missing")

// combine makes the data key of all of its shares, and wipes them; or it unwraps moved with them.
func combine(id DataKeyID, parts []*DEK, moved []byte) (dek *DEK, err error) {
	defer wipeAll(parts)
	err = withShares(parts, func(raw [][]byte) error {
		var key []byte
		if len(moved) == 0 {
			key, err = shares.Combine(id[:], raw)
		} else if key, err = shares.Unwrap(id[:], raw, moved); err != nil {
			return ErrOpen // somebody has changed it
		}
		if err == nil {
			dek, err = NewDEK(key) // which clears it
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrInternal, err)
		}
		return err
	})
	return dek, err
}

// wrapMoved wraps a data key that exists already with shares, which stay the caller's.
func wrapMoved(id DataKeyID, parts []*DEK, dek *DEK) (moved []byte, err error) {
	err = withShares(parts, func(raw [][]byte) error {
		return dek.Use(func(key []byte) error {
			if moved, err = shares.Wrap(id[:], raw, key); err != nil {
				err = fmt.Errorf("%w: %w", ErrInternal, err)
			}
			return err
		})
	})
	return moved, err
}

// withShares lends the bytes of all shares to f.
func withShares(parts []*DEK, f func(raw [][]byte) error) (err error) {
	raw := make([][]byte, len(parts))
	defer func() {
		for _, b := range raw {
			clear(b)
		}
	}()
	for i, p := range parts {
		if p == nil {
			return errNoPart
		}
		raw[i] = make([]byte, dekSize)
		if err := p.Use(func(b []byte) error { copy(raw[i], b); return nil }); err != nil {
			return err
		}
	}
	erase.Do(func() { err = f(raw) })
	return err
}

func wipeAll(deks []*DEK) {
	for _, d := range deks {
		d.Wipe()
	}
}
