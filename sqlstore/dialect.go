package sqlstore

import (
	"context"
	"database/sql"
)

// Dialect is the SQL that a database speaks. The zero Dialect is invalid.
type Dialect uint8

// The dialects.
const (
	SQLite Dialect = iota + 1 // version 3.37 or later
)

// dialect is what differs from one database to the next. Everything else is
// written once, in SQL that all of them understand, with ? for arguments.
type dialect struct {
	name string

	// migrations[i] makes schema version i+1 of version i. Entries are never
	// edited once released; the schema only moves forward.
	migrations [][]string

	// setup runs once in Open, outside of a transaction.
	setup func(ctx context.Context, c *sql.Conn) error

	// begin starts a transaction that may write. ready runs before it, each time,
	// on the same connection: a *sql.DB hands out many and gives no hook to
	// prepare new ones.
	begin string
	ready func(ctx context.Context, c *sql.Conn) error

	// retry reports that the statement did nothing because another connection was
	// in the way.
	retry func(err error) bool

	// bind translates ? to the database's own place holders.
	bind func(query string) string
}

func (d Dialect) parts() *dialect {
	switch d {
	case SQLite:
		return &sqlite
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
