package byok

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"time"
)

// How jobs are worked at.
const (
	jobBatch    = 16               // data keys in one write; with the job's item they fit one Apply
	jobParallel = 8                // data keys of one job that KMS is asked about at once
	jobLease    = 30 * time.Second // how long a process that falls silent keeps others from its job
	jobPause    = time.Second      // before a job that was stopped is tried again; doubled each time
	jobPauseMax = time.Minute
)

// RunJob works at a job here and now, and tells how far it is after each few data keys. It ends when the
// job has ended, and with an error when something stops it: a denial of either CMK, an outage, the Store. The job is
// then paused, or is where it was, and RunJob or any [Keeper.Run] goes on with it. So it does after a break.
// While another process is at the job, RunJob tells what that one does, about once a second.
func (t *Tenant) RunJob(ctx context.Context, id string) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		for {
			job, err := t.stepJob(ctx, id)
			held := err == errJobHeld
			if held {
				err = nil
			}
			if !yield(job, err) || err != nil || job.State.Ended() {
				return
			}
			if held && !sleep(ctx, time.Second) {
				yield(job, storeError(ctx.Err()))
				return
			}
		}
	}
}

// stepJob is one step of RunJob. Between steps nothing is held, and Close need not wait for who iterates.
func (t *Tenant) stepJob(ctx context.Context, id string) (Job, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return Job{}, err
	}
	defer done()
	return c.stepJob(ctx, id)
}

// stepJob does as much of a job as goes into one write. Any number of processes may call it at once: what they
// write carries the revision of the job's item, so that all but one of them are refused as a whole, and no data
// key's item is ever replaced by what was made from an older one.
func (t *tenantCache) stepJob(ctx context.Context, id string) (Job, error) {
	j, err := t.readJob(ctx, id)
	if err != nil {
		return Job{}, err
	}
	s, err := t.readState(ctx)
	if err != nil {
		return Job{}, err
	}
	if j.State.Ended() {
		return j.job(s), t.tidy(ctx, j)
	}
	if j.Type == JobReseal {
		return j.job(s), fmt.Errorf("%w: a re-sealing needs the records: see Resealer", ErrArgument)
	}
	if !t.k.jobs.take(t.tenant) {
		return j.job(s), errJobHeld
	}
	defer t.k.jobs.give(t.tenant)
	a := s.Job
	if a == nil || a.ID != id {
		return t.abandonJob(ctx, j) // a Revoke, which waits for nobody
	}
	// The state says what is done. What the item says of it is for people, and must be the same.
	if a.Type != j.Type || !a.From.same(j.From) || !a.To.same(j.To) || j.Cursor != "" && !strings.HasPrefix(j.Cursor, prefixDataKey) {
		return j.job(s), fmt.Errorf("%w: a job does not fit its tenant's state", errDamaged)
	}
	if a.unswitched() && t.k.maySeal(a.To) != nil {
		return j.job(s), t.k.maySeal(a.To) // another Keeper of this Store may, and has begun it
	}
	if !a.Switched && !a.From.same(s.keySet) {
		return t.abandonJob(ctx, j) // another key was registered, and the data abandoned
	}
	if s.Platform && !t.k.platformKey(s.Key) {
		return j.job(s), errNotGiven // and no reason for those who may to pause
	}
	if err = t.holdJob(ctx, j); err == nil {
		err = t.goOn(ctx, s, j)
	}
	if errors.Is(err, ErrConflict) { // somebody else was faster: their step counts
		err = errJobHeld
	}
	if now, rerr := t.readState(ctx); rerr == nil {
		s = now
	}
	if now, rerr := t.readJob(ctx, id); rerr == nil {
		j = now
	}
	if err == nil && j.State == JobDone {
		err = t.unlistJob(ctx, id)
	}
	return j.job(s), err
}

// goOn does the step, for whoever holds the job. Its error is ErrConflict if somebody else was faster.
func (t *tenantCache) goOn(ctx context.Context, s *state, j *jobItem) error {
	if err := t.permits(ctx, s); err != nil {
		return t.pauseJob(ctx, s, j, nil, err)
	}
	if s.Job.Switched {
		return t.stepClean(ctx, s, j)
	}
	return t.stepWrap(ctx, s, j)
}

// holdJob makes this process the one that is at the job, for a while. It saves work: that two
// processes do no harm rests on revisions alone, and not on anybody's clock.
func (t *tenantCache) holdJob(ctx context.Context, j *jobItem) error {
	now, me := t.k.clock.Now().Wall.UTC(), t.k.ids.process()
	left := j.LeaseUntil.Sub(now)
	switch {
	case j.Owner == me && left > jobLease/2 && left <= jobLease:
		return nil
	case j.Owner != me && j.Owner != "" && left > 0 && left <= jobLease: // longer: a clock that was far ahead
		return errJobHeld
	}
	j.Owner, j.LeaseUntil = me, now.Add(jobLease)
	return t.writeJob(ctx, j)
}

// writeJob writes the job's item, and items beside it. Its error is ErrConflict if somebody else has
// written it, and may be ErrStore although all was written: then the next step begins with what there is.
func (t *tenantCache) writeJob(ctx context.Context, j *jobItem, beside ...Item) error {
	err := t.k.store.Apply(ctx, append(beside, t.jobWrite(j))...)
	if errors.Is(err, ErrConflict) {
		return ErrConflict
	}
	if err != nil {
		return storeError(err)
	}
	j.revision++
	return nil
}

// permits returns why the job may not go on now. Lifecycle and suspension hold for jobs as for
// data, but for a move of a key that had been removed when the move was begun.
func (t *tenantCache) permits(ctx context.Context, s *state) error {
	a := s.Job
	switch {
	case a.Switched: // no KMS is asked any more
	case s.Suspended:
		return ErrSuspended
	case s.Lifecycle == lifecycleRevoked && !a.Revoked, s.Lifecycle == lifecycleNone:
		return ErrKeyRemoved
	}
	if a.unswitched() {
		if err := t.k.mayHave(s, a.To, a.Own); err != nil {
			return err
		}
		// Never to another tenant's CMK, whatever the items say.
		for _, key := range a.To.keys() {
			if _, err := t.claimed(ctx, a.To, key); err != nil {
				return err
			}
		}
	}
	return t.k.fleet.refusal()
}

// pauseJob keeps what was done, and why it does not go on now. It returns that.
func (t *tenantCache) pauseJob(ctx context.Context, s *state, j *jobItem, done []Item, why error) error {
	first := j.State != JobPaused
	if j.State = JobPaused; s.Job.Switched {
		j.State = JobSwitching
	}
	now := t.k.clock.Now().Wall.UTC()
	n := min(max(j.Pauses, 0), 10) // whatever the item says
	d := min(jobPause<<n, jobPauseMax)
	if errors.Is(why, errUnreadable) {
		d = jobRepair
	}
	j.Why, j.NotBefore, j.Pauses = Code(why), now.Add(d/2+rand.N(d/2)), n+1
	j.Owner, j.LeaseUntil = "", time.Time{}
	// What was wrapped is kept although ctx may have ended: KMS was asked for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := t.writeJob(ctx, j, done...); err != nil {
		return err
	}
	if first {
		e := Event{Op: OpJob, Scope: Scope{Tenant: t.tenant}, Key: j.To.Key, Actor: j.Actor, Reason: j.Type + " " + j.id + " is paused"}
		e.fail(why)
		t.k.note(ctx, e)
	}
	return why
}

// abandonJob closes the item of a job that the tenant's state does not name any more, or that is about a key
// which is not the tenant's.
func (t *tenantCache) abandonJob(ctx context.Context, j *jobItem) (Job, error) {
	event := t.k.stamp(Event{Op: OpJob, Outcome: OutcomeSuccess, Scope: Scope{Tenant: t.tenant}, Key: j.To.Key,
		Reason: j.Type + " " + j.id + " ended: the key was removed, or replaced"})
	var out Job
	s, err := t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		now, err := t.readJob(ctx, j.id)
		if err != nil {
			return change{}, err
		}
		mine := s.Job != nil && s.Job.ID == j.id
		if now.State.Ended() || mine && (s.Job.Switched || s.Job.From.same(s.keySet)) {
			out = now.job(s)
			return change{}, errUnchanged
		}
		if other := s.Job; !mine && other != nil { // a newer job: the list names that one
			writes := []Item{t.closeJob(s, now, JobCancelled)}
			s.Job, out = other, now.job(s)
			return change{quiet: true, events: []Event{event}, writes: writes}, nil
		}
		writes, err := t.endJob(ctx, s, now, JobCancelled)
		out = now.job(s)
		return change{quiet: true, events: []Event{event}, writes: writes}, err
	})
	if s != nil || err == errUnchanged || errors.Is(err, ErrNotAudited) {
		err = nil
	}
	return out, err
}

// tidy takes a job that has ended off the list, if it is on it still. Before, it takes out the wrappings under CMKs that did
// not become the tenant's key, of moves that were cancelled: they are never used, but whoever holds such a CMK should not find them.
func (t *tenantCache) tidy(ctx context.Context, j *jobItem) error {
	on, _, err := t.k.readJobIndex(ctx, refJobIndex(t.tenant))
	if err == nil && on.Jobs[t.tenant] != j.id { // a newer job sees to what this one left
		return nil
	}
	for after := ""; err == nil && j.State == JobCancelled; {
		before, rerr := t.readState(ctx)
		if rerr != nil {
			return rerr
		}
		var page []*piece
		if page, err = t.pieces(ctx, before.keys(), after, jobBatch); err != nil || len(page) == 0 {
			break
		}
		// After the page: what is in it is of no job that is under way now.
		s, serr := t.readState(ctx)
		if serr != nil || s.Job != nil || !s.sameKeys(before) {
			return serr
		}
		var writes []Item
		for _, p := range page {
			if after = p.item.ID; !p.damaged && p.key.Next != nil {
				p.key.Next, p.key.NextMoved = nil, nil
				writes = append(writes, encodeItem(p.item.Ref, p.item.Revision, p.key))
			}
		}
		if len(writes) > 0 {
			err = t.k.store.Apply(ctx, writes...)
		}
	}
	switch {
	case errors.Is(err, ErrConflict): // a newer job has begun, or another process was faster
		return nil
	case err != nil:
		return storeError(err)
	}
	return t.unlistJob(ctx, j.id)
}
