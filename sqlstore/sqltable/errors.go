package sqltable

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
)

// clean makes of an error of the database one that can be logged.
func clean(ctx context.Context, op string, err error) error {
	if errors.Is(err, byok.ErrArgument) || errors.Is(err, sqlstore.ErrUnfit) {
		return err // our own
	}
	if ctx.Err() != nil { // drivers have many ways to say that they were interrupted
		return ctx.Err()
	}
	f := &failure{op: op}
	var state interface{ SQLState() string } // *pgconn.PgError
	var network net.Error
	code, sqlite := sqliteCode(err)
	switch {
	case errors.As(err, &state):
		f.what = "the database answers SQLSTATE " + state.SQLState()
	case sqlite:
		f.what = "the database answers " + code
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		f.what = "it was interrupted"
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone):
		f.what, f.is = "the connection is gone", driver.ErrBadConn
	case errors.As(err, &network):
		f.what = "the network failed"
	default:
		each(err, func(err error) { f.what = fmt.Sprintf("the driver failed: %T", err) }) // the innermost may tell
	}
	return f
}

// sqliteNames are the primary result codes of SQLite that are likely.
var sqliteNames = map[int64]string{1: "ERROR", 5: "BUSY", 6: "LOCKED", 8: "READONLY", 10: "IOERR", 11: "CORRUPT", 13: "FULL", 19: "CONSTRAINT"}

// sqliteCode is the code of an error of a driver of SQLite. Each has a method Code, with a type of its own, and none is imported here.
func sqliteCode(err error) (text string, ok bool) {
	each(err, func(err error) {
		m := reflect.ValueOf(err).MethodByName("Code")
		if ok || !m.IsValid() || m.Type().NumIn() != 0 || m.Type().NumOut() != 1 {
			return
		}
		var n int64
		switch out := m.Call(nil)[0]; {
		case out.CanInt():
			n = out.Int()
		case out.CanUint():
			n = int64(out.Uint())
		default:
			return
		}
		text, ok = strings.TrimSpace(fmt.Sprint("SQLite's code ", n, " ", sqliteNames[n&0xff])), true
	})
	return text, ok
}

// each calls f with an error and all that it wraps.
func each(err error, f func(error)) {
	if err == nil {
		return
	}
	f(err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		each(e.Unwrap(), f)
	case interface{ Unwrap() []error }:
		for _, e := range e.Unwrap() {
			each(e, f)
		}
	}
}

// failure is an error of the database. It has no more of the driver's than a code: texts of databases and drivers show
// arguments and rows, pgx's in %#v.
type failure struct {
	op, what string
	is       error
}

func (f *failure) Error() string { return fmt.Sprintf("sqltable: %s: %s", f.op, f.what) }
func (f *failure) Unwrap() error { return f.is }
