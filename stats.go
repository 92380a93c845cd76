package byok

import (
	"sync/atomic"
	"time"
)

// Stats is what an operator graphs and alarms on. All but the first three are counts
// since New. None of them costs a hit anything but the count of hits.
type Stats struct {
	// As of now.
	Leases      uint64  // data keys under lease
	UnderWay    uint64  // KMS requests that have not been answered
	BudgetInUse float64 // of the tenant that has used up most of its budget of KMS requests: 0 to 1

	Hits, Misses uint64 // operations that a lease served, and that had to load a data key

	KMSCalls uint64
	// Calls is KMSCalls by what came of them, with the time that they took. The zero
	// Class is success.
	Calls map[Class]Latency

	Renewals       uint64 // of leases in use, ahead of their end
	FailedRenewals uint64 // they extend nothing; the lease goes on to its end
	Throttled      uint64 // requests refused by a tenant's budget, and never sent
	Blocks         uint64 // reservations of what data keys may seal

	Denials uint64 // keys that became denied
	// DetectionDelay is about the newest of Denials, and DetectionDelayMax about all:
	// how long before it was observed KMS had last let this process in. The CMK was revoked
	// within that time, so this is what the revocation took here, or less. It grows while a
	// tenant is idle: nothing is asked, and nothing served.
	DetectionDelay, DetectionDelayMax time.Duration
}

// Latency is a histogram of how long KMS took, as seen by the Keeper.
type Latency struct {
	Count   uint64
	Total   time.Duration
	Buckets [9]uint64 // how many took at most LatencyBounds[i]; the last one, longer than all of them
}

// LatencyBounds are the upper ends of the buckets of a Latency. It must not be changed.
var LatencyBounds = [8]time.Duration{
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// counters are what Stats reads.
type counters struct {
	misses, denials, blocks  atomic.Uint64
	renewals, failedRenewals atomic.Uint64
	underWay                 atomic.Int64
	detected, detectedMax    atomic.Int64 // ns
	calls                    [len(classNames)]struct {
		total   atomic.Int64 // ns
		buckets [len(LatencyBounds) + 1]atomic.Uint64
	}
}

// call counts an attempt that was sent.
func (c *counters) call(class Class, took time.Duration) {
	of := &c.calls[class]
	of.total.Add(int64(took))
	i := 0
	for i < len(LatencyBounds) && took > LatencyBounds[i] {
		i++
	}
	of.buckets[i].Add(1)
}

// denial counts one that was observed so long after the last success; 0 if there was none.
func (c *counters) denial(delay time.Duration) {
	c.denials.Add(1)
	c.detected.Store(int64(delay))
	for old := c.detectedMax.Load(); int64(delay) > old && !c.detectedMax.CompareAndSwap(old, int64(delay)); {
		old = c.detectedMax.Load()
	}
}

// Stats returns counters. It looks at every tenant: ask now and then, not per operation.
func (k *Keeper) Stats() Stats {
	c := &k.stats
	s := Stats{
		UnderWay: uint64(max(0, c.underWay.Load())), Misses: c.misses.Load(), Calls: map[Class]Latency{},
		Renewals: c.renewals.Load(), FailedRenewals: c.failedRenewals.Load(), Blocks: c.blocks.Load(),
		Denials: c.denials.Load(), DetectionDelay: time.Duration(c.detected.Load()), DetectionDelayMax: time.Duration(c.detectedMax.Load()),
	}
	for class := range c.calls {
		of := &c.calls[class]
		l := Latency{Total: time.Duration(of.total.Load())}
		for i := range of.buckets {
			l.Buckets[i] = of.buckets[i].Load()
			l.Count += l.Buckets[i]
		}
		if l.Count > 0 {
			s.Calls[Class(class)] = l
			s.KMSCalls += l.Count
		}
	}
	now := k.clock.Now().Mono
	k.tenants.Range(func(_, v any) bool {
		t := v.(*tenantCache)
		for i := range t.mu {
			s.Hits += t.mu[i].hits.Load()
		}
		t.mu.RLock()
		s.Leases += uint64(len(t.entries))
		t.mu.RUnlock()
		for _, p := range []*pool{&t.budget.known, &t.budget.unknown, &t.budget.control} {
			s.Throttled += p.refused.Load()
			s.BudgetInUse = max(s.BudgetInUse, p.used(now))
		}
		return true
	})
	return s
}
