package dynamostore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/byok-go/byok"
)

// described is a Client that has one table.
type described struct {
	Client
	table *types.TableDescription
}

func (d described) DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	return &dynamodb.DescribeTableOutput{Table: d.table}, nil
}

func TestOpenRefusesUnfitTables(t *testing.T) {
	element := func(name string, kind types.KeyType) types.KeySchemaElement {
		return types.KeySchemaElement{AttributeName: aws.String(name), KeyType: kind}
	}
	definition := func(name string, kind types.ScalarAttributeType) types.AttributeDefinition {
		return types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: kind}
	}
	const hash, sort, s, b = types.KeyTypeHash, types.KeyTypeRange, types.ScalarAttributeTypeS, types.ScalarAttributeTypeB
	for _, c := range []struct {
		name   string
		says   string // "" if it is fit
		change func(d *types.TableDescription)
	}{
		{"as CreateTable makes it", "", func(*types.TableDescription) {}},
		{"with more attributes", "", func(d *types.TableDescription) {
			d.AttributeDefinitions = append([]types.AttributeDefinition{definition("x", b)}, d.AttributeDefinitions...)
		}},
		{"while its settings change", "", func(d *types.TableDescription) { d.TableStatus = types.TableStatusUpdating }},
		{"no sort key", "partition key", func(d *types.TableDescription) { d.KeySchema = d.KeySchema[:1] }},
		{"no keys", "partition key", func(d *types.TableDescription) { d.KeySchema = nil }},
		{"other names", "partition key", func(d *types.TableDescription) { d.KeySchema[0] = element("PK", hash) }},
		{"keys exchanged", "partition key", func(d *types.TableDescription) {
			d.KeySchema = []types.KeySchemaElement{element("sk", hash), element("pk", sort)}
		}},
		{"two sort keys", "partition key", func(d *types.TableDescription) { d.KeySchema[0] = element("pk", sort) }},
		{"a binary partition key", "key pk", func(d *types.TableDescription) { d.AttributeDefinitions[0] = definition("pk", b) }},
		{"a sort key that is a number", "key sk", func(d *types.TableDescription) {
			d.AttributeDefinitions[1] = definition("sk", types.ScalarAttributeTypeN)
		}},
		{"being made", "CREATING", func(d *types.TableDescription) { d.TableStatus = types.TableStatusCreating }},
		{"being deleted", "DELETING", func(d *types.TableDescription) { d.TableStatus = types.TableStatusDeleting }},
		{"archived", "ARCHIVED", func(d *types.TableDescription) { d.TableStatus = types.TableStatusArchived }},
		{"a global table", "global", func(d *types.TableDescription) {
			d.Replicas = []types.ReplicaDescription{{RegionName: aws.String("eu-west-1")}}
		}},
	} {
		d := &types.TableDescription{
			TableStatus: types.TableStatusActive, KeySchema: []types.KeySchemaElement{element("pk", hash), element("sk", sort)},
			AttributeDefinitions: []types.AttributeDefinition{definition("pk", s), definition("sk", s)},
		}
		c.change(d)
		store, err := Open(t.Context(), described{table: d}, "t")
		switch {
		case c.says == "" && err != nil, c.says != "" && (!errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), c.says) || store != nil):
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	if _, err := Open(t.Context(), described{}, "t"); err == nil {
		t.Error("no table at all is fit")
	}
	for _, err := range []error{
		func() error { _, err := Open(t.Context(), nil, "t"); return err }(),
		func() error { _, err := Open(t.Context(), described{}, ""); return err }(),
		CreateTable(t.Context(), nil, "t"),
	} {
		if !errors.Is(err, byok.ErrArgument) {
			t.Error(err)
		}
	}
}

// TestKeysAreApart: no two names of the contracts get the same key, whatever they look like.
func TestKeysAreApart(t *testing.T) {
	odd := []string{"", " ", "a", "a b", "b", "b a", " a", "a ", "é", "\x00", "\xff", "op", "log", "item", strings.Repeat("a", 255), strings.Repeat("a", 256), name(""), name(" "), strings.TrimSpace(name("é"))}
	seen := map[string]string{}
	put := func(key, what string) {
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q have one key", what, other)
		}
		if seen[key] = what; len(key) > 2048 {
			t.Errorf("the key of %q has %d bytes", what, len(key))
		}
	}
	for _, tenant := range odd {
		put(logOf(tenant, ""), "log of "+tenant)
		for _, op := range odd[1:] {
			put(logOf(tenant, byok.Op(op)), "log of "+tenant+" and "+op)
		}
	}
	for _, part := range []string{"a", "log", "op", "~"} {
		put(itemPartition+part, "items of "+part)
		put(eventPartition+part, "event "+part)
	}
}
