package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
)

// writesCounted counts what reaches a Store.
type writesCounted struct {
	byok.Store
	mu           sync.Mutex
	calls, items int
}

func (c *writesCounted) Apply(ctx context.Context, w ...byok.Item) error {
	c.mu.Lock()
	c.calls++
	c.items += len(w)
	c.mu.Unlock()
	return c.Store.Apply(ctx, w...)
}

// TestCapacity measures what docs/operations.md says of items, bytes and writes. Its
// bounds are a little wider than what was measured, so that it tells when that is no
// longer true.
func TestCapacity(t *testing.T) {
	const tenants, purposes, generations = 50, 4, 3
	eachDatabase(t, func(t *testing.T, empty func() *site) {
		s := empty()
		db, store, idle := s.open()
		_ = idle.Close()
		keys, err := awskms.NewFromClient(s.fake.Client(platformRole), nil)
		if err != nil {
			t.Fatal(err)
		}
		counted := &writesCounted{Store: store}
		k, err := byok.New(crashService, keys, counted, store, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		type cost struct{ n, calls, items int }
		costs := map[string]*cost{}
		do := func(what string, f func() error) {
			t.Helper()
			calls, items := counted.calls, counted.items
			if err := f(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if costs[what] == nil {
				costs[what] = new(cost)
			}
			costs[what].n++
			costs[what].calls += counted.calls - calls
			costs[what].items += counted.items - items
		}
		seals := 0
		for i := range tenants {
			id := fmt.Sprint("tenant-", i)
			s.newTenant(id)
			tenant := k.Tenant(id)
			do("register", func() error {
				_, err := tenant.Register(t.Context(), byok.Registration{Key: awskms.Key(s.customers[id].cmk)})
				return err
			})
			do("waiver", func() error {
				_, err := tenant.AcknowledgeWaiver(t.Context(), byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true})
				return err
			})
			for g := range generations {
				if g > 0 {
					do("rotate", func() error {
						_, err := tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
						return err
					})
				}
				for p := range purposes {
					for n, what := range []string{"first seal with a data key", "seal"} {
						do(what, func() error {
							_, err := k.Seal(t.Context(), byok.Scope{Tenant: id, Purpose: fmt.Sprint("p", p)}, nil, nil)
							return err
						})
						seals += n
					}
				}
			}
		}
		tell := func(whats ...string) {
			for _, what := range whats {
				c := costs[what]
				t.Logf("%s: %.2f Applies of %.2f items in all", what, float64(c.calls)/float64(c.n), float64(c.items)/float64(c.n))
			}
		}
		tell("register", "waiver", "rotate", "first seal with a data key", "seal")
		if c := costs["seal"]; c.calls > c.n/10 {
			t.Errorf("%d of %d hot seals write to the Store", c.calls, c.n)
		}
		size := map[string]string{
			"sqlite3": "SELECT count(*), sum(length(part) + length(id) + length(value)), (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size) FROM byok_items WHERE part LIKE 'tenant:%'",
			"pgx":     "SELECT count(*), sum(length(part) + length(id) + octet_length(value)), pg_total_relation_size('byok_items') + pg_total_relation_size('byok_events') FROM byok_items WHERE part LIKE 'tenant:%'",
		}[s.driver]
		var items, bytes, disk int
		if err := db.QueryRow(size).Scan(&items, &bytes, &disk); err != nil {
			t.Fatal(err)
		}
		var events int
		var event float64
		if err := db.QueryRow("SELECT count(*), avg(length(event)) FROM byok_events").Scan(&events, &event); err != nil {
			t.Fatal(err)
		}
		t.Logf("an event: %.0f bytes", event)
		const deks = tenants * purposes * generations
		t.Logf("%d tenants with %d data keys each: %.1f items and %.1f KiB a tenant; %.0f bytes an item; on disk, with %d events each, %.1f KiB",
			tenants, deks/tenants, float64(items)/tenants, float64(bytes)/tenants/1024, float64(bytes)/float64(items), events/tenants, float64(disk)/tenants/1024)
		if perDEK := float64(bytes) / deks; perDEK > 3000 {
			t.Errorf("%.0f bytes for each data key", perDEK)
		}
		for id, o := range s.customers {
			if c := costs["move"]; c != nil && c.n == 3 { // they all write the same, and wait for KMS's budget
				break
			}
			tenant := k.Tenant(id)
			do("full rotation", func() error {
				r, err := tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
				return finish(t.Context(), tenant, r.ID, err)
			})
			do("move", func() error {
				job, err := tenant.Move(t.Context(), awskms.Key(o.next), "")
				return finish(t.Context(), tenant, job.ID, err)
			})
		}
		tell("full rotation", "move")
		if c := costs["move"]; c.items > c.n*(2*purposes*generations+25) {
			t.Errorf("%d moves write %d items", c.n, c.items)
		}
	})
}

// finish works at a job, if it was begun.
func finish(ctx context.Context, t *byok.Tenant, id string, err error) error {
	if err != nil {
		return err
	}
	for job, err := range t.RunJob(ctx, id) {
		if err != nil || job.Failed > 0 {
			return fmt.Errorf("%+v: %w", job, err)
		}
	}
	return nil
}

// BenchmarkPostgres is what a server on this machine does, over a socket, with fsync:
// one writer, and 32 at once.
func BenchmarkPostgres(b *testing.B) {
	p := newPostgres(b)
	value := make([]byte, 500)
	for _, writers := range []int{1, 32} {
		h := p.store(b, p.newSchema(b))
		h.db.SetMaxOpenConns(writers)
		h.db.SetMaxIdleConns(writers)
		for name, f := range map[string]func(id string) error{
			"Apply": func(id string) error {
				return h.Apply(b.Context(), byok.Item{Ref: byok.Ref{Partition: "p", ID: id}, Value: value})
			},
			"Record": func(id string) error {
				return h.Record(b.Context(), byok.Event{ID: id, Scope: byok.Scope{Tenant: "t"}})
			},
			"Get": func(string) error {
				if _, err := h.Get(b.Context(), byok.Ref{Partition: "p", ID: "none"}); !errors.Is(err, byok.ErrNotFound) {
					return err
				}
				return nil
			},
		} {
			b.Run(fmt.Sprintf("%s-%d", name, writers), func(b *testing.B) {
				var n atomic.Int64
				var wg sync.WaitGroup
				run := rand.Text()
				for range writers {
					wg.Go(func() {
						for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
							if err := f(fmt.Sprint(run, i)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
			})
		}
	}
}
