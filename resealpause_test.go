package byok_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// An engine that calls Step says that it has to wait, and Tenant.Job tells of it until there is progress; the audit trail has one event for
// each time, however often it is said.
func TestResealPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 300)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{Shards: []string{recordKey(150)}}, nil)
		is := func(state byok.JobState, why string) {
			t.Helper()
			j, err := acme.Job(t.Context(), job.ID)
			if err != nil || j.State != state || j.Why != why {
				t.Errorf("%s (%s), %v; want %s (%s)", j.State, j.Why, err, state, why)
			}
		}
		events := func() (n int) {
			for _, e := range env.Audit.All() {
				if strings.HasSuffix(e.Reason, "is paused") {
					n++
				}
			}
			return n
		}
		cursor := ""
		for round := range 2 {
			for range 3 {
				want(t, "Pause", r.Pause(t.Context(), 0, fmt.Errorf("of a step: %w", byok.ErrKeyDenied)), nil)
				time.Sleep(time.Second)
			}
			is(byok.JobPaused, byok.Code(byok.ErrKeyDenied))
			if n := events(); n != round+1 {
				t.Errorf("%d events of %d pauses", n, round+1)
			}
			cursor, _, err = r.Step(t.Context(), 0, cursor)
			want(t, "Step", err, nil)
			want(t, "Checkpoint", r.Checkpoint(t.Context(), 0, cursor), nil)
			is(byok.JobRunning, "")
		}
		for _, shard := range []int{-1, 2} {
			want(t, "Pause", r.Pause(t.Context(), shard, byok.ErrStore), byok.ErrArgument)
		}
		want(t, "Pause", r.Pause(t.Context(), 0, nil), byok.ErrArgument)
		for done := false; !done; { // the other shard goes on
			cursor, done, err = r.Step(t.Context(), 0, cursor)
			want(t, "Step", err, nil)
			want(t, "Checkpoint", r.Checkpoint(t.Context(), 0, cursor), nil)
		}
		want(t, "Pause", r.Pause(t.Context(), 0, byok.ErrStore), nil)
		is(byok.JobRunning, "")
		_, err = acme.CancelJob(t.Context(), job.ID, "")
		want(t, "CancelJob", err, nil)
		want(t, "Pause", r.Pause(t.Context(), 1, byok.ErrStore), nil)
		is(byok.JobCancelled, "")
		if n := events(); n != 2 {
			t.Errorf("%d events of 2 pauses", n)
		}
	})
}
