package byok

import (
	"context"
	"time"
)

// Warning tells an operator of something that has stopped nothing yet, while
// there is time to act. It holds facts and no text: docs/operations.md says what to do.
//
// A warning is given by the process that found out, once: WarnPolicyNotTenantBound and
// WarnKeyMaterialChanged when that is not what the Store says, WarnPendingDeletion again after each day, and when
// the date has changed, WarnBudgetNearlyUsed at most once a minute, WarnDataKeysOnceElsewhere when the tenant's key becomes its own.
type Warning struct {
	Kind string // one of the Warn constants
	Key  KeyID  // the CMK; zero for WarnStoreRolledBack

	// WarnPendingDeletion.
	DeletionAt time.Time
	Left       time.Duration // until DeletionAt; negative if that has passed

	// WarnKeyMaterialChanged.
	Material, PreviousMaterial string

	// WarnDataKeysOnceElsewhere: how many of the Store.
	DataKeys uint64

	// WarnBudgetNearlyUsed: 0.8 to 1, of the requests that may be made at once.
	Used float64
}

// Warnings that only an Observer gets.
const (
	WarnStoreRolledBack    = "store_rolled_back"      // the Store lost changes that this process had seen
	WarnBudgetNearlyUsed   = "kms_budget_nearly_used" // of one tenant, in this process: what comes is ErrThrottled
	WarnKeyLeftOut         = "key_left_out"           // a data key was made that this key, one of several under PolicyAny, did not wrap, since it did not answer
	WarnKeyMaterialChanged = "key_material_changed"   // the CMK was rotated: nothing to do, unless nobody meant to
)

// warn tells the observer, outside of all locks.
func (k *Keeper) warn(tenant string, w Warning) {
	if hook := k.observer.Warning; hook != nil {
		hook(tenant, w)
	}
}

// deletion is what DescribeKey said about the end of a CMK.
type deletion struct {
	at     time.Time // zero: none is pending, as far as we were told
	warned time.Time // when the observer was told of at
}

// describe asks for what only people need, if the Keyring can, and warns of a
// pending deletion. It feeds nothing, in neither direction: the permission is optional, and
// a description is no proof (threat D17). a may be nil.
func (t *tenantCache) describe(ctx context.Context, c *caller, a *access) (info KeyInfo, call KMSCall, err error) {
	d, ok := t.k.keys.(Describer)
	if !ok {
		return info, call, errNoDescriber
	}
	quiet := &caller{k: c.k, tenant: c.tenant, key: c.key, pool: c.pool} // without access
	_, err = quiet.try(ctx, "DescribeKey", 0, func(ctx context.Context) (result, error) {
		got, err := d.DescribeKey(ctx, c.key)
		info = got
		return result{Receipt: got.Receipt}, err
	})
	c.calls = append(c.calls, quiet.calls...)
	if call = quiet.newest(); err != nil || a == nil {
		return info, call, err
	}
	now := t.k.clock.Now().Wall.UTC()
	info.DeletionAt = info.DeletionAt.UTC()
	t.mu.Lock()
	known := &a.facts.deletion
	due := !info.DeletionAt.IsZero() && (info.DeletionAt != known.at || now.Sub(known.warned) >= probeEvery)
	if known.at = info.DeletionAt; due {
		known.warned = now
	}
	t.mu.Unlock()
	if due {
		t.k.warn(t.tenant, Warning{Kind: WarnPendingDeletion, Key: c.key, DeletionAt: info.DeletionAt, Left: info.DeletionAt.Sub(now)})
	}
	return info, call, nil
}

// errNoDescriber: the Keyring cannot tell. It never leaves the package.
var errNoDescriber = newError(nil, "the keyring describes no keys")

// material takes notice of the CMK's key material in what a change is about to
// write, and adds an event and a warning if it is another than the last. Only a
// GenerateDataKey tells what encrypts now: a Decrypt names what its ciphertext was made with.
func (t *tenantCache) material(s *state, cause Event, ch *change) {
	old, now := s.MaterialID, newestMaterial(cause.Calls, s.Key)
	if now == "" || now == old || !cause.Time.After(s.MaterialAt) { // asked before the last one was
		return
	}
	if s.MaterialID, s.MaterialAt = now, cause.Time; old == "" {
		return
	}
	ch.events = append(ch.events, t.k.stamp(Event{Op: OpMaterial, Outcome: OutcomeSuccess, Actor: cause.Actor, Scope: Scope{Tenant: t.tenant},
		Key: s.Key, Version: s.Generation, Reason: "was " + printable(old, maxMaterial) + ", is " + printable(now, maxMaterial)}))
	ch.warnings = append(ch.warnings, Warning{Kind: WarnKeyMaterialChanged, Key: s.Key, Material: now, PreviousMaterial: old})
}

const maxMaterial = 256 // bytes of an id that is kept; AWS's are 64 hex digits

func newestMaterial(calls []KMSCall, key KeyID) (id string) {
	for _, c := range calls {
		if c.Key == key && c.Op == opNameGen && c.Class == 0 && c.MaterialID != "" && len(c.MaterialID) <= maxMaterial {
			id = c.MaterialID
		}
	}
	return id
}

// noteMaterial is material for operations that change nothing else. It is best
// effort: the next one comes.
func (t *tenantCache) noteMaterial(ctx context.Context, s *state, cause Event) {
	if id := newestMaterial(cause.Calls, s.Key); id == "" || id == s.MaterialID {
		return
	}
	_, _ = t.change(ctx, false, func(_ context.Context, now *state) (change, error) {
		ch := change{quiet: true}
		if now.Key == cause.Key {
			t.material(now, cause, &ch)
		}
		if len(ch.events) == 0 {
			return change{}, errUnchanged
		}
		return ch, nil
	})
}
