package drill_test

import (
	"context"
	"fmt"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/drill"
	"github.com/byok-go/byok/kmsfake"
)

// A drill in a test of a platform: its workers are Keepers in this process. The
// command byok makes processes of them.
func ExampleRevoke() {
	const account, role = "111122223333", "arn:aws:iam::999999999999:role/platform"
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ctx, fake, store, sink := context.Background(), kmsfake.New(nil), new(byok.MemStore), new(byok.MemAudit)
	keys, err := awskms.NewFromClient(fake.Client(role), nil)
	must(err)
	open := func(o *byok.Observer) (*byok.Keeper, error) {
		return byok.New("example", keys, store, sink, &byok.Options{MaxAge: time.Second, Observer: o})
	}
	keeper, err := open(nil)
	must(err)
	defer keeper.Close()
	acme := keeper.Tenant("acme")
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN()), Drillable: true})
	must(err)
	_, err = acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true})
	must(err)

	report, err := drill.Revoke(ctx, drill.Config{
		Status: acme.Status, MaxAge: time.Second, Worker: drill.InProcess("acme", open),
		Deny:    func(context.Context) error { cmk.Disable(); return nil },
		Restore: func(context.Context) error { cmk.Enable(); return nil },
	})
	must(err)
	fmt.Println(report.Verdict, report.AfterDenial.Succeeded, report.AfterBound.Succeeded)
	// Output: pass 0 0
}
