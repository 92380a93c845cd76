package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore/internal/conn"
)

func openDB(t testing.TB, path, query string) *sql.DB {
	t.Helper()
	db, err := sql.Open(Driver, "file:"+path+query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openStore(t testing.TB, path, query string) *Store {
	t.Helper()
	s, err := Open(t.Context(), openDB(t, path, query), SQLite)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dbFile(t testing.TB) string { return filepath.Join(t.TempDir(), "byok.db") }

// TestDurable (G4): inside each transaction, on every connection of the pool,
// whatever was set before, the level is FULL and the journal a write-ahead log.
func TestDurable(t *testing.T) { EachDriver(t, testDurable) }

func testDurable(t *testing.T) {
	for query, want := range map[string]int{
		"":                             2,
		"?_pragma=synchronous(off)":    2,
		"?_pragma=synchronous(normal)": 2,
		"?_pragma=synchronous(full)":   2,
		"?_pragma=synchronous(extra)":  3, // not lowered
		"?_pragma=busy_timeout(0)":     2,
		"?_txlock=deferred":            2,
	} {
		s := openStore(t, dbFile(t), query)
		// Several connections: each is held until all have been looked at.
		var wg sync.WaitGroup
		const n = 4
		for range n {
			conn, err := s.db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want == 2 { // as an application with other needs might
				if _, err := conn.ExecContext(t.Context(), "PRAGMA synchronous = NORMAL"); err != nil {
					t.Fatal(err)
				}
			}
			wg.Go(func() { time.Sleep(20 * time.Millisecond); _ = conn.Close() })
		}
		wg.Wait()
		for range n + 1 {
			_, err := s.transaction(t.Context(), func(tx *tx) error {
				var mode string
				if err := tx.conn.QueryRowContext(tx.ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
					return err
				}
				if level, err := conn.Synchronous(tx.ctx, tx.conn); err != nil || level != want || mode != "wal" {
					return fmt.Errorf("synchronous=%d, journal_mode=%s, %v", level, mode, err)
				}
				return nil
			})
			if err != nil {
				t.Errorf("%q: %v", query, err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) { EachDriver(t, testOpenRefuses) }

func testOpenRefuses(t *testing.T) {
	db := openDB(t, dbFile(t), "")
	for _, d := range []Dialect{0, 99} {
		if _, err := Open(t.Context(), db, d); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("dialect %v: %v", d, err)
		}
	}
	if _, err := Open(t.Context(), nil, SQLite); !errors.Is(err, byok.ErrArgument) {
		t.Error(err)
	}
	for _, dsn := range []string{":memory:", "file:/nowhere/at/all.db"} {
		bad, err := sql.Open(Driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), bad, SQLite); err == nil {
			t.Errorf("opened %s", dsn)
		}
		_ = bad.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, db, SQLite); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNewerSchema(t *testing.T) { EachDriver(t, testNewerSchema) }

func testNewerSchema(t *testing.T) {
	path := dbFile(t)
	s := openStore(t, path, "")
	if _, err := s.db.Exec("INSERT INTO byok_schema VALUES (99, '')"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), openDB(t, path, ""), SQLite)
	if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "99") {
		t.Fatal(err)
	}
	t.Log(err)
}

// TestMigrations: from version 1 to 3 by many at once, and a step that fails
// leaves the version before it, whole.
func TestMigrations(t *testing.T) { EachDriver(t, testMigrations) }

func testMigrations(t *testing.T) {
	path := dbFile(t)
	old := openStore(t, path, "")
	item := byok.Item{Ref: byok.Ref{Partition: "p", ID: "i"}, Value: []byte("x")}
	if err := old.Apply(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	version := func() (v int) {
		if err := old.db.QueryRow("SELECT max(version) FROM byok_schema").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	migrated := func(more ...[]string) error {
		d := sqlite
		d.migrations = append(slices.Clone(d.migrations), more...)
		s := &Store{db: openDB(t, path, ""), d: &d}
		return s.migrate(t.Context())
	}
	good := []string{"CREATE TABLE byok_two (a)", "INSERT INTO byok_two VALUES (1)"}
	if err := migrated([]string{"CREATE TABLE byok_bad (a)", "INSERT INTO byok_nowhere VALUES (1)"}); err == nil || version() != 1 {
		t.Fatalf("a bad migration: %v, version %d", err, version())
	}
	if err := migrated(good, []string{"nonsense"}); err == nil || version() != 2 {
		t.Fatalf("a bad second migration: %v, version %d", err, version())
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := migrated(good, []string{"INSERT INTO byok_two VALUES (2)"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var sum, bad int
	if err := old.db.QueryRow("SELECT sum(a) FROM byok_two").Scan(&sum); err != nil || sum != 3 || version() != 3 {
		t.Errorf("each migration is made once: sum %d, version %d, %v", sum, version(), err)
	}
	if err := old.db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'byok_bad'").Scan(&bad); err != nil || bad != 0 {
		t.Error("a failed migration left a table behind", err)
	}
	if got, err := old.Get(t.Context(), item.Ref); err != nil || got.Revision != 1 {
		t.Error(got, err)
	}
}

// TestPoison: a request that the database refuses fails alone, though it shared
// its transaction with others, and whichever way the database takes it back.
func TestPoison(t *testing.T) { EachDriver(t, testPoison) }

func testPoison(t *testing.T) {
	for _, raise := range []string{"ABORT", "ROLLBACK", "FAIL"} {
		s := openStore(t, dbFile(t), "")
		for _, trigger := range []string{
			`CREATE TRIGGER t1 BEFORE INSERT ON byok_events WHEN NEW.id = 'poison' BEGIN SELECT RAISE(` + raise + `, 'refused'); END`,
			`CREATE TRIGGER t2 BEFORE INSERT ON byok_items WHEN NEW.id = 'poison' BEGIN SELECT RAISE(` + raise + `, 'refused'); END`,
		} {
			if _, err := s.db.Exec(trigger); err != nil {
				t.Fatal(err)
			}
		}
		// The first transaction waits for the lock, so that the rest are in one.
		release := lock(t, s)
		var wg sync.WaitGroup
		for i := range 20 {
			id := fmt.Sprint("i", i)
			if i == 7 {
				id = "poison"
			}
			check := func(what string, err error) {
				if (err != nil) != (id == "poison") {
					t.Errorf("%s: %s of %s: %v", raise, what, id, err)
				}
			}
			wg.Go(func() { check("Record", s.Record(t.Context(), byok.Event{ID: id})) })
			wg.Go(func() {
				a := byok.Item{Ref: byok.Ref{Partition: "p", ID: id}, Value: []byte("x")}
				b := byok.Item{Ref: byok.Ref{Partition: "beside", ID: id + "-b"}, Value: []byte("x")}
				check("Apply", s.Apply(t.Context(), b, a))
			})
		}
		time.Sleep(50 * time.Millisecond)
		release()
		wg.Wait()
		for partition, want := range map[string]int{"p": 19, "beside": 19} {
			if items, err := s.List(t.Context(), partition, "", 100); err != nil || len(items) != want {
				t.Errorf("%s: %d items in %s, want %d, %v", raise, len(items), partition, want, err)
			}
		}
		if p, err := s.Events(t.Context(), "", byok.AuditQuery{}); err != nil || p.Total != 19 {
			t.Errorf("%s: %d events, %v", raise, p.Total, err)
		}
	}
}

// lock takes the write lock as another process would.
func lock(t testing.TB, s *Store) (release func()) {
	t.Helper()
	conn, err := s.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}
}

// TestBusy: while another process writes, writers wait as long as their ctx
// lets them, readers do not wait, and afterwards all is as before.
func TestBusy(t *testing.T) { EachDriver(t, testBusy) }

func testBusy(t *testing.T) {
	for _, query := range []string{"", "?_pragma=busy_timeout(0)", "?_pragma=busy_timeout(10000)"} {
		s := openStore(t, dbFile(t), query)
		first := byok.Item{Ref: byok.Ref{Partition: "p", ID: "i"}, Value: []byte("x")}
		if err := s.Apply(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		release := lock(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		second := byok.Item{Ref: first.Ref, Revision: 1, Value: []byte("y")}
		if err := s.Apply(ctx, second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: Apply with the lock taken: %v", query, err)
		}
		if err := s.Record(ctx, byok.Event{ID: "e"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: Record with the lock taken: %v", query, err)
		}
		cancel()
		if got, err := s.Get(t.Context(), first.Ref); err != nil || got.Revision != 1 {
			t.Errorf("%q: Get with the lock taken: %v", query, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%q: all this took %v", query, took)
		}
		done := make(chan error)
		go func() { done <- s.Apply(t.Context(), second) }()
		time.Sleep(50 * time.Millisecond)
		release()
		if err := <-done; err != nil {
			t.Errorf("%q: Apply that waited for the lock: %v", query, err)
		}
		if got, err := s.Get(t.Context(), first.Ref); err != nil || got.Revision != 2 {
			t.Errorf("%q: revision %d, %v", query, got.Revision, err)
		}
	}
}

// TestPoolStaysClean: failures of every kind leave no transaction open on a
// connection that somebody else gets.
func TestPoolStaysClean(t *testing.T) { EachDriver(t, testPoolStaysClean) }

func testPoolStaysClean(t *testing.T) {
	s := openStore(t, dbFile(t), "")
	s.db.SetMaxOpenConns(1)
	for i := range 5 {
		_, _ = s.transaction(t.Context(), func(*tx) error { return errors.New("no") })
		func() {
			defer func() { _ = recover() }()
			_, _ = s.transaction(t.Context(), func(*tx) error { panic("no") })
		}()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := s.transaction(ctx, func(tx *tx) error {
			cancel()
			return tx.exec(`INSERT INTO byok_schema VALUES (99, '')`)
		})
		if err == nil {
			t.Error("a transaction whose ctx is done was committed")
		}
		_, _ = s.transaction(t.Context(), func(tx *tx) error { return tx.exec("ROLLBACK") }) // COMMIT then fails
		if err := s.Record(t.Context(), byok.Event{ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if err := s.db.QueryRow("SELECT max(version) FROM byok_schema").Scan(&n); err != nil || n != 1 {
		t.Errorf("a transaction that failed wrote something: %d, %v", n, err)
	}
}

// TestClosedDB: the caller closed the db first.
func TestClosedDB(t *testing.T) { EachDriver(t, testClosedDB) }

func testClosedDB(t *testing.T) {
	s := openStore(t, dbFile(t), "")
	_ = s.db.Close()
	if err := s.Record(t.Context(), byok.Event{ID: "e"}); err == nil {
		t.Error("recorded in a closed database")
	}
	if err := s.Apply(t.Context(), byok.Item{Ref: byok.Ref{Partition: "p", ID: "i"}, Value: []byte("x")}); err == nil || errors.Is(err, byok.ErrConflict) {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), byok.Ref{Partition: "p", ID: "i"}); err == nil || errors.Is(err, byok.ErrNotFound) {
		t.Error(err)
	}
}
