package byok

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Move brings all data keys of the tenant under another CMK, and makes that one the tenant's key:
// another account, Region or provider of the same Keyring. Nothing that was sealed is touched. It returns a job, which any
// process that Runs works at, and [Tenant.RunJob] does here.
//
// First both CMKs must work: one data key is unwrapped under the old one, and the new one is validated by use as in
// Register. If either denies, nothing changes. Then every data key is wrapped under the new
// CMK too and that wrapping is proved by use, while the old one goes on serving: Seal, Open and Rotate do not notice. When no
// data key is left, one compare-and-set of the tenant's state makes the new CMK the tenant's key,
// and leases under the old one end, here at once, elsewhere as after a Register. At last the old wrappings are taken out.
// A denial of either CMK, or an outage, pauses the job and never fails it. Until the switch it can be cancelled.
//
// A tenant that has removed its key can be moved too: with the switch the new one is registered in its place. A Revoke
// while a move is under way ends it. If a move to the same CMK is under way, its job is returned.
//
// A tenant without a key is moved between CMKs of Options.PlatformKeys, and to its own by Register only.
//
// Envelopes that carry a data key which the Store does not know (Options.PerOperation, Direct) are under the CMK under
// which they were sealed, and a Keeper opens them only while that one is the tenant's key: give them to [Keeper.Rewrap] after the switch, as
// long as the old CMK lets us in.
//
// Errors are those of Register, and ErrNotRegistered, ErrSuspended, ErrJobRunning, and ErrArgument for the key that the tenant has, or for a tenant
// with several keys. ErrNotAudited comes beside the job. Makes 8 KMS requests; the job makes 2 for each data key
// with ReEncrypt and 3 without, and 2 before it switches.
func (t *Tenant) Move(ctx context.Context, to KeyID, reason string) (Job, error) {
	if err := checkText("the reason", reason, maxText); err != nil {
		return Job{}, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return Job{}, err
	}
	defer done()
	event := t.k.stamp(Event{Op: OpMove, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Reason: reason, Scope: Scope{Tenant: t.id}, Key: to})
	job, begun, err := c.move(ctx, to, nil, &event)
	if errors.Is(err, ErrKeyID) {
		event.Key = KeyID{} // it may be anything
	}
	if !begun {
		if _, err = t.k.conclude(ctx, event, err); err != nil {
			return Job{}, err
		}
	}
	t.k.jobs.nudge()
	return job, err
}

// move begins a move, which registers own if that is not nil. begun: its event is in the outbox, or delivered.
func (t *tenantCache) move(ctx context.Context, to KeyID, own *ownKey, event *Event) (job Job, begun bool, err error) {
	if err := t.k.checkKeys(&state{Key: to}); err != nil {
		return Job{}, false, err
	}
	s, err := t.readState(ctx)
	if err == nil {
		err = t.mayMove(s, to, own)
	}
	if err == errUnchanged {
		job, err = t.sameJob(ctx, s)
		return job, false, err
	}
	if err != nil {
		return Job{}, false, err
	}
	if err := t.proveSource(ctx, s, event); err != nil {
		return Job{}, false, err
	}
	held, binding, err := t.validateTarget(ctx, to, event)
	if err != nil {
		return Job{}, false, err
	}
	from := s.Key
	s, err = t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		if err := t.mayMove(s, to, own); err != nil {
			return change{}, err
		}
		if s.Key != from {
			return change{}, errReplaced
		}
		writes, err := t.takeTarget(ctx, to, held)
		if err != nil {
			return change{}, err
		}
		s.Job = &activeJob{ID: event.ID, Type: JobMove, From: from, To: to, Own: own, Binding: binding, Revoked: s.Lifecycle == lifecycleRevoked}
		j := &jobItem{V: layoutVersion, id: event.ID, Type: JobMove, State: JobRunning, From: from, To: to,
			Actor: event.Actor, Reason: event.Reason, StartedAt: event.Time, Total: int64(s.DataKeys)}
		job = j.job(s)
		on, err := t.listJob(ctx, j.id)
		return change{quiet: true, events: []Event{*event}, writes: append(writes, on, t.jobWrite(j))}, err
	})
	if err == errUnchanged { // another process began the same one meanwhile
		if s, err = t.readState(ctx); err == nil {
			job, err = t.sameJob(ctx, s)
		}
		return job, false, err
	}
	if s != nil && held != nil && held.tenant != "" && held.tenant != t.tenant {
		_ = t.k.cache(held.tenant).flush(ctx) // or later: it is in its outbox
	}
	return job, s != nil, err
}

// mayMove returns why s permits no move to a CMK, and errUnchanged if that one is under way.
func (t *tenantCache) mayMove(s *state, to KeyID, own *ownKey) error {
	if err := t.k.mayHave(s, to, own); err != nil {
		return err
	}
	switch a := s.Job; {
	case s.Lifecycle == lifecycleNone:
		return ErrNotRegistered
	case s.Suspended:
		return ErrSuspended
	case s.Policy != "":
		return fmt.Errorf("%w: a tenant with several keys cannot be moved", ErrArgument)
	case a != nil && a.unswitched() && a.To == to && a.From == s.Key:
		return errUnchanged
	case a != nil:
		return ErrJobRunning
	case to == s.Key:
		return fmt.Errorf("%w: this is the tenant's key already", ErrArgument)
	}
	return t.k.fleet.refusal()
}

// sameJob returns the job that s names.
func (t *tenantCache) sameJob(ctx context.Context, s *state) (Job, error) {
	if s.Job == nil {
		return Job{}, fmt.Errorf("%w: the job ended meanwhile", ErrStore)
	}
	j, err := t.readJob(ctx, s.Job.ID)
	if err != nil {
		return Job{}, err
	}
	return j.job(s), nil
}

// proveSource unwraps one of the tenant's data keys under its CMK: without it, none of them can be
// moved. A tenant that has none has nothing to lose.
func (t *tenantCache) proveSource(ctx context.Context, s *state, event *Event) error {
	for after := ""; ; {
		page, err := t.pieces(ctx, s.keys(), after, jobBatch)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, p := range page {
			wrapped := p.w.by(s.Key)
			if after = p.item.ID; p.damaged || wrapped == nil {
				continue
			}
			c, err := t.ask(s.Key, &t.budget.control)
			if err != nil {
				return err
			}
			ec := t.context(p.key.Purpose, p.id)
			r, err := c.unwrap(ctx, wrapped, ec)
			if err == nil && !c.access.overtaken(c.last) {
				err = c.restore(ctx, wrapped, r.dek, ec)
			}
			r.dek.Wipe()
			event.Calls = append(event.Calls, c.calls...)
			if errors.Is(err, ErrOpen) {
				err = fmt.Errorf("%w: a data key is damaged", ErrStore)
			}
			return err
		}
	}
}

// errLeftBehind: a data key was made since the pass, which is not under the new CMK yet.
var errLeftBehind = &givenUp{reason: "a data key was made meanwhile"}

// switchKey makes the new CMK the tenant's key, if every data key is under it.
func (t *tenantCache) switchKey(ctx context.Context, s *state, j *jobItem) error {
	if j.Failed > 0 {
		err := fmt.Errorf("%w: %d data keys are damaged, and cannot be moved", ErrStore, j.Failed)
		j.Cursor = "" // they may have been repaired when the job goes on
		return t.pauseJob(ctx, s, j, nil, err)
	}
	if s.Job.Own != nil && !s.Ack.of(&t.k.waiver, t.k.waiverHash) { // it would be registered, and stop working
		return t.pauseJob(ctx, s, j, nil, ErrWaiverRequired)
	}
	event := t.k.stamp(Event{Op: OpMove, Outcome: OutcomeSuccess, Actor: j.Actor, Scope: Scope{Tenant: t.tenant}, Key: j.To,
		Reason: j.id + " switched from " + j.From.ID})
	// Once more, now: a CMK that has been taken away since shall not become the tenant's.
	c := &caller{k: t.k, tenant: t.tenant, key: j.To, pool: &t.budget.control}
	r, err := c.roundTrip(ctx, t.context("default", newDataKeyID()))
	r.dek.Wipe()
	event.Calls, event.Proof = c.calls, r.RequestID
	if err != nil {
		_, err = t.k.conclude(ctx, event, err)
		return t.pauseJob(ctx, s, j, nil, err)
	}
	now, err := t.change(ctx, false, func(ctx context.Context, s *state) (change, error) { return t.switched(ctx, s, j, event) })
	switch {
	case now != nil: // ErrNotAudited: it took effect, and its event will come
		t.mu.Lock()
		if a := t.accessOf(j.To); a != nil && a.seen == AccessUnknown {
			a.sees(AccessAccessible, nil)
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
	if a.Switched || a.From != s.Key || a.To != j.To {
		return change{}, ErrConflict
	}
	if err := t.permits(ctx, s); err != nil {
		return change{}, err
	}
	if err := t.leftBehind(ctx, s, j); err != nil {
		return change{}, err
	}
	mine, err := t.k.readClaim(ctx, a.To)
	if err != nil {
		return change{}, err
	}
	writes, err := t.k.freeClaim(ctx, a.From, t.tenant)
	if err != nil {
		return change{}, err
	}
	if !mine.platform { // whose claim stands for good
		// Written as it is: if somebody takes the claim before this does, this does not.
		writes = append(writes, encodeItem(mine.ref, mine.revision, claim{V: layoutVersion, Tenant: t.tenant, Key: a.To}))
	}
	s.Former = slices.DeleteFunc(append(slices.Clone(s.Former), a.From), func(k KeyID) bool { return k == a.To })
	s.Former = s.Former[max(0, len(s.Former)-maxFormer):]
	s.Key, s.Binding, s.Alias = a.To, a.Binding, "" // an alias is the old CMK's
	s.LastValidatedAt, s.MaterialID, s.MaterialAt = event.Time, "", time.Time{}
	now := *j
	var warnings []Warning
	if a.Own != nil {
		now.PreviousVersion = s.Generation
		warnings = s.own(a.Own, event.Time)
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
const maxFormer = 8

// leftBehind returns errLeftBehind if a data key is not under the new CMK.
func (t *tenantCache) leftBehind(ctx context.Context, s *state, j *jobItem) error {
	for after := ""; ; {
		page, err := t.pieces(ctx, s.keys(), after, MaxListLimit)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, p := range page {
			if after = p.item.ID; p.damaged || !p.ready(s, j) {
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
	to := []KeyID{s.Job.To}
	var writes []Item
	for _, p := range batch {
		if p.damaged || p.key.Next == nil {
			continue
		}
		if p.next.opens(to) && p.key.Job == j.id {
			p.key.Header = p.key.Next
		}
		p.key.Next = nil // or it was of a move that was cancelled
		writes = append(writes, encodeItem(p.item.Ref, p.item.Revision, p.key))
	}
	j.Cursor = batch[len(batch)-1].item.ID
	j.LeaseUntil = t.k.clock.Now().Wall.UTC().Add(jobLease)
	return t.writeJob(ctx, j, writes...)
}
