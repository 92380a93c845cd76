package byok

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/byok-go/byok/internal/storecheck"
)

// MemStore is a Store in memory, for tests and demos: what it holds, wrapped
// data keys among it, ends with the process, and what they sealed with them.
// Use package sqlstore for data that matters. The zero MemStore is ready.
type MemStore struct {
	mu    sync.RWMutex
	parts map[string]*memPartition
}

type memPartition struct {
	items map[string]Item
	ids   []string // sorted, for List
}

// Get implements Store.
func (m *MemStore) Get(ctx context.Context, r Ref) (Item, error) {
	if err := storecheck.Ref(r.Partition, r.ID); err != nil {
		return Item{}, fmt.Errorf("%w: %w", ErrArgument, err)
	}
	if err := ctx.Err(); err != nil {
		return Item{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	item, ok := m.parts[r.Partition].get(r.ID)
	if !ok {
		return Item{}, ErrNotFound
	}
	return item.clone(), nil
}

// List implements Store.
func (m *MemStore) List(ctx context.Context, partition, after string, limit int) ([]Item, error) {
	if err := storecheck.List(partition, after, limit); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArgument, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	p := m.parts[partition]
	if p == nil {
		return nil, nil
	}
	from, found := slices.BinarySearch(p.ids, after)
	if found {
		from++
	}
	ids := p.ids[from:min(from+limit, len(p.ids))]
	items := make([]Item, len(ids))
	for i, id := range ids {
		items[i] = p.items[id].clone()
	}
	return items, nil
}

// Apply implements Store. It is as durable as the process.
func (m *MemStore) Apply(ctx context.Context, writes ...Item) error {
	if err := checkWrites(writes); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// All expectations are looked at before the first write: all or none.
	for _, w := range writes {
		// A missing item has revision 0, so 0 expects exactly that.
		if item, _ := m.parts[w.Partition].get(w.ID); item.Revision != w.Revision {
			return ErrConflict
		}
	}
	for _, w := range writes {
		w.Revision++
		m.put(w.clone())
	}
	return nil
}

func (m *MemStore) put(item Item) {
	p := m.parts[item.Partition]
	if p == nil {
		if m.parts == nil {
			m.parts = make(map[string]*memPartition)
		}
		p = &memPartition{items: make(map[string]Item)}
		m.parts[item.Partition] = p
	}
	if i, found := slices.BinarySearch(p.ids, item.ID); !found {
		p.ids = slices.Insert(p.ids, i, item.ID)
	}
	p.items[item.ID] = item
}

func (p *memPartition) get(id string) (Item, bool) {
	if p == nil {
		return Item{}, false
	}
	item, ok := p.items[id]
	return item, ok
}

// clone keeps the caller's slice and the Store's apart, in both directions.
func (i Item) clone() Item {
	i.Value = bytes.Clone(i.Value)
	return i
}

func checkWrites(writes []Item) error {
	err := storecheck.Apply(len(writes), func(i int) (string, string, []byte) {
		return writes[i].Partition, writes[i].ID, writes[i].Value
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArgument, err)
	}
	return nil
}
