package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/storecheck"
)

// Store is a byok.Store, byok.AuditSink and byok.AuditReader. Make it with Open.
// It is safe for concurrent use, and any number of Stores and processes may
// share one database.
type Store struct {
	db    *sql.DB
	d     *dialect
	group group

	// The statements, in the dialect's own spelling.
	get, list, insert, update string
}

var (
	_ byok.Store       = (*Store)(nil)
	_ byok.AuditSink   = (*Store)(nil)
	_ byok.AuditReader = (*Store)(nil)
)

// Open returns the Store in db, which stays the caller's to close. It makes the
// tables if they are not there and migrates them if they are of an older
// version; other processes may do the same at the same time. A schema of a
// newer version is refused with ErrSchema.
func Open(ctx context.Context, db *sql.DB, d Dialect) (*Store, error) {
	parts := d.parts()
	if db == nil || parts == nil {
		return nil, fmt.Errorf("%w: sqlstore.Open needs a database and its dialect", byok.ErrArgument)
	}
	s := &Store{
		db: db, d: parts,
		get:    parts.bind(parts.get),
		list:   parts.bind(parts.list),
		insert: parts.bind(`INSERT INTO byok_items (part, id, revision, value) VALUES (?, ?, 1, ?) ON CONFLICT DO NOTHING`),
		update: parts.bind(`UPDATE byok_items SET revision = revision + 1, value = ? WHERE part = ? AND id = ? AND revision = ?`),
	}
	s.group.commit = s.commit
	if err := s.migrate(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore: open: %w", err)
	}
	return s, nil
}

// Get implements byok.Store.
func (s *Store) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if err := storecheck.Ref(r.Partition, r.ID); err != nil {
		return byok.Item{}, argument(err)
	}
	var got row
	err := s.retry(ctx, func() error {
		return s.db.QueryRowContext(ctx, s.get, r.Partition, r.ID).Scan(&got.stale, &got.revision, &got.value)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return byok.Item{}, byok.ErrNotFound
	case err == nil && got.stale:
		err = errStandby
	}
	if err != nil {
		return byok.Item{}, fmt.Errorf("sqlstore: get: %w", err)
	}
	if !got.revision.Valid {
		return byok.Item{}, byok.ErrNotFound
	}
	return byok.Item{Ref: r, Revision: uint64(got.revision.Int64), Value: got.value}, nil
}

// row is what get and list return.
type row struct {
	stale    bool
	id       sql.NullString
	revision sql.NullInt64
	value    []byte
}

// List implements byok.Store.
func (s *Store) List(ctx context.Context, partition, after string, limit int) ([]byok.Item, error) {
	if err := storecheck.List(partition, after, limit); err != nil {
		return nil, argument(err)
	}
	var items []byok.Item
	err := s.retry(ctx, func() error {
		items = nil
		rows, err := s.db.QueryContext(ctx, s.list, partition, after, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var got row
			if err := rows.Scan(&got.stale, &got.id, &got.revision, &got.value); err != nil {
				return err
			}
			if got.stale {
				return errStandby
			}
			if got.id.Valid {
				ref := byok.Ref{Partition: partition, ID: got.id.String}
				items = append(items, byok.Item{Ref: ref, Revision: uint64(got.revision.Int64), Value: got.value})
			}
		}
		return rows.Err() // a torn answer must not pass for a short one
	})
	if err != nil {
		return nil, fmt.Errorf("sqlstore: list: %w", err)
	}
	return items, nil
}

// Apply implements byok.Store.
func (s *Store) Apply(ctx context.Context, writes ...byok.Item) error {
	err := storecheck.Apply(len(writes), func(i int) (string, string, []byte) {
		return writes[i].Partition, writes[i].ID, writes[i].Value
	})
	if err != nil {
		return argument(err)
	}
	r := &request{writes: cloneItems(writes)}
	if s.d.oneWriter {
		err = s.group.do(ctx, r)
	} else {
		err = s.applyAlone(ctx, r)
	}
	if err != nil && !errors.Is(err, byok.ErrConflict) {
		return fmt.Errorf("sqlstore: apply: %w", err)
	}
	return err
}

// cloneItems is for a caller that leaves when its ctx is done and uses its
// slices again while the writes are still under way. The copy is in the order of
// Refs: all who write some of the same rows lock them in the same order, so that
// none waits for another that waits for it.
func cloneItems(writes []byok.Item) []byok.Item {
	c := make([]byok.Item, len(writes))
	for i, w := range writes {
		c[i] = w
		c[i].Value = append([]byte(nil), w.Value...)
	}
	slices.SortFunc(c, func(a, b byok.Item) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.ID, b.ID))
	})
	return c
}

func argument(err error) error { return fmt.Errorf("%w: %w", byok.ErrArgument, err) }

// retry repeats f while another connection is in its way, until ctx is done.
func (s *Store) retry(ctx context.Context, f func() error) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := f()
		if ctx.Err() != nil && err != nil && !errors.Is(err, sql.ErrNoRows) {
			return ctx.Err() // drivers have many ways to say that they were interrupted
		}
		if err == nil || !s.d.retry(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}
