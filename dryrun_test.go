package byok_test

import (
	"testing"
	"testing/synctest"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// A dry run counts what a job would, and leaves no trace: no job, no event, nothing in the Store.
func TestCensusOfAResealingThatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 30)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		fill(t, env.Keeper, s, 30, 20)
		s.write(recordKey(50), []byte("in clear"), true)
		s.write(recordKey(51), []byte("junk"), false)
		events := func() int {
			page, err := env.Audit.Events(t.Context(), "acme", byok.AuditQuery{})
			want(t, "Events", err, nil)
			return len(page.Events)
		}
		before, calls := events(), len(env.Fake.Calls())
		for _, c := range []struct {
			what    string
			r       byok.Resealing
			due     int64
			refused error
		}{
			{"since the rotation", byok.Resealing{}, 30, nil},
			{"with adoption", byok.Resealing{Adopt: true}, 31, nil},
			{"an older generation", byok.Resealing{Generation: 1}, 0, nil},
			{"after a compromise", byok.Resealing{Reason: byok.ReasonCompromise}, 50, nil},
			{"a generation that is not there", byok.Resealing{Generation: 99}, 0, byok.ErrArgument},
		} {
			c.r.Source = "invoices"
			census, err := acme.Census(t.Context(), c.r, s, nil)
			want(t, c.what, err, c.refused)
			if err == nil && (census.Due != c.due || census.Records != 52 || census.Clear != 1 || census.Malformed != 1) {
				t.Errorf("%s: %+v", c.what, census)
			}
		}
		if events() != before || len(env.Fake.Calls()) != calls {
			t.Error("a dry run left events, or asked KMS")
		}
		for j, err := range acme.Jobs(t.Context()) {
			want(t, "Jobs", err, nil)
			if j.Type == byok.JobReseal {
				t.Errorf("a dry run began a job: %+v", j)
			}
		}
		_, err = acme.Census(t.Context(), byok.Resealing{Source: "invoices"}, nil, nil)
		want(t, "no Source", err, byok.ErrArgument)
		_, err = env.Keeper.Tenant("nobody").Census(t.Context(), byok.Resealing{Source: "invoices"}, s, nil)
		want(t, "no tenant", err, byok.ErrNotRegistered)
	})
}
