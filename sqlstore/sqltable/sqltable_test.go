package sqltable_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // "sqlite3"
	_ "modernc.org/sqlite"                   // "sqlite"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sourcetest"
	"github.com/byok-go/byok/sqlstore"
	"github.com/byok-go/byok/sqlstore/sqltable"
)

// each runs a test with each driver of SQLite.
func each(t *testing.T, test func(t *testing.T, db *sql.DB)) {
	for name, driver := range map[string]string{"ncruces": "sqlite3", "modernc": "sqlite"} {
		t.Run(name, func(t *testing.T) { test(t, open(t, driver)) })
	}
}

func open(t *testing.T, driver string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, "file:"+filepath.Join(t.TempDir(), "app.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t testing.TB, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// shape is a way in which a platform keeps its records.
type shape struct {
	name   string
	create string
	table  sqltable.Table
	key    func(i int) string
	arg    func(key string) any // as the platform's own statements have it; nil: the text
	sealed bool                 // no records in clear
	text   bool                 // values in clear are text
}

func aad(key string) []byte { return []byte("records/" + key) }

func blob(key string) any { b, _ := hex.DecodeString(key); return b }

// shapes: the first two are tested with one driver, and the others with the other.
var shapes = []shape{
	{name: "integers and a column in clear",
		create: `CREATE TABLE records (id INTEGER PRIMARY KEY, sealed BLOB, clear TEXT) STRICT`,
		table:  sqltable.Table{Name: "records", Key: "id", Value: "sealed", Clear: "clear", Purpose: "invoices", AAD: aad},
		key:    func(i int) string { return fmt.Sprint(i*i - 50) }, text: true}, // some are negative, and texts would be in another order
	{name: "texts of any case and a mark",
		create: `CREATE TABLE records (id TEXT COLLATE NOCASE, sealed BLOB, done BOOLEAN, CONSTRAINT k UNIQUE (id COLLATE BINARY))`,
		table:  sqltable.Table{Name: "records", Key: "id", Value: "sealed", Sealed: "done", AAD: aad},
		key: func(i int) string {
			return strings.Repeat([]string{"a", "A", "é", "'", "ß", "Z"}[i%6], 1+i%2) + fmt.Sprint(i/2)
		}},
	{name: "UUIDs of a tenant",
		create: `CREATE TABLE "order" ("select" UUID NOT NULL, "tenant id" TEXT NOT NULL, "a ""b"" c" BLOB, PRIMARY KEY ("tenant id", "select"))`,
		table:  sqltable.Table{Schema: "main", Name: "order", Key: "select", Value: `a "b" c`, Tenant: "tenant id", TenantID: "acme", AAD: aad},
		key:    func(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", uint32(i)*2654435761) }, sealed: true},
	{name: "bytes and bytes in clear",
		create: `CREATE TABLE records (id BLOB NOT NULL PRIMARY KEY, sealed BLOB, clear BLOB) WITHOUT ROWID`,
		table:  sqltable.Table{Name: "records", Key: "id", Value: "sealed", Clear: "clear", AAD: aad},
		key:    func(i int) string { return fmt.Sprintf("%02x%04x", i%7, i) }, arg: blob},
}

// place is a table of that shape, and the platform's own side of it.
func (s shape) place(t *testing.T, db *sql.DB) sourcetest.Place {
	t.Helper()
	exec(t, db, s.create)
	src, err := sqltable.New(t.Context(), db, sqlstore.SQLite, s.table)
	if err != nil {
		t.Fatal(err)
	}
	if s.arg == nil {
		s.arg = func(key string) any { return key }
	}
	q := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	name, key, value := q(s.table.Name), q(s.table.Key)+" COLLATE BINARY", q(s.table.Value)
	if s.table.Tenant != "" { // and another tenant has the same keys
		exec(t, db, "CREATE TRIGGER other AFTER INSERT ON "+name+" WHEN new."+q(s.table.Tenant)+" = 'acme' BEGIN INSERT OR REPLACE INTO "+name+
			" VALUES (new."+q(s.table.Key)+", 'other', new."+value+"); END")
	}
	columns, set := value+", clear", "x"
	switch {
	case s.table.Sealed != "":
		columns = value + ", " + q(s.table.Sealed)
	case s.table.Tenant != "":
		columns = value + ", " + q(s.table.Tenant)
	}
	set = strings.Replace(columns, ", ", " = ?, ", 1) + " = ?"
	return sourcetest.Place{
		Source: src, Key: s.key, SealedOnly: s.sealed,
		Same: func(key string) (string, []byte) { return s.table.Purpose, aad(key) },
		Put: func(k string, v []byte, inClear bool) error {
			args := []any{v, nil}
			switch {
			case s.table.Tenant != "":
				args[1] = "acme"
			case s.table.Sealed != "":
				args[1] = !inClear
			case inClear:
				args[0], args[1] = nil, v
				if s.text {
					args[1] = string(v)
				}
			}
			where := key + " = ?"
			if s.table.Tenant != "" {
				where += " AND " + q(s.table.Tenant) + " = 'acme'"
			}
			res, err := db.Exec("UPDATE "+name+" SET "+set+" WHERE "+where, append(args, s.arg(k))...)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n > 0 {
				return err
			}
			_, err = db.Exec("INSERT INTO "+name+" ("+columns+", "+q(s.table.Key)+") VALUES (?, ?, ?)", append(args, s.arg(k))...)
			return err
		},
		Get: func(k string) (value []byte, inClear bool, err error) {
			var mark any
			err = db.QueryRow("SELECT "+columns+" FROM "+name+" WHERE "+key+" = ? ORDER BY 2 LIMIT 1", s.arg(k)).Scan(&value, &mark)
			switch {
			case errors.Is(err, sql.ErrNoRows):
				return nil, false, byok.ErrNotFound
			case err != nil || s.table.Tenant != "":
				return value, false, err
			case s.table.Sealed != "":
				return value, fmt.Sprint(mark) == "0" || fmt.Sprint(mark) == "false", nil
			case mark == nil:
				return value, false, nil
			case value != nil:
				return nil, false, errors.New("it is both sealed and in clear")
			}
			if text, ok := mark.(string); ok {
				return []byte(text), true, nil
			}
			return mark.([]byte), true, nil
		},
		Delete: func(k string) error {
			_, err := db.Exec("DELETE FROM "+name+" WHERE "+key+" = ?", s.arg(k))
			return err
		},
		Break: func() { exec(t, db, "ALTER TABLE "+name+" RENAME TO away") },
	}
}

func TestContract(t *testing.T) {
	drivers := []string{"sqlite3", "sqlite"}
	for i, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			sourcetest.Test(t, func(t *testing.T) sourcetest.Place { return s.place(t, open(t, drivers[i/2%2])) })
		})
	}
}

func newSource(t *testing.T, db *sql.DB, table sqltable.Table) *sqltable.Source {
	t.Helper()
	s, err := sqltable.New(t.Context(), db, sqlstore.SQLite, table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func records(t *testing.T, s byok.Source) []byok.Record {
	t.Helper()
	r, err := s.Records(t.Context(), "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What a row cannot be is never guessed: it is a record that does not open, or an error.
func TestContradictions(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		exec(t, db, `CREATE TABLE r (id INTEGER PRIMARY KEY, sealed BLOB, clear TEXT)`,
			`INSERT INTO r VALUES (1, x'01', NULL), (2, NULL, 'secret'), (3, x'02', 'both'), (4, NULL, NULL), (5, NULL, '')`)
		s := newSource(t, db, sqltable.Table{Name: "r", Key: "id", Value: "sealed", Clear: "clear"})
		got := records(t, s)
		if len(got) != 4 {
			t.Fatalf("%d records", len(got))
		}
		for i, want := range []byok.Record{{Key: "1", Value: []byte{1}}, {Key: "2", Value: []byte("secret"), Clear: true}, {Key: "3"}, {Key: "5", Clear: true}} {
			if r := got[i]; r.Key != want.Key || string(r.Value) != string(want.Value) || r.Clear != want.Clear {
				t.Errorf("got %+v, want %+v", r, want)
			}
		}
		done, err := s.Replace(t.Context(), got, [][]byte{{9}, {9}, {9}, {9}})
		if err != nil || fmt.Sprint(done) != "[true true false true]" {
			t.Errorf("%v, %v", done, err)
		}
		// SQLite lets a column have values of any type.
		for _, bad := range []string{`INSERT INTO r VALUES (6, 42, NULL)`, `INSERT INTO r VALUES (6, 1.5, NULL)`} {
			exec(t, db, bad)
			got := records(t, s) // one bad row stops nobody
			if r := got[len(got)-1]; r.Key != "6" || r.Value != nil || r.Clear {
				t.Errorf("%s: %+v", bad, r)
			}
			exec(t, db, `DELETE FROM r WHERE id = 6`)
		}
		exec(t, db, `CREATE TABLE k (id TEXT PRIMARY KEY, sealed BLOB, done INTEGER)`, `INSERT INTO k VALUES ('a', x'01', NULL), (NULL, x'01', 1)`)
		s = newSource(t, db, sqltable.Table{Name: "k", Key: "id", Value: "sealed", Sealed: "done"})
		if _, err := s.Records(t.Context(), "", "", 100); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("a row without a key: %v", err)
		}
		exec(t, db, `DELETE FROM k WHERE id IS NULL`, `INSERT INTO k VALUES (x'00', x'01', 1)`)
		if _, err := s.Records(t.Context(), "", "", 100); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("a key of another type: %v", err)
		}
		exec(t, db, `DELETE FROM k WHERE typeof(id) = 'blob'`)
		if r := records(t, s); len(r) != 1 || r[0].Clear {
			t.Errorf("a mark that says nothing: %+v", r)
		}
	})
}

// Another tenant is another one, though the column's collation calls them equal.
func TestG18_TenantsAreCompared(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		exec(t, db, `CREATE TABLE r (id INTEGER PRIMARY KEY, tenant TEXT COLLATE NOCASE, sealed BLOB, clear TEXT)`,
			`INSERT INTO r VALUES (1, 'acme', NULL, 'ours'), (2, 'ACME', NULL, 'theirs'), (3, 'acme ', x'01', NULL)`,
			`CREATE TABLE n (id INTEGER PRIMARY KEY, tenant INTEGER, sealed BLOB)`, `INSERT INTO n VALUES (1, 5, x'01'), (2, 6, x'01')`)
		s := newSource(t, db, sqltable.Table{Name: "r", Key: "id", Value: "sealed", Clear: "clear", Tenant: "tenant", TenantID: "acme"})
		got := records(t, s)
		if len(got) != 1 || got[0].Key != "1" {
			t.Errorf("%+v", got)
		}
		theirs := []byok.Record{{Key: "2", Value: []byte("theirs"), Clear: true}}
		if done, err := s.Replace(t.Context(), theirs, [][]byte{{9}}); err != nil || done[0] {
			t.Errorf("another tenant's row: %v, %v", done, err)
		}
		if n, err := s.Count(t.Context()); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if got := records(t, newSource(t, db, sqltable.Table{Name: "n", Key: "id", Value: "sealed", Tenant: "tenant", TenantID: "5"})); len(got) != 1 || got[0].Key != "1" {
			t.Errorf("a number: %+v", got)
		}
	})
}

// Names come from a configuration. None of them is ever anything but a name.
func TestNamesAreNames(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		evil := []string{`r"; DROP TABLE victims; --`, `r' OR 1=1 --`, `r" WHERE 1=1 --`, "`r`", `[r]`, `r.x`, `r)`, `?`, `$1`, `n.`, `mine.`, `"`}
		exec(t, db, `CREATE TABLE victims (id INTEGER PRIMARY KEY)`, `INSERT INTO victims VALUES (1)`)
		q := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
		for i, e := range evil {
			exec(t, db, fmt.Sprintf(`CREATE TABLE %s (%s TEXT PRIMARY KEY NOT NULL, %s BLOB, %s TEXT, %s TEXT)`, q(e), q(e), q(e+"v"), q(e+"t"), q(e+"c")),
				fmt.Sprintf(`INSERT INTO %s VALUES ('1', x'01', 'acme', NULL), ('2', x'01', 'other', NULL)`, q(e)))
			table := sqltable.Table{Name: e, Key: e, Value: e + "v", Tenant: e + "t", TenantID: "acme", Clear: e + "c"}
			s := newSource(t, db, table)
			got := records(t, s)
			if len(got) != 1 || got[0].Key != "1" {
				t.Fatalf("%q: %+v", e, got)
			}
			if done, err := s.Replace(t.Context(), got, [][]byte{{2}}); err != nil || !done[0] {
				t.Fatalf("%q: %v, %v", e, done, err)
			}
			table.TenantID = `x' OR '1'='1`
			if got := records(t, newSource(t, db, table)); len(got) != 0 {
				t.Fatalf("%q: the tenant's name is taken for more than a value", e)
			}
			for _, change := range []func(*sqltable.Table){
				func(t *sqltable.Table) { t.Name = "nothing" + evil[(i+1)%len(evil)] },
				func(t *sqltable.Table) { t.Key = "nothing" }, // in double quotes, SQLite would make it a text
				func(t *sqltable.Table) { t.Value = "1" },
				func(t *sqltable.Table) { t.Tenant = "acme" },
				func(t *sqltable.Table) { t.Clear = "NULL" },
				func(t *sqltable.Table) { t.Clear, t.Sealed = "", "0" },
				func(t *sqltable.Table) { t.Schema = "nothing" },
			} {
				bad := table
				change(&bad)
				if _, err := sqltable.New(t.Context(), db, sqlstore.SQLite, bad); err == nil {
					t.Errorf("%+v is taken", bad)
				}
			}
		}
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM victims`).Scan(&n); err != nil || n != 1 {
			t.Errorf("victims: %d, %v", n, err)
		}
	})
}

func TestRefusals(t *testing.T) {
	db := open(t, "sqlite3")
	exec(t, db, `CREATE TABLE r (id INTEGER PRIMARY KEY, v BLOB, c TEXT, x REAL UNIQUE, t TEXT, d BLOB UNIQUE, two TEXT UNIQUE)`,
		`CREATE TABLE shared (id TEXT NOT NULL, day TEXT NOT NULL, v BLOB, PRIMARY KEY (id, day))`,
		`CREATE TABLE some (id TEXT NOT NULL, v BLOB)`, `CREATE UNIQUE INDEX some_id ON some (id) WHERE v IS NOT NULL`,
		`CREATE TABLE folded (id TEXT NOT NULL, v BLOB)`, `CREATE UNIQUE INDEX folded_id ON folded (lower(id))`,
		`CREATE VIEW view AS SELECT id, v FROM r`)
	for what, table := range map[string]sqltable.Table{
		"no name":                    {Key: "id", Value: "v"},
		"no key":                     {Name: "r", Value: "v"},
		"no value":                   {Name: "r", Key: "id"},
		"one column twice":           {Name: "r", Key: "id", Value: "ID"},
		"two marks":                  {Name: "r", Key: "id", Value: "v", Clear: "c", Sealed: "t"},
		"a tenant without a column":  {Name: "r", Key: "id", Value: "v", TenantID: "acme"},
		"a column without a tenant":  {Name: "r", Key: "id", Value: "v", Tenant: "t"},
		"keys that are measured":     {Name: "r", Key: "x", Value: "v"},
		"a key that is not unique":   {Name: "r", Key: "t", Value: "v"},
		"half a key":                 {Name: "shared", Key: "id", Value: "v"},
		"unique in some rows":        {Name: "some", Key: "id", Value: "v"},
		"unique in another sense":    {Name: "folded", Key: "id", Value: "v"},
		"a view":                     {Name: "view", Key: "id", Value: "v"},
		"envelopes in text":          {Name: "r", Key: "id", Value: "t"},
		"numbers in clear":           {Name: "r", Key: "id", Value: "v", Clear: "x"},
		"a name of control":          {Name: "r\n", Key: "id", Value: "v"},
		"a name that would be cut":   {Name: strings.Repeat("r", 64), Key: "id", Value: "v"},
		"a name that is not UTF-8":   {Name: "r\xff", Key: "id", Value: "v"},
		"a table that is not there":  {Name: "nothing", Key: "id", Value: "v"},
		"a column that is not there": {Name: "r", Key: "id", Value: "nothing"},
	} {
		if _, err := sqltable.New(t.Context(), db, sqlstore.SQLite, table); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := sqltable.New(t.Context(), nil, sqlstore.SQLite, sqltable.Table{Name: "r", Key: "id", Value: "v"}); !errors.Is(err, byok.ErrArgument) {
		t.Error(err)
	}
	if _, err := sqltable.New(t.Context(), db, 0, sqltable.Table{Name: "r", Key: "id", Value: "v"}); !errors.Is(err, byok.ErrArgument) {
		t.Error(err)
	}
	newSource(t, db, sqltable.Table{Name: "r", Key: "two", Value: "v"})
	newSource(t, db, sqltable.Table{Name: "shared", Key: "id", Value: "v", Tenant: "day", TenantID: "monday"})
	s := newSource(t, db, sqltable.Table{Name: "r", Key: "id", Value: "v"})
	for what, f := range map[string]func() error{
		"a page of nothing":    func() error { _, err := s.Records(t.Context(), "", "", 0); return err },
		"a key of another":     func() error { _, err := s.Records(t.Context(), "x", "", 1); return err },
		"a last of another":    func() error { _, err := s.Records(t.Context(), "", "1; DROP TABLE r", 1); return err },
		"an envelope too few":  func() error { _, err := s.Replace(t.Context(), []byok.Record{{Key: "1"}}, nil); return err },
		"no envelope":          func() error { _, err := s.Replace(t.Context(), []byok.Record{{Key: "1"}}, [][]byte{nil}); return err },
		"a record of another":  func() error { _, err := s.Replace(t.Context(), []byok.Record{{Key: "x"}}, [][]byte{{1}}); return err },
		"no shards":            func() error { _, err := s.Split(t.Context(), 0); return err },
		"shards without limit": func() error { _, err := s.Split(t.Context(), 1<<20); return err },
	} {
		if err := f(); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whatever goes wrong in the database, what it and the driver say of it shows no value.
func TestErrorsShowNoValues(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		const secret = "PLAINTEXT-of-a-record"
		exec(t, db, `CREATE TABLE r (id INTEGER PRIMARY KEY, v BLOB, c TEXT)`, `INSERT INTO r (id, c) VALUES (1, '`+secret+`')`,
			`CREATE TRIGGER loud BEFORE UPDATE ON r BEGIN SELECT RAISE(ABORT, '`+secret+`'); END`)
		s := newSource(t, db, sqltable.Table{Name: "r", Key: "id", Value: "v", Clear: "c"})
		r := records(t, s)
		_, err := s.Replace(t.Context(), r, [][]byte{{1}})
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) || !strings.Contains(err.Error(), "SQLite's code") || !strings.Contains(err.Error(), "CONSTRAINT") {
			t.Errorf("a trigger: %v", err)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), secret) {
				t.Errorf("the error wraps one that shows it: %T", e)
			}
		}
		exec(t, db, `DROP TRIGGER loud`)
		if done, err := s.Replace(t.Context(), r, [][]byte{{1}}); err != nil || !done[0] { // and the connection is as good as new
			t.Errorf("afterwards: %v, %v", done, err)
		}
	})
}

// Pages and shards are read off an index, not sorted.
func TestPlans(t *testing.T) {
	db := open(t, "sqlite3")
	exec(t, db, `CREATE TABLE a (id TEXT NOT NULL PRIMARY KEY, v BLOB)`, `CREATE TABLE b (id TEXT NOT NULL, tenant TEXT, v BLOB, PRIMARY KEY (tenant, id))`)
	for _, table := range []sqltable.Table{{Name: "a", Key: "id", Value: "v"}, {Name: "b", Key: "id", Value: "v", Tenant: "tenant", TenantID: "acme"}} {
		s := newSource(t, db, table)
		for _, q := range sqltable.Queries(s) {
			rows, err := db.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+q, make([]any, strings.Count(q, "?"))...)
			if err != nil {
				t.Fatalf("%s: %v", q, err)
			}
			plan := ""
			for rows.Next() {
				var a, b, c any
				var line string
				if err := rows.Scan(&a, &b, &c, &line); err != nil {
					t.Fatal(err)
				}
				plan += line + "; "
			}
			if rows.Close(); !strings.Contains(plan, "USING") || strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("%s: %s", q, plan)
			}
		}
	}
}

// A row that a constraint or a trigger is against is a record that is refused: nothing of its page is replaced, and no text of the database's is told.
// A database that cannot write at all is another thing.
func TestRefusedRows(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		exec(t, db, `CREATE TABLE records (id INTEGER PRIMARY KEY, sealed BLOB CHECK (length(sealed) < 100))`,
			`CREATE TRIGGER closed BEFORE UPDATE ON records WHEN old.id = 3 BEGIN SELECT RAISE(ABORT, 'a SECRET of the books'); END`,
			`INSERT INTO records VALUES (1, x'01'), (2, x'02'), (3, x'03')`)
		src, err := sqltable.New(t.Context(), db, sqlstore.SQLite, sqltable.Table{Name: "records", Key: "id", Value: "sealed"})
		if err != nil {
			t.Fatal(err)
		}
		page, err := src.Records(t.Context(), "", "", 10)
		if err != nil {
			t.Fatal(err)
		}
		small, large := []byte("small"), make([]byte, 100)
		for name, sealed := range map[string][][]byte{"a constraint": {small, large}, "a trigger": {small, small, small}} {
			if _, err := src.Replace(t.Context(), page[:len(sealed)], sealed); !errors.Is(err, byok.ErrRecordRefused) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if again, err := src.Records(t.Context(), "", "", 10); err != nil || string(again[0].Value) != "\x01" {
			t.Errorf("%q, %v", again[0].Value, err)
		}
		if done, err := src.Replace(t.Context(), page[:2], [][]byte{small, small}); err != nil || !done[0] || !done[1] {
			t.Errorf("%v, %v", done, err)
		}
		exec(t, db, `DROP TABLE records`)
		if _, err := src.Replace(t.Context(), page[:1], [][]byte{small}); err == nil || errors.Is(err, byok.ErrRecordRefused) {
			t.Errorf("without a table: %v", err)
		}
	})
}

// No shard ends with what cannot be a key, and pages go on behind it.
func TestOddKeys(t *testing.T) {
	each(t, func(t *testing.T, db *sql.DB) {
		exec(t, db, `CREATE TABLE records (id TEXT NOT NULL PRIMARY KEY, sealed BLOB)`)
		const n = 40
		for i := range n {
			key := fmt.Sprintf("%02d", i)
			if i%2 == 1 {
				key += strings.Repeat("\n", 1+i*10)
			}
			if _, err := db.Exec(`INSERT INTO records VALUES (?, x'01')`, key); err != nil {
				t.Fatal(err)
			}
		}
		src, err := sqltable.New(t.Context(), db, sqlstore.SQLite, sqltable.Table{Name: "records", Key: "id", Value: "sealed"})
		if err != nil {
			t.Fatal(err)
		}
		lasts, err := src.Split(t.Context(), 8)
		if err != nil || strings.Contains(strings.Join(lasts, ""), "\n") {
			t.Errorf("%q, %v", lasts, err)
		}
		seen := 0
		for after := ""; ; {
			page, err := src.Records(t.Context(), after, "", 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			seen, after = seen+len(page), page[len(page)-1].Key
		}
		if seen != n {
			t.Errorf("%d of %d", seen, n)
		}
	})
}
