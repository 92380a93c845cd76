package dynamostore_test

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/dynamostore"
	"github.com/byok-go/byok/internal/dynamofake"
	"github.com/byok-go/byok/storetest"
)

const table = "byok"

// client is the real SDK's, in front of a database in memory.
func client(db *dynamofake.DB) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{Region: "eu-central-1", Credentials: aws.AnonymousCredentials{}, HTTPClient: &http.Client{Transport: db}})
}

// newTable returns an empty table in a database of its own.
func newTable(t testing.TB, o *dynamofake.Options) *dynamofake.DB {
	t.Helper()
	db := dynamofake.New(o)
	if err := dynamostore.CreateTable(t.Context(), client(db), table); err != nil {
		t.Fatal(err)
	}
	return db
}

func open(t testing.TB, db *dynamofake.DB) *dynamostore.Store {
	t.Helper()
	s, err := dynamostore.Open(t.Context(), client(db), table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestG10_StoreContract(t *testing.T) {
	storetest.TestStore(t, func(t *testing.T) byok.Store { return open(t, newTable(t, nil)) })
}

func TestG10_SharedStoreContract(t *testing.T) {
	storetest.TestSharedStore(t, func(t *testing.T) func(*testing.T) byok.Store {
		db := newTable(t, nil)
		return func(t *testing.T) byok.Store { return open(t, db) }
	})
}

func TestG10_SharedAuditContract(t *testing.T) {
	storetest.TestSharedAudit(t, func(t *testing.T) func(*testing.T) byok.AuditSink {
		db := newTable(t, nil)
		return func(t *testing.T) byok.AuditSink { return open(t, db) }
	})
}
