package kms

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Table is as much of DynamoDB as the key store of AWS's hierarchical keyring uses: one
// table, GetItem, and TransactWriteItems without conditions.
type Table struct {
	mu    sync.Mutex
	items map[tableKey]json.RawMessage
}

type tableKey struct {
	ID   struct{ S string } `json:"branch-key-id"`
	Type struct{ S string } `json:"type"`
}

// NewTable returns an empty Table.
func NewTable() *Table { return &Table{items: map[tableKey]json.RawMessage{}} }

// Client is the SDK's own client.
func (t *Table) Client() *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{Region: "us-east-1", Credentials: nobody, HTTPClient: httpClient(t.serve)})
}

func (t *Table) serve(_ *http.Request, operation string, body []byte) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]json.RawMessage{}
	switch operation {
	case "GetItem":
		var in struct{ Key tableKey }
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		if item, ok := t.items[in.Key]; ok {
			out["Item"] = item
		}
	case "TransactWriteItems":
		var in struct {
			TransactItems []struct {
				Put struct{ Item json.RawMessage }
			}
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		for _, write := range in.TransactItems {
			var key tableKey
			if err := json.Unmarshal(write.Put.Item, &key); err != nil {
				return nil, err
			}
			t.items[key] = write.Put.Item
		}
	default:
		return nil, fmt.Errorf("bench/kms: no peer was known to need %s", operation)
	}
	return out, nil
}
