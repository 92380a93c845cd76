package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math"
	"time"

	"github.com/byok-go/byok"
)

// rollbackTimeout bounds the cleaning up after a failure; when it is over the
// connection is closed instead, which has the same effect.
const rollbackTimeout = 5 * time.Second

// commit writes the requests of a batch in one transaction.
func (s *Store) commit(ctx context.Context, batch []*request) {
	began, err := s.transaction(ctx, func(tx *tx) error {
		for _, r := range batch {
			if err := tx.write(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return
	}
	var aborted *abortedError
	if began && len(batch) > 1 && errors.As(err, &aborted) && ctx.Err() == nil {
		// One request failed in a way that spoils the transaction, and COMMIT was
		// not sent. Alone, each gets what it deserves.
		for _, r := range batch {
			r.err = nil
			s.commit(ctx, []*request{r})
		}
		return
	}
	// A conflict that was found in this transaction may have been with another of
	// its requests. It is not an answer, since the transaction did not last.
	for _, r := range batch {
		r.err = err
	}
}

// tx is a transaction on one connection.
type tx struct {
	ctx   context.Context
	s     *Store
	conn  *sql.Conn
	event *sql.Stmt // prepared once for the events of a batch
}

// abortedError is a failure before COMMIT was sent: nothing was written.
type abortedError struct{ error }

func (e *abortedError) Unwrap() error { return e.error }

// transaction runs f in a transaction. Nothing is written if f fails. began says
// that the failure is f's, or COMMIT's.
func (s *Store) transaction(ctx context.Context, f func(*tx) error) (began bool, err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	clean := false
	defer func() {
		if !clean { // also after a panic
			discard(conn)
		}
		_ = conn.Close() // back to the pool
	}()
	err = s.retry(ctx, func() error {
		if err := s.d.ready(ctx, conn); err != nil {
			return err
		}
		_, err := conn.ExecContext(ctx, s.d.begin)
		return err
	})
	if err != nil {
		// Perhaps it began all the same, and the answer was interrupted.
		return false, err
	}
	t := &tx{ctx: ctx, s: s, conn: conn}
	err = f(t)
	if t.event != nil {
		err = errors.Join(err, t.event.Close())
	}
	if err != nil {
		clean = rollback(ctx, conn)
		return true, &abortedError{err}
	}
	// From here on an error says nothing about what is in the database.
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		clean = rollback(ctx, conn)
		return true, err
	}
	clean = true
	return true, nil
}

// rollback reports whether the connection can be used again.
func rollback(ctx context.Context, conn *sql.Conn) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := conn.ExecContext(ctx, "ROLLBACK")
	return err == nil
}

// discard keeps a connection out of the pool: with a transaction left open on
// it, whoever got it next would read an old state, and write into nowhere.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// write does one request. Its error aborts the transaction; a conflict does not.
func (t *tx) write(r *request) error {
	if r.event != nil {
		return t.record(r)
	}
	if len(r.writes) == 1 { // a conflict leaves nothing to take back
		ok, err := t.put(r.writes[0])
		if err == nil && !ok {
			r.err = byok.ErrConflict
		}
		return err
	}
	if err := t.exec("SAVEPOINT byok_apply"); err != nil {
		return err
	}
	for _, w := range r.writes {
		ok, err := t.put(w)
		if err != nil {
			return err
		}
		if !ok {
			r.err = byok.ErrConflict
			if err := t.exec("ROLLBACK TO SAVEPOINT byok_apply"); err != nil {
				return err
			}
			break
		}
	}
	return t.exec("RELEASE SAVEPOINT byok_apply")
}

// put writes one item if its revision is the expected one. The condition and the
// write are one statement, so it holds at every level of isolation.
func (t *tx) put(w byok.Item) (ok bool, err error) {
	var res sql.Result
	switch {
	case w.Revision == 0:
		res, err = t.conn.ExecContext(t.ctx, t.s.insert, w.Partition, w.ID, w.Value)
	case w.Revision >= math.MaxInt64: // no item gets there, and SQL has no such number
		return false, nil
	default:
		res, err = t.conn.ExecContext(t.ctx, t.s.update, w.Value, w.Partition, w.ID, int64(w.Revision))
	}
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

func (t *tx) record(r *request) (err error) {
	if t.event == nil {
		if t.event, err = t.conn.PrepareContext(t.ctx, t.s.event); err != nil {
			return err
		}
	}
	_, err = t.event.ExecContext(t.ctx, r.event...)
	return err
}

func (t *tx) exec(statement string) error {
	_, err := t.conn.ExecContext(t.ctx, statement)
	return err
}
