package lease

import (
	"math"
	"testing"
	"time"
)

// The rows F1 to F7 of docs/threats.md: clocks that step, stand still, slew, or
// show an absurd time. A proof is made at noon, and the two clocks then show what
// they like.

// noon is when the proof of these tests is made.
var noon = at(12 * time.Hour)

// after is what the clocks show when they have gone on by mono and wall.
func after(mono, wall time.Duration) Time {
	return Time{Mono: noon.Mono + mono, Wall: noon.Wall.Add(wall)}
}

// again proves the data key anew at an instant: whatever the clocks did, the next
// proof works, and lasts as long as any.
func again(t *testing.T, k *Key, now Time) {
	t.Helper()
	p := proved(t, k, now)
	check(t, "a new proof", k, p, now, Active)
	check(t, "a new proof, near its end", k, p, Time{now.Mono + maxAge - 1, now.Wall.Add(maxAge - 1)}, Refresh)
	check(t, "a new proof, at its end", k, p, Time{now.Mono + maxAge, now.Wall.Add(maxAge)}, Expired)
}

func TestF1_WallSetBack(t *testing.T) {
	var k Key
	p := proved(t, &k, noon)
	for _, back := range []time.Duration{time.Hour, 24 * time.Hour, 3 * time.Second} {
		now := after(time.Second, time.Second-back)
		check(t, "set back by "+back.String(), &k, p, now, Expired)
		again(t, &k, now)
	}
	check(t, "it stands still", &k, p, after(3*time.Second, 0), Expired)
	check(t, "set back within the skew", &k, p, after(time.Second, -time.Second), Active)
	check(t, "set back within the skew, which prolongs nothing", &k, p, after(maxAge, maxAge-Skew), Expired)
}

func TestF2_WallSetForward(t *testing.T) {
	var k Key
	p := proved(t, &k, noon)
	now := after(time.Second, time.Hour)
	check(t, "set forward", &k, p, now, Expired)
	again(t, &k, now)
	check(t, "set forward by less than what is left", &k, p, after(10*time.Second, 50*time.Second), Refresh)
	check(t, "set forward by what is left", &k, p, after(10*time.Second, maxAge), Expired)
}

// Go's monotonic clock stands still while the machine sleeps.
func TestF3_SuspendedMachine(t *testing.T) {
	var k Key
	p := proved(t, &k, noon)
	for _, asleep := range []time.Duration{2 * time.Hour, maxAge, 366 * 24 * time.Hour} {
		now := after(0, asleep)
		check(t, "asleep for "+asleep.String(), &k, p, now, Expired)
		again(t, &k, now)
	}
	check(t, "a nap", &k, p, after(0, 10*time.Second), Active)
}

// A reading of another process, or of this one before a restart, has another
// monotonic base. It proves nothing, in either direction. (Nothing stores proofs:
// Proof has no exported field and no encoder. TestF4_I14_ColdStart is about
// the Keeper.)
func TestF4_ForeignMonotonic(t *testing.T) {
	var k Key
	p := proved(t, &k, noon)
	check(t, "the process is younger than the proof", &k, p, after(-time.Second, time.Second), Expired)
	check(t, "just started", &k, p, Time{0, noon.Wall.Add(time.Second)}, Expired)
	check(t, "the process is much older", &k, p, after(time.Hour, time.Second), Expired)
	check(t, "only the wall", &k, Proof{at: Time{Wall: noon.Wall}}, after(time.Second, time.Second), Expired)
	check(t, "only the monotonic clock", &k, Proof{at: Time{Mono: noon.Mono}, refresh: maxAge}, after(time.Second, time.Second), Expired)
}

// NTP slews by 500 ppm at most: 15 minutes of that are 0.45 s. No lease ends early
// for it, and none lasts longer than MaxAge on either clock.
func TestF5_SlewedClock(t *testing.T) {
	for _, ppm := range []time.Duration{-500, 500} {
		var k Key
		p := proved(t, &k, noon)
		for mono := time.Duration(0); mono < 15*time.Minute; mono += time.Second {
			wall := mono + mono*ppm/1_000_000
			now := after(mono, wall)
			if mono%(50*time.Second) == 0 { // renewed in time
				p = proved(t, &k, now)
			}
			if got := k.Check(p, now, maxAge); got != Active && got != Refresh {
				t.Fatalf("%d ppm: a false refusal after %v", ppm, mono)
			}
		}
	}
	var k Key
	p := proved(t, &k, noon)
	check(t, "at the skew", &k, p, after(40*time.Second, 38*time.Second), Refresh)
	check(t, "beyond the skew", &k, p, after(40*time.Second, 38*time.Second-1), Expired)
	check(t, "slow wall, MaxAge on the other", &k, p, after(maxAge, maxAge-time.Second), Expired)
	check(t, "fast wall, MaxAge on it", &k, p, after(maxAge-time.Second, maxAge), Expired)
}

// The residual risk that SECURITY.md names: a machine that is paused, and whose wall
// clock is set back by as much before anything looks. Neither clock shows the
// pause, and the lease lives longer by it. This shows that it is so, that it takes
// both, and that it ends: the lease has no more than the rest of its time on the
// monotonic clock. A CLOCK_BOOTTIME in Time.Mono would show the pause.
func TestF6_BothClocksLie(t *testing.T) {
	const pause = time.Hour
	var k Key
	p := proved(t, &k, noon)
	check(t, "paused and set back (documented: nobody sees it)", &k, p, after(10*time.Second, 10*time.Second+pause-pause), Active)
	check(t, "only paused", &k, p, after(10*time.Second, 10*time.Second+pause), Expired)
	check(t, "only set back", &k, p, after(10*time.Second, 10*time.Second-pause), Expired)
	check(t, "set back by less than the pause", &k, p, after(10*time.Second, 10*time.Second+maxAge), Expired)
	check(t, "set back by more than the pause", &k, p, after(10*time.Second, 10*time.Second-Skew-1), Expired)
	check(t, "the end comes all the same", &k, p, after(maxAge, maxAge), Expired)
	k.Deny(k.Begin(Unwrap, after(11*time.Second, 11*time.Second)), after(11*time.Second, 11*time.Second))
	check(t, "and the next answer of KMS ends it at once", &k, p, after(11*time.Second, 11*time.Second), Denied)
}

func TestF7_AbsurdTimes(t *testing.T) {
	var k Key
	p := proved(t, &k, noon)
	date := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
	for name, now := range map[string]Time{
		"zero":                    {},
		"zero wall":               {Mono: noon.Mono + 1},
		"zero monotonic":          {Wall: noon.Wall.Add(1)},
		"the year 1":              {noon.Mono + 1, date(1)},
		"before 1678":             {noon.Mono + 1, date(1600)}, // what an int64 of nanoseconds ends at
		"after 2262":              {noon.Mono + 1, date(2263)},
		"the year 9999":           {noon.Mono + 1, date(9999)},
		"the end of time.Time":    {noon.Mono + 1, time.Unix(1<<62, 0)},
		"the beginning of it":     {noon.Mono + 1, time.Unix(-1<<62, 0)},
		"the end of a duration":   {math.MaxInt64, noon.Wall.Add(1)},
		"the beginning of it too": {math.MinInt64, noon.Wall.Add(1)},
		"both at their ends":      {math.MaxInt64, time.Unix(1<<62, 0)},
	} {
		check(t, name, &k, p, now, Expired)
		q := k.Begin(Unwrap, now) // and nothing of it panics
		k.Fail(q, now, 0.5)
		k.Hint(now)
		k.Succeed(q)
		_, _ = k.Prove(q, now, maxAge, 0.5)
		k.Deny(q, now)
		_ = k.Ask(now)
		k = Key{}
	}
	// Proofs that were made at such times.
	for name, then := range map[string]Time{"zero": {}, "zero wall": {Mono: 1}, "the year 9999": {0, date(9999)}, "the end of a duration": {math.MaxInt64, noon.Wall}} {
		var k Key
		c := k.Begin(Unwrap, then)
		k.Succeed(c)
		p, _ := k.Prove(c, then, maxAge, 0.5)
		check(t, "proved at "+name, &k, p, noon, Expired)
	}
}
