package byok

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/byok-go/byok/internal/random"
)

// recordTimeout bounds a delivery that nobody waits for with a ctx of their own.
const recordTimeout = 10 * time.Second

// eventIDs makes the ids of one Keeper's events: milliseconds, a counter, and a
// random part that tells processes apart. They ascend within a process.
type eventIDs struct {
	node [6]byte
	n    atomic.Uint32
}

func (g *eventIDs) init() { random.Read(g.node[:]) }

func (g *eventIDs) next(now time.Time) string {
	var h [idSize]byte
	g.hex(h[:], now)
	return string(h[:])
}

// nextIn is next for whoever makes many: it cuts ids out of one string after the other. An
// id that is kept keeps up to 15 others in memory.
func (g *eventIDs) nextIn(b *strings.Builder, now time.Time) string {
	if b.Cap()-b.Len() < idSize {
		b.Reset()
		b.Grow(16 * idSize)
	}
	var h [idSize]byte
	g.hex(h[:], now)
	at := b.Len()
	b.Write(h[:])
	return b.String()[at:]
}

const idSize = 32

func (g *eventIDs) hex(to []byte, now time.Time) {
	var b [idSize / 2]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	binary.BigEndian.PutUint32(b[6:10], g.n.Add(1))
	copy(b[10:], g.node[:])
	hex.Encode(to, b[:])
}

// process names this process, as the end of its event ids does.
func (g *eventIDs) process() string { return hex.EncodeToString(g.node[:]) }

// stamp gives an event its identity and time, unless it has them.
func (k *Keeper) stamp(e Event) Event {
	if e.ID != "" {
		return e
	}
	e.Time = k.clock.Now().Wall.UTC()
	e.ID = k.ids.next(e.Time)
	return e
}

// record delivers an event that has been stamped. Its error is ErrAudit.
func (k *Keeper) record(ctx context.Context, e Event) error {
	err := guardedRecord(ctx, k.sink, e)
	if err == nil {
		return nil
	}
	if hook := k.observer.AuditFailure; hook != nil {
		hook(err)
	}
	k.log.ErrorContext(ctx, "byok: an audit event could not be recorded", "op", e.Op, "id", e.ID)
	return &hiddenCause{ErrAudit, err}
}

func guardedRecord(ctx context.Context, sink AuditSink, e Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("byok: the audit sink panicked with a %T", p)
		}
	}()
	return sink.Record(ctx, e)
}

// note records an event about something that has taken effect already, such as
// an observed denial: it never undoes it, and does not fail.
func (k *Keeper) note(ctx context.Context, e Event) { k.report(ctx, k.stamp(e)) }

// report records an event that no result waits for. Nor does its caller, once ctx has
// ended: a sink that hangs must not hold up somebody who was refused anyway. That it failed
// is told to the observer and the logger.
func (k *Keeper) report(ctx context.Context, e Event) {
	if ctx.Err() == nil {
		rctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		if k.record(rctx, e) == nil {
			return
		}
	}
	k.retryRecord(ctx, e)
}

// conclude records the one outcome event of an operation and returns the error
// that its caller gets. An operation that failed anyway fails with its own error.
func (k *Keeper) conclude(ctx context.Context, e Event, err error) (Event, error) {
	if e.Outcome == "" {
		e.Outcome = OutcomeSuccess
	}
	if err != nil {
		e.fail(err)
	}
	if e.Actor == "" {
		e.Actor = actorFrom(ctx)
	}
	e = k.stamp(e)
	if err == nil {
		// The result waits for this, so the caller's own ctx bounds it.
		if rerr := k.record(ctx, e); rerr != nil {
			// Perhaps it is in the log all the same, and nothing was released: so it is
			// recorded for certain, with a withheld event beside it.
			k.retryRecord(ctx, e, k.withheld(e, rerr))
			return e, rerr
		}
		return e, nil
	}
	k.report(ctx, e)
	return e, err
}

// retryRecord records an event whose ctx has ended, in a goroutine that Close
// joins. It does nothing if it was the sink that failed: it would again.
func (k *Keeper) retryRecord(ctx context.Context, events ...Event) {
	if ctx.Err() == nil {
		return
	}
	work := func() {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		_ = k.recordAll(rctx, events)
	}
	if !k.enter() {
		work()
		return
	}
	go func() {
		defer k.leave()
		work()
	}()
}

// withheld is the event that says that the success named in e was not released.
func (k *Keeper) withheld(e Event, err error) Event {
	w := Event{Op: e.Op, Actor: e.Actor, Scope: e.Scope, Key: e.Key, DataKey: e.DataKey, Version: e.Version, Proof: e.Proof}
	w.fail(err)
	w.Outcome, w.Reason = OutcomeWithheld, e.ID
	return k.stamp(w)
}

// fail makes e the event of an operation that ended with err.
func (e *Event) fail(err error) {
	if g, ok := err.(*givenUp); ok {
		e.Outcome, e.Reason = OutcomeAborted, g.reason
		return
	}
	e.Outcome, e.Code = OutcomeFailure, Code(err)
	if errors.Is(err, ErrKeyRevoked) {
		e.Outcome = OutcomeDenied
	}
	var ke *KeyError
	if errors.As(err, &ke) {
		e.Class, e.Proof = ke.Class, ke.RequestID
		if ke.Class == ClassPlatformDenied {
			e.Outcome = OutcomeDenied
		}
	}
}
