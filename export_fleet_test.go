package byok

import (
	"context"
	"time"
)

// MaxChanges is the bound of the change log.
const MaxChanges = maxChanges

// ProbeIfDue does what Run does when it comes by a tenant.
func (k *Keeper) ProbeIfDue(ctx context.Context, tenant string) { k.cache(tenant).probe(ctx) }

// Probe probes a tenant's CMK now, as if the last time were two days ago.
func (k *Keeper) Probe(ctx context.Context, tenant string) {
	t := k.cache(tenant)
	if s, err := t.readState(ctx); err == nil {
		s = s.clone()
		s.ProbedAt, s.LastValidatedAt = s.ProbedAt.Add(-2*probeEvery), s.LastValidatedAt.Add(-2*probeEvery)
		if t.k.store.Apply(ctx, encodeItem(refState(tenant), s.revision, s)) != nil {
			panic("byok: the state is being changed")
		}
	}
	t.probe(ctx)
}

// RotateIfDue does what Run does when it comes by a tenant whose data keys may be too old.
func (k *Keeper) RotateIfDue(ctx context.Context, tenant string) {
	t := k.cache(tenant)
	if s, err := t.storedState(ctx); err == nil && s.rotationDue(k, tenant, k.clock.Now().Wall) {
		t.rotateDue(ctx, s)
	}
}

// RotationDue reports whether a generation that began at an instant is too old at another.
func RotationDue(tenant string, age time.Duration, began, now time.Time) bool {
	s := &state{Lifecycle: lifecycleActive, DataKeys: 1, CreatedAt: began.Add(-time.Hour), LastRotationAt: began}
	return s.rotationDue(&Keeper{schedule: Schedule{Age: age}}, tenant, now)
}
