package integration

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sourcetest"
	"github.com/byok-go/byok/sqlstore"
	"github.com/byok-go/byok/sqlstore/sqltable"
)

// pgShape is a way in which a platform keeps its records.
type pgShape struct {
	name   string
	create string
	table  sqltable.Table
	key    func(i int) string
	arg    func(key string) any
	sealed bool
	text   bool
}

func recordAAD(key string) []byte { return []byte("records/" + key) }

var pgShapes = []pgShape{
	{name: "integers and a column in clear",
		create: `CREATE TABLE records (id integer PRIMARY KEY, sealed bytea, clear varchar(9999), CHECK (sealed IS NULL OR clear IS NULL))`,
		table:  sqltable.Table{Name: "records", Key: "id", Value: "sealed", Clear: "clear", Purpose: "invoices", AAD: recordAAD},
		key:    func(i int) string { return fmt.Sprint(i*i - 50) }, text: true},
	{name: "texts in the order of a language and a mark",
		create: `CREATE TABLE records (id text COLLATE "de-x-icu" UNIQUE, sealed bytea, done boolean)`,
		table:  sqltable.Table{Name: "records", Key: "id", Value: "sealed", Sealed: "done", AAD: recordAAD},
		key: func(i int) string {
			return strings.Repeat([]string{"a", "A", "é", "'", "ß", "Z"}[i%6], 1+i%2) + fmt.Sprint(i/2)
		}},
	{name: "UUIDs of a tenant, in partitions",
		create: `CREATE TABLE "order" ("select" uuid, "a ""b"" c" bytea, "tenant id" bigint, PRIMARY KEY ("tenant id", "select")) PARTITION BY HASH ("tenant id");
			CREATE TABLE p0 PARTITION OF "order" FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE p1 PARTITION OF "order" FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
		table: sqltable.Table{Name: "order", Key: "select", Value: `a "b" c`, Tenant: "tenant id", TenantID: "42", AAD: recordAAD},
		key:   func(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", uint32(i)*2654435761) }, sealed: true},
	{name: "bytes and bytes in clear",
		create: `CREATE TABLE records (id bytea PRIMARY KEY, sealed bytea, clear bytea)`,
		table:  sqltable.Table{Name: "records", Key: "id", Value: "sealed", Clear: "clear", AAD: recordAAD},
		key:    func(i int) string { return fmt.Sprintf("%02x%04x", i%7, i) },
		arg:    func(key string) any { b, _ := hex.DecodeString(key); return b }},
}

func (s pgShape) place(t *testing.T, db *sql.DB) sourcetest.Place {
	t.Helper()
	mustExec(t, db, s.create)
	src, err := sqltable.New(t.Context(), db, sqlstore.Postgres, s.table)
	if err != nil {
		t.Fatal(err)
	}
	if s.arg == nil {
		s.arg = func(key string) any { return key }
	}
	q := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	name, key, value, mark := q(s.table.Name), q(s.table.Key), q(s.table.Value), "clear"
	where := key + " = $1"
	switch {
	case s.table.Sealed != "":
		mark = q(s.table.Sealed)
	case s.table.Tenant != "":
		mark = q(s.table.Tenant)
		where += " AND " + mark + " = 42"
	}
	conflict := key
	if s.table.Tenant != "" {
		conflict = mark + ", " + key
	}
	put := fmt.Sprintf("INSERT INTO %s (%s, %s, %s) VALUES ($1, $2, $3) ON CONFLICT (%s) DO UPDATE SET %s = EXCLUDED.%s, %s = EXCLUDED.%s", name, key, value, mark, conflict, value, value, mark, mark)
	return sourcetest.Place{
		Source: src, Key: s.key, SealedOnly: s.sealed,
		Same: func(key string) (string, []byte) { return s.table.Purpose, recordAAD(key) },
		Put: func(k string, v []byte, inClear bool) error {
			args := []any{s.arg(k), v, nil}
			switch {
			case s.table.Tenant != "":
				// Another tenant has the same keys.
				if _, err := db.Exec(put, s.arg(k), []byte("another's"), 43); err != nil {
					return err
				}
				args[2] = 42
			case s.table.Sealed != "":
				args[2] = !inClear
			case inClear && s.text:
				args[1], args[2] = nil, string(v)
			case inClear:
				args[1], args[2] = nil, v
			}
			_, err := db.Exec(put, args...)
			return err
		},
		Get: func(k string) (v []byte, inClear bool, err error) {
			var m any
			err = db.QueryRow("SELECT "+value+", "+mark+" FROM "+name+" WHERE "+where, s.arg(k)).Scan(&v, &m)
			switch m := m.(type) {
			case bool:
				inClear = !m
			case string:
				v, inClear = []byte(m), true
			case []byte:
				v, inClear = m, true
			}
			if errors.Is(err, sql.ErrNoRows) {
				err = byok.ErrNotFound
			}
			return v, inClear, err
		},
		Delete: func(k string) error {
			_, err := db.Exec("DELETE FROM "+name+" WHERE "+where, s.arg(k))
			return err
		},
		Break: func() { mustExec(t, db, "ALTER TABLE "+name+" RENAME TO away") },
	}
}

// The tests of tables share a server. Only one of them is about what is on disk.
func TestPostgresTable(t *testing.T) {
	p := newPostgres(t, "fsync=off")
	t.Run("contract", func(t *testing.T) { testTableContract(t, p) })
	t.Run("errors show no values", func(t *testing.T) { testTableErrors(t, p) })
	t.Run("it waits for no row", func(t *testing.T) { testTableWaits(t, p) })
	t.Run("large", func(t *testing.T) { testTableLarge(t, p) })
	t.Run("refusals", func(t *testing.T) { testTableRefusals(t, p) })
}

func testTableContract(t *testing.T, p *postgresServer) {
	for _, s := range pgShapes {
		t.Run(s.name, func(t *testing.T) {
			sourcetest.Test(t, func(t *testing.T) sourcetest.Place { return s.place(t, p.open(p.newSchema(t))) })
		})
	}
	t.Run("behind a pooler that prepares nothing", func(t *testing.T) {
		for _, mode := range []string{"exec", "simple_protocol"} {
			t.Run(mode, func(t *testing.T) {
				sourcetest.Test(t, func(t *testing.T) sourcetest.Place {
					return pgShapes[0].place(t, openPgx(t, p.dsn(p.newSchema(t))+" default_query_exec_mode="+mode))
				})
			})
		}
	})
}

// What Postgres and pgx say of what goes wrong shows no value: not the database's DETAIL, and not pgx's arguments.
func testTableErrors(t *testing.T, p *postgresServer) {
	const secret = "PLAINTEXT-of-a-record"
	for what, breaks := range map[string][]string{
		"a trigger that says it": {`CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no: %', OLD.clear USING DETAIL = OLD.clear; END $$`,
			`CREATE TRIGGER t BEFORE UPDATE ON records FOR EACH ROW EXECUTE FUNCTION loud()`},
		"a check, whose DETAIL has the row": {`ALTER TABLE records ADD note text`, `UPDATE records SET note = clear`, `ALTER TABLE records ADD CHECK (sealed IS NULL)`},
		"a column of another type":          {`ALTER TABLE records ALTER sealed TYPE text`},
		"a function that fails on it":       {`ALTER TABLE records ALTER clear TYPE text`, `CREATE UNIQUE INDEX i ON records ((coalesce(octet_length(sealed) / 0, 1)))`},
	} {
		for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
			db := openPgx(t, p.dsn(p.newSchema(t))+" default_query_exec_mode="+mode)
			mustExec(t, db, pgShapes[0].create, `INSERT INTO records VALUES (1, NULL, '`+secret+`')`)
			s, err := sqltable.New(t.Context(), db, sqlstore.Postgres, pgShapes[0].table)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Records(t.Context(), "", "", 10)
			if err != nil || len(r) != 1 || string(r[0].Value) != secret {
				t.Fatalf("%v, %v", r, err)
			}
			mustExec(t, db, breaks...)
			_, err = s.Replace(t.Context(), r, [][]byte{{1, 2}})
			if err == nil {
				t.Errorf("%s, %s: no error", what, mode)
			}
			if refused := what != "a column of another type"; errors.Is(err, byok.ErrRecordRefused) != refused {
				t.Errorf("%s, %s: %v, and it is about this record: %t", what, mode, err, refused)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString([]byte(secret))) || strings.Contains(text, "0x50, 0x4c, 0x41") {
					t.Errorf("%s, %s: an error of type %T shows what is in clear", what, mode, e)
				}
			}
			if mode == "exec" {
				t.Logf("%s: %v", what, err)
			}
		}
	}
}

// A transaction of the platform's that holds a row makes nobody wait: its row is left, and all others are replaced. And nothing is left
// locked afterwards.
func testTableWaits(t *testing.T, p *postgresServer) {
	db := p.open(p.newSchema(t))
	mustExec(t, db, `CREATE TABLE records (id bigint PRIMARY KEY, v bytea NOT NULL)`, `CREATE TABLE parts (of bigint REFERENCES records)`,
		`INSERT INTO records SELECT n, '\x01' FROM generate_series(1, 20) AS n`)
	s, err := sqltable.New(t.Context(), db, sqlstore.Postgres, sqltable.Table{Name: "records", Key: "id", Value: "v"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Records(t.Context(), "", "", 100)
	if err != nil || len(r) != 20 {
		t.Fatal(len(r), err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	mustExec(t, tx, `UPDATE records SET v = '\x02' WHERE id = 7`, `INSERT INTO parts VALUES (9)`) // the latter holds a lock on 9, too
	sealed := make([][]byte, len(r))
	for i := range sealed {
		sealed[i] = []byte{3}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done, err := s.Replace(ctx, r, sealed)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range done {
		if d != (r[i].Key != "7") {
			t.Errorf("%s: %t", r[i].Key, d)
		}
	}
	mustExec(t, tx, `UPDATE records SET v = '\x04' WHERE id = 8`)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM records WHERE v = '\x03'`).Scan(&n); err != nil || n != 18 {
		t.Errorf("%d, %v", n, err)
	}
}

// A commit waits for the disk also where the session's default is that it does not.
func TestPostgresTableDurable(t *testing.T) {
	p := newPostgres(t)
	schema := p.newSchema(t)
	db := openPgx(t, p.dsn(schema, "-c synchronous_commit=off"))
	mustExec(t, db, `CREATE TABLE records (id bigint PRIMARY KEY, v bytea NOT NULL)`, `INSERT INTO records VALUES (1, '\x01'), (2, '\x01')`)
	s, err := sqltable.New(t.Context(), db, sqlstore.Postgres, sqltable.Table{Name: "records", Key: "id", Value: "v"})
	if err != nil {
		t.Fatal(err)
	}
	flushed := func() (ahead bool) {
		if err := db.QueryRow(`SELECT pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()`).Scan(&ahead); err != nil {
			t.Fatal(err)
		}
		return ahead
	}
	r, err := s.Records(t.Context(), "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	// The background writer flushes by itself after a while, so that this proves something only if it is seen not to have.
	lazy := 0
	for range 20 {
		mustExec(t, db, `UPDATE records SET v = v WHERE id = 2`)
		if !flushed() {
			lazy++
		}
	}
	if lazy == 0 {
		t.Fatal("commits that need not wait are on disk at once: this test could pass on nothing")
	}
	for i := range 20 {
		r[0].Value = []byte{byte(1 + i)}
		done, err := s.Replace(t.Context(), r[:1], [][]byte{{byte(2 + i)}})
		if err != nil || !done[0] {
			t.Fatal(done, err)
		}
		if !flushed() {
			t.Fatal("Replace returned before its commit was on disk")
		}
	}
}

// A large table is counted by the planner, and split by a sample.
func testTableLarge(t *testing.T, p *postgresServer) {
	db := p.open(p.newSchema(t))
	mustExec(t, db, `CREATE TABLE records (tenant text, id bigint, v bytea, PRIMARY KEY (tenant, id))`,
		`INSERT INTO records SELECT 'acme', n, '\x01' FROM generate_series(1, 250000) AS n`, `INSERT INTO records SELECT 'small', n, '\x01' FROM generate_series(1, 1000) AS n`, `ANALYZE records`)
	for tenant, rows := range map[string]int64{"acme": 250_000, "small": 1000} {
		s, err := sqltable.New(t.Context(), db, sqlstore.Postgres, sqltable.Table{Name: "records", Key: "id", Value: "v", Tenant: "tenant", TenantID: tenant})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.Count(t.Context()); err != nil || n < rows*9/10 || n > rows*11/10 {
			t.Errorf("%s: %d rows of %d: %v", tenant, n, rows, err)
		}
		lasts, err := s.Split(t.Context(), 8)
		if err != nil || len(lasts) != 7 {
			t.Fatalf("%s: %v, %v", tenant, lasts, err)
		}
		for i, last := range lasts {
			var got int64
			if _, err := fmt.Sscan(last, &got); err != nil || got < rows*int64(i+1)/8-rows/8 || got > rows*int64(i+1)/8+rows/8 {
				t.Errorf("%s: shard %d ends with %s", tenant, i, last)
			}
		}
	}
}

func testTableRefusals(t *testing.T, p *postgresServer) {
	db := p.open(p.newSchema(t))
	mustExec(t, db, `CREATE TABLE r (id bigint PRIMARY KEY, v bytea, t text, n numeric UNIQUE, shared bigint, few bigint, day timestamptz UNIQUE, b boolean)`,
		`CREATE UNIQUE INDEX ON r (few) WHERE v IS NOT NULL`, `CREATE UNIQUE INDEX ON r (shared, day)`, `CREATE UNIQUE INDEX ON r (lower(t))`, `CREATE VIEW view AS SELECT * FROM r`,
		`CREATE COLLATION vague (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, `CREATE TABLE vague (id text COLLATE vague PRIMARY KEY, v bytea)`,
		`CREATE TABLE tenants (id bigint PRIMARY KEY, v bytea, t text COLLATE vague, j jsonb)`, `CREATE TABLE parent (id bigint PRIMARY KEY, v bytea)`, `CREATE TABLE child () INHERITS (parent)`,
		`CREATE TABLE hides (id bigint PRIMARY KEY, v bytea)`, `ALTER TABLE hides ENABLE ROW LEVEL SECURITY`, `ALTER TABLE hides FORCE ROW LEVEL SECURITY`)
	for what, table := range map[string]sqltable.Table{
		"numbers":                        {Name: "r", Key: "n", Value: "v"},
		"times":                          {Name: "r", Key: "day", Value: "v"},
		"not unique":                     {Name: "r", Key: "t", Value: "v"},
		"half a key":                     {Name: "r", Key: "shared", Value: "v"},
		"unique in some rows":            {Name: "r", Key: "few", Value: "v"},
		"different keys that are equal":  {Name: "vague", Key: "id", Value: "v"},
		"tenants that are equal":         {Name: "tenants", Key: "id", Value: "v", Tenant: "t", TenantID: "acme"},
		"tenants of an odd type":         {Name: "tenants", Key: "id", Value: "v", Tenant: "j", TenantID: "1"},
		"a table that others inherit":    {Name: "parent", Key: "id", Value: "v"},
		"a view":                         {Name: "view", Key: "id", Value: "v"},
		"envelopes in text":              {Name: "r", Key: "id", Value: "t"},
		"numbers in clear":               {Name: "r", Key: "id", Value: "v", Clear: "n"},
		"a mark that is no truth":        {Name: "r", Key: "id", Value: "v", Sealed: "t"},
		"a table that is not there":      {Name: "R", Key: "id", Value: "v"},
		"a schema that is not there":     {Schema: "nothing", Name: "r", Key: "id", Value: "v"},
		"a column that is not there":     {Name: "r", Key: "id", Value: "V"},
		"a column that every table has":  {Name: "r", Key: "id", Value: "v", Tenant: "xmin", TenantID: "1"},
		"a name that is another's and 1": {Name: `r"; DROP TABLE r; --`, Key: "id", Value: "v"},
	} {
		if _, err := sqltable.New(t.Context(), db, sqlstore.Postgres, table); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Whoever row security hides rows from would prove that nothing is left of those that he sees. A superuser sees all.
	hides := sqltable.Table{Name: "hides", Key: "id", Value: "v"}
	if _, err := sqltable.New(t.Context(), db, sqlstore.Postgres, hides); err != nil {
		t.Error(err)
	}
	db.SetMaxOpenConns(1)
	mustExec(t, db, `DO $$ BEGIN CREATE ROLE clerk; EXCEPTION WHEN duplicate_object THEN NULL; END $$`, `DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO clerk', current_schema()); END $$`,
		`GRANT ALL ON hides TO clerk`, `SET ROLE clerk`)
	if _, err := sqltable.New(t.Context(), db, sqlstore.Postgres, hides); !errors.Is(err, byok.ErrArgument) {
		t.Errorf("row security: %v", err)
	}
}
