package byok

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// E16: the list of leases has each entry of the indexes once, the last proved first, and no more than
// its bound. What it pushes out was proved longest ago, and is in no index either.
func TestE16_LeaseList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := new(Keeper)
		k.lru.max = rapid.IntRange(1, 4).Draw(t, "bound")
		tenants := []*tenantCache{{k: k, entries: map[entryID]*entry{}}, {k: k, entries: map[entryID]*entry{}}}
		all := make([]*entry, 8)
		for i := range all {
			all[i] = &entry{id: entryID{purpose: fmt.Sprint(i)}}
		}
		owner := func(i int) *tenantCache { return tenants[i%2] }
		var want []int // oldest first
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, len(all)-1).Draw(t, "entry")
			e, c := all[i], owner(i)
			want = slices.DeleteFunc(want, func(j int) bool { return j == i })
			switch rapid.SampledFrom([]string{"proved", "wiped", "purged on its way"}).Draw(t, "what") {
			case "proved":
				c.entries[e.id] = e
				want = append(want, i)
				gone := k.touch(c, e)
				if len(want) > k.lru.max {
					if len(gone) != 1 || gone[0] != all[want[0]] {
						t.Fatalf("%d were pushed out, not %d alone", len(gone), want[0])
					}
					want = want[1:]
				} else if len(gone) > 0 {
					t.Fatal("pushed out with room left")
				}
			case "wiped":
				c.drop(e)
				k.wipe([]*entry{e})
			case "purged on its way":
				c.drop(e)
				if gone := k.touch(c, e); len(gone) > 0 {
					t.Fatal("what is in no index pushed another out")
				}
			}
			var got []int
			for at := k.lru.order.Back(); at != nil; at = at.Prev() {
				item := at.Value.(*lruItem)
				if item.t.entries[item.e.id] != item.e || item.e.place != at {
					t.Fatal("an entry that is in no index, or elsewhere in the list")
				}
				got = append(got, slices.Index(all, item.e))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%v, want %v", got, want)
			}
			if n := len(tenants[0].entries) + len(tenants[1].entries); n != len(want) {
				t.Fatalf("%d entries, %d in the list", n, len(want))
			}
		}
	})
}
