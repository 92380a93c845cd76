package byok

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/byok-go/byok/internal/budget"
)

// ResealOptions are those of a [Resealer]. Nil or zero is the default.
type ResealOptions struct {
	// PerSecond is how many records this Resealer re-seals in a second at most, 1 to 1 000 000. Records that are not due are not counted.
	// Default 1000.
	PerSecond int

	// Page is how many records a step looks at, 1 to 1000, and not more than PerSecond. Default 100. Of Objects a step does fewer if they
	// take long.
	Page int

	// OnFailure is told each record that could not be re-sealed, whenever it is come across: again in each pass, and after a
	// crash. It may be called by several goroutines at once.
	OnFailure func(RecordFailure)
}

// Resealer works at one re-sealing, through one Source. It is safe for concurrent use, and any number of processes may have one for the
// same job. [Resealer.Run] is all that most need; other engines that run jobs call [Resealer.Step].
//
// What it does to a record: it opens it, seals it anew, and lets the Source replace it if it still is what it was. So a live write is never
// undone, and a record that was written meanwhile is looked at again in the next pass. A shard is done when a pass has found nothing
// to do; that is the proof that nothing older than Job.Generation is left. It stands on what envelopes say of themselves, and on the
// promise that no record is put back that was taken out before: by a restored backup, or by whoever sealed before all
// had heard of the rotation and writes after the pass: a SealWriter, or a transaction that takes minutes.
//
// It asks the tenant's KMS as jobs do, below live traffic (Options.JobRequests), and stops as everything does if the tenant says stop. For
// each step that replaces anything there is one event, OpReseal, which is recorded before.
//
// A Keeper with PerOperation leaves envelopes alone that carry their data key, wrapped by the tenant's keys only: each is under a data key of its
// own, and what it would make of them would be the same.
type Resealer struct {
	t    *Tenant
	id   string
	src  recordSource
	opts ResealOptions

	mu     sync.Mutex
	bucket budget.Bucket
	known  map[DataKeyID]uint64 // generations
}

// recordSource is a Source, or Objects.
type recordSource interface {
	// look looks at the next records, and counts in c what it did. more: there may be others. What
	// c says then holds beside an error too.
	look(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, c *resealCursor, last string) (more bool, err error)

	census(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, after, last string, count func(censusRecord)) (next string, more bool, err error)
}

// Resealer returns what works at a re-sealing of the tenant, through a Source. opts may be nil. It reads the Store, and does nothing yet. The
// error is ErrJobNotFound, ErrArgument, ErrStore or ErrClosed.
func (t *Tenant) Resealer(ctx context.Context, job string, src Source, opts *ResealOptions) (*Resealer, error) {
	if src == nil {
		return nil, fmt.Errorf("%w: a Source is required", ErrArgument)
	}
	return t.resealer(ctx, job, rows{src}, opts)
}

// ObjectResealer is Resealer for Objects.
func (t *Tenant) ObjectResealer(ctx context.Context, job string, objs Objects, opts *ResealOptions) (*Resealer, error) {
	if objs == nil {
		return nil, fmt.Errorf("%w: Objects are required", ErrArgument)
	}
	return t.resealer(ctx, job, streams{objs}, opts)
}

func (t *Tenant) resealer(ctx context.Context, job string, src recordSource, opts *ResealOptions) (*Resealer, error) {
	r, err := t.newResealer(job, src, opts)
	if err != nil {
		return nil, err
	}
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	_, err = c.readReseal(ctx, job)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (t *Tenant) newResealer(job string, src recordSource, opts *ResealOptions) (*Resealer, error) {
	if opts == nil {
		opts = &ResealOptions{}
	}
	r := &Resealer{t: t, id: job, src: src, opts: *opts, known: make(map[DataKeyID]uint64)}
	r.opts.PerSecond, r.opts.Page = cmp.Or(opts.PerSecond, 1000), cmp.Or(opts.Page, 100)
	switch {
	case r.opts.PerSecond < 1 || r.opts.PerSecond > 1_000_000:
		return nil, fmt.Errorf("%w: PerSecond must be 1 to 1000000", ErrArgument)
	case r.opts.Page < 1 || r.opts.Page > MaxListLimit:
		return nil, fmt.Errorf("%w: Page must be 1 to %d", ErrArgument, MaxListLimit)
	}
	r.bucket = budget.Bucket{Every: time.Second / time.Duration(r.opts.PerSecond), Burst: max(1, r.opts.PerSecond/10)}
	return r, nil
}

// readReseal reads a job that must be a re-sealing.
func (t *tenantCache) readReseal(ctx context.Context, id string) (*jobItem, error) {
	j, err := t.readJob(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case j.Type != JobReseal:
		return nil, fmt.Errorf("%w: the job is no re-sealing", ErrArgument)
	case !j.Reseal.ok():
		return nil, errDamaged
	}
	return j, nil
}

// Step looks at the next records of a shard, and re-seals those that are due. cursor says where: "" is the beginning, and next is where to go on,
// also beside an error. done: nothing is left to do in the shard, now and later.
//
// It is bounded by Page, and may be repeated: what has been replaced is not due any more. Two at once on one shard do no harm, and
// what each has done counts; but two cursors of one shard count the same records twice. Keep the newest, and give it to
// [Resealer.Checkpoint] now and then.
//
// When a shard has been passed over, it must not be proved before other processes have heard of the rotation, which takes a MaxAge; and if
// the pass that should have proved it found a record due, the next one begins after a rest, of a second first and a minute at last. A step
// before that waits for a second at most, and returns.
//
// The error is ErrJobCancelled, ErrJobNotFound, ErrArgument, what the Source returned, or one of Seal's: then try again later. That a record is bad is none.
func (r *Resealer) Step(ctx context.Context, shard int, cursor string) (next string, done bool, err error) {
	ctx, t, leave, err := r.t.open(withBackground(ctx))
	if err != nil {
		return cursor, false, err
	}
	defer leave()
	j, err := t.readReseal(ctx, r.id)
	if err != nil {
		return cursor, false, err
	}
	if shard < 0 || shard >= j.Reseal.Shards {
		return cursor, false, fmt.Errorf("%w: the job has shards 0 to %d", ErrArgument, j.Reseal.Shards-1)
	}
	c, err := parseCursor(cursor, r.id, shard)
	switch {
	case err != nil:
		return cursor, false, err
	case c.Done || j.State == JobDone:
		return cursor, true, nil
	case j.State == JobCancelled:
		return cursor, false, ErrJobCancelled
	}
	s, err := t.readShard(ctx, j, shard)
	if err != nil {
		return cursor, false, err
	}
	if c.After == "" {
		c.After = s.After
	}
	if c.Begun.IsZero() {
		if wait := c.waits(j.Reseal.Settled, t.k.clock.Now().Wall); wait > 0 {
			sleep(ctx, min(wait, time.Second))
			return cursor, false, ctx.Err()
		}
		c.Begun = t.k.clock.Now().Wall.UTC()
	}
	if t.k.perOperation { // what is due is told by the tenant's keys, of which this process may have heard last a long time ago
		if _, err := t.readState(ctx); err != nil {
			return cursor, false, err
		}
	}
	more, err := r.src.look(ctx, r, t, j, &c, s.Last)
	if !more && err == nil {
		c.passed(j.Reseal.Settled, t.k.clock.Now().Wall.UTC())
	}
	return c.String(), c.Done, err
}

// pay waits until n more records may be re-sealed.
func (r *Resealer) pay(ctx context.Context, now time.Duration, n int) error {
	var wait time.Duration
	r.mu.Lock()
	for range n {
		wait, _ = r.bucket.Take(now, 1<<62)
	}
	r.mu.Unlock()
	if wait > 0 && !sleep(ctx, wait) {
		return ctx.Err()
	}
	return nil
}

// maxKnown bounds the generations that a Resealer remembers; 40 bytes each.
const maxKnown = 1 << 16

// generation returns that of a data key of the Store, and 0 if it is none of this purpose, or not readable.
func (r *Resealer) generation(ctx context.Context, t *tenantCache, purpose string, id DataKeyID) (uint64, error) {
	r.mu.Lock()
	g, ok := r.known[id]
	r.mu.Unlock()
	if ok {
		return g, nil
	}
	item, _, err := t.readDataKey(ctx, purpose, id)
	switch {
	case err == nil:
	case err == ErrNotFound, err == ErrOpen, err == errDataKey:
		return 0, nil // opening it will tell
	default:
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[id] = item.Generation
	return item.Generation, nil
}

// due reports whether a record has to be sealed anew, by the header of its envelope, and the generation of its data key, 0 if the Store does
// not know it. What is no envelope is due: then it is named.
func (r *Resealer) due(ctx context.Context, t *tenantCache, j *jobItem, purpose string, h Header, err error) (bool, uint64, error) {
	if err != nil || h.Tenant != t.tenant {
		return true, 0, nil
	}
	g, err := r.generation(ctx, t, cmp.Or(purpose, "default"), h.DataKey)
	if g == 0 && err == nil && len(h.Recipients) > 0 {
		is, err := t.dueCarried(ctx, h)
		return is, 0, err
	}
	return g < j.Reseal.Generation, g, err
}

// dueCarried reports whether an envelope is due that carries its data key. With PerOperation it is none, unless a key has wrapped it that is not
// the tenant's: a job that passes over that would say that nothing is left of another's.
func (t *tenantCache) dueCarried(ctx context.Context, h Header) (bool, error) {
	if !t.k.perOperation {
		return true, nil
	}
	s, _ := t.knows(entryID{})
	if s == nil {
		var err error
		if s, err = t.readState(ctx); err != nil {
			return false, err
		}
	}
	keys := s.keys()
	return slices.ContainsFunc(h.Recipients, func(r Recipient) bool { return !slices.Contains(keys, r.Key) }), nil
}

// bad returns what is told of a record that could not be re-sealed because of err, if it is about that record only.
func bad(key string, err error, sealing bool) (RecordFailure, bool) {
	switch {
	case errors.Is(err, ErrArgument), !sealing && (errors.Is(err, ErrOpen) || errors.Is(err, ErrInternal) || errors.Is(err, errDataKey)):
		return RecordFailure{Key: key, Code: Code(err), Why: err.Error()}, true
	}
	return RecordFailure{}, false
}

// failed counts a bad record, and tells it.
func (r *Resealer) failed(c *resealCursor, f RecordFailure) {
	c.failed(f)
	if r.opts.OnFailure != nil {
		r.opts.OnFailure(f)
	}
}

var (
	errInClear = fmt.Errorf("%w: it is in clear, and the job does not adopt", ErrArgument)
	// errNoValue is of what a Source gives no value, as it does where nobody can tell which one counts.
	errNoValue = fmt.Errorf("%w: the source gives no value for it, as if it were sealed and in clear at once", ErrMalformed)
)
