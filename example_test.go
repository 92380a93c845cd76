package byok_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

const (
	account = "111122223333"                                 // the customer's
	role    = "arn:aws:iam::777788889999:role/byok-platform" // yours
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The quick start of README.md: a test of the examples module keeps them the same.
func Example() {
	ctx := byok.WithActor(context.Background(), "ana@acme.example")

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
	// Output: hello, from 140 sealed bytes
}

// Many records through one buffer, which is as large as the largest needs.
func ExampleKeeper_AppendSeal() {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	scope := byok.Scope{Tenant: "acme", Purpose: "phone-numbers"}

	sealed := make([]byte, 0, byok.SealedSize("acme", 20))
	plain := make([]byte, 0, 20)
	for i, number := range []string{"+43 1 58858", "+1 202 555 0143"} {
		aad := fmt.Appendf(nil, "user/%d", i)
		sealed = must(keeper.AppendSeal(ctx, sealed[:0], scope, []byte(number), aad))
		plain = must(keeper.AppendOpen(ctx, plain[:0], scope, sealed, aad))
		fmt.Printf("%s: %d bytes, announced %d\n", plain, len(sealed), byok.SealedSize("acme", len(number)))
	}
	// Output:
	// +43 1 58858: 146 bytes, announced 146
	// +1 202 555 0143: 150 bytes, announced 150
}

// What revocation looks like: the customer disables its key, and the first
// question to KMS ends all use of it.
func ExampleTenant_Recheck() {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	keeper := must(byok.New("example-saas", keys, new(byok.MemStore), new(byok.MemAudit), nil))
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	sealed := must(keeper.Seal(ctx, byok.Scope{Tenant: "acme"}, []byte("hello"), nil))

	cmk.Disable()
	status := must(acme.Recheck(ctx)) // on an event from acme's AWS account, say; else within MaxAge
	fmt.Println(status.Status, "-", status.Reason)
	_, err := keeper.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil)
	fmt.Println(errors.Is(err, byok.ErrKeyRevoked), byok.Code(err))
	// Output:
	// disabled - KMS denies access to the key: DisabledException
	// true BYOK_002
}
