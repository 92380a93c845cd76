package integration

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// One process of four has got a wrong role. It is refused, and says so to the
// others, which cannot know that it is not the key: they ask KMS themselves, at
// most once for each data key and back-off step, and go on without one failure.
// When its role is right again, it recovers by itself.
func TestProcessWithAWrongRole(t *testing.T) {
	const (
		wrongRole = "arn:aws:iam::777788889999:role/byok-reporting"
		maxAge    = time.Minute // no renewals in this test: what KMS is asked, it is asked for the hints
		wrongFor  = 8 * time.Second
		steps     = 5 // of a back-off of 1, 2, 4 ... s that begin within wrongFor, and one for a wrong guess of when
	)
	c := newChaos(t)
	begin := func(n int, role string, others ...string) workerConfig {
		cfg := workerConfig{DB: c.db, KMS: c.url, AccessKey: fmt.Sprintf("AKIAROLE%04d", n), Service: chaosService, Tenants: c.tenants, MaxAge: maxAge, Threads: 2,
			Pause: 5 * time.Millisecond, Log: filepath.Join(c.dir, fmt.Sprintf("log-%d", n)), Ledger: filepath.Join(c.dir, fmt.Sprintf("ledger-%d", n)), Others: others}
		c.fake.RegisterAccessKey(cfg.AccessKey, role)
		c.workers[n] = startWorker(t, cfg)
		return cfg
	}
	var configs []workerConfig
	for n := range 3 {
		configs = append(configs, begin(n, platformRole))
	}
	time.Sleep(3 * time.Second) // every data key is made, and every process has it
	before := c.callsBy()
	wrongFrom := c.clock.now()
	wrong := begin(3, wrongRole, configs[0].Ledger)
	time.Sleep(wrongFor)
	c.fake.RegisterAccessKey(wrong.AccessKey, platformRole)
	right := c.clock.now()
	after := c.callsBy()
	time.Sleep(wrongFor + 3*time.Second) // the next step, and a call
	for _, w := range c.workers {
		if end := w.stop(); len(end.Leaked) > 0 || end.AuditFailures > 0 {
			t.Errorf("%d goroutines left, %d events refused", len(end.Leaked), end.AuditFailures)
		}
	}

	limit := steps * len(workerPurposes) * len(c.tenants)
	for n, cfg := range configs {
		obs, err := readObservations(cfg.Log)
		if err != nil {
			t.Fatal(err)
		}
		served, not := 0, 0
		for _, o := range obs {
			switch {
			case o.What == obsKMS:
			case o.Out == outServed:
				served++
			default:
				not++
			}
		}
		if not > 0 || served < 1000 {
			t.Errorf("process %d, with the right role: %d operations served, %d not", n, served, not)
		}
		asked := after[cfg.AccessKey] - before[cfg.AccessKey]
		if asked > limit {
			t.Errorf("process %d, with the right role, asked KMS %d times in %v, more than %d", n, asked, wrongFor, limit)
		}
		t.Logf("process %d, with the right role: %d operations served, %d not; %d KMS requests in %v beside a process with a wrong one (limit %d)", n, served, not, asked, wrongFor, limit)
	}

	obs, err := readObservations(wrong.Log)
	if err != nil {
		t.Fatal(err)
	}
	denied, early, first := 0, 0, map[byte]int64{}
	for _, o := range obs {
		switch {
		case o.What == obsKMS:
		case o.Out == outDenied && o.Completed < right:
			denied++
		case o.Out == outServed && o.Completed < right:
			early++
		case o.Out == outServed && first[o.Tenant] == 0:
			first[o.Tenant] = o.Completed
		}
	}
	if denied < 100 || early > 0 {
		t.Errorf("the process with the wrong role: %d operations denied, %d served", denied, early)
	}
	for i, id := range c.tenants {
		if first[byte(i)] == 0 {
			t.Errorf("the process with the wrong role did not recover for %s", id)
			continue
		}
		t.Logf("the process with the wrong role, for %v: served %s again %v after the role was right", time.Duration(right-wrongFrom).Round(time.Second), id, time.Duration(first[byte(i)]-right).Round(time.Millisecond))
	}
}

// callsBy counts the KMS's calls by access key id.
func (c *chaos) callsBy() map[string]int {
	by := map[string]int{}
	for _, call := range c.fake.Calls() {
		by[call.AccessKeyID]++
	}
	return by
}
