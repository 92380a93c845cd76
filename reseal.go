package byok

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/byok-go/byok/internal/lease"
)

// JobReseal is the type of the job of [Tenant.Reseal].
const JobReseal = "re-seal"

// ReasonCompromise, as the Reason of a re-sealing, says that data keys may have become known. It begins a new generation first, so
// that none that exists by then counts as new. A rotation of type full does not help against that, and is refused with this reason.
//
// It is this word alone. A reason that has it in it, "Compromise" or "after the compromise of host 7", is refused by both: it would mean
// to begin a new generation, and begin none.
const ReasonCompromise = "compromise"

// speaksOfCompromise reports whether a reason may mean ReasonCompromise, however it is written.
func speaksOfCompromise(reason string) bool {
	return strings.Contains(strings.ToLower(reason), "compromis")
}

// Resealing says what [Tenant.Reseal] begins.
type Resealing struct {
	Source string // what is re-sealed, for people: "table invoices". At most 200 bytes

	// Generation is the oldest that is to be left. 0: the one that the tenant has now.
	Generation uint64

	// Adopt: records that are in clear are sealed. Else they count as failed. While such a job is under way, whoever can write a
	// record and mark it as clear can have anything vouched for as the tenant's; so it is said for each job, and ends with it.
	Adopt bool

	// Complete: with this job all records of the tenant are re-sealed that there are, as the platform says. If none has failed, the
	// warning data_keys_once_wrapped_elsewhere ends with the job.
	Complete bool

	Shards []string // last keys of all shards but the last, as of Splitter.Split; at most MaxShards - 1
	Total  int64    // about how many records there are, as of Counter.Count; 0: not known
	Reason string
}

// MaxShards is how many shards a re-sealing can have. They are what workers share out among them.
const MaxShards = 256

// maxSourceName bounds Resealing.Source, in bytes.
const maxSourceName = 200

// Errors about re-sealing.
var (
	// ErrRecordsFailed: the job has ended, but not all records could be re-sealed. They are what they were; Job.Failures names them.
	ErrRecordsFailed = newError(nil, "some records could not be re-sealed")
	// ErrJobCancelled: the job was cancelled, so that there is nothing more to do.
	ErrJobCancelled = newError(nil, "the job was cancelled")
)

// Reseal begins a job that replaces the data keys of records: what is sealed under an older generation, or carries its own data
// key, is opened and sealed anew, under the data key of today. It only begins it: the records are the platform's, and so is
// the Source through which a [Resealer] works at it. Tenant.Job tells how far it is, and CancelJob ends it.
//
// From now on, [Keeper.Due] says of a record whether the job has it still to do.
//
// Rotate first, unless the reason is ReasonCompromise, which begins a new generation by itself. If it does not begin, that
// generation stays. A tenant may have several such jobs under way, one for each Source, also beside a move.
//
// The error is that of Seal, ErrArgument, or ErrNotAudited beside the job as in Register.
func (t *Tenant) Reseal(ctx context.Context, r Resealing) (Job, error) {
	if err := r.check(); err != nil {
		return Job{}, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return Job{}, err
	}
	defer done()
	if r.Reason == ReasonCompromise {
		// Not audited yet, it has taken effect all the same; and the change below says so too.
		rotated, err := t.Rotate(ctx, Rotation{Type: RotateDEK, Reason: ReasonCompromise})
		if r.Generation = rotated.NewVersion; r.Generation == 0 {
			return Job{}, err
		}
	}
	event := t.k.stamp(Event{Op: OpJob, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Scope: Scope{Tenant: t.id}})
	event.Reason = explain(JobReseal+" "+event.ID+" begun", r.Reason)
	if err := c.makeShards(ctx, event.ID, r.Shards); err != nil {
		return Job{}, err
	}
	var j *jobItem
	s, err := c.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		if err := s.usable(t.k); err != nil {
			return change{}, err
		}
		generation := cmp.Or(r.Generation, s.Generation)
		if generation > s.Generation {
			return change{}, fmt.Errorf("%w: the tenant's generation is %d", ErrArgument, s.Generation)
		}
		s.Reseal = max(s.Reseal, generation)
		event.Key, event.Version = s.Key, generation
		j = &jobItem{V: layoutVersion, id: event.ID, Type: JobReseal, State: JobRunning, From: s.keySet, To: s.keySet,
			Actor: event.Actor, Reason: r.Reason, StartedAt: event.Time, Total: r.Total,
			Reseal: &resealItem{Source: r.Source, Generation: generation, Adopt: r.Adopt, Complete: r.Complete, Shards: len(r.Shards) + 1,
				Settled: t.k.settled()}}
		return change{quiet: true, events: []Event{event}, writes: []Item{c.jobWrite(j)}}, nil
	})
	if s == nil {
		_, err = t.k.conclude(ctx, event, err)
		return Job{}, err
	}
	return j.job(s), err
}

// check returns why r can never be begun.
func (r *Resealing) check() error {
	if err := checkText("the name of the source", r.Source, maxSourceName); err != nil {
		return err
	}
	if err := checkText("the reason", r.Reason, maxText); err != nil {
		return err
	}
	switch {
	case r.Source == "":
		return fmt.Errorf("%w: a re-sealing names its source", ErrArgument)
	case len(r.Shards) >= MaxShards:
		return fmt.Errorf("%w: more than %d shards", ErrArgument, MaxShards)
	case r.Total < 0:
		return fmt.Errorf("%w: there are no less than 0 records", ErrArgument)
	case r.Reason != ReasonCompromise && speaksOfCompromise(r.Reason):
		return fmt.Errorf("%w: a reason that speaks of a compromise must be the word %q alone, which begins a new generation of data keys first", ErrArgument, ReasonCompromise)
	case r.Reason == ReasonCompromise && r.Generation != 0:
		return fmt.Errorf("%w: after a compromise no generation counts that there is now", ErrArgument)
	}
	for i, last := range r.Shards {
		if err := checkRecordKey(last); err != nil {
			return err
		}
		if i > 0 && last == r.Shards[i-1] {
			return fmt.Errorf("%w: two shards end with the same key", ErrArgument)
		}
	}
	return nil
}

// settled is when nobody seals any more with a generation before the one that the tenant has now. A process that has not heard
// of a new one goes on with what it has a lease on: for its MaxAge at most, which is that of all processes, as Options says.
// However old the generation seems to be, that is waited for: a move begins one too, and whoever began it may have had another clock.
func (k *Keeper) settled() time.Time { return k.clock.Now().Wall.UTC().Add(k.maxAge + lease.Skew) }

// Due reports whether a re-sealing that the platform has begun has this record still to do: its data key is older than the
// generation that is to be left, or the envelope carries it. So a platform that writes records
// anyway can have those re-sealed that it touches: what Seal makes is never due.
//
// Nothing is opened, and KMS is asked nothing: that the envelope says what it is supposed to is not known before Open. For a data
// key that has no lease in this process, the Store is read. The error is ErrMalformed, ErrOpen, ErrStore, ErrArgument or ErrClosed.
func (k *Keeper) Due(ctx context.Context, s Scope, sealed []byte) (bool, error) {
	s, err := s.check(nil)
	if err != nil {
		return false, err
	}
	h, err := Inspect(sealed)
	if err != nil {
		return false, err
	}
	if h.Tenant != s.Tenant {
		return false, ErrOpen
	}
	ctx, c, done, err := k.Tenant(s.Tenant).open(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	now, e := c.knows(entryID{purpose: s.Purpose, dataKey: h.DataKey})
	if now == nil {
		if now, err = c.readState(ctx); err != nil {
			return false, err
		}
	}
	switch {
	case now.Reseal == 0:
		return false, nil
	case e != nil:
		return e.generation < now.Reseal, nil
	}
	item, _, err := c.readDataKey(ctx, s.Purpose, h.DataKey)
	switch {
	case err == nil:
		return item.Generation < now.Reseal, nil
	case err != ErrNotFound:
		return false, err
	case len(h.Recipients) == 0:
		return false, ErrOpen
	}
	return c.dueCarried(ctx, h)
}

// knows returns the newest state of the tenant that this process has seen, and what it has of a data key of the Store.
func (t *tenantCache) knows(id entryID) (*state, *entry) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	id.key = t.primary()
	return t.state, t.entries[id]
}
