package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

func TestSuiteAcceptsMemStore(t *testing.T) {
	for name, message := range storeFailures(t, func() byok.Store { return new(byok.MemStore) }) {
		t.Errorf("%s: %s", name, message)
	}
}

// storeFailures runs the cases that are named, or all, and returns what they say.
func storeFailures(t *testing.T, open func() byok.Store, only ...string) map[string]string {
	failures := make(map[string]string)
	for _, c := range storeCases {
		if len(only) > 0 && !slices.Contains(only, c.name) {
			continue
		}
		if m := failure(t, func(t tb) { c.run(newStore(t, open())) }); m != "" {
			failures[c.name] = m
		}
	}
	return failures
}

func TestSuiteAcceptsThePlainStore(t *testing.T) {
	for name, message := range storeFailures(t, func() byok.Store { return newFaulty(func(*faulty) {}) }) {
		t.Errorf("%s: %s", name, message)
	}
}

func TestSuiteDetectsFaults(t *testing.T) {
	faults := []struct {
		name, by string
		break_   func(s *faulty)
	}{
		{"lost update", "a stale revision is a conflict", func(s *faulty) {
			s.check = func(old, w byok.Item) error { return nil }
		}},
		{"lost update, by a gap between check and write", "32 increment one counter", func(s *faulty) { s.gap = true }},
		{"two creators win", "32 create one item", func(s *faulty) { s.gap = true }},
		{"creating overwrites", "creating what exists is a conflict", func(s *faulty) {
			s.check = func(old, w byok.Item) error {
				if w.Revision != 0 && old.Revision != w.Revision {
					return byok.ErrConflict
				}
				return nil
			}
		}},
		{"updating creates", "updating what is missing is a conflict", func(s *faulty) {
			s.check = func(old, w byok.Item) error {
				if old.Revision != 0 && old.Revision != w.Revision {
					return byok.ErrConflict
				}
				return nil
			}
		}},
		{"updating what is missing is not found", "updating what is missing is a conflict", func(s *faulty) {
			s.check = func(old, w byok.Item) error {
				if old.Revision == 0 && w.Revision != 0 {
					return byok.ErrNotFound
				}
				if old.Revision != w.Revision {
					return byok.ErrConflict
				}
				return nil
			}
		}},
		{"accepts newer revisions", "a future revision is a conflict", func(s *faulty) {
			s.check = func(old, w byok.Item) error {
				if w.Revision < old.Revision {
					return byok.ErrConflict
				}
				return nil
			}
		}},
		{"revisions wrap to signed numbers", "a future revision is a conflict", func(s *faulty) {
			s.check = func(old, w byok.Item) error {
				if int32(old.Revision) != int32(w.Revision) {
					return byok.ErrConflict
				}
				return nil
			}
		}},
		{"not atomic", "25 updates, the last in conflict: none", func(s *faulty) { s.partial = true }},
		{"not atomic for readers", "readers see no half Apply", func(s *faulty) {
			s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, w := range writes {
					if err := s.check(s.items[w.Ref], w); err != nil {
						return err
					}
				}
				for _, w := range writes {
					s.store(w)
					s.mu.Unlock()
					time.Sleep(50 * time.Microsecond)
					s.mu.Lock()
				}
				return nil
			}
		}},
		{"revision reset", "each write adds one", func(s *faulty) {
			s.write = func(old, w byok.Item) byok.Item { w.Revision = 1; return w }
		}},
		{"revision skips", "each write adds one", func(s *faulty) {
			s.write = func(old, w byok.Item) byok.Item { w.Revision += 2; return w }
		}},
		{"an unchanged value is not written", "writing the same value adds one", func(s *faulty) {
			s.write = func(old, w byok.Item) byok.Item {
				if bytes.Equal(old.Value, w.Value) {
					return old
				}
				w.Revision++
				return w
			}
		}},
		{"stale Get", "each write adds one", func(s *faulty) {
			cache, age := map[byok.Ref]byok.Item{}, map[byok.Ref]int{}
			s.get = func(s *faulty, r byok.Ref) (byok.Item, error) {
				if i, ok := cache[r]; ok && age[r]%8 != 0 {
					age[r]++
					return i, nil
				}
				i, err := s.plainGet(r)
				if err == nil {
					cache[r] = i
					age[r]++
				}
				return i, err
			}
		}},
		{"a missing item is no error", "missing item is ErrNotFound", func(s *faulty) {
			s.get = func(s *faulty, r byok.Ref) (byok.Item, error) { return s.items[r], nil }
		}},
		{"visible only later", "a new item has revision 1", func(s *faulty) {
			s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
				writes = slices.Clone(writes)
				for i := range writes {
					writes[i].Value = bytes.Clone(writes[i].Value)
				}
				go func() { time.Sleep(time.Millisecond); _ = s.plainApply(ctx, writes) }()
				return nil
			}
		}},
		{"forgets old items", "items are never deleted", func(s *faulty) {
			n := 0
			s.write = func(old, w byok.Item) byok.Item {
				if n++; n > 60 {
					maps.DeleteFunc(s.items, func(r byok.Ref, i byok.Item) bool { return i.Revision == 1 && r != w.Ref })
				}
				w.Revision++
				return w
			}
		}},
		{"values end at NUL", "all bytes in one value", func(s *faulty) {
			s.value = func(b []byte) []byte { b, _, _ = bytes.Cut(b, []byte{0}); return bytes.Clone(b) }
		}},
		{"values end after 65535 bytes", "a value of 64 KiB", func(s *faulty) {
			s.value = func(b []byte) []byte { return bytes.Clone(b[:min(len(b), 65535)]) }
		}},
		{"values become UTF-8", "every value of one byte", func(s *faulty) {
			s.value = func(b []byte) []byte { return bytes.ToValidUTF8(bytes.Clone(b), []byte("\ufffd")) }
		}},
		{"values are trimmed", "values that look like something else", func(s *faulty) {
			s.value = func(b []byte) []byte { return bytes.TrimRight(bytes.Clone(b), " ") }
		}},
		{"values are aliased in", "a value is copied in", func(s *faulty) { s.value = func(b []byte) []byte { return b } }},
		{"values are aliased out", "a value is copied out", func(s *faulty) { s.out = func(b []byte) []byte { return b } }},
		{"listed values share a buffer", "items of one list share nothing", func(s *faulty) {
			s.list = func(items []byok.Item, after string, n int) []byok.Item {
				items = items[:min(n, len(items))]
				var buf []byte
				for _, i := range items {
					buf = append(buf, i.Value...)
				}
				for k := range items {
					items[k].Value, buf = buf[:len(items[k].Value)], buf[len(items[k].Value):]
				}
				return items
			}
		}},
		{"arguments are changed", "the arguments are left alone", func(s *faulty) {
			s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
				err := s.plainApply(ctx, writes)
				for i := range writes {
					writes[i].Revision++
				}
				return err
			}
		}},
		{"arguments are sorted", "the arguments are left alone", func(s *faulty) {
			s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
				slices.SortFunc(writes, func(a, b byok.Item) int { return strings.Compare(a.ID, b.ID) })
				return s.plainApply(ctx, writes)
			}
		}},
		{"names ignore case", "upper and lower case are different", func(s *faulty) {
			s.key = func(r byok.Ref) byok.Ref {
				return byok.Ref{Partition: strings.ToLower(r.Partition), ID: strings.ToLower(r.ID)}
			}
		}},
		{"names run together", "partition and id do not run together", func(s *faulty) {
			s.key = func(r byok.Ref) byok.Ref { return byok.Ref{ID: r.Partition + "/" + r.ID} }
		}},
		{"names are numbers", "odd names are only names", func(s *faulty) {
			s.key = func(r byok.Ref) byok.Ref { r.ID = strings.TrimLeft(r.ID, "0+"); return r }
		}},
		{"names are cut", "names of 255 bytes", func(s *faulty) {
			s.key = func(r byok.Ref) byok.Ref { r.ID = r.ID[:min(len(r.ID), 254)]; return r }
		}},
		{"unordered List", "byte order", func(s *faulty) {
			s.list = func(items []byok.Item, after string, n int) []byok.Item {
				rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
				return items[:min(n, len(items))]
			}
		}},
		{"List in the order of people", "byte order", func(s *faulty) {
			s.less = func(a, b string) int {
				if c := strings.Compare(strings.ToLower(a), strings.ToLower(b)); c != 0 {
					return c
				}
				return strings.Compare(a, b)
			}
		}},
		{"List pages too short", "pages are as full as they can be", func(s *faulty) {
			s.list = func(items []byok.Item, after string, n int) []byok.Item { return items[:min(n, len(items), 20)] }
		}},
		{"List drops one now and then", "paging", func(s *faulty) {
			s.list = func(items []byok.Item, after string, n int) []byok.Item {
				if len(items) > n { // a page with an OFFSET, while the items move
					items = slices.Delete(slices.Clone(items), n-1, n)
				}
				return items[:min(n, len(items))]
			}
		}},
		{"List from a snapshot of before", "list shows revisions", func(s *faulty) {
			var snapshot []byok.Item
			s.list = func(items []byok.Item, after string, n int) []byok.Item {
				if snapshot == nil {
					for _, i := range items {
						i.Revision = 1
						snapshot = append(snapshot, i)
					}
				}
				return snapshot[:min(n, len(snapshot))]
			}
		}},
		{"List repeats after", "after is exclusive and need not exist", func(s *faulty) {
			s.list = func(items []byok.Item, after string, n int) []byok.Item {
				for r, i := range s.items {
					if r.ID == after && len(items) > 0 && items[0].Partition == r.Partition {
						items = append([]byok.Item{i}, items...)
					}
				}
				return items[:min(n, len(items))]
			}
		}},
		{"values without a limit", "a value of 64 KiB and one is refused", func(s *faulty) {
			s.refuse = func(w []byok.Item) error {
				w = slices.Clone(w)
				for i := range w {
					w[i].Value = w[i].Value[:min(len(w[i].Value), 1)]
				}
				return refuseByMem(w)
			}
		}},
		{"empty values", "an empty value is refused", func(s *faulty) {
			s.refuse = func(w []byok.Item) error {
				w = slices.Clone(w)
				for i := range w {
					w[i].Value = append(w[i].Value[:0:0], 'x')
				}
				return refuseByMem(w)
			}
		}},
		{"writes without a limit", "26 writes are refused", func(s *faulty) {
			s.refuse = func(w []byok.Item) error { return refuseByMem(w[:min(len(w), byok.MaxApplyWrites)]) }
		}},
		{"an item twice", "an item twice is refused", func(s *faulty) {
			s.refuse = func(w []byok.Item) error {
				for i := range w {
					if err := refuseByMem(w[i : i+1]); err != nil {
						return err
					}
				}
				return refuseByMem(w[:min(1, len(w))])
			}
		}},
		{"any name", "bytes outside 0x21..0x7e are refused", func(s *faulty) { s.refuse = func([]byok.Item) error { return nil } }},
		{"errors quote values", "an error holds no value", func(s *faulty) {
			s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
				if err := s.plainApply(ctx, writes); err != nil {
					return fmt.Errorf("%q: %w", writes[0].Value, err)
				}
				return nil
			}
		}},
		{"acknowledges without writing when ctx is done", "a ctx that is done", func(s *faulty) {
			s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
				if ctx.Err() != nil {
					return nil
				}
				return s.plainApply(ctx, writes)
			}
		}},
		{"a ctx that ends tears an Apply", "a ctx that ends midway tears nothing", func(s *faulty) {
			s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
				if _, ok := ctx.Deadline(); !ok || len(writes) < 2 {
					return s.plainApply(ctx, writes)
				}
				if err := s.plainApply(ctx, writes[:1]); err != nil {
					return err
				}
				time.Sleep(200 * time.Microsecond)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return s.plainApply(ctx, writes[1:])
			}
		}},
		{"a conflict now and then for nothing", "32 write items of their own", func(s *faulty) {
			s.check = func(old, w byok.Item) error {
				if old.Revision != w.Revision || rand.N(20) == 0 {
					return byok.ErrConflict
				}
				return nil
			}
		}},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			detected(t, f.by, storeFailures(t, func() byok.Store { return newFaulty(f.break_) }, f.by))
		})
	}
	t.Logf("%d faults", len(faults))
}

// TestSharedSuiteDetectsFaults: handles that cache, and data that is lost.
func TestSharedSuiteDetectsFaults(t *testing.T) {
	run := func(data func() func() byok.Store) map[string]string {
		failures := make(map[string]string)
		for _, c := range sharedStoreCases {
			m := failure(t, func(t tb) {
				open := data()
				c.run(t, func() *store { return newStore(t, open()) })
			})
			if m != "" {
				failures[c.name] = m
			}
		}
		return failures
	}
	good := run(func() func() byok.Store {
		s := new(byok.MemStore)
		return func() byok.Store { return s }
	})
	if len(good) != 0 {
		t.Fatal(good)
	}
	detected(t, "what was written is there after reopening", run(func() func() byok.Store {
		return func() byok.Store { return new(byok.MemStore) }
	}))
	detected(t, "a second handle sees each write at once", run(func() func() byok.Store {
		s := new(byok.MemStore)
		return func() byok.Store { return &caching{MemStore: s, cache: map[byok.Ref]byok.Item{}} }
	}))
}

// caching forgets what it cached only on its own writes.
type caching struct {
	*byok.MemStore
	mu    sync.Mutex
	cache map[byok.Ref]byok.Item
}

func (c *caching) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := c.cache[r]; ok {
		return i, nil
	}
	i, err := c.MemStore.Get(ctx, r)
	if err == nil {
		c.cache[r] = i
	}
	return i, err
}

func (c *caching) Apply(ctx context.Context, writes ...byok.Item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.cache)
	return c.MemStore.Apply(ctx, writes...)
}
