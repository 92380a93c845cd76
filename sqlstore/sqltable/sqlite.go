package sqltable

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
	"github.com/byok-go/byok/sqlstore/internal/conn"
)

type sqlite struct{}

// column is what the catalog says of one.
type column struct {
	kind, typ string
	notNull   bool
	pk        int
	vague     bool // its collation calls different texts equal
}

func (sqlite) inspect(ctx context.Context, db *sql.DB, t *Table) (f facts, err error) {
	var encoding string
	if err := db.QueryRowContext(ctx, "PRAGMA encoding").Scan(&encoding); err != nil {
		return f, err
	}
	if encoding != "UTF-8" { // then what is text could not be compared as bytes
		return f, fmt.Errorf("%w: its encoding is %s, not UTF-8", sqlstore.ErrUnfit, encoding)
	}
	columns, err := sqliteColumns(ctx, db, t)
	if err != nil {
		return f, err
	}
	for _, name := range []string{t.Key, t.Value, t.Tenant, t.Clear, t.Sealed} {
		if _, ok := columns[strings.ToLower(name)]; !ok && name != "" {
			return f, bad("there is no column %q in a table %s", name, t.quoted())
		}
	}
	key := columns[strings.ToLower(t.Key)]
	switch {
	case key.kind == "INTEGER":
		f.kind = integers
	case key.kind == "TEXT", strings.EqualFold(key.typ, "UUID"):
		f.kind = texts
	case key.kind == "BLOB" && key.typ != "":
		f.kind = byteStrings
	default:
		return f, bad("keys of the type %q are not supported", key.typ)
	}
	if k := columns[strings.ToLower(t.Value)].kind; k != "BLOB" && !(t.Sealed != "" && k == "TEXT") {
		return f, bad("%q is no BLOB", t.Value)
	}
	if k := columns[strings.ToLower(t.Clear)].kind; t.Clear != "" && k != "BLOB" && k != "TEXT" {
		return f, bad("%q is neither TEXT nor BLOB", t.Clear)
	}
	f.clearText = columns[strings.ToLower(t.Clear)].kind == "TEXT"
	rowid := key.pk == 1 && strings.EqualFold(key.typ, "INTEGER") && sqliteAlone(columns)
	f.nullable = !key.notNull && !rowid
	if rowid {
		return f, nil // it is the row's number
	}
	return f, sqliteUnique(ctx, db, t)
}

// sqliteAlone reports whether one column is the whole primary key.
func sqliteAlone(columns map[string]column) bool {
	n := 0
	for _, c := range columns {
		if c.pk > 0 {
			n++
		}
	}
	return n == 1
}

func sqliteColumns(ctx context.Context, db *sql.DB, t *Table) (map[string]column, error) {
	rows, err := db.QueryContext(ctx, `SELECT lower(name), type, "notnull", pk FROM pragma_table_info(?, ?)`, t.Name, sqliteSchema(t))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]column{}
	for rows.Next() {
		var name string
		var c column
		if err := rows.Scan(&name, &c.typ, &c.notNull, &c.pk); err != nil {
			return nil, err
		}
		c.kind = affinity(c.typ)
		out[name] = c
	}
	return out, rows.Err()
}

func sqliteSchema(t *Table) string {
	if t.Schema == "" {
		return "main"
	}
	return t.Schema
}

// affinity is what SQLite makes of the name of a column's type: https://www.sqlite.org/datatype3.html#determination_of_column_affinity
func affinity(typ string) string {
	typ = strings.ToUpper(typ)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(typ, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("INT"):
		return "INTEGER"
	case has("CHAR", "CLOB", "TEXT"):
		return "TEXT"
	case typ == "" || has("BLOB"):
		return "BLOB"
	case has("REAL", "FLOA", "DOUB"):
		return "REAL"
	}
	return "NUMERIC"
}

// sqliteUnique refuses keys that two rows of the tenant can share: pages would pass over one of them.
func sqliteUnique(ctx context.Context, db *sql.DB, t *Table) error {
	var ok bool
	err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pragma_index_list(?, ?) AS l WHERE l."unique" = 1 AND l.partial = 0
		AND NOT EXISTS (SELECT 1 FROM pragma_index_info(l.name, ?) AS c WHERE c.name IS NULL OR lower(c.name) NOT IN (lower(?), lower(?))))`,
		t.Name, sqliteSchema(t), sqliteSchema(t), t.Key, t.Tenant).Scan(&ok)
	if err == nil && !ok {
		err = bad("there is no unique index on %s", strings.TrimSuffix(quote(t.Key)+" and "+quote(t.Tenant), ` and ""`))
	}
	return err
}

func (sqlite) statements(t *Table, f facts) (s statements) {
	key, from := quote(t.Key), " FROM "+quote(sqliteSchema(t))+"."+quote(t.Name)+" WHERE "
	value := quote(t.Value)
	tenant := "true"
	if t.Tenant != "" {
		tenant = quote(t.Tenant) + " COLLATE BINARY = ?" // "ACME" is another one
	}
	if f.kind == texts {
		key += " COLLATE BINARY" // whatever the column's is, which may call different keys equal
	}
	name := map[kind]string{integers: "CAST(" + key + " AS TEXT)", texts: key, byteStrings: "lower(hex(" + key + "))"}[f.kind]
	typ := map[kind]string{integers: "'integer'", texts: "'text'", byteStrings: "'blob'"}[f.kind]
	there, clear, isClear, contrary := value+" IS NOT NULL", "NULL", "false", "false"
	match, set := "CAST("+value+" AS BLOB) = ?", value+" = ?"
	odd := "typeof(" + value + ") NOT IN ('blob', 'text', 'null')"
	switch {
	case t.Clear != "":
		clear = quote(t.Clear)
		there += " OR " + clear + " IS NOT NULL"
		isClear = clear + " IS NOT NULL"
		contrary = value + " IS NOT NULL AND " + isClear
		odd += " OR typeof(" + clear + ") NOT IN ('blob', 'text', 'null')"
		match = "CASE WHEN ? THEN CAST(" + clear + " AS BLOB) = ? AND " + value + " IS NULL ELSE CAST(" + value + " AS BLOB) = ? AND " + clear + " IS NULL END"
		set += ", " + clear + " = NULL"
	case t.Sealed != "":
		isClear = quote(t.Sealed) + " IS 0"
		match = "(" + isClear + ") = ? AND " + match
		set += ", " + quote(t.Sealed) + " = 1"
	}
	s.page = func(after, last bool) string {
		q := "SELECT false, " + name + ", " + value + ", " + clear + ", " + isClear +
			", CASE WHEN typeof(" + key + ") <> " + typ + " THEN 2 WHEN " + odd + " OR " + contrary + " THEN 1 ELSE 0 END" + from + tenant
		if after {
			q += " AND " + key + " > ?"
		}
		if last {
			q += " AND " + key + " <= ?"
		}
		return q + " AND (" + there + ") ORDER BY " + key + " LIMIT ?"
	}
	s.replace = "UPDATE " + quote(sqliteSchema(t)) + "." + quote(t.Name) + " SET " + set + " WHERE " + tenant + " AND " + key + " = ? AND " + match
	s.step = func(after bool) string {
		q := "SELECT " + name + from + tenant
		if after {
			q += " AND " + key + " > ?"
		}
		return q + " ORDER BY " + key + " LIMIT 1 OFFSET ?"
	}
	if f.nullable {
		s.noKey = "SELECT EXISTS (SELECT 1" + from + tenant + " AND " + key + " IS NULL)"
	}
	s.count = "SELECT count(*)" + from + tenant
	return s
}

func (sqlite) argument(k kind, key string) (any, bool) {
	switch k {
	case integers:
		n, err := strconv.ParseInt(key, 10, 64)
		return n, err == nil
	case byteStrings:
		b, err := hex.DecodeString(key)
		return b, err == nil
	}
	return key, true
}

func (sqlite) count(ctx context.Context, s *Source) (n int64, err error) {
	return n, s.db.QueryRowContext(ctx, s.sql.count, s.tenantArgs()...).Scan(&n)
}

func (sqlite) split(ctx context.Context, s *Source, n int) ([]string, error) {
	return s.stepped(ctx, n)
}

// replace writes row by row, which costs no round trips here, in one transaction that has the write lock from its beginning.
func (sqlite) replace(ctx context.Context, s *Source, records []byok.Record, sealed [][]byte) (_ []bool, err error) {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tidy := false
	defer func() {
		if !tidy { // also after a panic
			conn.Discard(c)
		}
		_ = c.Close() // back to the pool
	}()
	if err := conn.Durable(ctx, c); err != nil {
		return nil, err
	}
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		tidy = conn.Rollback(ctx, c) // perhaps it began all the same, and the answer was interrupted
		return nil, err
	}
	done, err := sqliteUpdate(ctx, s, c, records, sealed)
	if err == nil {
		_, err = c.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		tidy = conn.Rollback(ctx, c)
		return nil, err
	}
	tidy = true
	return done, nil
}

func sqliteUpdate(ctx context.Context, s *Source, c *sql.Conn, records []byok.Record, sealed [][]byte) ([]bool, error) {
	update, err := c.PrepareContext(ctx, s.sql.replace)
	if err != nil {
		return nil, err
	}
	defer update.Close()
	done := make([]bool, len(records))
	for i, r := range records {
		key, _ := s.d.argument(s.kind, r.Key)
		old := r.Value
		if old == nil {
			old = []byte{} // a driver would make NULL of it, which is equal to nothing
		}
		args := append([]any{sealed[i]}, s.tenantArgs()...)
		args = append(args, key)
		switch {
		case s.table.Clear != "":
			args = append(args, r.Clear, old, old)
		case s.table.Sealed != "":
			args = append(args, r.Clear, old)
		default:
			args = append(args, old)
		}
		res, err := update.ExecContext(ctx, args...)
		if err != nil {
			return nil, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return nil, err
		}
		done[i] = n == 1
	}
	return done, nil
}
