package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/dynamostore"
	"github.com/byok-go/byok/internal/dynamofake"
	"github.com/byok-go/byok/storetest"
)

// storm lets one request in eight fail, in every way that ends by itself. None fails more
// often in a row than a Store has patience for, so that no test fails by chance.
type storm struct {
	mu    sync.Mutex
	rng   *rand.Rand
	row   map[string]int // by request: failures in a row
	seen  [dynamofake.Faults]int
	quiet bool
}

const (
	stormRate = 8
	stormRow  = 3
)

func newStorm() *storm {
	return &storm{rng: rand.New(rand.NewPCG(1, 2)), row: map[string]int{}}
}

func (s *storm) choose(op string, body []byte) dynamofake.Fault {
	// The SDK writes maps in any order, so a request that is sent again has the same bytes in another.
	sum := uint64(len(body))
	for _, c := range body {
		sum += uint64(c) * uint64(c)
	}
	same := fmt.Sprint(op, sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet || s.rng.IntN(stormRate) != 0 || s.row[same] == stormRow {
		delete(s.row, same)
		return dynamofake.NoFault
	}
	s.row[same]++
	f := dynamofake.Fault(1 + s.rng.IntN(int(dynamofake.Hang)-1))
	s.seen[f]++
	return f
}

// check sees to it that there was a storm.
func (s *storm) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for f := dynamofake.Fault(1); f < dynamofake.Hang; f++ {
		if all += s.seen[f]; s.seen[f] == 0 {
			t.Errorf("fault %d was never made", f)
		}
	}
	t.Logf("%d faults", all)
}

// inStorm returns a Store whose requests fail, and whose answers are short.
func inStorm(t *testing.T, s *storm, pageSize int) byok.Store {
	s.mu.Lock()
	s.quiet = true
	s.mu.Unlock()
	db := newTable(t, &dynamofake.Options{Choose: s.choose, PageSize: pageSize})
	store := open(t, db)
	store.Hurry()
	s.mu.Lock()
	s.quiet = false
	s.mu.Unlock()
	t.Cleanup(db.Settle)
	return settling{store, db}
}

// settling does what a user has to after an error that says nothing: it finds out. Only an
// expectation of a revision that is yet to be written gets such an error here.
type settling struct {
	*dynamostore.Store
	db *dynamofake.DB
}

func (s settling) Apply(ctx context.Context, writes ...byok.Item) error {
	for {
		err := s.Store.Apply(ctx, writes...)
		if !errors.Is(err, dynamostore.ErrOutcome) {
			return err
		}
		s.db.Settle() // what was lost has taken place, or never will
	}
}

// TestG10_StoreContractInAStorm: throttled, cancelled, failing, and with answers that
// get lost before and after the write took effect, it is the same Store: nothing is lost,
// nothing is done twice, and a conflict is one.
func TestG10_StoreContractInAStorm(t *testing.T) {
	s := newStorm()
	storetest.TestStore(t, func(t *testing.T) byok.Store { return inStorm(t, s, 3000) })
	s.check(t)
}

func TestG10_AuditContractInAStorm(t *testing.T) {
	s := newStorm()
	storetest.TestAudit(t, func(t *testing.T) byok.AuditSink { return inStorm(t, s, 100_000).(byok.AuditSink) })
	s.check(t)
}

// TestG7_OneWriterNeverConflicts: who writes alone is never told of a conflict, which could
// only be with its own request whose answer was lost; and each write counts once.
func TestG7_OneWriterNeverConflicts(t *testing.T) {
	s := newStorm()
	store := inStorm(t, s, 3000)
	const n = 500
	for rev := range uint64(n) {
		w := []byok.Item{{Ref: byok.Ref{Partition: "p", ID: "i"}, Revision: rev, Value: fmt.Append(nil, rev)}}
		if rev%2 == 1 {
			w = append(w, byok.Item{Ref: byok.Ref{Partition: "p", ID: "j"}, Revision: rev / 2, Value: []byte("x")})
		}
		if err := store.Apply(t.Context(), w...); err != nil {
			t.Fatalf("write %d: %v", rev, err)
		}
	}
	for id, want := range map[string]uint64{"i": n, "j": n / 2} {
		if got, err := store.Get(t.Context(), byok.Ref{Partition: "p", ID: id}); err != nil || got.Revision != want {
			t.Errorf("%s: revision %d, %v; want %d", id, got.Revision, err, want)
		}
	}
}

// TestG7_WritersInAStorm: of many writers each success is one revision, and no
// revision is another's.
func TestG7_WritersInAStorm(t *testing.T) {
	s := newStorm()
	store := inStorm(t, s, 3000)
	ref := byok.Ref{Partition: "p", ID: "i"}
	var mu sync.Mutex
	won := map[uint64]string{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 25 {
				value := fmt.Sprintf("%d/%d", w, n)
				for {
					got, err := store.Get(t.Context(), ref)
					if err != nil && !errors.Is(err, byok.ErrNotFound) {
						t.Error(err)
						return
					}
					got.Ref, got.Value = ref, []byte(value)
					err = store.Apply(t.Context(), got)
					if errors.Is(err, byok.ErrConflict) {
						continue
					}
					mu.Lock()
					if other, ok := won[got.Revision]; ok || err != nil {
						t.Errorf("revision %d is %s's and %s's: %v", got.Revision+1, other, value, err)
					}
					won[got.Revision] = value
					mu.Unlock()
					break
				}
			}
		})
	}
	wg.Wait()
	got, err := store.Get(t.Context(), ref)
	if err != nil || got.Revision != 8*25 || len(won) != 8*25 || string(got.Value) != won[8*25-1] {
		t.Errorf("revision %d with %s, %d successes, %v; want 200 of each", got.Revision, got.Value, len(won), err)
	}
}
