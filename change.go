package byok

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// changeTries bounds how often a change is begun anew because somebody else
// changed the same tenant. Only control-plane commands and the creation of data
// keys meet here, so a handful in a row is already a crowd.
const changeTries = 50

// maxRecent is how many events a state remembers.
const maxRecent = 8

// maxPending bounds an outbox. A change that is not a stop is refused before, so
// this is never reached but by stops in a row with a sink that fails.
const maxPending = 32

// change is what a command wants written.
type change struct {
	events []Event // at least one; delivered in this order
	writes []Item  // beside the tenant's state
}

// change reads the tenant's state, lets f change a copy of it, and writes both
// the copy and f's events in one transaction; then it delivers the events
// (I18). f may be called several times, makes no KMS calls, and its error ends the change.
//
// A stop takes effect although older events cannot be delivered; any other
// change is refused with ErrAudit then. If the new events cannot be delivered
// after the write, the error is ErrNotAudited beside the new state: they
// are in the outbox, and delivered before the tenant's next change.
func (t *tenantCache) change(ctx context.Context, stop bool, f func(ctx context.Context, s *state) (change, error)) (*state, error) {
	for range changeTries {
		box, err := t.flush(ctx)
		if err != nil && (!stop || !errors.Is(err, ErrAudit)) {
			return nil, err
		}
		old, err := t.readState(ctx)
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
		next := &outbox{V: layoutVersion, Events: append(append([]Event(nil), box.Events...), ch.events...)}
		if len(next.Events) > maxPending {
			return nil, fmt.Errorf("%w: too many events wait for it", ErrAudit)
		}
		writes := []Item{
			encodeItem(refState(t.tenant), old.revision, s),
			encodeItem(refOutbox(t.tenant), box.revision, next),
		}
		if old.revision == 0 {
			writes = append(writes, encodeItem(Ref{partTenants, t.tenant}, 0, struct {
				V int `json:"v"`
			}{layoutVersion}))
		}
		err = t.k.store.Apply(ctx, append(writes, ch.writes...)...)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil && !t.took(ctx, ch.events[0].ID) {
			return nil, storeError(err)
		}
		if err := t.see(s); err != nil && !errors.Is(err, errRolledBack) {
			return nil, err // an even newer state has been seen meanwhile: that is fine
		}
		if _, err := t.flush(context.WithoutCancel(ctx)); err != nil {
			return s, fmt.Errorf("%w: %w", ErrNotAudited, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("%w: the tenant is being changed all the time", ErrStore)
}

// took finds out whether a write whose answer was lost took place.
func (t *tenantCache) took(ctx context.Context, event string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s, err := t.readState(ctx)
	if err != nil {
		return false
	}
	for _, id := range s.Recent {
		if id == event {
			return true
		}
	}
	return false
}

// flush delivers the events in the tenant's outbox and empties it. It returns
// what is left in there, also beside an error; ErrAudit means that the sink failed.
func (t *tenantCache) flush(ctx context.Context) (*outbox, error) {
	for range changeTries {
		box := &outbox{V: layoutVersion}
		rev, err := t.k.getJSON(ctx, refOutbox(t.tenant), box)
		if err != nil && err != ErrNotFound {
			return box, err
		}
		box.revision = rev
		if len(box.Events) == 0 {
			return box, nil
		}
		for _, e := range box.Events {
			if err := t.k.record(ctx, e); err != nil {
				return box, err
			}
		}
		empty := &outbox{V: layoutVersion, Events: []Event{}}
		err = t.k.store.Apply(ctx, encodeItem(refOutbox(t.tenant), box.revision, empty))
		if err == nil {
			empty.revision = box.revision + 1
			return empty, nil
		}
		// Lost the race, or the answer: what another process delivers twice is
		// deduplicated by the sink. Read again.
		if !errors.Is(err, ErrConflict) {
			return box, storeError(err)
		}
	}
	return nil, fmt.Errorf("%w: the outbox is being changed all the time", ErrStore)
}
