package byok_test

import (
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// The mark is durable, is seen by other processes, and every setting of it is in
// the tenant's log.
func TestDrillableIsKeptAndAudited(t *testing.T) {
	env := byoktest.New(t, nil)
	ctx := byok.WithActor(t.Context(), "operator")
	_, err := env.Keeper.Tenant("acme").SetDrillable(ctx, true, "")
	want(t, "before a registration", err, byok.ErrNotRegistered)
	acme, cmk := env.Tenant("acme")
	elsewhere := env.NewKeeper().Tenant("acme")
	is := func(when string, want bool) {
		t.Helper()
		st, err := elsewhere.Status(ctx)
		if err != nil || st.Drillable != want {
			t.Errorf("%s: drillable %v, %v; want %v", when, st.Drillable, err, want)
		}
	}
	is("registered without", false)
	st, err := acme.SetDrillable(ctx, true, "agreed with acme")
	if want(t, "set", err, nil); !st.Drillable {
		t.Error("the status that was returned does not have it")
	}
	is("set", true)
	_, err = acme.SetDrillable(ctx, true, "again") // changes nothing, and is an event all the same
	want(t, "again", err, nil)
	_, err = acme.SetDrillable(ctx, false, "")
	want(t, "unset", err, nil)
	is("unset", false)
	_, err = acme.SetDrillable(ctx, true, "control\x07")
	want(t, "a control character", err, byok.ErrArgument)
	_, err = acme.SetDrillable(ctx, true, strings.Repeat("x", 1025))
	want(t, "a long reason", err, byok.ErrArgument)
	is("refused", false)

	_, err = acme.Revoke(ctx, "")
	want(t, "Revoke", err, nil)
	_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN()), Drillable: true})
	want(t, "Register", err, nil)
	is("registered with", true)

	page, err := env.Audit.Events(ctx, "acme", byok.AuditQuery{Op: byok.OpDrillable})
	want(t, "Events", err, nil)
	var said []string
	for _, e := range page.Events {
		if e.Outcome == byok.OutcomeSuccess && e.Actor == "operator" && e.Key.ID == cmk.ARN() {
			said = append(said, e.Reason)
		}
	}
	if got := strings.Join(said, "; "); got != "drills may not block this tenant; drills may block this tenant: again; drills may block this tenant: agreed with acme" {
		t.Errorf("events: %s", got)
	}
}
