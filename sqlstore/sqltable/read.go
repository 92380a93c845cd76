package sqltable

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/storecheck"
	"github.com/byok-go/byok/sqlstore/internal/conn"
)

// row is what a page's query returns of each.
type row struct {
	stale        bool
	key          *string // nil: there is no row, only the answer about stale
	value, clear []byte
	isClear      bool
	state        int
}

// States of a row.
const (
	rowFine     = 0
	rowContrary = 1 // it has both a sealed and a clear value, or one of another type than its column's: SQLite lets it
	rowType     = 2 // its key is of another type than the column's
)

// Records implements byok.Source.
func (s *Source) Records(ctx context.Context, after, last string, limit int) ([]byok.Record, error) {
	if limit < 1 {
		return nil, bad("a page has at least one record")
	}
	if after == "" && s.sql.noKey != "" { // once in each pass
		var without bool
		if err := s.db.QueryRowContext(ctx, s.sql.noKey, s.tenantArgs()...).Scan(&without); err != nil {
			return nil, clean(ctx, "read", err)
		}
		if without {
			return nil, bad("there are rows whose %s is NULL: they would never be found", s.table.Key)
		}
	}
	args := s.tenantArgs()
	for _, key := range []string{after, last} {
		if key != "" {
			arg, err := s.argument(key)
			if err != nil {
				return nil, err
			}
			args = append(args, arg)
		}
	}
	rows, err := s.db.QueryContext(ctx, s.sql.page(after != "", last != ""), append(args, limit)...)
	if err != nil {
		return nil, clean(ctx, "read", err)
	}
	defer rows.Close()
	var out []byok.Record
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.stale, &r.key, &r.value, &r.clear, &r.isClear, &r.state); err != nil {
			return nil, clean(ctx, "read", err)
		}
		if r.stale {
			return nil, conn.ErrStandby
		}
		if r.key == nil {
			continue
		}
		record, err := s.record(&r)
		if err != nil {
			return nil, err
		}
		out = append(out, record)
	}
	if err := rows.Err(); err != nil { // a torn answer must not pass for a short one
		return nil, clean(ctx, "read", err)
	}
	return out, nil
}

func (s *Source) record(r *row) (byok.Record, error) {
	out := byok.Record{Key: *r.key, Purpose: s.table.Purpose}
	if s.table.AAD != nil {
		out.AAD = s.table.AAD(out.Key)
	}
	switch {
	case r.state == rowType:
		return byok.Record{}, bad("the row %q has a key of another type than the column", out.Key)
	case r.state == rowContrary: // nobody can tell what it is: without a value, it is a bad record
	case r.isClear && s.table.Clear != "":
		out.Value, out.Clear = r.clear, true
	default:
		out.Value, out.Clear = r.value, r.isClear
	}
	return out, nil
}

// Replace implements byok.Source.
func (s *Source) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	if len(records) != len(sealed) {
		return nil, bad("%d records, and %d to replace them", len(records), len(sealed))
	}
	if len(records) == 0 {
		return nil, nil
	}
	for i := range records {
		if len(sealed[i]) == 0 {
			return nil, bad("nothing is no envelope")
		}
		if _, err := s.argument(records[i].Key); err != nil {
			return nil, err
		}
	}
	done, err := s.d.replace(ctx, s, records, sealed)
	if err != nil {
		return nil, clean(ctx, opReplace, err)
	}
	return done, nil
}

// Count implements byok.Counter. On Postgres it is the planner's estimate if there are many.
func (s *Source) Count(ctx context.Context) (int64, error) {
	n, err := s.d.count(ctx, s)
	if err != nil {
		return 0, clean(ctx, "count", err)
	}
	return n, nil
}

// maxSplit bounds Split: more shards have no use.
const maxSplit = 1000

// Split implements byok.Splitter. It reads the index of the keys once, or, of a large table on Postgres, a sample of the rows.
func (s *Source) Split(ctx context.Context, n int) ([]string, error) {
	if n < 1 || n > maxSplit {
		return nil, bad("1 to %d shards", maxSplit)
	}
	if n == 1 {
		return nil, nil
	}
	lasts, err := s.d.split(ctx, s, n)
	if err != nil {
		return nil, clean(ctx, "split", err)
	}
	return slices.DeleteFunc(lasts, func(key string) bool { return !storecheck.RecordKey(key) }), nil // then two shards are one
}

// stepped splits by going along the keys, size rows at a time.
func (s *Source) stepped(ctx context.Context, n int) (lasts []string, err error) {
	var total int64
	if err := s.db.QueryRowContext(ctx, s.sql.count, s.tenantArgs()...).Scan(&total); err != nil {
		return nil, err
	}
	size := (total + int64(n) - 1) / int64(n)
	if total < int64(n) {
		return nil, nil // there is nothing to share out
	}
	for len(lasts) < n-1 {
		args := s.tenantArgs()
		if len(lasts) > 0 {
			arg, err := s.argument(lasts[len(lasts)-1])
			if err != nil {
				return nil, err
			}
			args = append(args, arg)
		}
		var key string
		err := s.db.QueryRowContext(ctx, s.sql.step(len(lasts) > 0), append(args, size-1)...).Scan(&key)
		if errors.Is(err, sql.ErrNoRows) {
			break // rows have gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		lasts = append(lasts, key)
	}
	return lasts, nil
}
