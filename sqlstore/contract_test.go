package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
	"github.com/byok-go/byok/storetest"
)

// handle is a Store with a database of its own, as a process has it.
type handle struct {
	*sqlstore.Store
	db *sql.DB
}

func (h handle) Close() error { return h.db.Close() }

func dsn(path string) string { return "file:" + path + "?_pragma=busy_timeout(10000)" }

func open(t testing.TB, path string) handle {
	t.Helper()
	db, err := sql.Open(sqlstore.Driver, dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s, err := sqlstore.Open(t.Context(), db, sqlstore.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	return handle{s, db}
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "byok.db") }

func TestStoreContract(t *testing.T) { sqlstore.EachDriver(t, testStoreContract) }

func testStoreContract(t *testing.T) {
	storetest.TestStore(t, func(t *testing.T) byok.Store { return open(t, file(t)) })
}

func TestSharedStoreContract(t *testing.T) { sqlstore.EachDriver(t, testSharedStoreContract) }

func testSharedStoreContract(t *testing.T) {
	storetest.TestSharedStore(t, func(t *testing.T) func(*testing.T) byok.Store {
		path := file(t)
		return func(t *testing.T) byok.Store { return open(t, path) }
	})
}

func TestAuditContract(t *testing.T) { sqlstore.EachDriver(t, testAuditContract) }

func testAuditContract(t *testing.T) {
	storetest.TestAudit(t, func(t *testing.T) byok.AuditSink { return open(t, file(t)) })
}

func TestSharedAuditContract(t *testing.T) { sqlstore.EachDriver(t, testSharedAuditContract) }

func testSharedAuditContract(t *testing.T) {
	storetest.TestSharedAudit(t, func(t *testing.T) func(*testing.T) byok.AuditSink {
		path := file(t)
		return func(t *testing.T) byok.AuditSink { return open(t, path) }
	})
}

// TestOneConnection: a pool of one must not deadlock a reader with a writer.
func TestOneConnection(t *testing.T) {
	storetest.TestStore(t, func(t *testing.T) byok.Store {
		h := open(t, file(t))
		h.db.SetMaxOpenConns(1)
		return h
	})
}
