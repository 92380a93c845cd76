// Package byok is envelope encryption under customer-managed keys (CMKs): a
// platform seals each tenant's data so that it opens only as long as a key in the
// tenant's own KMS says yes.
//
//	keys, err := awskms.New(cfg, nil)
//	store, err := sqlstore.Open(ctx, db, sqlstore.SQLite) // a Store and an AuditSink
//	keeper, err := byok.New("billing.example.com", keys, store, store, nil)
//	defer keeper.Close()
//	go keeper.Run(ctx)
//
//	acme := keeper.Tenant("acme")
//	_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(arn)})
//	_, err = acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true})
//	scope := byok.Scope{Tenant: "acme", Purpose: "invoices"}
//	sealed, err := keeper.Seal(ctx, scope, plaintext, []byte("invoice/42"))
//	plaintext, err = keeper.Open(ctx, scope, sealed, []byte("invoice/42"))
//
// [Keeper] is the data plane of all tenants, [Tenant] the control plane of one.
// A [Keyring] is the driver to a KMS, a [Store] keeps what must not be lost, and
// an [AuditSink] gets an event of every operation before its result is released.
// Package kmsfake is an AWS KMS in memory, package byoktest a fixture for tests,
// package byokhttp a REST control plane. [Direct] does without a Store.
//
// What is too large for memory goes through [Keeper.SealWriter], [Keeper.OpenReader],
// [Keeper.OpenReaderAt] and [Keeper.SealFile]. [Tenant.Move] brings a tenant under
// another CMK and touches no record. [Tenant.Reseal] gives records new data keys, or
// seals those that are in clear.
//
// If you have one key for all of your data, this is more than you need.
//
// # When the key goes away
//
//	what happens to the CMK           data operations                          recovery
//	unavailable: outage, throttling   go on while a proof of access is younger by itself
//	                                  than Options.MaxAge, then fail with
//	                                  ErrKeyUnavailable
//	disabled, pending deletion,       fail with ErrKeyDenied from the first    by itself, when
//	policy changed                    denial on; cached keys are wiped         access is back
//	deleted                           the same, for good                       none
//	removed by Tenant.Revoke          fail with ErrKeyRemoved                  Tenant.Register
//	stopped by Tenant.Suspend         fail with ErrSuspended                   Tenant.Resume
//
// If a CMK is unusable from some instant on, no operation that starts MaxAge (60
// s by default) later succeeds, in any process; and none in a process that has
// seen a denial. There is no fallback to another key, and nothing is ever written
// or returned in clear for want of one.
//
// # Errors
//
// The sentinels say what to do. Test for as much as you want to know:
//
//	switch {
//	case errors.Is(err, byok.ErrSuspended):      // ours: resume
//	case errors.Is(err, byok.ErrKeyRevoked):     // theirs: tell them, do not retry
//	case errors.Is(err, byok.ErrPlatform):       // our credentials: page us
//	case errors.Is(err, byok.ErrKeyUnavailable): // retry later
//	case errors.Is(err, byok.ErrOpen):           // not sealed by this tenant with this context: a security event
//	}
//
// # Compatibility
//
// Every release opens every envelope, and reads every Store, that an earlier
// release wrote. SPEC.md specifies the envelope. Before version 1 the Go API may
// change; from then on it follows semantic versioning. Interfaces that users
// implement get no new methods: new abilities are optional interfaces. Codes,
// the members of events and the meaning of errors do not change; texts may.
package byok
