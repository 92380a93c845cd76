// Package budget limits how often something may happen. A Bucket is pure: it does
// no I/O, starts nothing, and is told the time, so that tests need no waiting.
//
// It is here, and not x/time/rate, because importing the root package compiles no
// third-party code but cryptobyte, and because that Limiter reads the wall clock,
// which can be set.
package budget

import "time"

// Bucket is a token bucket: it holds Burst tokens, and gains one every Every. It
// keeps no count but the time at which it is full again (the generic cell rate
// algorithm of ITU-T I.371), so there is nothing to round. It is not safe for
// concurrent use. Every must be positive and Burst at least 1: the zero Bucket gives
// nothing.
type Bucket struct {
	Every time.Duration
	Burst int

	full time.Duration // when it is full again
}

// Take takes one token at time now of a monotonic clock: one that is there, or the next
// that nobody has taken, if that comes within patience. It returns how long until the token
// is there. If that is longer than patience, it takes nothing.
func (b *Bucket) Take(now, patience time.Duration) (wait time.Duration, ok bool) {
	full := max(b.full, now)
	wait = max(0, full-now-time.Duration(b.Burst-1)*b.Every)
	if wait > patience || b.Burst < 1 {
		return wait, false
	}
	b.full = full + b.Every
	return wait, true
}

// TakeSpare takes one token that is there at now, if reserve others are left. Else it returns how long
// until that is so, as far as is known now.
func (b *Bucket) TakeSpare(now time.Duration, reserve int) (wait time.Duration, ok bool) {
	full := max(b.full, now)
	wait = full - now - time.Duration(b.Burst-1-reserve)*b.Every
	if wait > 0 || b.Burst <= reserve {
		return max(0, wait), false
	}
	b.full = full + b.Every
	return 0, true
}

// Left returns how many tokens there are at now.
func (b *Bucket) Left(now time.Duration) int {
	if b.Every <= 0 {
		return 0
	}
	missing := max(b.full, now) - now
	return max(0, b.Burst-int((missing+b.Every-1)/b.Every))
}
