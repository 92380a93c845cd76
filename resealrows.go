package byok

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// rows is a Source.
type rows struct{ Source }

func (s rows) page(ctx context.Context, after, last string, limit int) ([]Record, []RecordFailure, error) {
	return readPage(after, limit, func(after string) ([]Record, error) { return s.Records(ctx, after, last, limit) }, func(r *Record) string { return r.Key })
}

// resealed is what became of one record.
type resealed struct {
	sealed  []byte
	fail    *RecordFailure
	grants  [2]grant // of opening and sealing
	err     error    // why the step ends here
	skipped bool     // it was not due
	later   bool     // it was not begun: the step has done enough
	carried bool     // the Store does not know its data key
}

// look implements recordSource.
func (s rows) look(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, c *resealCursor, last string) (more bool, err error) {
	page, odd, err := s.page(ctx, c.After, last, min(r.opts.Page, r.opts.PerSecond))
	if err != nil || len(page) == 0 {
		r.passBy(c, odd)
		return false, err
	}
	results, due := make([]resealed, len(page)), make([]int, 0, len(page))
	for i := range page {
		is := page[i].Clear
		if !is {
			h, herr := Inspect(page[i].Value)
			var g uint64
			if is, g, err = r.due(ctx, t, j, page[i].Purpose, h, herr); err != nil {
				return true, err
			}
			results[i].carried = g == 0
		}
		if results[i].skipped = !is; is {
			due = append(due, i)
		}
	}
	if err := r.pay(ctx, t.k.clock.Now().Mono, len(due)); err != nil {
		return true, err
	}
	t.resealAll(ctx, j, page, results, due)
	n := 0 // up to the first that could not be done now
	for n < len(results) && results[n].err == nil && !results[n].later {
		n++
	}
	var stopped error
	if n < len(results) {
		stopped = results[n].err
	}
	if err := s.replace(ctx, r, t, j, c, page[:n], results, stopped); err != nil {
		return true, err
	}
	if n == len(page) {
		r.passBy(c, odd)
	}
	return true, stopped
}

// replace lets the Source replace what was sealed anew of page, and counts it. all are the results of these, and of those behind
// them at which the step ended with stopped.
func (s rows) replace(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, c *resealCursor, page []Record, all []resealed, stopped error) error {
	n := len(page)
	results := all[:n]
	var records []Record
	var sealed [][]byte
	var failures []RecordFailure
	for i := range results {
		if f := results[i].fail; f != nil {
			failures = append(failures, *f)
		} else if !results[i].skipped {
			records, sealed = append(records, page[i]), append(sealed, results[i].sealed)
		}
	}
	if len(records)+len(failures) > 0 || stopped != nil {
		if err := t.releaseResealed(ctx, j, c.Shard, all, n, len(records), len(failures), stopped); err != nil {
			return err
		}
	}
	var put replaced
	if len(records) > 0 {
		if err := put.by(ctx, s, records, sealed); err != nil {
			return err
		}
	}
	for _, f := range append(failures, put.refused...) {
		r.failed(c, f)
	}
	c.Sealed, c.Changed = c.Sealed+put.done, c.Changed+put.changed
	if c.Looked += int64(len(page)); len(page) > 0 {
		c.After = page[len(page)-1].Key
	}
	return nil
}

// replaced is what a Source made of records.
type replaced struct {
	done, changed int64
	refused       []RecordFailure
}

// by lets the Source replace records: all at once, or, if it refuses one of them, in halves until it is known which.
func (p *replaced) by(ctx context.Context, s rows, records []Record, sealed [][]byte) error {
	done, err := s.Replace(ctx, records, sealed)
	switch {
	case errors.Is(err, ErrRecordRefused) && len(records) == 1:
		f, _ := bad(records[0].Key, err, true)
		p.refused = append(p.refused, f)
		return nil
	case errors.Is(err, ErrRecordRefused):
		half := len(records) / 2
		if err = p.by(ctx, s, records[:half], sealed[:half]); err == nil {
			err = p.by(ctx, s, records[half:], sealed[half:])
		}
		return err
	case err != nil:
		return err
	case len(done) != len(records):
		return fmt.Errorf("%w: the source told of %d records, and was given %d", ErrArgument, len(done), len(records))
	}
	for _, d := range done {
		if d {
			p.done++
		} else {
			p.changed++
		}
	}
	return nil
}

// How much of a page a step does. What it opened first must still have its lease when it has sealed the last, or nothing of it may
// leave, that time and each time after; and its requests to KMS stand in one event, which sinks do not take in any size.
const (
	stepOfMaxAge = 4   // a part of MaxAge
	stepRequests = 500 // and those that are under way
)

// resealAll opens and seals anew what is due, until that is enough or something stops it. A few at once, since each may need KMS.
func (t *tenantCache) resealAll(ctx context.Context, j *jobItem, page []Record, results []resealed, due []int) {
	next := make(chan int)
	var wg sync.WaitGroup
	var requests atomic.Int64
	var stopped atomic.Bool
	for range min(jobParallel, (len(due)+15)/16) {
		wg.Go(func() {
			for i := range next {
				out := &results[i]
				t.resealOne(ctx, j, &page[i], out)
				if out.err != nil || requests.Add(int64(len(out.grants[0].calls)+len(out.grants[1].calls))) >= stepRequests {
					stopped.Store(true)
				}
			}
		})
	}
	begun := t.k.clock.Now().Mono
	for n, i := range due {
		if results[i].later = n > 0 && (stopped.Load() || t.k.clock.Now().Mono-begun > t.k.maxAge/stepOfMaxAge); results[i].later {
			stopped.Store(true) // what comes after it has to wait as well
			continue
		}
		next <- i
	}
	close(next)
	wg.Wait()
}

func (t *tenantCache) resealOne(ctx context.Context, j *jobItem, rec *Record, out *resealed) {
	s := Scope{t.tenant, rec.Purpose}
	plain := rec.Value
	if !rec.Clear {
		if len(plain) == 0 {
			out.give(rec.Key, errNoValue, false)
			return
		}
		var err error
		plain, out.grants[0], err = t.k.quietly(ctx, s, rec.Value, rec.AAD, false, out.carried)
		defer clear(plain)
		if out.give(rec.Key, err, false) {
			return
		}
	} else if !j.Reseal.Adopt {
		out.give(rec.Key, errInClear, false)
		return
	}
	var err error
	out.sealed, out.grants[1], err = t.k.quietly(ctx, s, plain, rec.AAD, true, false)
	out.give(rec.Key, err, true)
}

// give makes err the record's failure, or what the step ends with. It reports whether there is one.
func (out *resealed) give(key string, err error, sealing bool) bool {
	if err == nil {
		return false
	}
	if f, ok := bad(key, err, sealing); ok {
		out.fail = &f
	} else {
		out.err = err
	}
	return true
}

// quietly is Seal or Open for a job: without an event of its own, and so without the last question. Nothing of it may leave before both. once: a data key that
// the envelope carries is for it alone.
func (k *Keeper) quietly(ctx context.Context, s Scope, in, aad []byte, seals, once bool) ([]byte, grant, error) {
	o, err := k.begin(s, nil, in, aad)
	if err != nil {
		return nil, grant{}, err
	}
	defer o.end()
	o.seals, o.once = seals, once
	if !seals {
		if _, err = o.parse(); err != nil {
			return nil, grant{}, err
		}
	}
	o.g, err = o.t.use(ctx, o)
	if err != nil {
		clear(o.out)
		if !seals {
			err = opaque(err)
		}
		return nil, o.g, err
	}
	return o.out, o.g, nil
}

// releaseResealed records what a step did, and asks for the last time whether it may leave. Its error is why not. Only the first n of results are
// to leave, but KMS was asked for all.
func (t *tenantCache) releaseResealed(ctx context.Context, j *jobItem, shard int, results []resealed, n, sealed, failed int, stopped error) error {
	e := Event{Op: OpReseal, Scope: Scope{Tenant: t.tenant}, Actor: j.Actor,
		Reason: fmt.Sprintf("%s %s, shard %d: %d records", JobReseal, j.id, shard, sealed)}
	if failed > 0 {
		e.Reason += fmt.Sprintf(", %d failed", failed)
	}
	leaving := map[*entry]grant{}
	for i := range results {
		out := &results[i]
		for _, g := range out.grants {
			e.Calls = append(e.Calls, g.calls...)
			if g.e != nil && out.sealed != nil && i < n {
				leaving[g.e] = g
			}
		}
		if g := out.grants[1]; out.sealed != nil && i < n {
			e.Key, e.DataKey, e.Version, e.Proof = g.under.key, g.e.id.dataKey, g.e.generation, g.under.request
		}
	}
	switch {
	case sealed > 0:
	case stopped != nil:
		_, _ = t.k.conclude(ctx, e, stopped)
		return nil
	default:
		e.Outcome, e.Code = OutcomeFailure, Code(ErrOpen)
	}
	e, err := t.k.conclude(ctx, e, nil)
	if err != nil {
		return err
	}
	for _, g := range leaving {
		if err = t.still(ctx, g); err != nil {
			t.k.report(ctx, t.k.withheld(e, err))
			return err
		}
	}
	return nil
}

// census implements recordSource.
func (s rows) census(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, after, last string, count func(censusRecord)) (string, bool, error) {
	page, odd, err := s.page(ctx, after, last, r.opts.Page)
	if err != nil {
		return after, false, err
	}
	for range odd {
		count(censusRecord{malformed: true})
	}
	if len(page) == 0 {
		return after, false, nil
	}
	for i := range page {
		rec := censusRecord{clear: page[i].Clear}
		if !rec.clear {
			h, herr := Inspect(page[i].Value)
			if rec, err = r.censusOf(ctx, t, j, page[i].Purpose, h, herr); err != nil {
				return after, false, err
			}
		}
		count(rec)
	}
	return page[len(page)-1].Key, true, nil
}
