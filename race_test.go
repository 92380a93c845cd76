package byok_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// 32 processes make the first data key of a purpose at once: one item, and what
// any of them sealed opens everywhere (I19, threat G1).
func TestI19_FirstUse(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	const n = 32
	var wg sync.WaitGroup
	sealed := make([][]byte, n)
	for i := range n {
		k := env.NewKeeper()
		wg.Go(func() {
			var err error
			sealed[i], err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, fmt.Append(nil, i), nil)
			if err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	k := env.NewKeeper()
	for i, s := range sealed {
		mustOpen(t, k, "acme", s, "", fmt.Sprint(i))
	}
	if n := dataKeys(t, env, "acme"); n != 1 {
		t.Errorf("%d data keys, want 1", n)
	}
	matchCalls(t, env, env.Audit.All())
}

// dataKeys counts a tenant's data keys, and fails if two share a purpose and
// generation.
func dataKeys(t *testing.T, env *byoktest.Env, tenant string) (n int) {
	t.Helper()
	items, err := env.Store.List(t.Context(), "tenant:"+tenant, "", 1000)
	want(t, "List", err, nil)
	gens := 0
	for _, i := range items {
		switch {
		case strings.HasPrefix(i.ID, "dek:"):
			n++
		case strings.HasPrefix(i.ID, "gen:"):
			gens++
			if i.Revision != 1 {
				t.Errorf("%s was written %d times", i.ID, i.Revision)
			}
		}
	}
	if n != gens {
		t.Errorf("%d data keys for %d generations", n, gens)
	}
	return n
}

// Rotations under concurrent writers and readers in two processes lose nothing
// and fail nothing.
func TestI19_RotationUnderLoad(t *testing.T) {
	env := byoktest.New(t, nil)
	acme, _ := env.Tenant("acme")
	keepers := []*byok.Keeper{env.Keeper, env.NewKeeper()}
	var mu sync.Mutex
	records := map[string][]byte{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		k := keepers[w%2]
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%d/%d", w, i)
				s, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte(id), []byte(id))
				if err != nil {
					t.Errorf("Seal during rotation: %v", err)
					return
				}
				mu.Lock()
				records[id] = s
				mu.Unlock()
			}
		})
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				var id string
				var s []byte
				for id, s = range records {
					break
				}
				mu.Unlock()
				if s == nil {
					continue
				}
				if p, err := keepers[rand.N(2)].Open(t.Context(), byok.Scope{Tenant: "acme"}, s, []byte(id)); err != nil || string(p) != id {
					t.Errorf("Open during rotation: %q, %v", p, err)
					return
				}
			}
		})
	}
	for i := range 20 {
		r, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		if r.PreviousVersion != uint64(i+1) || r.NewVersion != uint64(i+2) || r.ID == "" {
			t.Errorf("rotation %d: %+v", i, r)
		}
		seal(t, env.Keeper, "acme", "x", "")
	}
	close(stop)
	wg.Wait()
	k := env.NewKeeper()
	for id, s := range records {
		mustOpen(t, k, "acme", s, id, id)
	}
	st, err := acme.Status(t.Context())
	want(t, "Status", err, nil)
	if n := dataKeys(t, env, "acme"); st.DEKVersion != 21 || n < 10 || st.DataKeys != uint64(n) {
		t.Errorf("version %d, %d data keys, status says %d", st.DEKVersion, n, st.DataKeys)
	}
	t.Logf("%d records, %d data keys", len(records), st.DataKeys)
	matchCalls(t, env, env.Audit.All())
}

// Two rotators at once: each of their rotations counts.
func TestG2_ConcurrentRotators(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	var wg sync.WaitGroup
	for range 8 {
		tenant := env.NewKeeper().Tenant("acme")
		wg.Go(func() {
			if _, err := tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
				t.Errorf("Rotate: %v", err)
			}
		})
	}
	wg.Wait()
	st, err := env.Keeper.Tenant("acme").Status(t.Context())
	if want(t, "Status", err, nil); st.DEKVersion != 9 {
		t.Errorf("DEKVersion = %d after 8 rotations, want 9", st.DEKVersion)
	}
}
