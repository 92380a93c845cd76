package byok_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// A generation that is old enough is followed by the next one, once in the whole fleet, a tenth of its age early at most; one that
// KMS denies is left as it is.
func TestScheduleByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age = 5 * time.Hour
		env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{Schedule: byok.Schedule{Age: age}})})
		acme, cmk := env.Tenant("acme")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 2 {
			k := env.NewKeeper()
			go func() { _ = k.Run(ctx) }()
		}
		version := func() uint64 {
			t.Helper()
			s, err := acme.Status(ctx)
			want(t, "Status", err, nil)
			return s.DEKVersion
		}
		if time.Sleep(age + age/2); version() != 1 {
			t.Errorf("version %d of no data key", version())
		}
		sealed := seal(t, env.Keeper, "acme", "hello", "")
		time.Sleep(time.Hour) // the first one is overdue
		for n := uint64(2); n < 4; n++ {
			s, err := acme.Status(ctx)
			want(t, "Status", err, nil)
			if s.DEKVersion != n {
				t.Fatalf("version %d, want %d", s.DEKVersion, n)
			}
			if time.Sleep(time.Until(s.LastRotationAt.Add(age * 89 / 100))); version() != n {
				t.Errorf("version %d after 89 %% of the age, want %d", version(), n)
			}
			time.Sleep(time.Until(s.LastRotationAt.Add(age + 11*time.Minute))) // and until somebody has looked
		}
		mustOpen(t, env.Keeper, "acme", sealed, "", "hello")
		matchCalls(t, env, env.Audit.All())
		cmk.Disable()
		v := version()
		if time.Sleep(age + age/2); version() != v {
			t.Errorf("rotated while KMS denies: version %d", version())
		}
		cancel()
	})
}

// Several processes find at the same moment that a generation is too old, and each asks KMS before any of them has written
// anything. One rotation comes of it, and every request stands in the audit log.
func TestSchedule_ProcessesThatMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age, processes = 5 * time.Hour, 4
		o := quietly(byok.Options{Schedule: byok.Schedule{Age: age}})
		env := byoktest.New(t, &byoktest.Options{Keeper: o})
		acme, _ := env.Tenant("acme")
		var keepers []*byok.Keeper
		for range processes {
			keepers = append(keepers, env.NewKeeper())
		}
		sealed := seal(t, env.Keeper, "acme", "hello", "")
		env.Fake.Latency(time.Second)
		for round := range uint64(3) {
			time.Sleep(age)
			before := len(env.Fake.Calls())
			var wg sync.WaitGroup
			for _, k := range keepers {
				wg.Go(func() { k.RotateIfDue(t.Context(), "acme") })
			}
			wg.Wait()
			if asked := operationsOf(env.Fake, before)["GenerateDataKey"]; asked != processes {
				t.Errorf("%d processes met: this shows nothing", asked)
			}
			s, err := acme.Status(t.Context())
			if err != nil || s.DEKVersion != round+2 {
				t.Errorf("version %d after %d rotations, %v", s.DEKVersion, round+1, err)
			}
		}
		n := uint64(0)
		for j, err := range acme.Jobs(t.Context()) {
			want(t, "Jobs", err, nil)
			if n++; j.PreviousVersion != n || j.NewVersion != n+1 {
				t.Errorf("%+v", j)
			}
		}
		if n != 3 {
			t.Errorf("%d rotations in the history", n)
		}
		mustOpen(t, env.Keeper, "acme", sealed, "", "hello")
		matchCalls(t, env, env.Audit.All())
	})
}

// A generation is due at its age at the latest, whatever chance says, and a tenth of it before that at the earliest; once it is due it
// stays so, and tenants that came together do not come together again.
func TestSchedule_NeverLaterThanTheAge(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, age := range []time.Duration{time.Hour, 24 * time.Hour, 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		var quarters [4]int
		for i := range 400 {
			tenant := fmt.Sprint("t", i)
			for _, tt := range []struct {
				at  time.Duration
				due bool
			}{{0, false}, {age / 2, false}, {age - age/10 - 1, false}, {age, true}, {age + 1, true}, {2 * age, true}} {
				if got := byok.RotationDue(tenant, age, began, began.Add(tt.at)); got != tt.due {
					t.Fatalf("%s: due at %v of %v: %v", tenant, tt.at, age, got)
				}
			}
			was := false
			for q := range 4 {
				due := byok.RotationDue(tenant, age, began, began.Add(age-age/10+time.Duration(q+1)*age/40))
				if was && !due {
					t.Fatalf("%s is not due any more", tenant)
				}
				if due && !was {
					quarters[q]++
				}
				was = due
			}
		}
		for q, n := range quarters {
			if n < 50 { // of 100; what chance says is a hash, so this is always the same
				t.Errorf("age %v: %d of 400 tenants in quarter %d of the tenth", age, n, q)
			}
		}
	}
}

// A data key seals no more than the schedule says, and up to a tenth less; rotations by use stand in the history.
func TestScheduleByUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{Schedule: byok.Schedule{Messages: 1000}}})
		acme, _ := env.Tenant("acme")
		const n = 5000
		used := map[byok.DataKeyID]int{}
		for i := range n {
			h, err := byok.Inspect(seal(t, env.Keeper, "acme", fmt.Sprint(i), ""))
			want(t, "Inspect", err, nil)
			used[h.DataKey]++
			if i%100 == 0 {
				synctest.Wait() // what is done in the background
			}
		}
		if len(used) < 5 || len(used) > 7 {
			t.Errorf("%d data keys for %d messages", len(used), n)
		}
		full := 0
		for id, m := range used {
			if m > 1000 {
				t.Errorf("%s sealed %d messages", id, m)
			}
			if m >= 880 {
				full++
			}
		}
		if full != len(used)-1 { // the newest is under way
			t.Errorf("messages by data key: %v", used)
		}
		done := 0
		for j, err := range acme.Jobs(t.Context()) {
			want(t, "Jobs", err, nil)
			if j.Type != byok.RotateDEK || j.State != byok.JobDone || j.NewVersion != j.PreviousVersion+1 || j.Reason == "" {
				t.Errorf("%+v", j)
			}
			done++
		}
		if done != len(used)-1 {
			t.Errorf("%d rotations in the history, for %d data keys", done, len(used))
		}
	})
	for name, s := range map[string]byok.Schedule{
		"young": {Age: time.Minute}, "old": {Age: 20 * 365 * 24 * time.Hour}, "negative": {Age: -1}, "few": {Messages: 999}, "many": {Messages: 1<<32 + 1},
		"small": {Bytes: 1<<20 - 1}, "large": {Bytes: 1<<48 + 1},
	} {
		env := byoktest.New(t, nil)
		if _, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{Schedule: s}); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
