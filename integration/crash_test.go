package integration

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

const crashService = "crash"

// site is one database, empty at first, with a KMS and all that crashers have said.
type site struct {
	t           *testing.T
	driver, dsn string // as database/sql has them
	fake        *kmsfake.KMS
	url         string
	customers   map[string]*customer
	acks        []ack
	checked     int  // of acks
	patience    bool // half a minute passes after each check
	broken      int  // jobs that somebody was at when it was killed
	backups     string
}

// eachDatabase runs a test on SQLite and on Postgres; empty makes a database.
func eachDatabase(t *testing.T, f func(t *testing.T, empty func() *site)) {
	eachDriver(t, []string{"sqlite", "postgres"}, f)
}

// eachCrash is eachDatabase for tests that kill, with the other driver of SQLite that we know beside it.
func eachCrash(t *testing.T, f func(t *testing.T, empty func() *site)) {
	eachDriver(t, []string{"sqlite", "modernc", "postgres"}, f)
}

func eachDriver(t *testing.T, names []string, f func(t *testing.T, empty func() *site)) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	t.Cleanup(wire.Close)
	fake.RegisterAccessKey(platformAccessKey, platformRole)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			var p *postgresServer
			if name == "postgres" {
				p = newPostgres(t)
			}
			f(t, func() *site {
				s := &site{t: t, fake: fake, url: wire.URL, customers: map[string]*customer{}}
				if p != nil {
					s.driver, s.dsn = "pgx", p.dsn(p.newSchema(t))
					return s
				}
				s.driver = map[string]string{"sqlite": "sqlite3", "modernc": "sqlite"}[name]
				s.dsn = "file:" + filepath.Join(t.TempDir(), "byok.db") + "?_pragma=busy_timeout(10000)"
				return s
			})
		})
	}
}

// newTenant makes one a CMK.
func (s *site) newTenant(id string) {
	policy := awskms.KeyPolicy(acmeAccount, platformRole, map[string]string{"tenant_id": id, "service": crashService})
	account := s.fake.Account(acmeAccount)
	s.customers[id] = &customer{id: id, cmk: account.CreateKey(policy.JSON()).ARN(), next: account.CreateKey(policy.JSON()).ARN()}
}

func (s *site) config(mode string) crasherConfig {
	c := crasherConfig{Driver: s.driver, DSN: s.dsn, KMS: s.url, AccessKey: platformAccessKey, Service: crashService, Mode: mode, Tenants: map[string]string{}, Next: map[string]string{}}
	for id, o := range s.customers {
		c.Tenants[id], c.Next[id] = o.cmk, o.next
	}
	return c
}

// open is another process on the same data: this one.
func (s *site) open() (*sql.DB, *sqlstore.Store, *byok.Keeper) {
	s.t.Helper()
	db, store := s.store()
	return db, store, s.keeper(store, store, nil)
}

func (s *site) store() (*sql.DB, *sqlstore.Store) {
	s.t.Helper()
	db, err := sql.Open(s.driver, s.dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	store, err := sqlstore.Open(context.Background(), db, dialects[s.driver])
	if err != nil {
		s.t.Fatal(err)
	}
	return db, store
}

func (s *site) keeper(store byok.Store, sink byok.AuditSink, opts *byok.Options) *byok.Keeper {
	s.t.Helper()
	keys, err := awskms.NewFromClient(s.fake.Client(platformRole), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	k, err := byok.New(crashService, keys, store, sink, opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = k.Close() })
	return k
}

func (s *site) heard(acks []ack) {
	for _, a := range acks {
		o := s.customers[a.Tenant]
		switch a.Op {
		case "register":
			o.registered = true
		case "waiver":
			o.waiver = true
		case "rotate":
			o.version = max(o.version, a.N)
		case "move":
			o.moved = true
		}
	}
	s.acks = append(s.acks, acks...)
}

// check is what must be true after any crash: everything that was acknowledged is there
// and opens, there is at most one data key per tenant, purpose and generation, and no half of
// anything. all opens also what an earlier check has opened.
func (s *site) check(all bool) (opened, keys int) {
	s.t.Helper()
	db, store := s.store()
	defer db.Close()
	if s.driver != "pgx" {
		checkFile(s.t, db)
	}
	k := s.keeper(store, new(countingSink), nil) // so many events would take most of the time
	defer k.Close()
	own := s.keeper(store, new(countingSink), &byok.Options{PerOperation: true}) // which may ask more about envelopes that carry their data key
	defer own.Close()
	var customers []*customer
	for id, o := range s.customers {
		customers = append(customers, o)
		st, err := k.Tenant(id).Status(s.t.Context())
		switch {
		case err != nil && o.registered:
			s.t.Errorf("%s was registered, and now: %v", id, err)
		case o.waiver && st.Status != byok.StatusActive:
			s.t.Errorf("%s was active, and now: %+v", id, st)
		case st.DEKVersion < o.version:
			s.t.Errorf("%s had version %d, and now %d", id, o.version, st.DEKVersion)
		case o.moved && st.Key.ID != o.next:
			s.t.Errorf("%s has moved, and has %s", id, st.Key.ID)
		case o.registered && st.Key.ID != o.next && st.Key.ID != o.cmk:
			s.t.Errorf("%s has %s, which it never asked for", id, st.Key.ID)
		}
	}
	if all {
		s.checked = 0
	}
	for _, a := range s.acks[s.checked:] {
		scope := byok.Scope{Tenant: a.Tenant, Purpose: a.Purpose}
		var plain []byte
		var err error
		switch a.Op {
		case "job":
			if j, err := k.Tenant(a.Tenant).Job(s.t.Context(), a.Job); err != nil || j.State != byok.JobDone {
				s.t.Errorf("a job was done, and now: %+v, %v", j, err)
			}
			continue
		case "seal":
			plain, err = k.Open(s.t.Context(), scope, a.Sealed, nil)
		case "rewrap": // it is under the CMK of that time
			var now []byte
			if now, err = own.Rewrap(s.t.Context(), scope, a.Sealed); err == nil {
				plain, err = own.Open(s.t.Context(), scope, now, nil)
			}
		default:
			continue
		}
		if err != nil || string(plain) != a.Plain {
			s.t.Errorf("a record of %s (%s) was acknowledged, and now: %q, %v", a.Tenant, a.Op, plain, err)
		}
		opened++
	}
	s.checked = len(s.acks)
	if s.patience {
		s.halfAMinutePasses(store)
	}
	return opened, checkStore(s.t, store, customers)
}

// killedBefore finds the statement in what a crasher says when it is killed at a point.
var killedBefore = regexp.MustCompile(`killed before (BEGIN|COMMIT|[A-Z]+ (?:INTO )?[A-Za-z_]+)`)

// A process is killed before each statement that it sends (each fourth, unless there are
// to be many kills), from the first one of an empty database on: what it has
// acknowledged is there, and another process begins and ends the same things all over.
func TestG3_KillPoints(t *testing.T) {
	eachCrash(t, func(t *testing.T, empty func() *site) {
		opened, stride := 0, 4
		if empty().driver == "sqlite" {
			stride = 12
		}
		if *kills >= 200 {
			stride = 1
		}
		sites, before := map[int]*site{}, map[string]int{}
		for at := 1 + mrand.IntN(stride); ; at += stride {
			s := empty()
			s.patience = true
			s.newTenant("acme")
			c := s.config("life")
			c.KillAt = at
			p := startCrasher(t, c)
			acks, killed := p.rest()
			if !killed {
				if n := acks[len(acks)-1]; n.Op != "end" || int(n.N) >= at {
					t.Fatalf("a life ended with %+v, at point %d", n, at)
				}
				break
			}
			sites[at] = s
			s.heard(acks)
			if name := killedBefore.FindStringSubmatch(p.errs.String()); name != nil {
				before[name[1]]++
			} else {
				t.Errorf("killed at point %d, and does not say before what: %s", at, p.errs)
			}
			if s.check(false); t.Failed() {
				t.Fatalf("killed at point %d", at)
			}
		}
		// Now that nobody holds the jobs, others go on, or begin anew.
		for at, s := range sites {
			acks, killed := startCrasher(t, s.config("life")).rest()
			if s.heard(acks); killed || len(acks) == 0 || acks[len(acks)-1].Op != "end" {
				t.Fatalf("after a kill at point %d: %+v", at, acks)
			}
			n, keys := s.check(true)
			if opened += n; keys < 3 || keys > 10 {
				t.Errorf("after a kill at point %d there are %d data keys", at, keys)
			}
			if t.Failed() {
				t.Fatalf("killed at point %d", at)
			}
		}
		if len(sites)*stride < 150 {
			t.Errorf("only %d points: this test could pass on nothing", len(sites))
		}
		t.Logf("killed at %d points, before %v; %d records open", len(sites), before, opened)
	})
}

// Two processes at full speed, with jobs of all kinds, are killed at random instants, again and again on the
// same data. What was under way is gone on with, to its end.
func TestG3_KillAnyTime(t *testing.T) {
	eachCrash(t, func(t *testing.T, empty func() *site) {
		s := empty()
		s.patience = true
		total := *kills
		if s.driver == "sqlite" && total < 200 {
			total = max(1, total/3) // it is the same file format, and the same statements
		}
		for n := range total {
			if n%10 == 0 {
				s.newTenant(fmt.Sprintf("tenant-%03d", n/10)) // is being registered in some of the kills
			}
			c := s.config("busy")
			c.Jobs = true
			for n, id := range slices.Backward(slices.Sorted(maps.Keys(c.Tenants))) {
				if len(c.Tenants)-n > 6 { // the others have had their kills
					delete(c.Tenants, id)
				}
			}
			var pair []*crasherProcess
			for range 2 {
				pair = append(pair, startCrasher(t, c))
			}
			for _, p := range pair {
				p.ready()
			}
			for left := mrand.IntN(25) - 5; left > 0; { // however loaded the machine is, something is going on
				a, ok := <-pair[0].acks
				if !ok {
					break
				}
				if s.heard([]ack{a}); a.Op != "register" && a.Op != "waiver" { // which come first
					left--
				}
			}
			time.Sleep(time.Duration(mrand.Int64N(int64(30 * time.Millisecond))))
			for _, p := range pair {
				_ = p.cmd.Process.Kill()
				acks, killed := p.rest()
				if s.heard(acks); !killed {
					t.Fatalf("it ended before it was killed: %v\n%s", acks, p.errs)
				}
			}
			if s.check(false); t.Failed() {
				t.Fatalf("after kill %d", n)
			}
		}
		begun, done := s.finishJobs()
		opened, keys := s.check(true)
		rewrapped := 0
		for _, a := range s.acks {
			if a.Op == "rewrap" {
				rewrapped++
			}
		}
		if opened < total || keys < total/5 || s.broken < total/10 || done[byok.JobMove]+done[byok.RotateFull] < total/20 || rewrapped < total/20 {
			t.Errorf("%d records (%d rewrapped) under %d data keys, %d jobs broken off, %v done: too little happened", opened, rewrapped, keys, s.broken, done)
		}
		t.Logf("%d kills of two processes, %d times with a job in their hands; %d jobs, done: %v; %d records open, %d of them rewrapped, under %d data keys of %d tenants",
			total, s.broken, begun, done, opened, rewrapped, keys, len(s.customers))
	})
}

// halfAMinutePasses for jobs: whoever was killed with one in its hands holds it no longer.
func (s *site) halfAMinutePasses(store *sqlstore.Store) {
	s.t.Helper()
	for id := range s.customers {
		list, err := store.List(s.t.Context(), "tenant:"+id, "job:", byok.MaxListLimit)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, i := range list {
			broken, err := withoutOwner(s.t.Context(), store, i)
			for errors.Is(err, byok.ErrConflict) { // a server goes on with what a killed process has sent
				if i, err = store.Get(s.t.Context(), i.Ref); err == nil {
					broken, err = withoutOwner(s.t.Context(), store, i)
				}
			}
			if err != nil {
				s.t.Fatal(err)
			}
			if broken {
				s.broken++
			}
		}
	}
}

// withoutOwner takes a job that is in somebody's hands out of them.
func withoutOwner(ctx context.Context, store *sqlstore.Store, i byok.Item) (bool, error) {
	var j map[string]any
	if !strings.HasPrefix(i.ID, "job:") || json.Unmarshal(i.Value, &j) != nil || j["lease_until"] == nil {
		return false, nil
	}
	delete(j, "lease_until")
	delete(j, "owner")
	value, err := json.Marshal(j)
	if err != nil {
		return false, err
	}
	i.Value = value
	return true, store.Apply(ctx, i)
}

// finishJobs brings what is under way to its end, and looks at the data keys: each is under its tenant's CMK, and
// nothing else.
func (s *site) finishJobs() (begun int, done map[string]int) {
	s.t.Helper()
	db, store, k := s.open()
	defer db.Close()
	defer k.Close()
	done = map[string]int{}
	for id := range s.customers {
		tenant := k.Tenant(id)
		for job, err := range tenant.Jobs(s.t.Context()) {
			if err == nil { // one that has ended may still be on the list of what is under way
				for job, err = range tenant.RunJob(s.t.Context(), job.ID) {
					if err != nil {
						break
					}
				}
			}
			if err != nil || job.State != byok.JobDone || job.Failed != 0 {
				s.t.Fatalf("a job of %s: %+v, %v", id, job, err)
			}
			begun++
			done[job.Type]++
		}
		st, err := tenant.Status(s.t.Context())
		if err != nil && s.customers[id].registered {
			s.t.Fatal(err)
		}
		for item, value := range items(s.t, store, "tenant:"+id) {
			if strings.HasPrefix(item, "dek:") {
				if under := wrappedBy(s.t, value); len(under) != 1 || under[0] != st.Key.ID {
					s.t.Errorf("%s of %s is under %v, and the tenant's CMK is %s", item, id, under, st.Key.ID)
				}
			}
		}
	}
	listed := items(s.t, store, "openjobs")
	if begun > 0 && len(listed) == 0 {
		s.t.Error("no list of jobs: it has another name by now")
	}
	for item, value := range listed {
		if string(value) != `{"v":1}` {
			s.t.Errorf("on the list of jobs, %s: %s", item, value)
		}
	}
	return begun, done
}

// Two processes make the tables of an empty database, at once, and are killed at random instants. Whoever comes next
// finds none of it or can end it.
func TestG3_KillMigrations(t *testing.T) {
	eachCrash(t, func(t *testing.T, empty func() *site) {
		total := *kills
		if total < 200 {
			total = max(1, total/8)
		}
		begun := time.Now()
		s := empty()
		startCrasher(t, s.config("first")).ready()
		took := time.Since(begun) // of a process, until it has migrated
		ready := 0
		for n := range total {
			s := empty()
			pair := []*crasherProcess{startCrasher(t, s.config("first")), startCrasher(t, s.config("first"))}
			time.Sleep(took/4 + time.Duration(mrand.Int64N(int64(took))))
			for _, p := range pair {
				_ = p.cmd.Process.Kill()
				acks, killed := p.rest()
				if ready += len(acks); !killed {
					t.Fatalf("it ended before it was killed: %v\n%s", acks, p.errs)
				}
			}
			s.newTenant("acme")
			db, _, k := s.open()
			err := register(t.Context(), k.Tenant("acme"), s.customers["acme"].cmk, func(op string) { s.heard([]ack{{Op: op, Tenant: "acme"}}) })
			if err = errors.Join(err, k.Close(), db.Close()); err != nil {
				t.Fatalf("after kill %d: %v", n, err)
			}
			if s.check(true); t.Failed() {
				t.Fatalf("after kill %d", n)
			}
		}
		t.Logf("%d kills of two processes; %d of those had migrated already", total, ready)
	})
}

// The server itself is stopped in the middle, crashes, or all its processes are killed, while
// clients go on: what was acknowledged before is there afterwards, and the clients go
// on by themselves.
func TestG3_G4_PostgresCrashes(t *testing.T) {
	p := newPostgres(t)
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	t.Cleanup(wire.Close)
	fake.RegisterAccessKey(platformAccessKey, platformRole)
	s := &site{t: t, driver: "pgx", dsn: p.dsn(p.newSchema(t)), fake: fake, url: wire.URL, customers: map[string]*customer{}}
	s.newTenant("acme")
	s.newTenant("bolt")
	c := s.config("busy")
	c.Patient, c.Jobs = true, true
	var clients []*crasherProcess
	for range 3 {
		clients = append(clients, startCrasher(t, c))
	}
	for _, c := range clients {
		c.ready()
	}
	signals := []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGINT}
	crashes := max(3, *kills/8)
	for n := range crashes {
		time.Sleep(200*time.Millisecond + time.Duration(mrand.Int64N(int64(300*time.Millisecond))))
		p.stop(signals[n%len(signals)])
		if n%2 == 0 {
			time.Sleep(time.Duration(mrand.Int64N(int64(200 * time.Millisecond))))
		}
		p.start()
		before := len(s.acks)
		for begun := time.Now(); len(s.acks) < before+10; { // all three, or two and a half, are back
			for _, c := range clients {
				select {
				case a, ok := <-c.acks:
					if !ok {
						t.Fatalf("a client ended:\n%s", c.errs)
					}
					s.heard([]ack{a})
				default:
				}
			}
			if time.Since(begun) > time.Minute {
				t.Fatalf("after crash %d nothing goes on", n)
			}
		}
		if s.check(false); t.Failed() {
			t.Fatalf("after crash %d", n)
		}
	}
	for _, c := range clients {
		_ = c.in.Close()
		acks, killed := c.rest()
		if s.heard(acks); killed {
			t.Error("a client was killed")
		}
	}
	opened, keys := s.check(true)
	if opened < 10*crashes {
		t.Errorf("%d records: too little happened", opened)
	}
	t.Logf("%d crashes of the server; %d records open, under %d data keys", crashes, opened, keys)
}

// 32 processes make the first data key of a tenant at once: there is one, and
// whatever any of them sealed opens.
func TestG1_FirstDataKeyOf32Processes(t *testing.T) {
	const processes = 32
	eachCrash(t, func(t *testing.T, empty func() *site) {
		s := empty()
		s.newTenant("acme")
		_, _, k := s.open()
		if err := register(t.Context(), k.Tenant("acme"), s.customers["acme"].cmk, func(string) {}); err != nil {
			t.Fatal(err)
		}
		var all []*crasherProcess
		for range processes {
			all = append(all, startCrasher(t, s.config("first")))
		}
		for _, p := range all {
			p.ready()
		}
		for _, p := range all {
			_, _ = p.in.Write([]byte{'\n'})
		}
		for _, p := range all {
			acks, killed := p.rest()
			if s.heard(acks); killed {
				t.Error("a process was killed")
			}
		}
		if opened, keys := s.check(true); opened != processes || keys != 1 {
			t.Errorf("%d of %d records open, under %d data keys", opened, processes, keys)
		}
	})
}
