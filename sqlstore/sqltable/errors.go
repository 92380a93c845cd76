package sqltable

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
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
		if op == opReplace && slices.ContainsFunc(refusals, func(class string) bool { return strings.HasPrefix(state.SQLState(), class) }) {
			f.is = byok.ErrRecordRefused
		}
	case sqlite:
		f.what = "the database answers SQLite's code " + strings.TrimSpace(fmt.Sprint(code, " ", sqliteNames[code&0xff]))
		if op == opReplace && sqliteRefusals[code&0xff] {
			f.is = byok.ErrRecordRefused
		}
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

const opReplace = "replace"

// refusals are the classes of SQLSTATE in which Postgres says that a row cannot be written as it would be: by a constraint, a trigger or a limit.
var refusals = []string{"09", "22", "23", "27", "44", "54", "P0"}

// sqliteRefusals are those of SQLite: TOOBIG, CONSTRAINT (which a trigger's RAISE is as well) and MISMATCH.
var sqliteRefusals = map[int64]bool{18: true, 19: true, 20: true}

// sqliteNames are the primary result codes of SQLite that are likely.
var sqliteNames = map[int64]string{1: "ERROR", 5: "BUSY", 6: "LOCKED", 8: "READONLY", 10: "IOERR", 11: "CORRUPT", 13: "FULL", 18: "TOOBIG", 19: "CONSTRAINT", 20: "MISMATCH"}

// sqliteCode is the code of an error of a driver of SQLite. Each has a method Code, with a type of its own, and none is imported here.
func sqliteCode(err error) (code int64, ok bool) {
	each(err, func(err error) {
		m := reflect.ValueOf(err).MethodByName("Code")
		if ok || !m.IsValid() || m.Type().NumIn() != 0 || m.Type().NumOut() != 1 {
			return
		}
		switch out := m.Call(nil)[0]; {
		case out.CanInt():
			code, ok = out.Int(), true
		case out.CanUint():
			code, ok = int64(out.Uint()), true
		}
	})
	return code, ok
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
