package byok_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// shortPolicy lets the platform in without a condition.
const shortPolicy = `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + byoktest.Account + `:root"},"Action":"kms:*","Resource":"*"},
	{"Effect":"Allow","Principal":{"AWS":"` + byoktest.PlatformRole + `"},"Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey"],"Resource":"*"}]}`

func register(t *testing.T, tenant *byok.Tenant, cmk *kmsfake.Key) (byok.KeyStatus, error) {
	t.Helper()
	return tenant.Register(t.Context(), byok.Registration{Key: awskms.Key(cmk.ARN())})
}

func TestRegisterRefusals(t *testing.T) {
	env := byoktest.New(t, nil)
	acct := env.Fake.Account(byoktest.Account)
	unasked := acct.CreateKey("") // the default policy does not let the platform in
	deleted := env.CMK("acme")
	deleted.Delete()
	disabled := env.CMK("acme")
	disabled.Disable()
	encryptOnly := acct.CreateKey(strings.Replace(shortPolicy, `"kms:Decrypt",`, "", 1))
	for _, c := range []struct {
		name string
		cmk  *kmsfake.Key
		err  error
	}{
		{"policy does not let us in", unasked, byok.ErrKeyDenied},
		{"bound to another tenant", env.CMK("umbrella"), byok.ErrKeyDenied},
		{"deleted", deleted, byok.ErrKeyDenied},
		{"disabled", disabled, byok.ErrKeyDenied},
		{"no kms:Decrypt", encryptOnly, byok.ErrKeyDenied},
		{"not bound to anybody", acct.CreateKey(shortPolicy), byok.ErrPolicyUnbound},
	} {
		_, err := register(t, env.Keeper.Tenant("acme"), c.cmk)
		want(t, c.name, err, c.err)
	}
	for _, id := range []string{
		"alias/x", "arn:aws:kms:us-east-1:111122223333:alias/x", "1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234", "",
		"arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws:kms:us-east-1.evil:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws:kms:us-east-1:111122223333:key/../x", "arn:aws:s3:us-east-1:111122223333:key/x", strings.Repeat("a", 3000), "a\nb",
	} {
		env.Fake.ResetCalls()
		_, err := env.Keeper.Tenant("acme").Register(t.Context(), byok.Registration{Key: awskms.Key(id)})
		want(t, fmt.Sprintf("%.40q", id), err, byok.ErrKeyID)
		if len(env.Fake.Calls()) != 0 {
			t.Errorf("KMS was asked about %.40q", id)
		}
	}
	for _, e := range env.Audit.All() {
		if e.Code == "BYOK_001" && (e.Key != (byok.KeyID{}) || len(e.Calls) != 0) {
			t.Errorf("the event of a refused identifier repeats it: %+v", e)
		}
	}
	restore := env.Fake.Outage()
	_, err := register(t, env.Keeper.Tenant("acme"), env.CMK("acme"))
	want(t, "KMS is down", err, byok.ErrKeyUnavailable)
	restore()
	if _, err = env.Keeper.Tenant("acme").Status(t.Context()); !errors.Is(err, byok.ErrNotRegistered) {
		t.Errorf("a refused registration left something: %v", err)
	}
	if _, err := register(t, env.Keeper.Tenant("acme"), env.CMK("acme")); err != nil {
		t.Errorf("after all refusals: %v", err)
	}
}

func TestAllowUnboundPolicyWarns(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{AllowUnboundPolicy: true}})
	st, err := register(t, env.Keeper.Tenant("acme"), env.Fake.Account(byoktest.Account).CreateKey(shortPolicy))
	want(t, "Register", err, nil)
	if !slices.Contains(st.Warnings, byok.WarnPolicyNotTenantBound) {
		t.Errorf("warnings: %v", st.Warnings)
	}
	st, err = register(t, env.Keeper.Tenant("umbrella"), env.CMK("umbrella"))
	want(t, "Register with a bound policy", err, nil)
	if len(st.Warnings) != 0 {
		t.Errorf("warnings: %v", st.Warnings)
	}
}

// No probe ever carries the id of a tenant that is not the one who registers, and exactly
// the four members go out (threat D13).
func TestD13_ContextsOfARegistration(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("umbrella")
	env.Fake.ResetCalls()
	env.Tenant("acme")
	seal(t, env.Keeper, "acme", "x", "row")
	strangers := 0
	for _, c := range env.Fake.Calls() {
		ec := c.EncryptionContext
		switch {
		case len(ec) == 0:
			strangers++
			continue
		case strings.HasPrefix(ec["tenant_id"], "probe-") && len(ec["tenant_id"]) > 20:
			strangers++
		case ec["tenant_id"] != "acme":
			t.Errorf("a call for tenant %q", ec["tenant_id"])
		}
		if len(ec) != 4 || ec["service"] != byoktest.Service || ec["purpose"] != "default" || len(ec["data_key_id"]) != 32 {
			t.Errorf("context %v", ec)
		}
	}
	if strangers != 2 {
		t.Errorf("%d negative probes, want 2", strangers)
	}
}

// One CMK belongs to one tenant; and nobody can lock out its owner by claiming
// it first.
func TestClaims(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{AllowUnboundPolicy: true}})
	acme, squatter := env.Keeper.Tenant("acme"), env.Keeper.Tenant("squatter")
	cmk := env.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
	_, err := register(t, squatter, cmk)
	want(t, "Register", err, nil)
	_, err = register(t, acme, cmk)
	want(t, "Register a CMK that another tenant holds", err, byok.ErrKeyTaken)
	if strings.Contains(err.Error(), "squatter") {
		t.Errorf("the error says who: %v", err)
	}

	// The owner binds the policy to itself: the squatter is out.
	cmk.SetPolicy(awskms.KeyPolicy(byoktest.Account, byoktest.PlatformRole, acme.EncryptionContext()).JSON())
	_, err = register(t, acme, cmk)
	want(t, "Register after binding the policy", err, nil)
	page, err := squatter.Audit(t.Context(), byok.AuditQuery{Op: byok.OpRelease})
	if want(t, "Audit", err, nil); len(page.Events) != 1 {
		t.Errorf("the release is not in the old claimant's log: %+v", page)
	}
	// Whoever is denied learns that, and not who holds the CMK.
	_, err = register(t, env.Keeper.Tenant("third"), cmk)
	want(t, "Register a stranger's CMK", err, byok.ErrKeyDenied)

	// A removed key is free for another organization of the same customer.
	_, err = acme.Revoke(t.Context(), "")
	want(t, "Revoke", err, nil)
	cmk.SetPolicy(shortPolicy)
	_, err = register(t, env.Keeper.Tenant("acme-eu"), cmk)
	want(t, "Register a CMK that was removed elsewhere", err, nil)
	_, err = register(t, acme, cmk)
	want(t, "Register again what somebody else has taken", err, byok.ErrKeyTaken)
}

// A claim falls only to somebody whose policy is bound to it, and refuses the old claimant now.
func TestClaimsThatStand(t *testing.T) {
	allow := func(tenants string) string {
		return strings.Replace(shortPolicy, `"Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey"],"Resource":"*"`,
			`"Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey"],"Resource":"*",
			"Condition":{"StringEquals":{"kms:EncryptionContext:tenant_id":[`+tenants+`]}}`, 1)
	}
	for name, policy := range map[string]string{
		"both are let in": allow(`"acme","holder"`),
		"everybody is, but the holder": strings.Replace(shortPolicy, `"Statement":[`, `"Statement":[{"Effect":"Deny",
			"Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant_id":"holder"}}},`, 1),
	} {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{AllowUnboundPolicy: true}})
		cmk := env.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
		_, err := register(t, env.Keeper.Tenant("holder"), cmk)
		want(t, "Register", err, nil)
		cmk.SetPolicy(policy)
		_, err = register(t, env.Keeper.Tenant("acme"), cmk)
		want(t, name, err, byok.ErrKeyTaken)
	}
}

// The key is disabled in the middle of the probes: that it refuses strangers says nothing.
func TestNegativeProbesNeedPositiveOnes(t *testing.T) {
	env := byoktest.New(t, nil)
	cmk := env.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
	answers := 0
	env.Fake.Tamper(func(string, any) {
		if answers++; answers == 4 { // GenerateDataKey, Decrypt, Encrypt, Decrypt: what comes next are strangers
			cmk.Disable()
		}
	})
	_, err := register(t, env.Keeper.Tenant("acme"), cmk)
	want(t, "Register", err, byok.ErrKeyDenied)
	if calls := env.Fake.Calls(); answers != 4 || len(calls) != 7 {
		t.Errorf("%d of %d calls succeeded", answers, len(calls))
	}
}

// A waiver row that somebody edited, or an older text, activates nothing (E19).
func TestE19_WaiverBypass(t *testing.T) {
	env := byoktest.New(t, nil)
	acme, cmk := env.Tenant("acme")
	_, err := acme.Revoke(t.Context(), "")
	want(t, "Revoke", err, nil)

	newer := byok.DefaultWaiver()
	newer.Version, newer.Text = "2.0", newer.Text+"\n\n7. More."
	k, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{Waiver: &newer})
	want(t, "New", err, nil)
	defer k.Close()
	st, err := register(t, k.Tenant("acme"), cmk)
	if want(t, "Register under a newer waiver", err, nil); st.Status != byok.StatusPendingWaiver || st.WaiverAcknowledged {
		t.Fatalf("%+v", st)
	}
	_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
	want(t, "Seal", err, byok.ErrWaiverRequired)

	// The same version with another text is another waiver.
	same := byok.DefaultWaiver()
	same.Text += " (changed)"
	k2, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{Waiver: &same})
	want(t, "New", err, nil)
	defer k2.Close()
	ws, err := k2.Tenant("acme").WaiverStatus(t.Context())
	if want(t, "WaiverStatus", err, nil); ws.Acknowledged || !ws.NeedsAcknowledgement || ws.AcknowledgedVersion != "1.0" {
		t.Errorf("%+v", ws)
	}

	// Somebody edits the row: the hash or a flag does not fit.
	for _, edit := range []struct {
		k        *byok.Keeper
		old, new string
	}{
		{k, `"version":"1.0"`, `"version":"2.0"`},
		{env.Keeper, `"acknowledge_no_liability":true`, `"acknowledge_no_liability":false`},
		{env.Keeper, `"acknowledge_data_loss_risk":true`, `"acknowledge_data_loss_risk":null`},
		{env.Keeper, `"sha256":"`, `"sha256":"00`},
	} {
		ref := byok.Ref{Partition: "tenant:acme", ID: "state"}
		item, err := env.Store.Get(t.Context(), ref)
		want(t, "Get", err, nil)
		whole := item.Value
		if item.Value = []byte(strings.Replace(string(whole), edit.old, edit.new, 1)); string(item.Value) == string(whole) {
			t.Fatalf("nothing to edit: %s", edit.old)
		}
		want(t, "Apply", env.Store.Apply(t.Context(), item), nil)
		ws, err := edit.k.Tenant("acme").WaiverStatus(t.Context())
		if want(t, "WaiverStatus", err, nil); ws.Acknowledged {
			t.Errorf("accepted an edited row: %s", edit.new)
		}
		item.Revision, item.Value = item.Revision+1, whole
		want(t, "Apply", env.Store.Apply(t.Context(), item), nil)
	}
	ws, err = env.Keeper.Tenant("acme").WaiverStatus(t.Context())
	if want(t, "WaiverStatus", err, nil); !ws.Acknowledged {
		t.Errorf("the unedited row does not count: %+v", ws)
	}
	_, err = k.Tenant("acme").AcknowledgeWaiver(t.Context(), accepted)
	want(t, "AcknowledgeWaiver", err, nil)
	_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
	want(t, "Seal", err, nil)

	// Under the next text the key goes on, with a warning.
	st, err = k2.Tenant("acme").Status(t.Context())
	want(t, "Status", err, nil)
	if st.Status != byok.StatusActive || st.WaiverAcknowledged || !slices.Contains(st.Warnings, byok.WarnWaiverOutdated) {
		t.Errorf("%+v", st)
	}
	acks, err := env.Store.List(t.Context(), "tenant:acme", "ack:", 10)
	if want(t, "List", err, nil); len(acks) < 2 || !strings.Contains(string(acks[0].Value), `"version":"1.0"`) {
		t.Errorf("the first acknowledgement is not kept: %+v", acks)
	}
}

// A waiver that is acknowledged first activates the key when it comes.
func TestWaiverBeforeRegistration(t *testing.T) {
	env := byoktest.New(t, nil)
	acme := env.Keeper.Tenant("acme")
	ws, err := acme.AcknowledgeWaiver(t.Context(), accepted)
	if want(t, "AcknowledgeWaiver", err, nil); !ws.Acknowledged {
		t.Fatalf("%+v", ws)
	}
	_, err = acme.Status(t.Context())
	want(t, "Status", err, byok.ErrNotRegistered)
	st, err := register(t, acme, env.CMK("acme"))
	if want(t, "Register", err, nil); st.Status != byok.StatusActive {
		t.Errorf("%+v", st)
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, err := env.Keeper.Tenant("nobody").Health(t.Context())
		want(t, "Health of nobody", err, byok.ErrNotRegistered)
		acme, cmk := env.Tenant("acme")
		check := func(what string, status byok.HealthStatus, accessible bool) byok.Health {
			t.Helper()
			h, err := acme.Health(t.Context())
			want(t, what, err, nil)
			if h.Status != status || h.CMKAccessible != accessible {
				t.Fatalf("%s: %s, accessible %v, checks %+v", what, h.Status, h.CMKAccessible, h.Checks)
			}
			return h
		}
		h := check("well", byok.Healthy, true)
		var names []string
		for _, c := range h.Checks {
			names = append(names, c.Name+":"+c.Status)
		}
		if got := fmt.Sprint(names); got != "[store:pass waiver:pass generate_data_key:pass decrypt:pass encrypt:pass describe_key:pass]" {
			t.Errorf("checks: %s", got)
		}
		if h.RevocationBound != byok.DefaultMaxAge || !h.LastEncryption.IsZero() {
			t.Errorf("%+v", h)
		}
		seal(t, env.Keeper, "acme", "x", "")
		if h := check("after a Seal", byok.Healthy, true); h.LastEncryption.IsZero() || !h.LastDecryption.IsZero() {
			t.Errorf("%+v", h)
		}
		restore := env.Fake.Outage()
		check("outage", byok.Degraded, false)
		st, _ := acme.Status(t.Context())
		if st.Status != byok.StatusActive || st.Access != byok.AccessDegraded {
			t.Errorf("%+v", st)
		}
		restore()
		check("outage over", byok.Healthy, true)
		cmk.Disable()
		check("disabled", byok.Unhealthy, false)
		cmk.Enable()
		cmk.ScheduleDeletion(7)
		if h := check("pending deletion", byok.Unhealthy, false); time.Until(h.DeletionAt) < 6*24*time.Hour || !slices.Contains(h.Warnings, byok.WarnPendingDeletion) {
			t.Errorf("%+v", h)
		}
		cmk.CancelDeletion()
		cmk.Enable()
		check("enabled", byok.Healthy, true) // a health call does not wait for the back-off, and ends it
		seal(t, env.Keeper, "acme", "x", "")
		_, err = acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		env.Fake.ResetCalls()
		check("suspended", byok.Unhealthy, false)
		if len(env.Fake.Calls()) != 0 {
			t.Error("KMS was asked for a suspended tenant")
		}
	})
}

// Recheck drops what this process has, and finds out.
func TestRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		cmk.Disable()
		st, err := acme.Recheck(t.Context())
		if want(t, "Recheck", err, nil); st.Status != byok.StatusDisabled || st.Access != byok.AccessBlocked {
			t.Errorf("%+v", st)
		}
		_, err = open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
		cmk.Enable()
		time.Sleep(2 * time.Second)
		st, err = acme.Recheck(t.Context())
		if want(t, "Recheck", err, nil); st.Status != byok.StatusActive {
			t.Errorf("%+v", st)
		}
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
		seal(t, env.Keeper, "acme", "x", "")
		_, err = acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		if n := env.Keeper.Stats().Leases; n != 0 {
			t.Errorf("%d leases after a Recheck", n)
		}
		seal(t, env.Keeper, "acme", "x", "")
		restore := env.Fake.Outage()
		defer restore()
		_, err = acme.Recheck(t.Context())
		want(t, "Recheck in an outage", err, byok.ErrKeyUnavailable)
		_, err = open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open after a Recheck that got no answer", err, byok.ErrKeyUnavailable)
	})
}
