package drill

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/byok-go/byok"
)

// What a worker's operations look like from outside.
const (
	Purpose = "drill"      // of the canaries, in KMS's logs as well
	Actor   = "byok drill" // in the tenant's audit log
)

const (
	interval  = 100 * time.Millisecond // of the seals of one worker, and of its opens
	opTimeout = 20 * time.Second       // of one operation; a Keeper's load takes 15 s at most
	canaries  = 16                     // kept by a worker; the first one stays to the end
)

// Sample is one thing that a worker saw.
type Sample struct {
	Op        string    `json:"op"` // "seal" and "open", of a canary; or "kms", a request of the worker's Keeper to the KMS
	Issued    time.Time `json:"issued"`
	Completed time.Time `json:"completed"`
	Result    Result    `json:"result"`
	Code      string    `json:"code,omitempty"` // of a failure: BYOK_...; of a "kms": the KMS's own
}

// Result is how an operation or a request ended.
type Result string

// The results.
const (
	Served Result = "served" // a success; of "kms": permitted
	Denied Result = "denied" // somebody who may said stop: byok.ErrKeyDenied
	Failed Result = "failed" // any other error
	Wrong  Result = "wrong"  // a canary opened, and was not what had been sealed
)

// Worker does a worker's work until ctx is done, and returns nil then. n, from
// 1, is its number. It tells report of each sample as soon as it has it; report
// may be called concurrently, and not after Worker has returned. What it returns before
// ctx is done, be it nil, ends the drill.
type Worker func(ctx context.Context, n int, report func(Sample)) error

// Keeper is what a worker uses of a byok.Keeper.
type Keeper interface {
	Seal(ctx context.Context, s byok.Scope, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, s byok.Scope, sealed, aad []byte) ([]byte, error)
}

// InProcess returns a Worker in this process. open makes its Keeper, on the
// platform's Store and with the platform's role and MaxAge; it gives observer to
// byok.Options. The worker calls Run on it, and Close at the end.
func InProcess(tenant string, open func(observer *byok.Observer) (*byok.Keeper, error)) Worker {
	return func(ctx context.Context, n int, report func(Sample)) error {
		c := newClock()
		k, err := open(observe(c, tenant, report))
		if err != nil {
			return err
		}
		var run sync.WaitGroup
		run.Go(func() { _ = k.Run(ctx) })
		err = work(ctx, c, k, tenant, n, report)
		_ = k.Close() // always nil
		run.Wait()
		return err
	}
}

// Work is a Worker's loop on a Keeper that somebody else made, runs and closes.
// The samples of op "kms" are then missing, and the report says less.
func Work(ctx context.Context, k Keeper, tenant string, n int, report func(Sample)) error {
	return work(ctx, newClock(), k, tenant, n, report)
}

// observe makes samples of a Keeper's requests to the KMS.
func observe(c clock, tenant string, report func(Sample)) *byok.Observer {
	return &byok.Observer{KMSCall: func(of string, call byok.KMSCall) {
		if of != tenant {
			return
		}
		now := c.now()
		s := Sample{Op: "kms", Issued: now.Add(-call.Took), Completed: now, Result: Failed, Code: call.Code}
		switch call.Class {
		case 0:
			s.Result = Served
		case byok.ClassDenied:
			s.Result = Denied
		}
		report(s)
	}}
}

// canary is a sealed record, and what it must open to.
type canary struct{ sealed, plain, aad []byte }

// work seals in one goroutine and opens in another, so that a denial which one
// of them meets has to stop the other.
func work(ctx context.Context, c clock, k Keeper, tenant string, n int, report func(Sample)) error {
	ctx = byok.WithActor(ctx, Actor)
	scope := byok.Scope{Tenant: tenant, Purpose: Purpose}
	var mu sync.Mutex
	var kept []canary
	one := func(op string, f func(context.Context) (wrong bool, err error)) {
		// What was begun is finished when ctx ends: its event must not get lost.
		octx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		defer cancel()
		s := Sample{Op: op, Issued: c.now(), Result: Served}
		wrong, err := f(octx)
		s.Completed = c.now()
		switch {
		case errors.Is(err, byok.ErrKeyDenied):
			s.Result, s.Code = Denied, byok.Code(err)
		case err != nil:
			s.Result, s.Code = Failed, byok.Code(err)
		case wrong:
			s.Result = Wrong
		}
		report(s)
	}
	run := rand.Text()
	seals := func(i uint64) {
		r := canary{plain: []byte(rand.Text()), aad: binary.BigEndian.AppendUint64(fmt.Appendf(nil, "byok drill %s/%d/", run, n), i)}
		one("seal", func(ctx context.Context) (wrong bool, err error) {
			r.sealed, err = k.Seal(ctx, scope, r.plain, r.aad)
			return len(r.sealed) == 0, err
		})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case len(r.sealed) == 0:
		case len(kept) < canaries:
			kept = append(kept, r)
		default:
			kept[1+i%(canaries-1)] = r
		}
	}
	opens := func(i uint64) {
		mu.Lock()
		if len(kept) == 0 {
			mu.Unlock()
			return
		}
		r := kept[i%uint64(len(kept))]
		mu.Unlock()
		one("open", func(ctx context.Context) (wrong bool, err error) {
			plain, err := k.Open(ctx, scope, r.sealed, r.aad)
			return !bytes.Equal(plain, r.plain), err
		})
	}
	var both sync.WaitGroup
	for later, f := range []func(uint64){seals, opens} {
		both.Go(func() {
			time.Sleep(time.Duration(later) * interval / 2)
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for i := uint64(0); ctx.Err() == nil; i++ {
				f(i)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	both.Wait()
	return nil
}
