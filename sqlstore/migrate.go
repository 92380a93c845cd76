package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrSchema: the database was migrated by a newer version of this package. Run
// that version: this one does not know what it would break.
var ErrSchema = errors.New("the schema is newer than this program")

// schemaTable holds a row for each migration that was made.
const schemaTable = `CREATE TABLE IF NOT EXISTS byok_schema (version INTEGER NOT NULL PRIMARY KEY, migrated_at TEXT NOT NULL)`

// migrate brings the schema to the newest version, one transaction a step, so
// that a crash leaves a version and never something in between. Each step looks at the
// version again under the write lock: of many processes, one makes it.
func (s *Store) migrate(ctx context.Context) error {
	if err := s.setup(ctx); err != nil {
		return err
	}
	for {
		done := false
		_, err := s.transaction(ctx, func(t *tx) (err error) {
			done, err = s.migrateStep(t)
			return err
		})
		if done || err != nil {
			return err
		}
	}
}

func (s *Store) setup(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Switching the journal needs the file for itself for a moment.
	return s.retry(ctx, func() error { return s.d.setup(ctx, conn) })
}

func (s *Store) migrateStep(t *tx) (done bool, err error) {
	if err := t.exec(schemaTable); err != nil {
		return false, err
	}
	var newest sql.NullInt64
	if err := t.conn.QueryRowContext(t.ctx, `SELECT max(version) FROM byok_schema`).Scan(&newest); err != nil {
		return false, err
	}
	known := int64(len(s.d.migrations))
	version := newest.Int64 // 0 if there is none
	if version > known {
		return false, fmt.Errorf("%w: version %d, and it knows %d", ErrSchema, version, known)
	}
	if version == known {
		return true, nil
	}
	for _, statement := range s.d.migrations[version] {
		if err := t.exec(statement); err != nil {
			return false, fmt.Errorf("migration %d: %w", version+1, err)
		}
	}
	_, err = t.conn.ExecContext(t.ctx, s.d.bind(`INSERT INTO byok_schema (version, migrated_at) VALUES (?, ?)`),
		version+1, time.Now().UTC().Format(time.RFC3339))
	return false, err
}
