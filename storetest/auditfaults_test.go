package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

// auditFailures runs the cases that are named, or all, and returns what they say.
func auditFailures(t *testing.T, open func() byok.AuditSink, only ...string) map[string]string {
	failures := make(map[string]string)
	for _, c := range auditCases {
		if len(only) > 0 && !slices.Contains(only, c.name) {
			continue
		}
		if m := failure(t, func(t tb) { c.run(newAudit(t, open())) }); m != "" {
			failures[c.name] = m
		}
	}
	return failures
}

func TestAuditSuiteAcceptsMemAudit(t *testing.T) {
	for name, message := range auditFailures(t, func() byok.AuditSink { return new(byok.MemAudit) }) {
		t.Errorf("%s: %s", name, message)
	}
}

// A sink without a reader runs the cases that need none.
func TestAuditSuiteAcceptsSinkOnly(t *testing.T) {
	type sinkOnly struct{ byok.AuditSink }
	TestAudit(t, func(*testing.T) byok.AuditSink { return sinkOnly{new(byok.MemAudit)} })
}

// faultyAudit is a simple sink, right unless a field makes it wrong.
type faultyAudit struct {
	mu     sync.Mutex
	events []byok.Event
	seen   map[string]byok.Event

	known  func(old, e byok.Event) bool
	keep   func(e byok.Event) byok.Event
	out    func(e byok.Event) byok.Event
	tenant func(of, asked string) bool
	match  func(e byok.Event, q byok.AuditQuery) bool
	order  func(a, b byok.Event) int
	after  func(e byok.Event, at time.Time, id string) bool // e is on a page after the cursor
	total  func(all, page int) int
	limit  func(n int) int
	record func(ctx context.Context, f *faultyAudit, e byok.Event) error
	alter  func(p *byok.AuditPage, q *byok.AuditQuery)
	offset bool // cursors are offsets
}

func clone(e byok.Event) byok.Event { e.Calls = slices.Clone(e.Calls); return e }

func newFaultyAudit(break_ func(f *faultyAudit)) *faultyAudit {
	f := &faultyAudit{
		seen:   make(map[string]byok.Event),
		known:  func(old, e byok.Event) bool { return true },
		keep:   func(e byok.Event) byok.Event { e = clone(e); e.Time = e.Time.UTC(); return e },
		out:    clone,
		tenant: func(of, asked string) bool { return of == asked },
		match: func(e byok.Event, q byok.AuditQuery) bool {
			return (q.Op == "" || e.Op == q.Op) && (q.Start.IsZero() || !e.Time.Before(q.Start)) && (q.End.IsZero() || e.Time.Before(q.End))
		},
		order: func(a, b byok.Event) int { return cmp.Or(b.Time.Compare(a.Time), strings.Compare(b.ID, a.ID)) },
		after: func(e byok.Event, at time.Time, id string) bool {
			return e.Time.Before(at) || e.Time.Equal(at) && e.ID < id
		},
		total: func(all, page int) int {
			if all > byok.AuditTotalLimit {
				return -1
			}
			return all
		},
		limit:  func(n int) int { return n },
		record: func(_ context.Context, f *faultyAudit, e byok.Event) error { f.plainRecord(e); return nil },
		alter:  func(*byok.AuditPage, *byok.AuditQuery) {},
	}
	break_(f)
	return f
}

func (f *faultyAudit) Record(ctx context.Context, e byok.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.record(ctx, f, e)
}

func (f *faultyAudit) plainRecord(e byok.Event) {
	if old, ok := f.seen[e.ID]; ok && f.known(old, e) {
		return
	}
	f.seen[e.ID] = e
	f.events = append(f.events, f.keep(e))
}

func (f *faultyAudit) Events(ctx context.Context, tenant string, q byok.AuditQuery) (p byok.AuditPage, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alter(&p, &q)
	bad := fmt.Errorf("%w: query", byok.ErrArgument)
	if q.Limit < 0 || q.Limit > 1000 {
		return p, bad
	}
	if q.Limit == 0 {
		q.Limit = 100
	}
	q.Limit = f.limit(q.Limit)
	var all []byok.Event
	for _, e := range f.events {
		if f.tenant(e.Scope.Tenant, tenant) && f.match(e, q) {
			all = append(all, f.out(e))
		}
	}
	slices.SortStableFunc(all, f.order)
	n := len(all)
	skipped := 0
	if q.Cursor != "" {
		nano, id, ok := strings.Cut(q.Cursor, "/")
		at, err := strconv.ParseInt(nano, 10, 64)
		// A length, so that a cursor cut short is seen.
		id, size, ok2 := strings.Cut(id, "/")
		if err != nil || len(nano) != 20 || !ok || !ok2 || strconv.Itoa(len(id)) != size {
			return p, bad
		}
		if f.offset {
			skipped, _ = strconv.Atoi(id)
			all = all[min(skipped, len(all)):]
		} else {
			all = slices.DeleteFunc(all, func(e byok.Event) bool { return !f.after(e, time.Unix(0, at), id) })
		}
	}
	p.Events = all[:min(q.Limit, len(all))]
	if len(all) > q.Limit {
		last := p.Events[len(p.Events)-1]
		id := last.ID
		if f.offset {
			id = strconv.Itoa(skipped + q.Limit)
		}
		p.NextCursor = fmt.Sprintf("%020d/%s/%d", last.Time.UnixNano(), id, len(id))
	}
	p.Total = f.total(n, len(p.Events))
	return p, nil
}

func TestAuditSuiteAcceptsThePlainSink(t *testing.T) {
	for name, message := range auditFailures(t, func() byok.AuditSink { return newFaultyAudit(func(*faultyAudit) {}) }) {
		t.Errorf("%s: %s", name, message)
	}
}

func TestAuditSuiteDetectsFaults(t *testing.T) {
	faults := []struct {
		name, by string
		break_   func(f *faultyAudit)
	}{
		{"repeats are kept", "an event is recorded once", func(f *faultyAudit) { f.known = func(old, e byok.Event) bool { return false } }},
		{"repeats replace", "the first delivery stays", func(f *faultyAudit) {
			f.record = func(_ context.Context, f *faultyAudit, e byok.Event) error {
				f.events = slices.DeleteFunc(f.events, func(o byok.Event) bool { return o.ID == e.ID })
				f.events = append(f.events, f.keep(e))
				return nil
			}
		}},
		{"only the same content is a repeat", "the first delivery stays", func(f *faultyAudit) {
			f.known = func(old, e byok.Event) bool { return old.Time.Equal(e.Time) }
		}},
		{"acknowledges and drops when ctx is done", "Record with a ctx that is done", func(f *faultyAudit) {
			f.record = func(ctx context.Context, f *faultyAudit, e byok.Event) error {
				if ctx.Err() == nil {
					f.plainRecord(e)
				}
				return nil
			}
		}},
		{"drops every hundredth", "32 deliver different events", func(f *faultyAudit) {
			n := 0
			f.record = func(_ context.Context, f *faultyAudit, e byok.Event) error {
				if n++; n%100 != 0 {
					f.plainRecord(e)
				}
				return nil
			}
		}},
		{"keeps the newest 1000", "total is exact up to 10 000, and -1 beyond", func(f *faultyAudit) {
			f.record = func(_ context.Context, f *faultyAudit, e byok.Event) error {
				f.plainRecord(e)
				f.events = f.events[max(0, len(f.events)-1000):]
				return nil
			}
		}},
		{"oldest first", "newest first, whatever the order of arrival", func(f *faultyAudit) {
			f.order = func(a, b byok.Event) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID)) }
			f.after = func(e byok.Event, at time.Time, id string) bool {
				return e.Time.After(at) || e.Time.Equal(at) && e.ID > id
			}
		}},
		{"by id only", "times far apart", func(f *faultyAudit) {
			f.order = func(a, b byok.Event) int { return strings.Compare(b.ID, a.ID) }
			f.after = func(e byok.Event, at time.Time, id string) bool { return e.ID < id }
		}},
		{"ids without case", "events of the same time by id", func(f *faultyAudit) {
			f.order = func(a, b byok.Event) int {
				return cmp.Or(b.Time.Compare(a.Time), strings.Compare(strings.ToLower(b.ID), strings.ToLower(a.ID)))
			}
		}},
		{"cursors without ids", "events of the same time by id", func(f *faultyAudit) {
			f.after = func(e byok.Event, at time.Time, id string) bool { return e.Time.Before(at) }
		}},
		{"cursors repeat", "pages of every size", func(f *faultyAudit) {
			f.after = func(e byok.Event, at time.Time, id string) bool { return !e.Time.After(at) }
		}},
		{"cursors are offsets", "a cursor does not mind new events", func(f *faultyAudit) { f.offset = true }},
		{"any cursor", "cursors that no page gave", func(f *faultyAudit) {
			f.alter = func(p *byok.AuditPage, q *byok.AuditQuery) {
				if strings.Count(q.Cursor, "/") != 2 {
					q.Cursor = ""
				}
			}
		}},
		{"cursors forget filters", "a cursor keeps its filters", func(f *faultyAudit) {
			f.alter = func(p *byok.AuditPage, q *byok.AuditQuery) {
				if q.Cursor != "" {
					q.Op = ""
				}
			}
		}},
		{"any limit", "limits of a query", func(f *faultyAudit) {
			f.alter = func(p *byok.AuditPage, q *byok.AuditQuery) { q.Limit = min(max(q.Limit, 0), 1000) }
		}},
		{"at most 500 a page", "a page of 1000", func(f *faultyAudit) { f.limit = func(n int) int { return min(n, 500) } }},
		{"one too many", "pages of every size", func(f *faultyAudit) { f.limit = func(n int) int { return n + 1 } }},
		{"end is inclusive", "start is inclusive and end exclusive", func(f *faultyAudit) {
			m := f.match
			f.match = func(e byok.Event, q byok.AuditQuery) bool {
				if !q.End.IsZero() {
					q.End = q.End.Add(1)
				}
				return m(e, q)
			}
		}},
		{"start is exclusive", "start is inclusive and end exclusive", func(f *faultyAudit) {
			m := f.match
			f.match = func(e byok.Event, q byok.AuditQuery) bool {
				if !q.Start.IsZero() {
					q.Start = q.Start.Add(1)
				}
				return m(e, q)
			}
		}},
		{"any operation", "by operation", func(f *faultyAudit) {
			m := f.match
			f.match = func(e byok.Event, q byok.AuditQuery) bool { q.Op = ""; return m(e, q) }
		}},
		{"operations without case", "by operation", func(f *faultyAudit) {
			m := f.match
			f.match = func(e byok.Event, q byok.AuditQuery) bool {
				q.Op = byok.Op(strings.ToLower(string(q.Op)))
				return m(e, q)
			}
		}},
		{"total of the page", "total is of all pages", func(f *faultyAudit) { f.total = func(all, page int) int { return page } }},
		{"total without end", "total is exact up to 10 000, and -1 beyond", func(f *faultyAudit) { f.total = func(all, page int) int { return all } }},
		{"total of 10 000 is too much", "total is exact up to 10 000, and -1 beyond", func(f *faultyAudit) {
			f.total = func(all, page int) int {
				if all >= byok.AuditTotalLimit {
					return -1
				}
				return all
			}
		}},
		{"tenants without case", "tenants see only their own", func(f *faultyAudit) { f.tenant = strings.EqualFold }},
		{"tenants by prefix", "tenants see only their own", func(f *faultyAudit) {
			f.tenant = func(of, asked string) bool { return strings.HasPrefix(of, asked) }
		}},
		{"tenants by pattern", "tenants see only their own", func(f *faultyAudit) {
			f.tenant = func(of, asked string) bool {
				p, ok := strings.CutSuffix(asked, "%")
				return of == asked || ok && strings.HasPrefix(of, p)
			}
		}},
		{"microseconds", "newest first, whatever the order of arrival", func(f *faultyAudit) {
			f.keep = func(e byok.Event) byok.Event { e.Time = e.Time.Truncate(time.Microsecond); return clone(e) }
			f.order = func(a, b byok.Event) int { return b.Time.Compare(a.Time) }
		}},
		{"local time", "an event is copied in and out", func(f *faultyAudit) {
			f.out = func(e byok.Event) byok.Event { e = clone(e); e.Time = e.Time.In(time.FixedZone("x", 3600)); return e }
		}},
		{"no calls", "every field comes back", func(f *faultyAudit) {
			f.keep = func(e byok.Event) byok.Event { e.Calls = nil; return e }
		}},
		{"no reason", "every field comes back", func(f *faultyAudit) {
			f.keep = func(e byok.Event) byok.Event { e.Reason = ""; return clone(e) }
		}},
		{"signed versions", "every field comes back", func(f *faultyAudit) {
			f.keep = func(e byok.Event) byok.Event { e.Version &= 1<<63 - 1; return clone(e) }
		}},
		{"texts are cleaned", "texts are data", func(f *faultyAudit) {
			f.keep = func(e byok.Event) byok.Event { e.Reason = strings.TrimSpace(e.Reason); return clone(e) }
		}},
		{"aliased in", "an event is copied in and out", func(f *faultyAudit) { f.keep = func(e byok.Event) byok.Event { return e } }},
		{"aliased out", "an event is copied in and out", func(f *faultyAudit) { f.out = func(e byok.Event) byok.Event { return e } }},
	}
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			detected(t, c.by, auditFailures(t, func() byok.AuditSink { return newFaultyAudit(c.break_) }, c.by))
		})
	}
	t.Logf("%d faults", len(faults))
}
