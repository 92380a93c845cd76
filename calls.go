package byok

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/byok-go/byok/internal/lease"
)

// How a KMS request is tried. Only the lack of an answer is retried, never a
// denial. Each attempt stands in the audit trail by itself.
const (
	kmsAttempts  = 3
	kmsPause     = 100 * time.Millisecond // doubled each time, with full jitter
	kmsPauseMax  = 2 * time.Second
	kmsGrace     = 20 * time.Millisecond // for a driver to notice that ctx is done
	kmsDeadline  = 15 * time.Second      // of all attempts of one load, and of one attempt of a job
	maxWrapped   = 6144
	opNameGen    = "GenerateDataKey"
	opNameWrap   = "Encrypt"
	opNameUnwrap = "Decrypt"
)

// caller makes the KMS calls of one operation and keeps the list of them.
type caller struct {
	k      *Keeper
	tenant string
	key    KeyID
	// access is told what KMS answered; nil for a key that is not (yet) the tenant's
	// registered one, and for questions that are meant to be refused.
	access *access
	pool   *pool         // pays for each attempt; nil: nobody does
	jobs   *background   // pays instead, of what a job asks; nil of everything else
	paid   bool          // for the next attempt, already
	due    time.Duration // when the next attempt may be made, on the monotonic clock
	once   bool          // no second attempt
	calls  []KMSCall
	last   lease.Call // the newest success
}

// result is what one KMS call gave; only what the operation gives is set.
type result struct {
	Receipt
	dek     *DEK
	wrapped []byte
}

func (c *caller) generate(ctx context.Context, ec EncryptionContext) (result, error) {
	return c.try(ctx, opNameGen, lease.Generate, func(ctx context.Context) (result, error) {
		dek, w, err := c.k.keys.GenerateDataKey(ctx, c.key, ec.Clone())
		return checked(result{w.Receipt, dek, w.Bytes}, err, dek != nil && wrappedOK(w.Bytes))
	})
}

func (c *caller) wrap(ctx context.Context, dek *DEK, ec EncryptionContext) (result, error) {
	return c.try(ctx, opNameWrap, lease.Wrap, func(ctx context.Context) (result, error) {
		w, err := c.k.keys.WrapDataKey(ctx, c.key, dek, ec.Clone())
		return checked(result{w.Receipt, nil, w.Bytes}, err, wrappedOK(w.Bytes))
	})
}

func (c *caller) unwrap(ctx context.Context, wrapped []byte, ec EncryptionContext) (result, error) {
	return c.try(ctx, opNameUnwrap, lease.Unwrap, func(ctx context.Context) (result, error) {
		dek, r, err := c.k.keys.UnwrapDataKey(ctx, c.key, bytes.Clone(wrapped), ec.Clone())
		return checked(result{r, dek, nil}, err, dek != nil)
	})
}

func wrappedOK(b []byte) bool { return len(b) >= 1 && len(b) <= maxWrapped }

// checked makes a driver's answer safe to use: what it returned beside an error
// is wiped, a success without a result is an error, and bytes are our own.
func checked(r result, err error, complete bool) (result, error) {
	if err == nil && !complete {
		err = fmt.Errorf("%w: the keyring answered without a usable result", ErrInternal)
	}
	if err != nil {
		r.dek.Wipe()
		return result{Receipt: r.Receipt}, err
	}
	r.wrapped = bytes.Clone(r.wrapped)
	return r, nil
}

// try makes up to kmsAttempts attempts.
func (c *caller) try(ctx context.Context, name string, op lease.Ops,
	f func(context.Context) (result, error)) (result, error) {
	for n := 0; ; n++ {
		r, ke := c.attempt(ctx, name, op, f)
		if ke == nil {
			return r, nil
		}
		switch ke.Class {
		case ClassOutage, ClassThrottled, ClassPlatform:
		default:
			return r, ke
		}
		if c.jobs != nil && ke.Class == ClassThrottled { // its pause is longer than any between attempts
			return r, c.access.verdict(ke)
		}
		if n+1 == kmsAttempts || c.once || ctx.Err() != nil || errors.Is(ke, errOverBudget) || c.access.broken() {
			return r, c.access.verdict(ke)
		}
		pause := max(ke.RetryAfter, rand.N(kmsPause<<n))
		timer := time.NewTimer(min(pause, kmsPauseMax))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return r, c.access.verdict(ke)
		}
	}
}

// newest returns the newest call, and a zero one if the driver refused to send any.
func (c *caller) newest() KMSCall {
	if len(c.calls) == 0 {
		return KMSCall{}
	}
	return c.calls[len(c.calls)-1]
}

func (c *caller) attempt(ctx context.Context, name string, op lease.Ops,
	f func(context.Context) (result, error)) (result, *KeyError) {
	if c.jobs != nil {
		if ke := c.jobs.pay(ctx, c); ke != nil {
			return result{}, ke
		}
	}
	if !c.paid {
		var ke *KeyError
		if c.due, ke = c.pool.spend(c.key, c.k.clock.Now().Mono); ke != nil {
			return result{}, ke
		}
	}
	c.paid = false
	if ke := c.pool.await(ctx, c.key, c.due, c.k.clock.Now().Mono); ke != nil {
		return result{}, ke
	}
	if used, tell := c.pool.nearly(c.k.clock.Now().Mono); tell {
		c.k.warn(c.tenant, Warning{Kind: WarnBudgetNearlyUsed, Key: c.key, Used: used})
	}
	if ke := c.pool.enter(ctx, c.key); ke != nil {
		return result{}, ke
	}
	defer c.pool.leave()
	c.k.stats.underWay.Add(1)
	defer c.k.stats.underWay.Add(-1)
	if c.jobs != nil { // a load has a deadline of its own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, kmsDeadline)
		defer cancel()
	}
	begun := c.access.begin(op)
	start := time.Now()
	r, err := guarded(withTenant(ctx, c.tenant), f, func(err error) {
		// Nobody waits any more, but a denial is one whenever it comes.
		// After Close it is news to nobody, and the sink may be gone (I20).
		if ke := c.keyError(name, err); ke.Class.stops() && c.k.enter() {
			defer c.k.leave()
			c.access.refused(ctx, begun, ke)
		}
	})
	call := KMSCall{Receipt: r.Receipt, Op: name, Key: c.key, Took: time.Since(start)}
	var ke *KeyError
	if err != nil {
		ke = c.keyError(name, err)
		call.Class, call.Code, call.RequestID = ke.Class, ke.Code, ke.RequestID
	}
	if call.Class == ClassKeyID {
		return r, ke // nothing was sent
	}
	c.calls = append(c.calls, call)
	c.k.stats.call(call.Class, call.Took)
	if hook := c.k.observer.KMSCall; hook != nil {
		hook(c.tenant, call)
	}
	if ke != nil {
		if c.jobs.heard(ke, c.k.clock.Now().Mono) {
			c.access.refused(ctx, begun, ke)
		}
		return r, ke
	}
	c.last = begun
	c.access.succeeded(ctx, begun, r.RequestID)
	return r, nil
}

// guarded calls a driver in a goroutine of its own, so that neither a panic nor
// one that ignores ctx takes the operation with it. late gets an error that
// comes after that.
func guarded(ctx context.Context, f func(context.Context) (result, error), late func(error)) (result, error) {
	type answer struct {
		result
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		a := answer{err: fmt.Errorf("%w: the keyring ended its goroutine", ErrInternal)}
		defer func() {
			if p := recover(); p != nil {
				// The value may hold anything, key bytes included: only its type is told.
				a = answer{err: fmt.Errorf("%w: the keyring panicked with a %T", ErrInternal, p)}
			}
			answers <- a
		}()
		r, err := f(ctx)
		a = answer{r, err}
	}()
	select {
	case a := <-answers:
		return a.result, a.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(kmsGrace)
	defer grace.Stop()
	select {
	case a := <-answers:
		return a.result, a.err
	case <-grace.C:
		go func() {
			a := <-answers
			if a.dek.Wipe(); a.err != nil {
				late(a.err)
			}
		}()
		return result{}, ctx.Err()
	}
}

// keyError makes a *KeyError of whatever a driver returned.
func (c *caller) keyError(name string, err error) *KeyError {
	var ke *KeyError
	if errors.As(err, &ke) {
		out := *ke // the driver may keep its own
		out.Key = c.key
		if out.Op == "" {
			out.Op = name
		}
		if out.Class == 0 || int(out.Class) >= len(classNames) {
			out.Class = ClassOutage
		}
		return &out
	}
	class := ClassOutage
	if errors.Is(err, ErrInternal) {
		class = ClassInternal
	}
	return &KeyError{Op: name, Key: c.key, Class: class, Err: err}
}
