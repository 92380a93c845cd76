package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/byok-go/byok"
)

const racers = 32

var contextCases = []storeCase{
	{"a ctx that is done", func(s *store) {
		s.write(item("p", "i", 0, "x"))
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		soon(s, "Get", func() { _, _ = s.Get(ctx, byok.Ref{Partition: "p", ID: "i"}) })
		soon(s, "List", func() { _, _ = s.List(ctx, "p", "", 10) })
		var err error
		soon(s, "Apply", func() { err = s.Apply(ctx, item("p", "i", 1, "y")) })
		got, gerr := s.Get(s.ctx, byok.Ref{Partition: "p", ID: "i"})
		if gerr != nil {
			s.Fatal(gerr)
		}
		if err == nil && got.Revision != 2 || errors.Is(err, byok.ErrConflict) {
			s.Fatalf("Apply with a ctx that is done: %v, and the revision is %d", err, got.Revision)
		}
	}},
	{"a ctx that ends midway tears nothing", func(s *store) {
		s.write(item("p", "a", 0, "0"), item("p", "b", 0, "0"))
		for n := range 200 {
			ctx, cancel := context.WithTimeout(s.ctx, time.Duration(n%20)*25*time.Microsecond)
			a, b := s.pair()
			value := strconv.Itoa(n)
			err := s.Apply(ctx, item("p", "a", a.Revision, value), item("p", "b", b.Revision, value))
			cancel()
			if errors.Is(err, byok.ErrConflict) {
				// An earlier write of ours may have ended after its ctx did.
				continue
			}
			if after, _ := s.pair(); err == nil && after.Revision <= a.Revision {
				s.Fatal("an acknowledged write is not there")
			}
		}
		// Whatever became of the last ones, the items still move together.
		for range 50 {
			a, b := s.pair()
			if a.Revision == b.Revision && string(a.Value) != string(b.Value) {
				s.Fatalf("half an Apply: %q and %q at revision %d", a.Value, b.Value, a.Revision)
			}
			if err := s.Apply(s.ctx, item("p", "a", a.Revision, "end"), item("p", "b", a.Revision, "end")); err == nil {
				s.want("p", "b", a.Revision+1, "end")
				return
			} else if !errors.Is(err, byok.ErrConflict) {
				s.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		s.Fatal("two items that are always written together have different revisions")
	}},
}

func (s *store) pair() (a, b byok.Item) {
	s.Helper()
	a, err := s.Get(s.ctx, byok.Ref{Partition: "p", ID: "a"})
	if err != nil {
		s.Fatal(err)
	}
	if b, err = s.Get(s.ctx, byok.Ref{Partition: "p", ID: "b"}); err != nil {
		s.Fatal(err)
	}
	return a, b
}

var raceCases = []storeCase{
	{"32 increment one counter", func(s *store) { count(s, racers, 8, func(int) byok.Store { return s.Store }) }},
	{"32 create one item", func(s *store) { create(s, racers, func(int) byok.Store { return s.Store }) }},
	{"32 write items of their own", func(s *store) {
		parallel(s, racers, func(i int) error {
			for rev := range uint64(8) {
				if err := s.Apply(s.ctx, item("p", fmt.Sprint(i), rev, "x")); err != nil {
					return fmt.Errorf("nobody else writes this item: %w", err)
				}
			}
			return nil
		})
		for i := range racers {
			s.want("p", fmt.Sprint(i), 8, "x")
		}
	}},
	{"opposite orders", func(s *store) {
		s.write(item("p", "a", 0, "0"), item("p", "b", 0, "0"), item("p", "c", 0, "0"))
		parallel(s, 8, func(g int) error {
			return increment(s.ctx, s.Store, 10, 8*10, func(read func(string) (byok.Item, error)) ([]byok.Item, error) {
				ids := []string{"a", "b", "c"}
				if g%2 == 1 {
					ids = []string{"c", "b", "a"}
				}
				var writes []byok.Item
				for _, id := range ids {
					i, err := read(id)
					if err != nil {
						return nil, err
					}
					writes = append(writes, next(i))
				}
				return writes, nil
			})
		})
		for _, id := range []string{"a", "b", "c"} {
			s.want("p", id, 81, "80")
		}
	}},
	{"readers see no half Apply", func(s *store) {
		s.write(item("p", "a", 0, "0"), item("p", "b", 0, "0"))
		var stop atomic.Bool
		parallel(s, 6, func(g int) error {
			if g == 0 {
				defer stop.Store(true)
				for rev := uint64(1); rev <= 150; rev++ {
					v := strconv.FormatUint(rev, 10)
					if err := s.Apply(s.ctx, item("p", "a", rev, v), item("p", "b", rev, v)); err != nil {
						return err
					}
				}
				return nil
			}
			var last uint64
			for !stop.Load() {
				a, err := s.Get(s.ctx, byok.Ref{Partition: "p", ID: "a"})
				if err != nil {
					return err
				}
				b, err := s.Get(s.ctx, byok.Ref{Partition: "p", ID: "b"})
				if err != nil {
					return err
				}
				if b.Revision < a.Revision {
					return fmt.Errorf("revision %d of one item was seen, and then %d of the other", a.Revision, b.Revision)
				}
				if a.Revision < last {
					return fmt.Errorf("revision %d was seen, and then %d", last, a.Revision)
				}
				last = b.Revision
				if a.Revision > 1 && string(a.Value) != strconv.FormatUint(a.Revision-1, 10) {
					return fmt.Errorf("revision %d has the value of another", a.Revision)
				}
			}
			return nil
		})
	}},
	{"what was acknowledged is seen by everybody", func(s *store) {
		s.write(item("p", "i", 0, "0"))
		var done atomic.Uint64
		var ended atomic.Bool
		done.Store(1)
		parallel(s, 6, func(g int) error {
			if g == 0 {
				defer ended.Store(true)
				for rev := uint64(1); rev < 150; rev++ {
					if err := s.Apply(s.ctx, item("p", "i", rev, "x")); err != nil {
						return err
					}
					done.Store(rev + 1)
				}
				return nil
			}
			for {
				last, least := ended.Load(), done.Load()
				i, err := s.Get(s.ctx, byok.Ref{Partition: "p", ID: "i"})
				if err != nil {
					return err
				}
				l, err := s.List(s.ctx, "p", "", 1)
				if err != nil {
					return err
				}
				if i.Revision < least || len(l) != 1 || l[0].Revision < least {
					return fmt.Errorf("revision %d was acknowledged, but Get or List returns an older one", least)
				}
				if last {
					return nil
				}
			}
		})
	}},
}

// count lets n goroutines increment one counter by compare-and-set: none is lost.
func count(s *store, n, each int, handle func(i int) byok.Store) {
	s.write(item("p", "i", 0, "0"))
	parallel(s, n, func(i int) error {
		return increment(s.ctx, handle(i), each, n*each, func(read func(string) (byok.Item, error)) ([]byok.Item, error) {
			i, err := read("i")
			return []byok.Item{next(i)}, err
		})
	})
	s.want("p", "i", uint64(n*each)+1, strconv.Itoa(n*each))
}

// increment repeats read, change and Apply until it has succeeded times times.
// Every conflict is owed to somebody else's success since the read, so there
// are fewer of them than all, the sum of everybody's successes.
func increment(ctx context.Context, s byok.Store, times, all int, change func(read func(string) (byok.Item, error)) ([]byok.Item, error)) error {
	read := func(id string) (byok.Item, error) { return s.Get(ctx, byok.Ref{Partition: "p", ID: id}) }
	for done, conflicts := 0, 0; done < times; {
		writes, err := change(read)
		if err != nil {
			return err
		}
		runtime.Gosched() // let the others in, where a lost update would be made
		switch err := s.Apply(ctx, writes...); {
		case err == nil:
			done++
		case !errors.Is(err, byok.ErrConflict):
			return fmt.Errorf("under contention: Apply: %w", err)
		default:
			if conflicts++; conflicts > all {
				return errors.New("more conflicts than there are writes: a revision was read that is not the item's")
			}
		}
	}
	return nil
}

func next(i byok.Item) byok.Item {
	n, _ := strconv.Atoi(string(i.Value))
	i.Value = []byte(strconv.Itoa(n + 1))
	return i
}

// create lets n goroutines create the same item: one wins, and it is its value
// that stays. This is how a tenant's first data key is made.
func create(s *store, n int, handle func(i int) byok.Store) {
	for round := range 10 {
		id := fmt.Sprint("first-", round)
		var mu sync.Mutex
		var winners []string
		parallel(s, n, func(i int) error {
			value := fmt.Sprint("made by ", i)
			switch err := handle(i).Apply(s.ctx, item("p", id, 0, value), item("p", fmt.Sprint(id, "-of-", i), 0, value)); {
			case err == nil:
				mu.Lock()
				defer mu.Unlock()
				winners = append(winners, value)
			case !errors.Is(err, byok.ErrConflict):
				return fmt.Errorf("a loser: Apply: %w", err)
			}
			return nil
		})
		if len(winners) != 1 {
			s.Fatalf("%d of %d creators of one item won: %q", len(winners), n, winners)
		}
		s.want("p", id, 1, winners[0])
		for i := range n { // and the losers wrote nothing else either
			value := fmt.Sprint("made by ", i)
			if value != winners[0] {
				s.missing("p", fmt.Sprint(id, "-of-", i))
			}
		}
	}
}
