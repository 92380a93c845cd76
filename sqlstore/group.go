package sqlstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/byok-go/byok"
)

// maxBatch bounds how long a transaction can hold the write lock.
const maxBatch = 256

// request is an Apply or a Record that waits to be committed.
type request struct {
	ctx    context.Context
	writes []byok.Item // Apply
	event  *eventRow   // Record

	err  error
	done chan struct{} // closed when err is final
}

// group commits requests together: while one transaction is on its way to the
// disk the next requests gather, and all of them go into the one after it. The
// goroutine that commits lives only as long as there are requests, so there is
// nothing to close.
type group struct {
	// commit sets the err of each request. When it returns, what has no err is durable.
	commit func(ctx context.Context, batch []*request)

	mu      sync.Mutex
	queue   []*request
	running bool
}

// do waits until the request is committed or its ctx is done.
func (g *group) do(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.ctx, r.done = ctx, make(chan struct{})
	g.mu.Lock()
	g.queue = append(g.queue, r)
	if !g.running {
		g.running = true
		go g.run()
	}
	g.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *group) run() {
	for {
		g.mu.Lock()
		if len(g.queue) == 0 {
			g.queue, g.running = nil, false
			g.mu.Unlock()
			return
		}
		n := min(len(g.queue), maxBatch)
		batch := g.queue[:n:n]
		g.queue = g.queue[n:]
		g.mu.Unlock()
		g.runBatch(batch)
	}
}

func (g *group) runBatch(batch []*request) {
	// Nobody waits for these any more, and nothing was done yet.
	live := batch[:0]
	for _, r := range batch {
		if r.err = r.ctx.Err(); r.err != nil {
			close(r.done)
			continue
		}
		live = append(live, r)
	}
	if len(live) == 0 {
		return
	}
	ctx, stop := whileWanted(live)
	defer func() {
		stop()
		if p := recover(); p != nil {
			// A driver's bug must not end the process from a goroutine that nobody
			// can guard. The panic's own text could hold arguments.
			for _, r := range live {
				r.err = fmt.Errorf("the driver panicked with a %T", p)
			}
		}
		for _, r := range live {
			close(r.done)
		}
	}()
	g.commit(ctx, live)
}

// whileWanted returns a context that is done when every request's is: one caller
// that leaves must not fail the others, and when all have left there is no
// reason to wait for a lock.
func whileWanted(batch []*request) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var left atomic.Int64
	left.Store(int64(len(batch)))
	stops := make([]func() bool, len(batch))
	for i, r := range batch {
		stops[i] = context.AfterFunc(r.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
