// Package awskms is the [byok.Keyring] on AWS KMS: customer-managed keys (CMKs)
// that live in the customers' own AWS accounts.
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	keys, err := awskms.New(cfg, nil)
//	keeper, err := byok.New("billing.example.com", keys, store, sink, nil)
//	_, err = keeper.Tenant("acme").Register(ctx, byok.Registration{Key: awskms.Key(arn)})
//
// It needs kms:GenerateDataKey, kms:Encrypt and kms:Decrypt on a CMK, and no
// more. kms:DescribeKey is used where it is granted. [KeyPolicy] writes the key
// policy that grants exactly this, to one role and for one tenant.
//
// # What it does with a call
//
// The key must be a key ARN of an allowed partition, Region and account, or
// nothing is sent. The ARN goes into every request, Decrypt included, and must
// come back in every answer. The encryption context is sent as it was given.
// There is one attempt, of at most Options.AttemptTimeout: the SDK's own retries
// are switched off in each call, whatever the client says, because they would
// delay a denial and hide requests from the audit trail. The Keeper retries what
// may be retried.
//
// Errors are [*byok.KeyError], classed by the error code of KMS; see
// docs/design.md for the table. Their text and their causes carry no keys, no
// credentials and no bodies.
//
// # Body logging
//
// The SDK can log requests and responses with their bodies, and these contain
// plaintext data keys. A configuration or client that asks for it is refused by
// the constructors, and it is cleared again in each call. This package cannot
// see into middleware, interceptors, an HTTP client or a proxy of your own: keep
// them from logging bodies.
//
// # What is not here
//
// Nothing here keeps a plaintext data key, and nothing is cached but clients and
// the credentials of tenants' roles. What the SDK itself leaves behind in memory
// (two base64 copies of a data key for each Decrypt) no caller can reach;
// SECURITY.md says what follows from that.
package awskms
