package byok_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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

// keysOf are the CMKs that KMS was asked about with the tenant's context, after the first n calls.
func keysOf(fake *kmsfake.KMS, tenant string, n int) map[string]int {
	out := map[string]int{}
	for _, c := range fake.Calls()[n:] {
		if c.EncryptionContext[byok.ContextTenant] == tenant {
			if out[c.KeyARN]++; c.DestinationKeyARN != "" && c.DestinationKeyARN != c.KeyARN {
				out[c.DestinationKeyARN]++
			}
		}
	}
	return out
}

func registration(cmk *kmsfake.Key) byok.Registration {
	return byok.Registration{Key: awskms.Key(cmk.ARN())}
}

// A tenant that never registered a key seals under the platform's, and says so wherever it is asked. It registers one of its own
// while it works, and from then on the platform's key is asked nothing any more.
func TestPlatformTenant(t *testing.T) {
	for _, granted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var warned []byok.Warning
			env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: &byok.Options{Observer: &byok.Observer{
				Warning: func(_ string, w byok.Warning) { warned = append(warned, w) }}}})
			k, acme := env.Keeper, env.Keeper.Tenant("acme")
			platform := awskms.Key(env.PlatformCMK.ARN())
			_, err := acme.Status(t.Context())
			want(t, "Status", err, byok.ErrNotRegistered)
			const n = 20
			all := sealMany(t, k, n)
			all.open(t, env.NewKeeper())
			s, err := acme.Status(t.Context())
			want(t, "Status", err, nil)
			if s.Status != byok.StatusPlatform || !s.PlatformKey || s.Key != platform || s.DataKeys != n || s.WaiverAcknowledged || s.Warnings != nil || s.Job != "" || s.DEKVersion != 1 || s.CreatedAt.IsZero() {
				t.Errorf("%+v", s)
			}
			h, err := acme.Health(t.Context())
			want(t, "Health", err, nil)
			if h.Status != byok.Healthy || h.KeyStatus.Status != byok.StatusPlatform || slices.ContainsFunc(h.Checks, func(c byok.Check) bool { return c.Name == "waiver" }) {
				t.Errorf("%+v", h)
			}
			for tenant, err := range k.Tenants(t.Context()) {
				if err != nil || tenant != "acme" {
					t.Errorf("%s, %v", tenant, err)
				}
			}
			underOnly(t, env, env.PlatformCMK)

			cmk := env.CMK("acme")
			if granted {
				mayReEncrypt(env.PlatformCMK, cmk)
			}
			_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
			want(t, "AcknowledgeWaiver", err, nil)
			s, err = acme.Register(t.Context(), byok.Registration{Key: awskms.Key(cmk.ARN()), Alias: "ours", Description: "own", Drillable: true})
			want(t, "Register", err, nil)
			if s.Status != byok.StatusPlatform || s.Key != platform || s.MovingTo.ID != cmk.ARN() || s.Job == "" || s.Alias != "" {
				t.Errorf("while it moves: %+v", s)
			}
			again, err := acme.Register(t.Context(), registration(cmk))
			want(t, "Register again", err, nil)
			if again.Job != s.Job {
				t.Errorf("another job: %+v", again)
			}
			_, err = acme.Register(t.Context(), registration(env.CMK("acme")))
			want(t, "Register another", err, byok.ErrJobRunning)
			seal(t, k, "acme", "x", "") // under the platform's key still, and one more data key
			last := finish(t, acme, s.Job)
			if last.State != byok.JobDone || last.Done != n+1 || last.From != platform || last.To.ID != cmk.ARN() || last.PreviousVersion != 1 || last.NewVersion != 2 {
				t.Errorf("%+v", last)
			}
			mark := len(env.Fake.Calls())
			s, err = acme.Status(t.Context())
			want(t, "Status", err, nil)
			if s.Status != byok.StatusActive || s.PlatformKey || s.Key.ID != cmk.ARN() || s.OnceElsewhere != n+1 || s.DEKVersion != 2 || s.MovingTo != (byok.KeyID{}) || s.Job != "" ||
				s.Alias != "ours" || s.Description != "own" || !s.Drillable || fmt.Sprint(s.Warnings) != "[data_keys_once_wrapped_elsewhere]" || s.LastRotationAt.IsZero() {
				t.Errorf("after the switch: %+v", s)
			}
			if len(warned) != 1 || warned[0].Kind != byok.WarnDataKeysOnceElsewhere || warned[0].DataKeys != n+1 || warned[0].Key.ID != cmk.ARN() {
				t.Errorf("warned %+v", warned)
			}
			underOnly(t, env, cmk)
			env.PlatformCMK.Disable()
			other := env.NewKeeper()
			all.open(t, k)
			all.open(t, other)
			sealed := seal(t, other, "acme", "new", "")
			h, err = acme.Health(t.Context())
			want(t, "Health", err, nil)
			if !slices.Contains(h.Warnings, byok.WarnDataKeysOnceElsewhere) || h.KeyStatus.OnceElsewhere != n+1 {
				t.Errorf("%+v", h)
			}
			// What is sealed now is under a data key that the platform's key never wrapped.
			newest, err := byok.Inspect(sealed)
			want(t, "Inspect", err, nil)
			for _, e := range env.Audit.All() {
				if e.DataKey == newest.DataKey && e.Key == platform {
					t.Errorf("%+v", e)
				}
			}
			cmk.Disable()
			time.Sleep(2 * time.Minute)
			if _, err := open(t, other, "acme", sealed, ""); !errors.Is(err, byok.ErrKeyDenied) {
				t.Errorf("its own CMK denies: %v", err)
			}
			env.PlatformCMK.Enable()
			_, err = acme.Revoke(t.Context(), "")
			want(t, "Revoke", err, nil)
			for _, k := range []*byok.Keeper{k, other, env.NewKeeper()} {
				if _, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil); !errors.Is(err, byok.ErrKeyRevoked) {
					t.Errorf("Seal after Revoke: %v", err)
				}
			}
			_, err = acme.Register(t.Context(), byok.Registration{Key: platform})
			want(t, "Register the platform's key", err, byok.ErrKeyTaken)
			if keys := keysOf(env.Fake, "acme", mark); keys[env.PlatformCMK.ARN()] != 0 || keys[cmk.ARN()] == 0 {
				t.Errorf("KMS was asked about %v", keys)
			}
			matchCalls(t, env, env.Audit.All())
		})
	}
}

// Without PlatformKeys nothing is as it would be with them, also for tenants of another Keeper's platform key.
func TestPlatformKeyNotGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		sealed := seal(t, env.Keeper, "acme", "x", "")
		none := env.NewPlatformCMK()
		for _, keys := range [][]byok.KeyID{nil, {awskms.Key(none.ARN())}} {
			for _, perOperation := range []bool{false, true} {
				k, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PlatformKeys: keys, PerOperation: perOperation})
				want(t, "New", err, nil)
				defer k.Close()
				mark := len(env.Fake.Calls())
				_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
				want(t, "Seal", err, byok.ErrNotRegistered)
				_, err = open(t, k, "acme", sealed, "")
				want(t, "Open", err, byok.ErrNotRegistered)
				_, err = k.Tenant("acme").Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
				want(t, "Rotate", err, byok.ErrNotRegistered)
				_, err = k.Tenant("acme").Register(t.Context(), registration(env.CMK("acme")))
				want(t, "Register", err, byok.ErrNotRegistered)
				_, err = k.Tenant("acme").Recheck(t.Context())
				want(t, "Recheck", err, byok.ErrNotRegistered)
				h, err := k.Tenant("acme").Health(t.Context())
				want(t, "Health", err, nil)
				s := h.KeyStatus
				if h.Status != byok.Unhealthy || s.Status != byok.StatusDisabled || !s.PlatformKey || !strings.Contains(s.Reason, "not given") {
					t.Errorf("%+v", h)
				}
				if len(keys) == 0 {
					_, err = k.Seal(t.Context(), byok.Scope{Tenant: "nobody"}, nil, nil)
					want(t, "Seal of nobody", err, byok.ErrNotRegistered)
				}
				if len(env.Fake.Calls()) != mark {
					t.Errorf("KMS was asked about %v", env.Fake.Calls()[mark:])
				}
				_, err = k.Tenant("acme").Suspend(t.Context(), "") // stop always stops
				want(t, "Suspend", err, nil)
				_, err = open(t, env.Keeper, "acme", sealed, "")
				for range 70 { // within MaxAge
					if _, err = open(t, env.Keeper, "acme", sealed, ""); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				want(t, "Open of a suspended tenant", err, byok.ErrSuspended)
				_, err = k.Tenant("acme").Resume(t.Context(), "")
				want(t, "Resume", err, nil)
				mustOpen(t, env.NewKeeper(), "acme", sealed, "", "x")
			}
		}
	})
}

// An Open makes nothing, of whomever.
func TestPlatformKeyIsForSealers(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Platform: true})
	_, acme := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	_ = acme
	direct, err := byok.NewDirect(byoktest.Service, env.Keys, awskms.Key(env.PlatformCMK.ARN()), env.Audit)
	want(t, "NewDirect", err, nil)
	carried, err := direct.Seal(t.Context(), byok.Scope{Tenant: "nobody"}, []byte("x"), nil)
	want(t, "Direct.Seal", err, nil)
	tenants := func() string {
		items, err := env.Store.List(t.Context(), "tenants", "", 100)
		want(t, "List", err, nil)
		return fmt.Sprint(items)
	}
	before, mark := tenants(), len(env.Fake.Calls())
	_, err = env.Keeper.Open(t.Context(), byok.Scope{Tenant: "nobody"}, carried, nil)
	want(t, "Open", err, byok.ErrNotRegistered)
	_, err = env.Keeper.Rewrap(t.Context(), byok.Scope{Tenant: "nobody"}, carried)
	want(t, "Rewrap", err, byok.ErrNotRegistered)
	_, err = env.Keeper.Open(t.Context(), byok.Scope{Tenant: "nobody"}, sealed, nil)
	want(t, "Open", err, byok.ErrOpen)
	for _, f := range []func(*byok.Tenant) error{
		func(a *byok.Tenant) error { _, err := a.Status(t.Context()); return err },
		func(a *byok.Tenant) error { _, err := a.Health(t.Context()); return err },
		func(a *byok.Tenant) error { _, err := a.Recheck(t.Context()); return err },
		func(a *byok.Tenant) error {
			_, err := a.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
			return err
		},
		func(a *byok.Tenant) error { _, err := a.Revoke(t.Context(), ""); return err },
		func(a *byok.Tenant) error { _, err := a.Resume(t.Context(), ""); return err },
		func(a *byok.Tenant) error {
			_, err := a.Move(t.Context(), awskms.Key(env.CMK("nobody").ARN()), "")
			return err
		},
		func(a *byok.Tenant) error {
			_, err := a.Move(t.Context(), awskms.Key(env.PlatformCMK.ARN()), "")
			return err
		},
	} {
		want(t, "of nobody", f(env.Keeper.Tenant("nobody")), byok.ErrNotRegistered)
	}
	if got := tenants(); got != before || len(env.Fake.Calls()) != mark {
		t.Errorf("%s\n%s, and %d requests", before, got, len(env.Fake.Calls())-mark)
	}
	// Suspended before it ever sealed, it does not.
	s, err := env.Keeper.Tenant("nobody").Suspend(t.Context(), "")
	want(t, "Suspend", err, nil)
	if s.Status != byok.StatusDisabled || !s.PlatformKey {
		t.Errorf("%+v", s)
	}
	_, err = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "nobody"}, nil, nil)
	want(t, "Seal", err, byok.ErrSuspended)
	if len(env.Fake.Calls()) != mark {
		t.Error("KMS was asked")
	}
}

// The platform's key is a key like any other: a denial blocks at once, an outage when the lease has ended, and both end by themselves.
// Nobody gets another one for it.
func TestPlatformKeyDenied(t *testing.T) {
	for _, perOperation := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: &byok.Options{PerOperation: perOperation}})
			k, acme := env.Keeper, env.Keeper.Tenant("acme")
			sealed := seal(t, k, "acme", "x", "")
			env.PlatformCMK.Disable()
			_, err := acme.Recheck(t.Context())
			want(t, "Recheck", err, nil)
			for _, tenant := range []string{"acme", "another"} { // who never sealed, too
				_, err = k.Seal(t.Context(), byok.Scope{Tenant: tenant}, nil, nil)
				want(t, "Seal", err, byok.ErrKeyDenied)
			}
			_, err = open(t, k, "acme", sealed, "")
			want(t, "Open", err, byok.ErrKeyDenied)
			s, err := acme.Status(t.Context())
			want(t, "Status", err, nil)
			if s.Status != byok.StatusDisabled || !s.PlatformKey || !strings.Contains(s.Reason, "platform's key") {
				t.Errorf("%+v", s)
			}
			// Its own key cannot be registered either, as the data keys could not come along: nothing changes.
			if !perOperation {
				_, err = acme.Register(t.Context(), registration(env.CMK("acme")))
				want(t, "Register", err, byok.ErrKeyDenied)
			}
			env.PlatformCMK.Enable()
			time.Sleep(time.Minute)
			mustOpen(t, k, "acme", sealed, "", "x")
			over := env.Fake.Inject(kmsfake.Fault{Code: "KMSInternalException"})
			time.Sleep(2 * time.Minute)
			_, err = open(t, k, "acme", sealed, "")
			want(t, "Open in an outage", err, byok.ErrKeyUnavailable)
			_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
			want(t, "Seal in an outage", err, byok.ErrKeyUnavailable)
			over()
			time.Sleep(time.Minute)
			mustOpen(t, k, "acme", sealed, "", "x")
			matchCalls(t, env, env.Audit.All())
		})
	}
}

// The platform's CMK is nobody's: not in a Keeper that knows it, nor in one that does not, nor as one of several. What is
// said is what is said of another tenant's.
func TestPlatformKeyIsNobodys(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: &byok.Options{AllowUnboundPolicy: true, AllowAnyKeyToOpenAlone: true}})
	platform := awskms.Key(env.PlatformCMK.ARN())
	_, err := env.Keeper.Tenant("first").Register(t.Context(), byok.Registration{Key: platform}) // nobody is under it yet
	if err != byok.ErrKeyTaken || len(env.Fake.Calls()) != 0 {
		t.Errorf("%v, and %d requests", err, len(env.Fake.Calls()))
	}
	seal(t, env.Keeper, "somebody", "x", "")
	acme, own := env.Tenant("acme")
	_, err = acme.Move(t.Context(), platform, "")
	if !errors.Is(err, byok.ErrKeyTaken) || err.Error() != byok.ErrKeyTaken.Error() {
		t.Errorf("Move: %v", err)
	}
	_, err = acme.Revoke(t.Context(), "")
	want(t, "Revoke", err, nil)
	unaware, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{AllowUnboundPolicy: true, AllowAnyKeyToOpenAlone: true})
	want(t, "New", err, nil)
	defer unaware.Close()
	for _, r := range []byok.Registration{
		{Key: platform},
		{Key: awskms.Key(own.ARN()), Others: []byok.KeyID{platform}, Policy: byok.PolicyAll},
		{Key: awskms.Key(own.ARN()), Others: []byok.KeyID{platform}, Policy: byok.PolicyAny},
		{Key: platform, Others: []byok.KeyID{awskms.Key(own.ARN())}, Policy: byok.PolicyAll},
	} {
		for _, k := range []*byok.Keeper{env.Keeper, unaware} {
			for _, tenant := range []string{"acme", "new", "somebody"} {
				mark := len(env.Fake.Calls())
				_, err := k.Tenant(tenant).Register(t.Context(), r)
				if !errors.Is(err, byok.ErrKeyTaken) && !errors.Is(err, byok.ErrKeyDenied) && !errors.Is(err, byok.ErrNotRegistered) && !errors.Is(err, byok.ErrArgument) || strings.Contains(err.Error(), "platform") && k == env.Keeper {
					t.Errorf("%s: %v", tenant, err)
				}
				if k == env.Keeper && (err != byok.ErrKeyTaken || len(env.Fake.Calls()) != mark) {
					t.Errorf("%s: %v, and %d requests", tenant, err, len(env.Fake.Calls())-mark)
				}
			}
		}
	}
	// And the other way round: what is a tenant's is not used for others.
	theirs := env.Fake.Account(byoktest.Account).CreateKey(strings.ReplaceAll(env.PlatformCMK.Policy(), "999999999999:root", byoktest.Account+":root"))
	_, err = unaware.Tenant("owner").Register(t.Context(), registration(theirs))
	want(t, "Register", err, nil)
	_, err = unaware.Tenant("owner").AcknowledgeWaiver(t.Context(), accepted)
	want(t, "AcknowledgeWaiver", err, nil)
	sealed := seal(t, unaware, "owner", "x", "")
	k, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PlatformKeys: []byok.KeyID{awskms.Key(theirs.ARN())}})
	want(t, "New", err, nil)
	defer k.Close()
	mark := len(env.Fake.Calls())
	for _, f := range []func() error{
		func() error { _, err := k.Seal(t.Context(), byok.Scope{Tenant: "third"}, nil, nil); return err },
		func() error { _, err := k.Seal(t.Context(), byok.Scope{Tenant: "owner"}, nil, nil); return err },
		func() error { _, err := k.Open(t.Context(), byok.Scope{Tenant: "owner"}, sealed, nil); return err },
		func() error { _, err := k.Tenant("third").Suspend(t.Context(), ""); return err },
	} {
		want(t, "under a tenant's CMK", f(), byok.ErrPlatform)
	}
	if len(env.Fake.Calls()) != mark {
		t.Error("KMS was asked")
	}
}

// A tenant whose state the Store has lost is not a new one.
func TestPlatformKeyNotForTheForgotten(t *testing.T) {
	for i, lost := range [][]string{{"state"}, {"state"}, {"state", "tenants"}} {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		if i > 0 {
			seal(t, env.Keeper, "acme", "x", "")
		}
		cmk := env.NewPlatformCMK()
		store := &forgetful{env.Store, lost}
		k, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, &byok.Options{PlatformKeys: []byok.KeyID{awskms.Key(cmk.ARN())}})
		want(t, "New", err, nil)
		defer k.Close()
		mark := len(env.Fake.Calls())
		_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
		want(t, "Seal", err, byok.ErrStore)
		_, err = k.Tenant("acme").Suspend(t.Context(), "")
		want(t, "Suspend", err, byok.ErrStore)
		if !strings.Contains(err.Error(), "lost") || len(env.Fake.Calls()) != mark {
			t.Errorf("%v, and %d requests", err, len(env.Fake.Calls())-mark)
		}
	}
}

// forgetful is a Store that has lost items: by id, or by partition.
type forgetful struct {
	byok.Store
	lost []string
}

func (f *forgetful) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if slices.Contains(f.lost, r.ID) || slices.Contains(f.lost, r.Partition) {
		return byok.Item{}, byok.ErrNotFound
	}
	return f.Store.Get(ctx, r)
}

// A Store that has been rolled back makes nobody new: not for who noticed, nor for who stops.
func TestPlatformKeyOnARolledBackStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &backupStore{inner: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store, Platform: true, Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
		parts := []string{"tenant:acme", "tenants", "cmk", "changes"}
		env.Tenant("first")
		k := process(t, env)
		time.Sleep(2 * time.Second)
		backup := copyStore(t, store.now(), parts...)
		acme, _ := env.Tenant("acme")
		seal(t, env.Keeper, "acme", "x", "")
		seal(t, k, "acme", "x", "")
		time.Sleep(2 * time.Second)
		store.swap(backup)
		time.Sleep(2 * time.Second)
		mark := len(env.Fake.Calls())
		for _, tenant := range []string{"acme", "new"} {
			_, err := k.Seal(t.Context(), byok.Scope{Tenant: tenant}, nil, nil)
			want(t, "Seal", err, byok.ErrStore)
			_, err = k.Tenant(tenant).Suspend(t.Context(), "")
			want(t, "Suspend", err, byok.ErrStore)
		}
		_, err := acme.Suspend(t.Context(), "") // by a process that does not follow changes, but has seen this tenant
		want(t, "Suspend", err, byok.ErrStore)
		if items, err := backup.List(t.Context(), "tenant:acme", "", 10); err != nil || len(items) > 0 || len(env.Fake.Calls()) != mark {
			t.Errorf("%v, %v, and %d requests", items, err, len(env.Fake.Calls())-mark)
		}
	})
}

// The platform's CMK is not probed for its tenants: it lets us in for all of them.
func TestPlatformKeyIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		seal(t, env.Keeper, "acme", "x", "")
		mark := len(env.Fake.Calls())
		days(t, 2, env.Keeper)
		if s, err := env.Keeper.Tenant("acme").Status(t.Context()); err != nil || s.Warnings != nil || len(env.Fake.Calls()) != mark {
			t.Errorf("%+v, %v, and %d requests", s, err, len(env.Fake.Calls())-mark)
		}
	})
}

// A state that no command leaves is damage, and not an instruction.
func TestPlatformStateOutOfOrder(t *testing.T) {
	for _, edit := range []func(map[string]any){
		func(m map[string]any) { m["platform"] = true },
		func(m map[string]any) { m["lifecycle"] = "platform" },
		func(m map[string]any) { m["lifecycle"], m["platform"] = "pending_waiver", true },
		func(m map[string]any) { m["lifecycle"], m["platform"] = "platform", true; delete(m, "key") },
	} {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		env.Tenant("acme")
		k := env.NewKeeper()
		item, err := env.Store.Get(t.Context(), byok.Ref{Partition: "tenant:acme", ID: "state"})
		want(t, "Get", err, nil)
		var m map[string]any
		want(t, "Unmarshal", json.Unmarshal(item.Value, &m), nil)
		edit(m)
		item.Value, err = json.Marshal(m)
		want(t, "Marshal", err, nil)
		want(t, "Apply", env.Store.Apply(t.Context(), item), nil)
		mark := len(env.Fake.Calls())
		_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
		if !errors.Is(err, byok.ErrStore) || len(env.Fake.Calls()) != mark {
			t.Errorf("%v: %v, and %d requests", m, err, len(env.Fake.Calls())-mark)
		}
	}
}
