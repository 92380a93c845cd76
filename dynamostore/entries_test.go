package dynamostore_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/dynamostore"
	"github.com/byok-go/byok/internal/dynamofake"
)

func event(n int) byok.Event {
	return byok.Event{ID: fmt.Sprintf("e%03d", n), Time: time.Unix(int64(n), 0).UTC(), Op: byok.OpSeal, Scope: byok.Scope{Tenant: "t"}}
}

// TestPages: an answer that DynamoDB ended early is no end.
func TestPages(t *testing.T) {
	s := open(t, newTable(t, &dynamofake.Options{PageSize: 400}))
	const n = 50
	for i := range n {
		w := byok.Item{Ref: byok.Ref{Partition: "p", ID: fmt.Sprintf("%03d", i)}, Value: bytes.Repeat([]byte("v"), 100)}
		if err := errors.Join(s.Apply(t.Context(), w), s.Record(t.Context(), event(i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 3, 4, n - 1, n, n + 1, 1000} {
		l, err := s.List(t.Context(), "p", "", limit)
		if err != nil || len(l) != min(limit, n) {
			t.Errorf("%d items of a List with limit %d: %v", len(l), limit, err)
		}
		p, err := s.Events(t.Context(), "t", byok.AuditQuery{Limit: limit})
		if err != nil || len(p.Events) != min(limit, n) || p.Total != n || (p.NextCursor == "") != (limit >= n) {
			t.Errorf("%d events with limit %d, of %d: %v", len(p.Events), limit, p.Total, err)
		}
	}
}

// TestRecordOnce: the first delivery of an event stays, and each is answered alike.
func TestRecordOnce(t *testing.T) {
	s := open(t, newTable(t, nil))
	first, again := event(1), event(1)
	again.Reason, again.Time, again.Scope.Tenant = "changed", time.Unix(99, 0), "u"
	for _, e := range []byok.Event{first, first, again} {
		if err := s.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := s.Events(t.Context(), "t", byok.AuditQuery{}); err != nil || p.Total != 1 || p.Events[0].Reason != "" || !p.Events[0].Time.Equal(first.Time) {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := s.Events(t.Context(), "u", byok.AuditQuery{}); err != nil || p.Total != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestUnprocessedKeys: what a BatchGetItem leaves out is asked for again, as long as it takes.
func TestUnprocessedKeys(t *testing.T) {
	var fault atomic.Uint32
	s := open(t, newTable(t, &dynamofake.Options{Choose: func(string, []byte) dynamofake.Fault { return dynamofake.Fault(fault.Load()) }}))
	s.Hurry()
	const n = 9 // more than there is patience for answers that say nothing
	for i := range n {
		if err := s.Record(t.Context(), event(i)); err != nil {
			t.Fatal(err)
		}
	}
	fault.Store(uint32(dynamofake.Partial))
	if p, err := s.Events(t.Context(), "t", byok.AuditQuery{}); err != nil || len(p.Events) != n {
		t.Errorf("%d events, %v", len(p.Events), err)
	}
}

// TestSDKRepeatsNothing: every request is counted here, and here only.
func TestSDKRepeatsNothing(t *testing.T) {
	var fault atomic.Uint32
	var n atomic.Int32
	s := open(t, newTable(t, &dynamofake.Options{Choose: func(string, []byte) dynamofake.Fault { n.Add(1); return dynamofake.Fault(fault.Load()) }}))
	s.Hurry()
	for _, f := range []dynamofake.Fault{dynamofake.FailBefore, dynamofake.FailAfter, dynamofake.Unavailable, dynamofake.LoseBefore, dynamofake.Torn, dynamofake.Damaged} {
		for name, do := range calls {
			fault.Store(uint32(f))
			n.Store(0)
			err := do(t.Context(), s)
			fault.Store(uint32(dynamofake.NoFault))
			var e *dynamostore.Error
			if !errors.As(err, &e) || n.Load() != 6 {
				t.Fatalf("%s with fault %d: %d requests, %v", name, f, n.Load(), err)
			}
		}
	}
}

// TestLargest: what the contract allows is possible, and one more event than that is refused.
func TestLargest(t *testing.T) {
	s := open(t, newTable(t, nil))
	var writes []byok.Item
	for i := range byok.MaxApplyWrites {
		name := strings.Repeat("n", byok.MaxRefPart-2) + fmt.Sprintf("%02d", i)
		writes = append(writes, byok.Item{Ref: byok.Ref{Partition: name, ID: name}, Value: bytes.Repeat([]byte{0xff}, byok.MaxItemValue)})
	}
	if err := s.Apply(t.Context(), writes...); err != nil {
		t.Error(err)
	}
	e := event(1)
	e.ID = strings.Repeat("e", byok.MaxRefPart)
	e.Reason = strings.Repeat("r", 389_000)
	if err := s.Record(t.Context(), e); err != nil {
		t.Error(err)
	}
	e.ID, e.Reason = "other", e.Reason+strings.Repeat("MARKER", 1000)
	if err := s.Record(t.Context(), e); !errors.Is(err, byok.ErrArgument) || strings.Contains(err.Error(), "MARKER") {
		t.Error(err)
	}
	if p, err := s.Events(t.Context(), "t", byok.AuditQuery{}); err != nil || p.Total != 1 || len(p.Events[0].Reason) != 389_000 {
		t.Error(p.Total, err)
	}
}

// TestForeignEntries: what somebody else wrote into the table is an error, that
// quotes nothing of it, and never an item or an event.
func TestForeignEntries(t *testing.T) {
	type entry = map[string]types.AttributeValue
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	n := func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	b := func(v string) types.AttributeValue { return &types.AttributeValueMemberB{Value: []byte(v)} }
	item := func(change func(e entry)) entry {
		e := entry{"pk": s("item p"), "sk": s("i"), "rev": n("3"), "val": b("MARKER")}
		change(e)
		return e
	}
	body := func(change func(e entry)) []entry {
		e := entry{"pk": s("event e"), "sk": s("event"), "log": s("log t"), "at": s("8000000000000001/e"),
			"event": b(`{"id":"e","time":"1970-01-01T00:00:00.000000001Z","scope":{"Tenant":"t"},"reason":"MARKER"}`)}
		change(e)
		return []entry{e, {"pk": s("log t"), "sk": s("8000000000000001/e")}}
	}
	for name, c := range map[string]struct {
		entries []entry
		items   bool // it concerns Get and List
		ok      bool
	}{
		"an item":                       {[]entry{item(func(entry) {})}, true, true},
		"no revision":                   {[]entry{item(func(e entry) { delete(e, "rev") })}, true, false},
		"revision zero":                 {[]entry{item(func(e entry) { e["rev"] = n("0") })}, true, false},
		"a revision that is text":       {[]entry{item(func(e entry) { e["rev"] = s("3") })}, true, false},
		"no value":                      {[]entry{item(func(e entry) { delete(e, "val") })}, true, false},
		"an empty value":                {[]entry{item(func(e entry) { e["val"] = b("") })}, true, false},
		"a value that is text":          {[]entry{item(func(e entry) { e["val"] = s("MARKER") })}, true, false},
		"an event":                      {body(func(entry) {}), false, true},
		"an event without its body":     {body(func(entry) {})[1:], false, false},
		"an event of another log":       {body(func(e entry) { e["log"] = s("log u") }), false, false},
		"an event of another place":     {body(func(e entry) { e["at"] = s("8000000000000002/e") }), false, false},
		"an event that is no JSON":      {body(func(e entry) { e["event"] = b("{MARKER") }), false, false},
		"an event with another id":      {body(func(e entry) { e["event"] = b(`{"id":"f","time":"1970-01-01T00:00:00.000000001Z","reason":"MARKER"}`) }), false, false},
		"an event of another time":      {body(func(e entry) { e["event"] = b(`{"id":"e","time":"1970-01-01T00:00:00.000000002Z","reason":"MARKER"}`) }), false, false},
		"a place that is none":          {[]entry{{"pk": s("log t"), "sk": s("8")}}, false, false},
		"an event that is no attribute": {body(func(e entry) { delete(e, "event") }), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			db := newTable(t, nil)
			store := open(t, db)
			store.Hurry()
			in := &dynamodb.TransactWriteItemsInput{}
			for _, e := range c.entries {
				in.TransactItems = append(in.TransactItems, types.TransactWriteItem{Put: &types.Put{TableName: aws.String(table), Item: e}})
			}
			if _, err := client(db).TransactWriteItems(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			var errs []error
			if c.items {
				_, err1 := store.Get(t.Context(), byok.Ref{Partition: "p", ID: "i"})
				_, err2 := store.List(t.Context(), "p", "", 10)
				errs = []error{err1, err2}
			} else {
				_, err := store.Events(t.Context(), "t", byok.AuditQuery{})
				errs = []error{err}
			}
			for _, err := range errs {
				if (err == nil) != c.ok || err != nil && strings.Contains(err.Error(), "MARKER") || errors.Is(err, byok.ErrNotFound) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// TestFakeRefuses: what the database of these tests does not know it does not do.
func TestFakeRefuses(t *testing.T) {
	db := newTable(t, nil)
	c := client(db)
	put := func(p types.Put) error {
		p.TableName = aws.String(table)
		_, err := c.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{Put: &p}}})
		return err
	}
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	key := map[string]types.AttributeValue{"pk": s("a"), "sk": s("b")}
	for name, err := range map[string]error{
		"another operation": func() error {
			_, err := c.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String(table), Key: key})
			return err
		}(),
		"another condition": put(types.Put{Item: key, ConditionExpression: aws.String("attribute_exists(pk)")}),
		"another member":    put(types.Put{Item: key, ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld}),
		"another attribute": put(types.Put{Item: map[string]types.AttributeValue{"pk": s("a"), "sk": s("b"), "x": &types.AttributeValueMemberBOOL{Value: true}}}),
		"another query": func() error {
			_, err := c.Query(t.Context(), &dynamodb.QueryInput{TableName: aws.String(table), KeyConditionExpression: aws.String("pk = :p AND begins_with(sk, :a)")})
			return err
		}(),
	} {
		if err == nil || !strings.Contains(err.Error(), "NotInDynamofake") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
