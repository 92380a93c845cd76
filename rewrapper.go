package byok

import "context"

// Rewrapper is an optional ability of a Keyring: it wraps a data key anew, under the
// same CMK or another one, inside the KMS. So the data key is never in our memory. AWS
// calls the permissions kms:ReEncryptFrom and kms:ReEncryptTo; a key policy need not grant
// them, and without them a Keeper unwraps and wraps instead.
//
// An implementation keeps the rules of [Keyring] for both keys. A pair of keys that no
// one request can name, such as keys of two Regions, is a [ClassKeyID] error that is
// errors.ErrUnsupported too, before anything is sent. Any other error is about from, as far as it can be
// told; wrapped bytes that from did not wrap with this context are ClassBlob.
//
// What it answers is no proof of access and no denial of it: a Keeper asks with the
// three permissions before it believes either.
type Rewrapper interface {
	RewrapDataKey(ctx context.Context, from, to KeyID, wrapped []byte, ec EncryptionContext) (Wrapped, error)
}
