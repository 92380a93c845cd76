package integration

import (
	"context"
	"database/sql"
	"fmt"
	mrand "math/rand/v2"
	"net/http/httptest"
	"path/filepath"
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
	driver, dsn string
	fake        *kmsfake.KMS
	url         string
	customers   map[string]*customer
	acks        []ack
	checked     int // of acks
	backups     string
}

// eachDatabase runs a test on SQLite and on Postgres; empty makes a database.
func eachDatabase(t *testing.T, f func(t *testing.T, empty func() *site)) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	t.Cleanup(wire.Close)
	fake.RegisterAccessKey(platformAccessKey, platformRole)
	t.Run("sqlite", func(t *testing.T) {
		f(t, func() *site {
			return &site{t: t, driver: "sqlite3", dsn: "file:" + filepath.Join(t.TempDir(), "byok.db") + "?_pragma=busy_timeout(10000)", fake: fake, url: wire.URL, customers: map[string]*customer{}}
		})
	})
	t.Run("postgres", func(t *testing.T) {
		p := newPostgres(t)
		f(t, func() *site {
			return &site{t: t, driver: "pgx", dsn: p.dsn(p.newSchema(t)), fake: fake, url: wire.URL, customers: map[string]*customer{}}
		})
	})
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
	db, err := sql.Open(s.driver, s.dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	store, err := sqlstore.Open(context.Background(), db, dialects[s.driver])
	if err != nil {
		s.t.Fatal(err)
	}
	keys, err := awskms.NewFromClient(s.fake.Client(platformRole), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	k, err := byok.New(crashService, keys, store, store, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = k.Close() })
	return db, store, k
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
	db, store, k := s.open()
	defer db.Close()
	defer k.Close()
	if s.driver == "sqlite3" {
		checkFile(s.t, db)
	}
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
		}
	}
	if all {
		s.checked = 0
	}
	for _, a := range s.acks[s.checked:] {
		if a.Op != "seal" {
			continue
		}
		plain, err := k.Open(s.t.Context(), byok.Scope{Tenant: a.Tenant, Purpose: a.Purpose}, a.Sealed, nil)
		if err != nil || string(plain) != a.Plain {
			s.t.Errorf("a record of %s was acknowledged, and now: %q, %v", a.Tenant, plain, err)
		}
		opened++
	}
	s.checked = len(s.acks)
	return opened, checkStore(s.t, store, customers)
}

// A process is killed before each statement that it sends (each third, unless there are
// to be many kills), from the first one of an empty database on: what it has
// acknowledged is there, and another process begins and ends the same things all over.
func TestG3_KillPoints(t *testing.T) {
	eachDatabase(t, func(t *testing.T, empty func() *site) {
		opened, stride := 0, 3
		if *kills >= 200 {
			stride = 1
		}
		sites := map[int]*site{}
		for at := 1 + mrand.IntN(stride); ; at += stride {
			s := empty()
			s.newTenant("acme")
			c := s.config("life")
			c.KillAt = at
			acks, killed := startCrasher(t, c).rest()
			if !killed {
				if n := acks[len(acks)-1]; n.Op != "end" || int(n.N) >= at {
					t.Fatalf("a life ended with %+v, at point %d", n, at)
				}
				break
			}
			sites[at] = s
			s.heard(acks)
			if s.check(false); t.Failed() {
				t.Fatalf("killed at point %d", at)
			}
		}
		// Now that the leases of jobs have run out, or almost, others go on, or begin anew.
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
		t.Logf("killed at %d points; %d records open", len(sites), opened)
	})
}

// Two processes at full speed are killed at random instants, again and again on the
// same data.
func TestG3_KillAnyTime(t *testing.T) {
	eachDatabase(t, func(t *testing.T, empty func() *site) {
		s := empty()
		for n := range *kills {
			if n%10 == 0 {
				s.newTenant(fmt.Sprint("tenant-", n/10)) // is being registered in some of the kills
			}
			var pair []*crasherProcess
			for range 2 {
				pair = append(pair, startCrasher(t, s.config("busy")))
			}
			for _, p := range pair {
				p.ready()
			}
			for range mrand.IntN(25) { // however loaded the machine is, something is going on
				if a, ok := <-pair[0].acks; ok {
					s.heard([]ack{a})
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
		opened, keys := s.check(true)
		if opened < *kills || keys < *kills/5 {
			t.Errorf("%d records under %d data keys: too little happened", opened, keys)
		}
		t.Logf("%d kills of two processes; %d records open, under %d data keys of %d tenants", *kills, opened, keys, len(s.customers))
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
	c.Patient = true
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
	eachDatabase(t, func(t *testing.T, empty func() *site) {
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
