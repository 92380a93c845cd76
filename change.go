package byok

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// changeTries bounds how often a change is begun anew because somebody else
// changed the same tenant. Only control-plane commands and the creation of data
// keys meet here, so a handful in a row is already a crowd.
const changeTries = 100

// logTries is how often a change is tried together with its entry in the change
// log, which all tenants share.
const logTries = 4

// tookPatience bounds the search for the truth about a write.
const tookPatience = 5 * time.Second

// maxRecent is how many events a state remembers.
const maxRecent = 8

// maxPending bounds an outbox. A change that is not a stop is refused before, so
// this is never reached but by stops in a row with a sink that fails.
const maxPending = 32

// change is what a command wants written.
type change struct {
	events []Event // at least one; delivered in this order
	writes []Item  // beside the tenant's state
	quiet  bool    // no lease depends on it, so other processes need not hear of it soon

	warnings []Warning // for the observer, once it has taken effect
}

// change reads the tenant's state, lets f change a copy of it, and writes both
// the copy and f's events in one transaction; then it delivers the events
// (I18). f may be called several times, makes no KMS calls, and its error ends the change.
//
// A stop takes effect although older events cannot be delivered, and waits for
// nobody; any other change waits for its turn in this process, and is refused with
// ErrAudit if they cannot. If the new events cannot be delivered
// after the write, the error is ErrNotAudited beside the new state: they
// are in the outbox, and delivered before the tenant's next change.
func (t *tenantCache) change(ctx context.Context, stop bool, f func(ctx context.Context, s *state) (change, error)) (*state, error) {
	if !stop {
		// The first use of many purposes after a rotation would otherwise be as many
		// rivals for one item.
		select {
		case t.turn <- struct{}{}:
			defer func() { <-t.turn }()
		case <-ctx.Done():
			return nil, storeError(ctx.Err())
		}
	}
	for try := range changeTries {
		if try > 1 {
			pause(ctx, try)
		}
		box, err := t.readOutbox(ctx)
		damaged := errors.Is(err, errDamaged)
		if err != nil && !(stop && damaged) {
			return nil, err
		}
		pending := box.Events
		if !stop {
			if err := t.k.recordAll(ctx, pending); err != nil {
				return nil, err
			}
			pending = nil
		}
		old, err := t.readState(ctx)
		rolledBack := stop && err == errRolledBack
		if rolledBack {
			// What this process has seen is lost, and it serves nothing any more. But others
			// may be started on this Store, and they must find the stop in it.
			old, err = t.storedState(ctx)
		}
		if err != nil {
			return nil, err
		}
		s := old.clone()
		ch, err := f(ctx, s)
		if err != nil {
			return nil, err
		}
		s.revision++
		for _, e := range ch.events {
			s.Recent = append(s.Recent, e.ID)
		}
		s.Recent = s.Recent[max(0, len(s.Recent)-maxRecent):]
		next := &outbox{V: layoutVersion, Events: append(pending[:len(pending):len(pending)], ch.events...), revision: box.revision + 1}
		if len(next.Events) > maxPending {
			return nil, fmt.Errorf("%w: too many events wait for it", ErrAudit)
		}
		writes := []Item{encodeItem(refState(t.tenant), old.revision, s)}
		if !damaged { // else it stays as it is, for a person to look at
			writes = append(writes, encodeItem(refOutbox(t.tenant), box.revision, next))
		}
		if old.revision == 0 {
			writes = append(writes, encodeItem(Ref{partTenants, t.tenant}, 0, struct {
				V int `json:"v"`
			}{layoutVersion}))
		}
		// The log is shared by all tenants, and a crowd there must not stop a stop, nor
		// anything else: if somebody of this process is at it, or a few races have been lost
		// to others, the change goes without it, and is published afterwards.
		var number uint64
		alone := !ch.quiet && try < logTries && t.k.fleet.writing.CompareAndSwap(false, true)
		if alone {
			if logged, n, err := t.k.logWrites(ctx, t.k.entry(t.tenant, kindState)); err == nil {
				writes, number = append(writes, logged...), n
			}
		}
		err = t.k.store.Apply(ctx, append(writes, ch.writes...)...)
		if alone {
			t.k.fleet.writing.Store(false)
		}
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil && !t.took(ctx, ch.events[0].ID) {
			return nil, storeError(err)
		}
		if t.see(s); rolledBack { // which is older than what was seen: it is not believed, but it stops
			t.k.wipe(t.dropAll())
		}
		if t.k.fleet.raise(number); number == 0 && !ch.quiet {
			t.k.publish(t.tenant, kindState)
		}
		for _, w := range ch.warnings {
			t.k.warn(t.tenant, w)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		if err := t.k.recordAll(ctx, next.Events); err != nil {
			return s, fmt.Errorf("%w: %w", ErrNotAudited, err)
		}
		if !damaged {
			_ = t.empty(ctx, next) // if that fails they are delivered again, and the sink knows them
		}
		return s, nil
	}
	return nil, fmt.Errorf("%w: the tenant is being changed all the time", ErrStore)
}

// pause lets rivals in other processes go first, for a random while.
func pause(ctx context.Context, try int) {
	timer := time.NewTimer(rand.N(min(time.Millisecond<<min(try, 10), 50*time.Millisecond)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// took finds out whether a write whose answer was lost took place. As long as
// the Store does not tell, it asks again, for a few seconds. False can then still be
// wrong: the caller's event has the same ID as the one that may be in the
// outbox, so that the sink keeps one of them.
func (t *tenantCache) took(ctx context.Context, event string) bool {
	ctx, cancel := t.k.detach(ctx, tookPatience)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		if s, err := t.readState(ctx); err == nil {
			return slices.Contains(s.Recent, event)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
}

// readOutbox returns the tenant's outbox, and an empty one beside an error.
func (t *tenantCache) readOutbox(ctx context.Context) (*outbox, error) {
	box := &outbox{V: layoutVersion}
	rev, err := t.k.getJSON(ctx, refOutbox(t.tenant), box)
	if err != nil && err != ErrNotFound {
		return &outbox{}, err
	}
	box.revision = rev
	return box, nil
}

// recordAll delivers events in their order, up to the first that cannot be.
func (k *Keeper) recordAll(ctx context.Context, events []Event) error {
	for _, e := range events {
		if err := k.record(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// empty takes delivered events out of an outbox, if nobody has been faster.
func (t *tenantCache) empty(ctx context.Context, box *outbox) error {
	err := t.k.store.Apply(ctx, encodeItem(refOutbox(t.tenant), box.revision, &outbox{V: layoutVersion, Events: []Event{}}))
	if err != nil && !errors.Is(err, ErrConflict) {
		return storeError(err)
	}
	return nil
}

// flush delivers what a crash, or a sink that failed, left in the outbox.
func (t *tenantCache) flush(ctx context.Context) error {
	box, err := t.readOutbox(ctx)
	if err != nil || len(box.Events) == 0 {
		return err
	}
	if err := t.k.recordAll(ctx, box.Events); err != nil {
		return err
	}
	return t.empty(ctx, box)
}
