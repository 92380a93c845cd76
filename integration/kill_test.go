package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // "sqlite3"
	_ "modernc.org/sqlite"                   // "sqlite"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

var kills = flag.Int("kills", 50, "how often TestKill9 kills the server")

// customer is one organization, and everything that the server has acknowledged
// to it: what must be there after any number of kills.
type customer struct {
	id, token, cmk string
	next           string // the CMK to which it moves, if it does

	mu         sync.Mutex
	registered bool
	waiver     bool
	moved      bool
	version    uint64            // highest dek_version told
	records    map[string]string // path -> plaintext
}

func (c *customer) put(path, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records[path] = text
}

// crowd is what is done to the server until it is killed.
type crowd struct {
	t      *testing.T
	client *http.Client
	api    string
	stop   chan struct{}
	wg     sync.WaitGroup
	counts sync.Map // what was acknowledged, of each kind
}

func (c *crowd) count(what string) {
	n, _ := c.counts.LoadOrStore(what, new(int64Counter))
	n.(*int64Counter).add()
}

type int64Counter struct {
	mu sync.Mutex
	n  int
}

func (c *int64Counter) add() { c.mu.Lock(); c.n++; c.mu.Unlock() }

// again repeats f until the server is gone.
func (c *crowd) again(f func() error) {
	c.wg.Go(func() {
		for {
			select {
			case <-c.stop:
				return
			default:
			}
			if f() != nil { // no answer: it was killed
				return
			}
		}
	})
}

// register registers and acknowledges; what was acknowledged before may be
// refused as a repetition.
func (c *crowd) register(o *customer) error {
	a, err := send(c.client, "POST", c.api+keysPath, o.token, []byte(`{"cmk_arn":"`+o.cmk+`"}`))
	if err != nil {
		return err
	}
	if a.status != 201 && a.code() != "BYOK_003" {
		c.t.Errorf("%s: register: %s", o.id, a)
	}
	o.mu.Lock()
	o.registered = true
	o.mu.Unlock()
	c.count("registrations")
	if a, err = send(c.client, "POST", c.api+ackPath, o.token, []byte(ackAll)); err != nil {
		return err
	}
	if a.status != 200 {
		c.t.Errorf("%s: acknowledge: %s", o.id, a)
	}
	o.mu.Lock()
	o.waiver = true
	o.mu.Unlock()
	c.count("waivers")
	return nil
}

func (c *crowd) seal(o *customer) error {
	path, text := "/api/v1/records/c/"+rand.Text(), strings.Repeat(rand.Text(), 1+mrand.IntN(40))
	a, err := send(c.client, "PUT", c.api+path, o.token, []byte(text))
	if err != nil {
		return err
	}
	switch a.status {
	case 201:
	default:
		c.t.Errorf("%s: PUT: %s", o.id, a)
		return nil
	}
	o.put(path, text)
	c.count("records")
	return nil
}

// rotate rotates until the limit of 10 an hour and process is reached.
func (c *crowd) rotate(o *customer) error {
	a, err := send(c.client, "POST", c.api+keysPath+"/rotate", o.token, []byte(`{"rotation_type":"dek"}`))
	if err != nil {
		return err
	}
	var r struct {
		Version uint64 `json:"new_dek_version"`
	}
	switch {
	case a.status == 429:
		time.Sleep(20 * time.Millisecond)
		return nil
	case a.status != 200 || json.Unmarshal(a.body, &r) != nil || r.Version == 0:
		c.t.Errorf("%s: rotate: %s", o.id, a)
		return nil
	}
	o.mu.Lock()
	o.version = max(o.version, r.Version)
	o.mu.Unlock()
	c.count("rotations")
	time.Sleep(time.Duration(mrand.IntN(30)) * time.Millisecond)
	return nil
}

// check asks for everything that was acknowledged.
func (o *customer) check(t *testing.T, c *http.Client, api string, paths map[string]string) {
	t.Helper()
	a, err := send(c, "GET", api+keysPath, o.token, nil)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Status  string
		CMK     string `json:"cmk_arn"`
		Version uint64 `json:"dek_version"`
	}
	_ = json.Unmarshal(a.body, &s)
	switch {
	case !o.registered && a.status == 404:
	case a.status != 200 || s.CMK != o.cmk:
		t.Errorf("%s was registered, and now: %s", o.id, a)
	case o.waiver && s.Status != "active":
		t.Errorf("%s was active, and now: %s", o.id, a)
	case s.Version < o.version:
		t.Errorf("%s had dek_version %d, and now: %s", o.id, o.version, a)
	}
	for path, text := range paths {
		a, err := send(c, "GET", api+path, o.token, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.status != 200 || string(a.body) != text {
			t.Errorf("%s: %s was acknowledged, and now: %d %.100q", o.id, path, a.status, a.body)
		}
	}
}

// kill -9 at random instants, while organizations register, rotate and seal:
// after each restart everything that was acknowledged is there, and what was not
// can be done again.
func TestKill9(t *testing.T) {
	if *kills < 1 {
		t.Fatal("-kills must be at least 1")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "byok-data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	// Two customers stay all the time; one more comes before each kill.
	customers := newCustomers(t, data, 2+*kills)
	tokens := writeTokens(t, dir, customers)
	args := onFreePorts("-tokens", tokens, "-max-age", "1s") // short leases, so that Decrypt is among what is interrupted
	total := map[string]int{}
	for n := range *kills {
		p := start(t, dir, args...)
		c := &crowd{t: t, client: newClient(), api: p.api, stop: make(chan struct{})}
		for _, o := range customers[:2] {
			if !o.waiver {
				if err := c.register(o); err != nil {
					t.Fatal(err)
				}
			}
			c.again(func() error { return c.seal(o) })
			c.again(func() error { return c.seal(o) })
			c.again(func() error { return c.rotate(o) })
		}
		fresh := customers[2+n]
		c.wg.Go(func() {
			time.Sleep(time.Duration(mrand.IntN(60)) * time.Millisecond)
			if c.register(fresh) == nil {
				c.again(func() error { return c.seal(fresh) })
			}
		})
		time.Sleep(time.Duration(mrand.IntN(250_000)) * time.Microsecond)
		p.kill()
		close(c.stop)
		c.wg.Wait()
		c.counts.Range(func(k, v any) bool { total[k.(string)] += v.(*int64Counter).n; return true })
		checkItems(t, data, customers)

		p = start(t, dir, args...)
		client := newClient()
		for _, o := range []*customer{customers[0], customers[1], fresh} {
			o.check(t, client, p.api, o.records)
		}
		// What was interrupted can be done again.
		c = &crowd{t: t, client: client, api: p.api}
		for _, err := range []error{c.register(fresh), c.seal(fresh)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		p.kill() // a stop without any ceremony is the usual one here
		if t.Failed() {
			t.Fatalf("after kill %d", n+1)
		}
	}
	// At the end, everything once more.
	p := start(t, dir, args...)
	client := newClient()
	opened := 0
	for _, o := range customers {
		o.check(t, client, p.api, o.records)
		opened += len(o.records)
	}
	p.terminate()
	keys := checkItems(t, data, customers)
	t.Logf("%d kills; acknowledged before one: %v; %d records open, under %d data keys", *kills, total, opened, keys)
	if !testing.Short() && (total["records"] < 10**kills || total["rotations"] < *kills || total["registrations"] < *kills/2 || keys < *kills) {
		t.Errorf("too little was going on: %v, %d data keys", total, keys)
	}
}

// newCustomers makes each a CMK in the fake KMS that the server will start on.
func newCustomers(t *testing.T, data string, n int) (all []*customer) {
	t.Helper()
	fake, err := kmsfake.Open(&kmsfake.Options{TB: t, File: filepath.Join(data, "kms.json")})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close() // the server is next
	for i := range n {
		o := &customer{id: fmt.Sprintf("org-%03d", i), token: rand.Text() + rand.Text(), records: map[string]string{}}
		policy := awskms.KeyPolicy(acmeAccount, platformRole, map[string]string{"tenant_id": o.id, "service": "byok-example"})
		if err := policy.Err(); err != nil {
			t.Fatal(err)
		}
		o.cmk = fake.Account(acmeAccount).CreateKey(policy.JSON()).ARN()
		all = append(all, o)
	}
	return all
}

func writeTokens(t *testing.T, dir string, customers []*customer) string {
	t.Helper()
	var list []map[string]string
	for _, o := range customers {
		sum := sha256.Sum256([]byte(o.token))
		list = append(list, map[string]string{"token_sha256": hex.EncodeToString(sum[:]), "organization_id": o.id, "actor": "test"})
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "tokens.json")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// checkItems looks into the file that a killed server left behind.
func checkItems(t *testing.T, data string, customers []*customer) (keys int) {
	t.Helper()
	ctx := context.Background()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(data, "byok.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := sqlstore.Open(ctx, db, sqlstore.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, db)
	return checkStore(t, store, customers)
}

// checkFile lets SQLite look at its own structures.
func checkFile(t *testing.T, db *sql.DB) {
	t.Helper()
	var check string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Errorf("integrity_check: %s, %v", check, err)
	}
}

// checkStore looks at all items: at most one data key per tenant, purpose and
// generation, and no half of anything. It returns the number of data keys.
func checkStore(t *testing.T, store *sqlstore.Store, customers []*customer) (keys int) {
	t.Helper()
	tenants := map[string]bool{}
	for id := range items(t, store, "tenants") {
		tenants[id] = true
	}
	claims := map[string]int{}
	for _, value := range items(t, store, "cmk") {
		var c struct{ Tenant string }
		if err := json.Unmarshal(value, &c); err != nil {
			t.Error(err)
		}
		claims[c.Tenant]++
	}
	for _, o := range customers {
		var state struct {
			Lifecycle  string
			Key        byok.KeyID
			Generation uint64
			DataKeys   int `json:"data_keys"`
			Acks       int
			Job        *struct{ Type string }
		}
		named, deks, acks, found := map[string]string{}, map[string]bool{}, 0, false
		slots := map[string]string{} // purpose and generation -> data key
		var used []string
		all := items(t, store, "tenant:"+o.id)
		if value, ok := all["state"]; ok {
			if found = json.Unmarshal(value, &state) == nil; !found {
				t.Errorf("%s: state: %s", o.id, value)
			}
		}
		for id, value := range all {
			kind, rest, _ := strings.Cut(id, ":")
			switch kind {
			case "ack":
				acks++
			case "gen":
				var g struct {
					DataKey string `json:"data_key"`
				}
				if err := json.Unmarshal(value, &g); err != nil || g.DataKey == "" {
					t.Errorf("%s: %s: %s", o.id, id, value)
				}
				if named[g.DataKey] != "" {
					t.Errorf("%s: data key %s has two generations", o.id, g.DataKey)
				}
				named[g.DataKey] = rest
			case "dek":
				var d struct {
					Purpose    string
					Generation uint64
					Header     []byte
				}
				if err := json.Unmarshal(value, &d); err != nil || !bytes.HasPrefix(d.Header, []byte("byok")) {
					t.Errorf("%s: %s: %s", o.id, id, value)
				}
				slot := fmt.Sprintf("%s:%020d", d.Purpose, d.Generation)
				if was := slots[slot]; was != "" {
					t.Errorf("%s: two data keys of %s: %s and %s", o.id, slot, was, rest)
				}
				if slots[slot] = rest; d.Generation > state.Generation {
					t.Errorf("%s: data key of generation %d, of %d", o.id, d.Generation, state.Generation)
				}
				deks[rest] = true
				if under := wrappedBy(t, value); !slices.Contains(under, state.Key.ID) {
					t.Errorf("%s: data key %s is under %v, and the tenant's CMK is %s", o.id, rest, under, state.Key.ID)
				}
			case "use": // what has been reserved of a data key, never more than it may seal
				var u struct{ Messages, Bytes int64 }
				if err := json.Unmarshal(value, &u); err != nil || u.Messages <= 0 || u.Messages > 1<<32 || u.Bytes <= 0 || u.Bytes > 1<<48 {
					t.Errorf("%s: %s: %s", o.id, id, value)
				}
				used = append(used, rest)
			case "state", "outbox", "used", "job":
			default:
				t.Errorf("%s: unexpected item %s", o.id, id)
			}
		}
		for _, id := range used {
			if !deks[id] {
				t.Errorf("%s: reserved of data key %s, which is not there", o.id, id)
			}
		}
		for slot, id := range slots {
			if named[id] != slot {
				t.Errorf("%s: data key %s is of %s, but gen: says %q", o.id, id, slot, named[id])
			}
		}
		if len(named) != len(slots) || len(deks) != len(slots) || state.DataKeys != len(slots) || state.Acks != acks {
			t.Errorf("%s: half a change: %d gen:, %d dek:, %d ack:; the state says %+v", o.id, len(named), len(deks), acks, state)
		}
		registered := state.Lifecycle != ""
		most := 1
		if state.Job != nil && state.Job.Type == byok.JobMove { // it has the new CMK too
			most = 2
		}
		if found != tenants[o.id] || registered != (claims[o.id] >= 1) || claims[o.id] > most || o.registered && !registered || o.waiver && acks == 0 {
			t.Errorf("%s: half a registration: state %v %+v, listed %v, %d claims", o.id, found, state, tenants[o.id], claims[o.id])
		}
		keys += len(slots)
	}
	return keys
}

// items reads a partition of the Store.
func items(t *testing.T, store *sqlstore.Store, partition string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for after := ""; ; {
		page, err := store.List(context.Background(), partition, after, byok.MaxListLimit)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page {
			all[i.ID], after = i.Value, i.ID
		}
		if len(page) < byok.MaxListLimit {
			return all
		}
	}
}
