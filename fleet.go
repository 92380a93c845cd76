package byok

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// How the processes of a fleet are followed.
const (
	followEvery   = time.Second     // with 10 % jitter, so that a fleet does not ask in step
	followTimeout = 5 * time.Second // of one look; the next one goes on where it stopped
)

// errBehind: this process has seen changes that the Store knows nothing of now.
var errBehind = fmt.Errorf("%w: it was rolled back to an earlier state", ErrStore)

// fleet is what one process knows of the others, through the change log.
type fleet struct {
	high   atomic.Uint64 // newest change number that this process has seen or made
	behind atomic.Bool   // the Store's is lower: it was rolled back

	turn   chan struct{}       // holds one while the log is being followed; guards what follows
	first  bool                // has never been followed
	deaf   bool                // the last look failed: said once
	seen   uint64              // up to here all changes are in the two maps below, or dealt with
	states map[string]struct{} // tenants whose state is to be read again
	hints  map[string]bool     // tenants whose leases are to be dropped, as soon as their back-off permits; whether that is news

	mu      sync.Mutex
	pending map[news]struct{} // to be published
	busy    bool              // somebody is publishing
	wake    chan struct{}     // ... and shall not wait any longer

	writing atomic.Bool // an operation of this process is writing the log together with its change
}

// news is what there is to say about a tenant.
type news struct{ tenant, kind string }

func (f *fleet) init() {
	f.turn, f.first = make(chan struct{}, 1), true
	f.states, f.hints = make(map[string]struct{}), make(map[string]bool)
	f.pending, f.wake = make(map[news]struct{}), make(chan struct{}, 1)
}

// raise takes notice of a change number.
func (f *fleet) raise(n uint64) {
	for {
		old := f.high.Load()
		if n <= old || f.high.CompareAndSwap(old, n) {
			return
		}
	}
}

// refusal returns errBehind while the Store is older than what was seen.
func (f *fleet) refusal() error {
	if f.behind.Load() {
		return errBehind
	}
	return nil
}

// follow looks once at what other processes have changed.
func (k *Keeper) follow(ctx context.Context) {
	f := &k.fleet
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	default:
		return // another Run is at it
	}
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	// Only what had been seen before the question must be in the answer.
	floor := f.high.Load()
	n, err := k.readHead(ctx)
	if err == nil && n < floor {
		k.fallBehind(ctx, n, floor)
		return
	}
	if err == nil {
		if f.behind.CompareAndSwap(true, false) {
			f.first, f.seen = true, 0 // whatever happened meanwhile
			k.log.WarnContext(ctx, "byok: the store has caught up; access is proved anew", "change", n)
		}
		err = k.hear(ctx, n)
	}
	switch {
	case err == nil:
		f.deaf = false
	case errors.Is(ctx.Err(), context.Canceled):
		return
	case !f.deaf:
		f.deaf = true
		k.log.WarnContext(ctx, "byok: the changes of other processes cannot be followed; they take effect within MaxAge", "error", err.Error())
	}
	k.heed(ctx)
}

// hear collects what has changed up to number n. The caller holds the turn.
func (k *Keeper) hear(ctx context.Context, n uint64) error {
	f := &k.fleet
	if !f.first && n == f.seen {
		return nil
	}
	l, err := k.readLog(ctx)
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	if err != nil {
		l = new(changeLog) // which fits no head
	}
	changes, whole := l.since(f.seen)
	if !whole || l.revision < n { // too much at once, or a log that does not fit its head: look at everything
		k.tenants.Range(func(tenant, _ any) bool { f.states[tenant.(string)] = struct{}{}; return true })
	}
	for _, c := range changes {
		if c.Kind == kindState {
			f.states[c.Tenant] = struct{}{}
		} else if c.By != k.ids.process() { // kinds of later versions are hints, too: asking KMS is always safe
			f.hints[c.Tenant] = f.hints[c.Tenant] || !f.first // at the first look it may be of last year
		}
	}
	f.first, f.seen = false, max(n, l.revision)
	f.raise(f.seen)
	return nil
}

// heed does what was heard. What cannot be done now is left for the next look.
// Tenants that this process has never had to do with are none of its business: it reads
// their state before it does anything for them. The caller holds the turn.
func (k *Keeper) heed(ctx context.Context) {
	f := &k.fleet
	for tenant := range f.states {
		if v, ok := k.tenants.Load(tenant); ok {
			t := v.(*tenantCache)
			// A state that was seen wipes what it does not permit. An error is left for the
			// next look, but only as long as there is a lease that it could concern.
			if _, err := t.readState(ctx); err != nil && err != errRolledBack && t.holds() {
				continue
			} else if err == errRolledBack {
				k.wipe(t.dropAll())
			}
		}
		delete(f.states, tenant)
	}
	for tenant, news := range f.hints {
		if v, ok := k.tenants.Load(tenant); !ok || v.(*tenantCache).hint(news) {
			delete(f.hints, tenant)
		}
	}
}

// fallBehind fails closed: the Store has lost changes that this process has
// seen. A suspension may be among them, so nothing that rests on the Store is good any more,
// until it is back where it was, or this process has been restarted by somebody who knows why.
func (k *Keeper) fallBehind(ctx context.Context, n, floor uint64) {
	alarm := !k.fleet.behind.Swap(true)
	k.tenants.Range(func(_, v any) bool {
		k.wipe(v.(*tenantCache).dropAll())
		return true
	})
	if alarm {
		k.log.ErrorContext(ctx, "byok: the store was rolled back: all leases are dropped, and nothing is opened or sealed until it has caught up, or this process is restarted",
			"change", n, "seen", floor)
		k.warn("", Warning{Kind: WarnStoreRolledBack})
	}
}

// holds reports whether the tenant has a lease or is about to get one.
func (t *tenantCache) holds() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.entries) > 0 || len(t.flights) > 0
}

// dropAll drops every lease. Loads under way were begun before, so what they
// bring serves nobody either.
func (t *tenantCache) dropAll() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropLocked()
}

func (t *tenantCache) dropLocked() []*entry {
	for _, fl := range t.flights {
		fl.stale = true
	}
	return t.purge(func(*entry) bool { return true })
}

// followPause is the time between two looks.
func followPause() time.Duration {
	return followEvery - followEvery/10 + rand.N(followEvery/5)
}
