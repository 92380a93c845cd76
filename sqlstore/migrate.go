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
//
// A schema that is up to date is only read, and the program needs no right to
// change it.
func (s *Store) migrate(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	// Switching SQLite's journal needs the file for itself for a moment.
	version := 0
	err = s.retry(ctx, func() (err error) {
		if err = s.d.setup(ctx, conn); err == nil {
			version, err = s.version(ctx, conn)
		}
		return err
	})
	_ = conn.Close()
	for err == nil && version < len(s.d.migrations) {
		_, err = s.transaction(ctx, func(t *tx) (err error) {
			version, err = s.migrateStep(t)
			return err
		})
	}
	return err
}

// version is 0 if there is no schema yet.
func (s *Store) version(ctx context.Context, conn *sql.Conn) (version int, err error) {
	var there bool
	if err := conn.QueryRowContext(ctx, s.d.hasSchema).Scan(&there); err != nil || !there {
		return 0, err
	}
	if err := conn.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM byok_schema`).Scan(&version); err != nil {
		return 0, err
	}
	if known := len(s.d.migrations); version > known {
		return 0, fmt.Errorf("%w: version %d, and it knows %d", ErrSchema, version, known)
	}
	return version, nil
}

// migrateStep makes at most one migration, and returns what version there is now.
func (s *Store) migrateStep(t *tx) (version int, err error) {
	if s.d.lock != "" {
		if err := t.exec(s.d.lock); err != nil {
			return 0, err
		}
	}
	version, err = s.version(t.ctx, t.conn)
	if err != nil || version == len(s.d.migrations) {
		return version, err // somebody else was faster
	}
	if version == 0 {
		if err := t.exec(schemaTable); err != nil {
			return 0, err
		}
	}
	for _, statement := range s.d.migrations[version] {
		if err := t.exec(statement); err != nil {
			return 0, fmt.Errorf("migration %d: %w", version+1, err)
		}
	}
	_, err = t.conn.ExecContext(t.ctx, s.d.bind(`INSERT INTO byok_schema (version, migrated_at) VALUES (?, ?)`),
		version+1, time.Now().UTC().Format(time.RFC3339))
	return version + 1, err
}
