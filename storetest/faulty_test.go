package storetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/byok-go/byok"
)

// faulty is a simple Store, right unless a field makes it wrong.
type faulty struct {
	mu    sync.Mutex
	items map[byok.Ref]byok.Item

	key     func(byok.Ref) byok.Ref                                  // how items are found
	value   func([]byte) []byte                                      // what is stored
	out     func([]byte) []byte                                      // what is returned
	check   func(old byok.Item, w byok.Item) error                   // an expectation
	write   func(old, w byok.Item) byok.Item                         // what a write makes
	less    func(a, b string) int                                    // order of List
	list    func(items []byok.Item, after string, n int) []byok.Item // what List returns
	refuse  func(writes []byok.Item) error                           // argument checks
	partial bool                                                     // writes as it checks
	gap     bool                                                     // others may come between checks and writes
	get     func(s *faulty, r byok.Ref) (byok.Item, error)
	apply   func(s *faulty, ctx context.Context, writes []byok.Item) error
}

func newFaulty(break_ func(*faulty)) *faulty {
	s := &faulty{
		items: make(map[byok.Ref]byok.Item),
		key:   func(r byok.Ref) byok.Ref { return r },
		value: bytes.Clone,
		out:   bytes.Clone,
		check: func(old, w byok.Item) error {
			if old.Revision != w.Revision {
				return byok.ErrConflict
			}
			return nil
		},
		write:  func(_, w byok.Item) byok.Item { w.Revision++; return w },
		less:   strings.Compare,
		list:   func(items []byok.Item, after string, n int) []byok.Item { return items[:min(n, len(items))] },
		refuse: refuseByMem,
		get:    (*faulty).plainGet,
		apply:  (*faulty).plainApply,
	}
	break_(s)
	return s
}

// refuseByMem borrows MemStore's checks, which come before its conflicts.
func refuseByMem(writes []byok.Item) error {
	if err := new(byok.MemStore).Apply(context.Background(), writes...); errors.Is(err, byok.ErrArgument) {
		return err
	}
	return nil
}

func (s *faulty) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if _, err := new(byok.MemStore).Get(ctx, r); !errors.Is(err, byok.ErrNotFound) {
		return byok.Item{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(s, r)
}

func (s *faulty) plainGet(r byok.Ref) (byok.Item, error) {
	i, ok := s.items[s.key(r)]
	if !ok {
		return byok.Item{}, byok.ErrNotFound
	}
	i.Ref, i.Value = r, s.out(i.Value)
	return i, nil
}

func (s *faulty) List(ctx context.Context, partition, after string, limit int) ([]byok.Item, error) {
	if _, err := new(byok.MemStore).List(ctx, partition, after, limit); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var items []byok.Item
	for _, i := range s.items {
		if i.Partition == partition && s.less(i.ID, after) > 0 {
			i.Value = s.out(i.Value)
			items = append(items, i)
		}
	}
	slices.SortFunc(items, func(a, b byok.Item) int { return s.less(a.ID, b.ID) })
	return s.list(items, after, limit), nil
}

func (s *faulty) Apply(ctx context.Context, writes ...byok.Item) error {
	if err := s.refuse(writes); err != nil {
		return err
	}
	return s.apply(s, ctx, writes)
}

func (s *faulty) plainApply(_ context.Context, writes []byok.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range writes {
		if err := s.check(s.items[s.key(w.Ref)], w); err != nil {
			return err
		}
		if s.partial {
			s.store(w)
		}
	}
	if s.partial {
		return nil
	}
	if s.gap {
		s.mu.Unlock()
		time.Sleep(10 * time.Microsecond)
		s.mu.Lock()
	}
	for _, w := range writes {
		s.store(w)
	}
	return nil
}

func (s *faulty) store(w byok.Item) {
	w.Value = s.value(w.Value)
	s.items[s.key(w.Ref)] = s.write(s.items[s.key(w.Ref)], w)
}
