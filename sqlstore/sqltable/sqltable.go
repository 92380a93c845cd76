// Package sqltable is a byok.Source: the records of a tenant in a table of the platform's, on SQLite or Postgres through
// database/sql. It imports no driver; package sqlstore says which ones it works with, and what they need.
//
//	source, err := sqltable.New(ctx, db, sqlstore.Postgres, sqltable.Table{
//		Name: "invoices", Key: "id", Value: "sealed",
//		Purpose: "invoices", AAD: func(key string) []byte { return []byte("invoices/" + key) },
//		Tenant: "tenant_id", TenantID: "acme",
//	})
//
// The example has the rest: a job that adopts a table in clear, and a Resealer that runs it.
//
// # Keys
//
// The key is a column that no two rows of the tenant share: there must be a unique index on it, or on it and the tenant's column. It holds
// integers, text, UUIDs or bytes; a record's key is what the database makes of it as text, bytes being in hexadecimal. The
// order of keys is that of the column in this database, so that its index serves it. If an upgrade of the operating system
// changes the collation of a text column, begin another job afterwards (Postgres wants its indexes rebuilt then, too); COLLATE "C" never changes.
// Where tenants share a table, an index on the tenant's column and the key lets a page be read without those of others.
//
// # Replacing
//
// Values are compared, not versions: a row is replaced if its value still is what was read. A page is one transaction that has ended
// when Replace returns, with its commit on disk; none is open between calls. On Postgres it takes only locks that it gets at once: a row that
// somebody else has locked is left for the next pass, so that no transaction of the platform's ever waits in a circle with one of these. On SQLite
// it takes the write lock; give the connection a busy_timeout. A row that a constraint or a trigger does not let be replaced is byok.ErrRecordRefused.
//
// # Records in clear
//
// Where a table has them, either Clear or Sealed says how they are marked. Nothing is guessed. A row that contradicts itself is
// a bad record: it is given to the Resealer without a value, and so it is named and left alone.
//
// # Errors
//
// They show no values and hide the driver's own, that may: a code of the database's, where it gave one, and its log tells the rest.
package sqltable

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
)

// Table names a table, and its columns. Names are as they are in the catalog, and are always quoted: where Postgres folded what a
// CREATE TABLE did not quote, they are in small letters.
type Table struct {
	Schema string // "": as the connection finds it
	Name   string

	Key   string // unique, see above
	Value string // the envelope: BYTEA or BLOB. A row in which it is NULL is no record, unless it has a value in clear

	Purpose string                  // as byok.Scope.Purpose
	AAD     func(key string) []byte // as records are sealed with, and are to be; nil: with none

	// Tenant is the column that says whose row it is, and TenantID what it says. "": all rows are this tenant's. It is compared byte by byte;
	// Postgres's types and collations that take different texts for the same are refused, and so is row security that this role does not bypass.
	Tenant, TenantID string

	// Clear is a column, TEXT or as Value's, for what is not sealed yet: Value is NULL then. Replacing sets Value, and Clear to NULL.
	Clear string

	// Sealed is a column, BOOLEAN (an integer on SQLite), that is false if what is in Value is in clear. Replacing sets it to true.
	// NULL counts as true: what is in clear there is named as a bad record.
	Sealed string
}

// Source is the byok.Source of a Table. It is safe for concurrent use.
type Source struct {
	db    *sql.DB
	table Table
	kind  kind
	sql   statements
	d     dialect
}

var (
	_ byok.Source   = (*Source)(nil)
	_ byok.Splitter = (*Source)(nil)
	_ byok.Counter  = (*Source)(nil)
)

// kind is what a column of keys holds.
type kind uint8

const (
	integers kind = iota + 1
	texts
	uuids
	byteStrings
)

// dialect is what differs between databases.
type dialect interface {
	// inspect looks at the table, and says what its key is.
	inspect(ctx context.Context, db *sql.DB, t *Table) (facts, error)
	statements(t *Table, f facts) statements
	// argument is a key as an argument. ok is false if it is none of that kind.
	argument(k kind, key string) (arg any, ok bool)
	replace(ctx context.Context, s *Source, records []byok.Record, sealed [][]byte) ([]bool, error)
	count(ctx context.Context, s *Source) (int64, error)
	split(ctx context.Context, s *Source, n int) ([]string, error)
}

// facts are what the catalog says of a table.
type facts struct {
	kind      kind
	nullable  bool // its keys
	clearText bool // the column Clear is text
}

// statements of a table. The places of arguments are those of the database.
type statements struct {
	page    func(after, last bool) string // tenant, after, last, limit, of those that there are
	replace string
	step    func(after bool) string // tenant, after, offset: the key that many rows further
	noKey   string                  // whether a row has no key; "": none can
	sample  string                  // Postgres: keys of some rows
	count   string
	explain string
}

// New returns the Source of a table. It asks the database whether the columns are there and are what they have to be. The error is
// byok.ErrArgument if not, or sqlstore.ErrUnfit, or that the database did not answer.
func New(ctx context.Context, db *sql.DB, d sqlstore.Dialect, t Table) (*Source, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	s := &Source{db: db, table: t}
	switch {
	case db == nil:
		return nil, bad("a database is required")
	case d == sqlstore.SQLite:
		s.d = sqlite{}
	case d == sqlstore.Postgres:
		s.d = postgres{}
	default:
		return nil, bad("the dialect is invalid")
	}
	f, err := s.d.inspect(ctx, db, &t)
	if err != nil {
		return nil, clean(ctx, "look at the table", err)
	}
	s.kind, s.sql = f.kind, s.d.statements(&t, f)
	return s, nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: sqltable: %s", byok.ErrArgument, fmt.Sprintf(format, args...))
}

// maxName is the longest name of Postgres, which cuts longer ones: they would be other names.
const maxName = 63

func (t *Table) check() error {
	names := map[string]bool{}
	for _, n := range []struct {
		what, name string
		must       bool
	}{{"Schema", t.Schema, false}, {"Name", t.Name, true}, {"Key", t.Key, true}, {"Value", t.Value, true},
		{"Tenant", t.Tenant, false}, {"Clear", t.Clear, false}, {"Sealed", t.Sealed, false}} {
		switch {
		case n.name == "" && n.must:
			return bad("%s is required", n.what)
		case len(n.name) > maxName || !utf8.ValidString(n.name) || strings.ContainsFunc(n.name, unicode.IsControl):
			return bad("%s is no name: 1 to %d bytes of UTF-8 without control characters", n.what, maxName)
		case n.name == "" || n.what == "Schema" || n.what == "Name":
			continue
		}
		folded := strings.ToLower(n.name) // as SQLite compares them
		if names[folded] {
			return bad("two of the columns are %q", n.name)
		}
		names[folded] = true
	}
	switch {
	case t.Clear != "" && t.Sealed != "":
		return bad("records in clear are marked by Clear or by Sealed, not by both")
	case (t.Tenant == "") != (t.TenantID == ""):
		return bad("Tenant and TenantID go together")
	}
	return nil
}

// quote makes a name of anything that may be one.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoted is the table's name, with its schema.
func (t *Table) quoted() string {
	if t.Schema == "" {
		return quote(t.Name)
	}
	return quote(t.Schema) + "." + quote(t.Name)
}

// tenantArgs are the arguments that every statement begins with.
func (s *Source) tenantArgs() []any {
	if s.table.Tenant == "" {
		return nil
	}
	return []any{s.table.TenantID}
}

func (s *Source) argument(key string) (any, error) {
	arg, ok := s.d.argument(s.kind, key)
	if !ok {
		return nil, bad("%q is no key of the table", key)
	}
	return arg, nil
}
