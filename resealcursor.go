package byok

import (
	"encoding/json"
	"fmt"
	"time"
)

// RecordFailure names a record that could not be re-sealed.
type RecordFailure struct {
	Key  string `json:"key"`
	Code string `json:"code"` // BYOK_...
	Why  string `json:"why"`  // as the error's text: no more than a caller of Open is told
}

// Bounds of what a shard remembers of its bad records. All are counted.
const (
	maxNamed      = 100
	maxNamedBytes = 24 << 10 // as they are written; twice, and with all else, they fit an item
)

// resealCursor is how far a shard is, and what was found on the way: so that both are kept or lost together, and counts are exact
// whatever dies. A shard is passed over until a pass finds nothing to do.
type resealCursor struct {
	V     int       `json:"v"`
	Job   string    `json:"job"`
	Shard int       `json:"shard"`
	Pass  int       `json:"pass"` // from 1
	After string    `json:"after,omitempty"`
	Begun time.Time `json:"begun,omitzero"` // this pass; zero: it has not
	Rest  time.Time `json:"rest,omitzero"`  // it does not before

	// Of this pass.
	Looked   int64           `json:"looked,omitempty"`
	Sealed   int64           `json:"sealed,omitempty"`  // replaced
	Changed  int64           `json:"changed,omitempty"` // were due, and then somebody else's write was first
	Failed   int64           `json:"failed,omitempty"`
	Failures []RecordFailure `json:"failures,omitempty"`

	// Of the last whole pass. Again: that it found due, if it was there to prove that there are none.
	Again int64           `json:"again,omitempty"`
	Size  int64           `json:"size,omitempty"`
	Bad   int64           `json:"bad,omitempty"`
	Named []RecordFailure `json:"named,omitempty"`

	Done bool `json:"done,omitempty"`
}

func (c *resealCursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic("byok: internal error: " + err.Error())
	}
	return string(b)
}

// parseCursor reads what String made. "" is the beginning.
func parseCursor(s, job string, shard int) (resealCursor, error) {
	c := resealCursor{V: layoutVersion, Job: job, Shard: shard, Pass: 1}
	if s == "" {
		return c, nil
	}
	c = resealCursor{}
	if err := json.Unmarshal([]byte(s), &c); err != nil || c.V != layoutVersion || c.Job != job || c.Shard != shard ||
		c.Pass < 1 || c.Looked < 0 || c.After != "" && checkRecordKey(c.After) != nil {
		return resealCursor{}, fmt.Errorf("%w: not a cursor of this job and shard", ErrArgument)
	}
	return c, nil
}

// beyond reports whether c is further than d.
func (c *resealCursor) beyond(d *resealCursor) bool {
	switch {
	case c.Done != d.Done:
		return c.Done
	case c.Pass != d.Pass:
		return c.Pass > d.Pass
	}
	return c.Looked > d.Looked || c.Looked == d.Looked && d.Begun.IsZero() && !c.Begun.IsZero()
}

// failed counts a bad record, and names it if there is room.
func (c *resealCursor) failed(f RecordFailure) {
	c.Failed++
	if len(c.Failures) == maxNamed {
		return
	}
	named := append(c.Failures, f)
	if b, err := json.Marshal(named); err == nil && len(b) <= maxNamedBytes {
		c.Failures = named
	}
}

// passRest is how long a shard rests at most between two passes, of which the first should have found nothing and did: a record is
// locked all the time, say, or put back. Without a rest that would be an event of the audit log every few milliseconds.
const passRest = time.Minute

// passed ends a pass. The shard is done if it found nothing to do, and began when nobody could seal with an older generation any more.
func (c *resealCursor) passed(settled, now time.Time) {
	c.Size, c.Bad, c.Named = c.Looked, c.Failed, c.Failures
	if c.Sealed == 0 && c.Changed == 0 && !c.Begun.Before(settled) {
		c.Done, c.Failures, c.Again = true, nil, 0
		return
	}
	next := resealCursor{V: c.V, Job: c.Job, Shard: c.Shard, Pass: c.Pass + 1, Size: c.Size, Bad: c.Bad, Named: c.Named}
	if c.Pass > 1 {
		next.Again = c.Sealed + c.Changed
		next.Rest = now.Add(min(time.Second<<min(c.Pass-2, 10), passRest))
	}
	*c = next
}

// waits is how long the pass that is next must not begin yet. A clock that was far ahead when it was to rest does not count.
func (c *resealCursor) waits(settled, now time.Time) time.Duration {
	if c.Pass <= 1 || !c.Begun.IsZero() {
		return 0
	}
	wait := settled.Sub(now)
	if rest := c.Rest.Sub(now); rest <= passRest {
		wait = max(wait, rest)
	}
	return max(0, wait)
}
