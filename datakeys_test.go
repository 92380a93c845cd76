package byok_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// What depends on which CMK: by generation and CMK, with the dates, and with what is damaged
// beside it. KMS is not asked, and a key that is blocked or removed is counted too.
func TestDataKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		seal := func(purpose string) []byte {
			t.Helper()
			s, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: purpose}, nil, nil)
			want(t, "Seal", err, nil)
			return s
		}
		counts := func() byok.DataKeyCounts {
			t.Helper()
			env.Fake.ResetCalls()
			c, err := acme.DataKeys(t.Context())
			want(t, "DataKeys", err, nil)
			if n := len(env.Fake.Calls()); n != 0 {
				t.Errorf("%d KMS requests", n)
			}
			return c
		}
		if c := counts(); c.DataKeys != 0 || !c.Oldest.IsZero() || c.Groups != nil {
			t.Errorf("none yet: %+v", c)
		}
		first := time.Now().UTC()
		seal("a")
		time.Sleep(time.Hour)
		damaged := seal("b")
		rotated, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		time.Sleep(time.Hour)
		for i := range 1100 { // more than a page
			seal(fmt.Sprint("p", i))
			time.Sleep(10 * time.Millisecond)
		}
		c := counts()
		key := awskms.Key(cmk.ARN())
		if c.DataKeys != 1102 || !c.Oldest.Equal(first) || c.Damaged != 0 || len(c.Groups) != 2 {
			t.Fatalf("%+v", c)
		}
		if g := c.Groups[0]; g.Generation != rotated.NewVersion || g.DataKeys != 1100 || !slices.Equal(g.Keys, []byok.KeyID{key}) || g.Policy != "" || !g.Oldest.Equal(first.Add(2*time.Hour)) {
			t.Errorf("%+v", g)
		}
		if g := c.Groups[1]; g.Generation != 1 || g.DataKeys != 2 || !g.Oldest.Equal(first) || !g.Newest.Equal(first.Add(time.Hour)) {
			t.Errorf("%+v", g)
		}

		h, err := byok.Inspect(damaged)
		want(t, "Inspect", err, nil)
		item, err := env.Store.Get(t.Context(), byok.Ref{Partition: "tenant:acme", ID: "dek:" + h.DataKey.String()})
		want(t, "Get", err, nil)
		item.Value = []byte(`{"v":1,"purpose":"b","generation":1,"header":"AAAA"}`)
		want(t, "Apply", env.Store.Apply(t.Context(), item), nil)
		if c = counts(); c.DataKeys != 1101 || c.Damaged != 1 {
			t.Errorf("%+v", c)
		}

		// Removing a key that data keys need says so, and how many.
		st, err := acme.Revoke(t.Context(), "leaving")
		want(t, "Revoke", err, nil)
		if !slices.Contains(st.Warnings, byok.WarnDataKeysRemain) || st.DataKeys != 1102 {
			t.Errorf("%v, %d data keys", st.Warnings, st.DataKeys)
		}
		if c = counts(); c.DataKeys != 1101 {
			t.Errorf("%+v", c)
		}
		empty, _ := env.Tenant("empty")
		if st, err = empty.Revoke(t.Context(), ""); err != nil || len(st.Warnings) != 0 {
			t.Errorf("%v, %v", st.Warnings, err)
		}
		_, err = env.Keeper.Tenant("nobody").DataKeys(t.Context())
		want(t, "DataKeys of nobody", err, byok.ErrNotRegistered)
	})
}

// What was used is known at once in the process that used it, and a little later to all, if it
// Runs; it is written once a minute at most by all of them together, and not for each operation.
func TestDataKeys_LastUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &applies{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		acme, _ := env.Tenant("acme")
		other := env.NewKeeper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go env.Keeper.Run(ctx)
		go other.Run(ctx)
		used := func(k *byok.Keeper) time.Time {
			t.Helper()
			c, err := k.Tenant("acme").DataKeys(t.Context())
			want(t, "DataKeys", err, nil)
			return c.Groups[len(c.Groups)-1].LastUsed
		}
		scope := byok.Scope{Tenant: "acme"}
		sealed, err := env.Keeper.Seal(t.Context(), scope, []byte("x"), nil)
		want(t, "Seal", err, nil)
		time.Sleep(2 * time.Minute)
		store.used.Store(0)
		for range 10 * 60 { // both processes use it for ten minutes
			time.Sleep(time.Second)
			for _, k := range []*byok.Keeper{env.Keeper, other} {
				_, err := k.Open(t.Context(), scope, sealed, nil)
				want(t, "Open", err, nil)
			}
		}
		last := time.Now()
		for _, k := range []*byok.Keeper{env.Keeper, other, env.NewKeeper()} {
			if d := last.Sub(used(k)); d < 0 || d > byok.DefaultMaxAge+2*time.Minute {
				t.Errorf("used %v before it was", d)
			}
		}
		if n := store.used.Load(); n < 4 || n > 11 {
			t.Errorf("written %d times in ten minutes", n)
		}
		time.Sleep(time.Hour)
		if d := last.Sub(used(other)); d < 0 || d > byok.DefaultMaxAge+2*time.Minute {
			t.Errorf("an hour later it was used %v before it was", d)
		}
		if _, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
			t.Fatal(err)
		}
		_, err = env.Keeper.Seal(t.Context(), scope, []byte("x"), nil)
		want(t, "Seal", err, nil)
		time.Sleep(3 * time.Minute)
		if d := last.Sub(used(other)); d < 0 || d > byok.DefaultMaxAge+2*time.Minute { // of the older generation
			t.Errorf("used %v before it was", d)
		}
	})
}

// applies counts writes of when something was used.
type applies struct {
	byok.Store
	used atomic.Int64
}

func (s *applies) Apply(ctx context.Context, writes ...byok.Item) error {
	err := s.Store.Apply(ctx, writes...)
	for _, w := range writes {
		if err == nil && strings.HasPrefix(w.ID, "used:") { // two who come at the same moment are one write
			s.used.Add(1)
		}
	}
	return err
}
