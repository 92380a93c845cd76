package byok

import (
	"context"
	"errors"
)

// Revoke removes the tenant's key: the tenant's own emergency brake. Data
// operations are refused with ErrKeyRemoved from now on in this process, within about a second
// in others that Run, and within MaxAge everywhere. It touches neither the CMK nor any ciphertext, so registering the
// same CMK again opens everything again. It is idempotent. A tenant under the platform's CMK has no key to
// remove, but stops all the same, and for good: until it registers one of its own.
//
// It takes effect even if the AuditSink fails: the error is ErrNotAudited then,
// beside the new status.
func (t *Tenant) Revoke(ctx context.Context, reason string) (KeyStatus, error) {
	return t.stop(ctx, OpRevoke, reason, func(s *state) (done bool) {
		if s.Lifecycle == lifecycleRevoked && !s.Job.active() {
			return true
		}
		if s.Job.active() {
			s.Job = nil // its item is closed by whoever comes by next: a stop waits for nobody
		}
		s.Lifecycle, s.RevokeReason = lifecycleRevoked, reason
		return false
	})
}

// Suspend is the platform's switch: data operations are refused with
// ErrSuspended until Resume, whatever the tenant and its CMK permit. The tenant
// sees the reason, in its status and its audit log. Otherwise as Revoke. With Options.PlatformKeys it
// works for a tenant that nothing is known of, too.
func (t *Tenant) Suspend(ctx context.Context, reason string) (KeyStatus, error) {
	return t.stop(ctx, OpSuspend, reason, func(s *state) (done bool) {
		if s.Suspended {
			return true
		}
		s.Suspended, s.SuspendReason = true, reason
		return false
	})
}

func (t *Tenant) stop(ctx context.Context, op Op, reason string, f func(*state) (done bool)) (KeyStatus, error) {
	return t.command(ctx, op, reason, true, func(ctx context.Context, c *tenantCache, s *state) ([]Item, bool, error) {
		var adopted []Item
		if s.Lifecycle == lifecycleNone && op == OpSuspend && t.k.adopts(s) { // else its next Seal would
			var err error
			if adopted, err = c.adopted(ctx, s); err != nil {
				return nil, false, err
			}
		}
		if s.Lifecycle == lifecycleNone {
			return nil, false, ErrNotRegistered
		}
		job := s.Job
		if f(s) {
			return nil, true, nil
		}
		if op != OpRevoke {
			return adopted, false, nil
		}
		// The CMK is free again: the tenant may have registered it for the wrong
		// organization. What it wrapped stays bound to this tenant by its context.
		keys := s.keys()
		if job.active() && job.unswitched() {
			keys = append(keys, job.To.keys()...)
		}
		item, err := c.k.releaseClaims(ctx, keys, t.id)
		if err != nil {
			c.k.log.WarnContext(ctx, "byok: the claim on a removed CMK could not be released", "error", err.Error())
		}
		return item, false, nil // stop always stops
	})
}

// Resume ends a suspension. Access is unknown until it has been proved again.
func (t *Tenant) Resume(ctx context.Context, reason string) (KeyStatus, error) {
	return t.command(ctx, OpResume, reason, false, func(_ context.Context, _ *tenantCache, s *state) ([]Item, bool, error) {
		if s.Lifecycle == lifecycleNone {
			return nil, false, ErrNotRegistered
		}
		if !s.Suspended {
			return nil, true, nil
		}
		s.Suspended, s.SuspendReason = false, ""
		return nil, false, nil
	})
}

// errUnchanged ends a change that has nothing to do.
var errUnchanged = errors.New("byok: nothing to change")

// command changes the lifecycle, and leaves one outcome event whatever happens.
func (t *Tenant) command(ctx context.Context, op Op, reason string, stop bool,
	f func(context.Context, *tenantCache, *state) (writes []Item, unchanged bool, err error)) (KeyStatus, error) {
	if err := checkText("the reason", reason, maxText); err != nil {
		return KeyStatus{}, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return KeyStatus{}, err
	}
	defer done()
	event := t.k.stamp(Event{Op: op, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Reason: reason, Scope: Scope{Tenant: t.id}})
	s, err := c.change(ctx, stop, func(ctx context.Context, s *state) (change, error) {
		writes, unchanged, err := f(ctx, c, s)
		if event.Key = s.Key; err == nil && unchanged {
			err = errUnchanged
		}
		if err != nil {
			return change{}, err
		}
		return change{events: []Event{event}, writes: writes}, nil
	})
	if err == errUnchanged {
		// Still an operation that somebody asked for; and it did take effect, once.
		if _, err = c.k.conclude(ctx, event, nil); err != nil && stop {
			err = errors.Join(ErrNotAudited, err)
		}
		if s, rerr := c.readState(ctx); rerr == nil {
			return c.snapshot(s), err
		}
		return KeyStatus{}, errors.Join(err, ErrStore)
	}
	if s == nil {
		// With an id of its own: if the write took place after all, the event in the
		// outbox is the true one. Commands of this kind have no KMS calls to double.
		event.ID = ""
		_, err = c.k.conclude(ctx, event, err)
		return KeyStatus{}, err
	}
	return c.snapshot(s), err
}
