package integration

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

// bigTenant has as many data keys as -movekeys: 100 purposes, in as many generations. Its records are a
// platform's: in a table beside the Store's.
type bigTenant struct {
	*site
	id        string
	cmk, next *kmsfake.Key
	hot, cold []bigRecord // some records of the newest generations, and of all
	first     []bigRecord // one of each data key in constant use
}

type bigRecord struct {
	n      int
	sealed []byte
}

const (
	bigPurposes = 100
	bigHot      = 3 * bigPurposes // data keys in constant use
)

func (r bigRecord) scope(tenant string) byok.Scope {
	return byok.Scope{Tenant: tenant, Purpose: fmt.Sprint("purpose-", r.n%bigPurposes)}
}
func (r bigRecord) plain() string {
	return fmt.Sprintf("record %d, %s", r.n, strings.Repeat("x", r.n%100))
}
func (r bigRecord) aad() []byte { return fmt.Append(nil, "records/", r.n) }

// countingSink is of the Keepers that fill the table and read all of it. Those that are measured record in the database.
type countingSink struct{ n atomic.Int64 }

func (s *countingSink) Record(context.Context, byok.Event) error { s.n.Add(1); return nil }

// process is what another process of the platform would have; KMS's log knows it by its name. A nil sink is the Store.
func (b *bigTenant) process(name string, sink byok.AuditSink) (*byok.Keeper, *sqlstore.Store) {
	b.t.Helper()
	db, err := sql.Open(b.driver, b.dsn)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = db.Close() })
	store, err := sqlstore.Open(b.t.Context(), db, dialects[b.driver])
	if err != nil {
		b.t.Fatal(err)
	}
	keys, err := awskms.NewFromClient(b.fake.Client(b.session(name)), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if sink == nil {
		sink = store
	}
	k, err := byok.New(crashService, keys, store, sink, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = k.Close() })
	return k, store
}

func (b *bigTenant) session(name string) string {
	return strings.NewReplacer(":iam:", ":sts:", ":role/", ":assumed-role/").Replace(platformRole) + "/" + name
}

// asked reports whether a process has asked a CMK.
func (b *bigTenant) asked(name string, cmk *kmsfake.Key) bool {
	return slices.ContainsFunc(b.fake.Calls(), func(c kmsfake.Call) bool { return c.Principal == b.session(name) && c.KeyARN == cmk.ARN() })
}

// newBigTenant registers a tenant and fills the table. granted: KMS may rewrap by itself.
func newBigTenant(t *testing.T, s *site, granted bool) *bigTenant {
	t.Helper()
	b := &bigTenant{site: s, id: "acme"}
	policy := awskms.KeyPolicy(acmeAccount, platformRole, map[string]string{"tenant_id": b.id, "service": crashService}).JSON()
	if granted {
		with := strings.Replace(policy, `"kms:Decrypt",`, `"kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo",`, 1)
		if with == policy {
			t.Fatal("the policy is not what it was")
		}
		policy = with
	}
	b.cmk, b.next = s.fake.Account(acmeAccount).CreateKey(policy), s.fake.Account(acmeAccount).CreateKey(policy)
	k, _ := b.process("fill", new(countingSink))
	tenant := k.Tenant(b.id)
	if err := register(t.Context(), tenant, b.cmk.ARN(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	db := b.table()
	defer db.Close()
	blob := "BLOB"
	if b.driver == "pgx" {
		blob = "BYTEA"
	}
	if _, err := db.Exec("CREATE TABLE records (n INTEGER PRIMARY KEY, sealed " + blob + " NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	generations := *moveKeys / bigPurposes
	begun := time.Now()
	for g := range generations {
		if g > 0 {
			if _, err := tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
				t.Fatal(err)
			}
		}
		page := make([]bigRecord, *moveRecords*(g+1)/generations-*moveRecords*g/generations)
		parallel(t, len(page), func(i int) error {
			r := bigRecord{n: *moveRecords*g/generations + i}
			var err error
			r.sealed, err = k.Seal(t.Context(), r.scope(b.id), []byte(r.plain()), r.aad())
			page[i] = r
			return err
		})
		b.insert(db, page)
		if g >= generations-bigHot/bigPurposes {
			b.hot = append(b.hot, page[:min(len(page), 5000)]...)
			b.first = append(b.first, page[:bigPurposes]...)
		}
		for i := 0; i < len(page); i += max(1, generations*len(page)/5000) {
			b.cold = append(b.cold, page[i])
		}
	}
	t.Logf("%d data keys made, and %d records sealed and stored, in %v", *moveKeys, *moveRecords, time.Since(begun).Round(time.Millisecond))
	return b
}

func (b *bigTenant) table() *sql.DB {
	b.t.Helper()
	db, err := sql.Open(b.driver, b.dsn)
	if err != nil {
		b.t.Fatal(err)
	}
	return db
}

func (b *bigTenant) insert(db *sql.DB, page []bigRecord) {
	b.t.Helper()
	tx, err := db.Begin()
	if err != nil {
		b.t.Fatal(err)
	}
	defer tx.Rollback()
	for some := range slices.Chunk(page, 200) { // in as few round trips
		var values []string
		var args []any
		for _, r := range some {
			values = append(values, fmt.Sprintf("($%d, $%d)", len(args)+1, len(args)+2))
			args = append(args, r.n, r.sealed)
		}
		if _, err := tx.Exec("INSERT INTO records VALUES "+strings.Join(values, ", "), args...); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.t.Fatal(err)
	}
}

// each calls f with all records, from first on, in order.
func (b *bigTenant) each(first, end int, f func(bigRecord)) {
	b.t.Helper()
	db := b.table()
	defer db.Close()
	rows, err := db.Query(fmt.Sprintf("SELECT n, sealed FROM records WHERE n >= %d AND n < %d ORDER BY n", first, end))
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r bigRecord
		if err := rows.Scan(&r.n, &r.sealed); err != nil {
			b.t.Fatal(err)
		}
		f(r)
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
}

// fingerprint is of all records.
func (b *bigTenant) fingerprint() (sum string, records int) {
	b.t.Helper()
	h := sha256.New()
	b.each(0, *moveRecords, func(r bigRecord) {
		fmt.Fprintf(h, "%d %d ", r.n, len(r.sealed))
		h.Write(r.sealed)
		records++
	})
	return fmt.Sprintf("%x", h.Sum(nil)), records
}

// parallel calls f with 0 to n-1.
func parallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				if err := f(i); err != nil {
					t.Error(err)
					next.Store(int64(n))
				}
			}
		})
	}
	if wg.Wait(); t.Failed() {
		t.FailNow()
	}
}

// openAll opens all records, and those that were sealed meanwhile, in four processes that never had the old CMK.
func (b *bigTenant) openAll(also []bigRecord) {
	b.t.Helper()
	const processes = 4
	begun := time.Now()
	var opened atomic.Int64
	var wg sync.WaitGroup
	for i := range processes {
		k, _ := b.process("reader", new(countingSink))
		records := make(chan bigRecord, 100)
		wg.Go(func() {
			defer close(records)
			b.each(*moveRecords*i/processes, *moveRecords*(i+1)/processes, func(r bigRecord) { records <- r })
			for _, r := range also[len(also)*i/processes : len(also)*(i+1)/processes] {
				records <- r
			}
		})
		for range 4 {
			wg.Go(func() {
				for r := range records {
					if err := b.open(k, r); err != nil {
						b.t.Errorf("record %d, after the move: %v", r.n, err)
						if errors.Is(err, byok.ErrKeyRevoked) {
							break
						}
					}
					opened.Add(1)
				}
				for range records {
				}
			})
		}
	}
	wg.Wait()
	if opened.Load() != int64(*moveRecords+len(also)) {
		b.t.Errorf("%d records opened", opened.Load())
	}
	b.t.Logf("the old CMK disabled: all %d records, and %d that were sealed meanwhile, open, in %v", *moveRecords, len(also), time.Since(begun).Round(time.Millisecond))
}

// wrappedBy returns the CMKs that have wrapped the data key of an item, all of them.
func wrappedBy(t *testing.T, item []byte) (cmks []string) {
	t.Helper()
	var d struct{ Header, Next []byte }
	if err := json.Unmarshal(item, &d); err != nil {
		t.Fatal(err)
	}
	for _, header := range [][]byte{d.Header, d.Next} {
		if header == nil {
			continue
		}
		h, err := byok.Inspect(header)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range h.Recipients {
			cmks = append(cmks, r.Key.ID)
		}
	}
	return cmks
}
