package byok_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

// keyEvents are the calls after which access to a CMK may be another than before.
var keyEvents = []string{"DisableKey", "EnableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "PutKeyPolicy", "DeleteImportedKeyMaterial"}

// cloudTrailCall is what Amazon EventBridge delivers of a call that AWS CloudTrail
// has recorded, as far as it is needed here:
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html
type cloudTrailCall struct {
	Version    string `json:"version"`
	DetailType string `json:"detail-type"`
	Source     string `json:"source"`
	Account    string `json:"account"` // where it happened; EventBridge's word, not the sender's
	Detail     struct {
		EventSource string `json:"eventSource"`
		EventName   string `json:"eventName"`
		ErrorCode   string `json:"errorCode"`
		Resources   []struct {
			ARN string `json:"ARN"`
		} `json:"resources"`
	} `json:"detail"`
}

// changedKey returns the ARN of the CMK that an event is about.
func changedKey(raw []byte) (arn string, err error) {
	var e cloudTrailCall
	switch {
	case len(raw) > 256<<10:
		return "", errors.New("larger than an event can be")
	case json.Unmarshal(raw, &e) != nil:
		return "", errors.New("not one JSON object")
	case e.Version != "0" || e.DetailType != "AWS API Call via CloudTrail" || e.Source != "aws.kms" || e.Detail.EventSource != "kms.amazonaws.com":
		return "", errors.New("not a call of AWS KMS")
	case !slices.Contains(keyEvents, e.Detail.EventName):
		return "", errors.New("not a call that we asked for")
	case e.Detail.ErrorCode != "":
		return "", errors.New("the call failed, so nothing has changed")
	case len(e.Detail.Resources) != 1:
		return "", errors.New("not about one key")
	}
	arn = e.Detail.Resources[0].ARN
	// arn:aws:kms:REGION:ACCOUNT:key/ID: a customer speaks of its own keys.
	if p := strings.Split(arn, ":"); len(p) != 6 || p[2] != "kms" || p[4] != e.Account || !strings.HasPrefix(p[5], "key/") {
		return "", errors.New("not about a key of the account that it comes from")
	}
	return arn, nil
}

// onKeyEvent handles one event of the platform's queue. The event is a hint and needs no
// trust: whatever it says, KMS is asked, and has the last word. The worst that a forged one can do is
// to cost two KMS requests, and one in each process; and those back off.
//
// An error means: deliver it again later.
func onKeyEvent(ctx context.Context, keeper *byok.Keeper, tenantOf func(arn string) (string, bool), raw []byte) error {
	arn, err := changedKey(raw)
	if err != nil {
		return nil // not for us, and not the next time either: log it
	}
	tenant, ok := tenantOf(arn) // from the platform's own records: KeyStatus.Key of each tenant
	if !ok {
		return nil
	}
	_, err = keeper.Tenant(tenant).Recheck(ctx)
	if errors.Is(err, byok.ErrNotRegistered) {
		return nil
	}
	return err
}

// A customer's account tells the platform that a CMK was disabled; docs/operations.md has the rules and
// policies for it. All processes that Run ask KMS within about a second.
func ExampleTenant_Recheck_events() {
	ctx := context.Background()
	fake := kmsfake.New(nil)
	keys := must(awskms.NewFromClient(fake.Client(role), nil))
	store, sink := new(byok.MemStore), new(byok.MemAudit)
	one := must(byok.New("example-saas", keys, store, sink, nil)) // two processes on one Store
	defer one.Close()
	other := must(byok.New("example-saas", keys, store, sink, nil))
	defer other.Close()
	go other.Run(ctx)

	acme := one.Tenant("acme")
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	must(acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())}))
	must(acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}))
	scope := byok.Scope{Tenant: "acme"}
	sealed := must(other.Seal(ctx, scope, []byte("hello"), nil))

	cmk.Disable()
	event := `{"version":"0","id":"7f2c2d2e-2a6b-4a34-9d4f-0d9a1d2f3c4b","detail-type":"AWS API Call via CloudTrail","source":"aws.kms",
		"account":"111122223333","time":"2026-03-01T12:00:00Z","region":"us-east-1","resources":[],
		"detail":{"eventVersion":"1.11","eventSource":"kms.amazonaws.com","eventName":"DisableKey","awsRegion":"us-east-1",
		"requestParameters":{"keyId":"` + cmk.ID() + `"},"responseElements":{"keyId":"` + cmk.ARN() + `"},"readOnly":false,
		"resources":[{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"` + cmk.ARN() + `"}],"eventType":"AwsApiCall"}}`
	tenantOf := func(arn string) (string, bool) { return "acme", arn == cmk.ARN() }
	fmt.Println(onKeyEvent(ctx, one, tenantOf, []byte(event)))

	var err error
	for start := time.Now(); err == nil && time.Since(start) < byok.DefaultMaxAge/2; time.Sleep(50 * time.Millisecond) {
		_, err = other.Open(ctx, scope, sealed, nil) // its lease would last for a minute
	}
	fmt.Println(errors.Is(err, byok.ErrKeyDenied))
	// Output:
	// <nil>
	// true
}
