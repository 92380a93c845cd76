package byok_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// runJob works at a job as far as it goes.
func runJob(ctx context.Context, acme *byok.Tenant, id string) (last byok.Job, err error) {
	for last, err = range acme.RunJob(ctx, id) {
	}
	return last, err
}

// With nothing to move a registration is what it always was: at once, pending without a waiver, and then nothing is sealed under
// the platform's key any more.
func TestPlatformTenantWithoutData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		env.PlatformCMK.Disable()
		_, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
		want(t, "Seal", err, byok.ErrKeyDenied)
		mark := len(env.Fake.Calls())
		cmk := env.CMK("acme")
		s, err := acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		if s.Status != byok.StatusPendingWaiver || s.PlatformKey || s.Key.ID != cmk.ARN() || s.Warnings != nil || s.OnceElsewhere != 0 || s.Job != "" || s.DEKVersion != 1 {
			t.Errorf("%+v", s)
		}
		env.PlatformCMK.Enable()
		time.Sleep(2 * time.Minute)
		for _, k := range []*byok.Keeper{k, env.NewKeeper()} {
			_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
			want(t, "Seal while pending", err, byok.ErrWaiverRequired)
		}
		_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		mustOpen(t, env.NewKeeper(), "acme", seal(t, k, "acme", "x", ""), "", "x")
		if keys := keysOf(env.Fake, "acme", mark); keys[env.PlatformCMK.ARN()] != 0 {
			t.Errorf("KMS was asked about %v", keys)
		}
	})
}

// It can register several at once.
func TestPlatformTenantRegistersSeveral(t *testing.T) {
	for _, policy := range []byok.Policy{byok.PolicyAll, byok.PolicyAny} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: &byok.Options{AllowAnyKeyToOpenAlone: true}})
			k, acme := env.Keeper, env.Keeper.Tenant("acme")
			all := sealMany(t, k, 20)
			_, err := acme.AcknowledgeWaiver(t.Context(), accepted)
			want(t, "AcknowledgeWaiver", err, nil)
			first, second := env.CMK("acme"), env.CMK("acme")
			s, err := acme.Register(t.Context(), byok.Registration{Key: awskms.Key(first.ARN()), Others: []byok.KeyID{awskms.Key(second.ARN())}, Policy: policy})
			want(t, "Register", err, nil)
			if s.Status != byok.StatusPlatform || s.Policy != "" {
				t.Errorf("%+v", s)
			}
			finish(t, acme, s.Job)
			env.PlatformCMK.Disable()
			all.open(t, k)
			all = append(all, sealMany(t, k, 20)...)
			all.open(t, env.NewKeeper())
			if s, err = acme.Status(t.Context()); err != nil || s.Policy != policy || len(s.Keys) != 2 || s.OnceElsewhere != 20 || s.DEKVersion != 2 {
				t.Errorf("%+v, %v", s, err)
			}
			second.Disable()
			time.Sleep(2 * time.Minute)
			_, err = k.Open(t.Context(), all[0].scope, all[0].sealed, nil)
			want(t, "Open while one of them denies", err, byok.ErrKeyDenied)
			matchCalls(t, env, env.Audit.All())
		})
	}
}

// The waiver is for who has a key: until it is acknowledged the tenant goes on as before, and does not switch.
func TestPlatformTenantWaitsForTheWaiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		all := sealMany(t, k, 20)
		cmk := env.CMK("acme")
		s, err := acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		job, err := runJob(t.Context(), acme, s.Job)
		if !errors.Is(err, byok.ErrWaiverRequired) || job.State != byok.JobPaused || job.Why != "BYOK_004" || job.Left != 0 {
			t.Errorf("%+v, %v", job, err)
		}
		all.open(t, k)
		more := seal(t, k, "acme", "more", "")
		if s, err = acme.Status(t.Context()); err != nil || s.Status != byok.StatusPlatform || s.MovingTo.ID != cmk.ARN() || s.OnceElsewhere != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = env.NewKeeper().Run(ctx) }()
		time.Sleep(10 * time.Minute)
		if j, err := acme.Job(ctx, s.Job); err != nil || j.State != byok.JobPaused {
			t.Errorf("%+v, %v", j, err)
		}
		_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		time.Sleep(3 * time.Minute) // it goes on by itself
		if s, err = acme.Status(t.Context()); err != nil || s.Status != byok.StatusActive || s.OnceElsewhere != 21 || s.Job != "" {
			t.Errorf("%+v, %v", s, err)
		}
		env.PlatformCMK.Disable()
		all.open(t, env.NewKeeper())
		mustOpen(t, env.NewKeeper(), "acme", more, "", "more")
		underOnly(t, env, cmk)
		matchCalls(t, env, env.Audit.All())
	})
}

// Cancelled before the switch, all is as it was, but that nothing of the other CMK is left.
func TestPlatformTenantCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		all := sealMany(t, k, 40)
		before, err := acme.Status(t.Context())
		want(t, "Status", err, nil)
		cmk := env.CMK("acme")
		s, err := acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		for j, err := range acme.RunJob(t.Context(), s.Job) {
			want(t, "RunJob", err, nil)
			if j.Done > 0 {
				break
			}
		}
		_, err = acme.CancelJob(t.Context(), s.Job, "not yet")
		want(t, "CancelJob", err, nil)
		finish(t, acme, s.Job)
		after, err := acme.Status(t.Context())
		want(t, "Status", err, nil)
		before.LastProof, after.LastProof = time.Time{}, time.Time{}
		before.LastProofRequestID, after.LastProofRequestID = "", ""
		if fmt.Sprintf("%+v", before) != fmt.Sprintf("%+v", after) {
			t.Errorf("%+v\n%+v", before, after)
		}
		underOnly(t, env, env.PlatformCMK)
		cmk.Disable()
		time.Sleep(2 * time.Minute)
		all.open(t, k)
		seal(t, k, "acme", "x", "")
		items, err := env.Store.List(t.Context(), "cmk", "", 100)
		if want(t, "List", err, nil); strings.Contains(fmt.Sprint(claims(items)), "acme") {
			t.Errorf("claims %v", claims(items))
		}
	})
}

// Who removes a key that it never had is stopped for good all the same: the way out is a key of its own, under which everything opens.
func TestPlatformTenantRevokes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		all := sealMany(t, k, 20)
		s, err := acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		if s.Status != byok.StatusRevoked || !s.PlatformKey {
			t.Errorf("%+v", s)
		}
		mark := len(env.Fake.Calls())
		for _, k := range []*byok.Keeper{k, env.NewKeeper()} {
			_, err = k.Seal(t.Context(), all[0].scope, nil, nil)
			want(t, "Seal", err, byok.ErrKeyRemoved)
			_, err = k.Open(t.Context(), all[0].scope, all[0].sealed, nil)
			want(t, "Open", err, byok.ErrKeyRemoved)
			_, err = k.Tenant("acme").Register(t.Context(), registration(env.PlatformCMK))
			want(t, "Register the platform's", err, byok.ErrKeyTaken)
			_, err = k.Tenant("acme").Move(t.Context(), awskms.Key(env.PlatformCMK.ARN()), "")
			if err == nil {
				t.Error("it was moved back")
			}
			_, err = k.Tenant("acme").Resume(t.Context(), "")
			want(t, "Resume", err, nil)
			_, err = k.Seal(t.Context(), all[0].scope, nil, nil)
			want(t, "Seal", err, byok.ErrKeyRemoved)
		}
		next := awskms.Key(env.NewPlatformCMK().ARN())
		both, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PlatformKeys: []byok.KeyID{next, awskms.Key(env.PlatformCMK.ARN())}})
		want(t, "New", err, nil)
		defer both.Close()
		_, err = both.Tenant("acme").Move(t.Context(), next, "")
		want(t, "Move to another one of the platform's", err, byok.ErrNotRegistered)
		if len(env.Fake.Calls()) != mark {
			t.Errorf("KMS was asked %d times", len(env.Fake.Calls())-mark)
		}
		_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		cmk := env.CMK("acme")
		s, err = acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		if s.Status != byok.StatusRevoked || s.MovingTo.ID != cmk.ARN() {
			t.Errorf("%+v", s)
		}
		_, err = k.Seal(t.Context(), all[0].scope, nil, nil)
		want(t, "Seal while it moves", err, byok.ErrKeyRemoved)
		finish(t, acme, s.Job)
		env.PlatformCMK.Disable()
		all.open(t, k)
		if s, err = acme.Status(t.Context()); err != nil || s.Status != byok.StatusActive || s.OnceElsewhere != 20 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// If the platform's CMK is gone, a tenant may give up what is under it: expressly, and counted for ever.
func TestPlatformTenantAbandons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		all := sealMany(t, k, 3)
		env.PlatformCMK.Delete()
		time.Sleep(time.Minute)
		_, err := acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		cmk := env.CMK("acme")
		if _, err = acme.Register(t.Context(), registration(cmk)); err == nil {
			t.Error("registered, with data keys under a CMK that is gone")
		}
		mark := len(env.Fake.Calls())
		r := registration(cmk)
		r.AbandonExistingData = true
		_, err = acme.Register(t.Context(), r)
		want(t, "Register without a Revoke", err, byok.ErrArgument)
		_, err = acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		s, err := acme.Register(t.Context(), r)
		want(t, "Register", err, nil)
		if s.Status != byok.StatusActive || s.PlatformKey || s.OnceElsewhere != 3 || fmt.Sprint(s.Warnings) != "[data_keys_once_wrapped_elsewhere]" || s.DEKVersion != 2 {
			t.Errorf("%+v", s)
		}
		_, err = k.Open(t.Context(), all[0].scope, all[0].sealed, nil)
		want(t, "Open what was given up", err, byok.ErrOpen)
		_, err = k.Rewrap(t.Context(), all[0].scope, all[0].sealed)
		want(t, "Rewrap: there is nothing in it", err, nil)
		again := sealMany(t, k, 3)
		again.open(t, env.NewKeeper())
		if keys := keysOf(env.Fake, "acme", mark); keys[env.PlatformCMK.ARN()] != 0 {
			t.Errorf("KMS was asked about %v", keys)
		}
	})
}

// Envelopes that carry their data key are in no list. They are warned of, and Rewrap brings them along as long as the platform lets it.
func TestPlatformTenantCarries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: &byok.Options{PerOperation: true}})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		sealed := seal(t, k, "acme", "x", "")
		mustOpen(t, k, "acme", sealed, "", "x")
		_, err := acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		cmk := env.CMK("acme")
		s, err := acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		finish(t, acme, s.Job)
		if s, err = acme.Status(t.Context()); err != nil || s.Status != byok.StatusActive || s.OnceElsewhere != 0 || fmt.Sprint(s.Warnings) != "[data_keys_once_wrapped_elsewhere]" {
			t.Errorf("%+v, %v", s, err)
		}
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open of what the platform's key has wrapped", err, byok.ErrOpen)
		unaware, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, nil)
		want(t, "New", err, nil)
		defer unaware.Close()
		mark := len(env.Fake.Calls())
		_, err = unaware.Rewrap(t.Context(), byok.Scope{Tenant: "acme"}, sealed)
		want(t, "Rewrap by a Keeper without the platform's key", err, byok.ErrOpen)
		if len(env.Fake.Calls()) != mark {
			t.Error("KMS was asked")
		}
		cmk.Disable()
		_, err = acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		mark = len(env.Fake.Calls())
		_, err = k.Rewrap(t.Context(), byok.Scope{Tenant: "acme"}, sealed)
		want(t, "Rewrap while its own CMK denies", err, byok.ErrKeyDenied)
		if keys := keysOf(env.Fake, "acme", mark); keys[env.PlatformCMK.ARN()] != 0 {
			t.Errorf("KMS was asked about %v", keys)
		}
		time.Sleep(time.Minute) // it is asked again, and the platform's is not
		_, err = k.Rewrap(t.Context(), byok.Scope{Tenant: "acme"}, sealed)
		want(t, "Rewrap while its own CMK denies", err, byok.ErrKeyDenied)
		if keys := keysOf(env.Fake, "acme", mark); keys[env.PlatformCMK.ARN()] != 0 || keys[cmk.ARN()] == 0 {
			t.Errorf("KMS was asked about %v", keys)
		}
		cmk.Enable()
		time.Sleep(time.Minute)
		fresh, err := k.Rewrap(t.Context(), byok.Scope{Tenant: "acme"}, sealed)
		want(t, "Rewrap", err, nil)
		env.PlatformCMK.Disable()
		mustOpen(t, k, "acme", fresh, "", "x")
		matchCalls(t, env, env.Audit.All())
	})
}

// It is noted that envelopes carry data keys also of a tenant that has others, once, and before one of them leaves.
func TestPlatformTenantCarriesToo(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Platform: true})
	seal(t, env.Keeper, "acme", "x", "")
	gate := &refusing{Store: env.Store}
	k, err := byok.New(byoktest.Service, env.Keys, gate, env.Audit, &byok.Options{PerOperation: true, PlatformKeys: []byok.KeyID{awskms.Key(env.PlatformCMK.ARN())}})
	want(t, "New", err, nil)
	defer k.Close()
	gate.on = true
	if out, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil); !errors.Is(err, byok.ErrStore) || out != nil {
		t.Errorf("an envelope left: %v", err)
	}
	gate.on = false
	for range 3 {
		seal(t, k, "acme", "x", "")
	}
	noted := 0
	for _, e := range env.Audit.All() {
		if e.Op == byok.OpPlatformKey {
			noted++
		}
	}
	if noted != 2 {
		t.Errorf("%d events of it, want 2", noted)
	}
}

// refusing is a Store that writes nothing while it is on.
type refusing struct {
	byok.Store
	on bool
}

func (r *refusing) Apply(ctx context.Context, w ...byok.Item) error {
	if r.on {
		return errors.New("read only")
	}
	return r.Store.Apply(ctx, w...)
}

// The platform changes its CMK: who was there goes on under the old one, until it is moved; new ones begin under the new one.
func TestPlatformKeyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		all := sealMany(t, env.Keeper, 20)
		next := env.NewPlatformCMK()
		old := env.PlatformCMK
		k, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PlatformKeys: []byok.KeyID{awskms.Key(next.ARN()), awskms.Key(old.ARN())}})
		want(t, "New", err, nil)
		defer k.Close()
		acme := k.Tenant("acme")
		all.open(t, k)
		all = append(all, sealMany(t, k, 25)...)
		underOnly(t, env, old)
		seal(t, k, "new", "x", "")
		if s, err := k.Tenant("new").Status(t.Context()); err != nil || s.Key.ID != next.ARN() || s.Status != byok.StatusPlatform {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := env.Keeper.Tenant("acme").Move(t.Context(), awskms.Key(next.ARN()), ""); !errors.Is(err, byok.ErrNotRegistered) {
			t.Errorf("by a Keeper that does not know the new one: %v", err)
		}
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "yearly")
		want(t, "Move", err, nil)
		if s, err := acme.Status(t.Context()); err != nil || s.MovingTo.ID != next.ARN() {
			t.Errorf("%+v, %v", s, err)
		}
		finish(t, acme, job.ID)
		old.Disable()
		s, err := acme.Status(t.Context())
		want(t, "Status", err, nil)
		if s.Status != byok.StatusPlatform || !s.PlatformKey || s.Key.ID != next.ARN() || s.Warnings != nil || s.DEKVersion != 1 {
			t.Errorf("%+v", s)
		}
		all.open(t, k)
		underOnly(t, env, next)
		_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		cmk := env.CMK("acme")
		s, err = acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		finish(t, acme, s.Job)
		next.Disable()
		all.open(t, k)
		underOnly(t, env, cmk)
		if _, err := acme.Move(t.Context(), awskms.Key(old.ARN()), ""); !errors.Is(err, byok.ErrKeyTaken) {
			t.Errorf("back: %v", err)
		}
		matchCalls(t, env, env.Audit.All())
	})
}

// A process that was not given the platform's CMK leaves the job to those that were, and does not stop them.
func TestPlatformJobsAreForThoseWhoMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		all := sealMany(t, k, 20)
		unaware, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, nil)
		want(t, "New", err, nil)
		defer unaware.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = unaware.Run(ctx) }()
		_, err = acme.AcknowledgeWaiver(ctx, accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		s, err := acme.Register(ctx, registration(env.CMK("acme")))
		want(t, "Register", err, nil)
		mark := len(env.Fake.Calls())
		time.Sleep(5 * time.Minute)
		j, err := runJob(ctx, unaware.Tenant("acme"), s.Job)
		if !errors.Is(err, byok.ErrNotRegistered) || j.State != byok.JobRunning || len(env.Fake.Calls()) != mark {
			t.Errorf("%+v, %v, and %d requests", j, err, len(env.Fake.Calls())-mark)
		}
		go func() { _ = k.Run(ctx) }()
		time.Sleep(time.Minute)
		if s, err := acme.Status(ctx); err != nil || s.Status != byok.StatusActive || s.Job != "" {
			t.Errorf("%+v, %v", s, err)
		}
		env.PlatformCMK.Disable()
		all.open(t, unaware)
	})
}

// Either CMK denies halfway, and the new one right after the switch: the job waits, what is sealed opens while its key
// permits, and nothing is lost.
func TestPlatformTenantDeniedHalfway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		all := sealMany(t, k, 60)
		_, err := acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		cmk := env.CMK("acme")
		s, err := acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		steps, last := 0, byok.Job{}
		for _, denied := range []*kmsfake.Key{env.PlatformCMK, cmk} {
			for j, err := range acme.RunJob(t.Context(), s.Job) {
				want(t, "RunJob", err, nil)
				if last = j; j.Done > int64(steps) {
					steps = int(j.Done)
					break
				}
			}
			denied.Disable()
			job, err := runJob(t.Context(), acme, s.Job)
			if !errors.Is(err, byok.ErrKeyDenied) || job.State != byok.JobPaused {
				t.Fatalf("%+v, %v", job, err)
			}
			if denied == cmk { // which is not the tenant's yet
				all.open(t, k)
			} else if _, err := k.Open(t.Context(), all[0].scope, all[0].sealed, nil); !errors.Is(err, byok.ErrKeyDenied) {
				t.Errorf("Open while the platform's CMK denies: %v", err)
			}
			denied.Enable()
			time.Sleep(2 * time.Minute)
		}
		if last.Done == 0 || last.Done >= 60 {
			t.Fatalf("not halfway: %+v", last)
		}
		for j, err := range acme.RunJob(t.Context(), s.Job) {
			want(t, "RunJob", err, nil)
			if j.State == byok.JobSwitching {
				break
			}
		}
		cmk.Disable()
		time.Sleep(2 * time.Minute)
		_, err = k.Open(t.Context(), all[0].scope, all[0].sealed, nil)
		want(t, "Open after the switch", err, byok.ErrKeyDenied)
		_, err = k.Seal(t.Context(), all[0].scope, nil, nil)
		want(t, "Seal after the switch", err, byok.ErrKeyDenied)
		finish(t, acme, s.Job) // the rest asks no KMS
		underOnly(t, env, cmk)
		cmk.Enable()
		env.PlatformCMK.Disable()
		time.Sleep(2 * time.Minute)
		all.open(t, k)
		all.open(t, env.NewKeeper())
		matchCalls(t, env, env.Audit.All())
	})
}

// Two processes at the switch: both seal and open throughout, and a second after it neither asks about the platform's CMK.
func TestPlatformSwitchInAFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true})
		acme := env.Keeper.Tenant("acme")
		all := sealMany(t, env.Keeper, 30)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		fleet := []*byok.Keeper{env.Keeper, env.NewKeeper()}
		for n, k := range fleet {
			wg.Go(func() { _ = k.Run(ctx) })
			for g := range 3 {
				wg.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						r := sealedRecord{scope: byok.Scope{Tenant: "acme", Purpose: fmt.Sprintf("f%d.%d.%d", n, g, i%10)}, plain: fmt.Sprint(n, g, i)}
						var err error
						if r.sealed, err = k.Seal(t.Context(), r.scope, []byte(r.plain), nil); err != nil {
							t.Errorf("Seal: %v", err)
						}
						mu.Lock()
						all = append(all, r)
						r = all[(i*7919)%len(all)]
						mu.Unlock()
						if got, err := k.Open(t.Context(), r.scope, r.sealed, nil); err != nil || string(got) != r.plain {
							t.Errorf("Open: %q, %v", got, err)
						}
						time.Sleep(250 * time.Millisecond)
					}
				})
			}
		}
		time.Sleep(3 * time.Second)
		_, err := acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		cmk := env.CMK("acme")
		_, err = acme.Register(t.Context(), registration(cmk))
		want(t, "Register", err, nil)
		for s, err := acme.Status(t.Context()); s.Status != byok.StatusActive; s, err = acme.Status(t.Context()) {
			want(t, "Status", err, nil)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		mark := len(env.Fake.Calls())
		time.Sleep(70 * time.Second) // more than MaxAge
		cancel()
		wg.Wait()
		if keys := keysOf(env.Fake, "acme", mark); keys[env.PlatformCMK.ARN()] != 0 || keys[cmk.ARN()] == 0 {
			t.Errorf("KMS was asked about %v", keys)
		}
		env.PlatformCMK.Disable()
		all.open(t, env.NewKeeper())
		underOnly(t, env, cmk)
		matchCalls(t, env, env.Audit.All())
	})
}

// A process dies at each of its calls to the Store, from the tenant's first Seal under the platform's key to the end of its
// registration: everything that was acknowledged opens, any other process brings it to its end, and nothing is left half done.
func TestI19_PlatformSurvivesACrashAtEveryStoreCall(t *testing.T) {
	silent := &byok.Options{Logger: slog.New(slog.DiscardHandler)}
	for _, after := range []bool{false, true} {
		deaths, registered := 0, 0
		for n, done := int64(0), false; !done && !t.Failed(); n++ {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: silent})
				acme, cmk := env.Keeper.Tenant("acme"), env.CMK("acme")
				store := &dyingStore{Store: env.Store, after: after}
				store.left.Store(n + 1)
				opts := *silent
				opts.PlatformKeys = []byok.KeyID{awskms.Key(env.PlatformCMK.ARN())}
				dying, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, &opts)
				want(t, "New", err, nil)
				var all records
				for i := range 3 {
					r := sealedRecord{scope: byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("d", i)}, plain: fmt.Sprint(i)}
					if r.sealed, err = dying.Seal(t.Context(), r.scope, []byte(r.plain), nil); err == nil {
						all = append(all, r)
					}
				}
				if err == nil {
					_, err = dying.Tenant("acme").AcknowledgeWaiver(t.Context(), accepted)
				}
				if err == nil {
					var s byok.KeyStatus
					if s, err = dying.Tenant("acme").Register(t.Context(), registration(cmk)); err == nil {
						_, err = runJob(t.Context(), dying.Tenant("acme"), s.Job)
					}
				}
				if done = err == nil && store.left.Load() > 0; !done {
					deaths++
				}
				want(t, "Close", dying.Close(), nil)
				all.open(t, env.NewKeeper())
				all = append(all, sealMany(t, env.Keeper, 3)...)
				time.Sleep(time.Minute)
				_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
				want(t, "AcknowledgeWaiver", err, nil)
				s, err := acme.Register(t.Context(), registration(cmk))
				if errors.Is(err, byok.ErrKeyTaken) { // it is done, but perhaps for the old wrappings
					registered++
					s, err = acme.Status(t.Context())
				}
				if err != nil {
					t.Fatalf("death %d, after %v: %v", n, after, err)
				}
				last := s.Job // which the state does not name any more when only the list does
				for j, err := range acme.Jobs(t.Context()) {
					if want(t, "Jobs", err, nil); j.Type == byok.JobMove {
						last = j.ID
					}
				}
				finish(t, env.NewKeeper().Tenant("acme"), last)
				if s, err = acme.Status(t.Context()); err != nil || s.Status != byok.StatusActive || s.OnceElsewhere < uint64(min(len(all)-3, 1)) || s.OnceElsewhere > 6 || s.DEKVersion != 2 {
					t.Fatalf("death %d, after %v: %+v, %v", n, after, s, err)
				}
				env.PlatformCMK.Disable()
				k := env.NewKeeper()
				all.open(t, k)
				underOnly(t, env, cmk)
				if items, err := env.Store.List(t.Context(), "openjobs", "", 10); err != nil || len(items) != 1 || string(items[0].Value) != `{"v":1}` {
					t.Errorf("the list of jobs: %v, %v", items, err)
				}
				matchCalls(t, env, env.Audit.All())
			})
		}
		if deaths < 60 || registered == 0 {
			t.Errorf("%d deaths, %d after the switch: this test could pass on nothing", deaths, registered)
		}
		t.Logf("after %v: died %d times, %d after the switch", after, deaths, registered)
	}
}
