package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGroup: what comes while a transaction is on its way goes into the next one.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		var g group
		g.commit = func(ctx context.Context, batch []*request) {
			sizes = append(sizes, len(batch))
			time.Sleep(time.Second)
		}
		var wg sync.WaitGroup
		for i := range 1 + maxBatch + 10 {
			wg.Go(func() {
				if i > 0 {
					time.Sleep(time.Millisecond)
				}
				if err := g.do(t.Context(), &request{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if fmt.Sprint(sizes) != fmt.Sprint([]int{1, maxBatch, 10}) {
			t.Errorf("transactions of %d requests", sizes)
		}
		synctest.Wait()
		if g.running || g.queue != nil {
			t.Error("something runs at rest")
		}
	})
}

// TestGroupLeaving: a caller leaves by its own ctx and takes nobody along; when
// all have left, so does the transaction; who left before it began is not in it.
func TestGroupLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		var ends []time.Duration
		start := time.Now()
		g.commit = func(ctx context.Context, batch []*request) {
			select {
			case <-ctx.Done():
				for _, r := range batch {
					r.err = ctx.Err()
				}
			case <-time.After(10 * time.Second):
			}
			ends = append(ends, time.Since(start))
		}
		do := func(limit time.Duration, want error) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := g.do(ctx, &request{}); !errors.Is(err, want) {
				t.Errorf("limit %v: %v, want %v", limit, err, want)
			}
			if want != nil && time.Since(start) != limit {
				t.Errorf("left after %v, not %v", time.Since(start), limit)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { do(time.Hour, nil) })
		synctest.Wait() // it is in the first transaction, which ends at 10 s
		wg.Go(func() { do(time.Second, context.DeadlineExceeded) })
		for range 3 { // these are in the second, which they leave at 15 s
			wg.Go(func() { do(15*time.Second, context.DeadlineExceeded) })
		}
		wg.Wait()
		synctest.Wait()
		if fmt.Sprint(ends) != "[10s 15s]" {
			t.Errorf("transactions ended at %v", ends)
		}
	})
}

// TestGroupPanic: a driver that panics fails its batch, and tells no argument.
func TestGroupPanic(t *testing.T) {
	var g group
	first := true
	g.commit = func(context.Context, []*request) {
		if first {
			first = false
			panic("MARKER")
		}
	}
	if err := g.do(t.Context(), &request{}); err == nil || strings.Contains(err.Error(), "MARKER") {
		t.Error(err)
	}
	if err := g.do(t.Context(), &request{}); err != nil {
		t.Error("after a panic: ", err)
	}
}
