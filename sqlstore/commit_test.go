package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/byok-go/byok"
)

// TestLeaverKeepsItsSlice: a caller that left, and uses its value again, does not
// change what is written for it.
func TestLeaverKeepsItsSlice(t *testing.T) { EachDriver(t, testLeaverKeepsItsSlice) }

func testLeaverKeepsItsSlice(t *testing.T) {
	s := openStore(t, dbFile(t), "")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	entered, gathered := make(chan struct{}), make(chan struct{})
	s.group.commit = func(ctx context.Context, batch []*request) {
		if len(batch) == 1 { // the first: keeps the others together behind it
			close(entered)
			<-gathered
		} else {
			leave()
			<-left
		}
		s.commit(ctx, batch)
	}
	put := func(ctx context.Context, id string, value []byte) error {
		return s.Apply(ctx, byok.Item{Ref: byok.Ref{Partition: "p", ID: id}, Value: value})
	}
	first, stays := make(chan error), make(chan error)
	go func() { first <- put(t.Context(), "first", []byte("x")) }()
	<-entered
	go func() {
		value := []byte("kept")
		if err := put(ctx, "leaves", value); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		copy(value, "lost")
		close(left)
	}()
	go func() { stays <- put(t.Context(), "stays", []byte("x")) }()
	for queued := 0; queued < 2; {
		s.group.mu.Lock()
		queued = len(s.group.queue)
		s.group.mu.Unlock()
	}
	close(gathered)
	if err := errors.Join(<-first, <-stays); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), byok.Ref{Partition: "p", ID: "leaves"})
	if err != nil || string(got.Value) != "kept" {
		t.Fatalf("%q, %v", got.Value, err)
	}
}

// TestBatchForgetsItsConflicts: what was a conflict in a transaction that did
// not last is judged again.
func TestBatchForgetsItsConflicts(t *testing.T) { EachDriver(t, testBatchForgetsItsConflicts) }

func testBatchForgetsItsConflicts(t *testing.T) {
	s := openStore(t, dbFile(t), "")
	if _, err := s.db.Exec(`CREATE TRIGGER t BEFORE INSERT ON byok_events BEGIN SELECT RAISE(ABORT, 'refused'); END`); err != nil {
		t.Fatal(err)
	}
	ref := byok.Ref{Partition: "p", ID: "i"}
	good := &request{writes: []byok.Item{{Ref: ref, Value: []byte("x")}}, err: byok.ErrConflict}
	poison := &request{event: &eventRow{id: "id", tenant: "tenant", time: 1, op: "op", text: "{}"}}
	s.commit(t.Context(), []*request{good, poison})
	if good.err != nil || poison.err == nil {
		t.Errorf("%v, %v", good.err, poison.err)
	}
	if _, err := s.Get(t.Context(), ref); err != nil {
		t.Error(err)
	}
}

type coded int

func (c coded) Error() string { return "coded" }
func (c coded) Code() int     { return int(c) }

type temporary bool

func (t temporary) Error() string   { return "temporary" }
func (t temporary) Temporary() bool { return bool(t) }

// TestSQLiteBusy: SQLITE_BUSY as the drivers spell it, with every extension.
func TestSQLiteBusy(t *testing.T) {
	for err, want := range map[error]bool{
		coded(5): true, coded(5 | 1<<8): true, coded(5 | 2<<8): true, coded(6): false, coded(19): false, coded(13): false,
		temporary(true): true, temporary(false): false, errors.New("database is locked"): false,
	} {
		if sqliteBusy(err) != want || sqliteBusy(fmt.Errorf("wrapped: %w", errors.Join(errors.New("x"), err))) != want {
			t.Errorf("%v: not %v", err, want)
		}
	}
}
