package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/byok-go/byok/dynamostore"
	"github.com/byok-go/byok/internal/dynamofake"
)

// twoDatabases are asked the same.
type twoDatabases struct {
	fake     *dynamodb.Client
	dynalite *transactions
	asked    map[string]int // by kind and outcome
}

// said is what a database said: of an error the code.
type said struct {
	Code  string
	Items []dynamoItem
	Last  dynamoItem
	Count int32
}

func saidOf(err error, a said) said {
	if err == nil {
		return a
	}
	var cancelled *types.TransactionCanceledException
	var api smithy.APIError
	switch {
	case errors.As(err, &cancelled):
		a = said{Code: "cancelled"}
		for _, r := range cancelled.CancellationReasons {
			a.Code += " " + sdk.ToString(r.Code)
		}
		return a
	case errors.As(err, &api):
		return said{Code: api.ErrorCode()}
	}
	return said{Code: err.Error()}
}

func (d *twoDatabases) same(t rapid.TB, kind string, ask func(c dynamostore.Client) said) {
	fake, real := ask(d.fake), ask(d.dynalite)
	if diff := cmp.Diff(real, fake, cmpopts.EquateEmpty(), cmp.Comparer(bytes.Equal), ignoreSDK); diff != "" {
		t.Fatalf("%s (-dynalite +fake):\n%s", kind, diff)
	}
	d.asked[kind+" "+fake.Code]++
}

// ignoreSDK leaves out what the SDK's types carry along.
var ignoreSDK = cmpopts.IgnoreUnexported(types.AttributeValueMemberS{}, types.AttributeValueMemberN{}, types.AttributeValueMemberB{})

// TestDynamofakeAgainstDynalite: what the database of dynamostore's tests answers is
// what another implementation does, for all that both can do: single conditional
// writes, reads of one item, batches, and queries of all forms, pages included.
func TestDynamofakeAgainstDynalite(t *testing.T) {
	d := &twoDatabases{
		fake: dynamodb.New(dynamodb.Options{Region: "eu-central-1", Credentials: sdk.AnonymousCredentials{},
			HTTPClient: &http.Client{Transport: dynamofake.New(nil)}, Retryer: sdk.NopRetryer{}}),
		dynalite: &transactions{Client: newDynalite(t)},
		asked:    map[string]int{},
	}
	for _, c := range []dynamostore.TableCreator{d.fake, d.dynalite.Client} {
		if err := dynamostore.CreateTable(t.Context(), c, "byok"); err != nil {
			t.Fatal(err)
		}
	}
	d.large(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		h := &history{two: d, prefix: fmt.Sprintf("%d/", n)}
		t.Repeat(map[string]func(*rapid.T){"put": h.put, "get": h.get, "batch": h.batch, "query": h.query})
	})
	for _, kind := range []string{"put ", "put cancelled ConditionalCheckFailed", "put ValidationException", "get ", "batch ", "batch ValidationException",
		"query ", "query ValidationException"} {
		if d.asked[kind] < 10 {
			t.Errorf("only %d times: %q", d.asked[kind], kind)
		}
	}
	t.Logf("%d histories, %v", n, d.asked)
}

// large has more than a page holds.
func (d *twoDatabases) large(t *testing.T) {
	for i := range 40 {
		item := dynamoItem{"pk": str("large"), "sk": str(fmt.Sprintf("%02d", i)), "val": &types.AttributeValueMemberB{Value: make([]byte, 60_000-i)}}
		d.same(t, "large put", func(c dynamostore.Client) said {
			_, err := c.TransactWriteItems(t.Context(), &dynamodb.TransactWriteItemsInput{
				TransactItems: []types.TransactWriteItem{{Put: &types.Put{TableName: sdk.String("byok"), Item: item}}}})
			return saidOf(err, said{})
		})
	}
	for _, backwards := range []bool{false, true} {
		in := &dynamodb.QueryInput{TableName: sdk.String("byok"), ConsistentRead: sdk.Bool(true), ScanIndexForward: sdk.Bool(!backwards),
			KeyConditionExpression: sdk.String("pk = :p"), ExpressionAttributeValues: dynamoItem{":p": str("large")}}
		for n := 0; n < 40; {
			d.same(t, "large query", func(c dynamostore.Client) said {
				out, err := c.Query(t.Context(), in)
				if err != nil {
					return saidOf(err, said{})
				}
				if c != dynamostore.Client(d.fake) {
					in.ExclusiveStartKey = out.LastEvaluatedKey
					n += int(out.Count)
				}
				return said{Items: out.Items, Last: out.LastEvaluatedKey, Count: out.Count}
			})
		}
	}
	if d.asked["large query "] < 6 {
		t.Fatalf("%d pages", d.asked["large query "])
	}
}

// history has partitions of its own.
type history struct {
	two    *twoDatabases
	prefix string
}

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func num(n int) types.AttributeValue    { return &types.AttributeValueMemberN{Value: fmt.Sprint(n)} }

var sorts = []string{"!", "A", "Z", "a", "a!", "aa", "b", "~", "0", "00", "é", "中", "😀"}

func (h *history) key(t *rapid.T) dynamoItem {
	return dynamoItem{"pk": str(h.prefix + rapid.SampledFrom([]string{"a", "A", "a b"}).Draw(t, "pk")), "sk": str(rapid.SampledFrom(sorts).Draw(t, "sk"))}
}

func (h *history) put(t *rapid.T) {
	item := h.key(t)
	item["rev"] = num(rapid.IntRange(1, 3).Draw(t, "rev"))
	size := rapid.SampledFrom([]int{1, 1, 1, 10, 10, 10, 100, 100, 100, 1000, 1000, 64 << 10, 409_500, 409_700}).Draw(t, "size")
	item["val"] = &types.AttributeValueMemberB{Value: []byte(strings.Repeat("\xff", size))}
	put := &types.Put{TableName: sdk.String("byok"), Item: item}
	switch rapid.IntRange(0, 7).Draw(t, "condition") {
	case 0:
	case 1, 2, 3:
		put.ConditionExpression = sdk.String("attribute_not_exists(pk)")
	case 4: // a value that nothing uses
		put.ConditionExpression, put.ExpressionAttributeValues = sdk.String("attribute_not_exists(pk)"), dynamoItem{":rev": num(1)}
	case 5: // one that is not there
		put.ConditionExpression = sdk.String("rev = :rev")
	default:
		put.ConditionExpression, put.ExpressionAttributeValues = sdk.String("rev = :rev"), dynamoItem{":rev": num(rapid.IntRange(1, 3).Draw(t, "expected"))}
	}
	if rapid.IntRange(0, 19).Draw(t, "no key") == 0 {
		item["sk"] = str("")
	}
	h.two.same(t, "put", func(c dynamostore.Client) said {
		_, err := c.TransactWriteItems(context.Background(), &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{Put: put}}})
		return saidOf(err, said{})
	})
}

func (h *history) get(t *rapid.T) {
	key := h.key(t)
	h.two.same(t, "get", func(c dynamostore.Client) said {
		out, err := c.TransactGetItems(context.Background(), &dynamodb.TransactGetItemsInput{
			TransactItems: []types.TransactGetItem{{Get: &types.Get{TableName: sdk.String("byok"), Key: key}}}})
		if err != nil {
			return saidOf(err, said{})
		}
		return said{Items: []dynamoItem{out.Responses[0].Item}}
	})
}

func (h *history) batch(t *rapid.T) {
	var keys []dynamoItem
	for range rapid.IntRange(1, 4).Draw(t, "keys") {
		keys = append(keys, h.key(t))
	}
	h.two.same(t, "batch", func(c dynamostore.Client) said {
		out, err := c.BatchGetItem(context.Background(), &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{"byok": {Keys: keys, ConsistentRead: sdk.Bool(true)}}})
		if err != nil {
			return saidOf(err, said{})
		}
		a := said{Count: int32(len(out.UnprocessedKeys))}
		for _, k := range keys { // they come in any order
			for _, i := range out.Responses["byok"] {
				if cmp.Equal(dynamoItem{"pk": i["pk"], "sk": i["sk"]}, k, ignoreSDK) {
					a.Items = append(a.Items, i)
				}
			}
		}
		return a
	})
}

func (h *history) query(t *rapid.T) {
	key := h.key(t)
	in := &dynamodb.QueryInput{TableName: sdk.String("byok"), ConsistentRead: sdk.Bool(true), ExpressionAttributeValues: dynamoItem{":p": key["pk"]}}
	from, to := rapid.SampledFrom(sorts).Draw(t, "from"), rapid.SampledFrom(append(sorts, "g")).Draw(t, "to")
	switch rapid.IntRange(0, 3).Draw(t, "form") {
	case 0:
		in.KeyConditionExpression = sdk.String("pk = :p")
	case 1:
		in.KeyConditionExpression = sdk.String("pk = :p AND sk > :a")
		in.ExpressionAttributeValues[":a"] = str(from)
	default:
		in.KeyConditionExpression = sdk.String("pk = :p AND sk BETWEEN :a AND :b")
		in.ExpressionAttributeValues[":a"], in.ExpressionAttributeValues[":b"] = str(from), str(to)
	}
	if limit := rapid.SampledFrom([]int32{-1, 0, 1, 2, 3, 5, 100}).Draw(t, "limit"); limit >= 0 {
		in.Limit = sdk.Int32(limit)
	}
	if rapid.Bool().Draw(t, "backwards") {
		in.ScanIndexForward = sdk.Bool(false)
	}
	if rapid.IntRange(0, 2).Draw(t, "counts") == 0 {
		in.Select = types.SelectCount
	}
	if rapid.IntRange(0, 4).Draw(t, "goes on") == 0 {
		in.ExclusiveStartKey = h.key(t)
	}
	for range 20 { // and all the pages after it
		var last dynamoItem
		h.two.same(t, "query", func(c dynamostore.Client) said {
			out, err := c.Query(context.Background(), in)
			if err != nil {
				return saidOf(err, said{})
			}
			last = out.LastEvaluatedKey
			return said{Items: out.Items, Last: out.LastEvaluatedKey, Count: out.Count}
		})
		if last == nil {
			return
		}
		in.ExclusiveStartKey = last
	}
}
