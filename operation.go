package byok

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// operation is one Seal or Open under way. It is the memory that they need beside their
// result, and is used again: so a hot operation allocates what AES, HMAC and its caller take.
type operation struct {
	job
	bound []byte          // what the payload is bound to
	ids   strings.Builder // of events
	lane  int             // of every lock that it takes
}

// job is what an operation is about. Nothing of it outlives the operation.
type job struct {
	t            *tenantCache
	scope        Scope
	dst, in, aad []byte // the caller's
	seals        bool
	once         bool // a data key that an envelope carries is for it only, and not to be kept
	g            grant
	out          []byte // dst and the result

	// Of what is opened.
	header        format.Header
	core, payload []byte
	size          int
}

var operations = sync.Pool{New: func() any { return &operation{lane: nextLane()} }}

// begin checks what every operation checks first. Whoever gets an operation ends it.
func (k *Keeper) begin(s Scope, dst, in, aad []byte) (*operation, error) {
	s, err := s.check(aad)
	if err != nil {
		return nil, err
	}
	if k.closed.Load() {
		return nil, ErrClosed
	}
	t := k.cache(s.Tenant)
	o := operations.Get().(*operation)
	if !t.enter(o.lane) {
		operations.Put(o)
		return nil, ErrClosed
	}
	o.job = job{t: t, scope: s, dst: dst, in: in, aad: aad}
	return o, nil
}

// parse reads the envelope that is to be opened. named is the data key that it says, if it is of this tenant.
func (o *operation) parse() (named DataKeyID, err error) {
	h := &o.header
	h.Tenant = o.scope.Tenant // saves Parse the string
	o.core, o.payload, err = h.Parse(o.in)
	switch {
	case err != nil:
		return named, malformed(err)
	case h.Tenant != o.scope.Tenant:
		return named, ErrOpen
	}
	if o.size, err = floe.PlaintextSize(o.payload); err != nil { // before KMS is asked for a key to it
		err = opaque(err)
	}
	return h.DataKey, err
}

func (o *operation) end() {
	o.t.leave(o.lane)
	o.job = job{}
	clear(o.bound)
	operations.Put(o)
}

// find implements borrower.
func (o *operation) find(ctx context.Context) (g grant, err error) {
	if o.seals {
		g, err = o.t.grantSeal(ctx, o.scope.Purpose, int64(len(o.in)), o.lane)
	} else if o.once && o.header.Policy != format.PolicyREF {
		g, err = o.t.openAlone(ctx, o.scope.Purpose, &o.header)
	} else {
		g, err = o.t.grantOpen(ctx, o.scope.Purpose, &o.header, o.lane)
	}
	o.g = g
	return g, err
}

// withKey implements user.
func (o *operation) withKey(raw []byte, shared *floe.Keyed) error {
	if o.seals {
		return o.seal(raw, shared)
	}
	return o.open(raw, shared)
}

func (o *operation) seal(raw []byte, shared *floe.Keyed) error {
	header, core, err := o.g.header(o.scope.Tenant)
	if err != nil {
		return err
	}
	o.bind(core)
	// The header is written before the plaintext is read, so the room for both is looked at.
	size := max(0, floe.SealedSize(floe.Params{}, len(o.in)))
	dst := append(floe.Reserve(o.dst, len(header)+size, o.in, o.aad), header...)
	o.out, err = shared.Seal(dst, raw, floe.Params{}, o.bound, o.in)
	return err
}

func (o *operation) open(raw []byte, shared *floe.Keyed) (err error) {
	o.bind(o.core)
	// All of sealed is in the way, and the aad: if the result is withheld, they are still needed.
	o.out, err = shared.Open(floe.Reserve(o.dst, o.size, o.in, o.aad), raw, o.bound, o.payload)
	return err
}

func (o *operation) bind(core []byte) {
	o.bound = format.AppendPayloadAAD(o.bound[:0], core, o.scope.Purpose, o.aad)
}

// deliver records the outcome, and returns what the caller gets.
func (o *operation) deliver(ctx context.Context, e Event, err error) ([]byte, error) {
	now := o.g.seen.Wall.UTC()
	if err != nil || o.g.seen == (lease.Time{}) {
		now = o.t.k.clock.Now().Wall.UTC()
	}
	e.ID, e.Time = o.t.k.ids.nextIn(&o.ids, now), now
	if err = o.t.deliver(ctx, e, o.g, err); err != nil {
		if o.out != nil {
			clear(o.out[len(o.dst):])
		}
		return nil, err
	}
	last := &o.t.opened
	if o.seals {
		last = &o.t.sealed
	}
	// To the millisecond: what a core writes, the others have to fetch.
	if ns, was := now.UnixNano(), last.Load(); ns < was || ns-was >= int64(time.Millisecond) {
		last.Store(ns)
	}
	return o.out, nil
}

// enter begins an operation that Close waits for. It fails once Close has begun. Unlike
// Keeper.enter it shares nothing with other tenants, and little with other cores.
func (t *tenantCache) enter(lane int) bool {
	t.mu[lane].under.Add(1)
	if t.k.closed.Load() { // after Add: either we see Close, or Close sees us
		t.leave(lane)
		return false
	}
	return true
}

func (t *tenantCache) leave(lane int) {
	if t.mu[lane].under.Add(-1) == 0 && t.k.closed.Load() {
		t.k.gate.Lock()
		defer t.k.gate.Unlock()
		t.k.idle.Broadcast()
	}
}

// wait returns when no operation is under way. Close has begun.
func (t *tenantCache) wait() {
	t.k.gate.Lock()
	defer t.k.gate.Unlock()
	for i := range t.mu {
		for t.mu[i].under.Load() != 0 {
			t.k.idle.Wait()
		}
	}
}
