package byok_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"pgregory.net/rapid"
)

// usageStore is a Store that counts reservations, and can fail or delay them.
type usageStore struct {
	byok.Store
	writes atomic.Int64
	fault  atomic.Int64 // 1: refuses; 2: writes, and loses the answer; 3: another process reserves 4 messages first, once
	delay  atomic.Int64 // ns
	back   sync.Map     // Ref -> Item that it answers instead
}

func (s *usageStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if i, ok := s.back.Load(r); ok {
		return i.(byok.Item), nil
	}
	return s.Store.Get(ctx, r)
}

func (s *usageStore) Apply(ctx context.Context, writes ...byok.Item) error {
	if len(writes) != 1 || !strings.HasPrefix(writes[0].ID, "use:") {
		return s.Store.Apply(ctx, writes...)
	}
	time.Sleep(time.Duration(s.delay.Load()))
	switch s.fault.Load() {
	case 1:
		return errors.New("the disk is full")
	case 2:
		_ = s.Store.Apply(ctx, writes...)
		return errors.New("connection reset")
	}
	if s.fault.CompareAndSwap(3, 0) {
		var u struct{ V, Messages, Bytes int64 }
		i, err := s.Store.Get(ctx, writes[0].Ref)
		if err == nil {
			err = json.Unmarshal(i.Value, &u)
		}
		i.Value = fmt.Appendf(nil, `{"v":1,"messages":%d,"bytes":%d}`, u.Messages+4, u.Bytes)
		if err = errors.Join(err, s.Store.Apply(ctx, i)); err != nil {
			return err
		}
	}
	s.writes.Add(1)
	if i, ok := s.back.Load(writes[0].Ref); ok { // a Store that was put back goes on from there
		if old := i.(byok.Item); old.Revision != writes[0].Revision {
			return byok.ErrConflict
		}
		writes[0].Revision++
		s.back.Store(writes[0].Ref, writes[0])
		return nil
	}
	return s.Store.Apply(ctx, writes...)
}

func dataKeyOf(t interface{ Fatal(...any) }, sealed []byte) byok.DataKeyID {
	h, err := byok.Inspect(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return h.DataKey
}

// With a limit of three messages the fourth is under a new data key, and so on; the
// log has each rotation, nobody's wish, and everything opens.
func TestE17_I15_RollsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, limits := range map[string][4]int64{
			"messages":            {3, 1 << 40, 1, 1 << 30},
			"messages in a block": {3, 1 << 40, 1 << 20, 1 << 30},
			"bytes":               {1 << 32, 34, 1 << 20, 8}, // three of 10 and no fourth
		} {
			env := byoktest.New(t, nil)
			env.Tenant("acme")
			env.Keeper.SetLimits(limits[0], limits[1], limits[2], limits[3])
			var sealed [][]byte
			for i := range 11 {
				sealed = append(sealed, seal(t, env.Keeper, "acme", fmt.Sprint("message ", i%10, " "), ""))
				synctest.Wait() // for the fetch ahead
			}
			for i, s := range sealed {
				if same := dataKeyOf(t, s) == dataKeyOf(t, sealed[i/3*3]); !same {
					t.Errorf("%s: message %d is under another data key than %d", name, i, i/3*3)
				}
				if i >= 3 && dataKeyOf(t, s) == dataKeyOf(t, sealed[i-3]) {
					t.Errorf("%s: message %d is under the data key of %d", name, i, i-3)
				}
				mustOpen(t, env.Keeper, "acme", s, "", fmt.Sprint("message ", i%10, " "))
			}
			var rotations []byok.Event
			for _, e := range env.Audit.All() {
				if e.Op == byok.OpRotate {
					rotations = append(rotations, e)
				}
			}
			if len(rotations) != 3 {
				t.Fatalf("%s: %d rotations, want 3", name, len(rotations))
			}
			for i, e := range rotations {
				if e.Actor != "" || e.Reason == "" || e.Outcome != byok.OutcomeSuccess || e.Version != uint64(i+2) || e.DataKey != dataKeyOf(t, sealed[3*i]) {
					t.Errorf("%s: %+v", name, e)
				}
			}
			st, err := env.Keeper.Tenant("acme").Status(t.Context())
			if want(t, "Status", err, nil); st.DEKVersion != 4 || st.LastRotationAt.IsZero() {
				t.Errorf("%s: %+v", name, st)
			}
			if limits[1] < 100 {
				_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme"}, make([]byte, 35), nil)
				want(t, "Seal of more than a data key may", err, byok.ErrArgument)
			}
		}
	})
}

// Whatever several processes do, die, and whatever the Store fails at: no data key
// seals more than its limit, all that was sealed opens, and a crash wastes one block at most.
func TestI15_SumOverProcesses(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		store := &usageStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		limit := rapid.Int64Range(1, 20).Draw(r, "limit")
		block := rapid.Int64Range(1, 8).Draw(r, "block")
		limitBytes := rapid.Int64Range(8, 100).Draw(r, "bytes")
		blockBytes := rapid.Int64Range(1, 40).Draw(r, "block bytes")
		start := func() *byok.Keeper {
			k := env.NewKeeper()
			k.SetLimits(limit, limitBytes, block, blockBytes)
			return k
		}
		processes := []*byok.Keeper{start(), start(), start()}
		messages, bytes := map[byok.DataKeyID]int64{}, map[byok.DataKeyID]int64{}
		crashes := int64(len(processes)) // those that live hold something too
		var lost int64
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			i := rapid.IntRange(0, len(processes)-1).Draw(r, "process")
			switch rapid.IntRange(0, 9).Draw(r, "step") {
			case 0: // it dies, and another one starts
				processes[i] = start()
				crashes++
			case 1:
				store.fault.Store(int64(rapid.IntRange(0, 2).Draw(r, "fault")))
			default:
				size := rapid.IntRange(0, 8).Draw(r, "size")
				before := store.fault.Load()
				sealed, err := processes[i].Seal(context.Background(), byok.Scope{Tenant: "acme"}, make([]byte, size), nil)
				if err != nil {
					if before == 0 || !errors.Is(err, byok.ErrStore) {
						r.Fatalf("Seal: %v", err)
					}
					lost++
					continue
				}
				id := dataKeyOf(r, sealed)
				messages[id]++
				bytes[id] += int64(size)
				if messages[id] > limit || bytes[id] > limitBytes {
					r.Fatalf("%d messages and %d bytes under one data key, limits %d and %d", messages[id], bytes[id], limit, limitBytes)
				}
				if _, err := processes[0].Open(context.Background(), byok.Scope{Tenant: "acme"}, sealed, nil); err != nil {
					r.Fatalf("Open: %v", err)
				}
			}
		}
		store.fault.Store(0)
		for _, k := range processes {
			_ = k.Close()
		}
		for id, n := range messages {
			m, b, err := env.Keeper.Reserved(context.Background(), "acme", id)
			if err != nil || m > limit || b > limitBytes || m < n || b < bytes[id] {
				r.Fatalf("reserved %d and %d (%v), used %d and %d", m, b, err, n, bytes[id])
			}
			// What is reserved and not used: a block for each process there was, and what a
			// lost answer to a fetch, ahead or not, left behind.
			if waste := m - n; lost == 0 && waste > crashes*max(1, block) {
				r.Fatalf("%d messages are wasted by %d processes with blocks of %d", waste, crashes, block)
			}
		}
	})
}

// Many at once, in several processes: exact, and nobody is refused.
func TestI15_Crowd(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	var mu sync.Mutex
	n := map[byok.DataKeyID]int{}
	var wg sync.WaitGroup
	for range 3 {
		k := env.NewKeeper()
		k.SetLimits(200, 1<<40, 20, 1<<30)
		for range 4 {
			wg.Go(func() {
				for range 100 {
					sealed, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
					if err != nil {
						t.Errorf("Seal: %v", err)
						return
					}
					mu.Lock()
					n[dataKeyOf(t, sealed)]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for id, used := range n {
		if m, _, err := env.Keeper.Reserved(t.Context(), "acme", id); used > 200 || err != nil || m > 200 {
			t.Errorf("%d messages under one data key, %d reserved (%v), limit 200", used, m, err)
		}
	}
	if len(n) < 6 || len(n) > 12 {
		t.Errorf("1200 messages took %d data keys of 200", len(n))
	}
}

// No seal without a reservation: a Store that fails at it, or loses its answer.
func TestI15_StoreFailsAtTheReservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &usageStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		env.Keeper.SetLimits(100, 1<<40, 4, 1<<30)
		id := dataKeyOf(t, seal(t, env.Keeper, "acme", "x", ""))
		synctest.Wait()
		for _, fault := range []int64{1, 2} {
			store.fault.Store(fault)
			sealed := 0
			for range 20 {
				_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
				if err == nil {
					sealed++
					continue
				}
				want(t, "Seal", err, byok.ErrStore)
			}
			if sealed > 4 {
				t.Errorf("fault %d: %d seals without a reservation, the process had 4 at most", fault, sealed)
			}
			store.fault.Store(0)
			if got := dataKeyOf(t, seal(t, env.Keeper, "acme", "x", "")); fault == 1 && got != id {
				t.Error("a Store that fails wears out the data key")
			}
			synctest.Wait()
		}

		// An older copy of the count is put back: what was granted is not granted again.
		ref := byok.Ref{Partition: "tenant:acme", ID: "use:" + dataKeyOf(t, seal(t, env.Keeper, "acme", "x", "")).String()}
		old, err := store.Store.Get(t.Context(), ref)
		want(t, "Get", err, nil)
		for range 4 { // at least one more reservation
			seal(t, env.Keeper, "acme", "x", "")
			synctest.Wait()
		}
		store.back.Store(ref, old)
		var refused error
		for range 10 {
			if _, refused = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil); refused != nil {
				break
			}
		}
		want(t, "Seal with a count that went back (I17)", refused, byok.ErrStore)
	})
}

// What is left of a block is kept when the lease ends or is denied: a tenant that
// comes and goes does not wear out its data key.
func TestI15_RemainderOutlivesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &usageStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		acme, cmk := env.Tenant("acme")
		env.Tenant("busy")
		env.Keeper.SetCacheSize(1)
		id := dataKeyOf(t, seal(t, env.Keeper, "acme", "x", ""))
		for i := range 20 {
			switch i % 3 {
			case 0:
				time.Sleep(2 * byok.DefaultMaxAge)
			case 1:
				seal(t, env.Keeper, "busy", "x", "") // pushes acme's out
			case 2:
				cmk.Disable()
				_, err := acme.Health(t.Context())
				want(t, "Health", err, nil)
				cmk.Enable()
				time.Sleep(time.Minute)
			}
			if got := dataKeyOf(t, seal(t, env.Keeper, "acme", "x", "")); got != id {
				t.Fatal("rolled over")
			}
		}
		if n := store.writes.Load(); n != 0 {
			t.Errorf("%d reservations beyond the first, which came with the data key", n)
		}
		// A process that did not make it reserves one for itself.
		k := env.NewKeeper()
		for range 3 {
			seal(t, k, "acme", "x", "")
		}
		if n := store.writes.Load(); n != 1 {
			t.Errorf("%d reservations by another process, want 1", n)
		}
		m, b, err := k.Reserved(t.Context(), "acme", id)
		if want(t, "Reserved", err, nil); m != 2<<20 || b != 2<<36 {
			t.Errorf("reserved %d messages and %d bytes by two processes: not a block each", m, b)
		}
	})
}

// The next half of a block comes ahead: nobody waits for a slow Store, and one
// that fails for a while is not noticed.
func TestI15_FetchesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &usageStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		env.Keeper.SetLimits(1<<32, 1<<48, 100, 1<<36)
		seal(t, env.Keeper, "acme", "x", "")
		store.delay.Store(int64(2 * time.Second))
		time.Sleep(5 * time.Second)
		for i := range 500 {
			store.fault.Store(0)
			if i%100 < 10 {
				store.fault.Store(1)
			}
			start := time.Now()
			seal(t, env.Keeper, "acme", "x", "")
			if d := time.Since(start); d != 0 {
				t.Fatalf("message %d waited %v", i, d)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		if n := store.writes.Load(); n < 9 || n > 11 {
			t.Errorf("%d reservations for 500 messages, 50 each", n)
		}
	})
}

// Another process is faster: what it has taken is not ours too.
func TestI15_LostRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &usageStore{Store: new(byok.MemStore)}
		env := byoktest.New(t, &byoktest.Options{Store: store})
		env.Tenant("acme")
		env.Keeper.SetLimits(10, 1<<40, 4, 1<<30)
		store.fault.Store(3)
		n := map[byok.DataKeyID]int{}
		first := dataKeyOf(t, seal(t, env.Keeper, "acme", "x", ""))
		for n[first] = 1; len(n) == 1; n[dataKeyOf(t, seal(t, env.Keeper, "acme", "x", ""))]++ {
			synctest.Wait()
		}
		if n[first] != 6 {
			t.Errorf("%d messages under a data key of 10, of which another process has reserved 4", n[first])
		}
	})
}

// A rotation while the data key was being loaded: it seals no more, counted or not.
func TestI15_RotatedWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		old := dataKeyOf(t, seal(t, env.Keeper, "acme", "x", ""))
		k, g := gauged(t, env, nil)
		g.delay.Store(int64(2 * time.Second))
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(time.Second)
			g.delay.Store(0)
			if _, err := k.Tenant("acme").Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
				t.Error(err)
			}
		}()
		if got := dataKeyOf(t, seal(t, k, "acme", "x", "")); got == old {
			t.Error("sealed under a data key that seals no more")
		}
		<-done
	})
}
