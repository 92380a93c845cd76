package sqlstore

import (
	"cmp"
	"os"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // "sqlite3"
	_ "modernc.org/sqlite"                   // "sqlite"
)

// DriverEnv names the driver of a test's other processes.
const DriverEnv = "BYOK_TEST_DRIVER"

// Driver is the name under which the SQLite driver of this moment is registered.
var Driver = cmp.Or(os.Getenv(DriverEnv), "sqlite3")

// EachDriver runs a test with each driver of SQLite that this package is tested with.
func EachDriver(t *testing.T, test func(t *testing.T)) {
	defer func(was string) { Driver = was }(Driver)
	for _, d := range []struct{ name, registered string }{{"ncruces", "sqlite3"}, {"modernc", "sqlite"}} {
		Driver = d.registered
		t.Run(d.name, test)
	}
}
