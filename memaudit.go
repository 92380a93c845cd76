package byok

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/byok-go/byok/internal/storecheck"
)

// MemAudit is an AuditSink and AuditReader in memory, for tests and demos. It
// forgets nothing before the process ends, and everything then. The zero
// MemAudit is ready.
type MemAudit struct {
	mu      sync.RWMutex
	ids     map[string]struct{}
	all     []Event            // in the order of arrival
	tenants map[string][]Event // oldest first
}

// Record implements AuditSink.
func (m *MemAudit) Record(ctx context.Context, e Event) error {
	if err := checkEvent(e); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e = e.clone()
	e.Time = e.Time.Round(0).UTC() // without a monotonic reading, as every other sink returns it
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.ids[e.ID]; known {
		return nil
	}
	if m.ids == nil {
		m.ids = make(map[string]struct{})
		m.tenants = make(map[string][]Event)
	}
	m.ids[e.ID] = struct{}{}
	m.all = append(m.all, e)
	// Nearly always this is the newest; a late delivery goes where it belongs.
	log := m.tenants[e.Scope.Tenant]
	i := position(log, storecheck.Nano(e.Time), e.ID)
	m.tenants[e.Scope.Tenant] = slices.Insert(log, i, e)
	return nil
}

// Events implements AuditReader.
func (m *MemAudit) Events(ctx context.Context, tenant string, q AuditQuery) (AuditPage, error) {
	r, err := q.check(tenant)
	if err != nil {
		return AuditPage{}, err
	}
	if err := ctx.Err(); err != nil {
		return AuditPage{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	log := m.tenants[tenant]
	// No id sorts before "": these are the first events at or after each bound.
	from := position(log, r.from, "")
	to := len(log)
	if !q.End.IsZero() {
		to = max(from, position(log, r.to, ""))
	}
	log = log[from:to]

	var page AuditPage
	for i := len(log) - 1; i >= 0 && page.Total >= 0; i-- {
		e := log[i]
		if q.Op != "" && e.Op != q.Op {
			continue
		}
		if page.Total++; page.Total > AuditTotalLimit {
			page.Total = -1
		}
	}
	if r.paged {
		log = log[:position(log, r.beforeTime, r.beforeID)]
	}
	for i := len(log) - 1; i >= 0; i-- {
		e := log[i]
		if q.Op != "" && e.Op != q.Op {
			continue
		}
		if len(page.Events) == r.limit {
			last := page.Events[r.limit-1]
			page.NextCursor = storecheck.Cursor(tenant, storecheck.Nano(last.Time), last.ID)
			break
		}
		page.Events = append(page.Events, e.clone())
	}
	return page, nil
}

// All returns a copy of every tenant's events in the order of their arrival.
func (m *MemAudit) All() []Event {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]Event, len(m.all))
	for i, e := range m.all {
		all[i] = e.clone()
	}
	return all
}

// position is the index of the first event of log that is not older.
func position(log []Event, nano int64, id string) int {
	i, _ := slices.BinarySearchFunc(log, 0, func(e Event, _ int) int {
		return cmp.Or(cmp.Compare(storecheck.Nano(e.Time), nano), cmp.Compare(e.ID, id))
	})
	return i
}

func (e Event) clone() Event {
	e.Calls = slices.Clone(e.Calls)
	return e
}
