package byok_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/fipstest"
)

// keySim is a history of a tenant with several CMKs, one process after the other, in simulated time. It keeps since
// when each key has been what it is, and judges each operation by that alone.
type keySim struct {
	*several
	r      *rand.Rand
	policy byok.Policy
	state  []int
	since  []time.Time // of state
	saw    []bool      // this process has been told of a denial by the key, and has served nothing since
	could  []bool      // it may have heard of one, and nothing shows that it knows better
	last   string      // request of the newest denial that was told
	sealed []record
	log    []string

	partial bool // data keys may have been made that a key has not wrapped, of any, since it was down
}

// may reports whether an operation that begins now may succeed, and whether it must.
func (s *keySim) may() (may, must bool) {
	may, must = true, true
	stopped := 0 // keys that have not let anybody in for MaxAge
	for i, st := range s.state {
		old := time.Since(s.since[i]) >= byok.DefaultMaxAge
		if st == denying && old || st != up && s.saw[i] {
			may = false // deny wins, whatever the policy; an outage is no answer that ends it
		}
		if st != up && s.could[i] {
			must = false
		}
		if st != up && old {
			stopped++
		}
		if st == denying {
			must = false
		}
		if st == down && s.policy == byok.PolicyAll {
			must = false
		}
		if st == up && time.Since(s.since[i]) < 40*time.Second { // a back-off, and an attempt
			must = false
		}
	}
	if s.policy == byok.PolicyAll && stopped > 0 || stopped == len(s.state) {
		may = false
	}
	for _, st := range s.state {
		if st == up {
			return may, must && may
		}
	}
	return may, false
}

func (s *keySim) use() {
	rec := record{purpose: fmt.Sprint("p", s.r.IntN(3)), plain: fmt.Sprint(len(s.sealed))}
	if len(s.sealed) > 0 && s.r.IntN(2) == 0 {
		rec = s.sealed[s.r.IntN(len(s.sealed))]
	}
	scope, opening := byok.Scope{Tenant: "acme", Purpose: rec.purpose}, rec.sealed != nil
	may, must := s.may()
	var err error
	if must && !s.partial {
		synctest.Wait() // a renewal may be about to ask the one question that a key has which did not answer
	}
	if opening {
		var plain []byte
		plain, err = s.k.Open(context.Background(), scope, rec.sealed, nil)
		if err == nil && string(plain) != rec.plain {
			s.t.Errorf("opened %q, want %q", plain, rec.plain)
		}
	} else if rec.sealed, err = s.k.Seal(context.Background(), scope, []byte(rec.plain), nil); err == nil {
		s.sealed = append(s.sealed, rec)
		s.partial = s.partial || slices.Contains(s.state, down)
	}
	must = must && !s.partial
	s.log = append(s.log, fmt.Sprintf("%v open %v, states %v, may %v must %v: %v", time.Since(epoch), opening, s.state, may, must, err))
	for i, st := range s.state {
		// No lease is older than MaxAge: this one was begun when the key was up.
		if err == nil && st == up && time.Since(s.since[i]) >= byok.DefaultMaxAge {
			s.could[i] = false
		}
		s.saw[i] = s.saw[i] && err != nil
	}
	switch {
	case err == nil && !may:
		s.t.Error("served, and a key has said no, or nobody has said yes for too long (I1, I2, I3, MUST-16)")
	case err != nil && must:
		s.t.Errorf("refused without a reason (I5, I7): %v", err)
	}
	var ke *byok.KeyError
	switch {
	case errors.Is(err, byok.ErrKeyDenied) && errors.As(err, &ke):
		for i, id := range s.ids() {
			switch {
			case ke.RequestID == s.last: // nobody was asked
			case ke.Key == id && s.state[i] == denying:
				s.saw[i] = true
			case s.state[i] == up:
				s.saw[i] = false // it may have been asked before the other one, and have let us in
			}
		}
		s.last = ke.RequestID
	case errors.Is(err, byok.ErrKeyUnavailable):
		for i, st := range s.state {
			s.saw[i] = s.saw[i] && st != up // as well: it was another one that did not answer
		}
	case err != nil:
		s.t.Error(err)
	}
}

func (s *keySim) step() {
	switch i := s.r.IntN(len(s.state)); s.r.IntN(10) {
	case 0, 1, 2, 3, 4:
		s.use()
	case 5, 6:
		to := []int{up, up, down, denying}[s.r.IntN(4)]
		if s.log = append(s.log, fmt.Sprintf("%v key %d is %s", time.Since(epoch), i, stateNames[to])); s.state[i] != to {
			synctest.Wait() // nothing is between KMS's answer and its end
			s.set(i, to)
			s.state[i], s.since[i], s.could[i] = to, time.Now(), s.could[i] || to == denying
		}
	case 7:
		if s.r.IntN(3) == 0 {
			s.k = s.process() // the old one crashed
			clear(s.saw)
			for i, st := range s.state {
				s.could[i] = st == denying
			}
			s.last = ""
		}
	default:
		time.Sleep(time.Duration(s.r.ExpFloat64() * float64(20*time.Second)))
	}
}

// Random histories of tenants with two and three keys, of either policy.
// go test -run TestSeveralKeysSimulation . -sim.runs=10000 -sim.seed=1
func TestSeveralKeysSimulation(t *testing.T) {
	sealed := 0
	for n := range *simRuns {
		if n%20 == 0 {
			fipstest.Refresh()
		}
		seed := *simSeed + uint64(n)
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			p, keys := []byok.Policy{byok.PolicyAny, byok.PolicyAll}[r.IntN(2)], 2+r.IntN(2)
			s := &keySim{several: tenantOf(t, keys, p, &byok.Options{Logger: simOptions.Logger}), r: r, policy: p,
				state: make([]int, keys), since: make([]time.Time, keys), saw: make([]bool, keys), could: make([]bool, keys)}
			time.Sleep(time.Minute)
			for range 60 + r.IntN(60) {
				if s.step(); t.Failed() {
					break
				}
			}
			for i := range s.state {
				s.set(i, up)
			}
			time.Sleep(40 * time.Second)
			for i, rec := range s.sealed {
				synctest.Wait() // as in use
				plain, err := s.k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: rec.purpose}, rec.sealed, nil)
				if err != nil || string(plain) != rec.plain {
					t.Errorf("record %d, when all is well: %q, %v (I5, I19)", i, plain, err)
				}
			}
			if sealed += len(s.sealed); t.Failed() {
				t.Logf("seed %d, %s of %d:\n%s", seed, p, keys, strings.Join(s.log[max(0, len(s.log)-40):], "\n"))
			}
		})
		if t.Failed() {
			return
		}
	}
	if sealed < *simRuns {
		t.Errorf("%d records in %d histories: too little happened", sealed, *simRuns)
	}
}
