package integration

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // "pgx"

	"github.com/byok-go/byok/sqlstore"
)

// postgresBin is where Debian's packages put the programs of each version.
var postgresBin = flag.String("postgres", newest("/usr/lib/postgresql/*/bin"), "the directory of initdb and postgres")

func newest(pattern string) string {
	dirs, _ := filepath.Glob(pattern)
	if len(dirs) == 0 {
		return pattern
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return len(a) - len(b) }) // 9 and 15
}

// postgresServer is a server of its own, on a socket in a private directory. It
// refuses to run as root, so root's tests run it as nobody.
type postgresServer struct {
	t    testing.TB
	dir  string // data/ and the socket
	args []string
	cmd  *exec.Cmd
	log  *buffer
	gone chan struct{}
	n    atomic.Int64
}

// newPostgres makes and starts a server whose fsync is on, as it is by default.
// settings are of postgresql.conf, as in "wal_level=logical".
func newPostgres(t testing.TB, settings ...string) *postgresServer {
	t.Helper()
	p := preparePostgres(t, settings...)
	p.run("initdb", "-D", p.data(), "-U", "byok", "--auth=trust", "--encoding=UTF8",
		"--locale=C.UTF-8", // and items are in byte order for COLLATE "C", whatever this is
	)
	p.start()
	return p
}

func preparePostgres(t testing.TB, settings ...string) *postgresServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "byok-postgres-") // short: a socket's name is at most 107 bytes
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	p := &postgresServer{t: t, dir: dir, log: new(buffer)}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err == nil {
		err = os.Mkdir(p.data(), 0o700)
	}
	if c := p.credential(); c != nil && err == nil {
		err = errors.Join(os.Chown(dir, int(c.Uid), int(c.Gid)), os.Chown(p.data(), int(c.Uid), int(c.Gid)))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.args = []string{"-D", p.data(), "-k", dir}
	for _, s := range append([]string{"listen_addresses=", "unix_socket_permissions=0777", "max_connections=200"}, settings...) {
		p.args = append(p.args, "-c", s)
	}
	return p
}

func (p *postgresServer) data() string { return filepath.Join(p.dir, "data") }

// credential is nobody's, if this is root.
func (p *postgresServer) credential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		p.t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p *postgresServer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(*postgresBin, name), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential(), Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (p *postgresServer) run(name string, args ...string) {
	p.t.Helper()
	if out, err := p.command(name, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// start starts the server and waits until it answers, which after a crash is once it has
// recovered.
func (p *postgresServer) start() {
	p.t.Helper()
	p.cmd = p.command("postgres", p.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd, gone := p.cmd, make(chan struct{})
	p.gone = gone
	go func() { _ = cmd.Wait(); close(gone) }()
	p.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); <-gone })
	db := p.open("")
	defer db.Close()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := db.Ping()
		if err == nil {
			return
		}
		select {
		case <-gone:
			p.t.Fatalf("postgres ended\n%s", p.log)
		default:
		}
		if time.Since(begun) > time.Minute {
			p.t.Fatalf("postgres does not answer: %v\n%s", err, p.log)
		}
	}
}

// stop ends the server: SIGINT is pg_ctl's "fast", SIGQUIT its "immediate", after
// which the next start recovers from the write-ahead log. SIGKILL is of all its
// processes.
func (p *postgresServer) stop(s syscall.Signal) {
	p.t.Helper()
	pid := p.cmd.Process.Pid
	if s == syscall.SIGKILL {
		pid = -pid
	}
	if err := syscall.Kill(pid, s); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.gone:
	case <-time.After(time.Minute):
		p.t.Fatalf("postgres does not stop\n%s", p.log)
	}
}

// dsn is a connection string, for pgx and libpq, to a schema, "" being the default one.
// options are settings of the session, as in "-c fsync=off".
func (p *postgresServer) dsn(schema string, options ...string) string {
	if schema != "" {
		options = append(options, "-c search_path="+schema)
	}
	return fmt.Sprintf("host=%s user=byok dbname=postgres sslmode=disable options='%s'", p.dir, strings.Join(options, " "))
}

func (p *postgresServer) open(schema string) *sql.DB {
	p.t.Helper()
	return openPgx(p.t, p.dsn(schema))
}

func openPgx(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// newSchema makes an empty one, with room for a Store of its own.
func (p *postgresServer) newSchema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprint("s", p.n.Add(1))
	db := p.open("")
	defer db.Close()
	if _, err := db.Exec("CREATE SCHEMA " + name); err != nil {
		t.Fatal(err)
	}
	return name
}

// pgHandle is a Store with a pool of its own, as a process has it.
type pgHandle struct {
	*sqlstore.Store
	db *sql.DB
}

func (h pgHandle) Close() error { return h.db.Close() }

func (p *postgresServer) store(t testing.TB, schema string) pgHandle {
	t.Helper()
	db := openPgx(t, p.dsn(schema))
	s, err := sqlstore.Open(context.Background(), db, sqlstore.Postgres)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	return pgHandle{s, db}
}
