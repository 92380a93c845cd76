package lease

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever one clock does, a lease is never longer than with honest clocks: a wall
// clock that is set at any moment, or a machine that is suspended while its
// monotonic clock stands still. (Both at once is a residual risk: threat F6.)
func TestI13_ClockStepsOnlyShorten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var k Key
		limit := time.Duration(rapid.Int64Range(int64(time.Second), int64(5*time.Minute)).Draw(t, "MaxAge"))
		real, mono, wall := time.Duration(0), at(time.Hour).Mono, at(time.Hour).Wall
		now := func() Time { return Time{Mono: mono, Wall: wall} }
		c := k.Begin(Unwrap, now())
		k.Succeed(c)
		p, ok := k.Prove(c, now(), limit, rapid.Float64Range(0, 0.999).Draw(t, "jitter"))
		if !ok {
			t.Fatal("no proof")
		}
		suspends := rapid.Bool().Draw(t, "suspends") // or: the wall clock is set
		served := 0
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			d := time.Duration(rapid.Int64Range(0, int64(limit)).Draw(t, "passes"))
			real, wall = real+d, wall.Add(d)
			switch {
			case !suspends:
				mono += d
				wall = wall.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "set by")))
			case rapid.Bool().Draw(t, "asleep"):
			default:
				mono += d
			}
			switch st := k.Check(p, now(), limit); {
			case st == Active || st == Refresh:
				if served++; real >= limit {
					t.Fatalf("served at age %v of %v", real, limit)
				}
			case suspends && real < limit:
				t.Fatalf("refused at age %v of %v although the wall clock is right", real, limit)
			}
		}
	})
}
