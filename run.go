package byok

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Run does what no operation waits for, until ctx is done or the Keeper is
// closed, and then returns ctx's error or ErrClosed: it wipes data keys whose
// lease has ended, delivers events that a crash left undelivered, and follows
// what other processes on the same Store do: their Revoke, Suspend, Resume, Rotate
// and Register take effect here within about a second. Without it they do within MaxAge.
// It works at moves and rotations of type RotateFull, its own and those that other processes began, and rotates by
// Options.Schedule; re-sealings take a [Resealer].
// It also probes once a day and tenant, in the whole fleet, that the key policy still is bound to the
// tenant: 7 KMS requests, and DescribeKey. Once a minute it writes when data keys were last used, see
// [Tenant.DataKeys].
//
// Seal and Open do not need it, but every service should have it. One per Keeper is enough.
func (k *Keeper) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(k.done, cancel)()
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	// Apart: a sink or Store that hangs must not keep data keys from being wiped.
	others.Go(func() {
		for every(ctx, time.Minute, k.deliverAll) {
			k.writeUsed(ctx)
		}
	})
	others.Go(func() {
		for every(ctx, followPause(), k.follow) {
		}
	})
	others.Go(func() { k.runJobs(ctx) })
	others.Go(func() {
		for sleep(ctx, rand.N(scanEvery)); every(ctx, scanEvery, k.probeAll); {
		}
	})
	for every(ctx, time.Second, func(context.Context) { k.sweep() }) {
	}
	if k.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// every calls f and then waits. It reports whether to go on.
func every(ctx context.Context, pause time.Duration, f func(context.Context)) bool {
	f(ctx)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// deliverAll delivers what is in any tenant's outbox. One tenant's trouble is not
// another's.
func (k *Keeper) deliverAll(ctx context.Context) {
	for tenant, err := range k.Tenants(ctx) {
		if err == nil {
			tctx, cancel := context.WithTimeout(ctx, recordTimeout)
			err = (&tenantCache{k: k, tenant: tenant}).flush(tctx) // without keeping a cache for every tenant there is
			cancel()
		}
		if err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "byok: undelivered events are left for later", "tenant", tenant, "error", err.Error())
		}
	}
}
