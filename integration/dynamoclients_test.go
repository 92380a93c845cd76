package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/byok-go/byok/dynamostore"
)

type (
	dynamoItem    = map[string]types.AttributeValue
	dynamoOptions = func(*dynamodb.Options)
)

// transactions lends a database transactions that has none, as dynalite: it makes them
// of conditional PutItems, one after the other and alone, and takes back what was put when a
// condition fails. Whether a condition holds, and what is read, is the database's to say.
// All handles on one table share one of these.
//
// A request that was begun is not interrupted: dynalite ends when a client leaves it in the middle.
type transactions struct {
	*dynamodb.Client
	mu sync.RWMutex
}

func (c *transactions) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, o ...dynamoOptions) (*dynamodb.TransactWriteItemsOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	reasons := make([]types.CancellationReason, len(in.TransactItems))
	refused := false
	var undo []func() error
	for i, action := range in.TransactItems {
		p := action.Put
		if p == nil {
			return nil, errors.New("an action that is no Put")
		}
		reasons[i].Code = sdk.String("None")
		out, err := c.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: p.TableName, Item: p.Item, ConditionExpression: p.ConditionExpression,
			ExpressionAttributeValues: p.ExpressionAttributeValues, ReturnValues: types.ReturnValueAllOld,
		}, o...)
		var failed *types.ConditionalCheckFailedException
		if errors.As(err, &failed) {
			reasons[i].Code, refused = sdk.String("ConditionalCheckFailed"), true
			continue
		}
		if err != nil {
			return nil, err
		}
		undo = append(undo, func() (err error) {
			if out.Attributes != nil {
				_, err = c.PutItem(ctx, &dynamodb.PutItemInput{TableName: p.TableName, Item: out.Attributes})
			} else {
				_, err = c.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: p.TableName, Key: dynamoItem{"pk": p.Item["pk"], "sk": p.Item["sk"]}})
			}
			return err
		})
	}
	if !refused {
		return &dynamodb.TransactWriteItemsOutput{}, nil
	}
	for _, f := range undo {
		if err := f(); err != nil {
			panic(fmt.Sprintf("half a transaction is left: %v", err))
		}
	}
	return nil, &types.TransactionCanceledException{CancellationReasons: reasons}
}

func (c *transactions) TransactGetItems(ctx context.Context, in *dynamodb.TransactGetItemsInput, o ...dynamoOptions) (*dynamodb.TransactGetItemsOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := new(dynamodb.TransactGetItemsOutput)
	for _, action := range in.TransactItems {
		out, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: action.Get.TableName, Key: action.Get.Key, ConsistentRead: sdk.Bool(true)}, o...)
		if err != nil {
			return nil, err
		}
		all.Responses = append(all.Responses, types.ItemResponse{Item: out.Item})
	}
	return all, nil
}

func (c *transactions) Query(ctx context.Context, in *dynamodb.QueryInput, o ...dynamoOptions) (*dynamodb.QueryOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.Client.Query(ctx, in, o...)
}

func (c *transactions) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, o ...dynamoOptions) (*dynamodb.BatchGetItemOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.Client.BatchGetItem(ctx, in, o...)
}

// corner is a Client that sees a part of a table as a whole one: the suites want an empty
// table for each case, and a table takes seconds to make.
type corner struct {
	dynamostore.Client
	prefix string
}

// in and out translate partition keys, in copies.
func (c corner) in(item dynamoItem, name string) dynamoItem {
	if item == nil {
		return nil
	}
	item = maps.Clone(item)
	item[name] = &types.AttributeValueMemberS{Value: c.prefix + item[name].(*types.AttributeValueMemberS).Value}
	return item
}

func (c corner) out(item dynamoItem) dynamoItem {
	if len(item) == 0 {
		return item
	}
	item = maps.Clone(item)
	pk, ok := strings.CutPrefix(item["pk"].(*types.AttributeValueMemberS).Value, c.prefix)
	if !ok {
		panic("an item of another corner")
	}
	item["pk"] = &types.AttributeValueMemberS{Value: pk}
	return item
}

func (c corner) outs(items []dynamoItem) []dynamoItem {
	var all []dynamoItem
	for _, i := range items {
		all = append(all, c.out(i))
	}
	return all
}

func (c corner) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, o ...dynamoOptions) (*dynamodb.TransactWriteItemsOutput, error) {
	there := &dynamodb.TransactWriteItemsInput{ClientRequestToken: in.ClientRequestToken}
	for _, action := range in.TransactItems {
		put := *action.Put
		put.Item = c.in(put.Item, "pk")
		there.TransactItems = append(there.TransactItems, types.TransactWriteItem{Put: &put})
	}
	return c.Client.TransactWriteItems(ctx, there, o...)
}

func (c corner) TransactGetItems(ctx context.Context, in *dynamodb.TransactGetItemsInput, o ...dynamoOptions) (*dynamodb.TransactGetItemsOutput, error) {
	there := new(dynamodb.TransactGetItemsInput)
	for _, action := range in.TransactItems {
		get := *action.Get
		get.Key = c.in(get.Key, "pk")
		there.TransactItems = append(there.TransactItems, types.TransactGetItem{Get: &get})
	}
	out, err := c.Client.TransactGetItems(ctx, there, o...)
	if err == nil {
		for i := range out.Responses {
			out.Responses[i].Item = c.out(out.Responses[i].Item)
		}
	}
	return out, err
}

func (c corner) Query(ctx context.Context, in *dynamodb.QueryInput, o ...dynamoOptions) (*dynamodb.QueryOutput, error) {
	there := *in
	there.ExpressionAttributeValues, there.ExclusiveStartKey = c.in(in.ExpressionAttributeValues, ":p"), c.in(in.ExclusiveStartKey, "pk")
	out, err := c.Client.Query(ctx, &there, o...)
	if err == nil {
		out.Items, out.LastEvaluatedKey = c.outs(out.Items), c.out(out.LastEvaluatedKey)
	}
	return out, err
}

func (c corner) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, o ...dynamoOptions) (*dynamodb.BatchGetItemOutput, error) {
	there := &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{}}
	for table, ask := range in.RequestItems {
		keys := ask.Keys
		ask.Keys = nil
		for _, k := range keys {
			ask.Keys = append(ask.Keys, c.in(k, "pk"))
		}
		there.RequestItems[table] = ask
	}
	out, err := c.Client.BatchGetItem(ctx, there, o...)
	if err == nil {
		for table, items := range out.Responses {
			out.Responses[table] = c.outs(items)
		}
		for table, ask := range out.UnprocessedKeys {
			ask.Keys = c.outs(ask.Keys)
			out.UnprocessedKeys[table] = ask
		}
	}
	return out, err
}
