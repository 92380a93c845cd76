package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/storecheck"
)

// Client is what the Store needs of a *dynamodb.Client.
type Client interface {
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	TransactGetItems(context.Context, *dynamodb.TransactGetItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactGetItemsOutput, error)
	TransactWriteItems(context.Context, *dynamodb.TransactWriteItemsInput, ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
}

// Store is a byok.Store, byok.AuditSink and byok.AuditReader. Make it with Open.
// It is safe for concurrent use, and any number of Stores and processes may
// share one table.
type Store struct {
	client    Client
	table     string
	firstWait time.Duration
}

var (
	_ Client           = (*dynamodb.Client)(nil)
	_ byok.Store       = (*Store)(nil)
	_ byok.AuditSink   = (*Store)(nil)
	_ byok.AuditReader = (*Store)(nil)
)

// Open returns the Store in a table, which must exist: see CreateTable for its
// shape. A table of another shape, or one that cannot keep the contract, is refused with
// ErrUnfit. There is nothing to close.
func Open(ctx context.Context, client Client, table string) (*Store, error) {
	if client == nil || table == "" {
		return nil, fmt.Errorf("%w: dynamostore.Open needs a client and the name of a table", byok.ErrArgument)
	}
	s := &Store{client: client, table: table, firstWait: firstWait}
	err := s.call(ctx, func() error {
		out, err := client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table}, once)
		if err != nil {
			return err
		}
		return fit(out.Table)
	})
	if err != nil {
		return nil, fmt.Errorf("dynamostore: open: %w", err)
	}
	return s, nil
}

// Get implements byok.Store.
//
// It is a transaction of one item, and not a GetItem, because a GetItem does not
// wait for a transaction that is being committed: whoever has seen one
// item of an Apply could then miss another. A transaction that reads is refused in that
// moment, and repeated. Transactions always read what is consistent.
func (s *Store) Get(ctx context.Context, r byok.Ref) (item byok.Item, err error) {
	if err := storecheck.Ref(r.Partition, r.ID); err != nil {
		return byok.Item{}, argument(err)
	}
	in := &dynamodb.TransactGetItemsInput{TransactItems: []types.TransactGetItem{
		{Get: &types.Get{TableName: &s.table, Key: itemKey(r)}},
	}}
	err = s.call(ctx, func() error {
		out, err := s.client.TransactGetItems(ctx, in, once)
		if err != nil {
			return err
		}
		if len(out.Responses) != 1 {
			return errDamaged
		}
		if len(out.Responses[0].Item) == 0 {
			return byok.ErrNotFound
		}
		item, err = decodeItem(r.Partition, out.Responses[0].Item)
		if err == nil && item.Ref != r {
			err = errDamaged
		}
		return err
	})
	switch {
	case errors.Is(err, byok.ErrNotFound):
		return byok.Item{}, byok.ErrNotFound
	case err != nil:
		return byok.Item{}, fmt.Errorf("dynamostore: get: %w", err)
	}
	return item, nil
}

// List implements byok.Store.
//
// DynamoDB ends an answer after 1 MB, which is no end of the partition: only
// an answer without a LastEvaluatedKey is the last.
func (s *Store) List(ctx context.Context, partition, after string, limit int) ([]byok.Item, error) {
	if err := storecheck.List(partition, after, limit); err != nil {
		return nil, argument(err)
	}
	in := &dynamodb.QueryInput{
		KeyConditionExpression:    aws.String("pk = :p"),
		ExpressionAttributeValues: attributes{":p": text(itemPartition + partition)},
	}
	if after != "" {
		in.KeyConditionExpression = aws.String("pk = :p AND sk > :a")
		in.ExpressionAttributeValues[":a"] = text(after)
	}
	var items []byok.Item
	for {
		out, err := s.query(ctx, in, limit-len(items))
		if err != nil {
			return nil, fmt.Errorf("dynamostore: list: %w", err)
		}
		for _, a := range out.Items {
			item, err := decodeItem(partition, a)
			if err != nil || item.ID <= after {
				return nil, fmt.Errorf("dynamostore: list: %w", errDamaged)
			}
			items, after = append(items, item), item.ID
		}
		if len(out.LastEvaluatedKey) == 0 || len(items) >= limit {
			return items, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// query asks for the next items of a Query, limit at most. It may return
// fewer, and even none, though there are more.
func (s *Store) query(ctx context.Context, in *dynamodb.QueryInput, limit int) (out *dynamodb.QueryOutput, err error) {
	in.TableName, in.Limit = &s.table, aws.Int32(int32(limit))
	in.ConsistentRead = aws.Bool(true)
	err = s.call(ctx, func() error {
		out, err = s.client.Query(ctx, in, once)
		if err == nil && int(out.Count) > limit {
			err = errDamaged
		}
		return err
	})
	return out, err
}

// errDamaged: the table holds what this package never wrote there. Its text
// names nothing of it.
var errDamaged = errors.New("an entry of the table is damaged")

func decodeItem(partition string, a attributes) (item byok.Item, err error) {
	pk, ok1 := a[keyPK].(*types.AttributeValueMemberS)
	id, ok2 := a[keySK].(*types.AttributeValueMemberS)
	rev, ok3 := a[attrRevision].(*types.AttributeValueMemberN)
	value, ok4 := a[attrValue].(*types.AttributeValueMemberB)
	if !ok1 || !ok2 || !ok3 || !ok4 || pk.Value != itemPartition+partition || len(value.Value) == 0 {
		return item, errDamaged
	}
	item = byok.Item{Ref: byok.Ref{Partition: partition, ID: id.Value}, Value: value.Value}
	if item.Revision, err = strconv.ParseUint(rev.Value, 10, 64); err != nil || item.Revision == 0 {
		return byok.Item{}, errDamaged
	}
	return item, nil
}

func argument(err error) error { return fmt.Errorf("%w: %w", byok.ErrArgument, err) }
