package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore/sqltable"
)

// The records of a re-sealing are a platform's: in a table beside the Store's. Each is one purpose's, bound to its id, and says
// which write of this record it is: the first one, which was there before, is write 0.

const (
	resealTenant  = "acme"
	resealPurpose = "records"
	resealBad     = 100 // records that cannot be re-sealed
	resealOlder   = 3   // generations that there were before
)

var resealScope = byok.Scope{Tenant: resealTenant, Purpose: resealPurpose}

func resealAAD(id int) []byte { return fmt.Append(nil, "records/", id) }

func resealPlain(id, write int) []byte {
	return fmt.Appendf(nil, "record %d write %d %s", id, write, strings.Repeat("x", 100+id%100))
}

// whichWrite reads what resealPlain wrote.
func whichWrite(id int, plain []byte) (write int, err error) {
	var of int
	if _, err := fmt.Sscanf(string(plain), "record %d write %d ", &of, &write); err != nil || of != id || !bytes.Equal(plain, resealPlain(id, write)) {
		return 0, fmt.Errorf("record %d opens as %.40q", id, plain)
	}
	return write, nil
}

// resealSource is what re-seals a table. Each has a pool of its own.
func resealSource(ctx context.Context, driver, dsn, table string) (*sqltable.Source, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(8)
	return sqltable.New(ctx, db, dialects[driver], sqltable.Table{Name: table, Key: "id", Value: "body", Sealed: "sealed",
		Purpose: resealPurpose, AAD: func(key string) []byte { return []byte("records/" + key) }})
}

// resealTable is the table with its platform's tenant, and what the test knows of it.
type resealTable struct {
	*site
	n     int
	adopt bool // all records but the bad ones are in clear at first
	cmk   *kmsfake.Key
	db    *sql.DB
	bad   map[int][]byte          // the bad records, which nobody writes
	older map[byok.DataKeyID]bool // data keys that there were before
}

// The trigger counts what replaces a record: since the platform's last own write of it, which says so by the column live, and ever. Whatever
// is replaced twice is done twice.
var resealSchemas = map[string][]string{
	"pgx": {
		`CREATE TABLE records (id BIGINT PRIMARY KEY, body BYTEA NOT NULL, sealed BOOLEAN NOT NULL, live INT NOT NULL DEFAULT 0, since INT NOT NULL DEFAULT 0, ever INT NOT NULL DEFAULT 0)`,
		`CREATE FUNCTION count_replacing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.live <> OLD.live THEN NEW.since := 0; ELSE NEW.since := OLD.since + 1; NEW.ever := OLD.ever + 1; END IF;
			RETURN NEW; END $$`,
		`CREATE TRIGGER count_replacing BEFORE UPDATE ON records FOR EACH ROW EXECUTE FUNCTION count_replacing()`,
	},
	"sqlite3": {
		`CREATE TABLE records (id INTEGER PRIMARY KEY, body BLOB NOT NULL, sealed BOOLEAN NOT NULL, live INT NOT NULL DEFAULT 0, since INT NOT NULL DEFAULT 0, ever INT NOT NULL DEFAULT 0)`,
		`CREATE TRIGGER count_live AFTER UPDATE OF body ON records WHEN NEW.live <> OLD.live BEGIN
			UPDATE records SET since = 0 WHERE id = NEW.id; END`,
		`CREATE TRIGGER count_replacing AFTER UPDATE OF body ON records WHEN NEW.live = OLD.live BEGIN
			UPDATE records SET since = since + 1, ever = ever + 1 WHERE id = NEW.id; END`,
	},
}

// newResealTable registers the tenant and fills the table: with records in clear, or sealed in each of some generations, and a few
// that carry their own data key. Then comes the generation that is to be the oldest one.
func newResealTable(t *testing.T, s *site, n int, adopt bool) *resealTable {
	t.Helper()
	r := &resealTable{site: s, n: n, adopt: adopt, bad: map[int][]byte{}, older: map[byok.DataKeyID]bool{}}
	s.newTenant(resealTenant)
	r.cmk = s.fake.Account(acmeAccount).Key(s.customers[resealTenant].cmk)
	r.db = r.open(8)
	mustExec(t, r.db, resealSchemas[s.driver]...)
	_, store := s.store()
	k := s.keeper(store, new(countingSink), nil)
	tenant := k.Tenant(resealTenant)
	if err := register(t.Context(), tenant, s.customers[resealTenant].cmk, func(string) {}); err != nil {
		t.Fatal(err)
	}
	keys, err := awskms.NewFromClient(s.fake.Client(platformRole), nil)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := byok.NewDirect(crashService, keys, awskms.Key(s.customers[resealTenant].cmk), new(countingSink))
	if err != nil {
		t.Fatal(err)
	}
	bad := make(map[int]bool)
	for i := range resealBad {
		bad[1+i*n/resealBad+mrand.IntN(n/resealBad)] = true
	}
	for g := range resealOlder {
		first, end := 1+n*g/resealOlder, 1+n*(g+1)/resealOlder
		page := make([][]byte, end-first)
		parallel(t, len(page), func(i int) (err error) {
			id := first + i
			plain := resealPlain(id, 0)
			switch {
			case adopt && !bad[id]:
				page[i] = plain
			case i%(len(page)/20) == 1:
				page[i], err = direct.Seal(t.Context(), resealScope, plain, resealAAD(id))
			default:
				page[i], err = k.Seal(t.Context(), resealScope, plain, resealAAD(id))
			}
			return err
		})
		for i := range page {
			if h, err := byok.Inspect(page[i]); err == nil {
				r.older[h.DataKey] = true
			}
			if id := first + i; bad[id] {
				r.bad[id] = spoil(page[i], len(r.bad))
				page[i] = r.bad[id]
			}
		}
		r.fill("records", first, page, func(id int) bool { return !adopt || bad[id] })
		if _, err := tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
			t.Fatal(err)
		}
	}
	if s.driver == "pgx" {
		mustExec(t, r.db, "ANALYZE records") // as the server does by itself before long
	}
	if len(r.bad) != resealBad {
		t.Fatalf("%d bad records", len(r.bad))
	}
	return r
}

// spoil makes a record bad, in one of several ways.
func spoil(sealed []byte, how int) []byte {
	b := slices.Clone(sealed)
	switch how % 5 {
	case 0: // a bit of the message
		b[len(b)-1-how/5] ^= 1
	case 1: // not all of it
		b = b[:len(b)/2]
	case 2: // something else
		b = []byte(rand.Text())
	case 3: // a bit of the header
		b[len(b)/10] ^= 0x20
	case 4: // another tenant's
		i := bytes.Index(b, []byte(resealTenant))
		copy(b[i:], "bolt")
	}
	return b
}

func (r *resealTable) open(conns int) *sql.DB {
	r.t.Helper()
	db, err := sql.Open(r.driver, r.dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	r.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (r *resealTable) fill(table string, first int, page [][]byte, sealed func(id int) bool) {
	r.t.Helper()
	tx, err := r.db.Begin()
	if err != nil {
		r.t.Fatal(err)
	}
	defer tx.Rollback()
	for some := range slices.Chunk(page, 200) {
		var values []string
		var args []any
		for _, body := range some {
			values = append(values, fmt.Sprintf("($%d, $%d, $%d)", len(args)+1, len(args)+2, len(args)+3))
			args = append(args, first, body, sealed(first))
			first++
		}
		if _, err := tx.Exec("INSERT INTO "+table+" (id, body, sealed) VALUES "+strings.Join(values, ", "), args...); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		r.t.Fatal(err)
	}
}

// replaced is how many replacing writes there ever were, and of how many records.
func (r *resealTable) replaced() (writes, records, twice int) {
	r.t.Helper()
	if err := r.db.QueryRowContext(r.t.Context(), `SELECT coalesce(sum(ever), 0), count(CASE WHEN ever > 0 THEN 1 END), count(CASE WHEN since > 1 THEN 1 END) FROM records`).Scan(&writes, &records, &twice); err != nil {
		r.t.Fatal(err)
	}
	return writes, records, twice
}

// check reads the whole table after the job: nothing is left, lost or done twice, and the bad records are what they were. written is the last
// acknowledged write of a record.
func (r *resealTable) check(written func(id int) int) {
	r.t.Helper()
	_, store := r.store()
	k := r.keeper(store, new(countingSink), nil)
	defer k.Close()
	begun := time.Now()
	type row struct {
		id, live, since, ever int
		sealed                bool
		body                  []byte
	}
	rows := make(chan row, 1000)
	var mu sync.Mutex
	counts := map[string]int{}
	found := func(what string, id int) {
		mu.Lock()
		defer mu.Unlock()
		if counts[what]++; counts[what] <= 5 {
			r.t.Errorf("record %d: %s", id, what)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for w := range rows {
				if was, bad := r.bad[w.id]; bad {
					if !bytes.Equal(was, w.body) || w.ever+w.live > 0 {
						found("was bad, and is not what it was", w.id)
					}
					continue
				}
				h, err := byok.Inspect(w.body)
				switch {
				case !w.sealed, err != nil:
					found("left in clear", w.id)
					continue
				case len(h.Recipients) > 0, r.older[h.DataKey]:
					found("left with an older data key", w.id)
				case w.since > 1:
					found("done twice", w.id)
				case w.live == 0 && w.ever != 1:
					found("not done once", w.id)
				}
				if due, err := k.Due(context.Background(), resealScope, w.body); due || err != nil {
					found(fmt.Sprintf("due still, %v", err), w.id)
				}
				plain, err := k.Open(context.Background(), resealScope, w.body, resealAAD(w.id))
				if err != nil {
					found("lost: "+err.Error(), w.id)
				} else if n, err := whichWrite(w.id, plain); err != nil || n != written(w.id) {
					found(fmt.Sprintf("is write %d, and %d was acknowledged, %v", n, written(w.id), err), w.id)
				}
			}
		})
	}
	n, last := 0, 0
	for { // in pages: a reader that reads for a minute keeps SQLite's log growing
		page, err := r.db.Query("SELECT id, live, since, ever, sealed, body FROM records WHERE id > $1 ORDER BY id LIMIT 1000", last)
		if err != nil {
			r.t.Fatal(err)
		}
		before := n
		for page.Next() {
			var w row
			if err := page.Scan(&w.id, &w.live, &w.since, &w.ever, &w.sealed, &w.body); err != nil {
				r.t.Fatal(err)
			}
			n, last = n+1, w.id
			rows <- w
		}
		if err := page.Err(); err != nil {
			r.t.Fatal(err)
		}
		_ = page.Close()
		if n == before {
			break
		}
	}
	close(rows)
	wg.Wait()
	if n != r.n {
		r.t.Errorf("%d records of %d", n, r.n)
	}
	if len(counts) > 0 {
		r.t.Errorf("of %d records: %v", n, counts)
		return
	}
	r.t.Logf("a scan of all %d records: 0 left, 0 lost, 0 done twice, %d bad ones untouched, each opens as its last acknowledged write; in %v", n, len(r.bad), time.Since(begun).Round(time.Millisecond))
}
