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
	"github.com/byok-go/byok/internal/random"
	"github.com/byok-go/byok/internal/storecheck"
)

// tokenLife is how long after the first attempt of an Apply its token is relied
// on. DynamoDB knows a token for 10 minutes after its request; half of that
// leaves room for clocks and for requests that are slow to arrive.
const tokenLife = 5 * time.Minute

// errOutcome: an attempt's answer was lost, and either so long ago that nobody can
// tell any more whether a conflict is with that attempt itself, or it may still take place.
var errOutcome = errors.New("what became of a write is not known")

// Apply implements byok.Store.
//
// It is always a transaction, also of one item, because a transaction can carry a
// token: if an answer is lost the same request is sent again, and DynamoDB answers for the first
// one if that took place. A conditional PutItem could not be repeated: its own first
// attempt would look like another writer, and a conflict must be certain. The price is
// two write units instead of one.
func (s *Store) Apply(ctx context.Context, writes ...byok.Item) error {
	err := storecheck.Apply(len(writes), func(i int) (string, string, []byte) {
		return writes[i].Partition, writes[i].ID, writes[i].Value
	})
	if err != nil {
		return argument(err)
	}
	in := &dynamodb.TransactWriteItemsInput{ClientRequestToken: aws.String(random.Text())}
	for _, w := range writes {
		in.TransactItems = append(in.TransactItems, types.TransactWriteItem{Put: s.put(w)})
	}
	begun, lost := time.Now(), false
	err = s.call(ctx, func() error {
		if lost && expired(begun) {
			return errOutcome
		}
		_, err := s.client.TransactWriteItems(ctx, in, once)
		if cancelledBy(err, conditionFailed) {
			if lost && expired(begun) {
				return errOutcome
			}
			return byok.ErrConflict
		}
		lost = lost || judge(err) == unknown
		return err
	})
	if lost && errors.Is(err, byok.ErrConflict) {
		err = s.settled(ctx, writes)
	}
	if err != nil && !errors.Is(err, byok.ErrConflict) {
		return fmt.Errorf("dynamostore: apply: %w", err)
	}
	return err
}

// settled returns ErrConflict if an Apply that met a conflict can never succeed any more, since one
// of its items is beyond the revision that it expects: then an attempt that was lost, and may be on
// its way still, does nothing when it arrives. An expectation of what is yet to be written could
// be fulfilled by then.
func (s *Store) settled(ctx context.Context, writes []byok.Item) error {
	for _, w := range writes {
		got, err := s.Get(ctx, w.Ref)
		if err != nil && !errors.Is(err, byok.ErrNotFound) {
			return err
		}
		if got.Revision > w.Revision {
			return byok.ErrConflict
		}
	}
	return errOutcome
}

// expired looks at both clocks: the monotonic one stands still while a machine
// sleeps, and the other one can be set back.
func expired(begun time.Time) bool {
	now := time.Now()
	return now.Sub(begun) > tokenLife || now.Round(0).Sub(begun.Round(0)) > tokenLife
}

// put writes one item if its revision is the expected one. The condition and the
// write are one step of the transaction.
func (s *Store) put(w byok.Item) *types.Put {
	p := &types.Put{TableName: &s.table, Item: itemKey(w.Ref)}
	p.Item[attrRevision] = number(w.Revision + 1)
	p.Item[attrValue] = &types.AttributeValueMemberB{Value: w.Value}
	if w.Revision == 0 {
		p.ConditionExpression = aws.String("attribute_not_exists(pk)")
	} else { // no item has the largest revision, so the sum never wraps around
		p.ConditionExpression = aws.String("rev = :rev")
		p.ExpressionAttributeValues = attributes{":rev": number(w.Revision)}
	}
	return p
}

func number(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}
