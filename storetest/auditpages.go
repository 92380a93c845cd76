package storetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/byok-go/byok"
)

var orderCases = []auditCase{
	{"newest first, whatever the order of arrival", true, func(a *audit) {
		const n = 60
		for i := range n {
			a.record(event((i * 37) % n))
		}
		a.want("t", byok.AuditQuery{}, ids(0, n))
		a.want("t", byok.AuditQuery{Limit: 7}, ids(0, n))
	}},
	{"events of the same time by id", true, func(a *audit) {
		order := []string{"-", "0", "10", "2", "A", "Z", "_", "a", "a!", "aa", "b", "z", "~"}
		for i := range order {
			e := event(5)
			e.ID = order[(i*5)%len(order)]
			a.record(e)
		}
		a.record(event(4), event(6))
		want := slices.Concat([]string{event(6).ID}, reversed(order), []string{event(4).ID})
		a.want("t", byok.AuditQuery{}, want)
		a.want("t", byok.AuditQuery{Limit: 1}, want)
		a.want("t", byok.AuditQuery{Limit: 4}, want)
	}},
	{"times far apart", true, func(a *audit) {
		times := []time.Time{
			time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Unix(0, 0), time.Unix(0, 1), time.Unix(999999999, 999999999),
			time.Unix(1000000000, 0), base, base.Add(1), base.Add(time.Microsecond), base.Add(time.Second), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		}
		var order []string
		for i, at := range times {
			e := event(i)
			e.ID, e.Time = fmt.Sprintf("%d", 9-i), at.UTC() // ids go the other way
			a.record(e)
			order = append(order, e.ID)
		}
		a.want("t", byok.AuditQuery{}, reversed(order))
		a.want("t", byok.AuditQuery{Limit: 3}, reversed(order))
		a.want("t", byok.AuditQuery{Start: time.Unix(0, 0), End: base.Add(1)}, reversed(order[1:6]))
	}},
	{"an instant is the same in every zone", true, func(a *audit) {
		west := time.FixedZone("west", -7*3600)
		for n := range 6 {
			e := event(n)
			if n%2 == 0 {
				e.Time = e.Time.In(west)
			}
			a.record(e)
		}
		a.want("t", byok.AuditQuery{}, ids(0, 6))
		a.want("t", byok.AuditQuery{Start: event(2).Time.In(west), End: event(5).Time.In(west)}, ids(2, 5))
	}},
}

func reversed(s []string) []string {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

var pageCases = []auditCase{
	{"the zero query is the newest 100", true, func(a *audit) {
		a.seed(0, 150, nil)
		p := a.page("t", byok.AuditQuery{})
		if len(p.Events) != 100 || p.Events[0].ID != event(149).ID || p.NextCursor == "" || p.Total != 150 {
			a.Fatalf("%d events, cursor %q, total %d", len(p.Events), p.NextCursor, p.Total)
		}
		p = a.page("t", byok.AuditQuery{Cursor: p.NextCursor})
		if len(p.Events) != 50 || p.Events[0].ID != event(49).ID || p.NextCursor != "" || p.Total != 150 {
			a.Fatalf("second page: %d events, cursor %q, total %d", len(p.Events), p.NextCursor, p.Total)
		}
	}},
	{"pages of every size", true, func(a *audit) {
		a.seed(0, 60, nil)
		for _, limit := range []int{1, 2, 7, 20, 59, 60, 61, 1000} {
			want := (60 + limit - 1) / limit // no empty page at the end
			if pages := a.want("t", byok.AuditQuery{Limit: limit}, ids(0, 60)); pages != want {
				a.Fatalf("%d pages of %d events with limit %d, want %d", pages, 60, limit, want)
			}
		}
	}},
	{"limits of a query", true, func(a *audit) {
		a.record(event(1))
		for _, limit := range []int{-1, 1001, math.MaxInt, math.MinInt} {
			a.argument(fmt.Sprint("limit ", limit), byok.AuditQuery{Limit: limit})
		}
		a.want("t", byok.AuditQuery{Limit: 1000}, ids(1, 2))
	}},
	{"a page of 1000", true, func(a *audit) {
		a.seed(0, 1001, nil)
		p := a.page("t", byok.AuditQuery{Limit: 1000})
		if len(p.Events) != 1000 || p.NextCursor == "" || p.Total != 1001 {
			a.Fatalf("%d events, cursor %q, total %d", len(p.Events), p.NextCursor, p.Total)
		}
	}},
	{"cursors that no page gave", true, func(a *audit) {
		a.seed(0, 5, nil)
		real := a.page("t", byok.AuditQuery{Limit: 2}).NextCursor
		bad := []string{"x", "!", " ", "0", "-1", "null", "%", "\x00", "\xff", strings.Repeat("A", 1<<16), real + real, real + "\n", "\n" + real, real[:len(real)/2], real[:len(real)-1], real[1:]}
		for _, c := range bad {
			a.argument(fmt.Sprintf("cursor %.40q", c), byok.AuditQuery{Limit: 2, Cursor: c})
		}
	}},
	{"a cursor of another tenant shows nothing of it", true, func(a *audit) {
		for n := range 6 {
			e := event(n)
			e.Scope.Tenant = []string{"t", "u"}[n%2]
			a.record(e)
		}
		cursor := a.page("u", byok.AuditQuery{Limit: 1}).NextCursor
		// Refusing it is better, but this is what matters.
		if p, err := a.Events(a.ctx, "t", byok.AuditQuery{Cursor: cursor}); err == nil {
			for _, e := range p.Events {
				if e.Scope.Tenant != "t" {
					a.Fatalf("an event of %q", e.Scope.Tenant)
				}
			}
		}
	}},
	{"a cursor does not mind new events", true, func(a *audit) {
		a.seed(0, 30, nil)
		next := 30
		got, _ := a.walk("t", byok.AuditQuery{Limit: 4}, func(byok.AuditPage) {
			for range 3 {
				a.record(event(next))
				next++
			}
		})
		if !slices.Equal(got, ids(0, 30)) {
			a.Fatalf("pages while events arrived: %s", few(got))
		}
	}},
	{"late events are on later pages", true, func(a *audit) {
		a.seed(10, 20, nil)
		p := a.page("t", byok.AuditQuery{Limit: 5})
		a.record(event(3), event(25))
		a.want("t", byok.AuditQuery{}, slices.Concat(ids(25, 26), ids(10, 20), ids(3, 4)))
		got, _ := a.walk("t", byok.AuditQuery{Limit: 5, Cursor: p.NextCursor}, nil)
		if want := slices.Concat(ids(10, 15), ids(3, 4)); !slices.Equal(got, want) {
			a.Fatalf("pages after the cursor: %q, want %q", got, want)
		}
	}},
	{"cursors under concurrent appends", true, func(a *audit) {
		const n = 120
		a.seed(0, n, nil)
		stop := make(chan struct{})
		parallel(a, 5, func(g int) error {
			if g == 0 {
				defer close(stop)
				for range 8 {
					got, _ := a.quietWalk(byok.AuditQuery{Limit: 7})
					got = slices.DeleteFunc(got, func(id string) bool { return id > event(n-1).ID })
					if !slices.Equal(got, ids(0, n)) {
						return fmt.Errorf("pages while events arrived: %s", few(got))
					}
				}
				return nil
			}
			for i := n + g; i < 5*n; i += 4 { // an end: what records faster than it is read has none
				select {
				case <-stop:
					return nil
				default:
				}
				if err := a.Record(a.ctx, event(i)); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		})
	}},
	{"a cursor keeps its filters", true, func(a *audit) {
		a.seed(0, 40, func(n int, e *byok.Event) {
			if n%2 == 0 {
				e.Op = byok.OpOpen
			}
		})
		var want []string
		for n := 28; n >= 10; n -= 2 {
			want = append(want, event(n).ID)
		}
		a.want("t", byok.AuditQuery{Limit: 3, Op: byok.OpOpen, Start: event(9).Time, End: event(30).Time}, want)
	}},
}

// quietWalk is walk for goroutines, which must not end the test.
func (a *audit) quietWalk(q byok.AuditQuery) (got []string, err error) {
	for {
		p, err := a.Events(a.ctx, "t", q)
		if err != nil {
			return got, err
		}
		for _, e := range p.Events {
			got = append(got, e.ID)
		}
		if p.NextCursor == "" || len(got) > 1_000_000 {
			return got, nil
		}
		q.Cursor = p.NextCursor
	}
}
