package dynamostore_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/dynamofake"
)

// TestG8_EveryReadIsConsistent: whatever a Store reads, it asks for what is
// consistent, also on the second page and when it asks again. A transaction has no
// such word: it is consistent always.
func TestG8_EveryReadIsConsistent(t *testing.T) {
	var mu sync.Mutex
	reads := map[string]int{}
	faults := newStorm()
	faults.quiet = true
	db := newTable(t, &dynamofake.Options{
		PageSize: 500,
		Choose:   faults.choose,
		Watch: func(op string, body []byte) {
			var in struct {
				ConsistentRead bool
				RequestItems   map[string]struct{ ConsistentRead bool }
			}
			if err := json.Unmarshal(body, &in); err != nil {
				t.Error(err)
			}
			ok := false
			switch op {
			case "CreateTable", "DescribeTable", "TransactWriteItems": // no reads of entries
				return
			case "TransactGetItems":
				ok = true
			case "Query":
				ok = in.ConsistentRead
			case "BatchGetItem":
				ok = len(in.RequestItems) == 1 && in.RequestItems[table].ConsistentRead
			}
			if !ok {
				t.Errorf("a read that may be old: %s %s", op, body)
			}
			mu.Lock()
			defer mu.Unlock()
			reads[op]++
		},
	})
	s := open(t, db)
	s.Hurry()
	faults.quiet = false
	ctx := t.Context()
	var last time.Time
	for n := range 120 {
		w := byok.Item{Ref: byok.Ref{Partition: "p", ID: fmt.Sprintf("%03d", n)}, Value: []byte("value")}
		e := byok.Event{ID: fmt.Sprintf("e%03d", n), Time: time.Unix(int64(n), 0), Op: byok.OpSeal, Scope: byok.Scope{Tenant: "t"}}
		if err := s.Apply(ctx, w); err != nil {
			t.Fatal(err)
		}
		if err := s.Record(ctx, e); err != nil {
			t.Fatal(err)
		}
		last = e.Time
		if got, err := s.Get(ctx, w.Ref); err != nil || got.Revision != 1 {
			t.Fatal(got, err)
		}
	}
	if l, err := s.List(ctx, "p", "", 1000); err != nil || len(l) != 120 {
		t.Fatal(len(l), err)
	}
	for _, q := range []byok.AuditQuery{{Limit: 110}, {Op: byok.OpSeal, Limit: 7}, {Start: time.Unix(1, 0), End: last}} {
		p, err := s.Events(ctx, "t", q)
		if err != nil || len(p.Events) == 0 {
			t.Fatal(p, err)
		}
		if q.Cursor = p.NextCursor; q.Cursor == "" {
			t.Fatal("one page only")
		}
		if p, err = s.Events(ctx, "t", q); err != nil || len(p.Events) == 0 {
			t.Fatal(p, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	var ops []string
	for op, n := range reads {
		if ops = append(ops, op); n < 5 {
			t.Errorf("%d requests %s", n, op)
		}
	}
	slices.Sort(ops)
	if want := []string{"BatchGetItem", "Query", "TransactGetItems"}; !slices.Equal(ops, want) {
		t.Errorf("it reads with %q, not %q", ops, want)
	}
}
