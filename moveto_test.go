package byok_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/internal/format"
)

// Moves to and from several CMKs.

// cmkSet is a key set of a test: which CMKs, the primary first.
type cmkSet struct {
	policy byok.Policy
	cmks   []int
}

func (k cmkSet) String() string { return fmt.Sprint(k.policy, k.cmks) }

func (k cmkSet) has(i int) bool { return slices.Contains(k.cmks, i) }

func (k cmkSet) consents() int {
	if k.policy == byok.PolicyAll {
		return len(k.cmks)
	}
	return 1
}

var (
	oneA   = cmkSet{"", []int{0}}
	oneC   = cmkSet{"", []int{2}}
	anyAB  = cmkSet{byok.PolicyAny, []int{0, 1}}
	anyBCD = cmkSet{byok.PolicyAny, []int{1, 2, 3}}
	allAB  = cmkSet{byok.PolicyAll, []int{0, 1}}
	allAC  = cmkSet{byok.PolicyAll, []int{0, 2}}
	allCAB = cmkSet{byok.PolicyAll, []int{2, 0, 1}}
)

// moves are the kinds that there are: each of one, any and all to each, with keys that stay and without.
var moves = []struct{ from, to cmkSet }{
	{oneA, anyAB},    // a replica as a second recipient
	{oneA, anyBCD},   //
	{anyAB, oneA},    //
	{anyAB, oneC},    //
	{anyAB, anyBCD},  // one replaced, one added
	{oneA, allAB},    // dual control from now on
	{oneC, allAB},    //
	{anyAB, allAB},   //
	{allAB, allAC},   // another agent
	{allAB, allCAB},  // a third one, as the primary
	{allCAB, allAB},  // fewer
	{allAB, oneA},    //
	{allAB, oneC},    //
	{allAC, anyAB},   //
	{allCAB, anyBCD}, //
}

func (s *several) move(from, to cmkSet) byok.Move {
	m := byok.Move{Policy: to.policy, FewerConsents: to.consents() < from.consents(), Reason: "test"}
	for i, c := range to.cmks {
		if id := awskms.Key(s.cmks[c].ARN()); i == 0 {
			m.Key = id
		} else {
			m.Others = append(m.Others, id)
		}
	}
	return m
}

// movers returns a tenant with a key set, and what it has sealed: n data keys, one of which is in an envelope too.
func movers(t *testing.T, set cmkSet, n int) (*several, records) {
	t.Helper()
	s := newSeveral(t, 4, &byok.Options{AllowAnyKeyToOpenAlone: true})
	r := s.move(set, set)
	s.register(byok.Registration{Key: r.Key, Others: r.Others, Policy: r.Policy})
	all := sealMany(t, s.k, n-1)
	all = append(all, sealedRecord{acmeScope, sealStream(t, s.k, []byte("stream"), ""), "stream"})
	time.Sleep(2 * time.Second) // the budget of commands
	return s, all
}

// underSet fails unless each data key of acme is wrapped by exactly these CMKs, and no two have the same purpose and generation.
func (s *several) underSet(set cmkSet) {
	s.t.Helper()
	var wanted []string
	for _, c := range set.cmks {
		wanted = append(wanted, s.cmks[c].ARN())
	}
	slices.Sort(wanted)
	seen := map[string]bool{}
	for _, i := range itemsOf(s.t, s.Store, "dek:") {
		var d struct {
			Purpose      string
			Generation   uint64
			Header, Next []byte
		}
		want(s.t, "Unmarshal", json.Unmarshal(i.Value, &d), nil)
		h, err := byok.Inspect(d.Header)
		want(s.t, "Inspect", err, nil)
		var got []string
		for _, r := range h.Recipients {
			got = append(got, r.Key.ID)
		}
		slices.Sort(got)
		id := fmt.Sprint(d.Purpose, "/", d.Generation)
		if !slices.Equal(got, wanted) || (h.Policy == format.PolicyALL) != (set.policy == byok.PolicyAll) || d.Next != nil || seen[id] {
			s.t.Errorf("%s (%s): policy %d by %v, and %d bytes beside it", i.ID, id, h.Policy, got, len(d.Next))
		}
		seen[id] = true
	}
	if len(seen) == 0 {
		s.t.Error("no data keys: this test could pass on nothing")
	}
}

// only lets in none but these CMKs.
func (s *several) only(set cmkSet) {
	for i := range s.cmks {
		if s.set(i, denying); set.has(i) {
			s.set(i, up)
		}
	}
}

// requests is how many requests a move makes: to begin with, for each data key, and before the switch. Without ReEncrypt, which
// is not to be had from Region to Region.
func requests(from, to cmkSet) (begin, each, last int) {
	begin, last = len(from.cmks)+7*len(to.cmks), 2*len(to.cmks)
	staying := 0
	for _, i := range to.cmks {
		if from.has(i) && from.policy != byok.PolicyAll && to.policy != byok.PolicyAll {
			staying++
		}
	}
	if from.policy == "" && to.policy != byok.PolicyAll {
		return begin, 3 * (len(to.cmks) - staying), last
	}
	return begin, len(from.cmks) + 2*(len(to.cmks)-staying), last
}

// A move from any key set to any other: as many requests as documented, nobody else is needed afterwards, each of the new ones
// can stop it, and back again.
func TestMoveTo(t *testing.T) {
	for _, m := range moves {
		t.Run(fmt.Sprint(m.from, " to ", m.to), inBubble(func(t *testing.T) {
			const n = 7
			s, all := movers(t, m.from, n)
			before := len(s.Fake.Calls())
			job, err := s.acme.MoveTo(byok.WithActor(t.Context(), "ana"), s.move(m.from, m.to))
			want(t, "MoveTo", err, nil)
			r, back := s.move(m.from, m.to), s.move(m.to, m.from)
			if job.To != r.Key || !slices.Equal(job.ToOthers, r.Others) || job.ToPolicy != r.Policy || job.From != back.Key ||
				!slices.Equal(job.FromOthers, back.Others) || job.FromPolicy != back.Policy || job.Left != n || job.Reason != "test" {
				t.Errorf("%+v", job)
			}
			again, err := s.acme.MoveTo(t.Context(), s.move(m.from, m.to))
			if want(t, "MoveTo again", err, nil); again.ID != job.ID {
				t.Errorf("another job: %+v", again)
			}
			begin, each, last := requests(m.from, m.to)
			j := finish(t, s.acme, job.ID)
			if got := len(s.Fake.Calls()) - before; got != begin+each*n+last || j.State != byok.JobDone || j.Done != n || j.Method != byok.MethodUnwrap {
				t.Errorf("%d requests, want %d + %d * %d + %d; %+v", got, begin, n, each, last, j)
			}
			s.underSet(m.to)
			st, err := s.acme.Status(t.Context())
			if want(t, "Status", err, nil); st.Key != r.Key || st.Policy != r.Policy || st.Status != byok.StatusActive {
				t.Errorf("%+v", st)
			}
			s.only(m.to)
			k := s.process()
			all.open(t, k)
			more := append(sealMany(t, k, 3), sealedRecord{acmeScope, sealStream(t, k, []byte("more"), ""), "more"})
			more.open(t, s.process())
			s.underSet(m.to)
			matchCalls(t, s.Env, s.Audit.All()) // before any are reset, which have no request id
			for _, i := range m.to.cmks {
				s.set(i, denying)
				if _, err := s.process().Open(t.Context(), all[0].scope, all[0].sealed, nil); !errors.Is(err, byok.ErrKeyDenied) {
					t.Errorf("Open while %d denies: %v", i, err)
				}
				s.set(i, down)
				wanted := error(nil)
				if m.to.policy != byok.PolicyAny {
					wanted = byok.ErrKeyUnavailable
				}
				_, err := s.process().Open(t.Context(), all[0].scope, all[0].sealed, nil)
				want(t, fmt.Sprintf("Open while %d is down", i), err, wanted)
				s.set(i, up)
			}
			time.Sleep(time.Minute)
			for i := range s.cmks {
				s.set(i, up)
			}
			_, err = s.acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
			want(t, "Rotate", err, nil)
			time.Sleep(2 * time.Second)
			job, err = s.acme.MoveTo(t.Context(), s.move(m.to, m.from))
			want(t, "MoveTo back", err, nil)
			more = append(more, sealMany(t, k, 3)...)
			finish(t, s.acme, job.ID)
			s.underSet(m.from)
			s.only(m.from)
			for _, k := range []*byok.Keeper{s.k, k, s.process()} {
				time.Sleep(time.Minute)
				append(all, more...).open(t, k)
			}
		}))
	}
}

// Each CMK, old and new, denies or goes down halfway. The job waits, Seal and Open go by the old ones alone, and when all is well again
// it goes on. Right after the switch they go by the new ones. Nothing is lost.
func TestMoveTo_DeniedHalfway(t *testing.T) {
	for _, m := range moves {
		for i := range 4 {
			for _, how := range []int{down, denying} {
				if !m.from.has(i) && !m.to.has(i) {
					continue
				}
				t.Run(fmt.Sprint(m.from, " to ", m.to, " ", i, stateNames[how]), inBubble(func(t *testing.T) {
					const n = 24
					s, all := movers(t, m.from, n)
					job, err := s.acme.MoveTo(t.Context(), s.move(m.from, m.to))
					want(t, "MoveTo", err, nil)
					for j, err := range s.acme.RunJob(t.Context(), job.ID) {
						want(t, "RunJob", err, nil)
						if j.Done > 0 {
							break
						}
					}
					s.set(i, how)
					var last byok.Job
					for last, err = range s.acme.RunJob(t.Context(), job.ID) {
					}
					wanted := byok.ErrKeyDenied
					if how == down {
						wanted = byok.ErrKeyUnavailable
					}
					passed := how == down && m.from.policy == byok.PolicyAny && !m.to.has(i)
					if passed {
						wanted = nil // an old key that does not answer, while another opens
					}
					if want(t, "RunJob", err, wanted); (last.State == byok.JobPaused) == passed || last.State.Ended() != passed || (last.Done >= n) != passed {
						t.Errorf("%+v", last)
					}
					_, err = s.process().Open(t.Context(), all[0].scope, all[0].sealed, nil)
					if !m.from.has(i) || passed || how == down && m.from.policy == byok.PolicyAny {
						wanted = nil
					}
					want(t, "Open meanwhile", err, wanted)
					s.set(i, up)
					time.Sleep(2 * time.Minute)
					for last, err = range s.acme.RunJob(t.Context(), job.ID) {
						if want(t, "RunJob", err, nil); last.State != byok.JobRunning {
							break
						}
					}
					if last.State != byok.JobSwitching && !passed {
						t.Fatalf("%+v", last)
					}
					// It has switched, and whatever has become of the old keys, the new ones decide.
					s.set(i, denying)
					wanted = nil
					if m.to.has(i) {
						wanted = byok.ErrKeyDenied
					}
					_, err = s.process().Open(t.Context(), all[1].scope, all[1].sealed, nil)
					want(t, "Open after the switch", err, wanted)
					last = finish(t, s.acme, job.ID) // asks no KMS
					if last.State != byok.JobDone || last.Done < n {
						t.Errorf("%+v", last)
					}
					s.set(i, up)
					time.Sleep(time.Minute)
					s.only(m.to)
					all.open(t, s.k)
					all.open(t, s.process())
					s.underSet(m.to)
					if how == denying { // what is reset has no request id
						matchCalls(t, s.Env, s.Audit.All())
					}
				}))
			}
		}
	}
}

// What begins no move asks nobody, or changes nothing at least; and a Keeper that may not make PolicyAny neither begins a move into it nor
// works at one, nor stops those who may.
func TestMoveTo_Refused(t *testing.T) {
	inBubble(func(t *testing.T) {
		s, all := movers(t, allAB, 3)
		stored := func() string {
			return fmt.Sprint(itemsOf(t, s.Store, "state"), itemsOf(t, s.Store, "job:"), itemsOf(t, s.Store, "dek:"))
		}
		before, calls := stored(), len(s.Fake.Calls())
		strict := s.opts
		strict.AllowAnyKeyToOpenAlone = false
		kept := s.opts
		s.opts = strict
		k := s.process()
		s.opts = kept
		id := func(i int) byok.KeyID { return awskms.Key(s.cmks[i].ARN()) }
		for name, m := range map[string]struct {
			k  *byok.Keeper
			to byok.Move
		}{
			"to one, unsaid":      {s.k, byok.Move{Key: id(0)}},
			"to any, unsaid":      {s.k, byok.Move{Key: id(0), Others: []byok.KeyID{id(1)}, Policy: byok.PolicyAny}},
			"what it has":         {s.k, byok.Move{Key: id(0), Others: []byok.KeyID{id(1)}, Policy: byok.PolicyAll, FewerConsents: true}},
			"to any, not allowed": {k, byok.Move{Key: id(0), Others: []byok.KeyID{id(1)}, Policy: byok.PolicyAny, FewerConsents: true}},
			"no policy":           {s.k, byok.Move{Key: id(0), Others: []byok.KeyID{id(2)}}},
			"all of one":          {s.k, byok.Move{Key: id(2), Policy: byok.PolicyAll}},
			"twice the same":      {s.k, byok.Move{Key: id(2), Others: []byok.KeyID{id(2)}, Policy: byok.PolicyAll}},
			"a long reason":       {s.k, byok.Move{Key: id(2), Reason: strings.Repeat("x", 1025), FewerConsents: true}},
		} {
			if _, err := m.k.Tenant("acme").MoveTo(t.Context(), m.to); !errors.Is(err, byok.ErrArgument) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if stored() != before || len(s.Fake.Calls()) != calls {
			t.Errorf("%d requests, or something changed", len(s.Fake.Calls())-calls)
		}
		for i := range 3 { // each old one, and each new one
			s.set(i, denying)
			if _, err := s.acme.MoveTo(t.Context(), s.move(allAB, allAC)); !errors.Is(err, byok.ErrKeyDenied) {
				t.Errorf("while %d denies: %v", i, err)
			}
			s.set(i, up)
			time.Sleep(time.Minute)
		}
		if stored() != before {
			t.Error("something changed")
		}
		// From dual control to less, with a waiver that nobody has acknowledged.
		s.opts.Waiver = new(byok.DefaultWaiver())
		s.opts.Waiver.Version = "2"
		newer := s.process()
		if _, err := newer.Tenant("acme").MoveTo(t.Context(), s.move(allAB, anyAB)); !errors.Is(err, byok.ErrWaiverRequired) {
			t.Errorf("without the waiver: %v", err)
		}
		if _, err := newer.Tenant("acme").MoveTo(t.Context(), s.move(allAB, allAC)); err != nil { // which weakens nothing
			t.Errorf("as many: %v", err)
		}
		for j, err := range s.acme.Jobs(t.Context()) {
			if want(t, "Jobs", err, nil); !j.State.Ended() {
				_, err = s.acme.CancelJob(t.Context(), j.ID, "")
				want(t, "CancelJob", err, nil)
				finish(t, s.acme, j.ID)
			}
		}
		s.underSet(allAB)
		time.Sleep(2 * time.Second)
		job, err := s.acme.MoveTo(t.Context(), s.move(allAB, anyAB))
		want(t, "MoveTo", err, nil)
		calls = len(s.Fake.Calls())
		for range 3 {
			for j, err := range k.Tenant("acme").RunJob(t.Context(), job.ID) {
				if !errors.Is(err, byok.ErrArgument) || j.State != byok.JobRunning {
					t.Errorf("%+v, %v", j, err)
				}
			}
		}
		if n := len(s.Fake.Calls()) - calls; n != 0 {
			t.Errorf("%d requests by who may not", n)
		}
		if j := finish(t, s.acme, job.ID); j.State != byok.JobDone {
			t.Errorf("%+v", j)
		}
		all.open(t, k)
		told := 0
		for _, e := range s.Audit.All() {
			if e.Op == byok.OpMove && e.Outcome == byok.OutcomeSuccess && strings.Contains(e.Reason, "fewer of them have to consent") &&
				strings.Contains(e.Reason, "all of "+id(0).ID+" "+id(1).ID+" to any of") {
				told++
			}
		}
		if told != 2 { // when it began, and when it switched
			t.Errorf("%d events say that fewer have to consent", told)
		}
		matchCalls(t, s.Env, s.Audit.All())
	})(t)
}
