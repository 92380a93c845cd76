package byok_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// soon is "within about a second": a look each second, jitter, and the step of these tests.
const soon = 1200 * time.Millisecond

// process returns another Keeper on env's Store that Runs, as a process of a fleet.
func process(t *testing.T, env *byoktest.Env) *byok.Keeper {
	t.Helper()
	k := env.NewKeeper()
	go func() { _ = k.Run(t.Context()) }()
	return k
}

// until calls f every 50 ms, and returns when it first returned true.
func until(t *testing.T, limit time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !f() {
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(start)
}

// What the control plane commands in one process takes effect in those that Run
// within about a second, and in those that do not within MaxAge (I3).
func TestI3_CommandsReachTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		env.Tenant("other")
		fleet := []*byok.Keeper{process(t, env), process(t, env)}
		alone := env.NewKeeper()
		sealed, quiet := seal(t, env.Keeper, "acme", "x", ""), seal(t, env.Keeper, "other", "y", "")
		everywhere := func(k *byok.Keeper, target error) func() bool {
			return func() bool {
				mustOpen(t, k, "other", quiet, "", "y")
				_, err := open(t, k, "acme", sealed, "")
				if target == nil {
					return err == nil
				}
				return errors.Is(err, target)
			}
		}
		for _, c := range []struct {
			name string
			do   func() error
			then error
		}{
			{"Suspend", func() error { _, err := acme.Suspend(t.Context(), ""); return err }, byok.ErrSuspended},
			{"Resume", func() error { _, err := acme.Resume(t.Context(), ""); return err }, nil},
			{"Revoke", func() error { _, err := acme.Revoke(t.Context(), ""); return err }, byok.ErrKeyRemoved},
			{"Register", func() error { _, err := register(t, acme, cmk); return err }, nil},
		} {
			for _, k := range append(fleet, alone) { // all have a lease that is as new as can be
				_, _ = open(t, k, "acme", sealed, "")
			}
			want(t, c.name, c.do(), nil)
			everywhere(env.Keeper, c.then)()
			for i, k := range fleet {
				until(t, soon, fmt.Sprintf("%s in process %d", c.name, i), everywhere(k, c.then))
			}
			until(t, byok.DefaultMaxAge, c.name+" in a process without Run", everywhere(alone, c.then))
		}

		for _, k := range fleet {
			seal(t, k, "acme", "x", "")
		}
		before := dataKeys(t, env, "acme")
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		time.Sleep(soon)
		for i, k := range fleet {
			if newest := seal(t, k, "acme", "x", ""); dataKeys(t, env, "acme") != before+1 || !bytesShare(newest, seal(t, env.Keeper, "acme", "x", "")) {
				t.Errorf("process %d seals with a data key of the old generation", i)
			}
		}
	})
}

// bytesShare reports whether two REF envelopes have the same data key id.
func bytesShare(a, b []byte) bool {
	ia, erra := byok.Inspect(a)
	ib, errb := byok.Inspect(b)
	return erra == nil && errb == nil && ia.DataKey == ib.DataKey
}

// A denial that one process sees is a hint to the others: they ask KMS
// themselves, and are denied too. Without Run they go on until their proof is MaxAge old.
func TestI3_DenialReachesTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		fleet := []*byok.Keeper{process(t, env), process(t, env), process(t, env)}
		alone := env.NewKeeper()
		time.Sleep(2 * time.Second)
		for _, k := range append(fleet, alone) {
			mustOpen(t, k, "acme", sealed, "", "x")
		}
		start, written := time.Now(), changes(t, env.Store)
		cmk.Disable()
		_, err := acme.Health(t.Context())
		want(t, "Health", err, nil)
		for i, k := range fleet {
			until(t, soon, fmt.Sprintf("the denial in process %d", i), func() bool {
				_, err := open(t, k, "acme", sealed, "")
				return errors.Is(err, byok.ErrKeyDenied)
			})
		}
		mustOpen(t, alone, "acme", sealed, "", "x")
		time.Sleep(byok.DefaultMaxAge - time.Since(start))
		_, err = open(t, alone, "acme", sealed, "")
		want(t, "Open without Run after MaxAge", err, byok.ErrKeyDenied)
		time.Sleep(10 * time.Second)
		// One process told; those that heard of it did not tell it again. The one that does not
		// follow had no way to know that it is old news.
		if n := changes(t, env.Store) - written; n != 2 {
			t.Errorf("%d hints about one revocation, want 2", n)
		}

		cmk.Enable()
		for _, k := range append(fleet, alone) {
			until(t, 31*time.Second, "recovery", func() bool {
				_, err := open(t, k, "acme", sealed, "")
				return err == nil
			})
		}
	})
}

// changes returns the number of the newest change.
func changes(t *testing.T, s byok.Store) uint64 {
	t.Helper()
	item, err := s.Get(t.Context(), byok.Ref{Partition: "changes", ID: "head"})
	if errors.Is(err, byok.ErrNotFound) {
		return 0
	}
	want(t, "Get", err, nil)
	return item.Revision
}

// The platform hears of a change and tells one process: the whole fleet asks KMS.
func TestRecheckReachesTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		k := process(t, env)
		sealed := seal(t, k, "acme", "x", "")
		time.Sleep(2 * time.Second)
		env.Fake.ResetCalls()
		_, err := acme.Recheck(t.Context()) // a false alarm
		want(t, "Recheck", err, nil)
		own := len(env.Fake.Calls())
		time.Sleep(soon)
		for range 10 {
			mustOpen(t, k, "acme", sealed, "", "x")
		}
		if n := len(env.Fake.Calls()) - own; n != 1 {
			t.Errorf("%d KMS calls in the other process for a false alarm, want 1", n)
		}
		time.Sleep(10 * time.Second)

		env.Fake.ResetCalls() // a process does not take its own word for news
		_, err = k.Tenant("acme").Recheck(t.Context())
		want(t, "Recheck", err, nil)
		for range 50 {
			mustOpen(t, k, "acme", sealed, "", "x")
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(env.Fake.Calls()); n != 3 {
			t.Errorf("%d KMS calls after a Recheck of one's own, want 3", n)
		}

		cmk.Disable()
		_, err = acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		time.Sleep(soon)
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open in the other process", err, byok.ErrKeyDenied)
	})
}

// A hint that this process had no use for in time says nothing about a denial that comes
// much later: the others have asked KMS since, and must hear of it.
func TestI3_OldHintKeepsNoDenialFromTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		idle, busy := process(t, env), process(t, env)
		time.Sleep(2 * time.Second)
		for _, k := range []*byok.Keeper{idle, busy} {
			mustOpen(t, k, "acme", sealed, "", "x")
		}
		_, err := acme.Recheck(t.Context()) // a false alarm
		want(t, "Recheck", err, nil)
		time.Sleep(20 * time.Second)
		mustOpen(t, busy, "acme", sealed, "", "x")
		cmk.Disable()
		_, err = open(t, idle, "acme", sealed, "")
		want(t, "Open in the process that was idle", err, byok.ErrKeyDenied)
		until(t, soon, "the denial in the busy process", func() bool {
			_, err := open(t, busy, "acme", sealed, "")
			return errors.Is(err, byok.ErrKeyDenied)
		})
	})
}

const wrongRole = "arn:aws:iam::999999999999:role/stranger"

// stranger returns a process whose role no key policy lets in.
func stranger(t *testing.T, env *byoktest.Env) *byok.Keeper {
	t.Helper()
	keys, err := awskms.NewFromClient(env.Fake.Client(wrongRole), nil)
	want(t, "NewFromClient", err, nil)
	k, err := byok.New(byoktest.Service, keys, env.Store, env.Audit, nil)
	want(t, "New", err, nil)
	t.Cleanup(func() { _ = k.Close() })
	go func() { _ = k.Run(t.Context()) }()
	return k
}

// One process with a wrong role: it is denied everything, and says so. The others
// stay up, at the cost of one KMS call per tenant and process (I6, I7).
func TestI7_OneWrongRoleStopsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		const tenants = 70 // more than fit into one write of hints
		name := func(i int) string { return fmt.Sprintf("tenant-%d", i) }
		sealed := make([][]byte, tenants)
		for i := range sealed {
			env.Tenant(name(i))
			sealed[i] = seal(t, env.Keeper, name(i), "x", "")
		}
		fleet := []*byok.Keeper{process(t, env), process(t, env)}
		all := func() {
			for _, k := range fleet {
				for i, s := range sealed {
					mustOpen(t, k, name(i), s, "", "x")
				}
			}
		}
		all()
		time.Sleep(2 * time.Second)
		env.Fake.ResetCalls()
		bad := stranger(t, env)
		for i, s := range sealed {
			_, err := open(t, bad, name(i), s, "")
			want(t, "Open with the wrong role", err, byok.ErrKeyDenied)
		}
		denied := len(env.Fake.Calls())
		for range 100 { // 10 s: no lease is due for renewal yet
			all()
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(env.Fake.Calls()) - denied; n != tenants*len(fleet) {
			t.Errorf("%d KMS calls by the others, want one for each of %d tenants and %d processes", n, tenants, len(fleet))
		}
	})
}

// Unfounded hints about a key are heeded less and less often, whoever restarts
// in a loop with a wrong role; and none of them fails an operation.
func TestUnfoundedHintsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := process(t, env)
		mustOpen(t, k, "acme", sealed, "", "x")
		time.Sleep(2 * time.Second)
		env.Fake.ResetCalls()
		const minutes = 4
		hints := changes(t, env.Store)
		for i := range minutes * 600 {
			if i%30 == 0 { // every 3 s
				bad := stranger(t, env)
				_, err := open(t, bad, "acme", sealed, "")
				want(t, "Open with the wrong role", err, byok.ErrKeyDenied)
				time.Sleep(10 * time.Millisecond) // to tell the others
				want(t, "Close", bad.Close(), nil)
			}
			mustOpen(t, k, "acme", sealed, "", "x")
			time.Sleep(100 * time.Millisecond)
		}
		if n := changes(t, env.Store) - hints; n < minutes*20*9/10 {
			t.Fatalf("only %d hints were published", n)
		}
		n := 0
		for _, c := range env.Fake.Calls() {
			if c.Code == "" {
				n++
			}
		}
		// 5 steps of 1 to 16 s, then one every 30 s, when a renewal may be due too. Not 80.
		if limit := 5 + minutes*2*2 + 2; n < 8 || n > limit {
			t.Errorf("%d KMS calls in %d minutes of unfounded hints, want at most %d", n, minutes, limit)
		}
		// One that is founded gets through all the same: late by no more than a step.
		cmk.Disable()
		_, err := env.Keeper.Tenant("acme").Recheck(t.Context())
		want(t, "Recheck", err, nil)
		until(t, 32*time.Second, "the denial", func() bool {
			_, err := open(t, k, "acme", sealed, "")
			return errors.Is(err, byok.ErrKeyDenied)
		})
	})
}

// More tenants change at once than the log has room for: nobody is missed.
func TestChangeLogOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		const n = byok.MaxChanges + 20
		sealed := make([][]byte, n)
		for i := range sealed {
			env.Tenant(fmt.Sprint("t", i))
			sealed[i] = seal(t, env.Keeper, fmt.Sprint("t", i), "x", "")
		}
		k := process(t, env)
		for i, s := range sealed {
			mustOpen(t, k, fmt.Sprint("t", i), s, "", "x")
		}
		time.Sleep(2 * time.Second)
		for i := range n {
			_, err := env.Keeper.Tenant(fmt.Sprint("t", i)).Suspend(t.Context(), "")
			want(t, "Suspend", err, nil)
		}
		time.Sleep(soon)
		for i, s := range sealed {
			_, err := open(t, k, fmt.Sprint("t", i), s, "")
			want(t, fmt.Sprint("Open of tenant ", i), err, byok.ErrSuspended)
		}
		if k.Stats().Leases != 0 {
			t.Errorf("%d leases", k.Stats().Leases)
		}
	})
}

// Many tenants are changed by many goroutines in many processes at once: the log
// that they share fails none of them, and a process that follows hears of all.
func TestChangeLogContention(t *testing.T) {
	env := byoktest.New(t, nil)
	const n = 64
	k := env.NewKeeper()
	go func() { _ = k.Run(t.Context()) }()
	sealed := make([][]byte, n)
	keepers := []*byok.Keeper{env.Keeper, env.NewKeeper(), env.NewKeeper(), env.NewKeeper()}
	for i := range sealed {
		env.Tenant(fmt.Sprint("t", i))
		sealed[i] = seal(t, k, fmt.Sprint("t", i), "x", "")
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			tenant := keepers[i%len(keepers)].Tenant(fmt.Sprint("t", i))
			for range 3 {
				_, err := tenant.Suspend(t.Context(), "")
				if err == nil {
					_, err = tenant.Resume(t.Context(), "")
				}
				if err == nil {
					_, err = tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
				}
				if err == nil {
					_, err = tenant.Suspend(t.Context(), "")
				}
				if err != nil {
					t.Errorf("tenant %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	for i, s := range sealed {
		until(t, 20*time.Second, fmt.Sprint("the suspension of tenant ", i), func() bool {
			_, err := open(t, k, fmt.Sprint("t", i), s, "")
			return errors.Is(err, byok.ErrSuspended)
		})
	}
}

// logStore has another writer at the change log whenever somebody wants to write it.
type logStore struct {
	byok.Store
	mu   sync.Mutex
	lost int // writes that lost
	busy bool
}

func (s *logStore) Apply(ctx context.Context, w ...byok.Item) error {
	s.mu.Lock()
	busy := s.busy && slices.ContainsFunc(w, func(i byok.Item) bool { return i.Partition == "changes" })
	if busy {
		s.lost++
	}
	s.mu.Unlock()
	if busy {
		return byok.ErrConflict
	}
	return s.Store.Apply(ctx, w...)
}

func (s *logStore) set(busy bool) { s.mu.Lock(); s.busy = busy; s.mu.Unlock() }

// A stop does not depend on the change log: it loses a few races, goes without,
// and the others are told when there is room.
func TestStopWithoutTheChangeLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &logStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		acme, _ := env.Tenant("acme")
		k := process(t, env)
		sealed := seal(t, k, "acme", "x", "")
		time.Sleep(2 * time.Second)
		store.set(true)
		start := time.Now()
		_, err := acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		if d := time.Since(start); d > time.Second {
			t.Errorf("a stop waited %v for the change log", d)
		}
		_, err = open(t, env.Keeper, "acme", sealed, "")
		want(t, "Open", err, byok.ErrSuspended)
		mustOpen(t, k, "acme", sealed, "", "x") // not told yet
		store.set(false)
		time.Sleep(soon)
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open in the other process", err, byok.ErrSuspended)
		if store.lost < 2 {
			t.Error("nobody was in the way")
		}
	})
}

// A hint that comes too early for its back-off is not lost: it waits.
func TestEarlyHintWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := process(t, env)
		for range 4 { // false alarms: the next step is 8 s
			_, err := acme.Recheck(t.Context())
			want(t, "Recheck", err, nil)
			time.Sleep(10 * time.Second)
			mustOpen(t, k, "acme", sealed, "", "x")
		}
		_, err := acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		time.Sleep(soon)
		mustOpen(t, k, "acme", sealed, "", "x")
		cmk.Disable()
		_, err = acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		d := until(t, 17*time.Second+soon, "the denial", func() bool {
			_, err := open(t, k, "acme", sealed, "")
			return errors.Is(err, byok.ErrKeyDenied)
		})
		if d < 5*time.Second {
			t.Errorf("heeded after %v", d)
		}
	})
}

// slowKeyring has its answers on the way for a while.
type slowKeyring struct {
	byok.Keyring
	delay atomic.Int64
}

func (s *slowKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	dek, r, err := s.Keyring.UnwrapDataKey(ctx, key, w, ec)
	time.Sleep(time.Duration(s.delay.Load()))
	return dek, r, err
}

// A load that was under way when the hint came proves nothing about the time
// after it: the operation asks again.
func TestHintDuringALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		slow := &slowKeyring{Keyring: env.Keys}
		k, err := byok.New(byoktest.Service, slow, env.Store, env.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		go func() { _ = k.Run(t.Context()) }()
		time.Sleep(2 * time.Second)
		slow.delay.Store(int64(4 * time.Second))
		result := make(chan error)
		go func() { _, err := open(t, k, "acme", sealed, ""); result <- err }()
		time.Sleep(time.Second)
		slow.delay.Store(0)
		cmk.Disable()
		_, err = acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		want(t, "Open", <-result, byok.ErrKeyDenied)
	})
}

// What was changed before a process began to Run is found at its first look.
func TestFirstLookFindsWhatCameBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		k := env.NewKeeper()
		sealed := seal(t, k, "acme", "x", "")
		_, err := acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		mustOpen(t, k, "acme", sealed, "", "x")
		go func() { _ = k.Run(t.Context()) }()
		time.Sleep(100 * time.Millisecond)
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrSuspended)
		_, err = acme.Resume(t.Context(), "")
		want(t, "Resume", err, nil)

		k = env.NewKeeper() // a hint, likewise
		mustOpen(t, k, "acme", sealed, "", "x")
		cmk.Disable()
		_, err = acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		time.Sleep(time.Second)
		mustOpen(t, k, "acme", sealed, "", "x")
		go func() { _ = k.Run(t.Context()) }()
		time.Sleep(100 * time.Millisecond)
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrKeyDenied)
	})
}

// moodyStore fails the reads of one item for a while.
type moodyStore struct {
	byok.Store
	bad atomic.Pointer[byok.Ref]
	hit atomic.Int32
}

func (s *moodyStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if bad := s.bad.Load(); bad != nil && *bad == r {
		s.hit.Add(1)
		return byok.Item{}, errFlaky
	}
	return s.Store.Get(ctx, r)
}

// A change that was heard of, and could not be read just then, is read later.
func TestFleetReadsAgainWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		store := &moodyStore{Store: env.Store}
		k, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		sealed := seal(t, k, "acme", "x", "")
		go func() { _ = k.Run(t.Context()) }()
		for _, ref := range []byok.Ref{{Partition: "tenant:acme", ID: "state"}, {Partition: "changes", ID: "log"}, {Partition: "changes", ID: "head"}} {
			time.Sleep(2 * time.Second)
			store.bad.Store(&ref)
			_, err = acme.Suspend(t.Context(), "")
			want(t, "Suspend", err, nil)
			time.Sleep(3 * time.Second)
			mustOpen(t, k, "acme", sealed, "", "x")
			store.bad.Store(nil)
			time.Sleep(soon)
			_, err = open(t, k, "acme", sealed, "")
			want(t, "Open after "+ref.ID+" could be read", err, byok.ErrSuspended)
			_, err = acme.Resume(t.Context(), "")
			want(t, "Resume", err, nil)
			mustOpen(t, k, "acme", sealed, "", "x")
		}
		if store.hit.Load() < 6 {
			t.Errorf("%d reads failed", store.hit.Load())
		}
	})
}

// The Store is cut off: nothing is followed, leases run out at MaxAge, and the
// suspension that came meanwhile is seen when it is back.
func TestFleetWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := new(byok.MemStore)
		store := &cutStore{Store: mem}
		env := byoktest.New(t, &byoktest.Options{Store: mem})
		acme, _ := env.Tenant("acme")
		k, err := byok.New(byoktest.Service, env.Keys, store, env.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		go func() { _ = k.Run(t.Context()) }()
		sealed := seal(t, k, "acme", "x", "")
		time.Sleep(2 * time.Second)
		store.cut(true)
		start := time.Now()
		_, err = acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		until(t, byok.DefaultMaxAge, "the end of the lease", func() bool {
			_, err := open(t, k, "acme", sealed, "")
			if err != nil {
				want(t, "Open", err, byok.ErrStore)
			}
			return err != nil
		})
		if age := time.Since(start); age < byok.DefaultMaxAge/2 {
			t.Errorf("the lease ended after %v", age)
		}
		store.cut(false)
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrSuspended)
	})
}

// backupStore can be put back to an earlier copy of itself, and forth.
type backupStore struct {
	mu    sync.Mutex
	inner byok.Store
	stale int // so many of the next reads of the head are old
	old   byok.Item
}

func (s *backupStore) now() byok.Store        { s.mu.Lock(); defer s.mu.Unlock(); return s.inner }
func (s *backupStore) swap(to byok.Store)     { s.mu.Lock(); s.inner = to; s.mu.Unlock() }
func (s *backupStore) lag(i byok.Item, n int) { s.mu.Lock(); s.old, s.stale = i, n; s.mu.Unlock() }

func (s *backupStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	s.mu.Lock()
	if r == s.old.Ref && s.stale > 0 {
		s.stale--
		defer s.mu.Unlock()
		return s.old, nil
	}
	s.mu.Unlock()
	return s.now().Get(ctx, r)
}

func (s *backupStore) List(ctx context.Context, p, after string, n int) ([]byok.Item, error) {
	return s.now().List(ctx, p, after, n)
}

func (s *backupStore) Apply(ctx context.Context, w ...byok.Item) error {
	return s.now().Apply(ctx, w...)
}

// A Store that is rolled back under a live process, of which not even the tenant in
// question was touched: everything stops until it is back (I17, threat G6).
func TestI17_G6_RolledBackFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var warned []byok.Warning
		store := &backupStore{inner: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store, Keeper: &byok.Options{Observer: &byok.Observer{
			Warning: func(tenant string, w byok.Warning) {
				mu.Lock()
				defer mu.Unlock()
				if warned = append(warned, w); tenant != "" {
					t.Errorf("the warning is about tenant %q", tenant)
				}
			},
		}}})
		env.Tenant("acme")
		other, _ := env.Tenant("other")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k := process(t, env)
		mustOpen(t, k, "acme", sealed, "", "x")
		parts := []string{"tenant:acme", "tenant:other", "tenants", "cmk", "changes"}
		backup := copyStore(t, store.now(), parts...)
		_, err := other.Suspend(t.Context(), "stop")
		want(t, "Suspend", err, nil)
		time.Sleep(2 * time.Second) // k has heard of it
		live := store.now()
		store.swap(backup)
		time.Sleep(soon)
		for range 3 {
			_, err = open(t, k, "acme", sealed, "")
			want(t, "Open from a rolled back Store", err, byok.ErrStore)
			_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "new"}, nil, nil)
			want(t, "Seal", err, byok.ErrStore)
			time.Sleep(10 * time.Second)
		}
		h, err := k.Tenant("acme").Health(t.Context())
		if want(t, "Health", err, nil); h.Status != byok.Unhealthy {
			t.Errorf("health: %+v", h)
		}
		if k.Stats().Leases != 0 {
			t.Error("a lease is left")
		}
		_, err = k.Tenant("acme").Suspend(t.Context(), "") // stop always stops
		want(t, "Suspend", err, nil)
		mu.Lock()
		if len(warned) != 1 || warned[0].Kind != byok.WarnStoreRolledBack {
			t.Errorf("warnings: %+v", warned)
		}
		mu.Unlock()
		store.swap(live)
		time.Sleep(soon)
		mustOpen(t, env.NewKeeper(), "acme", sealed, "", "x")

		// A replica that lags, against the contract of a Store: the same, for a second.
		want(t, "Close", k.Close(), nil)
		k = process(t, env)
		mustOpen(t, k, "acme", sealed, "", "x")
		time.Sleep(2 * time.Second)
		old, err := store.Get(t.Context(), byok.Ref{Partition: "changes", ID: "head"})
		want(t, "Get", err, nil)
		_, err = other.Resume(t.Context(), "")
		want(t, "Resume", err, nil)
		time.Sleep(2 * time.Second)
		store.lag(old, 1)
		until(t, soon, "the old answer", func() bool {
			_, err := open(t, k, "acme", sealed, "")
			return errors.Is(err, byok.ErrStore)
		})
		until(t, soon, "recovery", func() bool {
			_, err := open(t, k, "acme", sealed, "")
			return err == nil
		})
	})
}

// A Store that no version with a change log has written to is fine; and its
// change log, damaged, costs the speed and nothing else.
func TestChangeLogIsOptional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		old := copyStore(t, env.Store, "tenant:acme", "tenants", "cmk", "waiver") // as an earlier version left it
		env.Store = old
		k := process(t, env)
		mustOpen(t, k, "acme", sealed, "", "x")
		time.Sleep(10 * time.Second)
		mustOpen(t, k, "acme", sealed, "", "x")
		acme := env.NewKeeper().Tenant("acme")
		_, err := acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		time.Sleep(soon)
		_, err = open(t, k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrSuspended)
		for _, id := range []string{"log", "head"} {
			item, err := old.Get(t.Context(), byok.Ref{Partition: "changes", ID: id})
			want(t, "Get", err, nil)
			item.Value = []byte(strings.Replace(string(item.Value), `"v":1`, `"v":2`, 1))
			want(t, "Apply", old.Apply(t.Context(), item), nil)
			_, err = acme.Resume(t.Context(), "")
			want(t, "Resume with a damaged "+id, err, nil)
			_, err = acme.Suspend(t.Context(), "")
			want(t, "Suspend with a damaged "+id, err, nil)
			_, err = open(t, k, "acme", sealed, "")
			want(t, "Open", err, byok.ErrSuspended)
			_, err = acme.Resume(t.Context(), "")
			want(t, "Resume", err, nil)
			mustOpen(t, k, "acme", sealed, "", "x")
			time.Sleep(time.Minute)
		}
	})
}
