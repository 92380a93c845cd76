package byok

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// sealLimits are how much one data key may seal (I15). A process reserves blocks of
// them from the Store before it uses them, and counts exactly what it uses.
type sealLimits struct{ messages, bytes, blockMessages, blockBytes int64 }

// defaultLimits are far below what FLOE allows (2^65 bytes under one key, in any
// number of messages), and cost nothing, since data keys roll over by themselves. Both
// are 4096 blocks; messages of 64 KiB, one segment, use up both parts of a block at once.
var defaultLimits = sealLimits{
	messages: 1 << 32, blockMessages: 1 << 20,
	bytes: 1 << 48, blockBytes: 1 << 36, // 256 TiB, 64 GiB
}

// short returns how much a process that holds have of a block should reserve: once less
// than half is left, as much as makes it whole. So it never holds more than a block, but
// for a message that needs more, and a crash wastes no more.
func short(have, block int64) int64 {
	if have >= max(1, block/2) {
		return 0
	}
	return block - max(0, have)
}

// maxQuotas bounds the data keys of one tenant whose remainder is kept. There is one
// for each purpose in use, of about 150 bytes.
const maxQuotas = 4096

// fetchPause is how long a fetch ahead that failed is not tried again.
const fetchPause = time.Second

// quota is what this process may still seal with one data key. It outlives the cache's
// entry: else tenants that come and go would use up a block each time.
type quota struct {
	t          *tenantCache
	id         DataKeyID
	generation uint64

	messages, bytes atomic.Int64 // reserved, and not used yet
	spent           atomic.Bool  // the Store has no more for this data key
	fetching        atomic.Bool  // a fetch ahead is under way
	notBefore       atomic.Int64 // no fetch ahead before that, on the monotonic clock

	turn chan struct{} // holds one while the Store is asked; not a mutex, since it is held across I/O
	mu   sync.Mutex
	seen usageItem // newest in the Store
}

// usageItem says how much of a data key has been reserved, by all processes together.
type usageItem struct {
	V        int   `json:"v"`
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
}

func refUsage(tenant string, id DataKeyID) Ref {
	return Ref{partTenant(tenant), "use:" + id.String()}
}

// quota returns the quota of a data key that seals now. The caller holds mu for writing.
func (t *tenantCache) quota(id DataKeyID, generation uint64) *quota {
	q := t.quotas[id]
	if q == nil {
		for old := range t.quotas { // any: its remainder is wasted, as by a crash
			if len(t.quotas) < maxQuotas {
				break
			}
			delete(t.quotas, old)
		}
		q = &quota{t: t, id: id, generation: generation, turn: make(chan struct{}, 1)}
		t.quotas[id] = q
	}
	return q
}

// take uses up messages and bytes, or nothing. While another refusal is under way it
// may refuse although there is just enough; charge looks again.
func (q *quota) take(messages, bytes int64) bool {
	if q.messages.Add(-messages) >= 0 {
		if q.bytes.Add(-bytes) >= 0 {
			return true
		}
		q.bytes.Add(bytes)
	}
	q.messages.Add(messages)
	return false
}

// grant adds what u, which is in the Store now, has reserved for this process.
func (q *quota) grant(u usageItem, messages, bytes int64) {
	q.mu.Lock()
	if u.Messages >= q.seen.Messages && u.Bytes >= q.seen.Bytes {
		q.seen = u
	}
	q.mu.Unlock()
	q.messages.Add(messages)
	q.bytes.Add(bytes)
}

// errSpent: the data key's limit is reached, and the generation has moved on. Begun
// anew the operation finds the next data key.
var errSpent = newError(ErrKeyUnavailable, "the data key's limit is reached")

// charge uses up messages and bytes, reserving more first if need be. Its error is
// errSpent, or why nothing could be reserved: then nothing may be sealed.
func (q *quota) charge(ctx context.Context, messages, bytes int64) error {
	if q.take(messages, bytes) {
		if q.low() && !q.spent.Load() {
			q.fetchAhead(ctx)
		}
		return nil
	}
	if bytes > q.limits().bytes {
		return fmt.Errorf("%w: larger than all that one data key may seal", ErrArgument)
	}
	ctx, done, err := q.t.k.within(ctx)
	if err != nil {
		return err
	}
	defer done()
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return storeError(ctx.Err())
	}
	for !q.take(messages, bytes) {
		if q.spent.Load() {
			if !q.passed() { // else somebody who waited here before us has done it
				err = q.t.rollOver(ctx, q)
			}
			if err == nil {
				err = errSpent
			}
			return err
		}
		if err := q.reserve(ctx, bytes); err != nil {
			return err
		}
	}
	return nil
}

// passed reports whether the generation has moved on.
func (q *quota) passed() bool {
	q.t.mu.RLock()
	defer q.t.mu.RUnlock()
	return q.t.state.Generation != q.generation
}

func (q *quota) limits() sealLimits { return q.t.k.limitsOf(q.id) }

// low reports whether more should be fetched.
func (q *quota) low() bool {
	l := q.limits()
	return short(q.messages.Load(), l.blockMessages) > 0 || short(q.bytes.Load(), l.blockBytes) > 0
}

// fetchAhead reserves more in the background, so that no operation waits for it.
func (q *quota) fetchAhead(ctx context.Context) {
	k := q.t.k
	if int64(k.clock.Now().Mono) < q.notBefore.Load() || !q.fetching.CompareAndSwap(false, true) {
		return
	}
	if !k.enter() {
		return
	}
	go func() {
		defer k.leave()
		defer q.fetching.Store(false)
		ctx, cancel := k.detach(ctx, recordTimeout)
		defer cancel()
		select {
		case q.turn <- struct{}{}:
			defer func() { <-q.turn }()
		default: // somebody is at it
			return
		}
		err := q.reserve(ctx, 0)
		if err == nil && q.spent.Load() && k.schedule != (Schedule{}) && !q.passed() {
			err = q.t.rollOver(ctx, q) // before somebody has to wait for it, at the cost of less than half a block
		}
		if err != nil {
			q.notBefore.Store(int64(k.clock.Now().Mono + fetchPause))
		}
	}()
}

// reserve takes what is short, or as much as is left, out of the Store by
// compare-and-set; spent is the answer that nothing is. need is how many bytes
// there must be at least. If the answer to the write is lost, what it may have reserved
// is wasted. The caller has the turn.
func (q *quota) reserve(ctx context.Context, need int64) error {
	l, ref := q.limits(), refUsage(q.t.tenant, q.id)
	for try := range changeTries {
		if try > 0 {
			pause(ctx, try)
		}
		var u usageItem
		rev, err := q.t.k.getJSON(ctx, ref, &u)
		if err != nil && err != ErrNotFound {
			return err
		}
		q.mu.Lock()
		older := u.Messages < q.seen.Messages || u.Bytes < q.seen.Bytes
		q.mu.Unlock()
		if older {
			return errRolledBack // it would be granted twice
		}
		have := q.bytes.Load()
		wantM, wantB := short(q.messages.Load(), l.blockMessages), max(short(have, l.blockBytes), need-have)
		m, b := min(wantM, max(0, l.messages-u.Messages)), min(wantB, max(0, l.bytes-u.Bytes))
		if m == 0 && b == 0 {
			q.spent.Store(wantM > 0 || wantB > 0) // what has been used meanwhile says nothing of what the Store has left
			return nil
		}
		u = usageItem{layoutVersion, u.Messages + m, u.Bytes + b}
		switch err = q.t.k.store.Apply(ctx, encodeItem(ref, rev, u)); {
		case err == nil:
			q.t.k.stats.blocks.Add(1)
			q.grant(u, m, b)
			return nil
		case !errors.Is(err, ErrConflict):
			return storeError(err)
		}
	}
	return fmt.Errorf("%w: the data key's usage is being changed all the time", ErrStore)
}

// rollOver begins a new generation because a data key of q's has reached its limit,
// unless that has happened. The new data key is made on first use, as after any rotation.
func (t *tenantCache) rollOver(ctx context.Context, q *quota) error {
	event := t.k.stamp(Event{Op: OpRotate, Outcome: OutcomeSuccess, Reason: "a data key reached its limit",
		Scope: Scope{Tenant: t.tenant}, DataKey: q.id})
	_, err := t.change(ctx, false, func(_ context.Context, s *state) (change, error) {
		if err := s.usable(t.k); err != nil {
			return change{}, err
		}
		if s.Generation != q.generation {
			return change{}, errLostRace
		}
		s.Generation++
		s.LastRotationAt = event.Time
		event.Key, event.Version = s.Key, s.Generation
		return change{events: []Event{event}, writes: []Item{t.jobWrite(t.rotation(s.keySet, event, RotateDEK))}}, nil
	})
	switch {
	case err == errLostRace:
		return nil
	case errors.Is(err, ErrNotAudited):
		return ErrAudit // the generation has moved on, and its event will come
	}
	return err
}
