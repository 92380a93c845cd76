package kmsfake_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/byok-go/byok/kmsfake"
)

// The stories of docs/testing-revocation.md.

const (
	customer = "111122223333"
	vendor   = "arn:aws:iam::444455556666:role/vendor"
)

// letIn is the customer's key policy: the account itself, and the vendor for one tenant.
const letIn = `{
	"Version": "2012-10-17",
	"Statement": [{
		"Sid": "owner",
		"Effect": "Allow",
		"Principal": {"AWS": "arn:aws:iam::111122223333:root"},
		"Action": "kms:*",
		"Resource": "*"
	}, {
		"Sid": "vendor",
		"Effect": "Allow",
		"Principal": {"AWS": "arn:aws:iam::444455556666:role/vendor"},
		"Action": ["kms:GenerateDataKey", "kms:Decrypt"],
		"Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "acme"}}
	}]
}`

// product is the code under test: it holds one wrapped data key of a tenant.
type product struct {
	kms     kmsfake.API
	wrapped []byte
}

func newProduct(client kmsfake.API, cmk *kmsfake.Key) *product {
	out, err := client.GenerateDataKey(context.Background(), &kms.GenerateDataKeyInput{
		KeyId: aws.String(cmk.ARN()), KeySpec: types.DataKeySpecAes256, EncryptionContext: map[string]string{"tenant": "acme"},
	})
	if err != nil {
		panic(err)
	}
	return &product{client, out.CiphertextBlob}
}

// Read is what a user does: it needs the data key in clear.
func (p *product) Read() string {
	_, err := p.kms.Decrypt(context.Background(), &kms.DecryptInput{
		CiphertextBlob: p.wrapped, EncryptionContext: map[string]string{"tenant": "acme"},
	})
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	} else if err != nil {
		return "no answer"
	}
	return "ok"
}

// A customer can stop a vendor in several ways, and change its mind.
func Example_revocation() {
	fake := kmsfake.New(nil)
	cmk := fake.Account(customer).CreateKey(letIn)
	app := newProduct(fake.Client(vendor), cmk)

	cmk.Disable()
	fmt.Println("disabled:", app.Read())
	cmk.Enable()
	cmk.DenyTo(vendor)
	fmt.Println("denied:", app.Read())
	cmk.AllowTo(vendor)
	fmt.Println("allowed again:", app.Read())
	cmk.ScheduleDeletion(7)
	fmt.Println("to be deleted:", app.Read())
	cmk.Delete()
	fmt.Println("deleted:", app.Read()) // to a stranger, all that is gone looks like a denial
	// Output:
	// disabled: DisabledException
	// denied: AccessDeniedException
	// allowed again: ok
	// to be deleted: KMSInvalidStateException
	// deleted: AccessDeniedException
}

// Many customers let a vendor in by a grant, and take that back.
func Example_grant() {
	fake, ctx := kmsfake.New(nil), context.Background()
	cmk := fake.Account(customer).CreateKey("") // AWS's default policy: nobody but the account
	owner := fake.Client(customer)
	grant, err := owner.CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId:            aws.String(cmk.ARN()),
		GranteePrincipal: aws.String(vendor),
		Operations:       []types.GrantOperation{types.GrantOperationGenerateDataKey, types.GrantOperationDecrypt},
		Constraints:      &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "acme"}},
	})
	if err != nil {
		panic(err)
	}
	app := newProduct(fake.Client(vendor), cmk)
	fmt.Println("granted:", app.Read())
	if _, err := owner.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: aws.String(cmk.ARN()), GrantId: grant.GrantId}); err != nil {
		panic(err)
	}
	fmt.Println("revoked:", app.Read())
	// Output:
	// granted: ok
	// revoked: AccessDeniedException
}

// Nobody answers: not a denial, and not for your product to treat as one.
func Example_outage() {
	fake := kmsfake.New(nil)
	app := newProduct(fake.Client(vendor), fake.Account(customer).CreateKey(letIn))

	restore := fake.Outage()
	fmt.Println("outage:", app.Read())
	restore()
	fmt.Println("over:", app.Read())
	// Output:
	// outage: no answer
	// over: ok
}

// AWS gives an account so many calls a second, whoever owns the keys.
func Example_throttling() {
	fake := kmsfake.New(&kmsfake.Options{Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}) // time stands still
	app := newProduct(fake.Client(vendor), fake.Account(customer).CreateKey(letIn))

	fake.Throttle(2)
	fmt.Println(app.Read(), app.Read(), app.Read())
	fake.Advance(time.Second)
	fmt.Println(app.Read())
	// Output:
	// ok ok ThrottlingException
	// ok
}

// A change of a policy or a state takes its time to arrive.
func Example_propagation() {
	fake := kmsfake.New(&kmsfake.Options{Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	cmk := fake.Account(customer).CreateKey(letIn)
	app := newProduct(fake.Client(vendor), cmk)

	fake.Propagation(30 * time.Second)
	cmk.Disable()
	fmt.Println(cmk.State(), "at 0 s:", app.Read())
	fake.Advance(29 * time.Second)
	fmt.Println(cmk.State(), "at 29 s:", app.Read())
	fake.Advance(time.Second)
	fmt.Println(cmk.State(), "at 30 s:", app.Read())
	// Output:
	// Disabled at 0 s: ok
	// Disabled at 29 s: ok
	// Disabled at 30 s: DisabledException
}

// A week passes at once.
func Example_deletionWindow() {
	fake := kmsfake.New(nil)
	cmk := fake.Account(customer).CreateKey(letIn)
	app := newProduct(fake.Client(vendor), cmk)

	cmk.ScheduleDeletion(7)
	fake.Advance(6 * 24 * time.Hour)
	fmt.Println("day 6:", app.Read())
	fake.Advance(24 * time.Hour)
	fmt.Println("day 7:", app.Read())
	// Output:
	// day 6: KMSInvalidStateException
	// day 7: AccessDeniedException
}

// One call in ten fails, of this tenant only; every run of the test sees the same.
func Example_faults() {
	fake := kmsfake.New(nil)
	app := newProduct(fake.Client(vendor), fake.Account(customer).CreateKey(letIn))

	remove := fake.Inject(kmsfake.Fault{
		Operation:         "Decrypt",
		EncryptionContext: map[string]string{"tenant": "acme"},
		Probability:       0.1,
		Seed:              1,
		Code:              "KMSInternalException",
	})
	failed := 0
	for range 1000 {
		if app.Read() != "ok" {
			failed++
		}
	}
	fmt.Println("about a hundred:", failed > 70 && failed < 130)
	remove()
	fake.Inject(kmsfake.Fault{Effect: kmsfake.LostAnswer, Count: 1}) // it happened, and nobody knows
	fmt.Println(app.Read(), app.Read())
	// Output:
	// about a hundred: true
	// no answer ok
}

// What the customer's auditors see, and what they do not.
func Example_cloudTrail() {
	fake := kmsfake.New(nil)
	cmk := fake.Account(customer).CreateKey(letIn)
	app := newProduct(fake.Client(vendor), cmk)
	app.Read()
	cmk.DenyTo(vendor)
	app.Read()

	for _, account := range []string{customer, "444455556666"} {
		for _, e := range fake.Account(account).CloudTrail() {
			fmt.Printf("%s %s by %s, %v, %q\n", account, e.EventName, e.UserIdentity.Type, e.RequestParameters["encryptionContext"], e.ErrorCode)
		}
	}
	// Output:
	// 111122223333 GenerateDataKey by AWSAccount, map[tenant:acme], ""
	// 111122223333 Decrypt by AWSAccount, map[tenant:acme], ""
	// 444455556666 GenerateDataKey by AssumedRole, map[tenant:acme], ""
	// 444455556666 Decrypt by AssumedRole, map[tenant:acme], ""
	// 444455556666 Decrypt by AssumedRole, map[tenant:acme], "AccessDenied"
}

// The real SDK client, against the same fake.
func Example_overHTTP() {
	fake := kmsfake.New(nil)
	fake.RegisterAccessKey("AKIAVENDOR", vendor)
	server := httptest.NewServer(fake.Handler())
	defer server.Close()
	client := kms.New(kms.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(server.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIAVENDOR", SecretAccessKey: "any does: none was registered"}, nil
		}),
	})
	cmk := fake.Account(customer).CreateKey(letIn)
	app := newProduct(client, cmk)

	fmt.Println(app.Read())
	cmk.Disable()
	fmt.Println(app.Read())
	// Output:
	// ok
	// DisabledException
}

// The Go code in the guide is the code of these examples: compiled, and run.
func TestGuideIsCompiled(t *testing.T) {
	guide, err := os.ReadFile("../docs/testing-revocation.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("stories_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string { // indentation and empty lines do not count
		var lines []string
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n") + "\n"
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) < 8 {
		t.Errorf("only %d blocks of code: this test could pass on nothing", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(flat(string(source)), flat(b[1])) {
			t.Errorf("the guide has code that is not in an example:\n%s", b[1])
		}
	}
}
