package byok

import (
	"context"
	"slices"

	"github.com/byok-go/byok/internal/format"
)

// wrapOpened wraps a data key for a move from or to several keys. It is unwrapped here, as for a lease: each key of the
// tenant is asked, and a denial by any of them is final. It leaves the event's requests.
func (t *tenantCache) wrapOpened(ctx context.Context, s *state, p *piece, event *Event) (fresh wrapping, err error) {
	q, err := t.inquireFor(ctx, p.key.Purpose, p.id, nil, t.background())
	var dek *DEK
	if err == nil && !q.state.sameKeys(s) {
		err = errReplaced
	}
	if err == nil {
		dek, err = q.open(ctx, p.w)
	}
	event.Calls = append(event.Calls, q.calls...)
	if err == nil {
		defer dek.Wipe()
		m := &mover{q: q, p: p, dek: dek, to: s.Job.To, event: event}
		if p.method = MethodUnwrap; m.to.all() {
			fresh, err = m.shares(ctx)
		} else {
			fresh, err = m.whole(ctx)
		}
	}
	if err == nil || err == ErrOpen { // which also is the answer about a key that is the tenant's no more
		t.mu.RLock()
		if q.epoch != t.epoch {
			err = t.mayAsk()
			if err == nil {
				err = errReplaced
			}
		}
		t.mu.RUnlock()
	}
	return fresh, err
}

// mover wraps one data key, which it has in hand, under the keys that the tenant is moved to.
type mover struct {
	q     *inquiry // that opened it
	p     *piece
	dek   *DEK
	to    keySet
	event *Event
}

// wrapper returns what asks about a key, which may be one of the tenant's.
func (m *mover) wrapper(key KeyID) *wrapper {
	t := m.q.t
	t.mu.RLock()
	defer t.mu.RUnlock()
	return &wrapper{t: t, to: key, toAccess: t.accessOf(key), jobs: m.q.jobs}
}

// whole wraps it as a whole under each key. What a key that stays has wrapped, and unwrapped just now, is kept.
func (m *mover) whole(ctx context.Context) (wrapping, error) {
	fresh := wrapping{policy: format.PolicyANY}
	for _, key := range m.to.keys() {
		if old := m.p.w.by(key); old != nil && m.p.w.policy == format.PolicyANY && slices.Contains(m.q.opened, key) {
			fresh.recipients = append(fresh.recipients, recipient(key, old))
			continue
		}
		w := m.wrapper(key)
		c := w.caller(key, w.toAccess)
		r, err := c.wrap(ctx, m.dek, m.q.ec)
		if err == nil {
			err = w.prove(ctx, c, r.wrapped, m.dek, m.q.ec)
		}
		if m.note(c); err != nil {
			return wrapping{}, err
		}
		fresh.recipients = append(fresh.recipients, recipient(key, r.wrapped))
	}
	fresh.sort()
	return fresh, nil
}

// shares makes a share under each key, and wraps the data key under all of them: it is what it is, and no shares make
// it. Before that is believed, each share has been unwrapped, and the data key with them.
func (m *mover) shares(ctx context.Context) (wrapping, error) {
	fresh, made := wrapping{policy: format.PolicyALL}, map[KeyID]*DEK{}
	defer func() {
		for _, d := range made {
			d.Wipe()
		}
	}()
	for _, key := range m.to.keys() {
		w := m.wrapper(key)
		c := w.caller(key, w.toAccess)
		r, err := c.generate(ctx, m.q.ec)
		if err == nil {
			made[key] = r.dek
			err = w.prove(ctx, c, r.wrapped, r.dek, m.q.ec)
		}
		if m.note(c); err != nil {
			return wrapping{}, err
		}
		fresh.recipients = append(fresh.recipients, recipient(key, r.wrapped))
	}
	fresh.sort()
	parts := make([]*DEK, len(fresh.recipients))
	for i, r := range fresh.recipients {
		parts[i] = made[keyOf(r)]
	}
	id := m.p.id
	moved, err := wrapMoved(id, parts, m.dek)
	if err != nil {
		return wrapping{}, err
	}
	again, err := combine(id, parts, moved) // which wipes them
	defer again.Wipe()
	if err != nil || !sameKey(again, m.dek) {
		return wrapping{}, ErrInternal
	}
	fresh.moved = moved
	return fresh, nil
}

// note keeps the requests for the event, with the last one as what proves the wrapping.
func (m *mover) note(c *caller) {
	m.event.Calls = append(m.event.Calls, c.calls...)
	if n := len(c.calls); n > 0 {
		m.event.Proof = c.calls[n-1].RequestID
	}
}
