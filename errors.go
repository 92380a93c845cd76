package byok

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// sentinel is an error with a place in a tree: errors.Is finds its parents too.
type sentinel struct {
	text   string
	parent error
}

func (s *sentinel) Error() string { return "byok: " + s.text }
func (s *sentinel) Unwrap() error { return s.parent }

func newError(parent error, text string) error { return &sentinel{text: text, parent: parent} }

// The errors of this package. They form a tree: an indented one also is the one
// above it, so a caller tests for as much as it wants to know. They say what to
// do; text is for people and never matched.
var (
	// ErrKeyRevoked: somebody who may has said stop. Do not retry; tell the tenant.
	ErrKeyRevoked = newError(nil, "access to the key is revoked")
	/**/ // ErrKeyDenied: KMS refuses us the CMK: disabled, pending deletion, or its
	// policy does not let us in. Ends by itself when access is granted again.
	ErrKeyDenied = newError(ErrKeyRevoked, "KMS denies access to the key")
	/**/          // ErrKeyRemoved: the tenant removed its key ([Tenant.Revoke]).
	ErrKeyRemoved = newError(ErrKeyRevoked, "the key was removed by the tenant")
	/**/         // ErrSuspended: the platform suspended the tenant ([Tenant.Suspend]).
	ErrSuspended = newError(ErrKeyRevoked, "the tenant is suspended by the platform")

	// ErrKeyUnavailable: no authoritative answer, and no lease. Retry later.
	ErrKeyUnavailable = newError(nil, "the key is unavailable")
	/**/         // ErrThrottled: by KMS, or by this process's budget for the tenant.
	ErrThrottled = newError(ErrKeyUnavailable, "KMS requests are throttled")
	/**/        // ErrPlatform: our own credentials or permissions are broken. Page someone.
	ErrPlatform = newError(ErrKeyUnavailable, "the platform's own KMS access is broken")

	// ErrOpen: this is not something that this tenant's key sealed with this
	// purpose and aad. Deliberately vague: which of them was wrong is not told.
	ErrOpen = newError(nil, "cannot open: not sealed by this tenant's key with this context")
	/**/         // ErrMalformed: not an envelope; only public header bytes were looked at.
	ErrMalformed = newError(ErrOpen, "not a byok envelope")

	// ErrNotRegistered: the tenant has no key.
	ErrNotRegistered = newError(nil, "no key is registered")
	// ErrWaiverRequired: the current legal waiver is not acknowledged.
	ErrWaiverRequired = newError(nil, "the legal waiver must be acknowledged")
	// ErrKeyTaken: the tenant has a key already, or another tenant uses this CMK.
	ErrKeyTaken = newError(nil, "a key is registered already, or this one is in use")
	// ErrMoveRequired: data of the tenant is wrapped by another CMK.
	ErrMoveRequired = newError(nil, "existing data is wrapped by another key")
	// ErrPolicyUnbound: the CMK's policy would also let us in for other tenants,
	// and Options.AllowUnboundPolicy is not set.
	ErrPolicyUnbound = newError(nil, "the key policy is not bound to this tenant")
	// ErrKeyID: not the identifier of a key that the Keyring accepts.
	ErrKeyID = newError(nil, "not an acceptable key identifier")
	// ErrArgument: the caller passed something that can never work.
	ErrArgument = newError(nil, "bad argument")
	// ErrStore: the Store failed, or answered what it must not. Retry later.
	ErrStore = newError(nil, "the store failed")
	// ErrAudit: the AuditSink failed, so nothing was done or released. Retry later.
	ErrAudit = newError(nil, "the audit sink failed")
	// ErrNotAudited: a change took effect, but the AuditSink failed then; the
	// event is kept in the Store, and delivered when the sink works again.
	ErrNotAudited = newError(nil, "took effect, but is not audited yet")
	// ErrInternal: a KMS answer or a state that must not be. Nothing was cached.
	ErrInternal = newError(nil, "internal error")
	// ErrClosed: the Keeper is closed.
	ErrClosed = newError(nil, "closed")

	// ErrNotFound and ErrConflict come from Stores; see [Store].
	ErrNotFound = newError(nil, "item not found")
	ErrConflict = newError(nil, "item has another revision")
)

// Class says what a refusal by a KMS means. It decides what happens to leases.
// The zero Class is invalid in a [KeyError] and treated as [ClassOutage].
type Class uint8

// The classes. See docs/design.md for the AWS error codes of each.
const (
	ClassDenied         Class = iota + 1 // authoritative refusal: every lease on the key ends now
	ClassPlatformDenied                  // a refusal by our own identity policy: leases end, but the tenant did not revoke us
	ClassPlatform                        // our credentials: leases run out, never renewed
	ClassOutage                          // no authoritative answer: leases run out, never extended
	ClassThrottled                       // as ClassOutage
	ClassBlob                            // a refusal about one wrapped data key only
	ClassInternal                        // our bug or a wrong answer: this operation fails, nothing else changes
	ClassKeyID                           // the key's syntax: nothing was sent
)

var classNames = [...]string{"", "denied", "platform_denied", "platform", "outage", "throttled", "blob", "internal", "key_id"}

// String returns a stable lower-case name, and "" for the zero Class.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// MarshalText implements encoding.TextMarshaler.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. An unknown name, perhaps
// of a newer version, becomes ClassOutage, which grants nothing.
func (c *Class) UnmarshalText(b []byte) error {
	for i, n := range classNames {
		if n == string(b) {
			*c = Class(i)
			return nil
		}
	}
	*c = ClassOutage
	return nil
}

// sentinel is what a failure of the class means to a caller.
func (c Class) sentinel() error {
	switch c {
	case ClassDenied:
		return ErrKeyDenied
	case ClassPlatformDenied, ClassPlatform:
		return ErrPlatform
	case ClassThrottled:
		return ErrThrottled
	case ClassBlob:
		return ErrOpen
	case ClassInternal:
		return ErrInternal
	case ClassKeyID:
		return ErrKeyID
	}
	return ErrKeyUnavailable
}

// stops reports whether the class ends every lease on the key.
func (c Class) stops() bool { return c == ClassDenied || c == ClassPlatformDenied }

// KeyError is the refusal of one KMS call. errors.Is matches it with the
// sentinel of its Class.
type KeyError struct {
	Op         string // "GenerateDataKey", "Encrypt", "Decrypt", ...
	Code       string // the KMS's error code, such as "DisabledException"
	RequestID  string // as in CloudTrail (see Receipt); "" if none was seen
	Key        KeyID
	Class      Class
	RetryAfter time.Duration // zero: not told
	Err        error         // the cause, for operators; may be nil
}

// Error names the class, the operation, the code and the request id: nothing
// that the KMS wrote, since its texts name principals and other accounts. Of
// ClassKeyID it gives the driver's reason, which is about the identifier alone.
func (e *KeyError) Error() string {
	var b strings.Builder
	b.WriteString(e.Class.sentinel().Error())
	if e.Class == ClassKeyID {
		if e.Err != nil { // the driver's own words about what the caller typed
			return b.String() + ": " + printable(e.Err.Error(), 200)
		}
		return b.String()
	}
	b.WriteString(": " + e.Op)
	if e.Code != "" {
		b.WriteString(": " + e.Code)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// errNoKeyID is of what no Keyring could accept: it is not even shown one.
var errNoKeyID = fmt.Errorf("%w: it needs a provider and an id, as awskms.Key makes them", ErrKeyID)

// ServiceRequestID returns RequestID. It is how errors of the AWS SDK tell theirs, so
// that what looks for one of those finds this: kmsfake's Why, for example.
func (e *KeyError) ServiceRequestID() string { return e.RequestID }

// Is reports whether target is the sentinel of the class, or above it.
func (e *KeyError) Is(target error) bool { return errors.Is(e.Class.sentinel(), target) }

// codes is in the order in which an error is tested: the first match wins.
var codes = []struct {
	err  error
	code string
}{
	{ErrNotAudited, "BYOK_013"},
	{ErrKeyRemoved, "BYOK_010"},
	{ErrSuspended, "BYOK_010"},
	{ErrKeyRevoked, "BYOK_002"},
	{ErrKeyID, "BYOK_001"},
	{ErrKeyTaken, "BYOK_003"},
	{ErrWaiverRequired, "BYOK_004"},
	{ErrNotRegistered, "BYOK_005"},
	{ErrKeyUnavailable, "BYOK_006"},
	{ErrOpen, "BYOK_008"},
	{ErrMoveRequired, "BYOK_009"},
	{ErrPolicyUnbound, "BYOK_011"},
	{ErrStore, "BYOK_012"},
	{ErrAudit, "BYOK_012"},
	{ErrClosed, "BYOK_012"},
	{ErrArgument, "BYOK_014"},
	{ErrJobRunning, "BYOK_018"},
	{ErrJobNotFound, "BYOK_019"},
}

// Code returns the stable code of an error of this package, as REST answers and
// audit events carry it: "BYOK_001" to "BYOK_014", "BYOK_018", "BYOK_019", "" for nil, and "BYOK_007"
// (internal) for everything else. README.md lists them.
func Code(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "BYOK_007"
}
