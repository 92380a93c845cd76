package sqltable_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
	"github.com/byok-go/byok/sqlstore/sqltable"
)

const role = "arn:aws:iam::777788889999:role/byok-platform"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The invoices of acme are in clear, and are adopted: sealed where they are, while the platform goes on. What to do after a compromise is the same
// with another Resealing: {Source: ..., Reason: byok.ReasonCompromise, ...}.
func Example() {
	ctx := context.Background()
	dir := must(os.MkdirTemp("", "example"))
	defer os.RemoveAll(dir)
	db := must(sql.Open("sqlite3", "file:"+filepath.Join(dir, "app.db")+"?_pragma=busy_timeout(10000)"))
	defer db.Close()
	store := must(sqlstore.Open(ctx, db, sqlstore.SQLite)) // the platform's tables may be in the same file

	fake := kmsfake.New(nil) // in production awskms.New
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, store, store, &byok.Options{MaxAge: 3 * time.Second})) // short, for the example
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	cmk := fake.Account("111122223333").CreateKey(awskms.KeyPolicy("111122223333", role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))

	must(db.Exec(`CREATE TABLE invoices (tenant TEXT, id INTEGER, clear TEXT, sealed BLOB, PRIMARY KEY (tenant, id))`))
	must(db.Exec(`INSERT INTO invoices (tenant, id, clear) VALUES ('acme', 1, 'ten euros'), ('acme', 2, 'a million'), ('globex', 1, 'none of acme''s')`))

	aad := func(id string) []byte { return []byte("invoices/" + id) } // the same that the platform gives to Seal and Open
	table := must(sqltable.New(ctx, db, sqlstore.SQLite, sqltable.Table{
		Name: "invoices", Key: "id", Value: "sealed", Clear: "clear", Tenant: "tenant", TenantID: "acme",
		Purpose: "invoices", AAD: aad,
	}))
	job := must(acme.Reseal(ctx, byok.Resealing{
		Source: "table invoices", Adopt: true,
		Shards: must(table.Split(ctx, 16)), Total: must(table.Count(ctx)),
	}))
	// This, in any number of processes. Each may be killed, and goes on with the job's id.
	resealer := must(acme.Resealer(ctx, job.ID, table, &byok.ResealOptions{PerSecond: 500}))
	if err := resealer.Run(ctx); errors.Is(err, byok.ErrRecordsFailed) {
		fmt.Println("look at these:", must(acme.Job(ctx, job.ID)).Failures)
	} else if err != nil {
		panic(err)
	}

	job = must(acme.Job(ctx, job.ID))
	fmt.Println(job.State, job.Done, "sealed,", job.Failed, "failed")
	var sealed []byte
	if err := db.QueryRow(`SELECT sealed FROM invoices WHERE tenant = 'acme' AND id = 2 AND clear IS NULL`).Scan(&sealed); err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", must(keeper.Open(ctx, byok.Scope{Tenant: "acme", Purpose: "invoices"}, sealed, aad("2"))))
	// Output:
	// done 2 sealed, 0 failed
	// a million
}
