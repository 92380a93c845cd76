package sqlstore

import (
	"database/sql"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/byok-go/byok"
)

// TestOlderSchemas: each file in testdata/schema is a dump of what the code of its
// time made. It becomes what is made now, whoever migrates it and how many at
// once, and what is in it stays.
func TestOlderSchemas(t *testing.T) { EachDriver(t, testOlderSchemas) }

func testOlderSchemas(t *testing.T) {
	now := schemaOf(t, openStore(t, dbFile(t), "").db)
	for v := range len(sqlite.migrations) {
		name := fmt.Sprintf("testdata/schema/sqlite-%d.sql", v+1)
		dump, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("a schema without its file; make it with .dump before there is a newer one: %v", err)
		}
		path := dbFile(t)
		db := openDB(t, path, "")
		if _, err := db.Exec(string(dump)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := Open(t.Context(), openDB(t, path, ""), SQLite); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		s := openStore(t, path, "")
		if got := schemaOf(t, s.db); !slices.Equal(got, now) {
			t.Errorf("%s became\n%q\nand not\n%q", name, got, now)
		}
		old, err := s.Get(t.Context(), byok.Ref{Partition: `part!'%_\`, ID: "~"})
		if err != nil || old.Revision != 2 || string(old.Value) != "\x00\xffvalue" {
			t.Errorf("%s: %+v, %v", name, old, err)
		}
		l, err := s.List(t.Context(), "p", "", 10)
		if err != nil || len(l) != 2 || l[0].ID != "B" || l[1].ID != "a" {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
		if err := s.Apply(t.Context(), byok.Item{Ref: old.Ref, Revision: 2, Value: []byte("new")}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		page, err := s.Events(t.Context(), "t", byok.AuditQuery{})
		if err != nil || len(page.Events) != 2 || page.Events[0].ID != "e2" || page.Events[1].Reason != "why\n'" {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
	}
}

// schemaOf returns the statements that make the schema.
func schemaOf(t *testing.T, db *sql.DB) (all []string) {
	t.Helper()
	rows, err := db.Query("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil || len(all) < 5 {
		t.Fatal(all, err)
	}
	return all
}
