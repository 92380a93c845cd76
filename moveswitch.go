package byok

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// errLeftBehind: a data key was made since the pass, which is not under the new CMK yet.
var errLeftBehind = &givenUp{reason: "a data key was made meanwhile"}

// switchKey makes the new CMK the tenant's key, if every data key is under it.
func (t *tenantCache) switchKey(ctx context.Context, s *state, j *jobItem) error {
	if err := j.mayLeave(); err != nil {
		j.Cursor = "" // they may have been repaired when the job goes on
		return t.pauseJob(ctx, s, j, nil, err)
	}
	if s.Job.Own != nil && !s.Ack.of(&t.k.waiver, t.k.waiverHash) { // it would be registered, and stop working
		return t.pauseJob(ctx, s, j, nil, ErrWaiverRequired)
	}
	event := t.k.stamp(Event{Op: OpMove, Outcome: OutcomeSuccess, Actor: j.Actor, Scope: Scope{Tenant: t.tenant}, Key: j.To.Key,
		Reason: explain(j.id+" switched from "+j.From.Key.ID, moving(j.From, j.To, s.Job.Fewer))})
	if j.Failed > 0 {
		event.Reason += fmt.Sprintf("; %d damaged data keys are left behind", j.Failed)
	}
	// Once more, now: a CMK that has been taken away since shall not become the tenant's.
	for _, key := range j.To.keys() {
		c := &caller{k: t.k, tenant: t.tenant, key: key, access: t.held(key), jobs: t.background()}
		r, err := c.roundTrip(ctx, t.context("default", newDataKeyID()))
		r.dek.Wipe()
		event.Calls, event.Proof = append(event.Calls, c.calls...), r.RequestID
		if err != nil {
			_, err = t.k.conclude(ctx, event, err)
			return t.pauseJob(ctx, s, j, nil, err)
		}
	}
	now, err := t.change(ctx, false, func(ctx context.Context, s *state) (change, error) { return t.switched(ctx, s, j, event) })
	switch {
	case now != nil: // ErrNotAudited: it took effect, and its event will come
		t.mu.Lock()
		for _, key := range j.To.keys() {
			if a := t.accessOf(key); a != nil && a.seen == AccessUnknown {
				a.sees(AccessAccessible, nil)
			}
		}
		t.mu.Unlock()
		return nil
	case err == error(errLeftBehind):
		_, _ = t.k.conclude(ctx, event, err) // for its KMS calls
		j.Cursor = ""
		return t.writeJob(ctx, j)
	}
	_, cerr := t.k.conclude(ctx, event, err)
	if errors.Is(err, ErrConflict) {
		return ErrConflict
	}
	return t.pauseJob(ctx, s, j, nil, cerr)
}

// switched is the change that switches. That no data key is left behind is looked at with the state that the
// write replaces: whoever makes a data key writes that state too, so one of both begins anew.
func (t *tenantCache) switched(ctx context.Context, s *state, j *jobItem, event Event) (change, error) {
	if err := t.fenced(ctx, s, j); err != nil {
		return change{}, err
	}
	a := *s.Job
	if a.Switched || !a.From.same(s.keySet) || !a.To.same(j.To) {
		return change{}, ErrConflict
	}
	if err := t.permits(ctx, s); err != nil {
		return change{}, err
	}
	if err := t.leftBehind(ctx, s, j); err != nil {
		return change{}, err
	}
	writes, err := t.switchClaims(ctx, a.From, a.To)
	if err != nil {
		return change{}, err
	}
	for _, key := range a.From.keys() { // again at the end, if it was there
		s.Former = append(slices.DeleteFunc(slices.Clone(s.Former), func(k KeyID) bool { return k == key }), key)
	}
	s.Former = slices.DeleteFunc(s.Former, func(k KeyID) bool { return slices.Contains(a.To.keys(), k) })
	s.Former = s.Former[max(0, len(s.Former)-maxFormer):]
	if a.To.Key != s.Key { // these are about the old CMK
		s.Alias, s.MaterialID, s.MaterialAt = "", "", time.Time{}
	}
	s.keySet, s.Binding, s.LastValidatedAt = a.To, a.Binding, event.Time
	now := *j
	now.PreviousVersion = s.Generation
	var warnings []Warning
	switch {
	case a.Own != nil:
		warnings = s.own(a.Own, event.Time)
	case (a.From.all() || a.To.all()) && s.DataKeys > 0: // what was moved says another policy than it has, or needs more than shares
		s.Generation++
	default:
		now.PreviousVersion = 0
	}
	if now.PreviousVersion != 0 {
		now.NewVersion = s.Generation
	}
	var activated []Event
	if s.Lifecycle == lifecycleRevoked || a.Own != nil {
		s.Lifecycle, s.RevokeReason = lifecyclePending, ""
		activated = t.activate(s, event)
	}
	a.Switched = true
	s.Job = &a
	event.Version = s.Generation
	now.State, now.Why, now.Cursor = JobSwitching, "", ""
	return change{events: append([]Event{event}, activated...), writes: append(writes, t.jobWrite(&now)), warnings: warnings}, nil
}

// maxFormer is how many CMKs that a tenant was moved from are remembered, the newest ones.
const maxFormer = 2 * maxKeys

// leftBehind returns errLeftBehind if a data key is not under the new CMK.
func (t *tenantCache) leftBehind(ctx context.Context, s *state, j *jobItem) error {
	for after := ""; ; {
		page, err := t.pieces(ctx, s.keys(), after, MaxListLimit)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, p := range page {
			if after = p.item.ID; (p.damaged || !p.ready(s, j)) && !slices.Contains(j.Unreadable, p.id) { // which may be, see mayLeave
				return errLeftBehind
			}
		}
	}
}

// stepClean takes old wrappings out of the next data keys, after the switch, or ends the job. It asks no KMS.
func (t *tenantCache) stepClean(ctx context.Context, s *state, j *jobItem) error {
	batch, err := t.pieces(ctx, s.keys(), j.Cursor, jobBatch)
	if err != nil {
		return err
	}
	if len(batch) == 0 {
		return t.finishJob(ctx, j)
	}
	var writes []Item
	for _, p := range batch {
		if p.damaged || p.key.Next == nil {
			continue
		}
		if s.Job.To.wraps(p.next) && p.key.Job == j.id {
			p.key.Header, p.key.Moved = p.key.Next, p.key.NextMoved
		}
		p.key.Next, p.key.NextMoved = nil, nil // or it was of a move that was cancelled
		writes = append(writes, encodeItem(p.item.Ref, p.item.Revision, p.key))
	}
	j.Cursor = batch[len(batch)-1].item.ID
	j.LeaseUntil = t.k.clock.Now().Wall.UTC().Add(jobLease)
	return t.writeJob(ctx, j, writes...)
}
