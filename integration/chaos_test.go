package integration

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

var chaosFor = flag.Duration("chaos", 20*time.Second, "how long TestChaos runs")

const (
	chaosMaxAge    = 2 * time.Second
	chaosProcesses = 4
	chaosTenants   = 4
	chaosThreads   = 4 // of a process
	chaosService   = "chaos"
)

// chaos is a run: processes on one SQLite file, a KMS over HTTP that is slow,
// resets, throttles and is away, customers who take access away and give it back,
// and a hand that kills.
type chaos struct {
	t       *testing.T
	dir, db string
	clock   mono
	fake    *kmsfake.KMS
	url     string
	tenants []string
	cmks    []*kmsfake.Key
	ctx     context.Context // ends with the time
	wg      sync.WaitGroup

	workers []*workerProcess // one per slot, the living ones
	logs    []string         // of all that ever lived
	ledgers []string
	lives   []life

	mu      sync.Mutex
	windows []window
	weather map[string]int // how often what was done
	calls   map[string]kmsfake.Call
}

// Four processes at full speed in bad weather: nothing succeeds after a denial
// that the process has seen, nothing anywhere after the bound, no record that was
// acknowledged is lost, no goroutine is left, and every request that the KMS
// answered is in the audit log once.
func TestChaos(t *testing.T) {
	c := newChaos(t)
	for slot := range chaosProcesses {
		c.start(slot)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *chaosFor)
	defer cancel()
	c.ctx = ctx
	for i := range c.tenants {
		c.wg.Go(func() { c.customer(i) })
	}
	c.wg.Go(c.bad)
	c.wg.Go(c.kills)
	c.wg.Go(func() {
		for c.pause(2*time.Second, 3*time.Second) {
			c.remember()
		}
	})
	c.wg.Wait() // the hands have put everything right again
	time.Sleep(3 * time.Second)
	leaks, unheard := 0, 0
	for _, w := range c.workers {
		end := w.stop()
		c.lived(w, false)
		if unheard += end.AuditFailures; len(end.Leaked) > 0 {
			leaks += len(end.Leaked)
			t.Errorf("a process has %d goroutines left, such as\n%s", len(end.Leaked), end.Leaked[0])
		}
	}
	c.remember()
	t.Logf("goroutines left in the %d processes that were stopped: %d", len(c.workers), leaks)
	c.judge(unheard)
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	dir := t.TempDir()
	c := &chaos{t: t, dir: dir, db: filepath.Join(dir, "byok.db"), clock: mono{time.Now()}, fake: kmsfake.New(&kmsfake.Options{TB: t}),
		workers: make([]*workerProcess, chaosProcesses), weather: map[string]int{}, calls: map[string]kmsfake.Call{}}
	wire := httptest.NewServer(c.fake.Handler())
	t.Cleanup(wire.Close)
	c.url = wire.URL
	c.register(chaosTenants)
	return c
}

// register registers tenants, as an admin of the platform would.
func (c *chaos) register(n int) {
	t := c.t
	t.Helper()
	db, store := openStore(t, c.db)
	defer db.Close()
	keys, err := awskms.NewFromClient(c.fake.Client(platformRole), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := byok.New(chaosService, keys, store, store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for i := range n {
		id := fmt.Sprintf("tenant-%d", i)
		tenant, account := k.Tenant(id), fmt.Sprintf("%012d", 100_000_000_000+i)
		cmk := c.fake.Account(account).CreateKey(awskms.KeyPolicy(account, platformRole, tenant.EncryptionContext()).JSON())
		if _, err := tenant.Register(t.Context(), byok.Registration{Key: awskms.Key(cmk.ARN())}); err != nil {
			t.Fatal(err)
		}
		if _, err := tenant.AcknowledgeWaiver(t.Context(), byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}); err != nil {
			t.Fatal(err)
		}
		c.tenants, c.cmks = append(c.tenants, id), append(c.cmks, cmk)
	}
}

func openStore(t *testing.T, file string) (*sql.DB, *sqlstore.Store) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlstore.Open(t.Context(), db, sqlstore.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	return db, store
}

// start starts a process, with an access key id by which the KMS's log knows it.
func (c *chaos) start(slot int) {
	n := len(c.logs)
	key := fmt.Sprintf("AKIACHAOS%04d", n)
	c.fake.RegisterAccessKey(key, platformRole)
	c.logs = append(c.logs, filepath.Join(c.dir, fmt.Sprintf("log-%d", n)))
	c.ledgers = append(c.ledgers, filepath.Join(c.dir, fmt.Sprintf("ledger-%d", n)))
	c.workers[slot] = startWorker(c.t, workerConfig{
		DB: c.db, KMS: c.url, AccessKey: key, Service: chaosService, Tenants: c.tenants, MaxAge: chaosMaxAge, Threads: chaosThreads, Rotate: 7 * time.Second,
		Log: c.logs[n], Ledger: c.ledgers[n], Others: c.ledgers[max(0, n-chaosProcesses):n],
	})
}

func (c *chaos) lived(w *workerProcess, killed bool) {
	c.lives = append(c.lives, life{w.cfg.AccessKey, time.Now(), killed})
}

// pause waits for a random while, and reports whether the run goes on.
func (c *chaos) pause(least, most time.Duration) bool {
	timer := time.NewTimer(least + mrand.N(most-least))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

func (c *chaos) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.weather[what]++
}

// customer takes access away and gives it back, in one of five ways, sometimes for
// less than MaxAge and sometimes for longer.
func (c *chaos) customer(tenant int) {
	cmk := c.cmks[tenant]
	policy := cmk.Policy()
	noDecrypt := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"` + platformRole + `"},"Action":"kms:Decrypt","Resource":"*"},` +
		`{"Effect":"Allow","Principal":{"AWS":"` + platformRole + `"},"Action":["kms:Encrypt","kms:GenerateDataKey"],"Resource":"*"}]}`
	var back func()
	ways := []struct {
		kind       string
		deny, undo func()
	}{
		{"disable", cmk.Disable, cmk.Enable},
		{"deny by policy", func() { cmk.DenyTo(platformRole) }, func() { cmk.AllowTo(platformRole) }},
		{"deny Decrypt alone", func() { cmk.SetPolicy(noDecrypt) }, func() { cmk.SetPolicy(policy) }},
		{"schedule deletion", func() { cmk.ScheduleDeletion(7) }, func() { cmk.CancelDeletion(); cmk.Enable() }},
		// Nobody can see a denial then: only the age of proofs ends anything.
		{"disable, unreachable", func() {
			cmk.Disable()
			back = c.fake.Inject(kmsfake.Fault{KeyARN: cmk.ARN(), Effect: kmsfake.ConnectionReset})
		}, func() { back(); cmk.Enable() }},
	}
	for c.pause(500*time.Millisecond, 4*time.Second) {
		way := ways[mrand.IntN(len(ways))]
		way.deny()
		w := window{tenant: byte(tenant), kind: way.kind, from: c.clock.now()}
		c.pause(100*time.Millisecond, 3*chaosMaxAge)
		w.until = c.clock.now()
		way.undo()
		c.mu.Lock()
		c.windows = append(c.windows, w)
		c.mu.Unlock()
		c.count(way.kind)
	}
}

// bad is the weather: one kind after the other, and sometimes two.
func (c *chaos) bad() {
	defer c.fake.Throttle(0)
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	kinds := []struct {
		name string
		f    func() func()
	}{
		{"slow", func() func() {
			return c.fake.Inject(kmsfake.Fault{Latency: kmsfake.LogNormal(5*time.Millisecond, 300*time.Millisecond)})
		}},
		{"resets", func() func() {
			return c.fake.Inject(kmsfake.Fault{Effect: kmsfake.ConnectionReset, Probability: 0.3, Seed: mrand.Uint64()})
		}},
		{"lost answers", func() func() {
			return c.fake.Inject(kmsfake.Fault{Effect: kmsfake.LostAnswer, Probability: 0.3, Seed: mrand.Uint64()})
		}},
		{"truncated answers", func() func() {
			return c.fake.Inject(kmsfake.Fault{Effect: kmsfake.TruncatedAnswer, Probability: 0.3, Seed: mrand.Uint64()})
		}},
		{"slow answers", func() func() {
			return c.fake.Inject(kmsfake.Fault{Effect: kmsfake.SlowAnswer, Latency: kmsfake.Fixed(200 * time.Millisecond), Probability: 0.3, Seed: mrand.Uint64()})
		}},
		{"internal errors", func() func() {
			return c.fake.Inject(kmsfake.Fault{Code: "KMSInternalException", Probability: 0.5, Seed: mrand.Uint64()})
		}},
		{"throttling", func() func() { c.fake.Throttle(5); return func() { c.fake.Throttle(0) } }},
		{"outage", c.fake.Outage},
	}
	for c.pause(100*time.Millisecond, 800*time.Millisecond) {
		if len(ends) == 2 {
			ends[0]()
			ends = ends[1:]
		}
		if mrand.IntN(3) == 0 { // fair, for a while
			for _, end := range ends {
				end()
			}
			ends = nil
			continue
		}
		k := kinds[mrand.IntN(len(kinds))]
		ends = append(ends, k.f())
		c.count(k.name)
	}
}

// kills kills a process now and then, and starts another one in its place.
func (c *chaos) kills() {
	for c.pause(2*time.Second, 6*time.Second) {
		slot := mrand.IntN(len(c.workers))
		c.workers[slot].kill()
		c.lived(c.workers[slot], true)
		c.count("kill -9")
		if !c.pause(time.Millisecond, time.Second) {
			time.Sleep(time.Millisecond)
		}
		c.start(slot)
	}
}

// remember keeps the KMS's log before it drops its oldest entries.
func (c *chaos) remember() {
	calls := c.fake.Calls()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range calls {
		if call.RequestID != "" {
			c.calls[call.RequestID] = call
		}
	}
}

// judge checks what the run left behind.
func (c *chaos) judge(unheard int) {
	t := c.t
	c.windows = c.lawful()
	byTenant := make([][]window, len(c.tenants))
	long := 0
	for _, w := range c.windows {
		byTenant[w.tenant] = append(byTenant[w.tenant], w)
		if time.Duration(w.until-w.from) > chaosMaxAge+100*time.Millisecond {
			long++
		}
	}
	var after, bound, wrong, afterTried, boundTried int
	ops := map[byte]map[byte]int{obsSeal: {}, obsOpen: {}, obsKMS: {}}
	for n, log := range c.logs {
		obs, err := readObservations(log)
		if err != nil {
			t.Fatal(err)
		}
		per := make([][]observation, len(c.tenants))
		for _, o := range obs {
			if int(o.Tenant) >= len(per) {
				t.Fatalf("process %d, %+v: its log is damaged", n, o)
			}
			per[o.Tenant] = append(per[o.Tenant], o)
			ops[o.What][o.Out]++
			if o.Out == outWrong {
				wrong++
			}
		}
		for i, obs := range per {
			bad, tried := afterDenial(obs)
			after, afterTried = after+len(bad), afterTried+tried
			for _, o := range bad[:min(3, len(bad))] {
				t.Errorf("process %d, %s: %+v succeeded after a denial", n, c.tenants[i], o)
			}
			bad, tried = afterBound(obs, byTenant[i], chaosMaxAge)
			bound, boundTried = bound+len(bad), boundTried+tried
			for _, o := range bad[:min(3, len(bad))] {
				t.Errorf("process %d, %s: %+v succeeded after the bound of one of %+v", n, c.tenants[i], o, byTenant[i])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d records opened to something else, or were refused as not sealed here", wrong)
	}
	records, lost := c.openAll()
	db, _ := openStore(t, c.db)
	defer db.Close()
	events, total := eventsWithCalls(t, db)
	bad, matched, unknown := auditMismatches(c.calls, events, c.lives)
	for _, b := range bad[:min(10, len(bad))] {
		t.Error(b)
	}
	seconds := chaosFor.Seconds()
	all := 0
	for _, what := range []byte{obsSeal, obsOpen} {
		for _, n := range ops[what] {
			all += n
		}
	}
	t.Logf("%v, %d processes, %d threads each, %d tenants, MaxAge %v: %d operations (%.0f a second); done to them: %v", *chaosFor, chaosProcesses, chaosThreads, chaosTenants, chaosMaxAge, all, float64(all)/seconds, c.weather)
	for what, name := range []string{"seals", "opens", "KMS requests"} {
		o := ops[byte(what)]
		t.Logf("%s: %d served, %d denied, %d failed, %d wrong", name, o[outServed], o[outDenied], o[outFailed], o[outWrong])
	}
	t.Logf("successes after an observed denial in the same process: %d of %d tried", after, afterTried)
	t.Logf("successes after the bound, anywhere: %d of %d tried, in %d of %d times of denial", bound, boundTried, long, len(c.windows))
	t.Logf("acknowledged records: %d; lost: %d", records, lost)
	t.Logf("audit: %d events, %d with KMS calls; %d requests match one to one, %d whose answer or event a fault or a kill took; mismatches: %d; events that the sink refused: %d", total, len(events), matched, unknown, len(bad), unheard)
	if s := int(seconds); afterTried < 50*s || boundTried < 10*s || records < 2*s || matched < s || ops[obsOpen][outServed] < 20*s || c.weather["kill -9"] == 0 || long == 0 {
		t.Errorf("too little was going on: this test could pass on nothing")
	}
}

// lawful leaves out times in which only Decrypt was denied and a data key was
// made: GenerateDataKey is a proof, and was permitted.
func (c *chaos) lawful() (out []window) {
	const margin = int64(100 * time.Millisecond)
	for _, w := range c.windows {
		ok := true
		for _, call := range c.calls {
			at := call.Time.UnixNano()
			if w.kind == "deny Decrypt alone" && call.Operation == "GenerateDataKey" && call.Code == "" && call.KeyARN == c.cmks[w.tenant].ARN() && at > w.from-margin && at < w.until+margin {
				ok = false
				break
			}
		}
		if ok {
			out = append(out, w)
		}
	}
	return out
}

// nowhere is a sink for what is not to be counted.
type nowhere struct{}

func (nowhere) Record(context.Context, byok.Event) error { return nil }

// openAll opens every acknowledged record in a process that has seen nothing yet.
func (c *chaos) openAll() (records, lost int) {
	t := c.t
	db, store := openStore(t, c.db)
	defer db.Close()
	keys, err := awskms.NewFromClient(c.fake.Client(platformRole), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := byok.New(chaosService, keys, store, nowhere{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for _, file := range c.ledgers {
		for _, r := range readLedger(file) {
			records++
			plain, err := k.Open(t.Context(), byok.Scope{Tenant: r.Tenant, Purpose: r.Purpose}, r.Sealed, []byte(r.AAD))
			if err != nil || string(plain) != r.Plain {
				if lost++; lost <= 5 {
					t.Errorf("a record of %s in %s is lost: %v", r.Tenant, filepath.Base(file), err)
				}
			}
		}
	}
	return records, lost
}
