package integration

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
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

var (
	moveKeys    = flag.Int("movekeys", 300, "data keys of TestMoveUnderLoad, in hundreds")
	moveRecords = flag.Int("moverecords", 10_000, "records of TestMoveUnderLoad, at least as many")
	moveWindow  = flag.Duration("movewindow", time.Second, "how long TestMoveUnderLoad measures before the move and after it")
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
	insert, err := tx.Prepare("INSERT INTO records VALUES ($1, $2)")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range page {
		if _, err := insert.Exec(r.n, r.sealed); err != nil {
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

// The kinds of operations that are measured. A cold Open is of any record there is, so its data key is in no
// memory, mostly, and KMS is asked; there are only some of these a second.
var bigOps = []string{"Seal", "Open", "cold Open"}

// Phases of a move.
const (
	beforeMove = iota
	duringMove
	afterMove
)

var bigPhases = []string{"before", "during", "after"}

// bigLoad is what clients do all the time.
type bigLoad struct {
	b     *bigTenant
	k     *byok.Keeper
	phase atomic.Int32
	stop  chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	took   [3][3][]time.Duration // by phase and operation
	sealed [3][]bigRecord        // some of what they sealed meanwhile, by phase
}

func (b *bigTenant) load(k *byok.Keeper) *bigLoad {
	l := &bigLoad{b: b, k: k, stop: make(chan struct{})}
	for range 4 {
		l.again(0, 0, func(i int) error { return l.seal(bigRecord{n: i}) })
	}
	for range 4 {
		l.again(1, 0, func(i int) error { return b.open(k, b.hot[i%len(b.hot)]) })
	}
	l.again(2, 20*time.Millisecond, func(i int) error { return b.open(k, b.cold[i%len(b.cold)]) })
	return l
}

func (l *bigLoad) again(op int, pause time.Duration, f func(i int) error) {
	l.wg.Go(func() {
		for i := 1; ; i += 7919 { // a prime: all purposes and generations have their turn
			select {
			case <-l.stop:
				return
			case <-time.After(pause):
			}
			phase, begun := l.phase.Load(), time.Now()
			if err := f(i); err != nil {
				l.b.t.Errorf("%s %s the move: %v", bigOps[op], bigPhases[phase], err)
				return
			}
			d := time.Since(begun)
			l.mu.Lock()
			l.took[phase][op] = append(l.took[phase][op], d)
			l.mu.Unlock()
		}
	})
}

func (l *bigLoad) seal(r bigRecord) (err error) {
	phase := l.phase.Load()
	r.sealed, err = l.k.Seal(context.Background(), r.scope(l.b.id), []byte(r.plain()), r.aad())
	l.mu.Lock()
	defer l.mu.Unlock()
	if some := &l.sealed[phase]; err == nil && len(*some) < 50_000 {
		*some = append(*some, r)
	}
	return err
}

func (b *bigTenant) open(k *byok.Keeper, r bigRecord) error {
	plain, err := k.Open(context.Background(), r.scope(b.id), r.sealed, r.aad())
	if err == nil && string(plain) != r.plain() {
		err = fmt.Errorf("record %d is not what it was", r.n)
	}
	return err
}

// end stops it and tells how it went in each phase, which took as long as spent says.
func (l *bigLoad) end(spent [3]time.Duration) {
	t := l.b.t
	close(l.stop)
	l.wg.Wait()
	for op, name := range bigOps {
		var rate [3]float64
		var p99 [3]time.Duration
		for phase, took := range l.took {
			d := took[op]
			if len(d) < 10 {
				t.Errorf("%s, %s: %d of them, too few to say anything", name, bigPhases[phase], len(d))
				return
			}
			slices.Sort(d)
			rate[phase], p99[phase] = float64(len(d))/spent[phase].Seconds(), d[len(d)*99/100]
			t.Logf("%-9s %-6s the move: %7.0f a second, median %v, p99 %v, at most %v", name, bigPhases[phase], rate[phase],
				d[len(d)/2].Round(10*time.Microsecond), p99[phase].Round(10*time.Microsecond), d[len(d)-1].Round(10*time.Microsecond))
		}
		// Wide, since the machine has other things to do. That anything waits for the move to end is what must not be.
		for _, phase := range []int{duringMove, afterMove} {
			if rate[phase] < rate[beforeMove]/10 {
				t.Errorf("%s: %.0f a second %s the move, and %.0f before", name, rate[phase], bigPhases[phase], rate[beforeMove])
			}
			if most := max(20*p99[beforeMove], time.Second); p99[phase] > most {
				t.Errorf("%s: p99 is %v %s the move, and %v before", name, p99[phase], bigPhases[phase], p99[beforeMove])
			}
		}
	}
}

// A tenant with as many data keys and records as the flags say moves to another CMK under load. KMS is asked twice for
// each data key where it may rewrap by itself, and three times elsewhere, beside the probes; no record is touched, and
// all of them open when the old CMK is out of reach.
func TestMoveUnderLoad(t *testing.T) {
	if *moveKeys < bigHot || *moveKeys%bigPurposes != 0 || *moveRecords < *moveKeys {
		t.Fatal("-movekeys must be hundreds, 300 at least, and not more than -moverecords")
	}
	eachDatabase(t, func(t *testing.T, empty func() *site) {
		s := empty()
		moveUnderLoad(t, s, s.driver == "sqlite3")
	})
}

func moveUnderLoad(t *testing.T, s *site, granted bool) {
	b := newBigTenant(t, s, granted)
	before, n := b.fingerprint()
	if n != *moveRecords {
		t.Fatalf("%d records of %d", n, *moveRecords)
	}
	s.fake.Latency(10 * time.Millisecond)
	defer s.fake.Latency(0)
	clients, _ := b.process("clients", nil)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = clients.Run(ctx) })
	mover, store := b.process("mover", nil)
	for _, r := range b.first { // so that "before" is not a start
		if err := b.open(clients, r); err != nil {
			t.Fatal(err)
		}
	}
	l := b.load(clients)
	var spent [3]time.Duration
	phase := func(n int, f func()) {
		begun := time.Now()
		l.phase.Store(int32(n))
		f()
		spent[n] = time.Since(begun)
	}
	phase(beforeMove, func() { time.Sleep(*moveWindow) })
	s.fake.ResetCalls()
	var job byok.Job
	phase(duringMove, func() {
		var err error
		if job, err = mover.Tenant(b.id).Move(t.Context(), awskms.Key(b.next.ARN()), "new account"); err != nil {
			t.Fatal(err)
		}
		for job, err = range mover.Tenant(b.id).RunJob(t.Context(), job.ID) {
			if err != nil {
				t.Fatalf("%+v: %v", job, err)
			}
		}
	})
	calls := s.fake.Calls()
	phase(afterMove, func() { time.Sleep(*moveWindow) })
	l.end(spent)
	s.fake.Latency(0)

	each, method := 2, byok.MethodReEncrypt
	if !granted {
		each, method = 3, byok.MethodUnwrap
	}
	if job.State != byok.JobDone || job.Done != int64(*moveKeys) || job.Failed != 0 || job.Method != method {
		t.Errorf("%+v", job)
	}
	by := map[string]int{}
	asked := 0
	for _, c := range calls {
		if c.Principal == b.session("mover") {
			by[strings.TrimSpace(c.Operation+" "+c.Code)]++
			asked++
		}
	}
	want := each**moveKeys + 8 + 2
	if !granted {
		want++ // once, KMS says that it may not rewrap
	}
	t.Logf("%d data keys moved in %v, %.0f a second; %d KMS requests, %v; and %d of the clients", job.Done,
		spent[duringMove].Round(time.Millisecond), float64(job.Done)/spent[duringMove].Seconds(), asked, by, len(calls)-asked)
	if asked != want {
		t.Errorf("%d KMS requests, want %d for each of %d data keys, and the probes: %d", asked, each, *moveKeys, want)
	}

	after, n := b.fingerprint()
	if before != after || n != *moveRecords {
		t.Errorf("the records changed: %d, of %s; before, %s", n, after, before)
	}
	t.Logf("%d records, SHA-256 of all before and after: %s", n, after)
	deks := 0
	for id, value := range items(t, store, "tenant:"+b.id) {
		if strings.HasPrefix(id, "dek:") {
			if under := wrappedBy(t, value); !slices.Equal(under, []string{b.next.ARN()}) {
				t.Errorf("%s is under %v", id, under)
			}
			deks++
		}
	}
	if deks != *moveKeys {
		t.Errorf("%d data keys of %d", deks, *moveKeys)
	}
	b.cmk.Disable()
	b.openAll(slices.Concat(l.sealed[:]...))
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
		todo := make(chan bigRecord, 100)
		wg.Go(func() {
			defer close(todo)
			b.each(*moveRecords*i/processes, *moveRecords*(i+1)/processes, func(r bigRecord) { todo <- r })
			for _, r := range also[len(also)*i/processes : len(also)*(i+1)/processes] {
				todo <- r
			}
		})
		for range 4 {
			wg.Go(func() {
				for r := range todo {
					if err := b.open(k, r); err != nil {
						b.t.Errorf("record %d, after the move: %v", r.n, err)
						if errors.Is(err, byok.ErrKeyRevoked) {
							break
						}
					}
					opened.Add(1)
				}
				for range todo {
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
