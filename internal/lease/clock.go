// Package lease decides whether a data key may be used now. It is a pure
// machine: it does no I/O, starts nothing, and is told the time. docs/design.md
// states what it promises; the comments here say how.
//
// It is not safe for concurrent use: its owner has a lock.
package lease

import "time"

// Skew is how much the wall clock may fall behind the monotonic one before a
// proof is void. It covers slewing (500 ppm for an hour is 1.8 s).
const Skew = 2 * time.Second

// Time is an instant as two clocks tell it. Go's monotonic clock stands still
// while a machine is suspended, and the wall clock can be set: each is wrong
// where the other is right, so an age is the larger of the two.
type Time struct {
	Mono time.Duration // since some instant of this process; never goes back
	Wall time.Time     // without a monotonic reading
}

// Clock tells the time. Tests have their own; nothing else implements it but System.
type Clock interface{ Now() Time }

// System returns the machine's clocks. Its monotonic readings count from the
// call, so two of them must not be mixed.
func System() Clock { return system{time.Now()} }

type system struct{ base time.Time }

func (s system) Now() Time {
	now := time.Now()
	// Round strips the monotonic reading: without it Sub would compare the
	// monotonic clock with itself, and the wall clock would never be asked.
	return Time{Mono: now.Sub(s.base), Wall: now.Round(0)}
}

// since returns how old t is, and false if that cannot be known: t is zero, the
// monotonic clock went back (it is not of this process), or the wall clock fell
// behind the monotonic one. Clock steps can so only shorten a lease.
func (t Time) since(now Time) (time.Duration, bool) {
	if t.Wall.IsZero() {
		return 0, false
	}
	mono, wall := now.Mono-t.Mono, now.Wall.Sub(t.Wall) // Sub saturates
	if mono < 0 || wall < mono-Skew {
		return 0, false
	}
	return max(mono, wall), true
}

// Before reports whether t was taken earlier than u in this process.
func (t Time) Before(u Time) bool { return t.Mono < u.Mono }
