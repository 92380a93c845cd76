package dynamofake

import (
	"slices"
	"sort"
)

// value is an attribute: of the kinds that are used one.
type value struct {
	S *string `json:",omitempty"`
	N *string `json:",omitempty"`
	B *[]byte `json:",omitempty"`
}

func (v value) kinds() (n int) {
	for _, there := range []bool{v.S != nil, v.N != nil, v.B != nil} {
		if there {
			n++
		}
	}
	return n
}

// size is what a value counts in the limits of an entry and of an answer.
func (v value) size() int {
	switch {
	case v.S != nil:
		return len(*v.S)
	case v.N != nil:
		return (len(*v.N)+1)/2 + 1
	case v.B != nil:
		return len(*v.B)
	}
	return 0
}

type attributes map[string]value

func (a attributes) size() (n int) {
	for name, v := range a {
		n += len(name) + v.size()
	}
	return n
}

// Limits of DynamoDB.
const (
	maxPK          = 2048
	maxSK          = 1024
	maxEntry       = 400 << 10
	maxTransaction = 4 << 20
	maxActions     = 100
	maxKeys        = 100
	maxAnswer      = 16 << 20
	maxToken       = 36
)

type key struct{ pk, sk string }

// keyOf returns the key in an entry; alone says that there must be nothing else.
func keyOf(a attributes, alone bool) (k key, err *apiError) {
	pk, sk := a["pk"], a["sk"]
	if pk.S == nil || sk.S == nil || alone && len(a) != 2 {
		return k, validation("The provided key element does not match the schema")
	}
	k = key{*pk.S, *sk.S}
	if k.pk == "" || k.sk == "" || len(k.pk) > maxPK || len(k.sk) > maxSK {
		return k, validation("One or more parameter values are not valid: the size of a key")
	}
	return k, nil
}

// row is an entry, as it is and as it was before its last write.
type row struct{ now, before attributes }

type table struct {
	schema  createTable
	parts   map[string]*part
	pending map[key]bool // a transaction is about to write these
}

type part struct {
	order []string // sort keys, by their bytes
	rows  map[string]row
}

func (t *table) get(k key) row {
	if p := t.parts[k.pk]; p != nil {
		return p.rows[k.sk]
	}
	return row{}
}

func (t *table) put(k key, a attributes) {
	p := t.parts[k.pk]
	if p == nil {
		p = &part{rows: map[string]row{}}
		t.parts[k.pk] = p
	}
	old, ok := p.rows[k.sk]
	if !ok {
		p.order = slices.Insert(p.order, sort.SearchStrings(p.order, k.sk), k.sk)
	}
	p.rows[k.sk] = row{now: a, before: old.now}
}

// see is an entry as a read sees it, nil if it is not there.
func (r row) see(consistent *bool) attributes {
	if consistent != nil && *consistent {
		return r.now
	}
	return r.before
}

type schemaElement struct{ AttributeName, KeyType string }
type definition struct{ AttributeName, AttributeType string }

type createTable struct {
	TableName                 string
	BillingMode               string
	DeletionProtectionEnabled bool
	KeySchema                 []schemaElement
	AttributeDefinitions      []definition
}

func (db *DB) createTable(in *createTable) (any, *apiError) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.tables[in.TableName] != nil {
		return nil, &apiError{status: 400, code: "ResourceInUseException", message: "Table already exists"}
	}
	db.tables[in.TableName] = &table{schema: *in, parts: map[string]*part{}, pending: map[key]bool{}}
	return map[string]any{"TableDescription": description(in)}, nil
}

func (db *DB) describeTable(in *struct{ TableName string }) (any, *apiError) {
	t, err := db.table(in.TableName)
	if err != nil {
		return nil, err
	}
	return map[string]any{"Table": description(&t.schema)}, nil
}

func description(c *createTable) map[string]any {
	return map[string]any{
		"TableName": c.TableName, "TableStatus": "ACTIVE", "KeySchema": c.KeySchema, "AttributeDefinitions": c.AttributeDefinitions,
		"DeletionProtectionEnabled": c.DeletionProtectionEnabled, "BillingModeSummary": map[string]any{"BillingMode": c.BillingMode},
	}
}

func (db *DB) table(name string) (*table, *apiError) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.tableLocked(name)
}

func (db *DB) tableLocked(name string) (*table, *apiError) {
	if t := db.tables[name]; t != nil {
		return t, nil
	}
	return nil, &apiError{status: 400, code: "ResourceNotFoundException", message: "Requested resource not found: Table: " + name + " not found"}
}
