package byok

import (
	"context"
	"fmt"
)

// Rotate starts a new generation of data keys. One validating GenerateDataKey
// comes first: if KMS denies it, nothing changes. Each purpose gets its data key
// of the new generation on first use, so a rotation neither blocks nor fails a
// Seal or Open; other processes follow within about a second if they
// Run, and within MaxAge. Older data keys go on
// opening what they sealed.
//
// Errors are Seal's, and ErrNotAudited beside the result as in Register.
func (t *Tenant) Rotate(ctx context.Context, r Rotation) (RotationResult, error) {
	if r.Type != RotateDEK {
		return RotationResult{}, fmt.Errorf("%w: a rotation's type must be %q", ErrArgument, RotateDEK)
	}
	if err := checkText("the reason", r.Reason, maxText); err != nil {
		return RotationResult{}, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return RotationResult{}, err
	}
	defer done()
	out := RotationResult{Type: r.Type, Reason: r.Reason, StartedAt: t.k.clock.Now().Wall.UTC()}
	event := t.k.stamp(Event{Op: OpRotate, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Reason: r.Reason, Scope: Scope{Tenant: t.id}})
	s, err := c.rotate(ctx, &event, &out)
	if s == nil {
		_, err = t.k.conclude(ctx, event, err)
		return RotationResult{}, err
	}
	out.CompletedAt = t.k.clock.Now().Wall.UTC()
	return out, err
}

func (t *tenantCache) rotate(ctx context.Context, event *Event, out *RotationResult) (*state, error) {
	s, err := t.readState(ctx)
	if err == nil {
		err = s.usable()
	}
	if err != nil {
		return nil, err
	}
	event.Key = s.Key
	q, err := t.inquire(ctx, "default", newDataKeyID(), &t.budget.control)
	if err == nil {
		var made *DEK
		made, _, err = q.make(ctx)
		made.Wipe()
	}
	event.Calls, event.Proof = q.calls, q.witness().request
	if err != nil {
		return nil, err
	}
	return t.change(ctx, false, func(_ context.Context, s *state) (change, error) {
		if err := s.usable(); err != nil {
			return change{}, err
		}
		if !s.sameKeys(q.state) {
			return change{}, fmt.Errorf("%w: the key was replaced meanwhile", ErrKeyUnavailable)
		}
		now := *event
		out.ID, out.PreviousVersion, out.NewVersion = now.ID, s.Generation, s.Generation+1
		s.Generation++
		s.LastRotationAt = now.Time
		now.Version = s.Generation
		ch := change{events: []Event{now}}
		t.material(s, now, &ch)
		return ch, nil
	})
}
