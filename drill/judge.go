package drill

import (
	"fmt"
	"slices"
	"time"
)

// What belongs to a recovery beside the KMS's answers.
const (
	backoffFirst = time.Second      // between questions to a KMS that denies: doubled each time,
	backoffLast  = 30 * time.Second // up to this; see docs/design.md
	allowance    = time.Second      // for the pause between canaries
	busy         = 3                // times a slow refusal, which asks no KMS: what recovers reads and writes the Store and the sink so much more
)

// measured is what a drill saw: marks and samples. Everything else is computed.
type measured struct {
	Report             // its times and settings
	samples [][]Sample // of each worker, in the order in which they came
	lags    []time.Duration
	aborted string // why the drill did not come to its end; "" if it did
	hangs   string // a worker that did not end, after all was measured
}

// judge fills in the Report. All that it decides is decided here.
//
// A time span counts what was both issued after its beginning and completed
// before its end: an operation that was under way at either end could lawfully
// go either way.
func (m *measured) judge() *Report {
	r := &m.Report
	r.Verdict, r.Findings = Pass, []string{}
	fail := func(format string, args ...any) {
		r.Verdict = Fail
		r.Findings = append(r.Findings, fmt.Sprintf(format, args...))
	}
	unclear := func(format string, args ...any) {
		if r.Verdict == Pass {
			r.Verdict = Inconclusive
		}
		r.Findings = append(r.Findings, fmt.Sprintf(format, args...))
	}
	if m.aborted != "" {
		unclear("the drill was broken off: %s", m.aborted)
	}
	if m.hangs != "" {
		unclear("%s", m.hangs)
	}
	m.kms()
	for n, samples := range m.samples {
		w := m.worker(n+1, samples)
		r.Workers = append(r.Workers, w)
		r.AfterDenial.add(w.AfterDenial)
		r.AfterBound.add(w.AfterBound)
		r.FirstDenial = least(r.FirstDenial, w.FirstDenial)
		r.LastFirstDenial = most(r.LastFirstDenial, w.FirstDenial)
		r.LastSuccess = most(r.LastSuccess, w.LastSuccess)
		m.judgeWorker(w, fail, unclear)
	}
	r.Recovery = r.slowest()
	if s := time.Duration(r.ClockStrayed); s > tolerance || s < -tolerance {
		unclear("the wall clock moved by %v against the monotonic clock: it was set, or the machine was suspended", r.ClockStrayed)
	}
	for n, lag := range m.lags {
		if lag > tolerance || lag < -tolerance {
			unclear("worker %d's clock and this process's are %v apart", n+1, Millis(lag))
		}
	}
	return r
}

// kms finds out how long the KMS itself needed until all of it knew of the stop.
// What it permits meanwhile is a lawful proof: the bound counts from the issue of
// the last request that it permitted, and the time until then is shown beside it.
func (m *measured) kms() {
	r := &m.Report
	for _, samples := range m.samples {
		for _, s := range samples {
			switch {
			case s.Op != "kms" || r.Stop.IsZero() || s.Completed.Before(r.StopAsked) || !m.blocked(s.Completed):
			case m.permitted(s):
				r.KMSPermitted = most(r.KMSPermitted, m.since(s.Issued))
			case s.Result == Denied:
				r.KMSDenied = least(r.KMSDenied, m.since(s.Completed))
			}
		}
	}
	if r.KMSPermitted != nil {
		r.Propagation = *r.KMSPermitted
	}
	r.Bound = r.Propagation + r.MaxAge
}

// permitted reports whether s is a request that the KMS permitted after the stop,
// and before access was given back.
func (m *measured) permitted(s Sample) bool {
	return s.Op == "kms" && s.Result == Served && !m.Stop.IsZero() && s.Issued.After(m.Stop) && m.blocked(s.Completed)
}

func (m *measured) since(t time.Time) *Millis { d := Millis(t.Sub(m.Stop)); return &d }

// blocked reports whether something that was completed at t was so before access
// was given back.
func (m *measured) blocked(t time.Time) bool {
	return m.RestoreAsked.IsZero() || t.Before(m.RestoreAsked)
}

// worker measures one worker.
func (m *measured) worker(n int, samples []Sample) Worked {
	w := Worked{Worker: n}
	var permitted time.Time // when the KMS last permitted this worker something, after Stop
	for _, s := range samples {
		if m.permitted(s) && s.Completed.After(permitted) {
			permitted = s.Completed
		}
	}
	var denied time.Time // the first denial that nothing has overruled since
	for _, s := range samples {
		switch {
		case s.Result == Wrong:
			w.Wrong++
		case s.Op == "kms" && s.Result == Denied:
			w.KMSDenials++
		case s.Op != "kms" && s.Result == Failed:
			w.Failed++
		case s.Op != "kms" && s.Result == Served && (m.StopAsked.IsZero() || s.Completed.Before(m.StopAsked)):
			w.Served++
		}
		if s.Op == "kms" || m.Stop.IsZero() || !m.blocked(s.Completed) {
			continue
		}
		if s.Result == Denied && !s.Issued.Before(permitted) && (denied.IsZero() || s.Completed.Before(denied)) {
			denied = s.Completed
		}
		if s.Result == Denied {
			w.FirstDenial = least(w.FirstDenial, m.since(s.Completed))
		}
		if succeeded(s) && s.Issued.After(m.Stop) {
			w.LastSuccess = most(w.LastSuccess, m.since(s.Issued))
		}
	}
	for _, s := range samples {
		if s.Op == "kms" || m.Stop.IsZero() || !m.blocked(s.Completed) {
			continue
		}
		if !denied.IsZero() && s.Issued.After(denied) {
			w.AfterDenial.count(s)
		}
		if !s.Issued.Before(m.Stop.Add(time.Duration(m.Bound))) {
			w.AfterBound.count(s)
		}
	}
	m.recovery(&w, samples)
	return w
}

// succeeded: a canary that opened to something else came out all the same.
func succeeded(s Sample) bool { return s.Result == Served || s.Result == Wrong }

// recovery measures how long a worker took to seal and to open again, and how
// long it may have taken.
func (m *measured) recovery(w *Worked, samples []Sample) {
	if m.Restore.IsZero() {
		return
	}
	again := map[string]time.Time{}
	denials, last, refusals := 0, time.Time{}, []time.Duration{0}
	for _, s := range samples {
		switch {
		case s.Op != "kms" && s.Result == Denied:
			refusals = append(refusals, s.Completed.Sub(s.Issued))
		case s.Op == "kms" && s.Result == Denied:
			denials++
			last = s.Completed
		case s.Op != "kms" && s.Result == Served && !s.Completed.Before(m.RestoreAsked):
			if t, ok := again[s.Op]; !ok || s.Completed.Before(t) {
				again[s.Op] = s.Completed
			}
		}
	}
	end := m.Ended
	if len(again) == 2 {
		end = again["seal"]
		if o := again["open"]; o.After(end) {
			end = o
		}
		d := Millis(max(0, end.Sub(m.Restore)))
		w.Recovery = &d
	}
	limit := backoffLast // of a worker that tells nothing of its KMS
	if denials > 0 {
		limit = max(0, last.Add(backoff(denials)).Sub(m.Restore))
	}
	for _, s := range samples { // "plus one call": one of each operation that was denied
		if s.Op == "kms" && s.Completed.After(m.Restore) && s.Issued.Before(end) {
			limit += s.Completed.Sub(s.Issued)
		}
	}
	slices.Sort(refusals)
	slow := refusals[len(refusals)*9/10] // some refusals did ask the KMS, one per back-off step
	w.RecoveryLimit = Millis(limit + allowance + busy*slow)
}

// backoff is the longest pause after the nth denial in a row. Denials that came
// together are one step of it; counting each makes it longer, never shorter.
func backoff(n int) time.Duration {
	d := backoffFirst
	for ; n > 1 && d < backoffLast; n-- {
		d *= 2
	}
	return min(d, backoffLast)
}

func (m *measured) judgeWorker(w Worked, fail, unclear func(string, ...any)) {
	if w.Wrong > 0 {
		fail("worker %d: %d canaries opened to something else than had been sealed", w.Worker, w.Wrong)
	}
	if m.Stop.IsZero() {
		return
	}
	if n := w.AfterDenial.Succeeded; n > 0 {
		fail("worker %d: %d operations succeeded after its first denial", w.Worker, n)
	}
	if n := w.AfterBound.Succeeded; n > 0 {
		fail("worker %d: %d operations succeeded that were begun after the bound", w.Worker, n)
	}
	if m.aborted != "" {
		return
	}
	switch {
	case w.FirstDenial == nil && m.ByHand && m.Propagation > 0:
		unclear("worker %d never saw a denial, and the KMS went on permitting: was access to this key taken away?", w.Worker)
	case w.FirstDenial == nil:
		fail("worker %d never saw a denial", w.Worker)
	case w.AfterBound.Tried == 0:
		unclear("worker %d tried nothing after the bound", w.Worker)
	}
	switch {
	case w.Recovery == nil:
		fail("worker %d did not recover within %v of access being given back", w.Worker, Millis(m.Ended.Sub(m.Restore)))
	case *w.Recovery > w.RecoveryLimit:
		fail("worker %d recovered after %v; back-off plus one call end after %v", w.Worker, *w.Recovery, w.RecoveryLimit)
	}
}

// slowest is the slowest worker's recovery, if all recovered.
func (r *Report) slowest() (d *Millis) {
	for _, w := range r.Workers {
		if w.Recovery == nil {
			return nil
		}
		d = most(d, w.Recovery)
	}
	return d
}

func (c *Count) count(s Sample) {
	c.Tried++
	if succeeded(s) {
		c.Succeeded++
	}
}

func (c *Count) add(o Count) { c.Tried += o.Tried; c.Succeeded += o.Succeeded }

// least and most take nil for "none".
func least(a, b *Millis) *Millis {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

func most(a, b *Millis) *Millis {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}
