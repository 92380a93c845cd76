package byok

import (
	"sync"
	"sync/atomic"
)

// lanes is a sync.RWMutex that many cores can hold for reading without taking a cache line
// from each other: each reader locks one lane, and a writer locks all. A hot operation takes
// such a lock four times, so with one lane cores that serve the same tenant would wait for
// memory, the longer the more they are.
//
// A reader uses the lane of its operation, and unlocks the same one. Any lane will do: two
// readers in one lane are slower, and that is all.
type lanes [laneCount]lane

type lane struct {
	sync.RWMutex
	under atomic.Int64  // a tenant's operations under way
	hits  atomic.Uint64 // and how often a lease has served one
	_     [cacheLine - 40]byte
}

const (
	laneCount = 8
	cacheLine = 64
)

// lastLane is the number of the last operation's lane. Operations are used again, mostly by the
// core that made them.
var lastLane atomic.Uint32

func nextLane() int { return int(lastLane.Add(1) % laneCount) }

func (l *lanes) Lock() {
	for i := range l {
		l[i].Lock()
	}
}

func (l *lanes) Unlock() {
	for i := range l {
		l[i].Unlock()
	}
}

// RLock and RUnlock are for what is not hot.
func (l *lanes) RLock()   { l[0].RLock() }
func (l *lanes) RUnlock() { l[0].RUnlock() }
