// Command quickstart seals and opens one record under a customer-managed key,
// on an AWS KMS in memory.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

const (
	account = "111122223333"                                 // the customer's
	role    = "arn:aws:iam::777788889999:role/byok-platform" // yours
)

func main() {
	ctx := byok.WithActor(context.Background(), "ana@acme.example")

	// A test keeps these lines and README.md's the same.

	fake := kmsfake.New(nil) // in production awskms.New(cfg, nil), and a sqlstore for what is in memory here
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	scope := byok.Scope{Tenant: "acme", Purpose: "invoices"}
	sealed := must(keeper.Seal(ctx, scope, []byte("hello"), []byte("invoice/42")))
	plain := must(keeper.Open(ctx, scope, sealed, []byte("invoice/42")))

	fmt.Printf("%s, from %d sealed bytes\n", plain, len(sealed))
}

// must ends the program. A service returns its errors.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
