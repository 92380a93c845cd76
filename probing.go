package byok

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"
)

// A key policy that was bound to its tenant at registration can be changed, and
// the tenant's data would go on as before. So Run probes each active tenant's CMK again, at most
// once a day in the whole fleet, in the background and slowly.
const (
	probeEvery   = 24 * time.Hour
	probeSpread  = 3 * time.Hour          // later than that, by chance: a fleet's tenants do not come all at once
	probePause   = time.Second            // at least, between two probes of a process
	probeTimeout = 30 * time.Second       // of all requests of one
	scanPause    = 100 * time.Millisecond // between two tenants that are looked at
	scanEvery    = 10 * time.Minute       // between two looks at all
)

// probeAll looks through all tenants, probes those whose turn it is, rotates data keys that are too old, and finds jobs that are not
// on the list.
func (k *Keeper) probeAll(ctx context.Context) {
	for tenant, err := range k.Tenants(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				k.log.WarnContext(ctx, "byok: the tenants could not be listed to probe their key policies", "error", err.Error())
			}
			return
		}
		if !sleep(ctx, scanPause) {
			return
		}
		// Without a cache for each tenant there is: most have nothing due.
		s := new(state)
		if _, err := k.getJSON(ctx, refState(tenant), s); err != nil {
			continue
		}
		if s.Job != nil {
			_ = (&tenantCache{k: k, tenant: tenant}).relist(ctx, s) // or the next time
		}
		if s.rotationDue(k, tenant, k.clock.Now().Wall) {
			k.cache(tenant).rotateDue(ctx, s)
		}
		if !s.probeDue(k, tenant, k.clock.Now().Wall) {
			continue
		}
		if k.cache(tenant).probe(ctx); !sleep(ctx, probePause+rand.N(probePause/2)) {
			return
		}
	}
}

// probeDue reports whether the tenant's CMK should be probed again.
func (s *state) probeDue(k *Keeper, tenant string, now time.Time) bool {
	if s.usable(k) != nil || s.Platform { // whose policy lets us in for all tenants that have none, and is ours to look after
		return false
	}
	last := s.LastValidatedAt
	if s.ProbedAt.After(last) {
		last = s.ProbedAt
	}
	sum := sha256.Sum256([]byte(tenant + last.UTC().String()))
	spread := time.Duration(binary.BigEndian.Uint64(sum[:8]) % uint64(probeSpread))
	age := now.Sub(last)
	return age >= probeEvery+spread || age < -probeEvery // else a clock that once was far ahead would end it
}

// claimProbe makes this process the one that probes, by compare-and-set of the
// tenant's state. Whoever loses leaves it to the winner.
func (t *tenantCache) claimProbe(ctx context.Context) (*state, []*access) {
	s, err := t.readState(ctx)
	now := t.k.clock.Now().Wall.UTC()
	if err != nil || t.k.fleet.refusal() != nil || !s.probeDue(t.k, t.tenant, now) {
		return nil, nil
	}
	s = s.clone()
	s.ProbedAt = now
	if err := t.k.store.Apply(ctx, encodeItem(refState(t.tenant), s.revision, s)); err != nil {
		return nil, nil // or it was written and its answer lost: then it is for tomorrow
	}
	s.revision++
	t.see(s)
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.state.sameKeys(s) {
		return nil, nil
	}
	return s, t.keys
}

// probe uses the CMK as a registration does, keeps what it found about the
// policy, and warns of what an operator should know. An unclear answer changes nothing.
func (t *tenantCache) probe(ctx context.Context) {
	ctx, done, err := t.k.within(ctx)
	if err != nil {
		return
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	s, keys := t.claimProbe(ctx)
	if s == nil {
		return
	}
	event := t.k.stamp(Event{Op: OpProbe, Outcome: OutcomeSuccess, Scope: Scope{Tenant: t.tenant}, Key: s.Key, Version: s.Generation})
	var binding string
	for _, a := range keys {
		found, calls, kerr := t.probeKey(ctx, a)
		if event.Calls = append(event.Calls, calls...); err == nil {
			err = kerr
		}
		if a.key == s.Key || !s.all() { // a second key of all restricts only, whoever it lets in
			binding = worse(binding, found)
		}
	}
	if event.Reason = "policy " + binding; err != nil {
		event.Reason = ""
	}
	if err != nil || binding == bindingUnknown {
		_, _ = t.k.conclude(ctx, event, err)
		return
	}
	kept, err := t.change(ctx, false, func(_ context.Context, now *state) (change, error) {
		if !now.sameKeys(s) || now.usable(t.k) != nil {
			return change{}, errUnchanged
		}
		ch := change{quiet: true, events: []Event{event}}
		if binding == bindingUnbound && now.Binding != binding {
			ch.warnings = append(ch.warnings, Warning{Kind: WarnPolicyNotTenantBound, Key: s.Key})
		}
		now.Binding, now.LastValidatedAt = binding, event.Time
		t.material(now, event, &ch)
		return ch, nil
	})
	if kept == nil { // the requests were made all the same
		if err == errUnchanged {
			err = nil
		}
		_, _ = t.k.conclude(ctx, event, err)
	}
}

// probeKey probes one CMK of the tenant's.
func (t *tenantCache) probeKey(ctx context.Context, a *access) (binding string, calls []KMSCall, err error) {
	p := &prober{caller: caller{k: t.k, tenant: t.tenant, key: a.key, pool: &t.budget.control, access: a}}
	t.mu.RLock()
	if a.lease.Denied() {
		err = a.denial() // known: nothing is asked that is refused anyway
	}
	t.mu.RUnlock()
	if err == nil {
		binding, err = p.validate(ctx)
	}
	if err == nil || errors.Is(err, ErrKeyDenied) { // else nobody is there to answer
		t.describe(ctx, &p.caller, a)
	}
	return binding, p.calls, err
}

// worse returns what two keys' policies are worth together: as much as the one that lets
// more in, and nothing is known as long as that is not known of both.
func worse(a, b string) string {
	for _, w := range []string{bindingUnbound, bindingUnknown} {
		if a == w || b == w {
			return w
		}
	}
	return b
}

// sleep waits, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
