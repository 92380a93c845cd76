package byokhttp

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
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
	if q.Cursor != "" && errors.Is(err, byok.ErrArgument) {
		return 0, nil, errCursor // all else has been checked
	}
	if err != nil {
		return 0, nil, err
	}
	out := auditPage{Entries: notNull(p.Events), NextCursor: orNull(p.NextCursor)}
	if p.Total >= 0 {
		out.TotalCount = &p.Total
	}
	return http.StatusOK, out, nil
}

var errCursor = badRequest("cursor must be the next_cursor of a page of this audit log, as it was given.")

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
		return q, errCursor
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
		// An unknown one would find nothing, and look like "it never happened".
		if q.Op = byok.Op(v.Get("operation")); !slices.Contains(ops, q.Op) {
			return q, badRequest("operation must be one of %s.", opNames())
		}
	}
	return q, nil
}

// ops is every byok.Op; a test compares.
var ops = []byok.Op{
	byok.OpRegister, byok.OpActivate, byok.OpWaiver, byok.OpSeal, byok.OpOpen, byok.OpRotate, byok.OpRewrap, byok.OpMove, byok.OpJob, byok.OpReseal, byok.OpRevoke, byok.OpSuspend,
	byok.OpResume, byok.OpHealth, byok.OpRecheck, byok.OpLease, byok.OpRenew, byok.OpDeny, byok.OpRestore, byok.OpProbe, byok.OpMaterial,
	byok.OpRelease, byok.OpExport, byok.OpPlatformKey, byok.OpDrillable,
}

func opNames() string {
	var names []string
	for _, op := range ops {
		names = append(names, string(op))
	}
	return strings.Join(names, ", ")
}
