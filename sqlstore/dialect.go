package sqlstore

import (
	"context"
	"database/sql"

	"github.com/byok-go/byok/sqlstore/internal/conn"
)

// Dialect is the SQL that a database speaks. The zero Dialect is invalid.
type Dialect uint8

// The dialects.
const (
	SQLite   Dialect = iota + 1 // version 3.37 or later
	Postgres                    // version 14 or later
)

// ErrUnfit: this database, as it is set up, cannot keep the contract of
// byok.Store: it loses commits at a power cut, or answers with what is old. The
// text says what to change.
var ErrUnfit = conn.ErrUnfit

// dialect is what differs from one database to the next. Everything else is
// written once, in SQL that all of them understand, with ? for arguments.
type dialect struct {
	name string

	// migrations[i] makes schema version i+1 of version i. Entries are never
	// edited once released; the schema only moves forward. hasSchema is a query for
	// whether there is a table byok_schema. lock, if not "", lets one process at a
	// time go on, to the end of its transaction.
	migrations [][]string
	hasSchema  string
	lock       string

	// setup runs once in Open, outside of a transaction.
	setup func(ctx context.Context, c *sql.Conn) error

	// begin starts a transaction that may write. ready runs before it, each time,
	// on the same connection: a *sql.DB hands out many and gives no hook to
	// prepare new ones.
	begin string
	ready func(ctx context.Context, c *sql.Conn) error

	// get and list return whether the answer may be old, and then the item: NULLs
	// or no row if there is none.
	get, list string

	// oneWriter: transactions that write wait for each other, whatever they write.
	// So several Apply calls share one. Where only writers of the same rows wait,
	// each has its own, and its place in the queue for a row hinders nobody else.
	oneWriter bool

	// text is how a tenant or an operation stands in byok_events: injective, since
	// events may be about names that the database's text cannot hold.
	text func(string) string

	// record inserts the events of a batch.
	record func(t *tx, batch []*request) error

	// retry reports that the statement and its transaction did nothing, because
	// another connection was in the way.
	retry func(err error) bool

	// bind translates ? to the database's own place holders.
	bind func(query string) string
}

func (d Dialect) parts() *dialect {
	switch d {
	case SQLite:
		return &sqlite
	case Postgres:
		return &postgres
	}
	return nil
}

// String returns the name of the database.
func (d Dialect) String() string {
	if p := d.parts(); p != nil {
		return p.name
	}
	return "invalid"
}
