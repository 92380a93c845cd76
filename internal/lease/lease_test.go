package lease

import (
	"testing"
	"time"
)

const maxAge = time.Minute

// at makes an instant at which both clocks agree.
func at(d time.Duration) Time {
	return Time{Mono: d, Wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)}
}

func proved(t *testing.T, k *Key, now Time) Proof {
	t.Helper()
	c := k.Begin(Unwrap, now)
	if !k.Succeed(c) {
		t.Fatal("a success does not count")
	}
	p, ok := k.Prove(c, now, maxAge, 0.5)
	if !ok {
		t.Fatal("no proof")
	}
	return p
}

func check(t *testing.T, what string, k *Key, p Proof, now Time, want State) {
	t.Helper()
	if got := k.Check(p, now, maxAge); got != want {
		t.Errorf("%s: state %d, want %d", what, got, want)
	}
}

func TestI2_AgeEndsALease(t *testing.T) {
	var k Key
	p := proved(t, &k, at(0))
	check(t, "new", &k, p, at(0), Active)
	check(t, "before half", &k, p, at(29*time.Second), Active)
	check(t, "at half", &k, p, at(30*time.Second), Refresh)
	check(t, "last moment", &k, p, at(maxAge-1), Refresh)
	check(t, "MaxAge", &k, p, at(maxAge), Expired)
	check(t, "later", &k, p, at(time.Hour), Expired)
	check(t, "zero proof", &k, Proof{}, at(0), Expired)
	check(t, "zero proof of a zero time", &k, Proof{}, Time{}, Expired)
}

// The time of a proof is that of the question, and of the Store read before it.
func TestE4_ProofIsDatedAtIssue(t *testing.T) {
	var k Key
	c := k.Begin(Unwrap, at(10*time.Second))
	k.Succeed(c) // however late
	p, _ := k.Prove(c, at(5*time.Second), maxAge, 0)
	check(t, "counts from the read", &k, p, at(65*time.Second), Expired)
	check(t, "one tick before", &k, p, at(65*time.Second-1), Refresh)
	p, _ = k.Prove(c, at(12*time.Second), maxAge, 0)
	check(t, "counts from the issue", &k, p, at(70*time.Second), Expired)
}

func TestI1_E5_DenialEndsAllProofs(t *testing.T) {
	var k Key
	p := proved(t, &k, at(0))
	early := k.Begin(Unwrap, at(time.Second)) // E5: asked before, answered after
	c := k.Begin(Generate, at(2*time.Second))
	k.Deny(c, at(3*time.Second))
	check(t, "denied", &k, p, at(3*time.Second), Denied)
	if k.Succeed(early) {
		t.Error("a success that was begun before the denial counts")
	}
	if _, ok := k.Prove(early, at(time.Second), maxAge, 0); ok {
		t.Error("... and proves")
	}
	// GenerateDataKey was denied: it must succeed, and a Decrypt.
	d := k.Begin(Unwrap, at(5*time.Second))
	if !k.Succeed(d) || !k.Denied() || k.Missing() != Generate {
		t.Errorf("after a Decrypt: denied %v, missing %b", k.Denied(), k.Missing())
	}
	if _, ok := k.Prove(d, d.at, maxAge, 0); ok {
		t.Error("a success while another operation is denied grants a lease")
	}
	k.Succeed(k.Begin(Generate, at(6*time.Second)))
	if k.Denied() {
		t.Error("still denied after every operation has succeeded")
	}
	if _, ok := k.Prove(early, at(time.Second), maxAge, 0); ok || k.Succeed(early) {
		t.Error("a success that was begun before the denial counts once access is back")
	}
	check(t, "the proof from before", &k, p, at(6*time.Second), Expired)
	if p, ok := k.Prove(d, d.at, maxAge, 0); !ok {
		t.Error("the Decrypt after the denial proves nothing")
	} else {
		check(t, "the proof from after", &k, p, at(6*time.Second), Active)
	}
}

func TestE12_DeniedBackoff(t *testing.T) {
	var k Key
	now := time.Duration(0)
	k.Deny(k.Begin(Unwrap, at(now)), at(now))
	for _, step := range []int{1, 2, 4, 8, 16, 30, 30} {
		wait := time.Duration(step) * time.Second
		if k.Ask(at(now + wait - 1)) {
			t.Fatalf("asked before %v", wait)
		}
		now += wait
		if !k.Ask(at(now)) {
			t.Fatalf("may not ask after %v", wait)
		}
		if k.Ask(at(now)) {
			t.Fatal("the step was given twice")
		}
		k.Deny(k.Begin(Unwrap, at(now)), at(now))
	}
	// Answers that were under way together are one step.
	a, b := k.Begin(Unwrap, at(now)), k.Begin(Unwrap, at(now))
	k = Key{}
	k.Deny(a, at(now))
	k.Deny(b, at(now))
	if !k.Ask(at(now + time.Second)) {
		t.Error("two answers at once made two steps")
	}
	k.Hint(at(now))
	if !k.Ask(at(now)) {
		t.Error("a hint does not let the next operation ask")
	}
}

func TestI4_E3_OutageChangesNoLease(t *testing.T) {
	var k Key
	p := proved(t, &k, at(0))
	for range 100 {
		k.Fail(k.Begin(Unwrap, at(35*time.Second)), at(40*time.Second), 0)
	}
	check(t, "renewal waits", &k, p, at(44*time.Second), Active)
	check(t, "renewal again", &k, p, at(45*time.Second), Refresh)
	check(t, "end", &k, p, at(maxAge), Expired)
	k.Deny(k.Begin(Unwrap, at(0)), at(0))
	k.Fail(k.Begin(Unwrap, at(0)), at(0), 0)
	if !k.Denied() {
		t.Error("an outage ended a denial")
	}
}

// After BreakAfter outages in a row one question is asked per back-off step, and
// nobody else waits; whatever the KMS answers then closes the breaker.
func TestI5_Breaker(t *testing.T) {
	down := func(now time.Duration) (k Key) {
		for range BreakAfter {
			if k.Broken() || !k.Ask(at(now)) {
				t.Fatal("open too early")
			}
			k.Fail(k.Begin(Unwrap, at(now)), at(now), 0)
		}
		if !k.Broken() {
			t.Fatal("not open")
		}
		return k
	}
	now := time.Hour
	k := down(now)
	for _, ms := range []int{1000, 2000, 4000, 5000, 5000} {
		wait := time.Duration(ms) * time.Millisecond
		if got := k.Wait(at(now)); got != wait {
			t.Fatalf("Wait = %v, want %v", got, wait)
		}
		if k.Ask(at(now + wait - 1)) {
			t.Fatalf("asked before %v", wait)
		}
		if now += wait; !k.Ask(at(now)) {
			t.Fatalf("may not ask after %v", wait)
		}
		if k.Ask(at(now)) {
			t.Fatal("the step was given twice")
		}
		k.Fail(k.Begin(Unwrap, at(now)), at(now), 0)
	}

	for name, answer := range map[string]func(*Key){
		"success": func(k *Key) { k.Succeed(k.Begin(Wrap, at(now))) },
		"hint":    func(k *Key) { k.Hint(at(now)) },
	} {
		k := down(now)
		if answer(&k); k.Broken() || !k.Ask(at(now)) || !k.Ask(at(now)) {
			t.Errorf("still open after a %s", name)
		}
	}

	// A denial is untouched by it, in either order.
	k = down(now)
	k.Deny(k.Begin(Unwrap, at(now)), at(now))
	if k.Broken() || !k.Denied() || k.Wait(at(now)) != time.Second {
		t.Error("a denial is not what counts")
	}
	for range 2 * BreakAfter {
		k.Fail(k.Begin(Unwrap, at(now)), at(now), 0)
	}
	if !k.Denied() || k.Wait(at(now)) != time.Second || !k.Ask(at(now+time.Second)) {
		t.Error("outages changed what a denial says")
	}

	// Calls under way together are one outage; one begun before an answer is none.
	k = Key{}
	calls := []Call{k.Begin(Unwrap, at(now)), k.Begin(Unwrap, at(now)), k.Begin(Unwrap, at(now)), k.Begin(Unwrap, at(now))}
	for _, c := range calls {
		k.Fail(c, at(now), 0)
	}
	if k.Broken() {
		t.Error("calls under way together opened the breaker")
	}
	for range BreakAfter {
		old := k.Begin(Unwrap, at(now))
		k.Succeed(k.Begin(Unwrap, at(now)))
		k.Fail(old, at(now), 0)
	}
	if k.Broken() {
		t.Error("outages older than an answer opened the breaker")
	}

	// Jitter only shortens, by a quarter at most. A stall says nothing about KMS.
	k = Key{}
	for range BreakAfter {
		k.Fail(k.Begin(Unwrap, at(now)), at(now), 0.999999)
	}
	if w := k.Wait(at(now)); w < 750*time.Millisecond || w > 751*time.Millisecond {
		t.Errorf("with jitter: %v", w)
	}
	k = Key{}
	p := proved(t, &k, at(0))
	for range 100 {
		k.Stall(at(40 * time.Second))
	}
	if k.Broken() || k.Wait(at(40*time.Second)) != 0 {
		t.Error("a stall opened the breaker")
	}
	check(t, "renewal waits", &k, p, at(44*time.Second), Active)
	check(t, "renewal again", &k, p, at(45*time.Second), Refresh)
}

// The machine is suspended between the Store's answer and the question to KMS: what
// the Store said is as old as the wall clock says. Found by TestModel.
func TestF3_SuspendedAfterTheRead(t *testing.T) {
	var k Key
	read := at(time.Hour)
	woken := Time{Mono: read.Mono, Wall: read.Wall.Add(2 * time.Minute)}
	c := k.Begin(Unwrap, woken)
	k.Succeed(c)
	p, ok := k.Prove(c, read, maxAge, 0)
	if !ok {
		t.Fatal("no proof")
	}
	check(t, "two minutes after the read", &k, p, woken, Expired)
}

func TestE6_OlderProofIsNotNewer(t *testing.T) {
	var k Key
	a, b := k.Begin(Unwrap, at(1)), k.Begin(Unwrap, at(2))
	k.Succeed(b)
	k.Succeed(a)
	pa, _ := k.Prove(a, a.at, maxAge, 0)
	pb, _ := k.Prove(b, b.at, maxAge, 0)
	if pa.Newer(pb) || !pb.Newer(pa) || pa.Newer(pa) || !pa.Newer(Proof{}) {
		t.Error("order of proofs")
	}
}

func TestEncryptProvesNothing(t *testing.T) {
	var k Key
	c := k.Begin(Wrap, at(0))
	k.Succeed(c)
	if _, ok := k.Prove(c, c.at, maxAge, 0); ok {
		t.Error("an Encrypt proved a data key")
	}
}

func TestSystemClockHasBothClocks(t *testing.T) {
	c := System()
	a := c.Now()
	time.Sleep(time.Millisecond)
	b := c.Now()
	if b.Mono <= a.Mono || !b.Wall.After(a.Wall) {
		t.Error("time stands still")
	}
	if a.Wall != a.Wall.Round(0) {
		t.Error("the wall clock carries a monotonic reading, so Sub would ignore the wall")
	}
}
