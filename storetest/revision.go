package storetest

import (
	"fmt"
	"math"
	"strings"

	"github.com/byok-go/byok"
)

// storeCases is every case of TestStore.
var storeCases = concat(revisionCases, atomicCases, refCases, valueCases, listCases, contextCases, raceCases, modelCases)

func concat(groups ...[]storeCase) (all []storeCase) {
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

var revisionCases = []storeCase{
	{"missing item is ErrNotFound", func(s *store) {
		s.missing("p", "i")
		s.write(item("p", "i", 0, "x"))
		s.missing("p", "j")
		s.missing("q", "i")
	}},
	{"a new item has revision 1", func(s *store) {
		s.write(item("p", "i", 0, "x"))
		s.want("p", "i", 1, "x")
	}},
	{"each write adds one", func(s *store) {
		for rev := range uint64(12) {
			s.write(item("p", "i", rev, fmt.Sprint("v", rev)))
			s.want("p", "i", rev+1, fmt.Sprint("v", rev))
		}
	}},
	{"writing the same value adds one", func(s *store) {
		s.write(item("p", "i", 0, "x"))
		s.write(item("p", "i", 1, "x"))
		s.want("p", "i", 2, "x")
		s.conflict(item("p", "i", 1, "x"))
	}},
	{"creating what exists is a conflict", func(s *store) {
		s.write(item("p", "i", 0, "x"))
		s.conflict(item("p", "i", 0, "y"))
		s.conflict(item("p", "i", 0, "x")) // the same value is no excuse
		s.want("p", "i", 1, "x")
	}},
	{"updating what is missing is a conflict", func(s *store) {
		s.conflict(item("p", "i", 1, "x"))
		s.missing("p", "i")
		s.write(item("p", "i", 0, "y"))
		s.want("p", "i", 1, "y")
	}},
	{"a stale revision is a conflict", func(s *store) {
		for rev := range uint64(4) {
			s.write(item("p", "i", rev, "x"))
		}
		for rev := range uint64(4) {
			s.conflict(item("p", "i", rev, "y"))
		}
		s.want("p", "i", 4, "x")
	}},
	{"a future revision is a conflict", func(s *store) {
		s.write(item("p", "i", 0, "x"))
		for _, rev := range []uint64{2, 3, 256, 1 << 32, 1 << 53, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
			s.conflict(item("p", "i", rev, "y"))
			s.conflict(item("p", "j", rev, "y"))
		}
		s.want("p", "i", 1, "x")
		s.missing("p", "j")
	}},
	{"items are never deleted", func(s *store) {
		s.write(item("p", "kept", 0, "x"))
		for rev := range uint64(100) {
			s.write(item("p", "busy", rev, "y"))
		}
		s.want("p", "kept", 1, "x")
		s.want("p", "busy", 100, "y")
	}},
	{"an error holds no value", func(s *store) {
		const marker = "MARKER-5d41402abc4b2a76"
		s.write(item("p", "i", 0, "x"))
		for _, w := range []byok.Item{
			item("p", "i", 0, marker),
			item("p", "i", 7, marker),
			item("p", "i", math.MaxUint64, marker),
			item("p", "", 0, marker),
			item("p", "i", 1, strings.Repeat(marker, byok.MaxItemValue/len(marker)+1)),
		} {
			if err := s.Apply(s.ctx, w); err == nil || strings.Contains(err.Error(), marker) {
				s.Fatalf("Apply that must fail without quoting the value: %v", err)
			}
		}
	}},
}

var atomicCases = []storeCase{
	{"25 writes, all", func(s *store) {
		s.write(batch(0, "x")...)
		s.write(batch(1, "y")...)
		for _, w := range batch(2, "y") {
			s.want(w.Partition, w.ID, 2, "y")
		}
	}},
	{"25 creations, the last in conflict: none", func(s *store) {
		b := batch(0, "x")
		last := len(b) - 1
		s.write(b[last])
		s.conflict(b...)
		for _, w := range b[:last] {
			s.missing(w.Partition, w.ID)
		}
		s.want(b[last].Partition, b[last].ID, 1, "x")
	}},
	{"25 updates, the last in conflict: none", func(s *store) {
		s.write(batch(0, "x")...)
		b := batch(1, "y")
		b[len(b)-1].Revision = 2
		s.conflict(b...)
		for _, w := range b {
			s.want(w.Partition, w.ID, 1, "x")
		}
	}},
	{"any one of 25 in conflict: none", func(s *store) {
		s.write(batch(0, "x")...)
		for i := range batch(0, "") {
			b := batch(1, "y")
			b[i].Revision = 0
			s.conflict(b...)
		}
		for _, w := range batch(0, "") {
			s.want(w.Partition, w.ID, 1, "x")
		}
	}},
	{"a conflict between creation and update: none", func(s *store) {
		s.write(item("p", "old", 0, "x"))
		s.conflict(item("p", "new", 0, "y"), item("p", "old", 0, "y"))
		s.conflict(item("p", "old", 1, "y"), item("p", "new", 1, "y"))
		s.missing("p", "new")
		s.want("p", "old", 1, "x")
		s.write(item("p", "old", 1, "y"), item("p", "new", 0, "y"))
		s.want("p", "old", 2, "y")
		s.want("p", "new", 1, "y")
	}},
	{"works after a conflict", func(s *store) {
		s.write(item("p", "i", 0, "x"))
		for range 50 {
			s.conflict(item("p", "j", 0, "y"), item("p", "i", 0, "y"))
		}
		s.write(item("p", "i", 1, "z"), item("p", "j", 0, "z"))
		s.want("p", "i", 2, "z")
	}},
	{"no writes are refused", func(s *store) { s.refused("Apply of nothing") }},
	{"26 writes are refused", func(s *store) {
		b := append(batch(0, "x"), item("p", "one-more", 0, "x"))
		s.refused("Apply of 26", b...)
		for _, w := range b {
			s.missing(w.Partition, w.ID)
		}
	}},
	{"an item twice is refused", func(s *store) {
		s.refused("an item twice", item("p", "i", 0, "x"), item("p", "j", 0, "x"), item("p", "i", 0, "x"))
		s.refused("an item twice, in sequence", item("p", "i", 0, "x"), item("p", "i", 1, "y"))
		s.missing("p", "i")
		s.missing("p", "j")
	}},
	{"one refused write: none", func(s *store) {
		s.refused("an empty value among others", item("p", "i", 0, "x"), item("p", "j", 0, ""))
		s.refused("a bad id among others", item("p", "i", 0, "x"), item("p", "j\n", 0, "x"))
		s.missing("p", "i")
	}},
}

// batch is MaxApplyWrites items over three partitions.
func batch(revision uint64, value string) []byok.Item {
	b := make([]byok.Item, byok.MaxApplyWrites)
	for i := range b {
		b[i] = item(fmt.Sprint("p", i%3), fmt.Sprintf("i%02d", i), revision, value)
	}
	return b
}
