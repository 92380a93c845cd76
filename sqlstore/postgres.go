package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/byok-go/byok/sqlstore/internal/conn"
)

var postgres = dialect{
	name: "PostgreSQL",
	migrations: [][]string{{
		// COLLATE "C" compares byte by byte, whatever the locale of the database:
		// that is the order that List promises, and no upgrade of the C library
		// changes it under an index.
		`CREATE TABLE byok_items (
			part     TEXT COLLATE "C" NOT NULL,
			id       TEXT COLLATE "C" NOT NULL,
			revision BIGINT NOT NULL CHECK (revision > 0),
			value    BYTEA NOT NULL CHECK (octet_length(value) > 0),
			PRIMARY KEY (part, id)
		)`,
		// time is nanoseconds since 1970, as a TIMESTAMP has only microseconds. event
		// is text and not JSONB, which would write it anew in another order.
		`CREATE TABLE byok_events (
			id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
			tenant TEXT COLLATE "C" NOT NULL,
			time   BIGINT NOT NULL,
			op     TEXT COLLATE "C" NOT NULL,
			event  TEXT NOT NULL
		)`,
		`CREATE INDEX byok_events_tenant ON byok_events (tenant, time, id)`,
		`CREATE INDEX byok_events_op ON byok_events (tenant, op, time, id)`,
	}},
	// to_regclass would do, but for its cache: behind the lock it can still say that
	// there is no such table when another process has just made it.
	hasSchema: `SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relname = 'byok_schema' AND n.nspname = ANY (current_schemas(false)))`,
	// The number is "byok" in ASCII. CREATE TABLE IF NOT EXISTS alone fails when two
	// run it at once.
	lock:  `SELECT pg_advisory_xact_lock(1652125547)`,
	setup: postgresSetup,

	// READ COMMITTED is enough, and said because the default can be changed: the
	// condition on the revision and the write are one statement, which waits for whoever
	// writes the same row and then looks at the revision again.
	//
	// A COMMIT that does not wait for the disk can be lost. Whoever wanted that in
	// general does not get it here; a stronger setting is left as it is. The time-out
	// is for a process that stopped in the middle and holds rows that others wait for.
	begin: `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
		SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
		SET LOCAL idle_in_transaction_session_timeout = '10s'`,
	ready: func(context.Context, *sql.Conn) error { return nil },

	// A row comes back in any case, since a standby server has to be noticed also
	// by what it does not have yet. A pool can get to one at any time: after a
	// failover, or with several hosts in its connection string.
	get: `SELECT pg_is_in_recovery(), i.revision, i.value
		FROM (SELECT 1) AS one LEFT JOIN byok_items AS i ON i.part = ? AND i.id = ?`,
	list: `SELECT pg_is_in_recovery(), i.id, i.revision, i.value
		FROM (SELECT 1) AS one LEFT JOIN
			(SELECT id, revision, value FROM byok_items WHERE part = ? AND id > ? ORDER BY id LIMIT ?) AS i ON true
		ORDER BY i.id`,
	text:   postgresText,
	record: postgresRecord,
	retry:  postgresRetry,
	bind:   postgresBind,
}

const postgresOldest = 14 // the oldest version that still got fixes when this was written

// postgresSetup refuses what could only be found out by losing data.
func postgresSetup(ctx context.Context, c *sql.Conn) error {
	var version int
	var encoding, fsync string
	var standby bool
	err := c.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		current_setting('fsync'), pg_is_in_recovery()`).Scan(&version, &encoding, &fsync, &standby)
	switch {
	case err != nil:
		return err
	case version < postgresOldest*10_000:
		return fmt.Errorf("%w: PostgreSQL %d is too old, %d is needed", ErrUnfit, version/10_000, postgresOldest)
	case encoding != "UTF8":
		return fmt.Errorf("%w: its encoding is %s, not UTF8", ErrUnfit, encoding)
	case fsync != "on":
		return fmt.Errorf("%w: fsync is %s", ErrUnfit, fsync)
	case standby:
		return errStandby
	}
	return nil
}

// errStandby is the answer of a server whose data may be old.
var errStandby = conn.ErrStandby

// postgresText is s itself but for what TEXT cannot hold: zero bytes, and what is
// not UTF-8. That becomes hexadecimal behind a backslash, with which no other
// text begins.
func postgresText(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") && !strings.HasPrefix(s, `\`) {
		return s
	}
	return `\` + hex.EncodeToString([]byte(s))
}

// postgresRecord inserts the whole batch with one statement. It is in the order
// of ids: two processes that insert the same events in different orders would wait for
// each other.
func postgresRecord(t *tx, batch []*request) error {
	rows := make([]*eventRow, len(batch))
	for i, r := range batch {
		rows[i] = r.event
	}
	slices.SortFunc(rows, func(a, b *eventRow) int { return cmp.Compare(a.id, b.id) })
	column := func(of func(*eventRow) string) []string {
		c := make([]string, len(rows))
		for i, r := range rows {
			c[i] = of(r)
		}
		return c
	}
	times := make([]int64, len(rows))
	for i, r := range rows {
		times[i] = r.time
	}
	_, err := t.conn.ExecContext(t.ctx, `INSERT INTO byok_events (id, tenant, time, op, event)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) ON CONFLICT DO NOTHING`,
		column(func(r *eventRow) string { return r.id }), column(func(r *eventRow) string { return r.tenant }), times,
		column(func(r *eventRow) string { return r.op }), column(func(r *eventRow) string { return r.text }))
	return err
}

// postgresRetry recognizes that a transaction was rolled back for another one's
// sake, and connections of the pool that were dead before anything was sent.
// The code is taken from the error without importing a driver.
func postgresRetry(err error) bool {
	const serializationFailure, deadlockDetected = "40001", "40P01"
	var coded interface{ SQLState() string } // *pgconn.PgError
	if errors.As(err, &coded) {
		return coded.SQLState() == serializationFailure || coded.SQLState() == deadlockDetected
	}
	return errors.Is(err, driver.ErrBadConn)
}

// postgresBind numbers the place holders. No statement here has a ? in it that
// is none.
func postgresBind(query string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		query = after
	}
}
