package integration

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

// The commands of docs/operations.md, as they stand there; $DB is a connection string
// and $BACKUP a file.
const (
	pgBackup  = `pg_dump --format=custom --table=byok_items --file="$BACKUP" --dbname="$DB"`
	pgRestore = `(echo 'BEGIN; TRUNCATE byok_items;'; pg_restore --data-only --table=byok_items --file=- "$BACKUP"; echo 'COMMIT;') | psql --quiet --set=ON_ERROR_STOP=1 --dbname="$DB"`
	stops     = `SELECT time, tenant, op, event FROM byok_events
  WHERE time > 0 AND op NOT IN ('seal', 'open') ORDER BY time`
)

var sqliteBackup = []string{`VACUUM INTO 'backup.db'`}
var sqliteRestore = []string{
	`ATTACH 'backup.db' AS backup`,
	`BEGIN IMMEDIATE`,
	`DELETE FROM main.byok_items`,
	`INSERT INTO main.byok_items SELECT * FROM backup.byok_items`,
	`COMMIT`,
	`DETACH backup`,
}

// A backup that is made while processes work, and what a restore of it does: what had been
// sealed before opens, what came after is as docs/operations.md says, and processes
// that have seen more refuse everything.
func TestG6_BackupAndRestore(t *testing.T) {
	docs, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.ReplaceAll(string(docs), "\n   ", "\n") // it is in a list, too
	for _, command := range []string{pgBackup, pgRestore, stops, strings.Join(sqliteBackup, "\n"), strings.Join(sqliteRestore, "\n")} {
		if !strings.Contains(plain, command) {
			t.Errorf("docs/operations.md does not say %s", command)
		}
	}
	eachDatabase(t, func(t *testing.T, empty func() *site) {
		s := empty()
		s.newTenant("acme")
		s.newTenant("bolt")
		db, _, live := s.open()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = live.Run(ctx) }()
		for id, o := range s.customers {
			if err := register(t.Context(), live.Tenant(id), o.cmk, func(string) {}); err != nil {
				t.Fatal(err)
			}
		}
		seal := func(purpose string) []byte {
			t.Helper()
			sealed, err := live.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: purpose}, []byte("x"), nil)
			if err != nil {
				t.Fatal(err)
			}
			return sealed
		}
		before := seal("before")
		writer := startCrasher(t, s.config("busy")) // another process is at work all the time
		writer.ready()
		s.copyItems(db, pgBackup, sqliteBackup)
		_ = writer.cmd.Process.Kill()
		_, _ = writer.rest()

		after := seal("after") // its data key is not in the backup
		if _, err := live.Tenant("bolt").Suspend(t.Context(), "stop"); err != nil {
			t.Fatal(err)
		}
		s.copyItems(db, pgRestore, sqliteRestore)
		for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			_, err := live.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "before"}, before, nil)
			if errors.Is(err, byok.ErrStore) {
				t.Logf("a process that lived through it refuses after %v: %v", time.Since(begun), err)
				break
			}
			if err != nil || time.Since(begun) > 30*time.Second {
				t.Fatalf("%v after a restore: %v", time.Since(begun), err)
			}
		}
		if _, err := live.Seal(t.Context(), byok.Scope{Tenant: "bolt"}, nil, nil); !errors.Is(err, byok.ErrStore) {
			t.Errorf("Seal for a suspended tenant, after a restore, in a process that knows better: %v", err)
		}

		_, _, k := s.open() // restarted
		open := func(purpose string, sealed []byte) error {
			_, err := k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: purpose}, sealed, nil)
			return err
		}
		if err := open("before", before); err != nil {
			t.Errorf("what had been sealed before the backup: %v", err)
		}
		if err := open("after", after); byok.Code(err) != "BYOK_008" {
			t.Errorf("what was sealed with a data key of after the backup: %v", err)
		}
		if _, err := k.Seal(t.Context(), byok.Scope{Tenant: "bolt"}, nil, nil); err != nil {
			t.Errorf("a suspension of after the backup is undone, says the documentation: %v", err)
		}
		// The log was not taken back: what to do again is in it.
		var suspended int
		if err := db.QueryRow("SELECT count(*) FROM (" + stops + ") AS stops WHERE tenant = 'bolt' AND op = 'suspend'").Scan(&suspended); err != nil || suspended != 1 {
			t.Errorf("%d suspensions are in the log, %v", suspended, err)
		}
		if _, err := k.Tenant("bolt").Suspend(t.Context(), "again"); err != nil {
			t.Error(err)
		}
		if _, err := k.Seal(t.Context(), byok.Scope{Tenant: "bolt"}, nil, nil); !errors.Is(err, byok.ErrSuspended) {
			t.Errorf("Seal for a tenant that was suspended again: %v", err)
		}
	})
}

// copyItems runs the commands of a backup or a restore.
func (s *site) copyItems(db *sql.DB, postgres string, sqlite []string) {
	s.t.Helper()
	if s.backups == "" {
		s.backups = s.t.TempDir()
	}
	if s.driver == "pgx" {
		cmd := exec.Command("bash", "-o", "pipefail", "-c", postgres)
		cmd.Env = cleanEnv("PATH="+*postgresBin+":/usr/bin:/bin", "DB="+s.dsn, "BACKUP="+filepath.Join(s.backups, "backup.dump"))
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("%s: %v\n%s", postgres, err, out)
		}
		return
	}
	conn, err := db.Conn(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	for _, statement := range sqlite {
		statement = strings.Replace(statement, "backup.db", filepath.Join(s.backups, "backup.db"), 1)
		if _, err := conn.ExecContext(s.t.Context(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}
