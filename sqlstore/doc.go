// Package sqlstore is a byok.Store, a byok.AuditSink and a byok.AuditReader on a
// SQL database through database/sql. It imports no driver.
//
// # SQLite
//
// One machine, one file, any number of processes:
//
//	import _ "github.com/ncruces/go-sqlite3/driver" // v0.37.0 is what the tests use
//
//	db, err := sql.Open("sqlite3", "file:/var/lib/app/byok.db?_pragma=busy_timeout(10000)")
//	...
//	store, err := sqlstore.Open(ctx, db, sqlstore.SQLite)
//	...
//	keeper, err := byok.New("example-saas", keys, store, store, nil)
//
// The file may hold the platform's own tables too: this package's begin with
// byok_. Open puts the file into WAL mode, and every write is made with
// synchronous=FULL, whatever the connection had before, since a commit that
// a power cut takes back would also take back a revocation. Both need a local
// file: an in-memory database and a network file system are not supported. No
// connection to the file may use synchronous=OFF.
//
// # Postgres
//
// Any number of machines:
//
//	import _ "github.com/jackc/pgx/v5/stdlib" // v5.12.0 is what the tests use
//
//	db, err := sql.Open("pgx", "postgres://app@db.internal/app?sslmode=verify-full&target_session_attrs=read-write")
//	...
//	db.SetMaxOpenConns(16) // of all processes together less than the server's max_connections
//	store, err := sqlstore.Open(ctx, db, sqlstore.Postgres)
//
// The tables are in the first schema of the connection's search_path. A commit
// waits for the disk also where synchronous_commit is off; a server whose fsync is
// off, and a standby, are refused with ErrUnfit. pgx is the only driver it works with:
// it passes slices as arrays.
//
// # Group commit
//
// Concurrent Record calls, and on SQLite Apply calls, share one transaction and one
// fsync, so many writers get many times the rate of one. (Postgres does that for
// its transactions by itself.) A call whose ctx ends leaves; its
// write may still take place, as the Store contract allows, and for an
// event it makes no difference: a repeated delivery is ignored.
//
// # Closing
//
// There is nothing to close here. Close the Keeper first, then the *sql.DB.
package sqlstore
