package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/google/go-cmp/cmp"
)

// TestAudit checks the contract of byok.AuditSink, and that of byok.AuditReader
// if the sink is one. open is called once to find that out, and once for each
// case; it returns a sink without events.
func TestAudit(t *testing.T, open func(t *testing.T) byok.AuditSink) {
	_, reads := open(t).(byok.AuditReader)
	n := 0
	for _, c := range auditCases {
		if c.reads && !reads {
			continue
		}
		n++
		t.Run(c.name, func(t *testing.T) { c.run(newAudit(t, open(t))) })
	}
	t.Logf("storetest: %d cases of AuditSink and AuditReader", n)
}

// TestSharedAudit checks what holds between handles on the same log, as
// TestSharedStore does for items. The sinks must be byok.AuditReaders.
func TestSharedAudit(t *testing.T, data func(t *testing.T) (open func(t *testing.T) byok.AuditSink)) {
	for _, c := range sharedAuditCases {
		t.Run(c.name, func(t *testing.T) {
			open := data(t)
			c.run(t, func() *audit {
				a := newAudit(t, open(t))
				if a.AuditReader == nil {
					t.Fatal("the sink is not an AuditReader")
				}
				return a
			})
		})
	}
	t.Logf("storetest: %d cases of a shared AuditSink", len(sharedAuditCases))
}

type auditCase struct {
	name  string
	reads bool // needs an AuditReader
	run   func(a *audit)
}

// auditCases is every case of TestAudit.
var auditCases = slices.Concat(sinkCases, orderCases, pageCases, filterCases, fieldCases)

// audit is an AuditSink under test.
type audit struct {
	tb
	byok.AuditSink
	byok.AuditReader // nil if it is none
	ctx              context.Context
}

func newAudit(t tb, s byok.AuditSink) *audit {
	r, _ := s.(byok.AuditReader)
	return &audit{tb: t, AuditSink: s, AuditReader: r, ctx: t.Context()}
}

// base is when the first event of each case happened.
var base = time.Date(2026, 3, 29, 1, 59, 59, 123456789, time.UTC)

// event is one of tenant "t", n nanoseconds after base.
func event(n int) byok.Event {
	return byok.Event{
		ID: fmt.Sprintf("e%07d", n), Time: base.Add(time.Duration(n)),
		Op: byok.OpSeal, Outcome: byok.OutcomeSuccess, Scope: byok.Scope{Tenant: "t"},
	}
}

// ids returns those of events from..to-1, newest first.
func ids(from, to int) (s []string) {
	for n := to - 1; n >= from; n-- {
		s = append(s, event(n).ID)
	}
	return s
}

func (a *audit) record(events ...byok.Event) {
	a.Helper()
	for _, e := range events {
		if err := a.Record(a.ctx, e); err != nil {
			a.Fatalf("Record: %v", err)
		}
	}
}

// seed records the events from..to-1 from many goroutines, which a sink that commits
// in groups takes in its stride.
func (a *audit) seed(from, to int, change func(n int, e *byok.Event)) {
	a.Helper()
	var n atomic.Int64
	n.Store(int64(from))
	parallel(a, 256, func(int) error {
		for {
			i := int(n.Add(1)) - 1
			if i >= to {
				return nil
			}
			e := event(i)
			if change != nil {
				change(i, &e)
			}
			if err := a.Record(a.ctx, e); err != nil {
				return err
			}
		}
	})
}

func (a *audit) page(tenant string, q byok.AuditQuery) byok.AuditPage {
	a.Helper()
	p, err := a.Events(a.ctx, tenant, q)
	if err != nil {
		a.Fatalf("Events of %q: %v", tenant, err)
	}
	limit := q.Limit
	if limit == 0 {
		limit = 100
	}
	if len(p.Events) > limit {
		a.Fatalf("a page of %d events, limit %d", len(p.Events), limit)
	}
	for _, e := range p.Events {
		if e.Scope.Tenant != tenant {
			a.Fatalf("Events of %q returned one of %q", tenant, e.Scope.Tenant)
		}
	}
	return p
}

// want checks ids and Total of all pages of a query; it returns how many there are.
func (a *audit) want(tenant string, q byok.AuditQuery, want []string) (pages int) {
	a.Helper()
	got, pages := a.walk(tenant, q, nil)
	if !slices.Equal(got, want) {
		a.Fatalf("Events of %q, %+v: %s, want %s", tenant, q, few(got), few(want))
	}
	if total := a.page(tenant, q).Total; total != len(want) {
		a.Fatalf("Total of %q, %+v is %d, want %d", tenant, q, total, len(want))
	}
	return pages
}

// walk returns the ids on all pages, with between called after each.
func (a *audit) walk(tenant string, q byok.AuditQuery, between func(p byok.AuditPage)) (got []string, pages int) {
	a.Helper()
	for {
		p := a.page(tenant, q)
		pages++
		for _, e := range p.Events {
			got = append(got, e.ID)
		}
		if between != nil {
			between(p)
		}
		if p.NextCursor == "" {
			return got, pages
		}
		if len(p.Events) == 0 || p.NextCursor == q.Cursor || pages > 5000 {
			a.Fatal("a page that leads nowhere")
		}
		q.Cursor = p.NextCursor
	}
}

func few(ids []string) string {
	if len(ids) <= 12 {
		return fmt.Sprintf("%q", ids)
	}
	return fmt.Sprintf("%d ids, %q ... %q", len(ids), ids[:5], ids[len(ids)-5:])
}

func (a *audit) argument(what string, q byok.AuditQuery) {
	a.Helper()
	p, err := a.Events(a.ctx, "t", q)
	if !errors.Is(err, byok.ErrArgument) {
		a.Fatalf("%s: %d events and %v, want ErrArgument", what, len(p.Events), err)
	}
}

var sinkCases = []auditCase{
	{"an event is there when Record returns", true, func(a *audit) {
		for n := range 20 {
			a.record(event(n))
			a.want("t", byok.AuditQuery{}, ids(0, n+1))
		}
	}},
	{"an event is recorded once", false, func(a *audit) {
		for range 3 {
			a.record(event(1), event(2))
		}
		if a.AuditReader != nil {
			a.want("t", byok.AuditQuery{}, ids(1, 3))
		}
	}},
	{"the first delivery stays", true, func(a *audit) {
		a.record(event(1))
		other := event(1)
		other.Reason, other.Outcome, other.Time = "changed", byok.OutcomeFailure, base.Add(time.Hour)
		a.record(other)
		got := a.page("t", byok.AuditQuery{}).Events
		if diff := cmp.Diff([]byok.Event{event(1)}, got); diff != "" {
			a.Fatalf("a repeated id changed the event (-want +got):\n%s", diff)
		}
	}},
	{"32 deliver the same events", false, func(a *audit) {
		parallel(a, racers, func(int) error {
			for n := range 20 {
				if err := a.Record(a.ctx, event(n)); err != nil {
					return err
				}
			}
			return nil
		})
		if a.AuditReader != nil {
			a.want("t", byok.AuditQuery{}, ids(0, 20))
		}
	}},
	{"32 deliver different events", false, func(a *audit) {
		parallel(a, racers, func(i int) error {
			for n := range 40 {
				if err := a.Record(a.ctx, event(i*40+n)); err != nil {
					return err
				}
			}
			return nil
		})
		if a.AuditReader != nil {
			a.want("t", byok.AuditQuery{Limit: 1000}, ids(0, racers*40))
		}
	}},
	{"Record with a ctx that is done", false, func(a *audit) {
		ctx, cancel := context.WithCancel(a.ctx)
		cancel()
		var err error
		soon(a, "Record", func() { err = a.Record(ctx, event(1)) })
		a.record(event(2))
		if err == nil && a.AuditReader != nil {
			a.want("t", byok.AuditQuery{}, ids(1, 3))
		}
	}},
	{"one that leaves does not fail the others", false, func(a *audit) {
		parallel(a, racers, func(i int) error {
			for n := range 20 {
				ctx, cancel := context.WithCancel(a.ctx)
				if i%2 == 1 { // these leave at once, or nearly
					time.AfterFunc(time.Duration(n)*20*time.Microsecond, cancel)
				}
				err := a.Record(ctx, event(i*20+n))
				cancel()
				if err != nil && i%2 == 0 {
					return fmt.Errorf("failed for another one's ctx: Record: %w", err)
				}
			}
			return nil
		})
		if a.AuditReader == nil {
			return
		}
		got, _ := a.walk("t", byok.AuditQuery{Limit: 1000}, nil)
		for i := 0; i < racers; i += 2 {
			for n := range 20 {
				if !slices.Contains(got, event(i*20+n).ID) {
					a.Fatal("an acknowledged event is not there")
				}
			}
		}
	}},
	{"Events with a ctx that is done", true, func(a *audit) {
		a.record(event(1))
		ctx, cancel := context.WithCancel(a.ctx)
		cancel()
		soon(a, "Events", func() { _, _ = a.Events(ctx, "t", byok.AuditQuery{}) })
	}},
}
