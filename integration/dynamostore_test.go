package integration

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/dynamostore"
	"github.com/byok-go/byok/storetest"
)

// corners are the parts of one table, each of which a case has for itself.
type corners struct {
	client dynamostore.Client
	table  string
	n      atomic.Int64
}

func (c *corners) prefix() string { return fmt.Sprintf("%d/", c.n.Add(1)) }

func (c *corners) open(t *testing.T, prefix string) *dynamostore.Store {
	t.Helper()
	s, err := dynamostore.Open(t.Context(), corner{c.client, prefix}, c.table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *corners) store(t *testing.T) {
	storetest.TestStore(t, func(t *testing.T) byok.Store { return c.open(t, c.prefix()) })
}

func (c *corners) sharedStore(t *testing.T) {
	storetest.TestSharedStore(t, func(t *testing.T) func(*testing.T) byok.Store {
		prefix := c.prefix()
		return func(t *testing.T) byok.Store { return c.open(t, prefix) }
	})
}

func (c *corners) audit(t *testing.T) {
	storetest.TestAudit(t, func(t *testing.T) byok.AuditSink { return c.open(t, c.prefix()) })
}

func (c *corners) sharedAudit(t *testing.T) {
	storetest.TestSharedAudit(t, func(t *testing.T) func(*testing.T) byok.AuditSink {
		prefix := c.prefix()
		return func(t *testing.T) byok.AuditSink { return c.open(t, prefix) }
	})
}

// TestDynaliteContract: conditions, queries, pages and batches as dynalite understands them.
// It has no transactions: those are made by the test, of its conditional writes. .ci/run leaves
// out the Store behind faults, and the suite of AuditSink with its 10 000 events, but for -full.
func TestDynaliteContract(t *testing.T) {
	client := newDynalite(t)
	if err := dynamostore.CreateTable(t.Context(), client, "byok"); err != nil {
		t.Fatal(err)
	}
	c := &corners{client: &transactions{Client: client}, table: "byok"}
	t.Run("Store", c.store)
	t.Run("shared Store", c.sharedStore)
	t.Run("AuditSink", c.audit)
	t.Run("shared AuditSink", c.sharedAudit)
	t.Log("dynalite has no transactions; a lock in the test's client made them of its conditional PutItems")
}

// TestDynamoDBOnAWS runs the suites on AWS itself, in a table that it makes and deletes,
// named by BYOK_DYNAMODB_TABLE. It costs some cents.
func TestDynamoDBOnAWS(t *testing.T) {
	table := os.Getenv("BYOK_DYNAMODB_TABLE")
	if table == "" {
		t.Log("NOT RUN: BYOK_DYNAMODB_TABLE is not set, so dynamostore was not tested on AWS")
		return
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := dynamodb.NewFromConfig(cfg)
	if err := dynamostore.CreateTable(t.Context(), client, table); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_, err := client.UpdateTable(ctx, &dynamodb.UpdateTableInput{TableName: &table, DeletionProtectionEnabled: sdk.Bool(false)})
		if err == nil {
			_, err = client.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &table})
		}
		if err != nil {
			t.Errorf("table %s is left over: %v", table, err)
		}
	})
	c := &corners{client: client, table: table}
	t.Run("Store", c.store)
	t.Run("shared Store", c.sharedStore)
	t.Run("AuditSink", c.audit)
	t.Run("shared AuditSink", c.sharedAudit)
}
