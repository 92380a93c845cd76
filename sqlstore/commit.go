package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore/internal/conn"
)

// commit writes the requests of a batch in one transaction.
func (s *Store) commit(ctx context.Context, batch []*request) {
	began, err := s.transaction(ctx, func(tx *tx) error { return tx.writeAll(batch) })
	if err == nil {
		return
	}
	var aborted *abortedError
	if began && len(batch) > 1 && errors.As(err, &aborted) && ctx.Err() == nil {
		// One request failed in a way that spoils the transaction, and COMMIT was
		// not sent. Alone, each gets what it deserves.
		for _, r := range batch {
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

// applyAlone gives an Apply a transaction of its own, which is not committed if
// there is a conflict.
func (s *Store) applyAlone(ctx context.Context, r *request) error {
	_, err := s.transaction(ctx, func(t *tx) error {
		for _, w := range r.writes {
			ok, err := t.put(w)
			if err != nil {
				return err
			}
			if !ok {
				return byok.ErrConflict
			}
		}
		return nil
	})
	if errors.Is(err, byok.ErrConflict) {
		return byok.ErrConflict
	}
	return err
}

// tx is a transaction on one connection.
type tx struct {
	ctx  context.Context
	s    *Store
	conn *sql.Conn
}

// abortedError is a failure before COMMIT was sent: nothing was written.
type abortedError struct{ error }

func (e *abortedError) Unwrap() error { return e.error }

// transaction runs f in a transaction, and again if that was rolled back for
// another one's sake. Nothing is written if f fails. began says that the failure
// is f's, or COMMIT's.
func (s *Store) transaction(ctx context.Context, f func(*tx) error) (began bool, err error) {
	err = s.retry(ctx, func() (err error) {
		began, err = s.attempt(ctx, f)
		return err
	})
	return began, err
}

func (s *Store) attempt(ctx context.Context, f func(*tx) error) (began bool, err error) {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	clean := false
	defer func() {
		if !clean { // also after a panic
			conn.Discard(c)
		}
		_ = c.Close() // back to the pool
	}()
	// A connection on which BEGIN failed is not used again: perhaps it began all the
	// same, and the answer was interrupted.
	if err := s.d.ready(ctx, c); err != nil {
		return false, err
	}
	if _, err := c.ExecContext(ctx, s.d.begin); err != nil {
		return false, err
	}
	if err := f(&tx{ctx: ctx, s: s, conn: c}); err != nil {
		clean = conn.Rollback(ctx, c)
		return true, &abortedError{err}
	}
	// From here on an error says nothing about what is in the database.
	if _, err := c.ExecContext(ctx, "COMMIT"); err != nil {
		clean = conn.Rollback(ctx, c)
		return true, err
	}
	clean = true
	return true, nil
}

// writeAll does the requests of a batch. Its error aborts the transaction; a
// conflict does not, and is the err of its request.
func (t *tx) writeAll(batch []*request) error {
	var events []*request
	for _, r := range batch {
		r.err = nil // of an earlier transaction, which did not last
		if r.event != nil {
			events = append(events, r)
		} else if err := t.apply(r); err != nil {
			return err
		}
	}
	if len(events) == 0 {
		return nil
	}
	return t.s.d.record(t, events)
}

func (t *tx) apply(r *request) error {
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

func (t *tx) exec(statement string) error {
	_, err := t.conn.ExecContext(t.ctx, statement)
	return err
}
