package byok_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// squatted returns a CMK that a squatter has claimed while anybody was let in,
// and whose owner has bound it to tenant acme since.
func squatted(t *testing.T, env *byoktest.Env) (owner, squatter *byok.Tenant, cmk *kmsfake.Key) {
	t.Helper()
	owner, squatter = env.Keeper.Tenant("acme"), env.Keeper.Tenant("squatter")
	cmk = env.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
	_, err := register(t, squatter, cmk)
	want(t, "Register", err, nil)
	cmk.SetPolicy(awskms.KeyPolicy(byoktest.Account, byoktest.PlatformRole, owner.EncryptionContext()).JSON())
	return owner, squatter, cmk
}

var anyPolicy = &byok.Options{AllowUnboundPolicy: true}

// A claim that cannot be judged stands; it falls as soon as it can be.
func TestClaimStandsInDoubt(t *testing.T) {
	for name, fault := range map[string]kmsfake.Fault{
		"no answer about strangers":        {Operation: "Encrypt", Code: "KMSInternalException", Skip: 1, Count: 3},
		"no answer about the old claimant": {Operation: "Encrypt", Code: "KMSInternalException", EncryptionContext: map[string]string{"tenant_id": "squatter"}},
	} {
		env := byoktest.New(t, &byoktest.Options{Keeper: anyPolicy})
		owner, _, cmk := squatted(t, env)
		remove := env.Fake.Inject(fault)
		_, err := register(t, owner, cmk)
		want(t, name, err, byok.ErrKeyTaken)
		remove()
		_, err = register(t, owner, cmk)
		want(t, name+", later", err, nil)
	}
}

// Whoever lost a claim cannot take it along, or give it away, by removing its key; and the
// event of the loss reaches its log although the sink was down.
func TestClaimThatFell(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	env := byoktest.New(t, &byoktest.Options{Keeper: anyPolicy, Sink: sink})
	owner, squatter, cmk := squatted(t, env)
	sink.before(func(e byok.Event) {
		if e.Op == byok.OpRegister { // of the owner: the sink fails from now on
			sink.failing(errors.New("disk full"))
		}
	})
	_, err := register(t, owner, cmk)
	if err != nil && !errors.Is(err, byok.ErrNotAudited) {
		t.Fatalf("Register: %v", err)
	}
	sink.failing(nil)
	sink.before(nil)
	page, err := squatter.Audit(t.Context(), byok.AuditQuery{Op: byok.OpRelease})
	if want(t, "Audit", err, nil); len(page.Events) != 1 || page.Events[0].Key.ID != cmk.ARN() {
		t.Errorf("%+v", page)
	}
	_, err = squatter.Revoke(t.Context(), "")
	want(t, "Revoke", err, nil)
	cmk.SetPolicy(shortPolicy) // so that all are let in: only the claim is left
	_, err = register(t, env.Keeper.Tenant("third"), cmk)
	want(t, "Register what the owner has claimed", err, byok.ErrKeyTaken)
	_, err = register(t, squatter, cmk)
	want(t, "Register again", err, byok.ErrKeyTaken)
}

// Many tenants register one CMK at once, in many processes: one gets it.
func TestClaimRace(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: anyPolicy})
	cmk := env.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
	var wg sync.WaitGroup
	results := make(chan error, 16)
	for i := range cap(results) {
		tenant := env.NewKeeper().Tenant("t" + string(rune('a'+i)))
		wg.Go(func() {
			_, err := tenant.Register(context.Background(), byok.Registration{Key: awskms.Key(cmk.ARN())})
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		} else {
			want(t, "Register", err, byok.ErrKeyTaken)
		}
	}
	if won != 1 {
		t.Errorf("%d tenants have one CMK", won)
	}
}

// Two who could both be its owner want a claim that falls: one gets it, and the other does
// not take it away with what it found out before.
func TestClaimFallsOnce(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: anyPolicy})
	owner, squatter, cmk := squatted(t, env)
	second := env.NewKeeper().Tenant("acme-eu")
	bound := cmk.Policy()
	calls := 0
	env.Fake.Tamper(func(op string, _ any) {
		// The second has found out all it wants to know; the first comes before it takes the claim.
		if calls++; calls == 6 && op == "Encrypt" {
			env.Fake.Tamper(nil)
			cmk.SetPolicy(bound)
			_, err := register(t, owner, cmk)
			want(t, "Register by the first", err, nil)
		}
	})
	cmk.SetPolicy(awskms.KeyPolicy(byoktest.Account, byoktest.PlatformRole, second.EncryptionContext()).JSON())
	_, err := register(t, second, cmk)
	if err == nil {
		t.Fatal("both have the CMK")
	}
	want(t, "Register by the second", err, byok.ErrKeyTaken)
	st, err := owner.Status(t.Context())
	if want(t, "Status", err, nil); st.Key.ID != cmk.ARN() {
		t.Errorf("%+v", st)
	}
	page, err := squatter.Audit(t.Context(), byok.AuditQuery{Op: byok.OpRelease})
	if want(t, "Audit", err, nil); len(page.Events) != 1 {
		t.Errorf("%d releases", len(page.Events))
	}
}
