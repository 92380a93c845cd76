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
// # Group commit
//
// Concurrent Apply and Record calls share one transaction and one fsync, so many
// writers get many times the rate of one. A call whose ctx ends leaves; its
// write may still take place, as the Store contract allows, and for an
// event it makes no difference: a repeated delivery is ignored.
//
// # Closing
//
// There is nothing to close here. Close the Keeper first, then the *sql.DB.
package sqlstore
