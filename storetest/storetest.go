// Package storetest checks implementations of byok.Store, byok.AuditSink and
// byok.AuditReader against their contracts. A driver's test is one line:
//
//	func TestContract(t *testing.T) {
//		storetest.TestStore(t, func(t *testing.T) byok.Store { return openEmpty(t) })
//	}
//
// Each case of TestStore runs twice: on the Store as it is, and behind faults, where
// operations fail before, after and in the middle of what they do.
//
// The suite is tested itself: stores with deliberate faults, from lost updates to
// aliased slices, each fail it. Faults is for tests of what uses a Store.
//
// The random histories of the model are 100 by default; -rapid.checks=1000 makes
// more of them.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"pgregory.net/rapid"
)

// TestStore checks the contract of byok.Store, and then that it holds for a user
// that meets errors before, after and in the middle of operations. open is called
// once for each case and returns a Store without items; it cleans up with t.Cleanup.
func TestStore(t *testing.T, open func(t *testing.T) byok.Store) {
	for _, c := range storeCases {
		t.Run(c.name, func(t *testing.T) { c.run(newStore(t, open(t))) })
	}
	faults := int64(0)
	t.Run("behind faults", func(t *testing.T) {
		for _, c := range storeCases {
			t.Run(c.name, func(t *testing.T) {
				s := newCareful(t, open(t))
				c.run(newStore(t, s))
				faults += s.made.Load()
			})
		}
	})
	t.Logf("storetest: %d cases of Store, and all of them again behind %d faults", len(storeCases), faults)
}

// TestSharedStore checks what holds between handles on the same data: it is
// durable, and consistent between processes. data is called once for each case
// and returns a function that opens one more handle on the same data, as another
// process would. The handles are closed with t.Cleanup; a handle that can be
// closed earlier implements io.Closer.
func TestSharedStore(t *testing.T, data func(t *testing.T) (open func(t *testing.T) byok.Store)) {
	for _, c := range sharedStoreCases {
		t.Run(c.name, func(t *testing.T) {
			open := data(t)
			c.run(t, func() *store { return newStore(t, open(t)) })
		})
	}
	t.Logf("storetest: %d cases of a shared Store", len(sharedStoreCases))
}

// tb is what a case needs of a *testing.T. The package's own tests pass another
// one, to see cases fail.
type tb interface {
	rapid.TB
	Context() context.Context
}

type storeCase struct {
	name string
	run  func(s *store)
}

// store is a Store under test, with the steps that the cases are made of.
type store struct {
	tb
	byok.Store
	ctx context.Context
}

func newStore(t tb, s byok.Store) *store { return &store{tb: t, Store: s, ctx: t.Context()} }

func item(partition, id string, revision uint64, value string) byok.Item {
	return byok.Item{Ref: byok.Ref{Partition: partition, ID: id}, Revision: revision, Value: []byte(value)}
}

// write applies writes that must succeed.
func (s *store) write(writes ...byok.Item) {
	s.Helper()
	if err := s.Apply(s.ctx, writes...); err != nil {
		s.Fatalf("Apply of %d items: %v", len(writes), err)
	}
}

// conflict applies writes that must be refused for a revision.
func (s *store) conflict(writes ...byok.Item) {
	s.Helper()
	err := s.Apply(s.ctx, writes...)
	if !errors.Is(err, byok.ErrConflict) {
		s.Fatalf("Apply with a wrong revision: %v, want ErrConflict", err)
	}
	if errors.Is(err, byok.ErrNotFound) || errors.Is(err, byok.ErrArgument) {
		s.Fatalf("a conflict is other errors, too: %v", err)
	}
}

// refused applies writes that must be refused as ErrArgument.
func (s *store) refused(what string, writes ...byok.Item) {
	s.Helper()
	s.argument(what, s.Apply(s.ctx, writes...))
}

func (s *store) argument(what string, err error) {
	s.Helper()
	if !errors.Is(err, byok.ErrArgument) {
		s.Fatalf("%s: %v, want ErrArgument", what, err)
	}
}

// want checks one item as Get returns it.
func (s *store) want(partition, id string, revision uint64, value string) {
	s.Helper()
	got, err := s.Get(s.ctx, byok.Ref{Partition: partition, ID: id})
	if err != nil {
		s.Fatalf("Get of %q, %q: %v", partition, id, err)
	}
	same(s, got, item(partition, id, revision, value))
}

// missing checks that there is no such item.
func (s *store) missing(partition, id string) {
	s.Helper()
	got, err := s.Get(s.ctx, byok.Ref{Partition: partition, ID: id})
	if !errors.Is(err, byok.ErrNotFound) {
		s.Fatalf("Get of an item that was never written: revision %d, %v, want ErrNotFound", got.Revision, err)
	}
}

// wantList checks one List.
func (s *store) wantList(partition, after string, limit int, want ...byok.Item) {
	s.Helper()
	got, err := s.List(s.ctx, partition, after, limit)
	if err != nil {
		s.Fatalf("List after %q: %v", after, err)
	}
	if len(got) != len(want) {
		s.Fatalf("List after %q with limit %d: %d items, want %d", after, limit, len(got), len(want))
	}
	for i := range want {
		same(s, got[i], want[i])
	}
}

func same(t tb, got, want byok.Item) {
	t.Helper()
	if got.Ref != want.Ref || got.Revision != want.Revision {
		t.Fatalf("got %q at revision %d, want %q at %d", got.Ref, got.Revision, want.Ref, want.Revision)
	}
	if !bytes.Equal(got.Value, want.Value) {
		t.Fatalf("the value of %q is not what was written: %s, want %s", got.Ref, brief(got.Value), brief(want.Value))
	}
}

func brief(b []byte) string {
	if len(b) > 32 {
		return fmt.Sprintf("%d bytes %x...", len(b), b[:32])
	}
	return fmt.Sprintf("%d bytes %x", len(b), b)
}

// soon fails if f, whose ctx is done, does not return within a generous time.
func soon(t tb, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not return though its ctx is done", what)
	}
}

// parallel runs f(0) to f(n-1) at the same time, and fails with their first error.
func parallel(t tb, n int, f func(i int) error) {
	t.Helper()
	start, errs := make(chan struct{}), make(chan error, n)
	for i := range n {
		go func() {
			<-start
			errs <- f(i)
		}()
	}
	close(start)
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		t.Fatal(first)
	}
}
