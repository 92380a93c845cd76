package byok

import (
	"fmt"
	"math"

	"github.com/byok-go/byok/internal/storecheck"
)

// auditRange is an AuditQuery, checked: from <= Time < to in nanoseconds, and
// older than (beforeTime, beforeID) if paged.
type auditRange struct {
	limit      int
	from, to   int64
	paged      bool
	beforeTime int64
	beforeID   string
}

func (q AuditQuery) check(tenant string) (r auditRange, err error) {
	r = auditRange{from: math.MinInt64, to: math.MaxInt64}
	if r.limit, err = storecheck.AuditLimit(q.Limit); err != nil {
		return r, fmt.Errorf("%w: %w", ErrArgument, err)
	}
	if !q.Start.IsZero() {
		r.from = storecheck.Nano(q.Start)
	}
	if !q.End.IsZero() {
		r.to = storecheck.Nano(q.End)
	}
	if q.Cursor != "" {
		r.paged = true
		if r.beforeTime, r.beforeID, err = storecheck.ParseCursor(tenant, q.Cursor); err != nil {
			return r, fmt.Errorf("%w: %w", ErrArgument, err)
		}
	}
	return r, nil
}

// checkEvent refuses what a sink could not find again.
func checkEvent(e Event) error {
	if err := storecheck.Part(e.ID); err != nil {
		return fmt.Errorf("%w: the id of an event: %w", ErrArgument, err)
	}
	return nil
}
