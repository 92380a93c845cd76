package byok

import (
	"context"
	"fmt"
	"time"
)

// Rotate starts a new generation of data keys. One validating GenerateDataKey
// comes first: if KMS denies it, nothing changes. Each purpose gets its data key
// of the new generation on first use, so a rotation neither blocks nor fails a
// Seal or Open; other processes follow within about a second if they
// Run, and within MaxAge. Older data keys go on
// opening what they sealed.
//
// A rotation of type RotateFull then wraps every older data key anew, under the key material that the CMK has by now: a job, which
// any process that Runs works at, and [Tenant.RunJob] does here. It makes 2 KMS requests for each data key if the key policy
// grants ReEncrypt, and 3 if not; Seal and Open do not notice. Whatever happens on the way, each data key opens as before.
//
// Errors are Seal's, ErrJobRunning for RotateFull while another job is under way, and ErrNotAudited beside the result as in Register.
func (t *Tenant) Rotate(ctx context.Context, r Rotation) (RotationResult, error) {
	if r.Type != RotateDEK && r.Type != RotateFull {
		return RotationResult{}, fmt.Errorf("%w: a rotation's type must be %q or %q", ErrArgument, RotateDEK, RotateFull)
	}
	if err := checkText("the reason", r.Reason, maxText); err != nil {
		return RotationResult{}, err
	}
	if r.Type == RotateFull && speaksOfCompromise(r.Reason) {
		return RotationResult{}, fmt.Errorf("%w: the reason speaks of a compromise, and a data key that may be known stays known however it is wrapped: re-seal what it has sealed", ErrArgument)
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return RotationResult{}, err
	}
	defer done()
	out := RotationResult{Type: r.Type, Reason: r.Reason, StartedAt: t.k.clock.Now().Wall.UTC()}
	event := t.k.stamp(Event{Op: OpRotate, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Reason: r.Reason, Scope: Scope{Tenant: t.id}})
	s, err := c.rotate(ctx, &event, &out, 0)
	if s == nil {
		_, err = t.k.conclude(ctx, event, err)
		return RotationResult{}, err
	}
	out.CompletedAt = t.k.clock.Now().Wall.UTC()
	if r.Type == RotateFull {
		t.k.jobs.nudge()
	}
	return out, err
}

// rotate begins a new generation: after the one named, or after any if that is 0. It begins anew if the tenant's
// keys are others by the end: a Move that switches fails nobody.
func (t *tenantCache) rotate(ctx context.Context, event *Event, out *RotationResult, after uint64) (*state, error) {
	for try := 1; ; try++ {
		s, err := t.readState(ctx)
		if err != nil {
			return nil, err
		}
		rotated, err := t.rotateFrom(ctx, s, event, out, after)
		if rotated != nil || try == loadTries {
			return rotated, err
		}
		if now, rerr := t.readState(ctx); rerr != nil || now.sameKeys(s) {
			return nil, err
		}
	}
}

// rotateFrom is rotate under the keys that s has.
func (t *tenantCache) rotateFrom(ctx context.Context, s *state, event *Event, out *RotationResult, after uint64) (*state, error) {
	if err := s.usable(t.k); err != nil {
		return nil, err
	}
	if out.Type == RotateFull && s.Job != nil {
		return nil, ErrJobRunning
	}
	event.Key = s.Key
	q, err := t.inquire(ctx, "default", newDataKeyID(), &t.budget.control)
	if err == nil {
		var made *DEK
		made, _, err = q.make(ctx)
		made.Wipe()
	}
	event.Calls, event.Proof = append(event.Calls, q.calls...), q.witness().request
	if err != nil {
		return nil, err
	}
	return t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		if err := s.usable(t.k); err != nil {
			return change{}, err
		}
		if !s.sameKeys(q.state) {
			return change{}, errReplaced
		}
		if after != 0 && s.Generation != after {
			return change{}, errLostRace
		}
		now := *event
		out.ID, out.PreviousVersion, out.NewVersion = now.ID, s.Generation, s.Generation+1
		s.Generation++
		s.LastRotationAt = now.Time
		now.Version = s.Generation
		ch := change{events: []Event{now}}
		j := t.rotation(s.keySet, now, out.Type)
		if out.Type == RotateFull {
			if s.Job != nil {
				return change{}, ErrJobRunning
			}
			on, err := t.listJob(ctx, j.id)
			if err != nil {
				return change{}, err
			}
			s.Job = &activeJob{ID: j.id, Type: RotateFull, From: s.keySet, To: s.keySet}
			j.State, j.EndedAt, j.Total = JobRunning, time.Time{}, int64(s.DataKeys)
			ch.writes = append(ch.writes, on)
		}
		ch.writes = append(ch.writes, t.jobWrite(j))
		out.Job = j.job(s)
		t.material(s, now, &ch)
		return ch, nil
	})
}

// rotation is the item that tells of a rotation for ever after: who, when, why, from what to what. It is done.
func (t *tenantCache) rotation(keys keySet, e Event, kind string) *jobItem {
	return &jobItem{V: layoutVersion, id: e.ID, Type: kind, State: JobDone, From: keys, To: keys, Actor: e.Actor, Reason: e.Reason,
		PreviousVersion: e.Version - 1, NewVersion: e.Version, StartedAt: e.Time, EndedAt: e.Time}
}
