package byok

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok/internal/storecheck"
)

// The limits stand twice, since storecheck cannot import this package.
func TestLimitsAgree(t *testing.T) {
	if storecheck.MaxRefPart != MaxRefPart || storecheck.MaxItemValue != MaxItemValue ||
		storecheck.MaxApplyWrites != MaxApplyWrites || storecheck.MaxListLimit != MaxListLimit {
		t.Error("storecheck has other limits than Store")
	}
}

func TestEventIDs(t *testing.T) {
	var m MemAudit
	for _, id := range []string{"", "a b", "a\n", "é", string(make([]byte, 256))} {
		if err := m.Record(t.Context(), Event{ID: id}); !errors.Is(err, ErrArgument) {
			t.Errorf("event id %q: %v", id, err)
		}
	}
	if n := len(m.All()); n != 0 {
		t.Errorf("%d events", n)
	}
}

// TestMemAuditAll: in the order of arrival, of all tenants, and a copy.
func TestMemAuditAll(t *testing.T) {
	var m MemAudit
	if m.All() == nil || len(m.All()) != 0 {
		t.Error("the zero MemAudit has events")
	}
	for i, tenant := range []string{"b", "a", "b"} {
		e := Event{ID: fmt.Sprint(9 - i), Time: time.Unix(int64(-i), 0), Scope: Scope{Tenant: tenant}, Calls: []KMSCall{{Op: "Decrypt"}}}
		if err := m.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	all := m.All()
	if len(all) != 3 || all[0].ID != "9" || all[2].ID != "7" {
		t.Fatalf("%v", all)
	}
	all[0].Calls[0].Op = "changed"
	if m.All()[0].Calls[0].Op != "Decrypt" {
		t.Error("All lends its own slices")
	}
}

// Events with times that only a broken clock has are kept, in order, without a panic.
func TestMemAuditBrokenClocks(t *testing.T) {
	var m MemAudit
	for i, at := range []time.Time{{}, time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Unix(0, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if err := m.Record(t.Context(), Event{ID: fmt.Sprint(i), Time: at, Scope: Scope{Tenant: "t"}}); err != nil {
			t.Fatal(err)
		}
	}
	var got string
	for q := (AuditQuery{Limit: 1}); ; {
		p, err := m.Events(t.Context(), "t", q)
		if err != nil {
			t.Fatal(err)
		}
		got += p.Events[0].ID
		if q.Cursor = p.NextCursor; q.Cursor == "" {
			break
		}
	}
	if got != "3210" {
		t.Errorf("order %s", got)
	}
}

// TestMemConcurrent is for the race detector.
func TestMemConcurrent(t *testing.T) {
	var m MemStore
	var a MemAudit
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				r := Ref{Partition: "p", ID: fmt.Sprint(i)}
				old, _ := m.Get(t.Context(), r)
				_ = m.Apply(t.Context(), Item{Ref: r, Revision: old.Revision, Value: []byte{byte(g)}})
				_, _ = m.List(t.Context(), "p", "", 10)
				_ = a.Record(t.Context(), Event{ID: fmt.Sprintf("%d-%d", g%4, i)})
				_, _ = a.Events(t.Context(), "", AuditQuery{})
				_ = a.All()
			}
		})
	}
	wg.Wait()
}
