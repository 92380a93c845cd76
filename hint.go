package byok

import (
	"context"
	"time"

	"github.com/byok-go/byok/internal/lease"
)

// How hints are given and taken.
const (
	hintBackoff  = time.Second // doubled with each unfounded hint about a key ...
	hintMax      = 30 * time.Second
	hintForget   = 5 * time.Minute  // ... and back to the first step after this long without any
	hintPause    = time.Second      // between two writes of hints by a process
	publishBatch = 50               // changes in one write: a third of the log
	hintFresh    = 10 * time.Second // a denial that comes later is not what the hint was about
)

// hint takes another process's word that access to the tenant's keys may have changed: the
// next operation asks KMS. It reports false if the back-off does not permit that yet. A hint
// is no denial: whoever has a wrong role must not be able to stop the others. If it is
// news, a denial that comes of it need not be published again.
func (t *tenantCache) hint(news bool) bool {
	t.mu.Lock()
	if len(t.keys) == 0 || t.state.usable(t.k) != nil {
		t.mu.Unlock()
		return true
	}
	now := t.k.clock.Now()
	if !t.hints.take(now) {
		t.mu.Unlock()
		return false
	}
	if news {
		t.hinted = now
	}
	for _, a := range t.keys {
		a.lease.Hint(now)
	}
	gone := t.dropLocked()
	t.mu.Unlock()
	t.k.wipe(gone)
	return true
}

// tell passes a hint on to the other processes.
func (t *tenantCache) tell() {
	t.mu.Lock()
	t.hinted = t.k.clock.Now() // what KMS says next is no news to them
	t.mu.Unlock()
	t.k.publish(t.tenant, kindHint)
}

// oldNews reports whether the others have been told of a denial that is observed now. The
// caller holds mu.
func (t *tenantCache) oldNews(now lease.Time) bool {
	return t.hinted != (lease.Time{}) && now.Mono-t.hinted.Mono < hintFresh
}

// hintSteps spaces the hints about one tenant.
type hintSteps struct {
	n          int
	last, next time.Duration // on the monotonic clock
}

func (h *hintSteps) take(now lease.Time) bool {
	if now.Mono < h.next {
		return false
	}
	if now.Mono-h.last > hintForget {
		h.n = 0
	}
	h.last, h.next = now.Mono, now.Mono+min(hintBackoff<<min(h.n, 10), hintMax)
	h.n++
	return true
}

// publish tells the other processes of a change, soon, and does not wait for it.
// It is best effort: MaxAge bounds the others anyway. What comes at once is written together,
// and hints at most publishBatch a second, so that a process that is denied everything does
// not push out of the log what others have to say.
func (k *Keeper) publish(tenant, kind string) {
	f := &k.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[news{tenant, kind}] = struct{}{}
	if kind == kindState {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	if f.busy || !k.enter() {
		return
	}
	f.busy = true
	go func() {
		defer k.leave()
		var hinted time.Time
		for {
			batch := k.unpublished(time.Since(hinted) >= hintPause)
			if batch == nil {
				return
			}
			if len(batch) > 0 {
				if batch[len(batch)-1].Kind == kindHint {
					hinted = time.Now()
				}
				k.publishNow(batch)
				continue
			}
			timer := time.NewTimer(hintPause - time.Since(hinted))
			select {
			case <-timer.C:
			case <-f.wake:
			case <-k.done.Done():
			}
			timer.Stop()
		}
	}()
}

// unpublished takes what may be published now: changes of state first. It returns
// nil when there is nothing any more, and the publisher is to end.
func (k *Keeper) unpublished(hints bool) []loggedEntry {
	f := &k.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy = len(f.pending) > 0 && !k.closed.Load(); !f.busy {
		return nil
	}
	batch := []loggedEntry{}
	for _, kind := range []string{kindState, kindHint} {
		for p := range f.pending {
			if p.kind == kind && (hints || kind == kindState) && len(batch) < publishBatch {
				batch = append(batch, k.entry(p.tenant, kind))
				delete(f.pending, p)
			}
		}
	}
	return batch
}

func (k *Keeper) publishNow(batch []loggedEntry) {
	ctx, cancel := context.WithTimeout(k.done, recordTimeout)
	defer cancel()
	if err := k.appendLog(ctx, batch...); err != nil && !k.closed.Load() {
		k.log.WarnContext(ctx, "byok: changes could not be told to other processes; they notice them within MaxAge", "changes", len(batch), "error", err.Error())
	}
}
