package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/byok-go/byok/sqlstore/internal/conn"
)

var sqlite = dialect{
	name: "SQLite",
	migrations: [][]string{{
		// TEXT compares byte by byte here, which is the order that List promises.
		// STRICT keeps SQLite from turning an id of digits into a number.
		`CREATE TABLE byok_items (
			part     TEXT NOT NULL,
			id       TEXT NOT NULL,
			revision INTEGER NOT NULL CHECK (revision > 0),
			value    BLOB NOT NULL CHECK (length(value) > 0),
			PRIMARY KEY (part, id)
		) STRICT`,
		// time is nanoseconds since 1970. The indexes serve Events, with and
		// without an operation; both are read backwards.
		`CREATE TABLE byok_events (
			id     TEXT NOT NULL PRIMARY KEY,
			tenant TEXT NOT NULL,
			time   INTEGER NOT NULL,
			op     TEXT NOT NULL,
			event  TEXT NOT NULL
		) STRICT`,
		`CREATE INDEX byok_events_tenant ON byok_events (tenant, time, id)`,
		`CREATE INDEX byok_events_op ON byok_events (tenant, op, time, id)`,
	}},
	hasSchema: `SELECT count(*) FROM sqlite_schema WHERE name = 'byok_schema'`,
	setup:     sqliteSetup,
	// IMMEDIATE takes the write lock at once. A transaction that began with a read
	// could not be upgraded if another one wrote in between.
	begin: "BEGIN IMMEDIATE",
	ready: conn.Durable,

	get:  `SELECT false, revision, value FROM byok_items WHERE part = ? AND id = ?`,
	list: `SELECT false, id, revision, value FROM byok_items WHERE part = ? AND id > ? ORDER BY id LIMIT ?`,

	oneWriter: true,
	text:      func(s string) string { return s },
	record:    sqliteRecord,
	retry:     sqliteBusy,
	bind:      func(query string) string { return query },
}

// sqliteSetup turns on the write-ahead log, in which a reader sees the last
// commit and never waits for a writer. It is a property of the file.
func sqliteSetup(ctx context.Context, c *sql.Conn) error {
	var mode string
	if err := c.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if !strings.EqualFold(mode, "wal") {
		return fmt.Errorf("%w: it cannot use a write-ahead log: is it a local file?", ErrUnfit)
	}
	return nil
}

// sqliteBusy recognizes SQLITE_BUSY without importing a driver, and without
// reading texts. A driver that it does not know needs a busy_timeout.
func sqliteBusy(err error) bool {
	const busy = 5
	var coded interface{ Code() int } // modernc.org/sqlite: the extended code
	if errors.As(err, &coded) {
		return coded.Code()&0xff == busy
	}
	// github.com/ncruces/go-sqlite3: BUSY, or interrupted by a ctx that is done,
	// which is looked at before a retry.
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// sqliteRecord inserts row by row, which costs no round trips here.
func sqliteRecord(t *tx, batch []*request) error {
	insert, err := t.conn.PrepareContext(t.ctx, `INSERT INTO byok_events (id, tenant, time, op, event) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for _, r := range batch {
		if _, err := insert.ExecContext(t.ctx, r.event.id, r.event.tenant, r.event.time, r.event.op, r.event.text); err != nil {
			return err
		}
	}
	return nil
}
