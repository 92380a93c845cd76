package byok_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

// notes are a platform's records: a map here, a table in earnest (see sqlstore/sqltable).
type notes map[string][]byte

func (n notes) Records(_ context.Context, after, last string, limit int) (page []byok.Record, err error) {
	for _, key := range slices.Sorted(maps.Keys(n)) {
		if key > after && (last == "" || key <= last) && len(page) < limit {
			page = append(page, byok.Record{Key: key, Purpose: "notes", AAD: []byte("note/" + key), Value: n[key]})
		}
	}
	return page, nil
}

func (n notes) Replace(_ context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	done := make([]bool, len(records))
	for i, r := range records {
		if done[i] = bytes.Equal(n[r.Key], r.Value); done[i] { // it is what was read: in a table, UPDATE ... WHERE value = ?
			n[r.Key] = sealed[i]
		}
	}
	return done, nil
}

// A data key may be known to somebody. What it has sealed is opened, and sealed anew under one that did not exist then. In earnest call
// Resealer.Run, which also looks again when all processes have heard of the new data key; here one step is enough.
func ExampleTenant_Reseal() {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	table := notes{}
	for i := range 3 {
		key := fmt.Sprint(i)
		table[key] = must(keeper.Seal(ctx, byok.Scope{Tenant: "acme", Purpose: "notes"}, []byte("note "+key), []byte("note/"+key)))
	}

	job := must(acme.Reseal(ctx, byok.Resealing{Source: "notes", Reason: byok.ReasonCompromise}))
	resealer := must(acme.Resealer(ctx, job.ID, table, nil))
	before := must(resealer.Census(ctx))
	cursor, _, err := resealer.Step(ctx, 0, "")
	if err == nil {
		err = resealer.Checkpoint(ctx, 0, cursor)
	}
	after, job := must(resealer.Census(ctx)), must(acme.Job(ctx, job.ID))
	fmt.Println(err, before.Due, after.Due, after.DataKeys[0].Generation, job.Done)
	fmt.Printf("%s\n", must(keeper.Open(ctx, byok.Scope{Tenant: "acme", Purpose: "notes"}, table["2"], []byte("note/2"))))
	// Output:
	// <nil> 3 0 2 3
	// note 2
}
