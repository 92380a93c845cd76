package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/storecheck"
)

// Record implements byok.AuditSink. An event is kept for ever; deleting rows of
// byok_events is the platform's to do, by its own rules of retention.
func (s *Store) Record(ctx context.Context, e byok.Event) error {
	if err := storecheck.Part(e.ID); err != nil {
		return argument(err)
	}
	e.Time = e.Time.UTC()
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("%w: the event has no JSON form", byok.ErrArgument)
	}
	row := &eventRow{id: e.ID, tenant: s.d.text(e.Scope.Tenant), time: storecheck.Nano(e.Time), op: s.d.text(string(e.Op)), text: string(text)}
	if err := s.group.do(ctx, &request{event: row}); err != nil {
		return fmt.Errorf("sqlstore: record: %w", err)
	}
	return nil
}

// eventRow is a row of byok_events.
type eventRow struct {
	id, tenant string
	time       int64
	op, text   string
}

// Events implements byok.AuditReader.
func (s *Store) Events(ctx context.Context, tenant string, q byok.AuditQuery) (byok.AuditPage, error) {
	limit, err := storecheck.AuditLimit(q.Limit)
	if err != nil {
		return byok.AuditPage{}, argument(err)
	}
	where, args := "tenant = ?", []any{s.d.text(tenant)}
	and := func(condition string, values ...any) {
		where, args = where+" AND "+condition, append(args, values...)
	}
	if q.Op != "" {
		and("op = ?", s.d.text(string(q.Op)))
	}
	if !q.Start.IsZero() {
		and("time >= ?", storecheck.Nano(q.Start))
	}
	if !q.End.IsZero() {
		and("time < ?", storecheck.Nano(q.End))
	}
	// The count is of all pages, so it does not know the cursor.
	countWhere, countArgs := where, args[:len(args):len(args)]
	if q.Cursor != "" {
		nano, id, err := storecheck.ParseCursor(tenant, q.Cursor)
		if err == nil {
			err = storecheck.Part(id)
		}
		if err != nil {
			return byok.AuditPage{}, argument(err)
		}
		and("(time, id) < (?, ?)", nano, id)
	}
	var page byok.AuditPage
	err = s.retry(ctx, func() (err error) {
		if page, err = s.page(ctx, tenant, where, args, limit); err != nil {
			return err
		}
		page.Total, err = s.count(ctx, countWhere, countArgs)
		return err
	})
	if err != nil {
		return byok.AuditPage{}, fmt.Errorf("sqlstore: events: %w", err)
	}
	return page, nil
}

func (s *Store) page(ctx context.Context, tenant, where string, args []any, limit int) (page byok.AuditPage, err error) {
	// One more than asked for tells whether there is a next page.
	query := "SELECT id, time, event FROM byok_events WHERE " + where + " ORDER BY time DESC, id DESC LIMIT ?"
	rows, err := s.db.QueryContext(ctx, s.d.bind(query), append(args[:len(args):len(args)], limit+1)...)
	if err != nil {
		return page, err
	}
	defer rows.Close()
	var lastTime int64
	var lastID string
	for rows.Next() {
		var id, text string
		var nano int64
		if err := rows.Scan(&id, &nano, &text); err != nil {
			return page, err
		}
		if len(page.Events) == limit {
			page.NextCursor = storecheck.Cursor(tenant, lastTime, lastID)
			continue
		}
		var e byok.Event
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&e); err != nil {
			return page, fmt.Errorf("an event in the database is damaged: %T", err) // its text may quote the event
		}
		page.Events = append(page.Events, e)
		lastTime, lastID = nano, id
	}
	return page, rows.Err()
}

// count is exact up to AuditTotalLimit, and looks at no more rows than that.
func (s *Store) count(ctx context.Context, where string, args []any) (n int, err error) {
	query := "SELECT count(*) FROM (SELECT 1 FROM byok_events WHERE " + where + " LIMIT ?) AS capped"
	err = s.db.QueryRowContext(ctx, s.d.bind(query), append(args, byok.AuditTotalLimit+1)...).Scan(&n)
	if n > byok.AuditTotalLimit {
		n = -1
	}
	return n, err
}
