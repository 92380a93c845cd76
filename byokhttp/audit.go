package byokhttp

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/byok-go/byok"
)

// auditPage is a page of the audit log. Entries are byok.Event as it is kept, so
// that what an auditor reads here is what the sink has.
type auditPage struct {
	Entries    []byok.Event `json:"entries"`
	NextCursor *string      `json:"next_cursor"` // null on the last page
	TotalCount *int         `json:"total_count"` // null beyond byok.AuditTotalLimit
}

func (h *handler) audit(c *call) (int, any, error) {
	q, err := auditQuery(c.URL.Query())
	if err != nil {
		return 0, nil, err
	}
	p, err := c.tenant.Audit(c.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	out := auditPage{Entries: notNull(p.Events), NextCursor: orNull(p.NextCursor)}
	if p.Total >= 0 {
		out.TotalCount = &p.Total
	}
	return http.StatusOK, out, nil
}

func auditQuery(v url.Values) (byok.AuditQuery, error) {
	q := byok.AuditQuery{Limit: 100, Cursor: v.Get("cursor")}
	if v.Has("limit") {
		n, err := strconv.Atoi(v.Get("limit"))
		if err != nil || n < 1 || n > 1000 {
			return q, badRequest("limit must be 1 to 1000.")
		}
		q.Limit = n
	}
	if v.Has("cursor") && q.Cursor == "" || len(q.Cursor) > 1024 {
		return q, badRequest("cursor must be the next_cursor of the page before.")
	}
	for _, b := range []struct {
		name string
		at   *time.Time
	}{{"start", &q.Start}, {"end", &q.End}} {
		if !v.Has(b.name) {
			continue
		}
		t, err := time.Parse(time.RFC3339, v.Get(b.name))
		if err != nil {
			return q, badRequest("%s must be an RFC 3339 time, such as 2026-01-31T12:00:00Z.", b.name)
		}
		*b.at = t.UTC()
	}
	if !q.Start.IsZero() && !q.End.IsZero() && !q.Start.Before(q.End) {
		return q, badRequest("start must be before end.")
	}
	if v.Has("operation") {
		if q.Op = byok.Op(v.Get("operation")); !isOp(q.Op) {
			return q, badRequest("operation must be one word, such as seal.")
		}
	}
	return q, nil
}

// isOp checks the form only: a newer version may have more operations.
func isOp(op byok.Op) bool {
	if op == "" || len(op) > 32 {
		return false
	}
	for i := range len(op) {
		if (op[i] < 'a' || op[i] > 'z') && op[i] != '_' {
			return false
		}
	}
	return true
}
