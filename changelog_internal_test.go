package byok

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The longest names that there can be fit into an item.
func TestChangeLogFitsAnItem(t *testing.T) {
	l := &changeLog{revision: 1 << 63}
	for i := range maxChanges + 10 {
		tenant := strings.Repeat(`"`, 120) + fmt.Sprintf("%08d", i) // quotes are the worst: two bytes each
		l = l.with(1<<63, []loggedEntry{{Tenant: tenant, Kind: kindState, By: strings.Repeat("f", 12)}})
	}
	if len(l.Changes) != maxChanges {
		t.Fatalf("%d changes", len(l.Changes))
	}
	if n := len(encodeItem(refLog, 1, l).Value); n > MaxItemValue || n < MaxItemValue/2 {
		t.Errorf("a full log has %d bytes", n)
	}
}

// Whoever follows the log in steps of any length hears of everything, or is
// told that it has missed something.
func TestChangeLogMissesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := new(changeLog)
		all := map[string]uint64{} // tenant and kind -> newest number
		seen, whole := uint64(0), 0
		for range rapid.IntRange(1, 60).Draw(t, "looks") {
			for range rapid.IntRange(0, 12).Draw(t, "writes") {
				var entries []loggedEntry
				l.revision++
				for range rapid.IntRange(1, 60).Draw(t, "batch") {
					e := loggedEntry{Tenant: fmt.Sprint(rapid.IntRange(0, 400).Draw(t, "tenant")),
						Kind: rapid.SampledFrom([]string{kindState, kindHint}).Draw(t, "kind")}
					entries = append(entries, e)
					all[e.Tenant+e.Kind] = l.revision
				}
				n := l.revision
				l = l.with(n, entries)
				l.revision = n
			}
			got, ok := l.since(seen)
			if ok {
				whole++
				heard := map[string]bool{}
				for _, e := range got {
					heard[e.Tenant+e.Kind] = true
				}
				for id, n := range all {
					if n > seen != heard[id] {
						t.Fatalf("%s changed at %d, looked at %d and %d: heard %v", id, n, seen, l.revision, heard[id])
					}
				}
			}
			if len(l.Changes) < maxChanges && !ok {
				t.Fatal("something was dropped although there was room")
			}
			seen = l.revision
		}
	})
}
