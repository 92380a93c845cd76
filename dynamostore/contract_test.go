package dynamostore_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

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

// The suites for one handle are in storm_test.go.

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

// TestCalm: where nothing fails nothing is repeated, which the storms would hide.
func TestCalm(t *testing.T) {
	var got []string
	db := newTable(t, &dynamofake.Options{Watch: func(op string, _ []byte) { got = append(got, op) }})
	s := open(t, db)
	ctx, ref := t.Context(), byok.Ref{Partition: "p", ID: "i"}
	e := byok.Event{ID: "e", Time: time.Unix(1, 0), Op: byok.OpSeal, Scope: byok.Scope{Tenant: "t"}}
	for _, step := range []struct {
		do   func() error
		want []string
		err  error
	}{
		{func() error { _, err := s.Get(ctx, ref); return err }, []string{"TransactGetItems"}, byok.ErrNotFound},
		{func() error { return s.Apply(ctx, byok.Item{Ref: ref, Value: []byte("x")}) }, []string{"TransactWriteItems"}, nil},
		{func() error { return s.Apply(ctx, byok.Item{Ref: ref, Value: []byte("x")}) }, []string{"TransactWriteItems"}, byok.ErrConflict},
		{func() error { _, err := s.Get(ctx, ref); return err }, []string{"TransactGetItems"}, nil},
		{func() error { _, err := s.List(ctx, "p", "", 1000); return err }, []string{"Query"}, nil},
		{func() error { return s.Record(ctx, e) }, []string{"TransactWriteItems"}, nil},
		{func() error { return s.Record(ctx, e) }, []string{"TransactWriteItems"}, nil},
		{func() error { _, err := s.Events(ctx, "t", byok.AuditQuery{}); return err }, []string{"Query", "BatchGetItem", "Query"}, nil},
		{func() error { _, err := s.Events(ctx, "u", byok.AuditQuery{}); return err }, []string{"Query", "Query"}, nil},
		{func() error { _, err := s.Get(ctx, byok.Ref{Partition: "p"}); return err }, nil, byok.ErrArgument},
	} {
		got = nil
		if err := step.do(); !errors.Is(err, step.err) || !slices.Equal(got, step.want) {
			t.Errorf("%v with %q, want %v with %q", err, got, step.err, step.want)
		}
	}
}
