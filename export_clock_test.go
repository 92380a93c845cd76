package byok

import (
	"time"

	"github.com/byok-go/byok/internal/lease"
)

// SkewClock gives a Keeper a wall clock that is off by d, as a machine of its own
// may have one. It is called before the first use.
func (k *Keeper) SkewClock(d time.Duration) { k.clock = skewedClock{k.clock, d} }

type skewedClock struct {
	lease.Clock
	by time.Duration
}

func (c skewedClock) Now() lease.Time {
	r := c.Clock.Now()
	r.Wall = r.Wall.Add(c.by)
	return r
}
