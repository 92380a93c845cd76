package byok_test

import (
	"context"
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
