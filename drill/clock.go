package drill

import "time"

// clock tells a process the time such that its readings never jump: the wall
// clock as it stood at the start, and the monotonic clock's progress since. A wall
// clock that is set during a drill then moves no sample against another one,
// and is found out at the end.
type clock struct{ base time.Time }

func newClock() clock { return clock{time.Now()} }

// now has a monotonic reading in the process that asked, so that differences are
// exact there; it is lost on the way to another process, where the wall part does.
func (c clock) now() time.Time { return c.base.Add(time.Since(c.base)) }

// strayed returns how far the wall clock has moved against the monotonic one
// since the start: it was set, or the machine was suspended.
func (c clock) strayed() time.Duration {
	return time.Now().Round(0).Sub(c.now().Round(0)) // Round strips the monotonic readings
}

// tolerance is how far two clocks may be apart before numbers that are made of
// both mean nothing. Slewing moves a clock by 60 ms in two minutes.
const tolerance = 250 * time.Millisecond
