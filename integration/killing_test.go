package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// A killing database kills this process before the nth statement that changes
// something is sent: BEGIN, COMMIT, each INSERT, UPDATE, CREATE. What is after one
// is before the next.
type killing struct {
	inner driver.Driver
	dsn   string
	at    int64 // 0: never
	n     atomic.Int64
}

// openKilling is sql.Open. killing.n counts statements.
func openKilling(name, dsn string, at int) (*sql.DB, *killing, error) {
	db, err := sql.Open(name, dsn)
	if err != nil {
		return nil, nil, err
	}
	k := &killing{inner: db.Driver(), dsn: dsn, at: int64(at)}
	return sql.OpenDB(k), k, db.Close()
}

func (k *killing) Connect(ctx context.Context) (driver.Conn, error) {
	d, ok := k.inner.(driver.DriverContext)
	if !ok {
		c, err := k.inner.Open(k.dsn)
		return &killingConn{c, k}, err
	}
	connector, err := d.OpenConnector(k.dsn)
	if err != nil {
		return nil, err
	}
	c, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &killingConn{c, k}, nil
}

func (k *killing) statement(query string) {
	verb, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	if verb == "SELECT" || verb == "PRAGMA" {
		return
	}
	if k.n.Add(1) == k.at {
		fmt.Fprintf(os.Stderr, "killed before %.60s\n", strings.Join(strings.Fields(query), " "))
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	}
}

// Driver implements driver.Connector.
func (k *killing) Driver() driver.Driver { return k.inner }

// killingConn passes on what the drivers of the tests can do.
type killingConn struct {
	driver.Conn
	k *killing
}

func (c *killingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	e, ok := c.Conn.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	c.k.statement(query)
	return e.ExecContext(ctx, query, args)
}

func (c *killingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	q, ok := c.Conn.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	c.k.statement(query)
	return q.QueryContext(ctx, query, args)
}

func (c *killingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.k.statement(query)
	if p, ok := c.Conn.(driver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, query)
	}
	return c.Conn.Prepare(query)
}

func (c *killingConn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.Conn.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *killingConn) ResetSession(ctx context.Context) error {
	if r, ok := c.Conn.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

func (c *killingConn) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return !ok || v.IsValid()
}
