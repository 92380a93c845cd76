package dynamostore

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// maxBatch is how many entries a BatchGetItem may ask for.
const maxBatch = 100

// Answers that are not complete. They are asked for again, and only the second kind has
// an end: a place without its event is seen while the transaction that writes both
// is being committed, for some milliseconds; or the event was deleted.
var (
	errUnprocessed = errors.New("a part of an answer was left out")
	errMissing     = errors.New("an event of the log is missing in the table")
)

// bodies returns the JSON of the events at these places of a log.
func (s *Store) bodies(ctx context.Context, log string, places []string) (map[string][]byte, error) {
	got := make(map[string][]byte, len(places))
	for chunk := range slices.Chunk(places, maxBatch) {
		if err := s.call(ctx, func() error { return s.fetch(ctx, log, chunk, got) }); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// idAt is where the ID begins in a place.
const idAt = len("0123456789abcdef/")

// fetch asks once for what of these places is not yet in got.
func (s *Store) fetch(ctx context.Context, log string, places []string, got map[string][]byte) error {
	var keys []attributes
	for _, at := range places {
		if len(at) <= idAt {
			return errDamaged
		}
		if got[at] == nil {
			keys = append(keys, key(eventPartition+at[idAt:], eventSK))
		}
	}
	out, err := s.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
		RequestItems: map[string]types.KeysAndAttributes{s.table: {Keys: keys, ConsistentRead: aws.Bool(true)}},
	}, once)
	if err != nil {
		return err
	}
	found := out.Responses[s.table]
	for _, a := range found {
		in, ok1 := a[attrLog].(*types.AttributeValueMemberS)
		at, ok2 := a[attrAt].(*types.AttributeValueMemberS)
		body, ok3 := a[attrEvent].(*types.AttributeValueMemberB)
		if !ok1 || !ok2 || !ok3 || in.Value != log || !slices.Contains(places, at.Value) || len(body.Value) == 0 {
			return errDamaged
		}
		got[at.Value] = body.Value
	}
	switch {
	case len(found) == len(keys):
		return nil
	case len(out.UnprocessedKeys) != 0:
		return errUnprocessed
	}
	return errMissing
}
