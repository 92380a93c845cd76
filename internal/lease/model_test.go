package lease

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The model is the definition read aloud: it keeps the whole history, and
// judges each question by looking through it. It has no counters that the machine has.
type model struct {
	events []event
}

type event struct {
	begun bool // else: answered
	id    int
	op    Ops
	what  answer
}

type answer int

const (
	success answer = iota
	denial
	outage
)

// denied reports whether the key is denied after the first n events: some
// operation that was denied since the key was last active, or Decrypt, has no
// success yet that was begun after the newest denial.
func (m *model) denied(n int) bool {
	var since Ops
	newest := -1
	for i := range n {
		e := m.events[i]
		if e.begun {
			continue
		}
		if e.what == denial {
			since |= e.op | Unwrap
			newest = i
		}
		if newest >= 0 && m.succeeded(newest, i+1)&since == since {
			since, newest = 0, -1
		}
	}
	return newest >= 0
}

// succeeded returns the operations that were begun after event from, and have
// succeeded before event n.
func (m *model) succeeded(from, n int) (ops Ops) {
	for i := from + 1; i < n; i++ {
		if e := m.events[i]; !e.begun && e.what == success && m.begin(e.id) > from {
			ops |= e.op
		}
	}
	return ops
}

func (m *model) begin(id int) int {
	for i, e := range m.events {
		if e.begun && e.id == id {
			return i
		}
	}
	panic("answered before it was begun")
}

// counts reports whether the success of call id, answered now, counts: no
// denial was answered since it was begun.
func (m *model) counts(id int) bool {
	for _, e := range m.events[m.begin(id):] {
		if !e.begun && e.what == denial {
			return false
		}
	}
	return true
}

// TestOneKey compares the machine with the definition, over random histories of
// calls that begin and end in any order while both clocks do what they like.
// TestModel has several keys and processes.
func TestOneKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			k      Key
			m      model
			now    = at(time.Hour)
			calls  = map[int]Call{}
			issued = map[int]Time{}
			open   []int
			proofs []Proof
			made   []struct {
				at    Time
				index int
			}
		)
		n := rapid.IntRange(20, 80).Draw(t, "steps")
		for range n {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2: // begin
				id := len(calls)
				op := rapid.SampledFrom([]Ops{Generate, Wrap, Unwrap, Unwrap}).Draw(t, "op")
				calls[id], issued[id] = k.Begin(op, now), now
				open = append(open, id)
				m.events = append(m.events, event{begun: true, id: id, op: op})
			case 3, 4, 5, 6: // answer
				if len(open) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				id := open[i]
				open = append(open[:i], open[i+1:]...)
				c := calls[id]
				what := rapid.SampledFrom([]answer{success, success, success, denial, outage}).Draw(t, "answer")
				counts := m.counts(id)
				m.events = append(m.events, event{id: id, op: c.op, what: what})
				switch what {
				case success:
					if got := k.Succeed(c); got != counts {
						t.Fatalf("Succeed = %v, want %v", got, counts)
					}
					p, ok := k.Prove(c, issued[id], maxAge, rapid.Float64Range(0, 0.999).Draw(t, "jitter"))
					if want := counts && !m.denied(len(m.events)) && c.op != Wrap; ok != want {
						t.Fatalf("Prove = %v, want %v", ok, want)
					}
					if ok {
						proofs = append(proofs, p)
						made = append(made, struct {
							at    Time
							index int
						}{issued[id], m.begin(id)})
					}
				case denial:
					k.Deny(c, now)
				case outage:
					k.Fail(c, now, 0.5)
				}
			case 7: // time passes, on both clocks
				d := time.Duration(rapid.Int64Range(0, int64(45*time.Second)).Draw(t, "passes"))
				now = Time{now.Mono + d, now.Wall.Add(d)}
			case 8: // the wall clock is set, or the machine sleeps
				d := time.Duration(rapid.Int64Range(-int64(2*time.Minute), int64(2*time.Minute)).Draw(t, "wall"))
				now.Wall = now.Wall.Add(d)
			case 9:
				k.Ask(now)
			}
			// The question, of every proof there ever was.
			denied := m.denied(len(m.events))
			if k.Denied() != denied {
				t.Fatalf("Denied = %v, want %v", k.Denied(), denied)
			}
			for i, p := range proofs {
				mono, wall := now.Mono-made[i].at.Mono, now.Wall.Sub(made[i].at.Wall)
				alive := mono < maxAge && wall < maxAge && wall >= mono-Skew
				for _, e := range m.events[made[i].index:] {
					alive = alive && (e.begun || e.what != denial)
				}
				switch got := k.Check(p, now, maxAge); {
				case denied && got != Denied:
					t.Fatalf("denied, but state %d", got)
				case !denied && alive && got != Active && got != Refresh:
					t.Fatalf("a false refusal: state %d (I7)", got)
				case !denied && !alive && got != Expired:
					t.Fatalf("state %d without a valid proof (I2)", got)
				}
			}
		}
	})
}
