package byok

import (
	"cmp"
	"context"
	"slices"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// inquiry is what KMS is asked for one data key, under one CMK or under as many as the
// tenant's policy says, and what it permitted.
type inquiry struct {
	t    *tenantCache
	pool *pool             // pays
	jobs *background       // pays instead; nil of what is not for a job
	ec   EncryptionContext // of the data key
	blob entryID           // what all of its wrapped keys have in common

	state *state    // whose keys these are
	keys  []*access // of the tenant, when it began
	epoch uint64    // as well

	asked    bool // KMS, or at least permission to ask it
	calls    []KMSCall
	evidence []evidence // for the data key: of one key of any, or of all
	leftOut  []KeyID    // of any: did not wrap the data key, since they did not answer
	opened   []KeyID    // have unwrapped the data key, or a share of it
}

// evidence is a success that says that a data key may be used.
type evidence struct {
	a       *access
	call    lease.Call
	request string
}

// inquire begins an inquiry about a data key of the tenant.
//
// If there are several keys, those that are denied are asked first of all, and their word
// is final: a denial is never a reason to ask another one instead. (With one key, the question about
// the data key is that question.)
func (t *tenantCache) inquire(ctx context.Context, purpose string, id DataKeyID, p *pool) (*inquiry, error) {
	if inBackground(ctx) {
		return t.inquireFor(ctx, purpose, id, nil, t.background())
	}
	return t.inquireFor(ctx, purpose, id, p, nil)
}

// inquireFor is inquire for a job, if jobs is not nil.
func (t *tenantCache) inquireFor(ctx context.Context, purpose string, id DataKeyID, p *pool, jobs *background) (*inquiry, error) {
	q := &inquiry{t: t, pool: p, jobs: jobs, ec: t.context(purpose, id), blob: entryID{purpose: purpose, dataKey: id}}
	var denied []*access
	t.mu.RLock()
	q.state, q.keys, q.epoch = t.state, t.keys, t.epoch
	for _, a := range q.keys {
		if len(q.keys) > 1 && a.lease.Denied() {
			denied = append(denied, a)
		}
	}
	t.mu.RUnlock()
	if len(q.keys) == 0 {
		return q, errDamaged // the Store has answered with something else, or the tenant's state is gone
	}
	for _, a := range denied {
		if err := q.prove(ctx, a); err != nil {
			return q, err
		}
	}
	q.evidence = nil // that they are back says nothing about the data key yet
	return q, nil
}

// witness is the call that what comes of the inquiry rests on; without any it names the tenant's key.
func (q *inquiry) witness() witness {
	if len(q.evidence) > 0 {
		return witness{q.evidence[0].request, q.evidence[0].a.key}
	}
	return witness{key: q.state.Key}
}

// under asks under one key, and makes of its success a piece of evidence. If the key was
// denied before, f alone does not end that: see caller.restore.
func (q *inquiry) under(ctx context.Context, a *access, blob *entryID, f func(*caller) (result, error)) (result, error) {
	if blob != nil && q.t.blobs.refuses(*blob, q.t.k.clock.Now().Mono) {
		return result{}, ErrOpen
	}
	c, err := q.t.ask(a.key, q.pool)
	if err != nil {
		return result{}, err
	}
	q.asked, c.jobs = true, q.jobs
	// Of any, another key is a better second try, be it one that has answered or one that will be asked.
	c.once = q.state.Policy == PolicyAny && (len(q.evidence) > 0 || a != q.keys[len(q.keys)-1])
	r, err := f(c)
	first := c.last
	if err == nil && !a.overtaken(first) {
		err = c.restore(ctx, r.wrapped, r.dek, q.ec)
	}
	q.calls = append(q.calls, c.calls...)
	if err != nil {
		r.dek.Wipe()
		return result{Receipt: r.Receipt}, err
	}
	q.evidence = append(q.evidence, evidence{a, first, r.RequestID})
	return r, nil
}

// open has the data key unwrapped that w holds. No KMS is asked about a key that is not the
// tenant's now: names in items and envelopes are only compared.
//
// Every key of the tenant is asked, also one that holds no part of the data key, which is
// older than that key's place in the set; also under PolicyAny, when another has said yes: so each of
// them stops the tenant within MaxAge, and not only when it happens to be asked. What
// differs between the policies is what becomes of those that do not answer.
func (q *inquiry) open(ctx context.Context, w wrapping) (dek *DEK, err error) {
	if !w.opens(q.state.keys()) {
		return nil, ErrOpen
	}
	parts, answers := make([]*DEK, len(w.recipients)), make([]error, len(q.keys))
	defer func() {
		if err != nil {
			wipeAll(parts)
		}
	}()
	var missing error // of a part
	for i, a := range q.keys {
		part := w.index(a.key)
		if part < 0 {
			if err = q.prove(ctx, a); err == nil && !q.state.all() {
				q.evidence = q.evidence[:len(q.evidence)-1] // not for this data key
			}
		} else if parts[part], err = q.unwrap(ctx, a, w.recipients[part].Wrapped); err != nil && missing == nil {
			missing = err
		}
		if err != nil && (q.state.all() || !passing(err)) {
			return nil, err
		}
		answers[i] = err
	}
	if err = q.state.consent(answers); err != nil {
		return nil, err
	}
	if dek, err = w.join(q.blob.dataKey, parts); err == errNoPart {
		err = cmp.Or(missing, ErrOpen)
	}
	q.settle()
	return dek, err
}

// settle keeps what a lease has to rest on: of any, one is enough.
func (q *inquiry) settle() {
	if !q.state.all() && len(q.evidence) > 1 {
		q.evidence = q.evidence[:1]
	}
}

func (q *inquiry) unwrap(ctx context.Context, a *access, wrapped []byte) (*DEK, error) {
	blob := q.blob
	blob.key, blob.wrapped = a.key, hashWrapped(wrapped)
	r, err := q.under(ctx, a, &blob, func(c *caller) (result, error) {
		r, err := c.unwrapBlob(ctx, blob, wrapped, q.ec)
		r.wrapped = wrapped
		return r, err
	})
	if err == nil {
		q.opened = append(q.opened, a.key)
	}
	return r.dek, err
}

// prove asks for the two things that a data key takes, making and unwrapping one, with
// the context of this one but for its id. Nothing is ever sealed with what comes of it.
func (q *inquiry) prove(ctx context.Context, a *access) error {
	r, err := q.under(ctx, a, nil, func(c *caller) (result, error) { return c.roundTrip(ctx, q.ec) })
	r.dek.Wipe()
	return err
}

// roundTrip makes a data key that nobody will use, and has it unwrapped again.
func (c *caller) roundTrip(ctx context.Context, ec EncryptionContext) (result, error) {
	ec = ec.Clone()
	ec[ContextDataKey] = newDataKeyID().String()
	made, err := c.generate(ctx, ec)
	if err != nil {
		return made, err
	}
	opened, err := c.unwrap(ctx, made.wrapped, ec)
	opened.dek.Wipe()
	if err != nil {
		made.dek.Wipe()
		return result{Receipt: opened.Receipt}, err
	}
	return made, nil
}

// make makes the data key: whole, wrapped by each of the keys, or of a share for each. Under
// PolicyAny, keys that do not answer are left out, as long as one does: that is what the others
// are for.
func (q *inquiry) make(ctx context.Context) (dek *DEK, w wrapping, err error) {
	if q.state.all() {
		return q.makeShares(ctx)
	}
	if err := q.t.k.maySeal(q.state.keySet); err != nil {
		return nil, wrapping{}, err
	}
	w.policy = format.PolicyANY
	var answers []error
	for _, a := range q.keys {
		var r result
		if dek == nil {
			r, err = q.under(ctx, a, nil, func(c *caller) (result, error) { return c.generate(ctx, q.ec) })
			dek = r.dek
		} else {
			r, err = q.wrap(ctx, a, dek)
		}
		switch {
		case err == nil:
			w.recipients = append(w.recipients, recipient(a.key, r.wrapped))
		case passing(err):
			q.leftOut, answers = append(q.leftOut, a.key), append(answers, err)
		default:
			dek.Wipe()
			return nil, wrapping{}, err
		}
	}
	if dek == nil {
		return nil, wrapping{}, answers[0]
	}
	w.sort()
	return dek, w, nil
}

// wrap wraps the data key under one more key. It proves nothing.
func (q *inquiry) wrap(ctx context.Context, a *access, dek *DEK) (result, error) {
	c, err := q.t.ask(a.key, q.pool)
	if err != nil {
		return result{}, err
	}
	c.once = true // nobody waits for a key that may be left out
	r, err := c.wrap(ctx, dek, q.ec)
	q.calls = append(q.calls, c.calls...)
	return r, err
}

func (q *inquiry) makeShares(ctx context.Context) (*DEK, wrapping, error) {
	w, parts := wrapping{policy: format.PolicyALL}, make([]*DEK, 0, len(q.keys))
	for _, a := range q.keys {
		r, err := q.under(ctx, a, nil, func(c *caller) (result, error) { return c.generate(ctx, q.ec) })
		if err != nil {
			wipeAll(parts)
			return nil, wrapping{}, err
		}
		w.recipients, parts = append(w.recipients, recipient(a.key, r.wrapped)), append(parts, r.dek)
	}
	sorted := make([]*DEK, len(parts)) // as their recipients will be
	made := slices.Clone(w.recipients)
	w.sort()
	for i, r := range made {
		sorted[slices.IndexFunc(w.recipients, func(s format.Recipient) bool { return keyOf(s) == keyOf(r) })] = parts[i]
	}
	dek, err := combine(q.blob.dataKey, sorted, nil)
	return dek, w, err
}
