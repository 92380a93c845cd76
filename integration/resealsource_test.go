package integration

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"github.com/byok-go/byok"
)

type tmpSource struct {
	db    *sql.DB
	pg    bool
	table string
}

func resealSource(ctx context.Context, driver, dsn, table string) (*tmpSource, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	return &tmpSource{db, driver == "pgx", table}, nil
}

func (s *tmpSource) Records(ctx context.Context, after, last string, limit int) (out []byok.Record, err error) {
	a, l := 0, 1<<40
	if after != "" {
		a, _ = strconv.Atoi(after)
	}
	if last != "" {
		l, _ = strconv.Atoi(last)
	}
	rows, err := s.db.QueryContext(ctx, "SELECT id, body, NOT sealed FROM "+s.table+" WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3", a, l, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		r := byok.Record{Purpose: resealPurpose}
		if err := rows.Scan(&id, &r.Value, &r.Clear); err != nil {
			return nil, err
		}
		r.Key, r.AAD = fmt.Sprint(id), resealAAD(id)
		out = append(out, r)
	}
	return out, rows.Err()
}

func (s *tmpSource) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) (done []bool, err error) {
	if !s.pg {
		c, err := s.db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
			return nil, err
		}
		defer c.ExecContext(context.Background(), "ROLLBACK")
		for i, r := range records {
			id, _ := strconv.Atoi(r.Key)
			res, err := c.ExecContext(ctx, "UPDATE "+s.table+" SET body = $1, sealed = true WHERE id = $2 AND body = $3 AND sealed <> $4", sealed[i], id, r.Value, r.Clear)
			if err != nil {
				return nil, err
			}
			n, _ := res.RowsAffected()
			done = append(done, n == 1)
		}
		_, err = c.ExecContext(ctx, "COMMIT")
		return done, err
	}
	ids, olds, news, clears := []int64{}, [][]byte{}, [][]byte{}, []bool{}
	at := map[int64]int{}
	for i, r := range records {
		id, _ := strconv.ParseInt(r.Key, 10, 64)
		at[id] = i
		ids, olds, news, clears = append(ids, id), append(olds, r.Value), append(news, sealed[i]), append(clears, r.Clear)
	}
	rows, err := s.db.QueryContext(ctx, "UPDATE "+s.table+" t SET body = v.n, sealed = true FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bool[]) v(id, o, n, c) WHERE t.id = v.id AND t.body = v.o AND t.sealed <> v.c RETURNING t.id", ids, olds, news, clears)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	done = make([]bool, len(records))
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		done[at[id]] = true
	}
	return done, rows.Err()
}

func (s *tmpSource) Count(ctx context.Context) (n int64, err error) {
	err = s.db.QueryRow("SELECT count(*) FROM " + s.table).Scan(&n)
	return n, err
}

func (s *tmpSource) Split(ctx context.Context, n int) (out []string, err error) {
	total, err := s.Count(ctx)
	for i := 1; i < n; i++ {
		out = append(out, strconv.Itoa(int(total)*i/n))
	}
	return out, err
}
