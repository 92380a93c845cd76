package byok

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/byok-go/byok/internal/format"
)

// Move brings all data keys of the tenant under another CMK, and makes that one the tenant's key:
// another account, Region or provider of the same Keyring. Nothing that was sealed is touched. It returns a job, which any
// process that Runs works at, and [Tenant.RunJob] does here. It is MoveTo for one CMK.
func (t *Tenant) Move(ctx context.Context, to KeyID, reason string) (Job, error) {
	return t.MoveTo(ctx, Move{Key: to, Reason: reason})
}

// Move says where [Tenant.MoveTo] brings a tenant's data keys.
type Move struct {
	Key    KeyID
	Others []KeyID // further CMKs, and what for; as in Registration
	Policy Policy

	// FewerConsents is required where fewer CMKs than before have to consent afterwards before anything opens: from PolicyAll
	// to one CMK, to PolicyAny, or to PolicyAll with fewer. It ends the say of somebody whom the tenant may have promised one.
	FewerConsents bool

	Reason string // at most 1024 bytes, for the audit log
}

// MoveTo brings all data keys of the tenant under other CMKs: from one to another, to several that have a say together,
// from these to one or to others.
//
// First all of them must work: one data key is unwrapped under the old ones, and each new one is validated by use as in
// Register, also one that stays. If any denies, nothing changes. Then every data key is wrapped under the new
// CMKs too and that wrapping is proved by use, while the old one goes on serving: Seal, Open and Rotate do not notice. When no
// data key is left, one compare-and-set of the tenant's state makes the new CMKs the tenant's keys,
// and leases under the old ones end, here at once, elsewhere as after a Register. At last the old wrappings are taken out.
// A denial by any CMK, old or new, pauses the job and never fails it. So does an outage, but for one of an old CMK of PolicyAny
// while another one opens. Until the switch it can be cancelled.
//
// To or from PolicyAll a new generation of data keys begins with the switch, since envelopes say the policy of their data key. What was sealed
// before opens as before, with the consent of the new keys.
//
// A tenant that has removed its keys can be moved too: with the switch the new ones are registered in their place. A Revoke
// while a move is under way ends it. If a move to the same CMKs is under way, its job is returned.
//
// A tenant without a key is moved between CMKs of Options.PlatformKeys, and to its own by Register only.
//
// Envelopes that carry a data key which the Store does not know (Options.PerOperation, Direct) are under the CMKs under
// which they were sealed, and a Keeper opens them only while those are the tenant's keys. Give them to [Keeper.Rewrap] after the switch, as
// long as an old CMK lets us in. Rewrap cannot do it to or from PolicyAll: open those before, and seal them after.
//
// Errors are those of Register, and ErrNotRegistered, ErrSuspended, ErrJobRunning, and ErrArgument for the keys that the tenant has. With FewerConsents
// it is ErrWaiverRequired until the current waiver is acknowledged. ErrNotAudited comes beside the job.
//
// From one CMK to another it makes 8 KMS requests; the job makes 2 for each data key
// with ReEncrypt and 3 without, and 2 before it switches. docs/operations.md has the numbers for several.
func (t *Tenant) MoveTo(ctx context.Context, m Move) (Job, error) {
	if err := checkText("the reason", m.Reason, maxText); err != nil {
		return Job{}, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return Job{}, err
	}
	defer done()
	event := t.k.stamp(Event{Op: OpMove, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Reason: m.Reason, Scope: Scope{Tenant: t.id}, Key: m.Key})
	job, begun, err := c.move(ctx, m, nil, &event)
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
func (t *tenantCache) move(ctx context.Context, m Move, own *ownKey, event *Event) (job Job, begun bool, err error) {
	to := keySet{m.Key, slices.Clone(m.Others), m.Policy}
	if err := t.k.checkKeys(to); err != nil {
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
	some, err := t.needed(ctx, s)
	if err == nil {
		err = t.mayWeaken(s, some, to, m.FewerConsents)
	}
	if err != nil {
		return Job{}, false, err
	}
	fewer := to.consents() < some
	event.Reason = explain(moving(s.keySet, to, fewer), m.Reason)
	if err := t.proveSource(ctx, s, event); err != nil {
		return Job{}, false, err
	}
	held, binding, err := t.validateTarget(ctx, to, event)
	if err != nil {
		return Job{}, false, err
	}
	from := s.keySet
	s, err = t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		if err := t.mayMove(s, to, own); err != nil {
			return change{}, err
		}
		if !s.same(from) {
			return change{}, errReplaced
		}
		if err := t.mayWeaken(s, some, to, m.FewerConsents); err != nil {
			return change{}, err
		}
		writes, err := t.takeTarget(ctx, to, held)
		if err != nil {
			return change{}, err
		}
		s.Job = &activeJob{ID: event.ID, Type: JobMove, From: from, To: to, Own: own, Binding: binding, Fewer: fewer, Revoked: s.Lifecycle == lifecycleRevoked}
		j := &jobItem{V: layoutVersion, id: event.ID, Type: JobMove, State: JobRunning, From: from, To: to,
			Actor: event.Actor, Reason: m.Reason, StartedAt: event.Time, Total: int64(s.DataKeys)}
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
	for _, h := range held {
		if s != nil && h.tenant != "" && h.tenant != t.tenant {
			_ = t.k.cache(h.tenant).flush(ctx) // or later: it is in its outbox
		}
	}
	return job, s != nil, err
}

// moving says what becomes of the tenant's keys, for an event; "" of one that is replaced by one, which the event names.
func moving(from, to keySet, fewer bool) string {
	if from.Policy == "" && to.Policy == "" {
		return ""
	}
	what := "from " + from.describeKeys() + " to " + to.describeKeys()
	if fewer {
		what += "; fewer of them have to consent"
	}
	return what
}

// mayMove returns why s permits no move to CMKs, and errUnchanged if that one is under way.
func (t *tenantCache) mayMove(s *state, to keySet, own *ownKey) error {
	if err := t.k.mayHave(s, to, own); err != nil {
		return err
	}
	switch a := s.Job; {
	case s.Lifecycle == lifecycleNone:
		return ErrNotRegistered
	case s.Suspended:
		return ErrSuspended
	case a != nil && a.unswitched() && a.To.same(to) && a.From.same(s.keySet):
		return errUnchanged
	case a != nil:
		return ErrJobRunning
	case s.same(to):
		return fmt.Errorf("%w: this is what the tenant has already", ErrArgument)
	}
	return t.k.fleet.refusal()
}

// mayWeaken returns why fewer keys than now may not be enough afterwards, if they were: to open what needs the consent of some.
func (t *tenantCache) mayWeaken(s *state, some int, to keySet, said bool) error {
	switch {
	case to.consents() >= some:
	case !said:
		return fmt.Errorf("%w: fewer keys than before would have to consent, which has to be said (FewerConsents)", ErrArgument)
	case !s.Ack.of(&t.k.waiver, t.k.waiverHash):
		return ErrWaiverRequired
	}
	return nil
}

// needed returns how many keys have to consent before anything of the tenant's opens. Its policy does not say it
// where PolicyAny was registered in the place of PolicyAll: data keys of before need all of theirs still.
func (t *tenantCache) needed(ctx context.Context, s *state) (some int, err error) {
	some = s.consents()
	for after := ""; s.Policy == PolicyAny; {
		page, err := t.pieces(ctx, s.keys(), after, MaxListLimit)
		if err != nil || len(page) == 0 {
			return some, err
		}
		for _, p := range page {
			if after = p.item.ID; !p.damaged && p.w.policy == format.PolicyALL && p.w.opens(s.keys()) {
				some = max(some, len(p.w.recipients))
			}
		}
	}
	return some, nil
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

// proveSource unwraps one of the tenant's data keys under its CMKs: without them, none of them can be
// moved. A tenant that has none has nothing to lose.
func (t *tenantCache) proveSource(ctx context.Context, s *state, event *Event) error {
	var damaged error // as far as has been looked; a tenant's first data key may be, and the next one proves what is asked
	tries := 0
	for after := ""; ; {
		page, err := t.pieces(ctx, s.keys(), after, jobBatch)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return damaged
		}
		for _, p := range page {
			if after = p.item.ID; p.damaged {
				damaged = fmt.Errorf("%w: data keys are damaged", ErrStore)
			}
			if p.damaged || !p.w.opens(s.keys()) {
				continue
			}
			q, err := t.inquire(ctx, p.key.Purpose, p.id, &t.budget.control)
			if err == nil {
				var dek *DEK
				dek, err = q.open(ctx, p.w)
				dek.Wipe()
			}
			event.Calls = append(event.Calls, q.calls...)
			if errors.Is(err, ErrOpen) { // it is about this one, unless it is about many
				damaged = fmt.Errorf("%w: data keys are damaged", ErrStore)
				if tries++; tries < sourceTries {
					continue
				}
				err = damaged
			}
			return err
		}
	}
}
