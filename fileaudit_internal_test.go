package byok

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

// disk is an appendFile whose every step waits and may fail.
type disk struct {
	mu       sync.Mutex
	written  string // by Write
	durable  string // by Sync
	syncs    int
	latency  time.Duration
	writeErr error
	syncErr  error
	short    bool
	closed   int
}

func (d *disk) Write(b []byte) (int, error) {
	time.Sleep(d.latency)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.short {
		d.written += string(b[:len(b)/2])
		return len(b) / 2, nil
	}
	if d.writeErr != nil {
		return 0, d.writeErr
	}
	d.written += string(b)
	return len(b), nil
}

func (d *disk) Sync() error {
	time.Sleep(d.latency)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if d.syncErr != nil {
		return d.syncErr
	}
	d.durable = d.written
	return nil
}

func (d *disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed++
	return nil
}

func (d *disk) holds(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Contains(d.durable, `"`+id+`"`)
}

// TestFileAuditGroupCommit: 100 concurrent events take two fsyncs, and none is
// acknowledged before its own.
func TestFileAuditGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{latency: time.Second}
		a := newFileAudit(d)
		var wg sync.WaitGroup
		record := func(id string) {
			wg.Go(func() {
				if err := a.Record(t.Context(), Event{ID: id}); err != nil {
					t.Error(err)
				}
				if !d.holds(id) {
					t.Errorf("%s is acknowledged and not durable", id)
				}
			})
		}
		record("first")
		synctest.Wait()
		for i := range 99 {
			record(fmt.Sprint("e", i))
		}
		wg.Wait()
		if d.syncs != 2 {
			t.Errorf("%d fsyncs, want 2: the first event's, and one for all that came meanwhile", d.syncs)
		}
		if n := strings.Count(d.durable, "\n"); n != 100 {
			t.Errorf("%d lines, want 100", n)
		}
	})
}

// TestFileAuditLeaving: one caller that leaves changes nothing for the others,
// and its line may be written.
func TestFileAuditLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{latency: time.Minute}
		a := newFileAudit(d)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := a.Record(t.Context(), Event{ID: "stays"}); err != nil {
				t.Error(err)
			}
		})
		if err := a.Record(ctx, Event{ID: "leaves"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Record after its ctx ended: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Record returned after %v, its ctx ended after 1s", took)
		}
		wg.Wait()
		if err := a.Close(); err != nil { // waits for what is on its way
			t.Error(err)
		}
		if !d.holds("stays") || !d.holds("leaves") {
			t.Errorf("on disk: %q", d.durable)
		}
		cancel()
		if err := a.Record(ctx, Event{ID: "late"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Record with a ctx that is done: %v", err)
		}
	})
}

// TestFileAuditStaysFailed: after a failed write or fsync nothing is tried again
// on the same file.
func TestFileAuditStaysFailed(t *testing.T) {
	bad := errors.New("bad disk")
	for name, break_ := range map[string]func(d *disk){
		"fsync":       func(d *disk) { d.syncErr = bad },
		"write":       func(d *disk) { d.writeErr = bad },
		"short write": func(d *disk) { d.short = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{latency: time.Second}
				a := newFileAudit(d)
				if err := a.Record(t.Context(), Event{ID: "before"}); err != nil {
					t.Fatal(err)
				}
				break_(d)
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() { // some in the batch that fails, some in the one behind it
						time.Sleep(time.Duration(i) * 100 * time.Millisecond)
						if err := a.Record(t.Context(), Event{ID: fmt.Sprint("e", i)}); err == nil {
							t.Errorf("event %d is acknowledged by a bad disk", i)
						}
					})
				}
				wg.Wait()
				syncs, written := d.syncs, d.written
				d.syncErr, d.writeErr, d.short = nil, nil, false
				if err := a.Record(t.Context(), Event{ID: "after"}); err == nil {
					t.Error("acknowledged after a failure")
				}
				if d.syncs != syncs || d.written != written {
					t.Error("the file was used again after a failure")
				}
				if err := a.Close(); err != nil || d.closed != 1 {
					t.Error(err, d.closed)
				}
			})
		})
	}
}

func TestFileAuditClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{latency: time.Second}
		a := newFileAudit(d)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if err := a.Record(t.Context(), Event{ID: fmt.Sprint("e", i)}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if err := a.Close(); err != nil {
					t.Error(err)
				}
				if n := strings.Count(d.durable, "\n"); n != 10 {
					t.Errorf("Close returned with %d of 10 lines on disk", n)
				}
			})
		}
		wg.Wait()
		if err := a.Record(t.Context(), Event{ID: "late"}); !errors.Is(err, ErrClosed) {
			t.Errorf("Record after Close: %v", err)
		}
		if d.closed != 1 {
			t.Errorf("the file was closed %d times", d.closed)
		}
	})
}
