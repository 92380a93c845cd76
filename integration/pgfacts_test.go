package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
)

func put(id string, revision uint64, value string) byok.Item {
	return byok.Item{Ref: byok.Ref{Partition: "p", ID: id}, Revision: revision, Value: []byte(value)}
}

func mustExec(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Every commit waits for the disk and every statement sees what is committed, whatever
// the session's defaults are; and a process that stops in the middle does not hold its
// rows for ever.
func TestG4_PostgresDurable(t *testing.T) {
	p := newPostgres(t)
	for defaults, want := range map[string]string{
		"": "on read committed 10s",
		"-c synchronous_commit=off -c default_transaction_isolation=serializable -c default_transaction_read_only=on -c idle_in_transaction_session_timeout=0": "on read committed 10s",
		"-c synchronous_commit=local":        "local read committed 10s",
		"-c synchronous_commit=remote_apply": "remote_apply read committed 10s",
	} {
		schema := p.newSchema(t)
		h := p.store(t, schema)
		// A trigger looks at the settings from within.
		mustExec(t, h.db, "CREATE TABLE seen (what text)",
			`CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				INSERT INTO seen VALUES (concat_ws(' ', current_setting('synchronous_commit'), current_setting('transaction_isolation'), current_setting('idle_in_transaction_session_timeout')));
				RETURN NEW; END $$`,
			"CREATE TRIGGER t BEFORE INSERT OR UPDATE ON byok_items FOR EACH ROW EXECUTE FUNCTION look()",
			"CREATE TRIGGER t BEFORE INSERT ON byok_events FOR EACH ROW EXECUTE FUNCTION look()")
		db := openPgx(t, p.dsn(schema, defaults))
		s, err := sqlstore.Open(t.Context(), db, sqlstore.Postgres)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Apply(t.Context(), put("i", 0, "x")), s.Apply(t.Context(), put("i", 1, "x"), put("j", 0, "x")),
			s.Record(t.Context(), byok.Event{ID: "e"})); err != nil {
			t.Fatal(err)
		}
		var n int
		var seen string
		if err := h.db.QueryRow("SELECT count(*), string_agg(DISTINCT what, ',') FROM seen").Scan(&n, &seen); err != nil || n != 4 || seen != want {
			t.Errorf("%q: %d times %s, %v; want %s", defaults, n, seen, err, want)
		}
	}
}

// What cannot keep what it acknowledges is refused.
func TestG4_PostgresUnfit(t *testing.T) {
	p := newPostgres(t)
	mustExec(t, p.open(""), "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	refused := func(db *sql.DB, why string) {
		t.Helper()
		_, err := sqlstore.Open(t.Context(), db, sqlstore.Postgres)
		if !errors.Is(err, sqlstore.ErrUnfit) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want ErrUnfit for %s", err, why)
		}
	}
	refused(openPgx(t, strings.Replace(p.dsn(""), "dbname=postgres", "dbname=latin", 1)), "LATIN1")
	p.stop(syscall.SIGINT)
	p.args = append(p.args, "-c", "fsync=off")
	p.start()
	refused(p.open(""), "fsync")
}

// A standby is not read, however a connection got to it: what it does not have yet is
// no news, and what it has may be old.
func TestG5_PostgresStandby(t *testing.T) {
	primary := newPostgres(t)
	h := primary.store(t, "")
	if err := h.Apply(t.Context(), put("i", 0, "x")); err != nil {
		t.Fatal(err)
	}
	standby := preparePostgres(t)
	if err := os.Remove(standby.data()); err != nil {
		t.Fatal(err)
	}
	standby.run("pg_basebackup", "-D", standby.data(), "-h", primary.dir, "-U", "byok", "-R", "-c", "fast", "-X", "stream")
	standby.start()
	if _, err := sqlstore.Open(t.Context(), standby.open(""), sqlstore.Postgres); !errors.Is(err, sqlstore.ErrUnfit) {
		t.Errorf("Open on a standby: %v", err)
	}
	// A connection string with both, which does not say that it wants the primary.
	db := openPgx(t, fmt.Sprintf("host=%s,%s user=byok dbname=postgres sslmode=disable", primary.dir, standby.dir))
	both, err := sqlstore.Open(t.Context(), db, sqlstore.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := both.Get(t.Context(), put("i", 0, "").Ref); err != nil || i.Revision != 1 {
		t.Fatal(i, err)
	}
	primary.stop(syscall.SIGINT)
	for _, id := range []string{"i", "missing"} {
		if i, err := both.Get(t.Context(), byok.Ref{Partition: "p", ID: id}); err == nil || errors.Is(err, byok.ErrNotFound) {
			t.Errorf("Get of %s from a standby: %+v, %v", id, i, err)
		}
	}
	for _, partition := range []string{"p", "empty"} {
		if l, err := both.List(t.Context(), partition, "", 10); !errors.Is(err, sqlstore.ErrUnfit) {
			t.Errorf("List of %s from a standby: %v, %v", partition, l, err)
		}
	}
	if err := both.Apply(t.Context(), put("i", 1, "y")); err == nil || errors.Is(err, byok.ErrConflict) {
		t.Errorf("Apply on a standby: %v", err)
	}
	mustExec(t, db, "SELECT pg_promote()")
	if err := both.Apply(t.Context(), put("i", 1, "y")); err != nil {
		t.Errorf("Apply after the promotion: %v", err)
	}
	if i, err := both.Get(t.Context(), put("i", 0, "").Ref); err != nil || i.Revision != 2 {
		t.Error(i, err)
	}
}

// Whoever locks our rows in another order can make a deadlock. Postgres ends one
// side of it; if that is ours, it did nothing, and is done again.
func TestPostgresDeadlock(t *testing.T) {
	p := newPostgres(t, "deadlock_timeout=20ms")
	h := p.store(t, "")
	if err := h.Apply(t.Context(), put("a", 0, "0"), put("b", 0, "0")); err != nil {
		t.Fatal(err)
	}
	const rounds = 10
	for rev := range uint64(rounds) {
		tx, err := p.open("").BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, tx, "SET LOCAL deadlock_timeout = '1h'", // never the victim
			"SELECT FROM byok_items WHERE id = 'b' FOR UPDATE")
		done := make(chan error)
		go func() { done <- h.Apply(t.Context(), put("b", rev+1, "x"), put("a", rev+1, "x")) }()
		for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) { // it has a, and waits for b
			if err := h.db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").Scan(&waiting); err != nil {
				t.Fatal(err)
			}
		}
		mustExec(t, tx, "SELECT FROM byok_items WHERE id = 'a' FOR UPDATE")
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatalf("round %d: %v", rev, err)
		}
	}
	if n := strings.Count(p.log.String(), "deadlock detected"); n < rounds {
		t.Errorf("%d deadlocks in %d rounds", n, rounds)
	}
	if i, err := h.Get(t.Context(), put("a", 0, "").Ref); err != nil || i.Revision != rounds+1 {
		t.Error(i.Revision, err)
	}
}

// An Apply whose row is locked leaves with its ctx, and is not made afterwards.
func TestPostgresLeavesALock(t *testing.T) {
	p := newPostgres(t)
	h := p.store(t, "")
	if err := h.Apply(t.Context(), put("i", 0, "0")); err != nil {
		t.Fatal(err)
	}
	tx, err := p.open("").BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, tx, "SELECT FROM byok_items FOR UPDATE")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := h.Apply(ctx, put("i", 1, "1")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("Apply with the row locked: %v after %v", err, time.Since(start))
	}
	// Readers do not wait for writers.
	if i, err := h.Get(t.Context(), put("i", 0, "").Ref); err != nil || i.Revision != 1 {
		t.Error(i, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := h.Apply(t.Context(), put("i", 1, "2")); err != nil { // the other one's COMMIT was never sent
		t.Error(err)
	}
	if i, err := h.Get(t.Context(), put("i", 0, "").Ref); err != nil || string(i.Value) != "2" {
		t.Errorf("%q, %v", i.Value, err)
	}
}

// A connection that is lost at COMMIT leaves the outcome open: that is an error, and neither a
// conflict nor success; and the next one finds a pool that works.
func TestG7_PostgresLostCommit(t *testing.T) {
	p := newPostgres(t)
	h := p.store(t, "")
	mustExec(t, h.db,
		`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER t AFTER INSERT ON byok_items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = 'fatal') EXECUTE FUNCTION die()`,
		`CREATE CONSTRAINT TRIGGER t AFTER INSERT ON byok_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = 'fatal') EXECUTE FUNCTION die()`)
	for range 3 {
		err := h.Apply(t.Context(), put("other", 0, "x"), put("fatal", 0, "x"))
		if err == nil || errors.Is(err, byok.ErrConflict) || errors.Is(err, byok.ErrNotFound) || errors.Is(err, byok.ErrArgument) {
			t.Errorf("Apply: %v", err)
		}
		if err := h.Record(t.Context(), byok.Event{ID: "fatal"}); err == nil {
			t.Error("recorded")
		}
	}
	if l, err := h.List(t.Context(), "p", "", 10); err != nil || len(l) != 0 {
		t.Error(l, err)
	}
	if err := errors.Join(h.Apply(t.Context(), put("other", 0, "x")), h.Record(t.Context(), byok.Event{ID: "e"})); err != nil {
		t.Error(err)
	}
}

// A schema that is up to date needs few rights; see docs/operations.md.
func TestPostgresRights(t *testing.T) {
	p := newPostgres(t)
	h := p.store(t, "")
	mustExec(t, h.db, "CREATE ROLE app LOGIN", "REVOKE ALL ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO app",
		"GRANT SELECT, INSERT, UPDATE ON byok_items TO app", "GRANT SELECT, INSERT ON byok_events TO app", "GRANT SELECT ON byok_schema TO app")
	s, err := sqlstore.Open(t.Context(), openPgx(t, strings.Replace(p.dsn(""), "user=byok", "user=app", 1)), sqlstore.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Apply(t.Context(), put("i", 0, "x"), put("j", 0, "x")), s.Apply(t.Context(), put("i", 1, "x")),
		s.Record(t.Context(), byok.Event{ID: "e", Scope: byok.Scope{Tenant: "t"}})); err != nil {
		t.Fatal(err)
	}
	if page, err := s.Events(t.Context(), "t", byok.AuditQuery{}); err != nil || len(page.Events) != 1 {
		t.Error(page, err)
	}
}

// Many processes make and migrate a schema at once; a newer one is refused.
func TestPostgresMigrations(t *testing.T) {
	p := newPostgres(t)
	for range 5 {
		schema := p.newSchema(t)
		var wg sync.WaitGroup
		for range 12 {
			db := p.open(schema)
			wg.Go(func() {
				if _, err := sqlstore.Open(t.Context(), db, sqlstore.Postgres); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	h := p.store(t, p.newSchema(t))
	mustExec(t, h.db, "INSERT INTO byok_schema VALUES (99, '')")
	if _, err := sqlstore.Open(t.Context(), h.db, sqlstore.Postgres); !errors.Is(err, sqlstore.ErrSchema) || !strings.Contains(err.Error(), "99") {
		t.Error(err)
	}
	p.stop(syscall.SIGINT)
	if _, err := sqlstore.Open(t.Context(), p.open(""), sqlstore.Postgres); err == nil {
		t.Error("opened a server that is not there")
	}
}

// Each older schema, as a file of what the code of its time made: it becomes the one
// that is made now, and what is in it stays.
func TestPostgresOlderSchemas(t *testing.T) {
	p := newPostgres(t)
	h := p.store(t, "")
	var known int
	if err := h.db.QueryRow("SELECT max(version) FROM byok_schema").Scan(&known); err != nil || known < 1 {
		t.Fatal(known, err)
	}
	now := p.dumpSchema("postgres")
	for v := 1; v <= known; v++ {
		file, err := os.ReadFile(filepath.Join("..", "sqlstore", "testdata", "schema", fmt.Sprintf("postgres-%d.sql", v)))
		if err != nil {
			t.Fatalf("a schema without its file; make it with pg_dump --inserts before there is a newer one: %v", err)
		}
		name := fmt.Sprint("old", v)
		mustExec(t, h.db, "CREATE DATABASE "+name)
		load := p.command("psql", "-h", p.dir, "-U", "byok", "-d", name, "-v", "ON_ERROR_STOP=1", "-q", "-f", "-")
		load.Stdin = strings.NewReader(string(file))
		if out, err := load.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		dsn := strings.Replace(p.dsn(""), "dbname=postgres", "dbname="+name, 1)
		var wg sync.WaitGroup
		for range 8 {
			db := openPgx(t, dsn)
			wg.Go(func() {
				if _, err := sqlstore.Open(t.Context(), db, sqlstore.Postgres); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s, err := sqlstore.Open(t.Context(), openPgx(t, dsn), sqlstore.Postgres)
		if err != nil {
			t.Fatal(err)
		}
		checkOldData(t, s)
		if got := p.dumpSchema(name); got != now {
			t.Errorf("version %d became\n%s\nand not\n%s", v, got, now)
		}
	}
}

func (p *postgresServer) dumpSchema(db string) string {
	p.t.Helper()
	out, err := p.command("pg_dump", "-h", p.dir, "-U", "byok", "-d", db, "--schema-only").Output()
	if err != nil {
		p.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, `\`) { // \restrict has a random word
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// checkOldData checks what the files in sqlstore/testdata/schema hold.
func checkOldData(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	old, err := s.Get(t.Context(), byok.Ref{Partition: "part!'%_\\", ID: "~"})
	if err != nil || old.Revision != 2 || string(old.Value) != "\x00\xffvalue" {
		t.Errorf("%+v, %v", old, err)
	}
	l, err := s.List(t.Context(), "p", "", 10)
	if err != nil || len(l) != 2 || l[0].ID != "B" || l[1].ID != "a" {
		t.Errorf("%+v, %v", l, err)
	}
	if err := s.Apply(t.Context(), byok.Item{Ref: old.Ref, Revision: 2, Value: []byte("new")}); err != nil {
		t.Error(err)
	}
	page, err := s.Events(t.Context(), "t", byok.AuditQuery{})
	if err != nil || len(page.Events) != 2 || page.Events[0].ID != "e2" || page.Events[1].Reason != "why\n'" {
		t.Errorf("%+v, %v", page, err)
	}
}
