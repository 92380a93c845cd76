package storetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/byok-go/byok"
	"pgregory.net/rapid"
)

var modelCases = []storeCase{
	{"random histories against a map", func(s *store) {
		histories := 0
		rapid.Check(s.tb, func(t *rapid.T) {
			// A partition prefix of its own makes each history start empty.
			histories++
			m := &model{s: s, prefix: fmt.Sprint("h", histories, "/"), items: map[byok.Ref]byok.Item{}}
			t.Repeat(map[string]func(*rapid.T){"apply": m.apply, "get": m.get, "list": m.list})
		})
		if histories == 0 {
			s.Fatal("no history was run")
		}
		s.Logf("storetest: %d random histories", histories)
	}},
}

// model is the contract in its simplest form.
type model struct {
	s      *store
	prefix string
	items  map[byok.Ref]byok.Item
}

func (m *model) ref(t *rapid.T) byok.Ref {
	return byok.Ref{
		Partition: m.prefix + rapid.SampledFrom([]string{"a", "A", "b"}).Draw(t, "partition"),
		ID:        rapid.SampledFrom([]string{"a", "aa", "B", "a!", "~"}).Draw(t, "id"),
	}
}

func (m *model) apply(t *rapid.T) {
	n := rapid.IntRange(1, 4).Draw(t, "writes")
	var writes []byok.Item
	fails, dup := false, false
	for range n {
		w := byok.Item{Ref: m.ref(t), Value: rapid.SliceOfN(rapid.Byte(), 1, 8).Draw(t, "value")}
		w.Revision = m.items[w.Ref].Revision
		if rapid.IntRange(0, 9).Draw(t, "wrong") == 0 { // one write in ten expects another revision
			w.Revision += rapid.SampledFrom([]uint64{1, 2, ^uint64(0)}).Draw(t, "by")
			fails = true
		}
		dup = dup || slices.ContainsFunc(writes, func(o byok.Item) bool { return o.Ref == w.Ref })
		writes = append(writes, w)
	}
	err := m.s.Apply(m.s.ctx, writes...)
	switch {
	case dup:
		if !errors.Is(err, byok.ErrArgument) {
			t.Fatalf("an item twice: %v", err)
		}
	case fails:
		if !errors.Is(err, byok.ErrConflict) {
			t.Fatalf("a wrong revision: %v", err)
		}
	case err != nil:
		t.Fatalf("Apply: %v", err)
	default:
		for _, w := range writes {
			w.Revision++
			m.items[w.Ref] = w
		}
	}
}

func (m *model) get(t *rapid.T) {
	r := m.ref(t)
	got, err := m.s.Get(m.s.ctx, r)
	want, ok := m.items[r]
	if !ok {
		if !errors.Is(err, byok.ErrNotFound) {
			t.Fatalf("Get of a missing item: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	m.same(t, got, want)
}

func (m *model) list(t *rapid.T) {
	r := m.ref(t)
	after := rapid.SampledFrom([]string{"", "B", "a", "aA", "~"}).Draw(t, "after")
	limit := rapid.IntRange(1, 6).Draw(t, "limit")
	var want []byok.Item
	for ref, i := range m.items {
		if ref.Partition == r.Partition && ref.ID > after {
			want = append(want, i)
		}
	}
	slices.SortFunc(want, func(a, b byok.Item) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	want = want[:min(limit, len(want))]
	got, err := m.s.List(m.s.ctx, r.Partition, after, limit)
	if err != nil || len(got) != len(want) {
		t.Fatalf("List: %d items, %v; want %d", len(got), err, len(want))
	}
	for i := range want {
		m.same(t, got[i], want[i])
	}
}

func (m *model) same(t *rapid.T, got, want byok.Item) {
	if got.Ref != want.Ref || got.Revision != want.Revision || !slices.Equal(got.Value, want.Value) {
		t.Fatalf("got %q at revision %d with %x, want %q at %d with %x", got.Ref, got.Revision, got.Value, want.Ref, want.Revision, want.Value)
	}
}
