package lease

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A world is one CMK with several data keys, a KMS that obeys its owner, a Store, and
// processes that use the machine as a Keeper does. It knows the true time, the processes
// only their clocks.
//
// The oracle is the history: what was asked, what KMS decided, what answer reached whom,
// in which order. Each judgement looks through it anew; nothing in it counts as the
// machine counts.
type world struct {
	*rapid.T
	now time.Duration // true time

	// The owner's wish and the world's state.
	enabled   bool
	allowed   Ops
	outage    bool
	suspended bool
	unusable  time.Duration // since when no data key can be proved; -1: it can
	stopped   time.Duration // since when the Store says suspended; -1: it does not

	processes []*process
	seq       int // orders events
}

type process struct {
	k      Key
	proofs map[int]Proof // by data key, the newest
	kept   map[int]*call // what that rests on
	cut    bool          // from the Store
	halted bool          // suspended, as of seen

	mono, wall time.Duration // how far each clock is from the true time
	slept      time.Duration // when its machine was suspended last
	back       time.Duration // when its wall clock was last set back

	flying []*call // begun, not answered here
	heard  []*call // answered, in this order
}

// call is a question to KMS.
type call struct {
	p       *process
	c       Call
	op      Ops
	dataKey int
	bad     bool // the wrapped key is damaged

	read, issued     time.Duration // true time
	readAt, issuedAt Time          // by the process
	begun, answered  int           // event numbers
	decided          bool
	answer           fate
}

type fate int

const (
	granted fate = iota
	refused
	lost
	badBlob
)

// event numbers what happens; nothing happens at the same time as something else.
func (w *world) event() int {
	w.seq++
	w.now++
	return w.seq
}

func (w *world) clock(p *process) Time {
	return Time{Mono: w.now + p.mono, Wall: at(w.now + p.wall).Wall}
}

// decide is what KMS says now.
func (w *world) decide(c *call) {
	c.decided = true
	switch {
	case w.outage:
		c.answer = lost
	case !w.enabled || w.allowed&c.op == 0:
		c.answer = refused
	case c.bad:
		c.answer = badBlob
	default:
		c.answer = granted
	}
}

// ask begins a call, as a load does: the Store first, then the machine's leave.
func (w *world) ask(p *process, op Ops, dataKey int, bad bool, readAt Time, read time.Duration) *call {
	now := w.clock(p)
	if !p.k.Ask(now) {
		return nil
	}
	c := &call{p: p, c: p.k.Begin(op, now), op: op, dataKey: dataKey, bad: bad,
		read: read, issued: w.now, readAt: readAt, issuedAt: now, begun: w.event()}
	p.flying = append(p.flying, c)
	return c
}

// look reads the tenant's state in the Store.
func (w *world) look(p *process) bool {
	if p.cut {
		p.k.Stall(w.clock(p))
		return false
	}
	p.halted = w.suspended
	if p.halted {
		clear(p.proofs) // wiped
		clear(p.kept)
	}
	return !p.halted
}

// hear takes the answer of a call.
func (w *world) hear(c *call) {
	p, now := c.p, w.clock(c.p)
	for i, f := range p.flying {
		if f == c {
			p.flying = append(p.flying[:i:i], p.flying[i+1:]...)
		}
	}
	if !c.decided {
		w.decide(c)
	}
	c.answered = w.event()
	before, wasDenied := w.states(p), p.k.Denied()
	wasMissing := p.k.Missing()
	p.heard = append(p.heard, c)
	switch c.answer {
	case granted:
		if got, want := p.k.Succeed(c.c), w.counts(c); got != want {
			w.Fatalf("Succeed = %v, want %v", got, want)
		}
		proof, ok := p.k.Prove(c.c, c.readAt, maxAge, rapid.Float64Range(0, 0.999).Draw(w.T, "jitter"))
		if want := w.counts(c) && !w.denied(p) && c.op != Wrap; ok != want {
			w.Fatalf("Prove = %v, want %v", ok, want)
		}
		if ok && !p.halted && proof.Newer(p.proofs[c.dataKey]) {
			p.proofs[c.dataKey], p.kept[c.dataKey] = proof, c
		}
	case refused:
		p.k.Deny(c.c, now)
	case lost:
		p.k.Fail(c.c, now, 0.5)
	case badBlob:
		if p.k.Wait(now) > 0 {
			p.k.Hint(now)
		}
	}
	if c.answer == lost || c.answer == badBlob { // I4, I9
		if p.k.Denied() != wasDenied || p.k.Missing() != wasMissing {
			w.Fatalf("answer %d changed the state of the key", c.answer)
		}
		for d, s := range w.states(p) {
			if served(s) != served(before[d]) {
				w.Fatalf("answer %d changed what data key %d may do: %d, was %d", c.answer, d, s, before[d])
			}
		}
	}
}

func (w *world) states(p *process) map[int]State {
	out := map[int]State{}
	for d, proof := range p.proofs {
		out[d] = p.k.Check(proof, w.clock(p), maxAge)
	}
	return out
}

func served(s State) bool { return s == Active || s == Refresh }

// counts reports whether a success says something: no denial was heard since it was begun.
func (w *world) counts(c *call) bool {
	for _, d := range c.p.heard {
		if d.answer == refused && d.answered > c.begun {
			return false
		}
	}
	return true
}

// denied is the definition: some operation that was denied since the key was last
// active, or Decrypt, has no success yet that was begun after the newest denial.
func (w *world) denied(p *process) bool {
	var since Ops
	newest := 0
	for i, d := range p.heard {
		if d.answer == refused {
			since |= d.op | Unwrap
			newest = d.answered
		}
		if newest == 0 {
			continue
		}
		var ok Ops
		for _, s := range p.heard[:i+1] {
			if s.answer == granted && s.begun > newest {
				ok |= s.op
			}
		}
		if ok&since == since {
			since, newest = 0, 0
		}
	}
	return newest != 0
}

// alive reports whether a success of c permits its data key to be used now, by the
// clocks of its process: it counts, it is no Encrypt, and it is younger than MaxAge.
func (w *world) alive(c *call) bool {
	if c.answer != granted || c.op == Wrap || !w.counts(c) {
		return false
	}
	from, now := c.issuedAt, w.clock(c.p)
	if c.readAt.Mono <= from.Mono { // a tie: the Store comes first
		from = c.readAt
	}
	mono, wall := now.Mono-from.Mono, now.Wall.Sub(from.Wall)
	return mono >= 0 && mono < maxAge && wall < maxAge && wall >= mono-2*time.Second
}

// judge asks each process about each data key, and compares with the definitions.
func (w *world) judge() {
	for i, p := range w.processes {
		denied := w.denied(p)
		if p.k.Denied() != denied {
			w.Fatalf("process %d: Denied = %v, want %v (I6)", i, p.k.Denied(), denied)
		}
		for d := range dataKeys {
			var alive bool
			var by *call
			for _, c := range p.heard {
				if c.dataKey == d && w.alive(c) {
					alive, by = true, c
				}
			}
			got := p.k.Check(p.proofs[d], w.clock(p), maxAge)
			if served(got) && (denied || !alive || p.halted) {
				w.Fatalf("process %d, data key %d: served, denied %v, proved %v, suspended %v (I1, I2, I10, I13, I14)", i, d, denied, alive, p.halted)
			}
			// Of two proofs the one dated later is kept, so clocks that step to and fro may refuse.
			if kept := p.kept[d]; kept != nil && !served(got) && !denied && !p.halted && w.alive(kept) {
				w.Fatalf("process %d, data key %d: a false refusal, state %d (I7)", i, d, got)
			}
			// The bound, in true time. Two clocks that are wrong in opposite directions at once
			// are beyond anybody: a machine that sleeps, and has its wall clock set back.
			if served(got) && !(p.slept >= by.read && p.back >= by.read) {
				if w.unusable >= 0 && w.now >= w.unusable+maxAge {
					w.Fatalf("process %d, data key %d: served %v after the CMK became unusable (I3)", i, d, w.now-w.unusable)
				}
				if w.stopped >= 0 && w.now >= w.stopped+maxAge {
					w.Fatalf("process %d, data key %d: served %v after the suspension (I3)", i, d, w.now-w.stopped)
				}
			}
		}
	}
}

// owner notes since when the owner's wish is what it is.
func (w *world) owner() {
	usable := w.enabled && w.allowed&(Generate|Unwrap) != 0
	switch {
	case usable:
		w.unusable = -1
	case w.unusable < 0:
		w.unusable = w.now
	}
	switch {
	case !w.suspended:
		w.stopped = -1
	case w.stopped < 0:
		w.stopped = w.now
	}
}

const dataKeys = 3

// TestModel runs random histories of a world, and judges I1 to I7, I9, I10, I13 and I14
// after each step. CI runs 100 000 of them:
// go test -run '^TestModel$' ./internal/lease -rapid.checks=100000
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{T: t, now: time.Hour, enabled: true, allowed: Generate | Wrap | Unwrap, unusable: -1, stopped: -1}
		start := func() *process { return &process{proofs: map[int]Proof{}, kept: map[int]*call{}, slept: -1, back: -1} }
		for range rapid.IntRange(1, 3).Draw(t, "processes") {
			w.processes = append(w.processes, start())
		}
		type reading struct {
			p       *process
			dataKey int
			at      Time
			true_   time.Duration
		}
		var readings []reading // loads that have read the Store, and not asked KMS yet
		for range rapid.IntRange(10, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, len(w.processes)-1).Draw(t, "process")
			p := w.processes[i]
			switch rapid.IntRange(0, 19).Draw(t, "step") {
			case 0, 1, 2: // a load begins: it reads the Store
				d := rapid.IntRange(0, dataKeys-1).Draw(t, "data key")
				at := w.clock(p)
				if w.look(p) {
					readings = append(readings, reading{p, d, at, w.now})
				}
			case 3, 4, 5: // and asks KMS, at once or later
				if len(readings) == 0 {
					continue
				}
				r := readings[len(readings)-1]
				readings = readings[:len(readings)-1]
				op := rapid.SampledFrom([]Ops{Unwrap, Unwrap, Unwrap, Generate, Wrap}).Draw(t, "op")
				w.ask(r.p, op, r.dataKey, rapid.IntRange(0, 9).Draw(t, "bad") == 0, r.at, r.true_)
			case 6, 7: // KMS decides; the answer is under way
				if len(p.flying) > 0 {
					if c := p.flying[rapid.IntRange(0, len(p.flying)-1).Draw(t, "which")]; !c.decided {
						w.decide(c)
					}
				}
			case 8, 9, 10, 11: // an answer arrives, in any order
				if len(p.flying) > 0 {
					w.hear(p.flying[rapid.IntRange(0, len(p.flying)-1).Draw(t, "which")])
				}
			case 12:
				w.enabled = !w.enabled
			case 13:
				w.allowed ^= rapid.SampledFrom([]Ops{Generate, Wrap, Unwrap}).Draw(t, "permission")
			case 14:
				w.outage = !w.outage
			case 15: // the platform suspends or resumes; processes hear of it unless they are cut off
				switch rapid.IntRange(0, 2).Draw(t, "store") {
				case 0:
					w.suspended = !w.suspended
				case 1:
					p.cut = !p.cut
				case 2:
					w.look(p)
				}
			case 16, 17: // time passes
				w.now += time.Duration(rapid.Int64Range(0, int64(45*time.Second)).Draw(t, "passes"))
			case 18: // clocks: a wall clock is set, or a machine sleeps, and so do all others
				d := time.Duration(rapid.Int64Range(-int64(2*time.Minute), int64(2*time.Minute)).Draw(t, "clock"))
				if rapid.Bool().Draw(t, "sleeps") {
					d = max(d, -d)
					w.now += d
					p.mono -= d
					p.slept = w.now
				} else {
					p.wall += d
					if d < 0 {
						p.back = w.now
					}
				}
			case 19:
				switch rapid.IntRange(0, 2).Draw(t, "rare") {
				case 0: // it dies, and starts anew, knowing nothing (I14)
					w.processes[i] = start()
					for n := len(readings) - 1; n >= 0; n-- {
						if readings[n].p == p {
							readings = append(readings[:n:n], readings[n+1:]...)
						}
					}
				case 1: // a hint: it proves nothing, and ends nothing
					before, denied := w.states(p), p.k.Denied()
					p.k.Hint(w.clock(p))
					if p.k.Denied() != denied {
						t.Fatal("a hint changed the state of the key (I4)")
					}
					for d, s := range w.states(p) {
						if served(s) != served(before[d]) {
							t.Fatal("a hint changed what may be served (I4)")
						}
					}
				case 2:
					p.k.Stall(w.clock(p))
				}
			}
			w.owner()
			w.judge()
		}
		w.recover()
	})
}

// recover heals everything, and demands that each process serves within the longest
// back-off and one load (I5).
func (w *world) recover() {
	w.enabled, w.allowed, w.outage, w.suspended = true, Generate|Wrap|Unwrap, false, false
	w.owner()
	for _, p := range w.processes {
		p.cut = false
		for len(p.flying) > 0 { // what is still under way ends somehow
			w.hear(p.flying[0])
		}
	}
	w.now += 30 * time.Second
	for i, p := range w.processes {
		at, read := w.clock(p), w.now
		if !w.look(p) {
			w.Fatalf("process %d: still suspended", i)
		}
		c := w.ask(p, Unwrap, 0, false, at, read)
		if c == nil {
			w.Fatalf("process %d: may not ask after the longest back-off, for %v (I5)", i, p.k.Wait(w.clock(p)))
		}
		w.hear(c)
		for _, op := range []Ops{Generate, Wrap} { // what a load does then
			if p.k.Missing()&op != 0 {
				m := &call{p: p, c: p.k.Begin(op, w.clock(p)), op: op, dataKey: -1, readAt: at, issuedAt: w.clock(p), read: read, issued: w.now, begun: w.event()}
				w.hear(m)
			}
		}
		proof, ok := p.k.Prove(c.c, c.readAt, maxAge, 0)
		if !ok || p.k.Denied() {
			w.Fatalf("process %d: not back after one load (I5)", i)
		}
		p.proofs[0] = proof
		if !served(p.k.Check(proof, w.clock(p), maxAge)) {
			w.Fatalf("process %d: proved, and not served", i)
		}
	}
	w.judge()
}
