package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

// behindFaults runs cases on a Store behind faults.
func behindFaults(t *testing.T, open func() byok.Store, only ...string) map[string]string {
	return storeFailures(t, func() byok.Store { return newCareful(t, open()) }, only...)
}

func TestBehindFaultsAcceptsMemStore(t *testing.T) {
	for name, message := range behindFaults(t, func() byok.Store { return new(byok.MemStore) }) {
		t.Errorf("%s: %s", name, message)
	}
}

// TestBehindFaultsDetects: Stores that are right until their ctx ends in the
// middle of an Apply.
func TestBehindFaultsDetects(t *testing.T) {
	for name, end := range map[string]func(s *faulty, ctx context.Context, writes []byok.Item) error{
		"half an Apply": func(s *faulty, ctx context.Context, writes []byok.Item) error {
			if err := s.plainApply(ctx, writes[:1]); err != nil {
				return err
			}
			return ctx.Err()
		},
		"written, and a conflict": func(s *faulty, ctx context.Context, writes []byok.Item) error {
			if err := s.plainApply(ctx, writes); err != nil {
				return err
			}
			return byok.ErrConflict
		},
		"not written, and a conflict": func(*faulty, context.Context, []byok.Item) error { return byok.ErrConflict },
		"not written, and no error":   func(*faulty, context.Context, []byok.Item) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			open := func() byok.Store {
				return newFaulty(func(s *faulty) {
					s.apply = func(s *faulty, ctx context.Context, writes []byok.Item) error {
						if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < 500*time.Microsecond {
							return end(s, ctx, writes)
						}
						return s.plainApply(ctx, writes)
					}
				})
			}
			by := "random histories against a map"
			detected(t, by, behindFaults(t, open, by))
		})
	}
}

// TestFaults: each fault is what it says.
func TestFaults(t *testing.T) {
	ctx := t.Context()
	ref := byok.Ref{Partition: "p", ID: "b"}
	for _, c := range []struct {
		fault      Fault
		get, apply error
		value      string // of b, as Get shows it
		ids        string // of the partition, as List shows them
		written    string // of b, by an Apply of a, b
	}{
		{fault: NoFault, value: "2222", ids: "abc", written: "3333"},
		{fault: FailBefore, get: ErrFault, apply: ErrFault, written: "2222"},
		{fault: FailAfter, get: ErrFault, apply: ErrFault, written: "3333"},
		{fault: Hang, get: context.DeadlineExceeded, apply: context.DeadlineExceeded, written: "2222"},
		{fault: HangAfter, get: context.DeadlineExceeded, apply: context.DeadlineExceeded, written: "3333"},
		{fault: Stale, value: "1111", ids: "b", written: "3333"}, // a and c were not there
		{fault: Missing, get: byok.ErrNotFound, ids: "ac", written: "3333"},
		{fault: Torn, value: "22", ids: "abc", written: "3333"},
		{fault: Unordered, value: "2222", ids: "cba", written: "3333"},
	} {
		fault := NoFault
		m := new(byok.MemStore)
		f := NewFaults(m, func(string, string) Fault { return fault })
		s := newStore(t, f)
		s.write(item("p", "a", 0, "1111"), item("p", "b", 0, "1111"), item("p", "c", 0, "1111"))
		s.write(item("p", "b", 1, "2222"))
		fault = c.fault
		soon := func() context.Context {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}
		got, err := f.Get(soon(), ref)
		if !errors.Is(err, c.get) || string(got.Value) != c.value {
			t.Errorf("fault %d: Get: %q, %v", c.fault, got.Value, err)
		}
		ids := ""
		items, err := f.List(soon(), "p", "", 10)
		for _, i := range items {
			ids += i.ID
		}
		if listErr := c.get; ids != c.ids || !errors.Is(err, listErr) && listErr != byok.ErrNotFound {
			t.Errorf("fault %d: List: %q, %v", c.fault, ids, err)
		}
		if err := f.Apply(soon(), item("p", "a", 1, "3333"), item("p", "b", 2, "3333")); !errors.Is(err, c.apply) {
			t.Errorf("fault %d: Apply: %v", c.fault, err)
		}
		if got, err := m.Get(ctx, ref); err != nil || string(got.Value) != c.written {
			t.Errorf("fault %d: after Apply: %q, %v", c.fault, got.Value, err)
		}
	}
	fault := NoFault
	f := NewFaults(new(byok.MemStore), func(string, string) Fault { return fault })
	s := newStore(t, f)
	s.write(item("p", "a", 0, "1111"), item("p", "b", 0, "2222"))
	fault = Foreign
	if got, err := f.Get(ctx, ref); err != nil || bytes.Equal(got.Value, []byte("2222")) {
		t.Errorf("Foreign: %q, %v", got.Value, err)
	}
	fault = Stale
	if got, err := f.Get(ctx, ref); !errors.Is(err, byok.ErrNotFound) {
		t.Errorf("an item that is new, and a stale answer: %q, %v", got.Value, err)
	}
}
