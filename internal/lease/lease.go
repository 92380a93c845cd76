package lease

import "time"

// Ops is a set of KMS operations. Only these, with the tenant's own exact
// context, feed a Key; DescribeKey, negative probes and the calls of other
// processes do not.
type Ops uint8

// The operations.
const (
	Generate Ops = 1 << iota // GenerateDataKey
	Wrap                     // Encrypt
	Unwrap                   // Decrypt
)

// Back-off between questions to a KMS that denies: 1 s, 2 s, 4 s ... 30 s.
const (
	denyBackoff    = time.Second
	denyBackoffMax = 30 * time.Second
)

// Back-off between renewals that got no answer, and between questions while the
// breaker is open: 0.25 s ... 5 s.
const (
	outageBackoff    = 250 * time.Millisecond
	outageBackoffMax = 5 * time.Second
)

// BreakAfter is how many outages in a row open the breaker. One load makes as many
// attempts, so a KMS that is down costs one load its attempts, and then one attempt
// per back-off step.
const BreakAfter = 3

// Key is what one process knows of its access to one CMK for one tenant. The
// zero Key is one that was never asked: it has no proofs, so it serves nothing.
type Key struct {
	gen    uint64 // denials seen: what began under an older one counts for nothing
	denied bool
	since  Ops // denied since the key was last active
	need   Ops // must still succeed before it is active again

	steps int  // denials in a row, for the back-off
	next  Time // no question before this, while denied

	fails  int    // outages in a row
	again  Time   // no renewal before this, and no question at all once there were BreakAfter
	stalls int    // renewals in a row that failed for another reason than KMS's
	rest   Time   // no renewal before this either
	news   uint64 // answers and counted outages seen: an outage older than the newest is no step
}

// Call is a question to the KMS that was begun. Its time is the time of issue:
// a proof counts from there, however late the answer comes.
type Call struct {
	op   Ops
	at   Time
	gen  uint64
	news uint64
}

// Begin starts a call. It does not ask whether one may be made; see Ask.
func (k *Key) Begin(op Ops, now Time) Call { return Call{op: op, at: now, gen: k.gen, news: k.news} }

// Age returns how long ago the call was begun.
func (c Call) Age(now Time) time.Duration { return now.Mono - c.at.Mono }

// Proves reports whether a success of the call says that data can be read or
// written, and when it was issued.
func (c Call) Proves() (Time, bool) { return c.at, c.op&(Generate|Unwrap) != 0 }

// Denied reports whether the newest authoritative answer was a denial.
func (k *Key) Denied() bool { return k.denied }

// Overtaken reports whether a denial was answered since the call was begun.
func (k *Key) Overtaken(c Call) bool { return c.gen != k.gen }

// Missing returns what must succeed before a denied key is active again.
func (k *Key) Missing() Ops { return k.need }

// Broken reports whether the breaker is open: the KMS has not answered for several
// calls in a row, so that operations without a lease need not wait to find out.
func (k *Key) Broken() bool { return k.fails >= BreakAfter }

// Ask reports whether an operation may put a question to the KMS now. While the
// key is denied or the breaker is open that is so once per back-off step: asking takes
// the step.
func (k *Key) Ask(now Time) bool {
	if k.Wait(now) > 0 {
		return false
	}
	switch {
	case k.denied:
		k.next = later(now, backoff(denyBackoff, denyBackoffMax, k.steps))
	case k.Broken():
		k.again = later(now, backoff(outageBackoff, outageBackoffMax, k.fails))
	}
	return true
}

// Wait returns how long it is until Ask says yes, as far as is known now. It takes
// nothing.
func (k *Key) Wait(now Time) time.Duration {
	switch {
	case k.denied: // by an authoritative answer: what outages say is less
		return max(0, k.next.Mono-now.Mono)
	case k.Broken():
		return max(0, k.again.Mono-now.Mono)
	}
	return 0
}

// Succeed takes the success of a call. It reports whether it counts: one that
// was begun before the newest denial says nothing about the time after it.
func (k *Key) Succeed(c Call) bool {
	if k.Overtaken(c) {
		return false
	}
	k.answered()
	if !k.denied {
		return true
	}
	// Access to one operation says nothing about another: a customer may have
	// taken away kms:Decrypt alone. So each that was denied must succeed, and a
	// Decrypt in any case.
	if k.need &^= c.op; k.need == 0 {
		k.denied, k.since, k.steps = false, 0, 0
	} else {
		k.next = c.at // the back-off ends: go on proving
	}
	return true
}

// Deny takes the denial of a call. It always counts, whenever the call was
// begun: a denial that overtook a success, or was overtaken by one, stops.
func (k *Key) Deny(c Call, now Time) {
	// Answers to calls that were under way together are one step, not many.
	if !k.denied || c.gen == k.gen {
		k.next = later(now, backoff(denyBackoff, denyBackoffMax, k.steps))
		k.steps++
	}
	k.answered()
	k.gen++
	k.denied = true
	k.since |= c.op
	k.need = k.since | Unwrap
}

// Fail takes the lack of an authoritative answer. It changes nothing but when
// the next renewal, or question, may be tried: no lease is extended, and none is ended.
// jitter in [0, 1) takes up to a quarter off the back-off, so that the keys of many
// tenants do not come back together.
//
// Calls that were under way together are one step, and one that was begun before
// the newest answer says nothing about the time after it.
func (k *Key) Fail(c Call, now Time, jitter float64) {
	if c.news == k.news {
		k.news++
		k.fails++
	}
	d := backoff(outageBackoff, outageBackoffMax, max(0, k.fails-1))
	k.again = later(now, d-time.Duration(jitter*float64(d)/4))
}

// Stall makes renewals wait after one that failed, but not by the KMS: the Store or
// the audit log did, or a budget is used up. It says nothing about access, and
// nothing to the breaker.
func (k *Key) Stall(now Time) {
	k.rest = later(now, backoff(outageBackoff, outageBackoffMax, k.stalls))
	k.stalls++
}

// answered closes the breaker: the KMS has said something.
func (k *Key) answered() {
	k.fails, k.stalls = 0, 0
	k.news++
}

// Hint lets the next operation ask at once: a word that access may have changed,
// in either direction, or that the KMS is there. It proves nothing.
func (k *Key) Hint(now Time) {
	k.answered()
	k.next, k.again, k.rest = now, now, now
}

// Proof is evidence that KMS let one data key be used. The zero Proof proves
// nothing.
type Proof struct {
	at  Time
	gen uint64
	// refresh is the age at which a used lease is renewed.
	refresh time.Duration
}

// Prove makes a proof of a call that succeeded, dated at the earlier of the
// issue of the call and of the Store read that permitted it. The read comes first if
// the monotonic clock sees no time between them, since a machine that was suspended there has
// a read that is old, and only the wall clock knows. jitter in [0, 1) spreads
// renewals over 45 to 55 % of maxAge. It reports false if the key is denied: a
// success while other operations are still refused grants no lease.
func (k *Key) Prove(c Call, read Time, maxAge time.Duration, jitter float64) (Proof, bool) {
	if k.denied || c.gen != k.gen || c.op&(Generate|Unwrap) == 0 {
		return Proof{}, false
	}
	at := c.at
	if !at.Before(read) {
		at = read
	}
	return Proof{at: at, gen: k.gen, refresh: time.Duration(float64(maxAge) * (0.45 + 0.1*jitter))}, true
}

// Newer reports whether p is dated after q. They may be of different keys, so it says nothing
// about what either is worth.
func (p Proof) Newer(q Proof) bool { return q.at.Wall.IsZero() || q.at.Before(p.at) }

// State is what may be done with a data key now.
type State uint8

// The states.
const (
	Expired State = iota // ask KMS first
	Denied               // refused
	Active               // use it
	Refresh              // use it, and renew it
)

// Check returns the state of a data key with proof p.
func (k *Key) Check(p Proof, now Time, maxAge time.Duration) State {
	if k.denied {
		return Denied
	}
	age, ok := p.at.since(now)
	// A proof from before a denial stays worthless after access has returned.
	if !ok || p.gen != k.gen || age >= maxAge {
		return Expired
	}
	if age >= p.refresh && now.Mono >= k.again.Mono && now.Mono >= k.rest.Mono {
		return Refresh
	}
	return Active
}

func later(t Time, d time.Duration) Time { return Time{Mono: t.Mono + d, Wall: t.Wall.Add(d)} }

// backoff returns base doubled n times, at most limit.
func backoff(base, limit time.Duration, n int) time.Duration {
	for ; n > 0 && base < limit; n-- {
		base *= 2
	}
	return min(base, limit)
}
