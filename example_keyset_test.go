package byok_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

// Dual control: neither the customer nor its escrow agent can read alone, and each of them can stop.
func ExampleRegistration_dualControl() {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	own := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	agents := fake.Account("444455556666").CreateKey(awskms.KeyPolicy("444455556666", role, acme.EncryptionContext()).JSON())

	must(acme.Register(ctx, byok.Registration{
		Key: awskms.Key(own.ARN()), Others: []byok.KeyID{awskms.Key(agents.ARN())}, Policy: byok.PolicyAll,
	}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	scope := byok.Scope{Tenant: "acme", Purpose: "contracts"}
	sealed := must(keeper.Seal(ctx, scope, []byte("hello"), nil))

	agents.Disable()
	status := must(acme.Recheck(ctx)) // or wait for MaxAge
	_, err := keeper.Open(ctx, scope, sealed, nil)
	fmt.Println(status.Status, errors.Is(err, byok.ErrKeyDenied))
	// Output: disabled true
}
