// Package conn has what both sqlstore and sqltable do to a connection of a pool.
package conn

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// ErrUnfit is sqlstore.ErrUnfit.
var ErrUnfit = errors.New("the database is not fit for a Store")

// ErrStandby is the answer of a server whose data may be old.
var ErrStandby = fmt.Errorf("%w: the server is a standby; connect with target_session_attrs=read-write", ErrUnfit)

// SQLite's levels of PRAGMA synchronous: OFF, NORMAL, FULL, EXTRA. In a
// write-ahead log everything below FULL can lose the last commits at a power cut.
const synchronousFull = 2

// Durable makes commits on a connection to SQLite wait for the disk.
func Durable(ctx context.Context, c *sql.Conn) error {
	level, err := Synchronous(ctx, c)
	if err != nil || level >= synchronousFull {
		return err
	}
	// The pragma does nothing inside a transaction; here none has begun.
	if _, err := c.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return err
	}
	// SQLite ignores a pragma that it does not like, so look.
	if level, err = Synchronous(ctx, c); err != nil {
		return err
	}
	if level < synchronousFull {
		return fmt.Errorf("%w: the connection stays at synchronous=%d, not FULL", ErrUnfit, level)
	}
	return nil
}

// Synchronous is a connection's level.
func Synchronous(ctx context.Context, c *sql.Conn) (level int, err error) {
	err = c.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&level)
	return level, err
}

// rollbackTimeout bounds the cleaning up after a failure; when it is over the
// connection is closed instead, which has the same effect.
const rollbackTimeout = 5 * time.Second

// Rollback reports whether the connection can be used again.
func Rollback(ctx context.Context, c *sql.Conn) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := c.ExecContext(ctx, "ROLLBACK")
	return err == nil
}

// Discard keeps a connection out of the pool: with a transaction left open on
// it, whoever got it next would read an old state, and write into nowhere.
func Discard(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
}
