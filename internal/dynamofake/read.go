package dynamofake

import (
	"fmt"
	"slices"
	"sort"
)

type transactGet struct {
	TransactItems []struct{ Get *get }
}

type get struct {
	TableName string
	Key       attributes
}

func (db *DB) transactGet(in *transactGet) (any, *apiError) {
	if n := len(in.TransactItems); n < 1 || n > maxActions {
		return nil, validation("Member must have length less than or equal to %d, greater than or equal to 1", maxActions)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	responses := make([]map[string]attributes, len(in.TransactItems))
	reasons, refused := make([]reason, len(in.TransactItems)), false
	for i, action := range in.TransactItems {
		if action.Get == nil {
			return nil, unsupported("an action that is no Get")
		}
		t, err := db.tableLocked(action.Get.TableName)
		if err != nil {
			return nil, err
		}
		k, err := keyOf(action.Get.Key, true)
		if err != nil {
			return nil, err
		}
		reasons[i] = reason{Code: "None"}
		if t.pending[k] {
			reasons[i], refused = reason{"TransactionConflict", "Transaction is ongoing for the item"}, true
		}
		responses[i] = map[string]attributes{}
		if now := t.get(k).now; now != nil {
			responses[i]["Item"] = now
		}
	}
	if refused {
		return nil, &apiError{status: 400, code: "TransactionCanceledException", reasons: reasons, message: "Transaction cancelled"}
	}
	return map[string]any{"Responses": responses}, nil
}

type batchGet struct {
	RequestItems map[string]struct {
		Keys           []attributes
		ConsistentRead *bool
	}
	Partial bool `json:"dynamofake"` // the fault, not a member of DynamoDB's
}

func (db *DB) batchGet(in *batchGet) (any, *apiError) {
	db.mu.Lock()
	defer db.mu.Unlock()
	responses, unprocessed := map[string][]attributes{}, map[string]any{}
	n, size := 0, 0
	for name, ask := range in.RequestItems {
		t, err := db.tableLocked(name)
		if err != nil {
			return nil, err
		}
		seen := map[key]bool{}
		var left []attributes
		for i, a := range ask.Keys {
			k, err := keyOf(a, true)
			if err != nil {
				return nil, err
			}
			if n++; n > maxKeys {
				return nil, validation("Too many items requested for the BatchGetItem call")
			}
			if seen[k] {
				return nil, validation("Provided list of item keys contains duplicates")
			}
			seen[k] = true
			row := t.get(k).see(ask.ConsistentRead)
			if size+row.size() > maxAnswer || in.Partial && i > 0 {
				left = append(left, a)
				continue
			}
			size += row.size()
			if row != nil { // in an order of its own
				responses[name] = slices.Insert(responses[name], len(responses[name])/2, row)
			}
		}
		if left != nil {
			unprocessed[name] = map[string]any{"Keys": left, "ConsistentRead": ask.ConsistentRead}
		}
	}
	if n == 0 {
		return nil, validation("The list of keys in RequestItems for BatchGetItem is required")
	}
	return map[string]any{"Responses": responses, "UnprocessedKeys": unprocessed}, nil
}

type query struct {
	TableName                 string
	KeyConditionExpression    string
	ExpressionAttributeValues attributes
	ConsistentRead            *bool
	ScanIndexForward          *bool
	Limit                     *int
	Select                    string
	ExclusiveStartKey         attributes
}

// span is what a KeyConditionExpression of the forms that are sent asks for: sort keys from
// low, or if open after it, to high if that is not "".
type span struct {
	pk, low, high string
	open          bool
}

func (s span) has(sk string) bool {
	return sk >= s.low && !(s.open && sk == s.low) && (s.high == "" || sk <= s.high)
}

// of returns the part of sorted keys that is in the span.
func (s span) of(order []string) []string {
	from := sort.Search(len(order), func(i int) bool { return order[i] >= s.low && !(s.open && order[i] == s.low) })
	to := sort.Search(len(order), func(i int) bool { return s.high != "" && order[i] > s.high })
	return order[from:max(from, to)]
}

func (q *query) span() (s span, err *apiError) {
	forms := map[string][]string{
		"pk = :p":                          {":p"},
		"pk = :p AND sk > :a":              {":p", ":a"},
		"pk = :p AND sk BETWEEN :a AND :b": {":p", ":a", ":b"},
	}
	names, ok := forms[q.KeyConditionExpression]
	if !ok {
		return s, unsupported(fmt.Sprintf("the key condition %q", q.KeyConditionExpression))
	}
	if len(q.ExpressionAttributeValues) != len(names) {
		return s, validation("Value provided in ExpressionAttributeValues unused in expressions")
	}
	args := make([]string, 3)
	for i, name := range names {
		v := q.ExpressionAttributeValues[name]
		if v.S == nil || v.kinds() != 1 || *v.S == "" {
			return s, validation("One or more parameter values were invalid: Condition parameter type does not match schema type")
		}
		args[i] = *v.S
	}
	if len(names) == 3 && args[1] > args[2] {
		return s, validation("The BETWEEN operator requires upper bound to be greater than or equal to lower bound")
	}
	return span{pk: args[0], low: args[1], high: args[2], open: len(names) == 2}, nil
}

func (db *DB) query(in *query) (any, *apiError) {
	want, err := in.span()
	if err != nil {
		return nil, err
	}
	if in.Limit != nil && *in.Limit < 1 {
		return nil, validation("Limit must be greater than or equal to 1")
	}
	if in.Select != "" && in.Select != "COUNT" {
		return nil, unsupported("Select " + in.Select)
	}
	backwards := in.ScanIndexForward != nil && !*in.ScanIndexForward
	db.mu.Lock()
	defer db.mu.Unlock()
	t, err := db.tableLocked(in.TableName)
	if err != nil {
		return nil, err
	}
	p := t.parts[want.pk]
	if p == nil {
		p = new(part)
	}
	order := want.of(p.order)
	if in.ExclusiveStartKey != nil {
		k, err := keyOf(in.ExclusiveStartKey, true)
		if err != nil {
			return nil, err
		}
		if k.pk != want.pk || !want.has(k.sk) {
			return nil, validation("The provided starting key is outside query boundaries based on provided conditions")
		}
		i := sort.SearchStrings(order, k.sk)
		if backwards {
			order = order[:i]
		} else if i < len(order) && order[i] == k.sk {
			order = order[i+1:]
		} else {
			order = order[i:]
		}
	}
	items, count, size := []attributes{}, 0, 0
	out := map[string]any{}
	for i := range order {
		sk := order[i]
		if backwards {
			sk = order[len(order)-1-i]
		}
		row := p.rows[sk].see(in.ConsistentRead)
		if row == nil {
			continue
		}
		count++
		size += row.size()
		if in.Select != "COUNT" {
			items = append(items, row)
		}
		if in.Limit != nil && count == *in.Limit || size >= db.opts.PageSize {
			out["LastEvaluatedKey"] = attributes{"pk": row["pk"], "sk": row["sk"]}
			break
		}
	}
	if in.Select != "COUNT" {
		out["Items"] = items
	}
	out["Count"], out["ScannedCount"] = count, count
	return out, nil
}
