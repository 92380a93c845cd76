// Package kmsfake is an AWS KMS in memory that behaves like AWS, revocation
// included: a disabled key, a changed key policy, a scheduled deletion, an
// outage or a throttle stop the calls that AWS would stop, with the exception
// that AWS would give. It is for tests and local development. It is no place for
// keys that protect anything.
//
//	fake := kmsfake.New(nil)
//	cmk := fake.Account("111122223333").CreateKey("") // the customer's key
//	client := fake.Client("arn:aws:iam::111122223333:root")
//	// client has the methods of *kms.Client: pass it to the code under test.
//	cmk.Disable() // ... and see what your product does now.
//
// # Two faces
//
// [KMS.Client] calls in process, as one principal, in a few microseconds; its
// errors carry the same layers as the SDK's (*smithy.OperationError, the HTTP
// ResponseError with status and request id, the modelled exception or
// *smithy.GenericAPIError). [KMS.Handler] speaks the wire protocol, for the AWS
// CLI and every SDK. Both are the same engine: a key made through one is used
// through the other.
//
// # What is enforced
//
// Key states; the encryption context, bound so that contexts with moved
// boundaries do not open; key policies (Principal, NotPrincipal, Action,
// NotAction, Resource, NotResource, Condition with all operators of IAM, their
// IfExists, ForAnyValue and ForAllValues forms, and policy variables in documents
// of the version 2012-10-17); delegation to the account by its root ARN; identity
// policies that [Account.PutIdentityPolicy] attaches; both sides of cross-account
// access; grants, with their constraints and tokens, which suffice at home and
// across accounts unless something denies.
//
// All condition keys of KMS have the values that AWS would give them, and of the
// global ones those about the principal (aws:PrincipalArn, Account, OrgID, Type,
// Tag/..., userid, username), the resource (aws:ResourceAccount, OrgID, Tag/...) and
// the request (aws:SourceIp, RequestedRegion, CurrentTime, EpochTime,
// SecureTransport, ViaAWSService, RequestTag/..., TagKeys). What a test must say
// itself (tags of a session, kms:ViaService, a source address, any other key), it
// says with [Client.With], [KMS.SetSession] and [Account.SetOrganization]. A key
// that nobody gave a value is absent. Service control policies, permission
// boundaries and session policies are not evaluated.
//
// BE WARNED of the one default that is more lenient than AWS: a principal for
// which no identity policy was ever put passes its own account's side of
// cross-account access, and may do what no key policy speaks about (CreateKey, the
// lists, the alias side of aliases). [Options.StrictIAM] turns that off.
//
// Permission is decided before the key's state, and the state before anything
// is said about the ciphertext. In another account, a key that was deleted,
// that never existed, that is in another Region or that one has no right to all
// answer the same AccessDeniedException.
//
// # Why
//
// [KMS.Why] and [KMS.Explain] tell of each of the last 4096 calls which statement
// or grant decided, and why each of the others did not apply.
//
// # Operations
//
// All of KMS but custom key stores, enclaves (Recipient) and ML-KEM: keys of
// every origin of one's own (AWS_KMS, EXTERNAL), single-Region and multi-Region;
// symmetric, HMAC, RSA, NIST curves and Ed25519; aliases, tags, policies, grants,
// rotation, imported material and its expiry, deletion, dry runs. docs/kmsfake.md
// has the table, operation by operation.
//
// On the wire, KMS's other operations answer UnsupportedOperationException, and
// what is no operation of KMS UnknownOperationException.
//
// # Grants
//
// A grant counts from its creation to its end; a token of it is authentic for
// ever, and worth nothing once the grant is gone. Grants to service principals can
// be created and listed; no service calls the fake, so nobody uses them. Where AWS
// documents no more than the idea: the account that may retire a grant is the one
// that created it ("issuing account"); a grant to an account is delegation, as a
// key policy's is; a constraint without any pair is refused.
//
// # As the test's hand
//
// [Account] and [Key] act as the owner, at once and without permission:
// CreateKey, Disable, SetPolicy, DenyTo, ScheduleDeletion, Delete, Rotate.
// [KMS.Outage], [KMS.Fail], [KMS.Inject], [KMS.Latency], [KMS.Throttle] and
// [KMS.Tamper] are the weather; [KMS.Propagation] makes changes take their time, as
// in AWS; [KMS.Advance] moves the clock. [KMS.Calls] tells what was asked and what
// was answered, [Account.CloudTrail] what AWS would tell each account of it.
//
// No goroutine runs in the background and no lock is held while a call waits, so
// everything works inside a testing/synctest bubble, on the bubble's clock.
package kmsfake
