package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/byok-go/byok"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var filterCases = []auditCase{
	{"start is inclusive and end exclusive", true, func(a *audit) {
		a.seed(0, 10, nil)
		at := func(n int) time.Time { return event(n).Time }
		for _, c := range []struct {
			start, end time.Time
			from, to   int
		}{
			{at(3), time.Time{}, 3, 10}, {time.Time{}, at(7), 0, 7}, {at(3), at(7), 3, 7}, {at(3), at(4), 3, 4},
			{at(3), at(3), 0, 0}, {at(7), at(3), 0, 0}, {at(10), time.Time{}, 0, 0}, {time.Time{}, at(0), 0, 0},
			{time.Unix(0, 0), at(100), 0, 10}, {at(-1), at(10), 0, 10},
		} {
			a.want("t", byok.AuditQuery{Start: c.start, End: c.end}, ids(c.from, c.to))
			a.want("t", byok.AuditQuery{Start: c.start, End: c.end, Limit: 2}, ids(c.from, c.to))
		}
	}},
	{"by operation", true, func(a *audit) {
		ops := []byok.Op{byok.OpSeal, byok.OpOpen, byok.OpRevoke}
		a.seed(0, 30, func(n int, e *byok.Event) { e.Op = ops[n%3] })
		for i, op := range ops {
			var want []string
			for n := 27 + i; n >= 0; n -= 3 {
				want = append(want, event(n).ID)
			}
			a.want("t", byok.AuditQuery{Op: op}, want)
			a.want("t", byok.AuditQuery{Op: op, Limit: 4}, want)
			a.want("t", byok.AuditQuery{Op: op, Start: event(9).Time, End: event(18).Time}, want[4:7])
		}
		for _, none := range []byok.Op{byok.OpRotate, "SEAL", "sea", "seal ", "%", "s_al", "'"} {
			a.want("t", byok.AuditQuery{Op: none}, nil)
		}
	}},
	{"total is of all pages", true, func(a *audit) {
		a.seed(0, 25, nil)
		a.walk("t", byok.AuditQuery{Limit: 4}, func(p byok.AuditPage) {
			if p.Total != 25 {
				a.Fatalf("Total is %d, want 25 on every page", p.Total)
			}
		})
	}},
	{"total is exact up to 10 000, and -1 beyond", true, func(a *audit) {
		a.seed(0, byok.AuditTotalLimit, func(n int, e *byok.Event) {
			if n%1000 == 0 {
				e.Op = byok.OpRotate
			}
		})
		total := func(want int, q byok.AuditQuery) {
			a.Helper()
			q.Limit = 1
			if got := a.page("t", q).Total; got != want {
				a.Fatalf("Total of %+v is %d, want %d", q, got, want)
			}
		}
		total(10_000, byok.AuditQuery{})
		a.record(event(byok.AuditTotalLimit))
		total(-1, byok.AuditQuery{})
		total(-1, byok.AuditQuery{Start: event(0).Time})
		total(10_000, byok.AuditQuery{Start: event(1).Time})
		total(10_000, byok.AuditQuery{End: event(byok.AuditTotalLimit).Time})
		total(10, byok.AuditQuery{Op: byok.OpRotate})
		total(9991, byok.AuditQuery{Op: byok.OpSeal})
		a.seed(byok.AuditTotalLimit+1, byok.AuditTotalLimit+300, nil)
		total(-1, byok.AuditQuery{})
		total(10_000, byok.AuditQuery{Start: event(300).Time})
	}},
	{"tenants see only their own", true, func(a *audit) {
		// The names that a pattern, a case-blind comparison or a trim would confuse.
		tenants := []string{"a", "A", "a%", "a_", "%", "_", "aa", "a*", "?", "a?", "ab", "a'", "a'--", `a"`, `a\`, "a;", "0", "00", "a/b", "b", strings.Repeat("a", 128), string(everyByte)}
		for i, tenant := range tenants {
			for n := range i%3 + 1 {
				e := event(n)
				e.ID, e.Scope.Tenant = fmt.Sprintf("%d-%d", i, n), tenant
				a.record(e)
			}
		}
		for i, tenant := range tenants {
			var want []string
			for n := i % 3; n >= 0; n-- {
				want = append(want, fmt.Sprintf("%d-%d", i, n))
			}
			a.want(tenant, byok.AuditQuery{}, want)
			a.want(tenant, byok.AuditQuery{Limit: 1, Op: byok.OpSeal}, want)
		}
		for _, nobody := range []string{"c", "B", "a%%", "", "a'", "' OR '1'='1"} {
			if nobody != "a'" {
				a.want(nobody, byok.AuditQuery{}, nil)
			}
		}
	}},
}

// full has a value in every field.
func full() byok.Event {
	key := byok.KeyID{Provider: "aws-kms", ID: "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-0000-0000-000000000001"}
	var dk byok.DataKeyID
	for i := range dk {
		dk[i] = byte(i * 17)
	}
	return byok.Event{
		ID: "full", Time: base, Actor: "alice@example.com", Op: byok.OpOpen, Outcome: byok.OutcomeDenied, Class: byok.ClassPlatformDenied,
		Code: "BYOK_002", Reason: "asked to", Scope: byok.Scope{Tenant: "t", Purpose: "files.v1"}, Key: key, DataKey: dk, Version: 1<<63 + 7, Proof: "req-0",
		Calls: []byok.KMSCall{
			{Receipt: byok.Receipt{RequestID: "req-1", MaterialID: "mat-1"}, Op: "Decrypt", Code: "ThrottlingException", Key: key, Class: byok.ClassThrottled, Took: 1},
			{Receipt: byok.Receipt{RequestID: "req-2"}, Op: "Decrypt", Key: key, Took: 90*time.Minute + 1},
			{},
		},
	}
}

var fieldCases = []auditCase{
	{"every field comes back", true, func(a *audit) {
		a.record(full())
		a.comesBack(full())
	}},
	{"a bare event comes back", true, func(a *audit) {
		e := byok.Event{ID: "bare", Time: base, Scope: byok.Scope{Tenant: "t"}}
		a.record(e)
		a.comesBack(e)
	}},
	{"every class comes back", true, func(a *audit) {
		for c := byok.Class(0); c <= byok.ClassKeyID; c++ {
			e := full()
			e.ID, e.Class, e.Calls[0].Class = fmt.Sprintf("c%d", c), c, c
			a.record(e)
			e.Time = base
			got := a.page("t", byok.AuditQuery{Limit: 1}).Events // ids ascend, times are equal
			if len(got) != 1 || got[0].Class != c || got[0].Calls[0].Class != c {
				a.Fatalf("class %v became %v", c, got[0].Class)
			}
		}
	}},
	{"texts are data", true, func(a *audit) {
		for i, text := range append([]string{"a\n{\"id\":\"forged\"}", "\r\n", "\t", "\x00", "\x1b[31m", "<&>", "\u2028", "日本", "😀", "', 'x'); --"}, oddNames...) {
			e := full()
			e.ID = fmt.Sprintf("%04d", i)
			e.Time = base.Add(time.Duration(i))
			e.Actor, e.Reason, e.Code, e.Proof, e.Op, e.Outcome = text, text, text, text, byok.Op(text), byok.Outcome(text)
			e.Scope.Purpose, e.Key.ID, e.Key.Provider, e.Calls[0].RequestID, e.Calls[0].Op = text, text, text, text, text
			a.record(e)
			got := a.page("t", byok.AuditQuery{Limit: 1}).Events
			if diff := cmp.Diff([]byok.Event{e}, got); diff != "" {
				a.Fatalf("%q (-want +got):\n%s", text, diff)
			}
			if p := a.page("t", byok.AuditQuery{Op: e.Op}); p.Total != 1 || len(p.Events) != 1 {
				a.Fatalf("op %q: %d events", text, p.Total)
			}
		}
	}},
	{"a tenant with a line break is one record", true, func(a *audit) {
		for i, tenant := range []string{"a\n{\"ok\":true}", "a\r\nb", "a\x00b", "", " ", "é"} {
			e := full()
			e.ID, e.Scope.Tenant = fmt.Sprint(i), tenant
			a.record(e)
			a.want(tenant, byok.AuditQuery{}, []string{e.ID})
		}
		a.want("a", byok.AuditQuery{}, nil)
	}},
	{"an event is copied in and out", true, func(a *audit) {
		e := full()
		a.record(e)
		e.Calls[0].RequestID = "changed"
		a.comesBack(full())
		got := a.page("t", byok.AuditQuery{}).Events
		got[0].Calls[1].RequestID, got[0].Reason = "changed", "changed"
		a.comesBack(full())
	}},
	{"many calls", true, func(a *audit) {
		e := full()
		for i := range 200 {
			c := e.Calls[0]
			c.RequestID = fmt.Sprint("req-", i)
			e.Calls = append(e.Calls, c)
		}
		a.record(e)
		a.comesBack(e)
	}},
}

// comesBack checks that e is the only event.
func (a *audit) comesBack(e byok.Event) {
	a.Helper()
	got := a.page("t", byok.AuditQuery{}).Events
	// No calls are no calls, be the slice nil or empty.
	if diff := cmp.Diff([]byok.Event{e}, got, cmpopts.EquateEmpty()); diff != "" {
		a.Fatalf("the event is not what was recorded (-want +got):\n%s", diff)
	}
	if got[0].Time.Location() != time.UTC {
		a.Fatalf("the time is in %v, not UTC", got[0].Time.Location())
	}
}

type sharedAuditCase struct {
	name string
	run  func(t tb, open func() *audit)
}

var sharedAuditCases = []sharedAuditCase{
	{"events are there after reopening", func(t tb, open func() *audit) {
		a := open()
		a.record(full())
		shut(t, a.AuditSink)
		a = open()
		a.comesBack(full())
		a.record(full()) // a repeated delivery, after a restart
		a.comesBack(full())
	}},
	{"handles see each other's events", func(t tb, open func() *audit) {
		a, b := open(), open()
		for n := 0; n < 20; n += 2 {
			a.record(event(n))
			b.want("t", byok.AuditQuery{}, ids(0, n+1))
			b.record(event(n), event(n+1))
			a.want("t", byok.AuditQuery{}, ids(0, n+2))
		}
	}},
	{"a cursor works on every handle", func(t tb, open func() *audit) {
		a, b := open(), open()
		a.seed(0, 10, nil)
		cursor := a.page("t", byok.AuditQuery{Limit: 4}).NextCursor
		got, _ := b.walk("t", byok.AuditQuery{Limit: 4, Cursor: cursor}, nil)
		if strings.Join(got, " ") != strings.Join(ids(0, 6), " ") {
			t.Fatalf("the rest of the pages on another handle: %q", got)
		}
	}},
	{"handles record the same events at once", func(t tb, open func() *audit) {
		handles := []*audit{open(), open(), open(), open()}
		parallel(t, 16, func(i int) error {
			for n := range 30 {
				if err := handles[i%4].Record(handles[i%4].ctx, event(n)); err != nil {
					return err
				}
			}
			return nil
		})
		handles[0].want("t", byok.AuditQuery{}, ids(0, 30))
	}},
}
