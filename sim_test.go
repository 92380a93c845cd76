package byok_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/fipstest"
	"github.com/byok-go/byok/kmsfake"
)

var (
	simRuns = flag.Int("sim.runs", 200, "histories of TestSimulation")
	simSeed = flag.Uint64("sim.seed", 1, "seed of the first one; each further one is its successor")
)

// simOptions are silent: that a machine is cut off is no news.
var simOptions = &byok.Options{Logger: slog.New(slog.DiscardHandler)}

// sim is a history of whole Keepers on one Store and one KMS, in simulated time. Its
// owner, its platform and its machines do what they like; it keeps when what was true, and judges
// each operation by that.
type sim struct {
	t     *testing.T
	r     *rand.Rand
	env   *byoktest.Env
	acme  *byok.Tenant // by a process that nothing happens to
	cmk   *kmsfake.Key
	whole string // the policy that permits everything

	denied  map[string]bool // "", or the operations that the policy leaves out
	enabled bool
	outage  func() // ends it; nil: none
	stopped bool

	wg sync.WaitGroup // of operations that go on beside what else happens
	mu sync.Mutex     // of what follows, and of machine.saw

	unusable  time.Time // since when neither GenerateDataKey nor Decrypt can succeed, for an outage or the owner's wish; zero: one can
	closed    time.Time // since when Decrypt cannot, which alone keeps a key denied that has been denied
	suspended time.Time // since when; zero: it is not
	everBad   bool      // KMS has had a reason to deny
	machines  []*machine
	sealed    []record
	log       []string
}

// machine is one process.
type machine struct {
	k      *byok.Keeper
	store  *cutStore
	saw    time.Time // when it observed a denial last
	denial string    // the request of it
}

type record struct {
	purpose string
	sealed  []byte
	plain   string
}

func (s *sim) notef(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v ", time.Since(epoch))+fmt.Sprintf(format, args...))
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a bubble begins

func (s *sim) failf(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf(format, args...)
}

func (s *sim) boot() *machine {
	m := &machine{store: &cutStore{Store: s.env.Store}}
	var err error
	if m.k, err = byok.New(byoktest.Service, s.env.Keys, m.store, s.env.Audit, simOptions); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = m.k.Close() })
	return m
}

// wish makes the policy and the key's state what the owner wants.
func (s *sim) wish() {
	s.now(false)
	p := s.whole
	for op, out := range s.denied {
		if out {
			p = strings.ReplaceAll(p, `"kms:`+op+`"`, `"kms:ListGrants"`)
		}
	}
	s.cmk.SetPolicy(p)
	if s.enabled {
		s.cmk.Enable()
	} else {
		s.cmk.Disable()
	}
	s.now(true)
}

// now notes what is true: what has become possible before it is, and what has become
// impossible after. In between nothing is on its way from a decision to its judgement.
func (s *sim) now(worse bool) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.everBad = s.everBad || !s.enabled || s.denied["GenerateDataKey"] || s.denied["Decrypt"] || s.denied["Encrypt"]
	for t, is := range map[*time.Time]bool{
		&s.unusable:  !s.enabled || s.denied["GenerateDataKey"] && s.denied["Decrypt"] || s.outage != nil,
		&s.closed:    !s.enabled || s.denied["Decrypt"],
		&s.suspended: s.stopped,
	} {
		if is == worse {
			since(t, is)
		}
	}
}

// since makes t the time since when is holds, and zero if it does not.
func since(t *time.Time, is bool) {
	switch {
	case !is:
		*t = time.Time{}
	case t.IsZero():
		*t = time.Now()
	}
}

// step is one thing that happens.
func (s *sim) step() {
	m := s.machines[s.r.IntN(len(s.machines))]
	switch s.r.IntN(20) {
	case 0, 1, 2, 3, 4:
		s.use(m, true)
	case 5, 6, 7, 8:
		s.use(m, false)
	case 9:
		s.enabled = !s.enabled || s.r.IntN(3) == 0
		s.notef("enabled: %v", s.enabled)
		s.wish()
	case 10:
		op := []string{"GenerateDataKey", "Encrypt", "Decrypt"}[s.r.IntN(3)]
		s.denied[op] = !s.denied[op]
		s.notef("%s denied: %v", op, s.denied[op])
		s.wish()
	case 11:
		if end := s.outage; end != nil {
			s.outage = nil
			s.now(false)
			end()
		} else {
			s.outage = s.env.Fake.Outage()
			s.now(true)
		}
		s.notef("outage: %v", s.outage != nil)
	case 12:
		var err error
		if s.stopped = !s.stopped; s.stopped {
			_, err = s.acme.Suspend(context.Background(), "")
			s.now(true)
		} else {
			s.now(false)
			_, err = s.acme.Resume(context.Background(), "")
		}
		if s.notef("suspended: %v", s.stopped); err != nil {
			s.failf("Suspend or Resume: %v", err)
		}
	case 13:
		cut := s.r.IntN(2) == 0
		m.store.cut(cut)
		s.notef("machine %p cut off: %v", m, cut)
	case 14:
		i := s.r.IntN(len(s.machines))
		s.notef("machine %p dies", s.machines[i])
		s.machines[i] = s.boot() // the old one is forgotten, not closed: it crashed
	case 15:
		_, err := m.k.Tenant("acme").Recheck(context.Background())
		s.notef("machine %p rechecks: %v", m, err)
		s.saw(m, err)
	case 16:
		_, err := m.k.Tenant("acme").Rotate(context.Background(), byok.Rotation{Type: byok.RotateDEK})
		s.notef("machine %p rotates: %v", m, err)
		s.saw(m, err)
	case 17:
		s.env.Fake.Latency(time.Duration(s.r.Int64N(int64(time.Second))))
	case 18:
		time.Sleep(time.Duration(s.r.Int64N(int64(90 * time.Second))))
	default:
		time.Sleep(time.Duration(s.r.ExpFloat64() * float64(10*time.Second)))
	}
}

// use seals or opens, and judges; beside what happens next, or before it.
func (s *sim) use(m *machine, sealing bool) {
	rec := record{purpose: fmt.Sprint("p", s.r.IntN(3))}
	s.mu.Lock()
	rec.plain = fmt.Sprint(len(s.sealed))
	if !sealing && len(s.sealed) > 0 {
		rec = s.sealed[s.r.IntN(len(s.sealed))]
	}
	s.mu.Unlock()
	if s.r.IntN(2) == 0 {
		s.wg.Go(func() { s.judge(m, rec) })
	} else {
		s.judge(m, rec)
	}
}

func (s *sim) judge(m *machine, rec record) {
	begun := time.Now()
	scope, sealing := byok.Scope{Tenant: "acme", Purpose: rec.purpose}, rec.sealed == nil
	var err error
	if sealing {
		rec.sealed, err = m.k.Seal(context.Background(), scope, []byte(rec.plain), nil)
	} else {
		var plain []byte
		plain, err = m.k.Open(context.Background(), scope, rec.sealed, nil)
		if err == nil && string(plain) != rec.plain {
			s.failf("opened %q, want %q", plain, rec.plain)
		}
	}
	s.notef("machine %p, seal %v, since %v: %v", m, sealing, begun.Sub(epoch), err)
	s.saw(m, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		if sealing {
			s.sealed = append(s.sealed, rec)
		}
		switch {
		case !s.unusable.IsZero() && begun.Sub(s.unusable) >= byok.DefaultMaxAge:
			s.failf("served %v after the CMK became unusable (I2, I3)", begun.Sub(s.unusable))
		case !s.suspended.IsZero() && begun.Sub(s.suspended) >= byok.DefaultMaxAge:
			s.failf("served %v after the suspension (I3)", begun.Sub(s.suspended))
		case !m.saw.IsZero() && m.saw.Before(time.Now()) && !s.closed.IsZero() && !m.saw.Before(s.closed):
			s.failf("released after this process had seen the denial (I1, I8)")
		}
	case errors.Is(err, byok.ErrKeyDenied):
		if !s.everBad {
			s.failf("denied, and nobody ever has (I6)")
		}
	case errors.Is(err, byok.ErrSuspended), errors.Is(err, byok.ErrKeyUnavailable), errors.Is(err, byok.ErrStore):
	default:
		s.failf("machine %p: %v", m, err)
	}
}

// saw notes that a process has observed a denial: a new one, since in the back-off an
// operation gets the last one again.
func (s *sim) saw(m *machine, err error) {
	var ke *byok.KeyError
	if errors.Is(err, byok.ErrKeyDenied) && errors.As(err, &ke) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ke.RequestID != m.denial {
			m.saw, m.denial = time.Now(), ke.RequestID
		}
	}
}

// recover heals everything. Each process then serves within the longest back-off and
// one load, and everything that was ever sealed opens (I5, I7, I19).
func (s *sim) recover() {
	s.wg.Wait()
	if s.outage != nil {
		s.outage()
		s.outage = nil
	}
	clear(s.denied)
	s.enabled = true
	s.wish()
	s.env.Fake.Latency(0)
	if s.stopped {
		if _, err := s.acme.Resume(context.Background(), ""); err != nil {
			s.failf("Resume: %v", err)
		}
	}
	for _, m := range s.machines {
		m.store.cut(false)
	}
	time.Sleep(30 * time.Second)
	s.notef("healed")
	for _, m := range s.machines {
		if _, err := m.k.Seal(context.Background(), byok.Scope{Tenant: "acme", Purpose: "p0"}, nil, nil); err != nil {
			s.failf("machine %p, 30 s after all is well: %v (I5)", m, err)
		}
		for i, rec := range s.sealed {
			plain, err := m.k.Open(context.Background(), byok.Scope{Tenant: "acme", Purpose: rec.purpose}, rec.sealed, nil)
			if err != nil || string(plain) != rec.plain {
				s.failf("record %d: %q, %v (I19)", i, plain, err)
			}
		}
	}
}

// TestSimulation runs random histories of whole Keepers, each from a seed of its own:
// go test -run TestSimulation . -sim.runs=10000 -sim.seed=1
func TestSimulation(t *testing.T) {
	var sealed int
	for i := range *simRuns {
		if i%20 == 0 {
			fipstest.Refresh()
		}
		seed := *simSeed + uint64(i)
		synctest.Test(t, func(t *testing.T) {
			s := &sim{t: t, r: rand.New(rand.NewPCG(seed, 0)), env: byoktest.New(t, &byoktest.Options{Keeper: simOptions}), denied: map[string]bool{}, enabled: true}
			s.notef("seed %d", seed)
			s.acme, s.cmk = s.env.Tenant("acme")
			s.whole = s.cmk.Policy()
			for range 1 + s.r.IntN(3) {
				s.machines = append(s.machines, s.boot())
			}
			if s.r.IntN(2) == 0 { // with a fleet that hears of each other, or without
				for _, m := range s.machines {
					go func() { _ = m.k.Run(t.Context()) }()
				}
			}
			for range 50 + s.r.IntN(100) {
				if s.step(); t.Failed() {
					break
				}
			}
			if s.recover(); t.Failed() {
				t.Logf("seed %d:\n%s", seed, strings.Join(s.log[max(0, len(s.log)-60):], "\n"))
			}
			sealed += len(s.sealed)
		})
		if t.Failed() {
			return
		}
	}
	if sealed < *simRuns {
		t.Errorf("%d records in %d histories: too little happened", sealed, *simRuns)
	}
}
