package dynamostore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/storecheck"
)

// ErrUnfit: this table, as it is set up, cannot keep the contract of byok.Store.
// The text says what to change.
var ErrUnfit = errors.New("the table is not fit for a Store")

// The table: a partition key and a sort key, both strings, which DynamoDB orders by
// their UTF-8 bytes. There is no secondary index: those cannot be read consistently, or
// bound a tenant's log to 10 GB.
//
//	pk               sk                            else
//	item PARTITION   ID                            rev, val         an item of the Store
//	event ID         event                         log, at, event   an event, and that its ID is known
//	log TENANT       TIME/ID                                        its place in the tenant's log
//	op TENANT OP     TIME/ID                                        and among those of its operation
//
// log and at are where its place is. TIME is 16 hex digits that are in the order of time. Partitions and IDs have no
// spaces. A tenant or an operation that has some, or is odd in another
// way, stands there as a space and the SHA-256 of it.
const (
	keyPK = "pk"
	keySK = "sk"

	attrRevision = "rev"
	attrValue    = "val"
	attrLog      = "log"
	attrAt       = "at"
	attrEvent    = "event"

	itemPartition  = "item "
	eventPartition = "event "
	eventSK        = "event"
	logPartition   = "log "
	opPartition    = "op "
)

// attributes are an entry of the table, or a key.
type attributes = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func key(pk, sk string) attributes { return attributes{keyPK: text(pk), keySK: text(sk)} }

func itemKey(r byok.Ref) attributes { return key(itemPartition+r.Partition, r.ID) }

// name is how a tenant or an operation stands in a key: no two alike, and no
// more than 255 bytes.
func name(s string) string {
	if storecheck.Part(s) == nil {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return " " + hex.EncodeToString(sum[:])
}

// fit reports whether a table can keep a Store.
func fit(t *types.TableDescription) error {
	if t == nil {
		return errDamaged
	}
	unfit := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrUnfit, fmt.Sprintf(format, args...))
	}
	switch t.TableStatus {
	case types.TableStatusActive, types.TableStatusUpdating:
	default:
		return unfit("its status is %s", t.TableStatus)
	}
	want := []types.KeySchemaElement{
		{AttributeName: aws.String(keyPK), KeyType: types.KeyTypeHash}, {AttributeName: aws.String(keySK), KeyType: types.KeyTypeRange},
	}
	same := func(a, b types.KeySchemaElement) bool {
		return aws.ToString(a.AttributeName) == aws.ToString(b.AttributeName) && a.KeyType == b.KeyType
	}
	if !slices.EqualFunc(t.KeySchema, want, same) {
		return unfit("its partition key must be %s, and its sort key %s", keyPK, keySK)
	}
	for _, k := range []string{keyPK, keySK} {
		if !slices.ContainsFunc(t.AttributeDefinitions, func(d types.AttributeDefinition) bool {
			return aws.ToString(d.AttributeName) == k && d.AttributeType == types.ScalarAttributeTypeS
		}) {
			return unfit("its key %s must be a string", k)
		}
	}
	// Of two Regions the last writer wins, whatever the first one was told; and where
	// Regions wait for each other there are no transactions.
	if len(t.Replicas) != 0 {
		return unfit("it is a global table, with a replica in another Region")
	}
	return nil
}

// TableCreator is what CreateTable needs of a *dynamodb.Client.
type TableCreator interface {
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
}

// CreateTable makes a table and waits until it can be used: for tests and
// development. It is billed by request and protected from deletion; it has no
// point-in-time recovery, which the Terraform in docs/dynamodb.md turns on. A table
// that exists already is an error.
func CreateTable(ctx context.Context, client TableCreator, table string) error {
	if client == nil || table == "" {
		return fmt.Errorf("%w: dynamostore.CreateTable needs a client and a name", byok.ErrArgument)
	}
	// Not repeated: its own first attempt would look like a table that exists.
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName: &table, BillingMode: types.BillingModePayPerRequest, DeletionProtectionEnabled: aws.Bool(true),
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(keyPK), KeyType: types.KeyTypeHash}, {AttributeName: aws.String(keySK), KeyType: types.KeyTypeRange},
		},
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(keyPK), AttributeType: types.ScalarAttributeTypeS}, {AttributeName: aws.String(keySK), AttributeType: types.ScalarAttributeTypeS},
		},
	}, once)
	s := &Store{firstWait: firstWait}
	for err == nil {
		var out *dynamodb.DescribeTableOutput
		err = s.call(ctx, func() (err error) {
			out, err = client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table}, once)
			return err
		})
		if err == nil && out.Table != nil && out.Table.TableStatus == types.TableStatusActive {
			return nil
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return fmt.Errorf("dynamostore: create a table: %w", plain(err))
}
