package dynamostore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/storecheck"
)

// maxEvent bounds the JSON of an event: an entry of DynamoDB has 400 KB at most.
const maxEvent = 390_000

// Record implements byok.AuditSink. An event is kept for ever; deleting is the
// platform's to do, by its own rules of retention. One of more than 390 000 bytes of
// JSON, which is a thousand KMS calls, is ErrArgument.
//
// The event and its places in the two logs are one transaction. An event whose ID is known
// fails the transaction's only condition; so there is nothing that repeating it could do.
func (s *Store) Record(ctx context.Context, e byok.Event) error {
	if err := storecheck.Part(e.ID); err != nil {
		return argument(err)
	}
	e.Time = e.Time.UTC()
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("%w: the event has no JSON form", byok.ErrArgument)
	}
	if len(body) > maxEvent {
		return fmt.Errorf("%w: the event has %d bytes of JSON, more than %d", byok.ErrArgument, len(body), maxEvent)
	}
	at := place(storecheck.Nano(e.Time), e.ID)
	event := key(eventPartition+e.ID, eventSK)
	event[attrLog], event[attrAt] = text(logOf(e.Scope.Tenant, "")), text(at)
	event[attrEvent] = &types.AttributeValueMemberB{Value: body}
	in := &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
		{Put: &types.Put{TableName: &s.table, Item: event, ConditionExpression: aws.String("attribute_not_exists(pk)")}},
		{Put: &types.Put{TableName: &s.table, Item: key(logOf(e.Scope.Tenant, ""), at)}},
		{Put: &types.Put{TableName: &s.table, Item: key(logOf(e.Scope.Tenant, e.Op), at)}},
	}}
	if e.Op == "" { // which is no operation to ask for
		in.TransactItems = in.TransactItems[:2]
	}
	err = s.call(ctx, func() error {
		_, err := s.client.TransactWriteItems(ctx, in, once)
		if cancelledBy(err, conditionFailed) {
			return nil // it was recorded before, perhaps by an attempt of this call
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("dynamostore: record: %w", err)
	}
	return nil
}

// logOf is the partition of a tenant's log, or of those of its events with one operation.
func logOf(tenant string, op byok.Op) string {
	if op == "" {
		return logPartition + name(tenant)
	}
	return opPartition + name(tenant) + " " + name(string(op))
}

// place is where an event stands in a log: the order is that of time, and then of IDs.
func place(nano int64, id string) string { return instant(nano) + "/" + id }

// instant is the time in 16 hex digits that are in its order, those before 1970
// included.
func instant(nano int64) string { return fmt.Sprintf("%016x", uint64(nano)^1<<63) }

// Events implements byok.AuditReader.
func (s *Store) Events(ctx context.Context, tenant string, q byok.AuditQuery) (byok.AuditPage, error) {
	limit, err := storecheck.AuditLimit(q.Limit)
	if err != nil {
		return byok.AuditPage{}, argument(err)
	}
	// Both bounds of a BETWEEN are inclusive, but no place is as short as these.
	w := window{pk: logOf(tenant, q.Op), from: "0", to: "g"}
	if !q.Start.IsZero() {
		w.from = instant(storecheck.Nano(q.Start))
	}
	if !q.End.IsZero() {
		w.to = instant(storecheck.Nano(q.End))
	}
	all := w // the count is of all pages, so it does not know the cursor
	if q.Cursor != "" {
		nano, id, err := storecheck.ParseCursor(tenant, q.Cursor)
		if err == nil {
			err = storecheck.Part(id)
		}
		if err != nil {
			return byok.AuditPage{}, argument(err)
		}
		w.before = place(nano, id)
		w.to = min(w.to, w.before)
	}
	page, err := s.page(ctx, tenant, w, limit)
	if err == nil {
		page.Total, err = s.count(ctx, all)
	}
	if err != nil {
		return byok.AuditPage{}, fmt.Errorf("dynamostore: events: %w", err)
	}
	return page, nil
}

// window is a part of a log.
type window struct {
	pk       string
	from, to string
	before   string // if not "", this place itself is not in it
}

func (w window) query() *dynamodb.QueryInput {
	return &dynamodb.QueryInput{
		KeyConditionExpression:    aws.String("pk = :p AND sk BETWEEN :a AND :b"),
		ExpressionAttributeValues: attributes{":p": text(w.pk), ":a": text(w.from), ":b": text(w.to)},
		ScanIndexForward:          aws.Bool(false),
	}
}

func (s *Store) page(ctx context.Context, tenant string, w window, limit int) (page byok.AuditPage, err error) {
	places, err := s.places(ctx, w, limit+1) // one more than asked for tells whether there is a next page
	if err != nil {
		return page, err
	}
	more := len(places) > limit
	places = places[:min(limit, len(places))]
	bodies, err := s.bodies(ctx, logOf(tenant, ""), places)
	if err != nil {
		return page, err
	}
	for _, at := range places {
		var e byok.Event
		if err := json.Unmarshal(bodies[at], &e); err != nil || at != place(storecheck.Nano(e.Time), e.ID) {
			return byok.AuditPage{}, errDamaged // its text may quote the event
		}
		page.Events = append(page.Events, e)
	}
	if more {
		last := page.Events[limit-1]
		page.NextCursor = storecheck.Cursor(tenant, storecheck.Nano(last.Time), last.ID)
	}
	return page, nil
}

// places returns the newest n of a window, newest first.
func (s *Store) places(ctx context.Context, w window, n int) (places []string, err error) {
	if w.from > w.to {
		return nil, nil // DynamoDB refuses such a BETWEEN
	}
	in := w.query()
	for {
		// What before names is perhaps there, and not counted.
		out, err := s.query(ctx, in, n+1-len(places))
		if err != nil {
			return nil, err
		}
		for _, a := range out.Items {
			sk, ok := a[keySK].(*types.AttributeValueMemberS)
			if !ok {
				return nil, errDamaged
			}
			if sk.Value != w.before && len(places) < n {
				places = append(places, sk.Value)
			}
		}
		if len(out.LastEvaluatedKey) == 0 || len(places) == n {
			return places, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// count is exact up to AuditTotalLimit, and looks at hardly more entries than that.
func (s *Store) count(ctx context.Context, w window) (n int, err error) {
	if w.from > w.to {
		return 0, nil
	}
	in := w.query()
	in.Select = types.SelectCount
	for {
		out, err := s.query(ctx, in, byok.AuditTotalLimit+1-n)
		if err != nil {
			return 0, err
		}
		switch n += int(out.Count); {
		case n > byok.AuditTotalLimit:
			return -1, nil
		case len(out.LastEvaluatedKey) == 0:
			return n, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}
