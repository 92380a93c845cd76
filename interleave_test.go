package byok_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/fipstest"
)

var interleavings = flag.Int("interleavings", 300, "histories of TestG2_RotatorsAndSealers")

// steppedStore lets one operation go on at a time, and somebody else says whose: each
// order of operations that processes on one Store can have is a seed.
type steppedStore struct {
	byok.Store
	mu     sync.Mutex
	parked []chan struct{}
}

func (s *steppedStore) park() {
	turn := make(chan struct{})
	s.mu.Lock()
	s.parked = append(s.parked, turn)
	s.mu.Unlock()
	<-turn
}

// step lets one of those go on that wait, if there is any.
func (s *steppedStore) step(r *rand.Rand) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.parked) == 0 {
		return false
	}
	i := r.IntN(len(s.parked))
	close(s.parked[i])
	s.parked = append(s.parked[:i], s.parked[i+1:]...)
	return true
}

func (s *steppedStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	s.park()
	return s.Store.Get(ctx, r)
}

func (s *steppedStore) List(ctx context.Context, partition, after string, limit int) ([]byok.Item, error) {
	s.park()
	return s.Store.List(ctx, partition, after, limit)
}

func (s *steppedStore) Apply(ctx context.Context, writes ...byok.Item) error {
	s.park()
	return s.Store.Apply(ctx, writes...)
}

// rotations is the model: which generation each process has to seal with at least, and
// what has been given out.
type rotations struct {
	mu     sync.Mutex
	floor  []uint64        // by process: the newest that a rotation of its own has returned
	given  map[uint64]bool // new versions
	sealed []sealedAt
}

type sealedAt struct {
	record
	floor uint64 // of its process when it began
}

// Two rotators and ten sealers in three processes, in every order that their operations on
// the Store can have: each rotation is the next one, nothing is sealed under an older
// generation once its process has rotated, every generation of a purpose has one data
// key, and everything opens.
func TestG2_RotatorsAndSealers(t *testing.T) {
	sealed, steps := 0, 0
	for seed := range *interleavings {
		if seed%20 == 0 {
			fipstest.Refresh()
		}
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 2))
			store := &steppedStore{Store: new(byok.MemStore)}
			env := byoktest.New(t, &byoktest.Options{Store: store.Store, Keeper: simOptions})
			env.Tenant("acme")
			env.Store = store // from here on
			m := &rotations{floor: make([]uint64, 3), given: map[uint64]bool{}}
			var keepers []*byok.Keeper
			for range m.floor {
				keepers = append(keepers, env.NewKeeper())
			}
			var wg sync.WaitGroup
			for i := range 2 {
				wg.Go(func() {
					for range 2 {
						m.rotate(t, keepers, (seed+i)%3)
					}
				})
			}
			for i := range 10 {
				wg.Go(func() {
					for n := range 2 {
						m.seal(t, keepers, i%3, fmt.Sprint("p", (i+n)%2))
					}
				})
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			for over := false; !over; {
				synctest.Wait()
				if store.step(r) {
					steps++
					continue
				}
				select { // nobody wants the Store: somebody waits for time to pass, or all is over
				case <-done:
					over = true
				case <-time.After(time.Millisecond):
				}
			}
			env.Store = store.Store
			m.check(t, env)
			if sealed += len(m.sealed); t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
	if sealed < 20**interleavings || steps < 50**interleavings {
		t.Errorf("%d records in %d steps: too little happened", sealed, steps)
	}
	t.Logf("%d histories, %d steps, %d records", *interleavings, steps, sealed)
}

func (m *rotations) rotate(t *testing.T, keepers []*byok.Keeper, i int) {
	out, err := keepers[i].Tenant("acme").Rotate(context.Background(), byok.Rotation{Type: byok.RotateDEK})
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || out.NewVersion != out.PreviousVersion+1 || m.given[out.NewVersion] {
		t.Errorf("Rotate: %+v, %v", out, err)
	}
	m.given[out.NewVersion] = true
	m.floor[i] = max(m.floor[i], out.NewVersion)
}

func (m *rotations) seal(t *testing.T, keepers []*byok.Keeper, i int, purpose string) {
	m.mu.Lock()
	s := sealedAt{record: record{purpose: purpose, plain: fmt.Sprint("of process ", i)}, floor: m.floor[i]}
	m.mu.Unlock()
	var err error
	if s.sealed, err = keepers[i].Seal(context.Background(), byok.Scope{Tenant: "acme", Purpose: purpose}, []byte(s.plain), nil); err != nil {
		t.Errorf("Seal during rotations: %v", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sealed = append(m.sealed, s)
}

func (m *rotations) check(t *testing.T, env *byoktest.Env) {
	k := env.NewKeeper()
	st, err := k.Tenant("acme").Status(t.Context())
	want(t, "Status", err, nil)
	if st.DEKVersion != 1+uint64(len(m.given)) {
		t.Errorf("version %d after %d rotations", st.DEKVersion, len(m.given))
	}
	generation := map[string]uint64{} // of a purpose's data key
	items, err := env.Store.List(t.Context(), "tenant:acme", "gen:", byok.MaxListLimit)
	want(t, "List", err, nil)
	for _, i := range items {
		rest, ok := strings.CutPrefix(i.ID, "gen:")
		if !ok {
			continue
		}
		purpose, number, _ := strings.Cut(rest, ":")
		var n uint64
		_, _ = fmt.Sscanf(number, "%d", &n)
		var g struct {
			DataKey string `json:"data_key"`
		}
		want(t, "gen", json.Unmarshal(i.Value, &g), nil)
		generation[purpose+" "+g.DataKey] = n
	}
	dataKeys(t, env, "acme") // and there is one for each of these, and none beside
	for _, s := range m.sealed {
		h, err := byok.Inspect(s.sealed)
		want(t, "Inspect", err, nil)
		if g := generation[s.purpose+" "+h.DataKey.String()]; g == 0 || g < s.floor {
			t.Errorf("sealed under generation %d, after a rotation to %d had returned there", g, s.floor)
		}
		plain, err := k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: s.purpose}, s.sealed, nil)
		if want(t, "Open", err, nil); string(plain) != s.plain {
			t.Errorf("opened %q, sealed %q", plain, s.plain)
		}
	}
}
