package byok

import (
	"context"
	"maps"
	"time"
)

// KeyID names one customer-managed key (CMK): the provider that holds it and
// its full, unambiguous identifier there. It is comparable.
//
// For AWS KMS the provider is "aws-kms" and ID is the key ARN. Aliases and bare
// key ids are refused everywhere: an alias can be pointed at another key between
// a Seal and an Open. Provider is 1 to 32 bytes and ID 1 to 2048 bytes, all
// 0x21..0x7e.
type KeyID struct {
	Provider string `json:"provider"`
	ID       string `json:"id"`
}

// String returns "provider:id". It is public information.
func (k KeyID) String() string { return k.Provider + ":" + k.ID }

// An EncryptionContext is the non-secret authenticated data of a KMS call. The
// key policy can require it and CloudTrail logs it in clear, so it carries
// opaque ids only. Every call of a [Keeper] carries exactly tenant_id, service,
// purpose and data_key_id.
//
// See https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html
type EncryptionContext map[string]string

// The members of the encryption context that this library sends.
const (
	ContextTenant  = "tenant_id"
	ContextService = "service"
	ContextPurpose = "purpose"
	ContextDataKey = "data_key_id"
)

// Clone returns a copy that the caller may change.
func (ec EncryptionContext) Clone() EncryptionContext { return maps.Clone(ec) }

// Keyring is the driver to one key management service. It needs three
// permissions on a CMK and no more: AWS calls them kms:GenerateDataKey,
// kms:Encrypt and kms:Decrypt.
//
// An implementation
//
//   - refuses a key whose syntax or provider is not its own with
//     [ClassKeyID], before it sends anything: every call gets the check. Err
//     says why, to whoever typed it;
//   - names the key in every request, unwrapping included, and compares the key
//     in the answer with it ([ClassInternal] if they differ);
//   - passes the encryption context exactly as given, also when it is empty,
//     and neither keeps nor changes the map;
//   - makes one attempt a call: it neither caches nor retries nor falls back.
//     The Keeper retries what may be retried, so that each attempt stands in
//     the audit trail with its own request id;
//   - bounds each attempt in time, and returns when ctx is done;
//   - returns every failure as a [*KeyError] with a [Class]. An error of
//     another type is treated as an outage;
//   - is safe for concurrent use.
//
// Package keyringtest checks all of this. A panic in a Keyring is caught and
// reported as [ErrInternal].
type Keyring interface {
	// GenerateDataKey makes a new 256-bit data key, and the same wrapped by key.
	GenerateDataKey(ctx context.Context, key KeyID, ec EncryptionContext) (*DEK, Wrapped, error)

	// WrapDataKey wraps a data key that exists. It must not keep dek or its bytes.
	WrapDataKey(ctx context.Context, key KeyID, dek *DEK, ec EncryptionContext) (Wrapped, error)

	// UnwrapDataKey is the inverse of both. Bytes that are not a wrapping by
	// this key with this context are a [ClassBlob] error.
	UnwrapDataKey(ctx context.Context, key KeyID, wrapped []byte, ec EncryptionContext) (*DEK, Receipt, error)
}

// Describer is an optional ability of a Keyring. What it tells is advice for
// people; it never counts as proof of access (threat D17).
type Describer interface {
	DescribeKey(ctx context.Context, key KeyID) (KeyInfo, error)
}

// KeyInfo is what a KMS says about a key, as far as the platform may ask.
type KeyInfo struct {
	State      string    // the provider's word, such as "Enabled" or "PendingDeletion"
	MaterialID string    // current key material, if told
	DeletionAt time.Time // zero: no deletion is pending
	Receipt    Receipt
}

// Receipt is what the KMS said about one call besides its result.
//
// AWS logs a permitted request in the CloudTrail of both accounts, and one that
// was denied across accounts in the caller's only:
// https://docs.aws.amazon.com/kms/latest/developerguide/logging-using-cloudtrail.html
type Receipt struct {
	RequestID  string `json:"request_id,omitempty"`  // the id in CloudTrail
	MaterialID string `json:"material_id,omitempty"` // the key material that was used, if told
}

// Wrapped is a data key wrapped by a CMK: safe to store.
type Wrapped struct {
	Receipt
	Bytes []byte // 1 to 6144 bytes
}

type tenantKey struct{}

// TenantFromContext returns the tenant on whose behalf a Keyring is being
// called, and "" outside such a call. A driver may use it to choose
// credentials; what the KMS binds is the encryption context.
func TenantFromContext(ctx context.Context) string {
	t, _ := ctx.Value(tenantKey{}).(string)
	return t
}

func withTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}
