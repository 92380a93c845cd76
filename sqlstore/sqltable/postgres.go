package sqltable

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
)

type postgres struct{}

var postgresKinds = map[string]kind{"smallint": integers, "integer": integers, "bigint": integers,
	"text": texts, "character varying": texts, "uuid": uuids, "bytea": byteStrings}

const postgresOldest = 14 // as in sqlstore

func (postgres) inspect(ctx context.Context, db *sql.DB, t *Table) (f facts, err error) {
	var version int
	var standby, hides, parent bool
	var relation sql.NullInt64
	err = db.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), c.oid::bigint,
		coalesce(row_security_active(c.oid), false), coalesce(c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid), false)
		FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_class AS c ON c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')`, t.quoted()).
		Scan(&version, &standby, &relation, &hides, &parent)
	switch {
	case err != nil:
		return f, err
	case version < postgresOldest*10_000:
		return f, fmt.Errorf("%w: PostgreSQL %d is too old, %d is needed", sqlstore.ErrUnfit, version/10_000, postgresOldest)
	case standby:
		return f, fmt.Errorf("%w: the server is a standby", sqlstore.ErrUnfit)
	case !relation.Valid:
		return f, bad("there is no table %s", t.quoted())
	case hides:
		return f, bad("row security hides rows of %s from this role, which would never be found: it needs BYPASSRLS", t.quoted())
	case parent:
		return f, bad("other tables inherit from %s, and no index is unique in all of them", t.quoted())
	}
	types, err := postgresColumns(ctx, db, relation.Int64)
	if err != nil {
		return f, err
	}
	for _, name := range []string{t.Key, t.Value, t.Tenant, t.Clear, t.Sealed} {
		if _, ok := types[name]; !ok && name != "" {
			return f, bad("there is no column %q in the table %s", name, t.quoted())
		}
	}
	f.kind, f.nullable, f.clearText = postgresKinds[types[t.Key].typ], !types[t.Key].notNull, types[t.Clear].typ != "bytea"
	switch clear := types[t.Clear].typ; {
	case f.kind == 0:
		return f, bad("keys of the type %s are not supported", types[t.Key].typ)
	case t.Tenant != "" && postgresKinds[types[t.Tenant].typ] == 0 && types[t.Tenant].typ != "character":
		return f, bad("tenants of the type %s are not supported", types[t.Tenant].typ)
	case types[t.Tenant].vague:
		return f, bad("the collation of %q takes different tenants for the same", t.Tenant)
	case types[t.Key].vague:
		return f, bad("the collation of %q takes different keys for the same", t.Key)
	case types[t.Value].typ != "bytea":
		return f, bad("%q is no BYTEA", t.Value)
	case t.Clear != "" && clear != "bytea" && clear != "text" && clear != "character varying":
		return f, bad("%q is neither TEXT nor BYTEA", t.Clear)
	case t.Sealed != "" && types[t.Sealed].typ != "boolean":
		return f, bad("%q is no BOOLEAN", t.Sealed)
	}
	var unique bool
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i
		WHERE i.indrelid = $1::bigint::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		AND NOT EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) AS n
			JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n]
			WHERE a.attname::text NOT IN ($2, $3)))`, relation.Int64, t.Key, t.Tenant).Scan(&unique)
	if err == nil && !unique {
		err = bad("there is no unique index on %s", strings.TrimSuffix(quote(t.Key)+" and "+quote(t.Tenant), ` and ""`))
	}
	return f, err
}

func postgresColumns(ctx context.Context, db *sql.DB, relation int64) (map[string]column, error) {
	rows, err := db.QueryContext(ctx, `SELECT attname::text, format_type(atttypid, NULL), attnotnull,
		coalesce((SELECT NOT collisdeterministic FROM pg_catalog.pg_collation AS c WHERE c.oid = attcollation), false) FROM pg_catalog.pg_attribute
		WHERE attrelid = $1::bigint::oid AND attnum > 0 AND NOT attisdropped`, relation)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]column{}
	for rows.Next() {
		var name string
		var c column
		if err := rows.Scan(&name, &c.typ, &c.notNull, &c.vague); err != nil {
			return nil, err
		}
		out[name] = c
	}
	return out, rows.Err()
}

func (postgres) statements(t *Table, f facts) (s statements) {
	key, value := "t."+quote(t.Key), "t."+quote(t.Value)
	from := " FROM " + t.quoted() + " AS t WHERE "
	tenant, first := "true", 1 // number of the first argument behind the tenant
	if t.Tenant != "" {
		tenant, first = "t."+quote(t.Tenant)+" = $1", 2
	}
	name, cast, array := key+"::text", "$%d::text", "$%d::text[]"
	switch f.kind {
	case integers:
		cast, array = "$%d::bigint", "$%d::bigint[]"
	case uuids:
		cast, array = "$%d::text::uuid", "$%d::text[]::uuid[]"
	case byteStrings:
		name, cast, array = "encode("+key+", 'hex')", "$%d::bytea", "$%d::bytea[]"
	}
	there, clear, isClear, contrary := value+" IS NOT NULL", "NULL::bytea", "false", "false"
	match := func(with string) string { return value + " = " + with + ".old" }
	set := quote(t.Value) + " = mine.sealed"
	switch {
	case t.Clear != "":
		column := "t." + quote(t.Clear)
		clear = column
		if f.clearText {
			clear = "convert_to(" + column + ", 'UTF8')" // compared as bytes, and not by a collation
		}
		there += " OR " + column + " IS NOT NULL"
		isClear = column + " IS NOT NULL"
		contrary = value + " IS NOT NULL AND " + isClear
		match = func(with string) string {
			return "CASE WHEN " + with + ".clear THEN " + clear + " = " + with + ".old AND " + value + " IS NULL ELSE " +
				value + " = " + with + ".old AND " + column + " IS NULL END"
		}
		set += ", " + quote(t.Clear) + " = NULL"
	case t.Sealed != "":
		isClear = "t." + quote(t.Sealed) + " IS FALSE"
		match = func(with string) string {
			return "(" + isClear + ") = " + with + ".clear AND " + value + " = " + with + ".old"
		}
		set += ", " + quote(t.Sealed) + " = true"
	}
	arg := func(format string, n int) string { return fmt.Sprintf(format, n) }
	s.page = func(after, last bool) string {
		where, n := tenant, first
		if after {
			where, n = where+" AND "+key+" > "+arg(cast, n), n+1
		}
		if last {
			where, n = where+" AND "+key+" <= "+arg(cast, n), n+1
		}
		// A row comes back in any case: a standby server has to be noticed also by what it does not have yet.
		return "SELECT pg_is_in_recovery(), i.name, i.value, i.clear, coalesce(i.is_clear, false), CASE WHEN i.contrary THEN 1 ELSE 0 END FROM (SELECT 1) AS one LEFT JOIN (" +
			"SELECT " + key + " AS key, " + name + " AS name, " + value + " AS value, " + clear + " AS clear, " + isClear + " AS is_clear, " + contrary + " AS contrary" +
			from + where + " AND (" + there + ") ORDER BY " + key + arg(" LIMIT $%d", n) + ") AS i ON true ORDER BY i.key"
	}
	// What is locked already by another transaction is left alone, so that this one waits for no row, whoever holds it; and nobody waits for
	// it in a circle. FOR NO KEY UPDATE, since rows that refer to this one hold a lock that does not matter here. The second comparison is of what is
	// locked now. A commit that does not wait for the disk can be lost: not here.
	s.replace = "WITH n AS (SELECT * FROM unnest(" + arg(array, first) + arg(", $%d::bytea[]", first+1) + arg(", $%d::bytea[]", first+2) + arg(", $%d::boolean[]", first+3) + ") AS n(key, old, sealed, clear))," +
		" mine AS (SELECT n.* FROM " + t.quoted() + " AS t JOIN n ON " + key + " = n.key WHERE " + tenant + " AND " + match("n") + " ORDER BY " + key + " FOR NO KEY UPDATE OF t SKIP LOCKED)," +
		" done AS (UPDATE " + t.quoted() + " AS t SET " + set + " FROM mine WHERE " + key + " = mine.key AND " + tenant + " AND " + match("mine") + " RETURNING " + name + " AS name)" +
		" SELECT name, CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END FROM done"
	s.step = func(after bool) string {
		where, n := tenant, first
		if after {
			where, n = where+" AND "+key+" > "+arg(cast, n), n+1
		}
		return "SELECT " + name + from + where + " ORDER BY " + key + arg(" LIMIT 1 OFFSET $%d", n)
	}
	if f.nullable {
		s.noKey = "SELECT EXISTS (SELECT" + from + tenant + " AND " + key + " IS NULL)"
	}
	s.count = "SELECT count(*)" + from + tenant
	s.explain = "EXPLAIN SELECT 1" + from + tenant
	s.sample = "SELECT " + name + " FROM " + t.quoted() + arg(" AS t TABLESAMPLE SYSTEM ($%d::float8) WHERE ", first) + tenant + " ORDER BY " + key
	return s
}

func (postgres) argument(k kind, key string) (any, bool) {
	switch k {
	case integers:
		n, err := strconv.ParseInt(key, 10, 64)
		return n, err == nil
	case byteStrings:
		b, err := hex.DecodeString(key)
		return b, err == nil
	case uuids:
		return key, isUUID.MatchString(key)
	}
	return key, true
}

var isUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// replace is one statement for all rows. Values go as arrays of bytes: never as something that prints itself in an error.
func (postgres) replace(ctx context.Context, s *Source, records []byok.Record, sealed [][]byte) ([]bool, error) {
	olds, clears, at := make([][]byte, len(records)), make([]bool, len(records)), make(map[string]int, len(records))
	for i, r := range records {
		olds[i], clears[i], at[r.Key] = r.Value, r.Clear, i
		if r.Value == nil {
			olds[i] = []byte{}
		}
	}
	args := append(s.tenantArgs(), keyArray(s.kind, records), olds, sealed, clears)
	rows, err := s.db.QueryContext(ctx, s.sql.replace, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	done := make([]bool, len(records))
	for rows.Next() {
		var key string
		var ignore sql.NullString
		if err := rows.Scan(&key, &ignore); err != nil {
			return nil, err
		}
		i, ok := at[key]
		if !ok {
			return nil, bad("a row was replaced that was not asked for")
		}
		done[i] = true
	}
	return done, rows.Err()
}

func keyArray(k kind, records []byok.Record) any {
	switch k {
	case integers:
		out := make([]int64, len(records))
		for i, r := range records {
			out[i], _ = strconv.ParseInt(r.Key, 10, 64)
		}
		return out
	case byteStrings:
		out := make([][]byte, len(records))
		for i, r := range records {
			out[i], _ = hex.DecodeString(r.Key)
		}
		return out
	}
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = r.Key
	}
	return out
}

// exactly is up to how many rows it is worth to count them, or to step along them.
const exactly = 200_000

// count asks the planner, and the table itself if it cannot have many rows.
func (postgres) count(ctx context.Context, s *Source) (n int64, err error) {
	if n, err = s.estimate(ctx); err != nil || n > exactly {
		return n, err
	}
	return n, s.db.QueryRowContext(ctx, s.sql.count, s.tenantArgs()...).Scan(&n)
}

// estimate is how many rows of the tenant the planner expects.
func (s *Source) estimate(ctx context.Context) (int64, error) {
	var text []byte
	if err := s.db.QueryRowContext(ctx, strings.Replace(s.sql.explain, "EXPLAIN", "EXPLAIN (FORMAT JSON)", 1), s.tenantArgs()...).Scan(&text); err != nil {
		return 0, err
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		return 0, bad("the planner's answer is not understood")
	}
	return int64(plans[0].Plan.Rows), nil
}

// samples is about how many rows of a large table tell where its shards end. They come by the block, so many are needed.
const samples = 100_000

func (postgres) split(ctx context.Context, s *Source, n int) ([]string, error) {
	total, err := s.estimate(ctx)
	if err != nil {
		return nil, err
	}
	if total > exactly {
		keys, err := s.sampled(ctx, min(100, 100*float64(samples)/float64(total)))
		if err != nil {
			return nil, err
		}
		if len(keys) >= 50*n { // else the tenant's rows lie together in few blocks
			lasts := make([]string, 0, n-1)
			for i := 1; i < n; i++ {
				if key := keys[i*len(keys)/n]; len(lasts) == 0 || key != lasts[len(lasts)-1] {
					lasts = append(lasts, key)
				}
			}
			return lasts, nil
		}
	}
	return s.stepped(ctx, n)
}

func (s *Source) sampled(ctx context.Context, percent float64) (keys []string, err error) {
	rows, err := s.db.QueryContext(ctx, s.sql.sample, append(s.tenantArgs(), percent)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}
