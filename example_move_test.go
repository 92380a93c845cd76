package byok_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

// A customer changes its CMK: all data keys come under the new one, and what was sealed opens as before, without the old one.
func ExampleTenant_Move() {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	policy := awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON()
	old, next := fake.Account(account).CreateKey(policy), fake.Account("444455556666").CreateKey(awskms.KeyPolicy("444455556666", role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(old.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	sealed := must(keeper.Seal(ctx, byok.Scope{Tenant: "acme"}, []byte("hello"), nil))

	job := must(acme.Move(ctx, awskms.Key(next.ARN()), "new account"))
	for job, err := range acme.RunJob(ctx, job.ID) { // or leave it to a process that Runs
		if err != nil {
			panic(err) // the job is resumable
		}
		fmt.Printf("%s: %d of %d (%s)\n", job.State, job.Done, job.Done+job.Left, job.Method)
	}
	old.Disable()
	fmt.Printf("%s\n", must(keeper.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil)))
	// Output:
	// running: 1 of 1 (Decrypt+Encrypt)
	// switching: 1 of 1 (Decrypt+Encrypt)
	// switching: 1 of 1 (Decrypt+Encrypt)
	// done: 1 of 1 (Decrypt+Encrypt)
	// hello
}

// A customer wants dual control for what it has sealed already, with the CMK of an escrow agent beside its own.
func ExampleTenant_MoveTo() {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	own := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	agents := fake.Account("444455556666").CreateKey(awskms.KeyPolicy("444455556666", role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(own.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	scope := byok.Scope{Tenant: "acme", Purpose: "contracts"}
	sealed := must(keeper.Seal(ctx, scope, []byte("hello"), nil))

	job := must(acme.MoveTo(ctx, byok.Move{
		Key: awskms.Key(own.ARN()), Others: []byok.KeyID{awskms.Key(agents.ARN())}, Policy: byok.PolicyAll, Reason: "escrow",
	}))
	for _, err := range acme.RunJob(ctx, job.ID) { // or leave it to a process that Runs
		if err != nil {
			panic(err) // the job is resumable
		}
	}
	fmt.Printf("%s\n", must(keeper.Open(ctx, scope, sealed, nil)))

	agents.Disable()
	must(acme.Recheck(ctx)) // or wait for MaxAge
	_, err := keeper.Open(ctx, scope, sealed, nil)
	fmt.Println(errors.Is(err, byok.ErrKeyDenied))
	// Output:
	// hello
	// true
}
