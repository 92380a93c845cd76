package byok

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A data key that does not unwrap any more (KMS calls what the Store has of it invalid, or it is no data key at all)
// cannot be moved, and what it sealed does not open before the move either. A move looks at all others, names it, and then waits
// for a person: what looks like damage may be a mistake that makes everything look so, such as a Keeper with another service
// name, and a switch would end the old CMK's part. So it switches only without data keys that somebody has named.
const (
	maxUnreadable = 100              // that a move names, and can be told to leave behind
	sourceTries   = 16               // data keys of which one must unwrap before a move begins
	jobRepair     = 10 * jobPauseMax // between two looks whether they have been repaired
)

// errUnreadable: a move waits for somebody to repair data keys, or to say that they may be left behind.
var errUnreadable = newError(ErrStore, "the store failed: damaged data keys would be left behind")

// named takes what a step found of a data key.
func (j *jobItem) named(p *piece) {
	if j.Failed++; p.unreadable && p.id != (DataKeyID{}) && len(j.Unreadable) < maxUnreadable {
		j.Unreadable = append(j.Unreadable, p.id)
	}
}

// mayLeave returns why the move may not switch without the data keys that its last pass could not wrap.
func (j *jobItem) mayLeave() error {
	told := func(id DataKeyID) bool { return slices.Contains(j.LeaveBehind, id) }
	if j.Failed == 0 || j.Failed == int64(len(j.Unreadable)) && !slices.ContainsFunc(j.Unreadable, func(id DataKeyID) bool { return !told(id) }) {
		return nil
	}
	return fmt.Errorf("%w: %d of them", errUnreadable, j.Failed)
}

// LeaveBehind permits a move that waits because of damaged data keys ([Job.Unreadable]) to switch without those that are named
// here. They are looked at once more before; what they sealed stays unreadable, which it is already. Nothing of them is
// changed or deleted: each keeps its wrapping under the CMK that the tenant is moved from, and opens again if it is
// repaired (from a backup of the Store) and the tenant is moved back. If another one turns out to be damaged, the move waits again.
//
// Repairing is better, and CancelJob leaves everything as it is. Make sure first that it is damage: the Keeper has the
// service name that it always had, and most data keys were wrapped anew.
//
// The error is ErrJobNotFound; ErrArgument if the job is no move that is under way, or has moved nothing, or does not
// name one of the data keys; ErrStore, ErrAudit or ErrClosed; ErrNotAudited beside the job as in Register.
func (t *Tenant) LeaveBehind(ctx context.Context, id string, dataKeys []DataKeyID, reason string) (Job, error) {
	if err := checkText("the reason", reason, maxText); err != nil {
		return Job{}, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return Job{}, err
	}
	defer done()
	event := t.k.stamp(Event{Op: OpJob, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Scope: Scope{Tenant: t.id}})
	var out Job
	s, err := c.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		j, err := c.readJob(ctx, id)
		if err != nil {
			return change{}, err
		}
		event.Key = j.To.Key
		switch a := s.Job; {
		case a == nil || a.ID != id || !a.unswitched():
			return change{}, fmt.Errorf("%w: the job is no move that is under way", ErrArgument)
		case j.Done == 0:
			return change{}, fmt.Errorf("%w: nothing has been moved: this is not damage", ErrArgument)
		case len(dataKeys) == 0:
			return change{}, fmt.Errorf("%w: no data key is named", ErrArgument)
		}
		var names []string
		for _, d := range dataKeys {
			if !slices.Contains(j.Unreadable, d) {
				return change{}, fmt.Errorf("%w: the job does not name data key %s", ErrArgument, d)
			}
			if names = append(names, d.String()); !slices.Contains(j.LeaveBehind, d) {
				j.LeaveBehind = append(j.LeaveBehind, d)
			}
		}
		now := event
		now.Reason = explain(j.Type+" "+j.id+" may leave behind the data keys "+strings.Join(names, ", "), reason)
		j.Cursor, j.Pauses, j.NotBefore = "", 0, time.Time{}
		out = j.job(s)
		return change{quiet: true, events: []Event{now}, writes: []Item{c.jobWrite(j)}}, nil
	})
	if s == nil {
		_, err = c.k.conclude(ctx, event, err)
		return Job{}, err
	}
	t.k.jobs.nudge()
	return out, err
}

// tellUnreadable names a data key that could not be wrapped anew, and leaves an event of one that no KMS was asked
// about, because what the Store has is no data key any more.
func (t *tenantCache) tellUnreadable(ctx context.Context, j *jobItem, p *piece) {
	t.k.log.WarnContext(ctx, "byok: a data key is damaged, and cannot be wrapped anew", "tenant", t.tenant, "item", p.item.ID, "job", j.id)
	if p.told {
		return
	}
	e := Event{Op: OpRewrap, Scope: Scope{Tenant: t.tenant}, Key: j.To.Key, DataKey: p.id, Actor: j.Actor, Reason: j.Type + " " + j.id}
	e.fail(errDamaged)
	t.k.note(ctx, e)
}
