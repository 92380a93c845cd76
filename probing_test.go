package byok_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// warnings collects what an Observer is warned of.
type warnings struct {
	mu  sync.Mutex
	all []byok.Warning
}

func (w *warnings) options() *byok.Options {
	return &byok.Options{Observer: &byok.Observer{Warning: func(tenant string, x byok.Warning) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, x)
	}}}
}

func (w *warnings) take() []byok.Warning {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.all
	w.all = nil
	return out
}

func probes(env *byoktest.Env) []byok.Event { return eventsOf(env, byok.OpProbe) }

// days lets so many days pass. The processes Run when something is due, and sleep
// the rest of the day: an idle second of theirs costs a test something, too.
func days(t *testing.T, n int, keepers ...*byok.Keeper) {
	for range n {
		time.Sleep(23*time.Hour + 50*time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, k := range keepers {
			wg.Go(func() { _ = k.Run(ctx) })
		}
		time.Sleep(3*time.Hour + 30*time.Minute)
		stop()
		wg.Wait()
	}
}

// Each active tenant is probed once a day, by one process of the fleet; no probe touches
// a lease (I4), and others than active tenants are left in peace.
func TestI4_DailyProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		suspended, _ := env.Tenant("suspended")
		_, err := suspended.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		removed, _ := env.Tenant("removed")
		_, err = removed.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		_, err = register(t, env.Keeper.Tenant("pending"), env.CMK("pending"))
		want(t, "Register", err, nil)
		fleet := []*byok.Keeper{env.NewKeeper(), env.NewKeeper()}
		env.Fake.ResetCalls()
		time.Sleep(12 * time.Hour)
		for range 12 {
			fleet[0].ProbeIfDue(t.Context(), "acme")
			time.Sleep(time.Hour - time.Second)
		}
		if len(env.Fake.Calls()) != 0 {
			t.Fatal("probed within a day")
		}
		days(t, 3, fleet...)
		all := probes(env)
		if len(all) != 3 {
			t.Fatalf("%d probes in 3 days", len(all))
		}
		for i, e := range all {
			if i > 0 && e.Time.Sub(all[i-1].Time) < 24*time.Hour {
				t.Errorf("probed again after %v", e.Time.Sub(all[i-1].Time))
			}
			if e.Scope.Tenant != "acme" || e.Outcome != byok.OutcomeSuccess || e.Reason != "policy bound" || len(e.Calls) != 8 {
				t.Errorf("%+v", e)
			}
		}
		st, err := env.Keeper.Tenant("acme").Status(t.Context())
		if want(t, "Status", err, nil); len(st.Warnings) != 0 || !st.LastValidatedAt.Equal(all[2].Time) {
			t.Errorf("status: %+v", st)
		}
		matchCalls(t, env, all)

		// A probe neither grants a lease nor ends one.
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := env.NewKeeper()
		mustOpen(t, k, "acme", sealed, "", "x")
		start := time.Now()
		restore := env.Fake.Inject(kmsfake.Fault{Operation: "Decrypt", Code: "KMSInternalException"})
		defer restore()
		for time.Since(start) < byok.DefaultMaxAge-time.Second {
			k.Probe(t.Context(), "acme")
			mustOpen(t, k, "acme", sealed, "", "x")
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		k.Probe(t.Context(), "acme")
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open after MaxAge", err, byok.ErrKeyUnavailable)
	})
}

// lazyStore takes a second for each write.
type lazyStore struct{ byok.Store }

func (s lazyStore) Apply(ctx context.Context, w ...byok.Item) error {
	time.Sleep(time.Second)
	return s.Store.Apply(ctx, w...)
}

// Two processes come by at the same time: one probes.
func TestProbeByOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Store: lazyStore{new(byok.MemStore)}})
		env.Tenant("acme")
		fleet := []*byok.Keeper{env.NewKeeper(), env.NewKeeper(), env.NewKeeper()}
		time.Sleep(30 * time.Hour)
		var wg sync.WaitGroup
		for _, k := range fleet {
			wg.Go(func() { k.ProbeIfDue(t.Context(), "acme") })
		}
		wg.Wait()
		if n := len(probes(env)); n != 1 {
			t.Errorf("%d probes, want 1", n)
		}
	})
}

// The policy is changed so that it lets the platform in for any tenant, and back.
func TestProbeFindsAnUnboundPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		env := byoktest.New(t, &byoktest.Options{Keeper: w.options()})
		acme, cmk := env.Tenant("acme")
		bound := cmk.Policy()
		fleet := []*byok.Keeper{env.NewKeeper(), env.NewKeeper()}
		warned := func() bool {
			st, err := acme.Status(t.Context())
			want(t, "Status", err, nil)
			return slices.Contains(st.Warnings, byok.WarnPolicyNotTenantBound)
		}
		cmk.SetPolicy(shortPolicy)
		days(t, 2, fleet...)
		if got := w.take(); !warned() || len(got) != 1 || got[0].Kind != byok.WarnPolicyNotTenantBound || got[0].Key.ID != cmk.ARN() {
			t.Errorf("status warns: %v; observer: %+v", warned(), got)
		}
		cmk.SetPolicy(bound)
		days(t, 1, fleet...)
		if warned() || len(w.take()) != 0 {
			t.Error("the warning stays although the policy is bound again")
		}
		// An unclear answer to a negative probe changes nothing.
		cmk.SetPolicy(shortPolicy)
		remove := env.Fake.Inject(kmsfake.Fault{Operation: "Encrypt", Code: "ThrottlingException", Skip: 1, Count: 6})
		days(t, 1, fleet...)
		if st, err := acme.Status(t.Context()); err != nil || len(st.Warnings) != 0 {
			t.Errorf("an unclear probe changed the binding: %v, %v", st.Warnings, err)
		}
		if last := probes(env); last[len(last)-1].Reason != "policy unknown" {
			t.Errorf("%+v", last[len(last)-1])
		}
		remove()
	})
}

// A probe that is denied what the tenant itself is granted is a denial.
func TestDeniedProbeIsADenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := env.NewKeeper()
		mustOpen(t, k, "acme", sealed, "", "x")
		cmk.Disable()
		days(t, 3, k)
		st, err := k.Tenant("acme").Status(t.Context())
		if want(t, "Status", err, nil); st.Status != byok.StatusDisabled || st.AccessClass != byok.ClassDenied || st.AccessSince.IsZero() {
			t.Errorf("%+v", st)
		}
		// What is known to be denied is not asked again: only DescribeKey is.
		all := probes(env)
		if len(all) != 3 || all[0].Outcome != byok.OutcomeDenied || len(all[0].Calls) != 2 || len(all[2].Calls) != 1 || all[2].Calls[0].Op != "DescribeKey" {
			t.Errorf("%+v", all)
		}
		cmk.Enable()
		mustOpen(t, k, "acme", sealed, "", "x")
	})
}

// A deletion that is pending is told every day, with the time that is left.
func TestPendingDeletionCountsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		env := byoktest.New(t, &byoktest.Options{Keeper: w.options()})
		acme, cmk := env.Tenant("acme")
		cmk.ScheduleDeletion(30)
		deletion := time.Now().Add(30 * 24 * time.Hour)
		for range 10 {
			h, err := acme.Health(t.Context())
			if want(t, "Health", err, nil); !h.DeletionAt.Equal(deletion) || !slices.Contains(h.Warnings, byok.WarnPendingDeletion) {
				t.Fatalf("health: %+v", h)
			}
			time.Sleep(time.Minute)
		}
		if got := w.take(); len(got) != 1 || got[0].Kind != byok.WarnPendingDeletion || !got[0].DeletionAt.Equal(deletion) || got[0].Left != 30*24*time.Hour {
			t.Errorf("after 10 questions: %+v", got)
		}
		st, err := acme.Status(t.Context())
		if want(t, "Status", err, nil); !st.DeletionAt.Equal(deletion) || !strings.Contains(st.Reason, deletion.UTC().Format(time.RFC3339)) {
			t.Errorf("%+v", st)
		}
		k := env.NewKeeper()
		days(t, 3, k)
		var left []time.Duration
		for _, x := range w.take() {
			if x.Kind != byok.WarnPendingDeletion {
				t.Errorf("%+v", x)
			}
			left = append(left, x.Left)
		}
		if len(left) != 3 || left[2] >= left[1]-24*time.Hour || left[1] >= left[0]-24*time.Hour {
			t.Errorf("time left: %v", left)
		}
		cmk.CancelDeletion()
		cmk.Enable()
		h, err := k.Tenant("acme").Health(t.Context())
		if want(t, "Health", err, nil); h.Status != byok.Healthy || !h.DeletionAt.IsZero() || !h.KeyStatus.DeletionAt.IsZero() {
			t.Errorf("%+v", h)
		}
		if got := w.take(); len(got) != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// The customer rotates its CMK: status and audit trail say so, once.
func TestKeyMaterialChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		env := byoktest.New(t, &byoktest.Options{Keeper: w.options()})
		acme, cmk := env.Tenant("acme")
		first := cmk.MaterialID()
		sealed := seal(t, env.Keeper, "acme", "x", "")
		st, err := acme.Status(t.Context())
		if want(t, "Status", err, nil); st.KeyMaterialID != first || st.KeyMaterialSince.IsZero() {
			t.Fatalf("%+v", st)
		}
		for name, do := range map[string]func() error{
			"Health":  func() error { _, err := acme.Health(t.Context()); return err },
			"Recheck": func() error { _, err := acme.Recheck(t.Context()); return err },
			"Rotate":  func() error { _, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); return err },
			"Seal": func() error {
				_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "new"}, nil, nil)
				return err
			},
			"probe": func() error { time.Sleep(time.Hour); env.Keeper.Probe(t.Context(), "acme"); return nil },
		} {
			time.Sleep(time.Minute)
			old := cmk.MaterialID()
			cmk.Rotate()
			mustOpen(t, env.Keeper, "acme", sealed, "", "x") // a Decrypt tells of the material of its ciphertext, and of no other
			time.Sleep(time.Minute)
			mustOpen(t, env.NewKeeper(), "acme", sealed, "", "x")
			if got := w.take(); len(got) != 0 {
				t.Fatalf("before %s: %+v", name, got)
			}
			want(t, name, do(), nil)
			want(t, name, do(), nil)
			got := w.take()
			if len(got) != 1 || got[0].Kind != byok.WarnKeyMaterialChanged || got[0].Material != cmk.MaterialID() || got[0].PreviousMaterial != old {
				t.Errorf("after %s: %+v", name, got)
			}
			page, err := acme.Audit(t.Context(), byok.AuditQuery{Op: byok.OpMaterial, Limit: 1})
			if want(t, "Audit", err, nil); !strings.Contains(page.Events[0].Reason, old) || !strings.Contains(page.Events[0].Reason, cmk.MaterialID()) {
				t.Errorf("%+v", page)
			}
		}
		st, err = acme.Status(t.Context())
		if want(t, "Status", err, nil); st.KeyMaterialID != cmk.MaterialID() {
			t.Errorf("%+v", st)
		}
		if n := len(eventsOf(env, byok.OpMaterial)); n != 5 {
			t.Errorf("%d events of 5 rotations", n)
		}
	})
}

func eventsOf(env *byoktest.Env, op byok.Op) (out []byok.Event) {
	for _, e := range env.Audit.All() {
		if e.Op == op {
			out = append(out, e)
		}
	}
	return out
}

// Many tenants are due at once: a process probes at most one a second.
func TestProbesAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		for i := range 40 {
			env.Tenant(fmt.Sprint("t", i))
		}
		time.Sleep(48 * time.Hour) // nobody Runs: all are overdue
		for range 2 {
			process(t, env)
		}
		time.Sleep(12 * time.Minute)
		all := probes(env)
		tenants, last := map[string]int{}, map[string]time.Time{}
		for _, e := range all {
			tenants[e.Scope.Tenant]++
			process := e.ID[len(e.ID)-12:]
			if d := e.Time.Sub(last[process]); d < time.Second {
				t.Errorf("a process probes again after %v", d)
			}
			last[process] = e.Time
		}
		if len(all) != 40 || len(tenants) != 40 {
			t.Errorf("%d probes of %d tenants, want 40 of 40", len(all), len(tenants))
		}
	})
}

// What Status says of access: what this process saw, since when, why, and by which request.
func TestStatusTellsOfAccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := env.NewKeeper()
		acme := k.Tenant("acme")
		check := func(access byok.Access, class byok.Class, since, proof time.Time) byok.KeyStatus {
			t.Helper()
			st, err := acme.Status(t.Context())
			if want(t, "Status", err, nil); st.Access != access || st.AccessClass != class || !st.AccessSince.Equal(since) || !st.LastProof.Equal(proof) {
				t.Fatalf("access %s, class %s, since %v, last proof %v; want %s, %s, %v, %v",
					st.Access, st.AccessClass, st.AccessSince, st.LastProof, access, class, since, proof)
			}
			return st
		}
		check(byok.AccessUnknown, 0, time.Time{}, time.Time{})
		time.Sleep(time.Hour)
		first := time.Now()
		mustOpen(t, k, "acme", sealed, "", "x")
		st := check(byok.AccessAccessible, 0, first, first)
		if calls := env.Fake.Calls(); st.LastProofRequestID == "" || st.LastProofRequestID != calls[len(calls)-1].RequestID {
			t.Errorf("last proof is request %q", st.LastProofRequestID)
		}
		time.Sleep(time.Hour)
		second := time.Now()
		mustOpen(t, k, "acme", sealed, "", "x")
		check(byok.AccessAccessible, 0, first, second)

		time.Sleep(time.Hour)
		restore := env.Fake.Outage()
		_, err := open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyUnavailable)
		degraded := time.Now()
		st, err = acme.Status(t.Context())
		if want(t, "Status", err, nil); st.Access != byok.AccessDegraded || st.AccessClass != byok.ClassOutage || degraded.Sub(st.AccessSince) > 10*time.Second {
			t.Errorf("%+v", st)
		}
		restore()

		time.Sleep(time.Hour)
		cmk.Disable()
		denied := time.Now()
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
		check(byok.AccessBlocked, byok.ClassDenied, denied, second)
		time.Sleep(time.Hour)
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
		check(byok.AccessBlocked, byok.ClassDenied, denied, second)
		_, err = acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		if st := check(byok.AccessBlocked, byok.ClassDenied, denied, second); !errors.Is(errStatus(st), byok.ErrSuspended) {
			t.Errorf("%+v", st)
		}
		_, err = acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		check(byok.AccessUnknown, 0, time.Time{}, second)
	})
}

func errStatus(st byok.KeyStatus) error {
	if strings.HasPrefix(st.Reason, "suspended") {
		return byok.ErrSuspended
	}
	return nil
}

// Most of a tenant's budget of KMS requests is used: the operator is told, once a minute.
func TestBudgetNearlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		env := byoktest.New(t, &byoktest.Options{Keeper: w.options()})
		acme, _ := env.Tenant("acme")
		purpose := 0
		burst := func(n int) []byok.Warning {
			for range n {
				purpose++
				_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint(purpose)}, nil, nil)
				want(t, "Seal", err, nil)
			}
			return w.take()
		}
		if got := burst(159); len(got) != 0 {
			t.Errorf("after 159 of 200 requests: %+v", got)
		}
		if got := burst(40); len(got) != 1 || got[0].Kind != byok.WarnBudgetNearlyUsed || got[0].Used != 0.8 {
			t.Errorf("after 199 of 200 requests: %+v", got)
		}
		h, err := acme.Health(t.Context())
		if want(t, "Health", err, nil); h.BudgetUsed != 0.995 {
			t.Errorf("BudgetUsed = %v", h.BudgetUsed)
		}
		time.Sleep(10 * time.Second)
		if got := burst(199); len(got) != 0 {
			t.Errorf("within the minute: %+v", got)
		}
		time.Sleep(time.Minute)
		if got := burst(199); len(got) != 1 {
			t.Errorf("after a minute: %+v", got)
		}
	})
}
