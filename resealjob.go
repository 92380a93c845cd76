package byok

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What the Store has of a re-sealing: the job's item, which only beginning and end write, and an item for each shard, which whoever works at
// that shard writes as he goes.

// resealItem is what a re-sealing has in its job's item beside what every job has.
type resealItem struct {
	Source     string    `json:"source"`
	Generation uint64    `json:"generation"` // nothing older is to be left
	Adopt      bool      `json:"adopt,omitempty"`
	Complete   bool      `json:"complete,omitempty"`
	Shards     int       `json:"shards"`
	Settled    time.Time `json:"settled"` // a pass that began before proves nothing: older generations may have sealed still
}

func (r *resealItem) ok() bool { return r != nil && r.Shards >= 1 && r.Shards <= MaxShards }

// shardItem is how far a shard is.
type shardItem struct {
	V         int             `json:"v"`
	After     string          `json:"after,omitempty"` // the keys of the shard: those behind this one, ("": all)
	Last      string          `json:"last,omitempty"`  // up to this one, and with it ("": all)
	Cursor    json.RawMessage `json:"cursor,omitempty"`
	UpdatedAt time.Time       `json:"updated_at,omitzero"`
	Rate      float64         `json:"rate,omitempty"` // records a second, lately

	Owner      string    `json:"owner,omitempty"` // of Run: who is at it
	LeaseUntil time.Time `json:"lease_until,omitzero"`
	Why        string    `json:"why,omitempty"` // it does not go on
	Pauses     int       `json:"pauses,omitempty"`
	NotBefore  time.Time `json:"not_before,omitzero"`

	revision uint64
	at       resealCursor
}

func prefixShard(job string) string { return "shard:" + job + ":" }

func refShard(tenant, job string, n int) Ref {
	return Ref{partTenant(tenant), fmt.Sprintf("%s%03d", prefixShard(job), n)}
}

// makeShards writes the items of all shards. If the job never begins, they are left over.
func (t *tenantCache) makeShards(ctx context.Context, job string, lasts []string) error {
	var writes []Item
	for n := range len(lasts) + 1 {
		i := shardItem{V: layoutVersion}
		if n > 0 {
			i.After = lasts[n-1]
		}
		if n < len(lasts) {
			i.Last = lasts[n]
		}
		writes = append(writes, encodeItem(refShard(t.tenant, job, n), 0, i))
		if len(writes) == MaxApplyWrites || n == len(lasts) {
			if err := t.k.store.Apply(ctx, writes...); err != nil {
				return storeError(err)
			}
			writes = writes[:0:0]
		}
	}
	return nil
}

// shards reads all shards of a job.
func (t *tenantCache) shards(ctx context.Context, j *jobItem) ([]*shardItem, error) {
	var out []*shardItem
	prefix := prefixShard(j.id)
	for i, err := range t.list(ctx, prefix, prefix, MaxShards) {
		if err != nil {
			return nil, err
		}
		s := &shardItem{revision: i.Revision}
		if n := strings.TrimPrefix(i.ID, prefix); n != fmt.Sprintf("%03d", len(out)) || decodeItem(i.Value, s) != nil || s.parse(j, len(out)) != nil {
			return nil, errDamaged
		}
		out = append(out, s)
	}
	if !j.Reseal.ok() || len(out) != j.Reseal.Shards {
		return nil, errDamaged
	}
	return out, nil
}

func (t *tenantCache) readShard(ctx context.Context, j *jobItem, n int) (*shardItem, error) {
	s := &shardItem{}
	rev, err := t.k.getJSON(ctx, refShard(t.tenant, j.id, n), s)
	if s.revision = rev; err == nil && s.parse(j, n) != nil || err == ErrNotFound {
		err = errDamaged
	}
	return s, err
}

func (s *shardItem) parse(j *jobItem, n int) (err error) {
	s.at, err = parseCursor(string(s.Cursor), j.id, n)
	return err
}

// writeShard writes a shard. Its error is ErrConflict if somebody else has written it.
func (t *tenantCache) writeShard(ctx context.Context, j *jobItem, n int, s *shardItem) error {
	err := t.k.store.Apply(ctx, encodeItem(refShard(t.tenant, j.id, n), s.revision, s))
	if errors.Is(err, ErrConflict) {
		return ErrConflict
	}
	if err != nil {
		return storeError(err)
	}
	s.revision++
	return nil
}

// advance makes c how far the shard is, if it is further than what is known.
func (s *shardItem) advance(c *resealCursor, now time.Time) bool {
	if !c.beyond(&s.at) {
		return false
	}
	from := s.UpdatedAt
	if c.Begun.After(from) {
		from = c.Begun // a rest says nothing of the rate, and neither does a pause
	}
	if d := now.Sub(from).Seconds(); d > 0 && c.Pass == s.at.Pass && !s.UpdatedAt.IsZero() && s.Why == "" {
		rate := float64(c.Looked-s.at.Looked) / d
		if s.Rate > 0 {
			rate = 0.7*s.Rate + 0.3*rate
		}
		s.Rate = rate
	}
	s.at, s.Cursor, s.UpdatedAt = *c, json.RawMessage(c.String()), now
	s.Why, s.Pauses, s.NotBefore = "", 0, time.Time{}
	return true
}

const (
	rateAge = 15 * time.Second       // how old what a shard says of its rate may be
	maxETA  = 100 * 8766 * time.Hour // what takes longer is not known; and a Duration has 292 years
)

// sum makes j's numbers those of its shards.
func (j *Job) sum(shards []*shardItem, now time.Time) {
	var looked, size int64
	stopped, under := "", false
	first, whole := false, true // a shard is in its first pass; all have ended that
	for _, s := range shards {
		c := &s.at
		if c.Pass <= 1 && !c.Done {
			first, whole = true, false
			j.Done, j.Failed, looked = j.Done+c.Looked-c.Failed, j.Failed+c.Failed, looked+c.Looked
			j.Failures = append(j.Failures, c.Failures...)
		} else {
			j.Done, j.Failed, looked = j.Done+c.Size-c.Bad, j.Failed+c.Bad, looked+c.Size
			j.Failures = append(j.Failures, c.Named...)
			size += c.Size
			if j.Verified += c.Looked; c.Done {
				j.Verified += c.Size - c.Looked
			}
		}
		if j.Pass = max(j.Pass, c.Pass); c.Done {
			continue
		}
		j.Again += c.Again
		if s.Why != "" {
			stopped = s.Why
		} else if s.LeaseUntil.After(now) || now.Sub(s.UpdatedAt) < rateAge {
			under = true
		}
		if now.Sub(s.UpdatedAt) < rateAge {
			j.Rate += s.Rate
		}
		if s.UpdatedAt.After(j.UpdatedAt) {
			j.UpdatedAt = s.UpdatedAt
		}
	}
	if whole || j.Total < looked {
		j.Total = looked // that is exact, or nearer
	}
	if j.Left = j.Total - looked; whole {
		j.Left = max(0, size-j.Verified)
	}
	if j.State.Ended() {
		j.Left, j.Rate, j.Again = 0, 0, 0
		return
	}
	switch {
	case stopped != "" && !under:
		j.State, j.Why, j.Rate = JobPaused, stopped, 0
	case !first:
		j.State = JobVerifying
	}
	if left := float64(j.Left) / j.Rate; j.Rate > 0 && left < maxETA.Seconds() {
		j.ETA = time.Duration(left * float64(time.Second)).Round(time.Second)
	}
}

// told is j's Job, with the numbers of its shards if it is a re-sealing.
func (t *tenantCache) told(ctx context.Context, j *jobItem, s *state) (Job, error) {
	out := j.job(s)
	if j.Type != JobReseal {
		return out, nil
	}
	shards, err := t.shards(ctx, j)
	if err != nil {
		return Job{}, err
	}
	out.Done, out.Failed = 0, 0
	out.sum(shards, t.k.clock.Now().Wall.UTC())
	return out, nil
}

// finishReseal ends the job if all of its shards are done. It reports whether it has ended.
func (t *tenantCache) finishReseal(ctx context.Context, id string) (Job, bool, error) {
	event := t.k.stamp(Event{Op: OpJob, Outcome: OutcomeSuccess, Scope: Scope{Tenant: t.tenant}})
	var out Job
	s, err := t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		j, err := t.readJob(ctx, id)
		if err != nil {
			return change{}, err
		}
		shards, err := t.shards(ctx, j)
		if err != nil {
			return change{}, err
		}
		for _, i := range shards {
			if !i.at.Done && !j.State.Ended() {
				out = j.job(s)
				return change{}, errUnchanged
			}
		}
		if j.State.Ended() {
			out, err = t.told(ctx, j, s)
			return change{}, errors.Join(err, errUnchanged)
		}
		j.State, j.EndedAt = JobDone, t.k.clock.Now().Wall.UTC()
		out = j.job(s)
		out.sum(shards, j.EndedAt)
		j.Done, j.Failed, j.Total = out.Done, out.Failed, out.Total
		event.Key, event.Version, event.Actor = s.Key, j.Reseal.Generation, j.Actor
		event.Reason = fmt.Sprintf("%s %s is done: of %d records of %q none is sealed by a generation before %d", JobReseal, id, out.Total, j.Reseal.Source, j.Reseal.Generation)
		if out.Failed > 0 {
			event.Reason += fmt.Sprintf(", but for %d that could not be re-sealed", out.Failed)
		} else if e := s.Elsewhere; j.Reseal.Complete && e != nil && e.Generation < j.Reseal.Generation {
			s.Elsewhere = nil
			event.Reason += "; nothing is left that another key has wrapped, says the platform"
		}
		return change{quiet: true, events: []Event{event}, writes: []Item{t.jobWrite(j)}}, nil
	})
	if s != nil || errors.Is(err, errUnchanged) || errors.Is(err, ErrNotAudited) {
		err = nil
	}
	return out, out.State.Ended(), err
}
