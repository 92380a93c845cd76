// Package byoktest gives unit tests of a platform a Keeper with a KMS in memory,
// and registered tenants in one line.
//
//	func TestRevocation(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			env := byoktest.New(t, nil)
//			_, cmk := env.Tenant("acme")
//			app := newApp(env.Keeper)
//			...
//			cmk.Disable()
//			time.Sleep(time.Minute) // no waiting in a synctest bubble
//			...
//		})
//	}
//
// Everything is in memory and ends with the test.
package byoktest

import (
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

// The names that an Env uses.
const (
	Service      = "byoktest"
	PlatformRole = "arn:aws:iam::999999999999:role/platform"
	Account      = "111122223333" // of every tenant's CMK
	Actor        = "admin@tenant.example"
)

// Options adjust an Env. nil is the defaults.
type Options struct {
	Keeper *byok.Options  // for byok.New
	Store  byok.Store     // defaults to a new MemStore
	Sink   byok.AuditSink // defaults to Env.Audit

	// Platform makes Env.PlatformCMK, and gives it to every Keeper for tenants without a key (byok.Options.PlatformKeys).
	Platform bool
}

// Env is a Keeper with its surroundings.
type Env struct {
	Keeper *byok.Keeper
	Fake   *kmsfake.KMS
	Keys   *awskms.Keyring // on Fake, as PlatformRole
	Store  byok.Store
	Audit  *byok.MemAudit

	PlatformCMK *kmsfake.Key // nil without Options.Platform

	t    testing.TB
	opts Options
}

// New returns an Env. The Keeper is closed when the test ends.
func New(t testing.TB, opts *Options) *Env {
	t.Helper()
	env := &Env{t: t, Fake: kmsfake.New(&kmsfake.Options{TB: t}), Audit: new(byok.MemAudit)}
	if opts != nil {
		env.opts = *opts
	}
	if env.Store = env.opts.Store; env.Store == nil {
		env.Store = new(byok.MemStore)
	}
	if env.opts.Sink == nil {
		env.opts.Sink = env.Audit
	}
	keys, err := awskms.NewFromClient(env.Fake.Client(PlatformRole), nil)
	if err != nil {
		t.Fatal(err)
	}
	env.Keys = keys
	if env.opts.Platform {
		env.PlatformCMK = env.NewPlatformCMK()
		var keeper byok.Options
		if env.opts.Keeper != nil {
			keeper = *env.opts.Keeper
		}
		keeper.PlatformKeys = append([]byok.KeyID{awskms.Key(env.PlatformCMK.ARN())}, keeper.PlatformKeys...)
		env.opts.Keeper = &keeper
	}
	env.Keeper = env.NewKeeper()
	return env
}

// NewKeeper returns another Keeper on the same Store, sink and KMS: what a
// second process of the platform would have, or the same one after a restart.
func (env *Env) NewKeeper() *byok.Keeper {
	env.t.Helper()
	k, err := byok.New(Service, env.Keys, env.Store, env.opts.Sink, env.opts.Keeper)
	if err != nil {
		env.t.Fatal(err)
	}
	env.t.Cleanup(func() { _ = k.Close() })
	return k
}

// CMK returns a new CMK with the policy that awskms.KeyPolicy prints for a tenant.
func (env *Env) CMK(tenant string) *kmsfake.Key {
	env.t.Helper()
	policy := awskms.KeyPolicy(Account, PlatformRole, env.Keeper.Tenant(tenant).EncryptionContext())
	return env.Fake.Account(Account).CreateKey(policy.JSON())
}

// platformPolicy lets the role in for every tenant of the service.
const platformPolicy = `{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999999999999:root"}, "Action": "kms:*", "Resource": "*"},
  {"Effect": "Allow", "Principal": {"AWS": "` + PlatformRole + `"}, "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*",
   "Condition": {"StringEquals": {"kms:EncryptionContext:service": "` + Service + `"}}}]}`

// NewPlatformCMK returns a new CMK of the platform's account, whose policy lets its role in for every tenant.
func (env *Env) NewPlatformCMK() *kmsfake.Key {
	env.t.Helper()
	return env.Fake.Account("999999999999").CreateKey(platformPolicy)
}

// Tenant registers a tenant with a new CMK of its own and acknowledges the waiver.
func (env *Env) Tenant(id string) (*byok.Tenant, *kmsfake.Key) {
	env.t.Helper()
	t, cmk := env.Keeper.Tenant(id), env.CMK(id)
	ctx := byok.WithActor(env.t.Context(), Actor)
	if _, err := t.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}); err != nil {
		env.t.Fatalf("byoktest: register %s: %v", id, err)
	}
	ack := byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}
	if _, err := t.AcknowledgeWaiver(ctx, ack); err != nil {
		env.t.Fatalf("byoktest: acknowledge for %s: %v", id, err)
	}
	return t, cmk
}
