package byok_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// records are what a test has sealed, by purpose and generation, with what they hold.
type records []sealedRecord

type sealedRecord struct {
	scope  byok.Scope
	sealed []byte
	plain  string
}

// sealMany seals one record under each of n purposes of acme: so many data keys.
func sealMany(t *testing.T, k *byok.Keeper, n int) (all records) {
	t.Helper()
	for i := range n {
		r := sealedRecord{scope: byok.Scope{Tenant: "acme", Purpose: fmt.Sprintf("p%d", i)}, plain: fmt.Sprint("record ", i)}
		var err error
		if r.sealed, err = k.Seal(t.Context(), r.scope, []byte(r.plain), nil); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func (all records) open(t *testing.T, k *byok.Keeper) {
	t.Helper()
	for _, r := range all {
		got, err := k.Open(t.Context(), r.scope, r.sealed, nil)
		if err != nil || string(got) != r.plain {
			t.Fatalf("%s: %q, %v", r.scope.Purpose, got, err)
		}
	}
}

// finish runs a job here to its end.
func finish(t *testing.T, acme *byok.Tenant, id string) (last byok.Job) {
	t.Helper()
	for job, err := range acme.RunJob(t.Context(), id) {
		if err != nil {
			t.Fatalf("RunJob: %+v, %v", job, err)
		}
		last = job
	}
	return last
}

// A rotation of type full begins a new generation and wraps every older data key under the CMK's
// newest key material; KMS is asked twice for each with ReEncrypt, and three times without.
func TestFullRotation(t *testing.T) {
	for _, granted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			acme, cmk := env.Tenant("acme")
			if granted {
				mayReEncrypt(cmk)
			}
			const n = 50
			all := sealMany(t, env.Keeper, n)
			cmk.Rotate()
			before := len(env.Fake.Calls())
			ctx := byok.WithActor(t.Context(), "ana")
			res, err := acme.Rotate(ctx, byok.Rotation{Type: byok.RotateFull, Reason: "yearly"})
			want(t, "Rotate", err, nil)
			if res.Job.ID != res.ID || res.Job.State != byok.JobRunning || res.Job.Left != n || res.NewVersion != 2 {
				t.Fatalf("%+v", res)
			}
			if _, err := acme.Rotate(ctx, byok.Rotation{Type: byok.RotateFull}); !errors.Is(err, byok.ErrJobRunning) {
				t.Errorf("a second one: %v", err)
			}
			_, err = acme.Rotate(ctx, byok.Rotation{Type: byok.RotateDEK})
			want(t, "Rotate dek meanwhile", err, nil)
			mid := len(env.Fake.Calls())
			job := finish(t, acme, res.ID)
			got := operationsOf(env.Fake, mid)
			method, calls := byok.MethodReEncrypt, map[string]int{"ReEncrypt": n, "Decrypt": n}
			if !granted {
				method, calls = byok.MethodUnwrap, map[string]int{"ReEncrypt": 1, "Decrypt": 2 * n, "Encrypt": n}
			}
			if fmt.Sprint(got) != fmt.Sprint(calls) {
				t.Errorf("granted %v: KMS was asked %v, want %v", granted, got, calls)
			}
			if job.State != byok.JobDone || job.Done != n || job.Left != 0 || job.Failed != 0 || job.Method != method || job.EndedAt.IsZero() {
				t.Errorf("%+v", job)
			}
			if job.Actor != "ana" || job.Reason != "yearly" || job.PreviousVersion != 1 || job.NewVersion != 2 || job.From != job.To || job.From != awskms.Key(cmk.ARN()) {
				t.Errorf("%+v", job)
			}
			all.open(t, env.NewKeeper())
			// Nothing is under the old key material any more.
			for _, e := range env.Audit.All() {
				for _, c := range e.Calls {
					if e.Op == byok.OpLease && len(env.Fake.Calls())-before > 0 && c.Op == "Decrypt" && e.Version == 1 && c.MaterialID != cmk.MaterialID() {
						t.Errorf("data key %s is under old key material", e.DataKey)
					}
				}
			}
			matchCalls(t, env, env.Audit.All())
			var history []string
			for j, err := range acme.Jobs(t.Context()) {
				want(t, "Jobs", err, nil)
				history = append(history, j.Type+" "+string(j.State))
			}
			if fmt.Sprint(history) != "[full done dek done]" {
				t.Errorf("history %v", history)
			}
		})
	}
}

// moved makes a CMK that acme can be moved to.
func movable(t *testing.T, env *byoktest.Env, granted bool, cmk *kmsfake.Key) *kmsfake.Key {
	t.Helper()
	next := env.CMK("acme")
	if granted {
		mayReEncrypt(cmk, next)
	}
	return next
}

// All data keys of a tenant come under another CMK, at two or three requests each; records are not
// touched, open throughout, and need the new CMK and nothing but it in the end.
func TestMove(t *testing.T) {
	for _, granted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			acme, cmk := env.Tenant("acme")
			next := movable(t, env, granted, cmk)
			const n = 40
			all := sealMany(t, env.Keeper, n)
			other := env.NewKeeper()
			all.open(t, other)
			before := len(env.Fake.Calls())
			ctx := byok.WithActor(t.Context(), "ana")
			job, err := acme.Move(ctx, awskms.Key(next.ARN()), "new account")
			want(t, "Move", err, nil)
			if got := len(env.Fake.Calls()) - before; got != 8 {
				t.Errorf("Move made %d requests", got)
			}
			if job.State != byok.JobRunning || job.Left != n || job.From != awskms.Key(cmk.ARN()) || job.To != awskms.Key(next.ARN()) {
				t.Errorf("%+v", job)
			}
			again, err := acme.Move(ctx, awskms.Key(next.ARN()), "")
			want(t, "Move again", err, nil)
			if again.ID != job.ID {
				t.Error("another job for the same move")
			}
			mid := len(env.Fake.Calls())
			last := finish(t, acme, job.ID)
			got := operationsOf(env.Fake, mid)
			method, calls := byok.MethodReEncrypt, map[string]int{"ReEncrypt": n, "Decrypt": n + 1, "GenerateDataKey": 1}
			if !granted {
				method, calls = byok.MethodUnwrap, map[string]int{"ReEncrypt": 1, "Decrypt": 2*n + 1, "Encrypt": n, "GenerateDataKey": 1}
			}
			if fmt.Sprint(got) != fmt.Sprint(calls) {
				t.Errorf("granted %v: KMS was asked %v, want %v", granted, got, calls)
			}
			if last.State != byok.JobDone || last.Done != n || last.Left != 0 || last.Method != method {
				t.Errorf("%+v", last)
			}
			s, err := acme.Status(t.Context())
			want(t, "Status", err, nil)
			if s.Key != job.To || s.Status != byok.StatusActive {
				t.Errorf("%+v", s)
			}
			// The old CMK is gone, and nobody misses it.
			cmk.Disable()
			all.open(t, env.Keeper)
			all.open(t, env.NewKeeper())
			time.Sleep(byok.DefaultMaxAge) // a process that does not Run
			all.open(t, other)
			sealMany(t, other, n)
			// The new one is the tenant's, and stops it.
			next.Disable()
			time.Sleep(byok.DefaultMaxAge)
			if _, err := other.Open(t.Context(), all[0].scope, all[0].sealed, nil); !errors.Is(err, byok.ErrKeyDenied) {
				t.Errorf("Open with the new CMK disabled: %v", err)
			}
			matchCalls(t, env, env.Audit.All())
		})
	}
}

// A denial of either CMK pauses a move, which goes on by itself when Run does; nothing is failed, nothing is lost.
func TestMoveIsPausedByDenials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		const n = 1000
		all := sealMany(t, env.Keeper, n)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		job, err := acme.Move(ctx, awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		go func() { _ = env.Keeper.Run(ctx) }()
		time.Sleep(time.Second)
		state := func() byok.Job {
			t.Helper()
			j, err := acme.Job(ctx, job.ID)
			want(t, "Job", err, nil)
			return j
		}
		if j := state(); j.State != byok.JobRunning || j.Done == 0 || j.Left == 0 {
			t.Fatalf("after a second: %+v", j)
		}
		for i, k := range []*kmsfake.Key{cmk, next, cmk, next} {
			k.Disable()
			time.Sleep(5 * time.Second)
			j := state()
			if j.State != byok.JobPaused || j.Why != "BYOK_002" || j.Failed != 0 || j.Left == 0 {
				t.Fatalf("denial %d: %+v", i, j)
			}
			time.Sleep(10 * time.Minute)
			if now := state(); now.State != byok.JobPaused || now.Done != j.Done {
				t.Fatalf("denial %d: %+v, and later %+v", i, j, now)
			}
			k.Enable()
			for range 80 { // a minute of back-off, and the next look
				if time.Sleep(time.Second); state().Done > j.Done {
					break
				}
			}
			if now := state(); now.State != byok.JobRunning || now.Done <= j.Done {
				t.Fatalf("denial %d is over: %+v", i, now)
			}
		}
		time.Sleep(2 * time.Minute)
		if j := state(); j.State != byok.JobDone || j.Done != n {
			t.Fatalf("in the end: %+v", j)
		}
		all.open(t, env.Keeper)
		matchCalls(t, env, env.Audit.All())
		cancel()
	})
}

// A tenant with several keys, each of which holds a share: a full rotation wraps every share anew under its own key, and every
// key is needed as before.
func TestFullRotationOfShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		first, second := env.CMK("acme"), env.CMK("acme")
		mayReEncrypt(first)
		acme := env.Keeper.Tenant("acme")
		_, err := acme.Register(t.Context(), byok.Registration{Key: awskms.Key(first.ARN()), Others: []byok.KeyID{awskms.Key(second.ARN())}, Policy: byok.PolicyAll})
		want(t, "Register", err, nil)
		_, err = acme.AcknowledgeWaiver(t.Context(), byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true})
		want(t, "AcknowledgeWaiver", err, nil)
		all := sealMany(t, env.Keeper, 20)
		wrapped := func() string { return fmt.Sprint(itemsOf(t, env.Store, "dek:")) }
		before := wrapped()
		res, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
		want(t, "Rotate", err, nil)
		if last := finish(t, acme, res.ID); last.State != byok.JobDone || last.Done != 20 || last.Failed != 0 {
			t.Errorf("%+v", last)
		}
		if wrapped() == before {
			t.Error("nothing is wrapped anew")
		}
		all.open(t, env.NewKeeper())
		if _, err := acme.Move(t.Context(), awskms.Key(env.CMK("acme").ARN()), ""); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("Move: %v", err)
		}
		second.Disable()
		if _, err := env.NewKeeper().Open(t.Context(), all[0].scope, all[0].sealed, nil); !errors.Is(err, byok.ErrKeyDenied) {
			t.Errorf("Open without the second key: %v", err)
		}
		matchCalls(t, env, env.Audit.All())
	})
}
