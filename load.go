package byok

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// permitted reads the tenant's state, and when it was asked for: the lease that
// comes of it counts from there. The error is why nothing may be done.
func (t *tenantCache) permitted(ctx context.Context) (read lease.Time, s *state, err error) {
	read = t.k.clock.Now()
	if s, err = t.readState(ctx); err == nil {
		err = s.usable(t.k)
	}
	if err == nil {
		err = t.k.fleet.refusal()
	}
	return read, s, err
}

// loadCurrent loads the data key that seals for a purpose, making it on first use.
func (t *tenantCache) loadCurrent(ctx context.Context, purpose string) (*entry, error) {
	return t.fly(ctx, flightID{current: true, purpose: purpose}, OpLease, t.again(func(ctx context.Context, read lease.Time, s *state) (*entry, error) {
		if err := t.k.maySeal(s.keySet); err != nil { // also under a data key that another Keeper has made
			return nil, err
		}
		var g generationItem
		_, err := t.k.getJSON(ctx, refGeneration(t.tenant, purpose, s.Generation), &g)
		switch {
		case err == ErrNotFound:
			return t.create(ctx, purpose, read, s)
		case err != nil:
			return nil, err
		}
		e, err := t.loadStored(ctx, purpose, g.DataKey, OpLease)
		switch {
		case err == ErrNotFound:
			err = fmt.Errorf("%w: the current data key is missing", ErrStore)
		case err == nil && e.generation == s.Generation && !s.seals(t.wrappingOf(e)):
			// Whoever can write to the Store may have put less than all keys into it.
			e, err = nil, errWrapping
		}
		return e, err
	}))
}

// again makes a load of f, which gets what is permitted; see afresh.
func (t *tenantCache) again(f func(ctx context.Context, read lease.Time, s *state) (*entry, error)) func(context.Context) (*entry, error) {
	return func(ctx context.Context) (*entry, error) { return afresh(ctx, t, f) }
}

// afresh does f with what is permitted, and begins anew if the tenant's keys are others by the end: a Move
// that switches fails nobody.
func afresh[T any](ctx context.Context, t *tenantCache, f func(ctx context.Context, read lease.Time, s *state) (T, error)) (out T, err error) {
	for try := 1; ; try++ {
		read, s, err := t.permitted(ctx)
		if err != nil {
			return out, err
		}
		out, err = f(ctx, read, s)
		switch err {
		case ErrOpen, ErrKeyUnavailable, errReplaced, errWrapping:
		default:
			return out, err
		}
		if try == loadTries {
			return out, err
		}
		if now, rerr := t.readState(ctx); rerr != nil || now.sameKeys(s) {
			return out, err
		}
	}
}

// loadTries bounds how many moves in a row a load bears with.
const loadTries = 3

// errWrapping: what should seal can be opened with less than the tenant's keys, or with others.
var errWrapping = newError(ErrStore, "the store failed: the current data key is not wrapped by the tenant's keys")

// errReplaced: the tenant's key is another one by now.
var errReplaced = newError(ErrKeyUnavailable, "the key was replaced meanwhile")

// loadStored loads a data key of the Store. ErrNotFound is authoritative.
func (t *tenantCache) loadStored(ctx context.Context, purpose string, id DataKeyID, op Op) (*entry, error) {
	return t.fly(ctx, flightID{purpose: purpose, dataKey: id}, op, t.again(func(ctx context.Context, read lease.Time, s *state) (*entry, error) {
		item, w, err := t.readDataKey(ctx, purpose, id)
		if err != nil {
			return nil, err
		}
		e := t.newEntry(entryID{purpose: purpose, dataKey: id, key: s.Key}, item.Generation)
		return t.unwrap(ctx, e, w, read, op)
	}))
}

// loadInside loads a data key that only the envelope itself holds.
func (t *tenantCache) loadInside(ctx context.Context, purpose string, id DataKeyID, w wrapping, op Op) (*entry, error) {
	hash := w.hash()
	return t.fly(ctx, flightID{purpose: purpose, dataKey: id, wrapped: hash}, op, t.again(func(ctx context.Context, read lease.Time, s *state) (*entry, error) {
		return t.unwrap(ctx, t.newEntry(entryID{purpose, id, s.Key, hash}, 0), w, read, op)
	}))
}

func (t *tenantCache) newEntry(id entryID, generation uint64) *entry {
	core, err := (&format.Header{Suite: format.SuiteFLOE, Policy: format.PolicyREF, DataKey: id.dataKey, Tenant: t.tenant}).AppendCore(nil)
	if err != nil {
		panic("byok: internal error: " + err.Error()) // a tenant's name is checked before it gets a cache
	}
	return &entry{id: id, generation: generation, core: core}
}

// unwrap asks KMS for a data key and installs it.
func (t *tenantCache) unwrap(ctx context.Context, e *entry, w wrapping, read lease.Time, op Op) (*entry, error) {
	p := &t.budget.known
	if e.generation == 0 && op != OpRenew { // what has opened once is no junk
		p = &t.budget.unknown
	}
	q, err := t.inquire(ctx, e.id.purpose, e.id.dataKey, p)
	if err == nil {
		e.dek, err = q.open(ctx, w)
	}
	if e.wrapped = w; err != nil && !q.asked {
		return nil, err
	}
	return t.finish(ctx, q, e, read, op, err)
}

// create makes the first data key of a purpose and generation. Whoever's item
// gets into the Store first wins; it is durable before anything is sealed with it (I19).
func (t *tenantCache) create(ctx context.Context, purpose string, read lease.Time, s *state) (*entry, error) {
	id := newDataKeyID()
	e := t.newEntry(entryID{purpose: purpose, dataKey: id, key: s.Key}, 0)
	q, err := t.inquire(ctx, purpose, id, &t.budget.known)
	if err == nil {
		e.dek, e.wrapped, err = q.make(ctx)
	}
	var header []byte
	if err == nil {
		header, _, err = e.wrapped.headers(t.tenant, id)
	}
	if err != nil && !q.asked {
		return nil, err
	}
	if err != nil {
		return t.finish(ctx, q, e, read, OpLease, err)
	}
	e.witness = q.witness()
	event := t.k.stamp(Event{Op: OpLease, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Scope: Scope{t.tenant, purpose},
		Key: e.key, DataKey: id, Reason: "created", Proof: e.request, Calls: q.calls})
	if q.leftOut != nil {
		event.Reason += fmt.Sprintf("; not wrapped by %v", q.leftOut)
	}
	l := t.k.limitsOf(id)
	use := usageItem{layoutVersion, min(l.blockMessages, l.messages), min(l.blockBytes, l.bytes)} // who makes it will use it
	var winner DataKeyID
	_, err = t.change(ctx, false, func(ctx context.Context, now *state) (change, error) {
		if err := now.usable(t.k); err != nil {
			return change{}, err
		}
		if !now.sameKeys(q.state) {
			return change{}, errReplaced
		}
		var g generationItem
		ref := refGeneration(t.tenant, purpose, now.Generation)
		if _, err := t.k.getJSON(ctx, ref, &g); err != ErrNotFound {
			if err == nil {
				err, winner = errLostRace, g.DataKey
			}
			return change{}, err
		}
		now.DataKeys++
		e.generation, event.Version = now.Generation, now.Generation
		ch := change{quiet: true, events: []Event{event}, writes: []Item{
			encodeItem(ref, 0, generationItem{layoutVersion, id}),
			encodeItem(refDataKey(t.tenant, id), 0, dataKeyItem{V: layoutVersion, Purpose: purpose, Generation: now.Generation, CreatedAt: event.Time, Header: header}),
			encodeItem(refUsage(t.tenant, id), 0, use),
		}}
		t.material(now, event, &ch)
		return ch, nil
	})
	switch {
	case err == nil:
		t.mu.Lock()
		t.quota(id, e.generation).grant(use, use.Messages, use.Bytes)
		t.mu.Unlock()
		for _, key := range q.leftOut {
			t.k.warn(t.tenant, Warning{Kind: WarnKeyLeftOut, Key: key})
		}
		if out := t.install(q, e, read); out != nil {
			return out, nil
		}
		err = t.lost()
	case errors.Is(err, ErrNotAudited):
		err = ErrAudit // the data key exists and its event will come; nothing is sealed before
	default:
		// The change did not take place, nor its event, but the KMS call did.
		if event.Reason = "not kept: another process was first"; err != errLostRace {
			event.Reason = ""
			event.fail(err)
		}
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		if rerr := t.k.record(rctx, event); rerr != nil {
			err = rerr
		}
	}
	e.dek.Wipe()
	if err == errLostRace {
		return t.loadStored(ctx, purpose, winner, OpLease)
	}
	return nil, err
}

// errLostRace: another process made the data key first. It never leaves the package.
var errLostRace = fmt.Errorf("%w: the data key exists already", ErrConflict)

// ask returns the means to call KMS under a key of the tenant's, with the first
// request paid out of p, or the refusal: key is none of them, it is too early to
// ask about it again, or the budget is used up.
func (t *tenantCache) ask(key KeyID, p *pool) (*caller, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, now := t.accessOf(key), t.k.clock.Now()
	if a == nil {
		return nil, ErrOpen
	}
	if err := a.wait(); err != nil {
		return nil, err
	}
	// Before Ask: what cannot pay must not use up the one question of a back-off step.
	due, ke := p.spend(key, now.Mono)
	if ke != nil {
		return nil, ke
	}
	if !a.lease.Ask(now) {
		return nil, a.denial()
	}
	return &caller{k: t.k, tenant: t.tenant, key: key, access: a, pool: p, paid: true, due: due}, nil
}

// unwrapBlob is unwrap that remembers whether KMS refused the wrapped key itself.
func (c *caller) unwrapBlob(ctx context.Context, blob entryID, wrapped []byte, ec EncryptionContext) (result, error) {
	r, err := c.unwrap(ctx, wrapped, ec)
	var ke *KeyError
	if bad := errors.As(err, &ke) && ke.Class == ClassBlob; bad || err == nil {
		c.access.t.blobs.note(blob, c.k.clock.Now().Mono, !bad)
	}
	return r, err
}

// restore leaves the denied state, if the key is in it: what was denied must
// succeed, each by itself, before one success is believed. dek, wrapped and ec
// are those of the success just had.
func (c *caller) restore(ctx context.Context, wrapped []byte, dek *DEK, ec EncryptionContext) error {
	missing := c.access.missing()
	if missing&lease.Generate != 0 {
		other := ec.Clone()
		other[ContextDataKey] = newDataKeyID().String() // nothing will ever be sealed with it
		r, err := c.generate(ctx, other)
		if err != nil {
			return err
		}
		r.dek.Wipe()
	}
	if missing&lease.Unwrap != 0 {
		r, err := c.unwrap(ctx, wrapped, ec)
		if err != nil {
			return err
		}
		r.dek.Wipe()
	}
	if missing&lease.Wrap != 0 {
		if _, err := c.wrap(ctx, dek, ec); err != nil {
			return err
		}
	}
	return nil
}

// overtaken reports whether a denial has come since a call was begun. Its success is
// worth nothing then, and no reason to ask again: with many loads under way each would be
// a question more, and a step more of the back-off.
func (a *access) overtaken(c lease.Call) bool {
	a.t.mu.RLock()
	defer a.t.mu.RUnlock()
	return a.lease.Overtaken(c)
}

func (a *access) missing() lease.Ops {
	a.t.mu.RLock()
	defer a.t.mu.RUnlock()
	return a.lease.Missing()
}

// finish records the event of a load and then installs e, or wipes it. The
// event comes first: a lease that is not audited serves nobody.
func (t *tenantCache) finish(ctx context.Context, q *inquiry, e *entry, read lease.Time, op Op, err error) (*entry, error) {
	e.witness = q.witness()
	_, err = t.k.conclude(ctx, Event{Op: op, Scope: Scope{t.tenant, e.id.purpose}, Key: e.key, DataKey: e.id.dataKey,
		Version: e.generation, Proof: e.request, Calls: q.calls}, err)
	if err == nil {
		if out := t.install(q, e, read); out != nil {
			t.used.touch(e.generation, t.k.clock.Now().Wall)
			return out, nil
		}
		err = t.lost()
	}
	e.dek.Wipe()
	return nil, err
}

// lost is why a data key that KMS gave us could not be installed.
func (t *tenantCache) lost() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.refusal(); err != nil {
		return err
	}
	return ErrKeyUnavailable // denied and permitted again meanwhile, or the tenant's keys are others by now
}

// renew renews the lease of a data key that is in use, ahead of its end, and
// does not wait for it. At most one load of it is under way, as always.
func (t *tenantCache) renew(ctx context.Context, e *entry, inside wrapping) {
	ctx, cancel := context.WithCancel(WithActor(ctx, "")) // nobody's wish
	cancel()                                              // a load does not depend on its ctx; waiting for it does
	if e.generation == 0 {
		_, _ = t.loadInside(ctx, e.id.purpose, e.id.dataKey, inside, OpRenew)
		return
	}
	_, _ = t.loadStored(ctx, e.id.purpose, e.id.dataKey, OpRenew)
}

func (t *tenantCache) context(purpose string, id DataKeyID) EncryptionContext {
	return t.k.context(t.tenant, purpose, id)
}

// context is the encryption context of a data key, exactly.
func (k *Keeper) context(tenant, purpose string, id DataKeyID) EncryptionContext {
	return EncryptionContext{
		ContextTenant:  tenant,
		ContextService: k.service,
		ContextPurpose: purpose,
		ContextDataKey: id.String(),
	}
}

// sameKey compares two data keys in constant time.
func sameKey(a, b *DEK) (same bool) {
	_ = a.Use(func(x []byte) error {
		return b.Use(func(y []byte) error {
			same = subtle.ConstantTimeCompare(x, y) == 1
			return nil
		})
	})
	return same
}
