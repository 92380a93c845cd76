package byok_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
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

var moveKeys = flag.Int("move.keys", 1000, "data keys of TestMoveCountsRequests")

// KMS is asked exactly twice for each data key with ReEncrypt, and three times without; of the latter, it is
// told once that it may not. Beside that there are the probes: 8 to begin with, 2 before the switch.
func TestMoveCountsRequests(t *testing.T) {
	for _, granted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			acme, cmk := env.Tenant("acme")
			next := movable(t, env, granted, cmk)
			n := *moveKeys
			all := sealMany(t, env.Keeper, n)
			for _, r := range all {
				r.sealed = bytes.Clone(r.sealed)
			}
			before := len(env.Fake.Calls())
			begun := time.Now()
			job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
			want(t, "Move", err, nil)
			last := finish(t, acme, job.ID)
			calls, each := len(env.Fake.Calls())-before, 2*n
			if !granted {
				each = 3*n + 1
			}
			if calls != each+8+2 || last.Done != int64(n) || last.State != byok.JobDone {
				t.Errorf("granted %v: %d requests for %d data keys, want %d; %+v", granted, calls, n, each+10, last)
			}
			t.Logf("granted %v: %d data keys, %d requests, %v at the pace of one process", granted, n, calls, time.Since(begun))
			cmk.Disable()
			all.open(t, env.NewKeeper())
			underOnly(t, env, next)
		})
	}
}

// underOnly fails if any data key of acme has another wrapping than the one by cmk, or if two have the same purpose
// and generation.
func underOnly(t *testing.T, env *byoktest.Env, cmk *kmsfake.Key) {
	t.Helper()
	seen := map[string]bool{}
	for _, i := range itemsOf(t, env.Store, "dek:") {
		var d struct {
			Purpose    string
			Generation uint64
			Header     []byte
			Next       []byte
		}
		want(t, "Unmarshal", json.Unmarshal(i.Value, &d), nil)
		h, err := byok.Inspect(d.Header)
		want(t, "Inspect", err, nil)
		if len(h.Recipients) != 1 || h.Recipients[0].Key.ID != cmk.ARN() || d.Next != nil {
			t.Errorf("%s is under %d, %v, and %d bytes beside it", i.ID, len(h.Recipients), h.Recipients[0].Key, len(d.Next))
		}
		id := fmt.Sprint(d.Purpose, "/", d.Generation)
		if seen[id] {
			t.Errorf("two data keys of %s", id)
		}
		seen[id] = true
	}
	if len(seen) == 0 {
		t.Error("no data keys: this test could pass on nothing")
	}
}

func itemsOf(t *testing.T, store byok.Store, prefix string) (out []byok.Item) {
	t.Helper()
	for after := prefix; ; {
		items, err := store.List(context.Background(), "tenant:acme", after, 1000)
		want(t, "List", err, nil)
		for _, i := range items {
			if strings.HasPrefix(i.ID, prefix) {
				out = append(out, i)
			}
			after = i.ID
		}
		if len(items) < 1000 {
			return out
		}
	}
}

// Data keys that are made while a move is under way come along, whenever they are made.
func TestMoveCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 40)
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		other := env.NewKeeper()
		i, last := 0, byok.Job{}
		for j, err := range acme.RunJob(t.Context(), job.ID) {
			want(t, "RunJob", err, nil)
			if last = j; i < 20 && j.State == byok.JobRunning { // after 20 data keys the pass can end
				r := sealedRecord{byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("late", i)}, nil, "late"}
				r.sealed, err = other.Seal(t.Context(), r.scope, []byte(r.plain), nil)
				want(t, "Seal", err, nil)
				all = append(all, r)
				i++
			}
		}
		if last.State != byok.JobDone || last.Done != int64(len(all)) || i < 3 {
			t.Errorf("%d late ones; %+v", i, last)
		}
		cmk.Disable()
		all.open(t, env.Keeper)
		all.open(t, other)
		underOnly(t, env, next)
		matchCalls(t, env, env.Audit.All())
	})
}

// What begins no move changes nothing: no item of the tenant, and no claim.
func TestMoveRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		_, theirs := env.Tenant("umbrella")
		all := sealMany(t, env.Keeper, 3)
		ours := awskms.Key(cmk.ARN())
		free := env.CMK("acme")
		unbound := env.Fake.Account(byoktest.Account).CreateKey(strings.NewReplacer("StringEquals", "StringLike", `"acme"`, `"*"`, "{\n          \"kms:EncryptionContext:service\"", "{\n          \"kms:EncryptionContext:service\"").Replace(free.Policy()))
		closed := env.CMK("acme")
		closed.Disable()
		stored := func() string {
			return fmt.Sprint(itemsOf(t, env.Store, "state"), itemsOf(t, env.Store, "job:"), itemsOf(t, env.Store, "dek:"))
		}
		before := stored()
		for _, tt := range []struct {
			name string
			to   byok.KeyID
			want error
		}{
			{"no key", byok.KeyID{}, byok.ErrKeyID},
			{"alias", awskms.Key("alias/x"), byok.ErrKeyID},
			{"its own", ours, byok.ErrArgument},
			{"another tenant's", awskms.Key(theirs.ARN()), byok.ErrKeyDenied},
			{"a disabled one", awskms.Key(closed.ARN()), byok.ErrKeyDenied},
			{"an unbound one", awskms.Key(unbound.ARN()), byok.ErrPolicyUnbound},
		} {
			if j, err := acme.Move(t.Context(), tt.to, ""); !errors.Is(err, tt.want) || j.ID != "" {
				t.Errorf("%s: %+v, %v, want %v", tt.name, j, err, tt.want)
			}
		}
		cmk.Disable()
		if _, err := acme.Move(t.Context(), awskms.Key(free.ARN()), ""); !errors.Is(err, byok.ErrKeyDenied) {
			t.Errorf("from a disabled CMK: %v", err)
		}
		if got := stored(); got != before {
			t.Errorf("something changed:\n%s\n%s", before, got)
		}
		if _, err := env.Keeper.Tenant("nobody").Move(t.Context(), awskms.Key(free.ARN()), ""); !errors.Is(err, byok.ErrNotRegistered) {
			t.Errorf("nobody: %v", err)
		}
		cmk.Enable()
		time.Sleep(time.Minute)
		all.open(t, env.Keeper)
		matchCalls(t, env, env.Audit.All())
	})
}

// A move can be cancelled until it has switched. What it left behind is never used, and moving again, there or
// elsewhere, begins anew.
func TestMoveCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 40)
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		for j, err := range acme.RunJob(t.Context(), job.ID) {
			want(t, "RunJob", err, nil)
			if j.Done > 0 {
				break
			}
		}
		j, err := acme.CancelJob(t.Context(), job.ID, "not today")
		want(t, "CancelJob", err, nil)
		if j.State != byok.JobCancelled || j.Done == 0 || j.EndedAt.IsZero() {
			t.Errorf("%+v", j)
		}
		if last := finish(t, acme, job.ID); last.State != byok.JobCancelled {
			t.Errorf("it goes on: %+v", last)
		}
		underOnly(t, env, cmk) // what was under the other CMK has been taken out
		again, err := acme.CancelJob(t.Context(), job.ID, "")
		want(t, "CancelJob again", err, nil)
		if again.State != byok.JobCancelled {
			t.Errorf("%+v", again)
		}
		next.Disable()
		time.Sleep(2 * time.Minute)
		all.open(t, env.Keeper)
		all = append(all, sealMany(t, env.NewKeeper(), 40)...)
		next.Enable()
		// Somebody else may have the CMK now, so the claim must be free.
		if items, err := env.Store.List(t.Context(), "cmk", "", 100); err != nil || strings.Contains(fmt.Sprint(claims(items)), next.ARN()+" acme") {
			t.Errorf("claims %v, %v", claims(items), err)
		}
		job, err = acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move again", err, nil)
		if last := finish(t, acme, job.ID); last.State != byok.JobDone || last.Done != 40 {
			t.Errorf("%+v", last)
		}
		if _, err := acme.CancelJob(t.Context(), job.ID, ""); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("cancelling what is done: %v", err)
		}
		if _, err := acme.CancelJob(t.Context(), strings.Repeat("0", 32), ""); !errors.Is(err, byok.ErrJobNotFound) {
			t.Errorf("cancelling nothing: %v", err)
		}
		cmk.Disable()
		all.open(t, env.NewKeeper())
		underOnly(t, env, next)
		matchCalls(t, env, env.Audit.All())
	})
}

// claims is who holds which CMK.
func claims(items []byok.Item) (out []string) {
	for _, i := range items {
		var c struct {
			Tenant string
			Key    byok.KeyID
		}
		_ = json.Unmarshal(i.Value, &c)
		out = append(out, c.Key.ID+" "+c.Tenant)
	}
	slices.Sort(out)
	return out
}

// Stop stops: a Revoke ends a move, and asks nobody for that; a Suspend pauses it.
func TestStopsStopMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 600)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = env.Keeper.Run(ctx) }()
		job, err := acme.Move(ctx, awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		time.Sleep(time.Second)
		_, err = acme.Suspend(ctx, "")
		want(t, "Suspend", err, nil)
		time.Sleep(5 * time.Second)
		j, err := acme.Job(ctx, job.ID)
		want(t, "Job", err, nil)
		calls := len(env.Fake.Calls())
		if time.Sleep(time.Hour); len(env.Fake.Calls()) != calls || j.State != byok.JobPaused || j.Why != "BYOK_010" || j.Left == 0 {
			t.Errorf("%d requests while suspended; %+v", len(env.Fake.Calls())-calls, j)
		}
		_, err = acme.Resume(ctx, "")
		want(t, "Resume", err, nil)
		for range 900 {
			if time.Sleep(100 * time.Millisecond); len(env.Fake.Calls()) > calls {
				break
			}
		}
		s, err := acme.Revoke(ctx, "")
		want(t, "Revoke", err, nil)
		time.Sleep(10 * time.Second)
		calls = len(env.Fake.Calls())
		time.Sleep(time.Hour)
		j, err = acme.Job(ctx, job.ID)
		want(t, "Job", err, nil)
		if len(env.Fake.Calls()) != calls || j.State != byok.JobCancelled || j.Left == 0 || s.Status != byok.StatusRevoked {
			t.Errorf("%d requests after the Revoke; %+v", len(env.Fake.Calls())-calls, j)
		}
		items, err := env.Store.List(ctx, "cmk", "", 100)
		if want(t, "List", err, nil); strings.Contains(fmt.Sprint(claims(items)), "acme") {
			t.Errorf("claims %v", claims(items))
		}
		// From here it can be moved, and the new CMK is registered with the switch.
		job, err = acme.Move(ctx, awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		if _, err := env.Keeper.Open(ctx, all[0].scope, all[0].sealed, nil); !errors.Is(err, byok.ErrKeyRemoved) {
			t.Errorf("Open while it moves: %v", err)
		}
		time.Sleep(time.Minute)
		if s, err = acme.Status(ctx); err != nil || s.Status != byok.StatusActive || s.Key != awskms.Key(next.ARN()) {
			t.Errorf("%+v, %v", s, err)
		}
		cmk.Disable()
		all.open(t, env.Keeper)
		underOnly(t, env, next)
		matchCalls(t, env, env.Audit.All())
		cancel()
	})
}

// The new CMK is denied right after the switch: everything is refused, nothing is lost.
func TestMoveThenDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 40)
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		for j, err := range acme.RunJob(t.Context(), job.ID) {
			want(t, "RunJob", err, nil)
			if j.State == byok.JobSwitching {
				break
			}
		}
		next.Disable()
		if _, err := acme.CancelJob(t.Context(), job.ID, ""); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("cancelled after the switch: %v", err)
		}
		for _, r := range all[:5] {
			if _, err := env.Keeper.Open(t.Context(), r.scope, r.sealed, nil); !errors.Is(err, byok.ErrKeyDenied) {
				t.Errorf("Open: %v", err)
			}
		}
		if last := finish(t, acme, job.ID); last.State != byok.JobDone { // taking out the old wrappings asks no KMS
			t.Errorf("%+v", last)
		}
		next.Enable()
		time.Sleep(time.Minute)
		all.open(t, env.Keeper)
		// And back again.
		job, err = acme.Move(t.Context(), awskms.Key(cmk.ARN()), "back")
		want(t, "Move back", err, nil)
		finish(t, acme, job.ID)
		next.Disable()
		all.open(t, env.NewKeeper())
		underOnly(t, env, cmk)
		matchCalls(t, env, env.Audit.All())
	})
}

// The switch reaches every process that Runs within about two seconds: leases under the old CMK end.
func TestMoveReachesTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{MaxAge: 5 * time.Minute}})
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 3)
		other := env.NewKeeper()
		all.open(t, other)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = other.Run(ctx) }()
		time.Sleep(5 * time.Second)
		job, err := acme.Move(ctx, awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		finish(t, acme, job.ID)
		time.Sleep(2 * time.Second)
		before := len(env.Fake.Calls())
		all.open(t, other)
		for _, c := range env.Fake.Calls()[before:] {
			if c.KeyARN != next.ARN() {
				t.Errorf("asked about %s", c.KeyARN)
			}
		}
		if n := len(env.Fake.Calls()) - before; n != len(all) {
			t.Errorf("%d requests for %d data keys: leases under the old CMK go on", n, len(all))
		}
		cancel()
	})
}

// An envelope with its data key inside stays under the old CMK. It is refused after the switch, without a request to
// anybody, and Rewrap brings it over while the old CMK lets us in.
func TestRewrapAfterMove(t *testing.T) {
	for _, granted := range []bool{true, false} {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: true}})
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, granted, cmk)
		sealed := seal(t, env.Keeper, "acme", "hello", "aad")
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		if last := finish(t, acme, job.ID); last.State != byok.JobDone || last.Done != 0 {
			t.Errorf("%+v", last)
		}
		before := len(env.Fake.Calls())
		if _, err := open(t, env.Keeper, "acme", sealed, "aad"); !errors.Is(err, byok.ErrOpen) || len(env.Fake.Calls()) != before {
			t.Errorf("Open: %v, %d requests", err, len(env.Fake.Calls())-before)
		}
		fresh, err := env.Keeper.Rewrap(t.Context(), acmeScope, sealed)
		want(t, "Rewrap", err, nil)
		cmk.Disable()
		mustOpen(t, env.Keeper, "acme", fresh, "aad", "hello")
		if _, err := env.Keeper.Rewrap(t.Context(), acmeScope, sealed); !errors.Is(err, byok.ErrKeyDenied) {
			t.Errorf("Rewrap from a disabled CMK: %v", err)
		}
		matchCalls(t, env, env.Audit.All())
	}
}

// A data key that is damaged in the Store cannot be moved, so nothing switches; the job waits for somebody to
// repair it. A full rotation counts it, and ends.
func TestDamagedDataKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 20)
		items := itemsOf(t, env.Store, "dek:")
		edit := func(i byok.Item, f func(map[string]any)) {
			t.Helper()
			now, err := env.Store.Get(t.Context(), i.Ref)
			want(t, "Get", err, nil)
			v := map[string]any{}
			want(t, "Unmarshal", json.Unmarshal(i.Value, &v), nil)
			f(v)
			b, err := json.Marshal(v)
			want(t, "Marshal", err, nil)
			want(t, "Apply", env.Store.Apply(t.Context(), byok.Item{Ref: i.Ref, Revision: now.Revision, Value: b}), nil)
		}
		edit(items[3], func(v map[string]any) { v["header"] = "anVuaw==" })
		edit(items[7], func(v map[string]any) { v["purpose"] = "p999" })
		res, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
		want(t, "Rotate", err, nil)
		if last := finish(t, acme, res.ID); last.State != byok.JobDone || last.Done != 18 || last.Failed != 2 {
			t.Errorf("%+v", last)
		}
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		for range 3 {
			var last byok.Job
			for last, err = range acme.RunJob(t.Context(), job.ID) {
			}
			if !errors.Is(err, byok.ErrStore) || last.State != byok.JobPaused || last.Failed != 2 || last.Done != 18 || last.Why != "BYOK_012" {
				t.Errorf("%+v, %v", last, err)
			}
		}
		edit(items[3], func(map[string]any) {})
		edit(items[7], func(map[string]any) {})
		if last := finish(t, acme, job.ID); last.State != byok.JobDone || last.Done != 20 || last.Failed != 0 {
			t.Errorf("%+v", last)
		}
		cmk.Disable()
		all.open(t, env.NewKeeper())
		underOnly(t, env, next)
	})
}

// Without the audit log nothing is replaced: the job waits.
func TestJobsWaitForTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &hookSink{MemAudit: new(byok.MemAudit)}
		env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: quietly(byok.Options{})})
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 20)
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		before := fmt.Sprint(itemsOf(t, env.Store, "dek:"))
		sink.failing(errors.New("disk full"))
		var last byok.Job
		for last, err = range acme.RunJob(t.Context(), job.ID) {
		}
		if !errors.Is(err, byok.ErrAudit) || last.State != byok.JobPaused || last.Done != 0 || fmt.Sprint(itemsOf(t, env.Store, "dek:")) != before {
			t.Errorf("%+v, %v", last, err)
		}
		sink.failing(nil)
		finish(t, acme, job.ID)
		cmk.Disable()
		all.open(t, env.NewKeeper())
	})
}

// What somebody writes into the Store never makes us ask a KMS about a CMK that is not the tenant's, nor moves a
// tenant's data keys under another tenant's.
func TestTamperedJobs(t *testing.T) {
	for name, tamper := range map[string]func(state, job map[string]any, deks []map[string]any, theirs string){
		"the job's target": func(_, job map[string]any, _ []map[string]any, theirs string) {
			job["to"].(map[string]any)["key"].(map[string]any)["id"] = theirs
		},
		"the job's source": func(_, job map[string]any, _ []map[string]any, theirs string) {
			job["from"].(map[string]any)["key"].(map[string]any)["id"] = theirs
		},
		"both targets": func(state, job map[string]any, _ []map[string]any, theirs string) {
			job["to"].(map[string]any)["key"].(map[string]any)["id"] = theirs
			state["job"].(map[string]any)["to"].(map[string]any)["key"].(map[string]any)["id"] = theirs
		},
		"the job's cursor": func(_, job map[string]any, _ []map[string]any, _ string) { job["cursor"] = "state" },
		"every recipient": func(_, _ map[string]any, deks []map[string]any, theirs string) {
			for _, d := range deks {
				h := d["header"].([]byte)
				i := bytes.Index(h, []byte("arn:"))
				copy(h[i:], theirs)
			}
		},
		"a wrapping beside every one": func(state, _ map[string]any, deks []map[string]any, theirs string) {
			for _, d := range deks {
				h := bytes.Clone(d["header"].([]byte))
				copy(h[bytes.Index(h, []byte("arn:")):], theirs)
				d["next"], d["job"] = h, state["job"].(map[string]any)["id"]
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, nil)
				acme, cmk := env.Tenant("acme")
				umbrella, theirs := env.Tenant("umbrella")
				// Their policy even lets us in for acme: the claim is what stands in the way.
				theirs.SetPolicy(strings.Replace(theirs.Policy(), `"umbrella"`, `["umbrella", "acme"]`, 1))
				next := movable(t, env, true, cmk)
				all := sealMany(t, env.Keeper, 20)
				job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
				want(t, "Move", err, nil)
				read := func(id string) (byok.Item, map[string]any) {
					i, err := env.Store.Get(t.Context(), byok.Ref{Partition: "tenant:acme", ID: id})
					want(t, "Get", err, nil)
					v := map[string]any{}
					want(t, "Unmarshal", json.Unmarshal(i.Value, &v), nil)
					if h, ok := v["header"].(string); ok {
						var b []byte
						want(t, "Unmarshal", json.Unmarshal([]byte(`"`+h+`"`), &b), nil)
						v["header"] = b
					}
					return i, v
				}
				refs, values := []byok.Item{}, []map[string]any{}
				for _, id := range []string{"state", "job:" + job.ID} {
					i, v := read(id)
					refs, values = append(refs, i), append(values, v)
				}
				for _, i := range itemsOf(t, env.Store, "dek:") {
					i, v := read(i.ID)
					refs, values = append(refs, i), append(values, v)
				}
				tamper(values[0], values[1], values[2:], theirs.ARN())
				for n, i := range refs {
					b, err := json.Marshal(values[n])
					want(t, "Marshal", err, nil)
					want(t, "Apply", env.Store.Apply(t.Context(), byok.Item{Ref: i.Ref, Revision: i.Revision, Value: b}), nil)
				}
				before := len(env.Fake.Calls())
				k := keeperWith(t, env, quietly(byok.Options{}))
				var last byok.Job
				for range 3 {
					for last, err = range k.Tenant("acme").RunJob(t.Context(), job.ID) {
					}
				}
				for _, c := range env.Fake.Calls()[before:] {
					if c.KeyARN != cmk.ARN() && c.KeyARN != next.ARN() || c.DestinationKeyARN != "" && c.DestinationKeyARN != next.ARN() {
						t.Errorf("asked about %s, %s", c.KeyARN, c.DestinationKeyARN)
					}
				}
				if name == "a wrapping beside every one" { // is none under the new CMK: each data key gets one
					if err != nil || last.State != byok.JobDone {
						t.Errorf("%+v, %v", last, err)
					}
					cmk.Disable()
					all.open(t, k)
					return
				}
				if err == nil && name != "every recipient" || last.State == byok.JobDone && last.Done > 0 {
					t.Errorf("%+v, %v", last, err)
				}
				s, err := umbrella.Status(t.Context())
				if err != nil || s.Key.ID != theirs.ARN() {
					t.Errorf("%+v, %v", s, err)
				}
			})
		})
	}
}
