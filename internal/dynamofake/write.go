package dynamofake

import (
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
)

type transactWrite struct {
	ClientRequestToken string
	TransactItems      []struct{ Put *put }
}

type put struct {
	TableName                 string
	Item                      attributes
	ConditionExpression       string
	ExpressionAttributeValues attributes
}

// token is a transaction that is known by its token. One that failed is forgotten.
type token struct {
	in   *transactWrite
	done bool
}

// write is one that is about to be made.
type write struct {
	table *table
	key   key
	item  attributes
}

func (db *DB) transactWrite(in *transactWrite) (any, *apiError) {
	writes, err := db.prepare(in)
	if err != nil {
		return nil, err
	}
	// One at a time: whoever looks meanwhile sees some of them.
	for _, w := range writes {
		runtime.Gosched()
		db.mu.Lock()
		w.table.put(w.key, w.item)
		delete(w.table.pending, w.key)
		db.mu.Unlock()
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if t := db.tokens[in.ClientRequestToken]; t != nil {
		t.done = true
	}
	return struct{}{}, nil
}

// prepare checks a transaction and, if nothing stands against it, marks what it
// is going to write. It returns no writes for one that was made before.
func (db *DB) prepare(in *transactWrite) ([]write, *apiError) {
	if n := len(in.TransactItems); n < 1 || n > maxActions {
		return nil, validation("Member must have length less than or equal to %d, greater than or equal to 1", maxActions)
	}
	if in.ClientRequestToken == "" || len(in.ClientRequestToken) > maxToken {
		return nil, validation("the length of clientRequestToken") // none at all is allowed there, but the SDK makes one
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if t := db.tokens[in.ClientRequestToken]; t != nil {
		switch {
		case !reflect.DeepEqual(t.in, in):
			return nil, &apiError{status: 400, code: "IdempotentParameterMismatchException", message: "another request had this token"}
		case !t.done:
			return nil, &apiError{status: 400, code: "TransactionInProgressException", message: "The transaction with the given request token is already in progress."}
		}
		return nil, nil
	}
	var writes []write
	reasons, refused, size := make([]reason, len(in.TransactItems)), false, 0
	seen := map[string]bool{}
	for i, action := range in.TransactItems {
		p := action.Put
		if p == nil {
			return nil, unsupported("an action that is no Put")
		}
		w, why, err := db.check(p)
		if err != nil {
			return nil, err
		}
		if at := p.TableName + "\x00" + w.key.pk + "\x00" + w.key.sk; seen[at] {
			return nil, validation("Transaction request cannot include multiple operations on one item")
		} else {
			seen[at] = true
		}
		if size += p.Item.size(); size > maxTransaction {
			return nil, validation("Collection size limit of %d bytes exceeded", maxTransaction)
		}
		reasons[i], refused = why, refused || why.Code != "None"
		writes = append(writes, w)
	}
	if refused {
		var codes []string
		for _, r := range reasons {
			codes = append(codes, r.Code)
		}
		return nil, &apiError{status: 400, code: "TransactionCanceledException", reasons: reasons,
			message: "Transaction cancelled, please refer cancellation reasons for specific reasons [" + strings.Join(codes, ", ") + "]"}
	}
	for _, w := range writes {
		w.table.pending[w.key] = true
	}
	db.tokens[in.ClientRequestToken] = &token{in: in}
	return writes, nil
}

// check says what stands against one write.
func (db *DB) check(p *put) (w write, why reason, err *apiError) {
	if w.table, err = db.tableLocked(p.TableName); err != nil {
		return w, why, err
	}
	if w.key, err = keyOf(p.Item, false); err != nil {
		return w, why, err
	}
	for name, v := range p.Item {
		if v.kinds() != 1 {
			return w, why, unsupported("an attribute that is not one of S, N, B: " + name)
		}
		if v.N != nil {
			if n, err := strconv.ParseUint(*v.N, 10, 64); err != nil || strconv.FormatUint(n, 10) != *v.N {
				return w, why, unsupported("the number " + *v.N)
			}
		}
	}
	if p.Item.size() > maxEntry {
		return w, why, validation("Item size has exceeded the maximum allowed size")
	}
	w.item = p.Item
	holds, err := condition(p, w.table.get(w.key).now)
	switch {
	case err != nil:
		return w, why, err
	case w.table.pending[w.key]:
		return w, reason{"TransactionConflict", "Transaction is ongoing for the item"}, nil
	case !holds:
		return w, reason{"ConditionalCheckFailed", "The conditional request failed"}, nil
	}
	return w, reason{Code: "None"}, nil
}

// condition evaluates a ConditionExpression of the forms that are sent.
func condition(p *put, now attributes) (bool, *apiError) {
	args := p.ExpressionAttributeValues
	switch p.ConditionExpression {
	case "", "attribute_not_exists(pk)":
		if len(args) != 0 {
			return false, validation("Value provided in ExpressionAttributeValues unused in expressions")
		}
		return p.ConditionExpression == "" || now == nil, nil
	case "rev = :rev":
		want := args[":rev"]
		if want.N == nil || len(args) != 1 {
			return false, validation("an expression attribute value used in expression is not defined; attribute value: :rev")
		}
		got := now["rev"]
		return got.N != nil && *got.N == *want.N, nil
	}
	return false, unsupported(fmt.Sprintf("the condition %q", p.ConditionExpression))
}
