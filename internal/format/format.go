// Package format reads and writes the header of a byok envelope, version 1:
//
//	CORE        "byok" | version | suite | policy | flags | data key id | tenant
//	RECIPIENTS  the wrapped data key, unless the policy is REF
//	PAYLOAD     a FLOE ciphertext, which is package floe's business
//
// CORE never changes and is bound into the payload by [PayloadAAD]. RECIPIENTS may
// be replaced, when a data key is wrapped anew, without touching the payload. A
// wrapped data key in a Store is CORE | RECIPIENTS, and comes through here too.
//
// The codec is canonical: bytes that parse are exactly what encoding the result
// gives, so that no two envelopes say the same. It judges syntax only. That a tenant
// is the caller's and a key is registered are questions for others, who must ask
// them: everything in a header is written by whoever wrote the envelope.
package format

import "errors"

// The values that version 1 has. All others are refused.
const (
	Version = 1

	// SuiteFLOE is FLOE with AES-256-GCM, HKDF-Expand-SHA-384 and 32-byte IVs.
	SuiteFLOE = 1

	PolicyREF = 0 // no recipients here: the data key's item is in the Store
	PolicyANY = 1 // any one recipient unwraps the data key
	PolicyALL = 2 // every recipient unwraps a share; at least 2 of them
)

// Limits. Each is a rule of the format: the parser refuses what is beyond it.
const (
	MaxTenant     = 128
	MaxRecipients = 8
	MaxProvider   = 32
	MaxKey        = 2048
	MaxWrapped    = 6144

	// MaxRecipientsSection bounds the section behind its length field. It is less
	// than eight recipients of the largest size would take.
	MaxRecipientsSection = 16384

	// MaxPurpose and MaxAAD bound what the caller binds to a payload. They are no
	// part of the header; the root package enforces them.
	MaxPurpose = 64
	MaxAAD     = 8 << 10

	// MinCore and MaxCore bound the length of CORE, MaxHeader that of CORE and
	// RECIPIENTS together: no reader of a stream needs to buffer more.
	MinCore   = coreFixed + 1
	MaxCore   = coreFixed + MaxTenant
	MaxHeader = MaxCore + 2 + MaxRecipientsSection
)

const (
	magic     = "byok"
	idSize    = 16
	coreFixed = len(magic) + 4 + idSize + 1 // up to and including the tenant's length

	// minRecipient is the length of a recipient whose three parts are one byte.
	minRecipient = 1 + 1 + 2 + 1 + 2 + 1
)

// Header is what stands before the payload.
type Header struct {
	Suite, Policy uint8
	DataKey       [idSize]byte // id of the data key, random
	Tenant        string
	Recipients    []Recipient // strictly ascending by (Provider, Key); nil for REF
}

// Recipient is a key that can unwrap the data key, or a share of it.
type Recipient struct {
	Provider string // such as "aws-kms"
	Key      string // the key's full and only name, never an alias
	Wrapped  []byte
}

// less orders recipients. Comparing the parts one after the other, rather than
// joined, keeps ("ab", "c") and ("a", "bc") apart.
func (r *Recipient) less(s *Recipient) bool {
	if r.Provider != s.Provider {
		return r.Provider < s.Provider
	}
	return r.Key < s.Key
}

// ErrMalformed matches, with errors.Is, every error of this package.
var ErrMalformed = errors.New("malformed envelope")

// MalformedError says which rule was broken. Headers are public, so that saying it
// tells an attacker nothing; the reason is a fixed text and repeats no input, which
// could carry control characters into a log.
type MalformedError struct {
	Reason string
}

func (e *MalformedError) Error() string { return ErrMalformed.Error() + ": " + e.Reason }

// Is makes errors.Is(err, ErrMalformed) true.
func (e *MalformedError) Is(target error) bool { return target == ErrMalformed }

func malformed(reason string) error { return &MalformedError{reason} }

// One error value for each rule. They are made once, since a flood of malformed
// input should cost its sender more than it costs us.
var (
	errBase64   = malformed("this is base64 text of an envelope: decode it first")
	errHex      = malformed("this is hexadecimal text of an envelope: decode it first")
	errShort    = malformed("cut short")
	errMagic    = malformed("it does not begin as one")
	errVersion  = malformed("unknown version")
	errSuite    = malformed("unknown suite")
	errPolicy   = malformed("unknown policy")
	errFlags    = malformed("reserved flag set")
	errTenant   = malformed("tenant is not 1 to 128 bytes from 0x21 to 0x7e")
	errSection  = malformed("length of the recipients section")
	errCount    = malformed("number of recipients is not 1 to 8")
	errRef      = malformed("recipients with policy REF")
	errAll      = malformed("policy ALL with fewer than 2 recipients")
	errOrder    = malformed("recipients not strictly ascending")
	errProvider = malformed("provider is not 1 to 32 bytes from 0x21 to 0x7e")
	errKey      = malformed("key is not 1 to 2048 bytes from 0x21 to 0x7e")
	errWrapped  = malformed("wrapped key is not 1 to 6144 bytes")
	errSlack    = malformed("bytes left over in the recipients section")
)

// ValidTenant reports whether s can be a tenant: 1 to 128 bytes, 0x21 to 0x7e.
// There is no normalisation, here or elsewhere: tenants that look alike differ.
func ValidTenant(s string) bool { return visible(s, MaxTenant) }

// ValidProvider reports whether s can name a provider: 1 to 32 bytes, 0x21 to 0x7e.
func ValidProvider(s string) bool { return visible(s, MaxProvider) }

// ValidKey reports whether s can name a key: 1 to 2048 bytes, 0x21 to 0x7e. What
// else a name must be, such as a full ARN, only its provider knows.
func ValidKey(s string) bool { return visible(s, MaxKey) }

// ValidPurpose reports whether s can be a purpose: 1 to 64 bytes of [a-z0-9._-].
func ValidPurpose(s string) bool {
	if len(s) < 1 || len(s) > MaxPurpose {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// visible is the rule of all names in a header. Bytes outside of printable ASCII,
// and the space, could forge lines in a log or be lost by a text field.
func visible[T string | []byte](s T, limit int) bool {
	if len(s) < 1 || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
