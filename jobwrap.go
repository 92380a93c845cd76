package byok

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/byok-go/byok/internal/format"
)

// piece is one data key of a batch.
type piece struct {
	item Item
	key  dataKeyItem
	id   DataKeyID
	w    wrapping // of key.Header, which is the one that opens now, also if the Store has it as Next
	next wrapping // of key.Next; none if it has none

	done    bool
	damaged bool // it cannot be wrapped anew, and nothing of it has changed
	// unreadable: damaged, since it is no data key, or KMS says that it is no wrapped key. Else it is something that must not be.
	unreadable bool
	told       bool // an event has told of it
	method     string
	err        error // why the job cannot go on
}

// pieces reads the next data keys of the tenant, which has keys, after an id.
func (t *tenantCache) pieces(ctx context.Context, keys []KeyID, after string, n int) (out []*piece, err error) {
	for i, err := range t.list(ctx, prefixDataKey, after, n) {
		if err != nil {
			return nil, err
		}
		out = append(out, t.piece(i, keys))
	}
	return out, nil
}

// piece parses an item as strictly as readDataKey does.
func (t *tenantCache) piece(i Item, keys []KeyID) *piece {
	p := &piece{item: i}
	ok := p.id.UnmarshalText([]byte(strings.TrimPrefix(i.ID, prefixDataKey))) == nil && decodeItem(i.Value, &p.key) == nil
	if ok = ok && format.ValidPurpose(p.key.Purpose); ok && p.key.Next != nil {
		p.next, ok = p.key.next(t.tenant, p.id)
	}
	if ok {
		p.w, ok = p.key.settle(t.tenant, p.id, keys)
	}
	p.damaged, p.unreadable = !ok, !ok
	return p
}

// ready reports whether the job has nothing to do with the data key any more.
func (p *piece) ready(s *state, j *jobItem) bool {
	switch {
	case !p.w.opens(s.keys()): // given up when another key was registered: nobody can wrap it anew
		return true
	case j.Type == JobMove:
		return p.key.Job == j.id && s.Job.To.wraps(p.next)
	}
	return p.key.Job == j.id || p.key.Generation >= j.NewVersion // made since, under the current key material
}

// stepWrap wraps the next data keys anew, or ends the pass over all of them.
func (t *tenantCache) stepWrap(ctx context.Context, s *state, j *jobItem) error {
	if j.Cursor == "" {
		j.Total, j.Looked, j.Failed, j.Unreadable = int64(s.DataKeys), 0, 0, nil
	}
	batch, err := t.pieces(ctx, s.keys(), j.Cursor, jobBatch)
	switch {
	case err != nil:
		return err
	case len(batch) == 0 && j.Type == JobMove:
		return t.switchKey(ctx, s, j)
	case len(batch) == 0:
		return t.finishJob(ctx, j)
	}
	if err := t.wrapBatch(ctx, s, j, batch); err == ErrConflict {
		return err
	} else if err != nil {
		return t.pauseJob(ctx, s, j, nil, err)
	}
	var writes []Item
	var blocked error
	for _, p := range batch {
		switch {
		case p.done:
			writes = append(writes, encodeItem(p.item.Ref, p.item.Revision, p.key))
			j.Done, j.Method = j.Done+1, p.method
		case !p.damaged && p.err == nil && p.key.Next != nil && p.key.Job != j.id: // of a move that was cancelled
			p.key.Next, p.key.NextMoved = nil, nil
			writes = append(writes, encodeItem(p.item.Ref, p.item.Revision, p.key))
		case p.damaged:
			t.tellUnreadable(ctx, j, p)
		case p.err != nil && (blocked == nil || errors.Is(p.err, ErrKeyRevoked)): // a denial is the truth, whoever else did not answer
			blocked = p.err
		}
	}
	if blocked != nil { // what was done is kept, and the batch is looked at again
		return t.pauseJob(ctx, s, j, writes, blocked)
	}
	for _, p := range batch {
		if p.damaged {
			j.named(p)
		}
	}
	j.Looked, j.Cursor = j.Looked+int64(len(batch)), batch[len(batch)-1].item.ID
	j.State, j.Why, j.Pauses, j.NotBefore = JobRunning, "", 0, time.Time{}
	j.LeaseUntil = t.k.clock.Now().Wall.UTC().Add(jobLease)
	return t.writeJob(ctx, j, writes...)
}

// wrapBatch wraps what needs it. Its error is why KMS may not be asked at all; else each piece has its own.
func (t *tenantCache) wrapBatch(ctx context.Context, s *state, j *jobItem, batch []*piece) error {
	todo := slices.DeleteFunc(slices.Clone(batch), func(p *piece) bool { return p.damaged || p.ready(s, j) })
	if len(todo) == 0 {
		return nil
	}
	ws, err := t.wrappers(s, j)
	if err != nil {
		return err
	}
	// One comes first, alone, while it is not known whether KMS lets us in, or lets us rewrap: else as
	// many would be refused as there are at once.
	if j.Method == "" || j.State == JobPaused || slices.ContainsFunc(ws, (*wrapper).denied) {
		if t.wrapPiece(ctx, s, j, ws, todo[0]); todo[0].err != nil {
			return todo[0].err
		}
		todo = todo[1:]
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, jobParallel)
	for _, p := range todo {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			t.wrapPiece(ctx, s, j, ws, p)
		})
	}
	wg.Wait()
	return nil
}

// wrappers returns what wraps: of a rotation, from each key of the tenant to itself, and of a move, from the one key to each that
// is new. None of a move that needs the data key in hand; see wrapOpened.
func (t *tenantCache) wrappers(s *state, j *jobItem) (ws []*wrapper, err error) {
	if j.Type == JobMove && inHand(s) {
		return nil, nil
	}
	jobs := t.background()
	for _, key := range s.keys() {
		c, err := t.ask(key, nil)
		if err == ErrOpen { // no key of the tenant's any more: the state that says so is begun with anew
			err = ErrConflict
		}
		if err != nil {
			return nil, err
		}
		if j.Type != JobMove {
			ws = append(ws, &wrapper{t: t, from: key, to: key, fromAccess: c.access, toAccess: c.access, jobs: jobs})
			continue
		}
		for _, to := range s.Job.To.keys() {
			if to != key {
				ws = append(ws, &wrapper{t: t, from: key, to: to, fromAccess: c.access, jobs: jobs}) // which is not the tenant's yet
			}
		}
	}
	for _, w := range ws {
		w.refused.Store(j.Method == MethodUnwrap)
	}
	return ws, nil
}

// inHand reports whether a move has to have each data key unwrapped here: under several keys all of them have a say,
// and shares have to be made for PolicyAll.
func inHand(s *state) bool { return s.Policy != "" || s.Job.To.all() }

// wrapPiece wraps one data key anew, and leaves the event of it. Nothing is written.
func (t *tenantCache) wrapPiece(ctx context.Context, s *state, j *jobItem, ws []*wrapper, p *piece) {
	event := Event{Op: OpRewrap, Scope: Scope{t.tenant, p.key.Purpose}, Key: j.To.Key, DataKey: p.id, Version: p.key.Generation,
		Actor: j.Actor, Reason: j.Type + " " + j.id}
	var fresh wrapping
	var err error
	if j.Type == JobMove && inHand(s) {
		fresh, err = t.wrapOpened(ctx, s, p, &event)
	} else {
		fresh, err = t.wrapEach(ctx, s, ws, p, &event)
	}
	var header []byte
	if err == nil {
		header, _, err = fresh.headers(t.tenant, p.id)
		event.Reason += ": " + p.method
	}
	_, err = t.k.conclude(ctx, event, err)
	switch {
	case err == nil:
		p.done = true
		if p.key.Job = j.id; j.Type == JobMove {
			if made := p.w.said(); made != fresh.policy || p.key.Made != 0 {
				p.key.Made = made
			}
			p.key.Next, p.key.NextMoved = header, fresh.moved
		} else {
			p.key.Header, p.key.Next, p.key.NextMoved = header, nil, nil
		}
	case errors.Is(err, ErrOpen), errors.Is(err, ErrInternal):
		p.damaged, p.unreadable, p.told = true, errors.Is(err, ErrOpen), true
	default:
		p.err = err
	}
}

// wrapEach does so key by key. Each wrapping is a whole data key, or a share that stays what it is.
func (t *tenantCache) wrapEach(ctx context.Context, s *state, ws []*wrapper, p *piece, event *Event) (fresh wrapping, err error) {
	moves := s.Job.Type == JobMove
	if fresh = (wrapping{policy: p.w.policy, recipients: slices.Clone(p.w.recipients)}); moves {
		// What the old key has wrapped stays as it is, if it is of the new ones: with each of these it is asked for it.
		fresh.recipients = slices.DeleteFunc(fresh.recipients, func(r format.Recipient) bool { return !slices.Contains(s.Job.To.keys(), keyOf(r)) })
	}
	for _, w := range ws {
		old := p.w.by(w.from)
		if old == nil {
			continue
		}
		r, err := w.wrap(ctx, old, t.context(p.key.Purpose, p.id))
		event.Calls = append(event.Calls, r.calls...)
		if err != nil {
			return wrapping{}, err
		}
		if event.Proof = r.calls[len(r.calls)-1].RequestID; p.method != MethodUnwrap { // of several, one that had to be
			p.method = r.method
		}
		if i := fresh.index(w.to); i >= 0 {
			fresh.recipients[i].Wrapped = r.wrapped
		} else {
			fresh.recipients = append(fresh.recipients, recipient(w.to, r.wrapped))
		}
	}
	fresh.sort()
	return fresh, nil
}

// finishJob ends a job that has nothing left to do.
func (t *tenantCache) finishJob(ctx context.Context, j *jobItem) error {
	event := t.k.stamp(Event{Op: OpJob, Outcome: OutcomeSuccess, Actor: j.Actor, Scope: Scope{Tenant: t.tenant}, Key: j.To.Key, Version: j.NewVersion})
	_, err := t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		if err := t.fenced(ctx, s, j); err != nil {
			return change{}, err
		}
		now := *j
		event.Reason = fmt.Sprintf("%s %s is done: %d data keys wrapped anew, %d damaged", j.Type, j.id, j.Done, j.Failed)
		writes, err := t.endJob(ctx, s, &now, JobDone)
		return change{quiet: true, events: []Event{event}, writes: writes}, err
	})
	return notAudited(err)
}

// fenced is for a change that ends a step: ErrConflict if somebody else has written the job meanwhile.
func (t *tenantCache) fenced(ctx context.Context, s *state, j *jobItem) error {
	now, err := t.readJob(ctx, j.id)
	switch {
	case err != nil:
		return err
	case now.revision != j.revision || s.Job == nil || s.Job.ID != j.id:
		return ErrConflict
	}
	return nil
}

// notAudited makes a success of a step that took effect, and whose event is in the outbox.
func notAudited(err error) error {
	if errors.Is(err, ErrNotAudited) {
		return nil
	}
	return err
}
