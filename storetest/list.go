package storetest

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/byok-go/byok"
)

var listCases = []storeCase{
	{"an unknown partition is empty", func(s *store) {
		s.wantList("p", "", 1)
		s.write(item("p", "i", 0, "x"))
		for _, other := range []string{"q", "P", "p!", "pp", "%", "_", "*", "?"} {
			s.wantList(other, "", byok.MaxListLimit)
		}
	}},
	{"byte order", func(s *store) {
		// Collations of databases and people put these elsewhere.
		ids := []string{"!", "!!", "-", "-a", "0", "10", "2", "A", "A-", "AA", "Z", "Z!", "[", "_", "a", "a!", "a-b", "aa", "ab", "a~", "b", "z", "z~", "~", "~!"}
		slices.Sort(ids)
		var want []byok.Item
		for _, id := range ids {
			want = append(want, item("p", id, 1, id))
		}
		for i := range ids {
			id := ids[(i*7)%len(ids)]
			s.write(item("p", id, 0, id))
		}
		s.wantList("p", "", len(ids)+1, want...)
		for i, id := range ids {
			s.wantList("p", id, len(ids), want[i+1:]...)
		}
	}},
	{"after is exclusive and need not exist", func(s *store) {
		a, b, c := item("p", "a", 0, "x"), item("p", "c", 0, "y"), item("p", "e", 0, "z")
		s.write(c, a, b)
		a.Revision, b.Revision, c.Revision = 1, 1, 1
		for after, want := range map[string][]byok.Item{
			"": {a, b, c}, "!": {a, b, c}, "Z": {a, b, c}, "a": {b, c}, "a!": {b, c}, "b": {b, c}, "c": {c}, "d~": {c}, "e": nil, "e!": nil, "~": nil,
		} {
			s.wantList("p", after, 10, want...)
		}
	}},
	{"list shows revisions", func(s *store) {
		s.write(item("p", "a", 0, "x"), item("p", "b", 0, "x"))
		s.write(item("p", "b", 1, "y"))
		s.wantList("p", "", 2, item("p", "a", 1, "x"), item("p", "b", 2, "y"))
	}},
	{"limits of list", func(s *store) {
		s.write(item("p", "a", 0, "x"), item("p", "b", 0, "x"))
		for _, limit := range []int{0, -1, math.MinInt, byok.MaxListLimit + 1, math.MaxInt} {
			_, err := s.List(s.ctx, "p", "", limit)
			s.argument(fmt.Sprint("a limit of ", limit), err)
		}
		s.wantList("p", "", 1, item("p", "a", 1, "x"))
		s.wantList("p", "a", 1, item("p", "b", 1, "x"))
		s.wantList("p", "", byok.MaxListLimit, item("p", "a", 1, "x"), item("p", "b", 1, "x"))
	}},
	{"paging", func(s *store) {
		const n = 2 * 26 * byok.MaxApplyWrites // more than one List can return
		ids := seed(s, n)
		for _, limit := range []int{49, byok.MaxListLimit} {
			if got := walk(s, limit, nil); !slices.Equal(got, ids) {
				s.Fatalf("pages of %d: %d ids, want %d in order", limit, len(got), n)
			}
		}
	}},
	{"paging while items appear", func(s *store) {
		ids := seed(s, 4*byok.MaxApplyWrites)
		var n uint64
		got := walk(s, 9, func() {
			if n < 100 {
				s.write(item("p", fmt.Sprintf("%08d!", (n*37)%100), 0, "new"), item("p", "~last", n, "x"))
				n++
			}
		})
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			s.Fatal("the pages are not in order, or repeat an item")
		}
		for _, id := range ids {
			if !slices.Contains(got, id) {
				s.Fatalf("%q was there all the time and no page has it", id)
			}
		}
	}},
	{"pages are as full as they can be", func(s *store) {
		seed(s, byok.MaxApplyWrites)
		for limit := 1; limit <= byok.MaxApplyWrites; limit++ {
			got, err := s.List(s.ctx, "p", "", limit)
			if err != nil || len(got) != limit {
				s.Fatalf("List with limit %d of 25 items: %d, %v", limit, len(got), err)
			}
		}
	}},
	{"large values in a list", func(s *store) {
		b := batch(0, noise(byok.MaxItemValue))
		for i := range b {
			b[i].Partition, b[i].ID = "p", fmt.Sprintf("%02d", i)
		}
		s.write(b...)
		for i := range b {
			b[i].Revision = 1
		}
		s.wantList("p", "", byok.MaxListLimit, b...)
	}},
}

// seed creates n items of partition "p", not in order, and returns their ids in order.
func seed(s *store, n int) (ids []string) {
	s.Helper()
	for i := range n {
		ids = append(ids, fmt.Sprintf("%08d", i))
	}
	for chunk := range slices.Chunk(ids, byok.MaxApplyWrites) {
		var writes []byok.Item
		for _, id := range slices.Backward(chunk) {
			writes = append(writes, item("p", id, 0, strings.Repeat(id, 2)))
		}
		s.write(writes...)
	}
	return ids
}

// walk returns the ids of partition "p" page by page, with between called after each.
func walk(s *store, limit int, between func()) (ids []string) {
	s.Helper()
	after := ""
	for {
		page, err := s.List(s.ctx, "p", after, limit)
		if err != nil {
			s.Fatal(err)
		}
		if len(page) > limit {
			s.Fatalf("a page of %d items, limit %d", len(page), limit)
		}
		if len(page) == 0 {
			return ids
		}
		for _, i := range page {
			if i.ID <= after {
				s.Fatalf("%q is listed after %q", i.ID, after)
			}
			after = i.ID
			ids = append(ids, i.ID)
		}
		if between != nil {
			between()
		}
	}
}
