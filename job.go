package byok

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// A job is work on all data keys of a tenant: wrapping them anew. It is an item that any
// process can go on with, so that none has to finish it. The tenant's state names the job that is
// under way, at most one; that is what counts, and the item only tells how far it is.
//
// A re-sealing is a job of another kind, about records and not data keys: the state does not name it, and there may be several.

// JobState is where a job is.
type JobState string

// The states of a job.
const (
	JobRunning   JobState = "running"
	JobPaused    JobState = "paused"    // by what Why says; it goes on by itself when that has ended
	JobSwitching JobState = "switching" // a move: the new CMK is the tenant's key; the old wrappings are being taken out
	JobVerifying JobState = "verifying" // a re-sealing: everything has been looked at, and is being looked at again
	JobDone      JobState = "done"
	JobCancelled JobState = "cancelled"
)

// Ended reports whether nothing more will happen.
func (s JobState) Ended() bool { return s == JobDone || s == JobCancelled }

// JobMove is the type of the job of [Tenant.Move]. Those of rotations are RotateDEK, which is done when it
// is told, and RotateFull. See also JobReseal.
const JobMove = "move"

// Job tells of a rotation, a move or a re-sealing: who asked for it, when and why, from what to what, and how far it is.
type Job struct {
	ID     string // of the audit event with which it began
	Type   string // RotateDEK, RotateFull, JobMove or JobReseal
	State  JobState
	Why    string // of a job that is paused: BYOK_..., of what stopped it last
	Method string // MethodReEncrypt or MethodUnwrap, of the data key that was wrapped last; "" before

	From, To             KeyID   // of RotateFull, both are the tenant's key
	FromOthers, ToOthers []KeyID // further keys beside From and To, and their policy; see Registration
	FromPolicy, ToPolicy Policy

	Done   int64 // data keys that are wrapped anew
	Failed int64 // data keys that could not be, by now; what they were before, they are
	Left   int64 // data keys that are still to be looked at, as far as is known

	// Unreadable are those of Failed that are damaged: KMS calls what the Store has of them invalid, or it is no data key at
	// all. 100 of them at most. A move does not switch while there are any, see Tenant.LeaveBehind.
	Unreadable []DataKeyID

	PreviousVersion, NewVersion uint64 // generations; of a rotation, and of a registration that has switched

	// Of a re-sealing, where Done, Failed and Left count records. While it is under way they are as of the last second or so.
	Source     string
	Generation uint64          // the oldest that is to be left
	Shards     int             // that workers share out among them
	Total      int64           // records, as far as is known
	Verified   int64           // of the pass after everything was looked at: records that have been looked at again
	Pass       int             // of the shard that has had most: 1 looks at everything, and those behind it verify, until one finds nothing due
	Again      int64           // records that passes that verify have found due, of shards that are not done: locked all the time, or put back, say
	Failures   []RecordFailure // of Failed; at most 100 of each shard
	Rate       float64         // records a second, lately; 0: not known
	ETA        time.Duration   // until what is Left is done, at that Rate; 0: not known. The pass that verifies is not in it

	Actor, Reason string
	StartedAt     time.Time
	UpdatedAt     time.Time
	EndedAt       time.Time // zero: it has not ended
}

// Errors about jobs.
var (
	// ErrJobRunning: a rotation of type full, or a move, of this tenant is under way. Wait for it, or cancel it.
	ErrJobRunning = newError(nil, "a job of this tenant is under way")
	// ErrJobNotFound: the tenant has no such job.
	ErrJobNotFound = newError(nil, "no such job")
)

// activeJob is the part of a tenant's state that says which job is under way.
type activeJob struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	From keySet `json:"from"`
	To   keySet `json:"to"`

	Own      *ownKey `json:"own,omitempty"`      // of the move with which a tenant of the platform's registers a key
	Binding  string  `json:"binding,omitempty"`  // of a move: what the probes of To found
	Fewer    bool    `json:"fewer,omitempty"`    // of a move: fewer keys have to consent afterwards, which was said
	Revoked  bool    `json:"revoked,omitempty"`  // it began when the key had been removed, and may go on so
	Switched bool    `json:"switched,omitempty"` // To is the tenant's key
}

// jobItem is what the Store has of a job.
type jobItem struct {
	V     int      `json:"v"`
	Type  string   `json:"type"`
	State JobState `json:"state"`
	Why   string   `json:"why,omitempty"`

	Method          string    `json:"method,omitempty"`
	From            keySet    `json:"from,omitzero"`
	To              keySet    `json:"to,omitzero"`
	PreviousVersion uint64    `json:"previous_version,omitempty"`
	NewVersion      uint64    `json:"new_version,omitempty"`
	Actor           string    `json:"actor,omitempty"`
	Reason          string    `json:"reason,omitempty"`
	StartedAt       time.Time `json:"started_at"`
	UpdatedAt       time.Time `json:"updated_at"`
	EndedAt         time.Time `json:"ended_at,omitzero"`

	Total  int64  `json:"total,omitempty"`  // data keys there were, when a pass was begun
	Looked int64  `json:"looked,omitempty"` // data keys of this pass that have been looked at
	Done   int64  `json:"done,omitempty"`
	Failed int64  `json:"failed,omitempty"` // of this pass
	Cursor string `json:"cursor,omitempty"` // id of the last item of this pass; "" at its beginning

	Unreadable  []DataKeyID `json:"unreadable,omitempty"`   // of Failed; see leavebehind.go
	LeaveBehind []DataKeyID `json:"leave_behind,omitempty"` // without which a move may switch

	Owner      string    `json:"owner,omitempty"` // the process that is at it
	LeaseUntil time.Time `json:"lease_until,omitzero"`
	Pauses     int       `json:"pauses,omitempty"` // in a row
	NotBefore  time.Time `json:"not_before,omitzero"`

	Reseal *resealItem `json:"reseal,omitempty"` // of JobReseal

	id       string
	revision uint64
}

const prefixJob = "job:"

func refJob(tenant, id string) Ref { return Ref{partTenant(tenant), prefixJob + id} }

// validJobID reports whether id is one that this library makes: it becomes a part of a Ref.
func validJobID(id string) bool {
	return len(id) == idSize && only(id, func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' })
}

func (t *tenantCache) readJob(ctx context.Context, id string) (*jobItem, error) {
	if !validJobID(id) {
		return nil, ErrJobNotFound
	}
	j := &jobItem{id: id}
	rev, err := t.k.getJSON(ctx, refJob(t.tenant, id), j)
	if err == ErrNotFound {
		return nil, ErrJobNotFound
	}
	if j.revision = rev; err != nil {
		return nil, err
	}
	return j, nil
}

func (t *tenantCache) jobWrite(j *jobItem) Item {
	j.UpdatedAt = t.k.clock.Now().Wall.UTC()
	return encodeItem(refJob(t.tenant, j.id), j.revision, j)
}

// job is what the item says, if s still names it: a Revoke ends a job without touching its item.
func (j *jobItem) job(s *state) Job {
	out := Job{ID: j.id, Type: j.Type, State: j.State, Why: j.Why, Method: j.Method,
		From: j.From.Key, FromOthers: slices.Clone(j.From.Others), FromPolicy: j.From.Policy,
		To: j.To.Key, ToOthers: slices.Clone(j.To.Others), ToPolicy: j.To.Policy,
		Done: j.Done, Failed: j.Failed, Left: max(0, j.Total-j.Looked), Unreadable: slices.Clone(j.Unreadable),
		PreviousVersion: j.PreviousVersion, NewVersion: j.NewVersion,
		Actor: j.Actor, Reason: j.Reason, StartedAt: j.StartedAt, UpdatedAt: j.UpdatedAt, EndedAt: j.EndedAt}
	if r := j.Reseal; r != nil {
		out.Source, out.Generation, out.Shards, out.Total = r.Source, r.Generation, r.Shards, j.Total
	}
	if !out.State.Ended() && j.Type != JobReseal && (s.Job == nil || s.Job.ID != j.id) {
		out.State, out.Why = JobCancelled, ""
	}
	if out.State == JobDone || out.State == JobSwitching {
		out.Left = 0
	}
	return out
}

// Job returns a rotation, move or re-sealing of the tenant by its id. The error is ErrJobNotFound, ErrStore, ErrArgument or
// ErrClosed. It is a read: KMS is asked nothing, and there is no event.
func (t *Tenant) Job(ctx context.Context, id string) (Job, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return Job{}, err
	}
	defer done()
	j, err := c.readJob(ctx, id)
	if err != nil {
		return Job{}, err
	}
	s, err := c.readState(ctx)
	if err != nil {
		return Job{}, err
	}
	return c.told(ctx, j, s)
}

// Jobs returns all rotations, moves and re-sealings that the tenant ever had, oldest first as far as clocks of the
// processes agree. An error ends the sequence.
func (t *Tenant) Jobs(ctx context.Context) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		for after := prefixJob; ; {
			page, next, err := t.jobsPage(ctx, after)
			for _, j := range page {
				if !yield(j, nil) {
					return
				}
			}
			if err != nil {
				yield(Job{}, err)
				return
			}
			if next == "" {
				return
			}
			after = next
		}
	}
}

func (t *Tenant) jobsPage(ctx context.Context, after string) (page []Job, next string, err error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return nil, "", err
	}
	defer done()
	s, err := c.readState(ctx)
	if err != nil {
		return nil, "", err
	}
	for i, err := range c.list(ctx, prefixJob, after, MaxListLimit) {
		if err != nil {
			return page, "", err
		}
		j := &jobItem{id: strings.TrimPrefix(i.ID, prefixJob), revision: i.Revision}
		if err := decodeItem(i.Value, j); err != nil {
			return page, "", err
		}
		told, err := c.told(ctx, j, s)
		if err != nil {
			return page, "", err
		}
		page, next = append(page, told), i.ID
	}
	if len(page) < MaxListLimit {
		next = ""
	}
	return page, next, nil
}

// list returns at most n of the tenant's items whose ids begin with prefix, after an id.
func (t *tenantCache) list(ctx context.Context, prefix, after string, n int) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		items, err := t.k.store.List(ctx, partTenant(t.tenant), max(prefix, after), n)
		if err != nil {
			yield(Item{}, storeError(err))
			return
		}
		for _, i := range items {
			switch {
			case i.Partition != partTenant(t.tenant) || i.ID <= after || i.Revision == 0:
				yield(Item{}, fmt.Errorf("%w: its list of items is out of order", ErrStore))
				return
			case !strings.HasPrefix(i.ID, prefix):
				return
			}
			if after = i.ID; !yield(i, nil) {
				return
			}
		}
	}
}

// CancelJob ends a job that is under way. Data keys that have been wrapped anew stay so; of a move, what
// is under the new CMK is never used. A move that has switched cannot be cancelled: move back. Cancelling
// what is cancelled changes nothing.
//
// The error is ErrJobNotFound, ErrArgument if the job is done or has switched, ErrStore, ErrAudit or ErrClosed; ErrNotAudited beside
// the job as in Register.
func (t *Tenant) CancelJob(ctx context.Context, id, reason string) (Job, error) {
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
		event.Reason = explain(j.Type+" "+j.id+" cancelled", reason)
		switch out = j.job(s); {
		case out.State == JobCancelled:
			return change{}, errUnchanged
		case out.State.Ended() || j.Type != JobReseal && s.Job.Switched:
			return change{}, fmt.Errorf("%w: the job cannot be cancelled any more", ErrArgument)
		}
		if j.Type == JobReseal {
			j.State, j.EndedAt = JobCancelled, t.k.clock.Now().Wall.UTC()
			out = j.job(s)
			return change{quiet: true, events: []Event{event}, writes: []Item{c.jobWrite(j)}}, nil
		}
		writes, err := c.endJob(ctx, s, j, JobCancelled)
		out = j.job(s)
		return change{quiet: true, events: []Event{event}, writes: writes}, err
	})
	if s == nil {
		if err == errUnchanged {
			err = nil
		}
		if _, err = c.k.conclude(ctx, event, err); err != nil {
			return Job{}, err
		}
	}
	return out, err
}

// endJob makes j the tenant's job no more, and returns the writes for that. It stays on the list of jobs until stepJob takes it off.
func (t *tenantCache) endJob(ctx context.Context, s *state, j *jobItem, as JobState) (writes []Item, err error) {
	if a := s.Job; a != nil && a.unswitched() {
		if writes, err = t.unclaim(ctx, s, a.To); err != nil {
			return nil, err
		}
	}
	return append(writes, t.closeJob(s, j, as)), nil
}

// active reports whether KMS may still be asked for the job.
func (a *activeJob) active() bool { return a != nil && !a.Switched }

// unswitched reports whether a is a move that holds claims on CMKs that are not the tenant's keys.
func (a *activeJob) unswitched() bool { return a.Type == JobMove && !a.Switched }

func (t *tenantCache) closeJob(s *state, j *jobItem, as JobState) Item {
	s.Job, j.State, j.Why = nil, as, ""
	j.Owner, j.LeaseUntil, j.NotBefore = "", time.Time{}, time.Time{}
	j.EndedAt = t.k.clock.Now().Wall.UTC()
	return t.jobWrite(j)
}

// explain is what was done, and why, if somebody said so.
func explain(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// errJobHeld: another process, or another part of this one, is at the job. It never leaves the package.
var errJobHeld = errors.New("byok: the job is in other hands")
