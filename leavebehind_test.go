package byok_test

import (
	"context"
	"encoding/json"
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
)

// itemDataKey is the data key that an item of the Store is.
func itemDataKey(t *testing.T, i byok.Item) (id byok.DataKeyID) {
	t.Helper()
	want(t, "UnmarshalText", id.UnmarshalText([]byte(strings.TrimPrefix(i.ID, "dek:"))), nil)
	return id
}

// putHeader replaces what the Store has of a data key.
func putHeader(t *testing.T, store byok.Store, i byok.Item, edit func(header []byte) []byte) {
	t.Helper()
	now, err := store.Get(t.Context(), i.Ref)
	want(t, "Get", err, nil)
	v := map[string]any{}
	want(t, "Unmarshal", json.Unmarshal(i.Value, &v), nil)
	var d struct{ Header []byte }
	want(t, "Unmarshal", json.Unmarshal(i.Value, &d), nil)
	v["header"] = edit(slices.Clone(d.Header))
	b, err := json.Marshal(v)
	want(t, "Marshal", err, nil)
	want(t, "Apply", store.Apply(t.Context(), byok.Item{Ref: i.Ref, Revision: now.Revision, Value: b}), nil)
}

// spoil makes a wrapped key of what still is one by its form, and that KMS calls invalid.
func spoil(header []byte) []byte {
	header[len(header)-1] ^= 1
	return header
}

// A move with data keys that KMS calls invalid, or that are none any more, moves all others, and then waits until somebody says
// which of them may be left behind. Those stay as they are, so that one that is repaired opens again.
func TestG12_MoveLeavesBehindWhatItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{})})
		acme, cmk := env.Tenant("acme")
		next := movable(t, env, true, cmk)
		all := sealMany(t, env.Keeper, 40)
		items := itemsOf(t, env.Store, "dek:")
		invalid, none := items[0], items[25]
		putHeader(t, env.Store, invalid, spoil)
		putHeader(t, env.Store, none, func([]byte) []byte { return []byte("junk") })
		bad := []byok.DataKeyID{itemDataKey(t, invalid), itemDataKey(t, none)}
		spoiled := fmt.Sprint(itemsOf(t, env.Store, invalid.ID), itemsOf(t, env.Store, none.ID))
		ctx, cancel := context.WithCancel(byok.WithActor(t.Context(), "ana"))
		ran := make(chan error, 1)
		go func() { ran <- env.Keeper.Run(ctx) }()
		job, err := acme.Move(ctx, awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		state := func(after time.Duration) byok.Job {
			t.Helper()
			time.Sleep(after)
			j, err := acme.Job(ctx, job.ID)
			want(t, "Job", err, nil)
			return j
		}
		waits := func(j byok.Job) {
			t.Helper()
			if j.State != byok.JobPaused || j.Why != "BYOK_012" || j.Done != 38 || j.Failed != 2 || !slices.Equal(j.Unreadable, bad) {
				t.Fatalf("%+v", j)
			}
		}
		waits(state(5 * time.Minute))
		before := len(env.Fake.Calls())
		waits(state(5 * time.Hour))
		if n := len(env.Fake.Calls()) - before; n < 2 || n > 2*5*13 { // ReEncrypt and Decrypt of one data key, five to ten minutes apart
			t.Errorf("%d requests in five hours", n)
		}
		named := map[byok.DataKeyID]bool{}
		for _, e := range env.Audit.All() {
			if e.Op == byok.OpRewrap && e.Outcome != byok.OutcomeSuccess {
				named[e.DataKey] = true
			}
		}
		if len(named) != 2 || !named[bad[0]] || !named[bad[1]] {
			t.Errorf("events name %v", named)
		}

		healthy := itemDataKey(t, items[1])
		for _, ids := range [][]byok.DataKeyID{nil, {healthy}, {bad[0], healthy}} {
			if _, err := acme.LeaveBehind(ctx, job.ID, ids, ""); !errors.Is(err, byok.ErrArgument) {
				t.Errorf("LeaveBehind(%v): %v", ids, err)
			}
		}
		if _, err := acme.LeaveBehind(ctx, strings.Repeat("0", 32), bad, ""); !errors.Is(err, byok.ErrJobNotFound) {
			t.Errorf("of no job: %v", err)
		}
		_, err = acme.LeaveBehind(ctx, job.ID, bad[:1], "the disk of May")
		want(t, "LeaveBehind", err, nil)
		waits(state(time.Hour)) // for the other one
		_, err = acme.LeaveBehind(ctx, job.ID, bad[1:], "and of June")
		want(t, "LeaveBehind", err, nil)
		if j := state(time.Minute); j.State != byok.JobDone || j.Done != 38 || !slices.Equal(j.Unreadable, bad) {
			t.Fatalf("%+v", j)
		}
		if got := fmt.Sprint(itemsOf(t, env.Store, invalid.ID), itemsOf(t, env.Store, none.ID)); got != spoiled {
			t.Errorf("what was left behind has changed:\n%s\n%s", got, spoiled)
		}
		told := 0
		for _, e := range env.Audit.All() {
			if e.Op == byok.OpJob && e.Actor == "ana" && strings.Contains(e.Reason, "leave behind") && (strings.Contains(e.Reason, bad[0].String()) || strings.Contains(e.Reason, bad[1].String())) {
				told++
			}
		}
		if told != 2 {
			t.Errorf("%d events of what may be left behind", told)
		}
		if _, err := acme.LeaveBehind(ctx, job.ID, bad, ""); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("of a job that is done: %v", err)
		}
		cmk.Disable()
		k, lost := env.NewKeeper(), 0
		for _, r := range all {
			if _, err := k.Open(ctx, r.scope, r.sealed, nil); err != nil {
				lost++
			}
		}
		if lost != 2 {
			t.Errorf("%d records do not open", lost)
		}

		// Both are repaired, and the tenant moves back.
		cmk.Enable()
		for _, i := range []byok.Item{invalid, none} {
			putHeader(t, env.Store, i, func(h []byte) []byte { return h })
		}
		time.Sleep(time.Minute)
		back, err := acme.Move(ctx, awskms.Key(cmk.ARN()), "back")
		want(t, "Move back", err, nil)
		finish(t, acme, back.ID)
		all.open(t, env.NewKeeper())
		matchCalls(t, env, env.Audit.All())
		cancel()
		<-ran
	})
}

// When everything looks damaged it is not damage. Nothing can be left behind then, nor when it is too much, nor what is
// healthy and could not be wrapped for another reason.
func TestG12_MoveLeavesNothingElseBehind(t *testing.T) {
	for name, tt := range map[string]struct {
		n       int
		spoiled func(i int) bool
		begins  bool // with the damage there before
		named   int
		refused bool // to leave behind what is named
	}{
		"everything":         {20, func(int) bool { return true }, false, 20, true},
		"all but one":        {20, func(i int) bool { return i != 7 }, true, 19, false},
		"all but the last":   {20, func(i int) bool { return i != 19 }, false, 19, false},
		"more than it names": {130, func(i int) bool { return i >= 20 }, true, 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{})})
				acme, cmk := env.Tenant("acme")
				next := movable(t, env, true, cmk)
				sealMany(t, env.Keeper, tt.n)
				items := itemsOf(t, env.Store, "dek:")
				damage := func(edit func([]byte) []byte) {
					for i, item := range items {
						if tt.spoiled(i) {
							putHeader(t, env.Store, item, edit)
						}
					}
				}
				damage(spoil)
				job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
				if begins := err == nil; begins != tt.begins || err != nil && !errors.Is(err, byok.ErrStore) {
					t.Errorf("Move: %v", err)
				}
				if !tt.begins {
					damage(func(h []byte) []byte { return h })
					job, err = acme.Move(t.Context(), awskms.Key(next.ARN()), "")
					want(t, "Move", err, nil)
					damage(spoil)
				}
				run := func() (last byok.Job) {
					var err error
					for last, err = range acme.RunJob(t.Context(), job.ID) {
					}
					if last.State != byok.JobDone && !errors.Is(err, byok.ErrStore) {
						t.Errorf("%+v, %v", last, err)
					}
					return last
				}
				last := run()
				if last.State != byok.JobPaused || len(last.Unreadable) != tt.named {
					t.Errorf("%+v", last)
				}
				_, err = acme.LeaveBehind(t.Context(), job.ID, last.Unreadable, "")
				if refused := err != nil; refused != tt.refused || refused && !errors.Is(err, byok.ErrArgument) {
					t.Errorf("LeaveBehind: %v", err)
				}
				if last = run(); (last.State == byok.JobDone) != (!tt.refused && int64(tt.named) == last.Failed) {
					t.Errorf("in the end: %+v", last)
				}
			})
		})
	}

	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		next := movable(t, env, false, cmk)
		sealMany(t, env.Keeper, 20)
		healthy := itemDataKey(t, itemsOf(t, env.Store, "dek:")[4])
		keys := &rewrapKeyring{Keyring: env.Keys, wrap: func(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
			if ec[byok.ContextDataKey] == healthy.String() {
				return byok.Wrapped{Bytes: []byte("junk")}, nil
			}
			return env.Keys.WrapDataKey(ctx, key, dek, ec)
		}}
		k, err := byok.New(byoktest.Service, keys, env.Store, env.Audit, quietly(byok.Options{}))
		want(t, "New", err, nil)
		defer k.Close()
		acme := k.Tenant("acme")
		job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
		want(t, "Move", err, nil)
		var last byok.Job
		for last, err = range acme.RunJob(t.Context(), job.ID) {
		}
		if !errors.Is(err, byok.ErrStore) || last.State != byok.JobPaused || last.Failed != 1 || len(last.Unreadable) != 0 {
			t.Errorf("%+v, %v", last, err)
		}
		if _, err := acme.LeaveBehind(t.Context(), job.ID, []byok.DataKeyID{healthy}, ""); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("LeaveBehind of a healthy one: %v", err)
		}
	})
}
