package byok

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Health finds out whether the tenant's key is usable now, by using it:
// GenerateDataKey, Decrypt and Encrypt, and DescribeKey where it is granted. A
// denial is a denial, and ends every lease at once; a success grants none, but ends
// a back-off. The answer is in the Health: the error is only ErrNotRegistered, ErrStore,
// ErrAudit, ErrArgument or ErrClosed.
func (t *Tenant) Health(ctx context.Context) (Health, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return Health{}, err
	}
	defer done()
	start := time.Now()
	s, err := c.readState(ctx)
	if err == nil && s.Lifecycle == lifecycleNone {
		err = ErrNotRegistered
	}
	event := t.k.stamp(Event{Op: OpHealth, Scope: Scope{Tenant: t.id}})
	if err != nil {
		_, err = t.k.conclude(ctx, event, err)
		return Health{}, err
	}
	h := Health{Status: Healthy, LastEncryption: instant(c.sealed.Load()), LastDecryption: instant(c.opened.Load())}
	h.BudgetUsed = c.budget.known.used(t.k.clock.Now().Mono)
	if !t.k.perOperation {
		h.RevocationBound = t.k.maxAge
	}
	store := Check{Name: "store", Status: "pass", Took: time.Since(start)}
	refused := t.k.fleet.refusal()
	if refused != nil {
		store.Status, store.Code = "fail", Code(refused)
	}
	h.Checks = append(h.Checks, store)
	waiver := Check{Name: "waiver", Status: "pass"}
	if !s.Ack.of(&t.k.waiver, t.k.waiverHash) {
		waiver.Status = "warn"
	}
	if !s.Platform { // there is nothing to be waived
		h.Checks = append(h.Checks, waiver)
	}

	event.Key, event.Version = s.Key, s.Generation
	if refused == nil {
		refused = s.usable(t.k) // the lifecycle's word; KMS's comes next
	}
	if refused == nil || errors.Is(refused, ErrWaiverRequired) {
		if kerr := c.examineAll(ctx, s, &h, &event); kerr != nil {
			refused = kerr
		}
	}
	switch {
	case errors.Is(refused, ErrKeyUnavailable):
		h.Status = Degraded
	case refused != nil:
		h.Status = Unhealthy
	case h.failed(): // one key of any, say
		h.Status = Degraded
	}
	h.KeyStatus = c.snapshot(s)
	h.Warnings = append(h.Warnings, h.KeyStatus.Warnings...)
	event.Outcome = OutcomeSuccess
	if refused != nil {
		event.fail(refused) // what it found, although the question itself was answered
	}
	event.Actor = actorFrom(ctx)
	if err := t.k.record(ctx, event); err != nil {
		t.k.retryRecord(ctx, event)
		return Health{}, err
	}
	c.noteMaterial(ctx, s, event)
	return h, nil
}

// examineAll uses each CMK in every way, and returns what their answers together refuse.
func (t *tenantCache) examineAll(ctx context.Context, s *state, h *Health, event *Event) error {
	var answers []error
	for _, key := range s.keys() {
		answers = append(answers, t.examine(ctx, key, h, event))
	}
	err := s.consent(answers)
	h.CMKAccessible = err == nil
	if s.Others == nil {
		for i := range h.Checks {
			h.Checks[i].Key = KeyID{}
		}
	}
	return err
}

// examine uses a CMK in every way, and returns the first refusal.
func (t *tenantCache) examine(ctx context.Context, key KeyID, h *Health, event *Event) error {
	c := &caller{k: t.k, tenant: t.tenant, key: key, pool: &t.budget.control}
	t.mu.RLock()
	c.access = t.accessOf(key)
	t.mu.RUnlock()
	defer func() {
		event.Calls = append(event.Calls, c.calls...)
		for _, call := range c.calls {
			h.Latency = max(h.Latency, call.Took)
		}
	}()
	ec := t.context("default", newDataKeyID())
	made, err := c.generate(ctx, ec)
	h.add("generate_data_key", c, err)
	if err == nil {
		var opened result
		opened, err = c.unwrap(ctx, made.wrapped, ec)
		h.add("decrypt", c, err)
		opened.dek.Wipe()
		_, werr := c.wrap(ctx, made.dek, ec)
		h.add("encrypt", c, werr)
		made.dek.Wipe()
		if err == nil {
			err = werr
		}
		if event.Proof == "" {
			event.Proof = made.RequestID
		}
	}
	if err == nil || errors.Is(err, ErrKeyDenied) { // else nobody is there to answer
		info, call, derr := t.describe(ctx, c, c.access)
		h.describe(key, info, call, derr, err == nil)
	}
	return err
}

// add puts the newest call of c into the checks.
func (h *Health) add(name string, c *caller, err error) {
	call := c.newest()
	check := Check{Key: c.key, Name: name, Status: "pass", Code: Code(err), RequestID: call.RequestID, Took: call.Took}
	if err != nil {
		check.Status = "fail"
	}
	h.Checks = append(h.Checks, check)
}

// describe puts the answer of DescribeKey into the checks. A refusal is a warning.
func (h *Health) describe(key KeyID, info KeyInfo, call KMSCall, err error, accessible bool) {
	if err == errNoDescriber {
		return
	}
	check := Check{Key: key, Name: "describe_key", Status: "pass", RequestID: call.RequestID, Took: call.Took}
	if err != nil {
		if check.Status = "warn"; accessible {
			h.warn(WarnDescribeNotGranted)
		}
	} else if at := info.DeletionAt.UTC(); !info.DeletionAt.IsZero() {
		if h.DeletionAt.IsZero() || at.Before(h.DeletionAt) { // of several keys, the first to go
			h.DeletionAt = at
		}
		h.warn(WarnPendingDeletion)
	}
	h.Checks = append(h.Checks, check)
}

// warn adds a warning, once.
func (h *Health) warn(w string) {
	if !slices.Contains(h.Warnings, w) {
		h.Warnings = append(h.Warnings, w)
	}
}

func (h *Health) failed() bool {
	return slices.ContainsFunc(h.Checks, func(c Check) bool { return c.Status == "fail" })
}

// Recheck drops the tenant's leases in this process and proves access anew: for
// a platform that hears from the tenant's AWS account that the CMK or its policy
// has changed. Other processes that Run get the same as a hint, so one call is enough
// for a fleet. A denial is in the status, not an error. While the key is denied it asks KMS
// no more often than an operation would.
func (t *Tenant) Recheck(ctx context.Context) (KeyStatus, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return KeyStatus{}, err
	}
	defer done()
	event := t.k.stamp(Event{Op: OpRecheck, Scope: Scope{Tenant: t.id}})
	s, err := c.readState(ctx)
	if err == nil && s.Lifecycle == lifecycleNone {
		err = ErrNotRegistered
	}
	if err == nil {
		event.Key = s.Key
		t.k.wipe(c.dropAll())
		err = s.usable(t.k)
	}
	if err == nil {
		c.tell()
		err = c.recheck(ctx, s, &event)
	}
	_, err = t.k.conclude(ctx, event, err)
	if s == nil || s.Lifecycle == lifecycleNone {
		return KeyStatus{}, err
	}
	if err == nil {
		c.noteMaterial(ctx, s, event)
	}
	if errors.Is(err, ErrKeyRevoked) || errors.Is(err, ErrWaiverRequired) {
		err = nil // that is what the status says
	}
	return c.snapshot(s), err
}

// recheck proves access to each key, and sums up.
func (t *tenantCache) recheck(ctx context.Context, s *state, event *Event) error {
	t.mu.RLock()
	q := &inquiry{t: t, pool: &t.budget.control, ec: t.context("default", newDataKeyID()), state: s, keys: t.keys}
	t.mu.RUnlock()
	var answers []error
	for _, a := range q.keys {
		answers = append(answers, q.prove(ctx, a))
	}
	event.Calls, event.Proof = q.calls, q.witness().request
	return s.consent(answers)
}

func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
