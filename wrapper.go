package byok

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const opNameRewrap = "ReEncrypt"

// The ways to wrap a data key anew, as [Job] tells them.
const (
	MethodReEncrypt = "ReEncrypt"       // by the KMS; 2 requests a data key, with the proof
	MethodUnwrap    = "Decrypt+Encrypt" // by unwrapping it here; 3 requests, with the proof
)

// wrapper wraps data keys of one tenant anew: from under the CMK that wraps them now, to
// under the one that will. Both may be the same. It is safe for concurrent use.
type wrapper struct {
	t        *tenantCache
	from, to KeyID
	// The accesses that KMS's answers feed; nil for a key that is not the tenant's (yet).
	fromAccess, toAccess *access
	pool                 *pool
	jobs                 *background // if it is for a job
	paid                 atomic.Bool // for the first request, already

	// refused is set once the KMS did not rewrap by itself: for want of a permission,
	// mostly. It is not asked again and again for each data key.
	refused atomic.Bool
}

// rewrapped is a data key's new wrapping, proved by use.
type rewrapped struct {
	result
	method string
	calls  []KMSCall // also beside an error
}

func (w *wrapper) caller(key KeyID, a *access) *caller {
	return &caller{k: w.t.k, tenant: w.t.tenant, key: key, access: a, pool: w.pool, jobs: w.jobs, paid: w.paid.Swap(false)}
}

// wrap wraps a data key anew, and unwraps the result before it returns it: a wrapping that
// nobody has seen opening replaces nothing (SPEC, MUST-23).
func (w *wrapper) wrap(ctx context.Context, wrapped []byte, ec EncryptionContext) (out rewrapped, err error) {
	from, to := w.caller(w.from, w.fromAccess), w.caller(w.to, w.toAccess)
	defer func() { out.calls = append(append(out.calls, from.calls...), to.calls...) }()
	refused := false
	if r, ok := w.t.k.keys.(Rewrapper); ok && !w.refused.Load() && !w.denied() && w.t.grants.mayBe(w.from, w.to, w.t.k.clock.Now().Mono) {
		quiet := w.caller(w.from, nil) // what it answers feeds no lease, in either direction
		made, err := quiet.rewrap(ctx, r, w.to, wrapped, ec)
		out.calls = quiet.calls
		var ke *KeyError
		switch {
		case err == nil:
			out.result, out.method = made, MethodReEncrypt
			return out, w.prove(ctx, to, made.wrapped, nil, ec)
		case errors.As(err, &ke) && ke.Class == ClassBlob: // Decrypt will say it once more, and that counts
		case errors.As(err, &ke) && (ke.Class == ClassOutage || ke.Class == ClassThrottled || ke.Class == ClassPlatform):
			return out, err // the others are not to be had either
		default:
			w.refused.Store(true)
			refused = true
		}
	}
	old, err := from.unwrap(ctx, wrapped, ec)
	if err != nil {
		return out, err
	}
	defer old.dek.Wipe()
	if w.fromAccess != nil && !w.fromAccess.overtaken(from.last) {
		if err := from.restore(ctx, wrapped, old.dek, ec); err != nil {
			return out, err
		}
	}
	if out.result, err = to.wrap(ctx, old.dek, ec); err != nil {
		return out, err
	}
	out.method = MethodUnwrap
	if err = w.prove(ctx, to, out.wrapped, old.dek, ec); err == nil && refused { // though both keys work: it is not granted
		w.t.grants.note(w.from, w.to, w.t.k.clock.Now().Mono)
	}
	return out, err
}

// prove unwraps the new wrapping, and compares with the data key, if that is known here.
// After ReEncrypt it is not: that both are the same is KMS's word, that it opens is seen.
func (w *wrapper) prove(ctx context.Context, to *caller, wrapped []byte, dek *DEK, ec EncryptionContext) error {
	r, err := to.unwrap(ctx, wrapped, ec)
	defer r.dek.Wipe()
	var ke *KeyError
	switch {
	case errors.As(err, &ke) && ke.Class == ClassBlob:
		return fmt.Errorf("%w: a new wrapping of a data key does not open", ErrInternal)
	case err != nil:
		return err
	case dek != nil && !sameKey(dek, r.dek):
		return fmt.Errorf("%w: a new wrapping is of another data key", ErrInternal)
	}
	return nil
}

// denied reports whether KMS denied us from last. Then only the three permissions tell
// whether it does still.
func (w *wrapper) denied() bool {
	a := w.fromAccess
	if a == nil {
		return false
	}
	a.t.mu.RLock()
	defer a.t.mu.RUnlock()
	return a.lease.Denied()
}

// rewrap asks the KMS itself. c has no access.
func (c *caller) rewrap(ctx context.Context, r Rewrapper, to KeyID, wrapped []byte, ec EncryptionContext) (result, error) {
	return c.try(ctx, opNameRewrap, 0, func(ctx context.Context) (result, error) {
		w, err := r.RewrapDataKey(ctx, c.key, to, bytes.Clone(wrapped), ec.Clone())
		return checked(result{w.Receipt, nil, w.Bytes}, err, wrappedOK(w.Bytes))
	})
}

// notGranted remembers from which key to which the KMS does not rewrap, so that Rewrap does not leave a
// refused request in the tenant's CloudTrail for each envelope. A grant that is given is noticed within grantPause.
type notGranted struct {
	mu    sync.Mutex
	until map[[2]KeyID]time.Duration // on the monotonic clock
}

const (
	grantPause    = 10 * time.Minute
	maxNotGranted = 32 // of a tenant; it has few keys
)

func (g *notGranted) note(from, to KeyID, now time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until == nil || len(g.until) >= maxNotGranted {
		g.until = map[[2]KeyID]time.Duration{}
	}
	g.until[[2]KeyID{from, to}] = now + grantPause
}

func (g *notGranted) mayBe(from, to KeyID, now time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until[[2]KeyID{from, to}] <= now
}
