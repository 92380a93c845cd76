package kmsfake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/byok-go/byok/kmsfake"
)

// A customer lets a vendor use a key, for its own tenant only, then changes its mind.
func Example() {
	const vendor = "arn:aws:iam::444455556666:role/vendor"
	fake := kmsfake.New(nil)
	cmk := fake.Account("111122223333").CreateKey(`{
		"Version": "2012-10-17",
		"Statement": [{
			"Effect": "Allow",
			"Principal": {"AWS": "` + vendor + `"},
			"Action": ["kms:GenerateDataKey", "kms:Decrypt"],
			"Resource": "*",
			"Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "acme"}}
		}]
	}`)

	ctx := context.Background()
	client := fake.Client(vendor) // as the vendor's service would have it
	tenant := map[string]string{"tenant": "acme"}
	key, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: aws.String(cmk.ARN()), KeySpec: types.DataKeySpecAes256, EncryptionContext: tenant,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	decrypt := func() string {
		_, err := client.Decrypt(ctx, &kms.DecryptInput{
			KeyId: aws.String(cmk.ARN()), CiphertextBlob: key.CiphertextBlob, EncryptionContext: tenant,
		})
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			return api.ErrorCode()
		}
		return "ok"
	}
	fmt.Println("granted: ", decrypt())
	cmk.Disable()
	fmt.Println("disabled:", decrypt())
	cmk.Enable()
	cmk.DenyTo(vendor)
	fmt.Println("denied:  ", decrypt())
	cmk.AllowTo(vendor)
	fmt.Println("allowed: ", decrypt())
	cmk.Delete()
	fmt.Println("deleted: ", decrypt())
	// Output:
	// granted:  ok
	// disabled: DisabledException
	// denied:   AccessDeniedException
	// allowed:  ok
	// deleted:  AccessDeniedException
}

// What the code under test asked of KMS, call by call.
func ExampleKMS_Calls() {
	fake := kmsfake.New(nil)
	cmk := fake.Account("111122223333").CreateKey("")
	fake.Fail("DescribeKey", "ThrottlingException", 1)
	client := fake.Client("111122223333")
	for range 2 {
		client.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(cmk.ARN())})
	}
	for _, c := range fake.Calls() {
		fmt.Printf("%s %q\n", c.Operation, c.Code)
	}
	// Output:
	// DescribeKey "ThrottlingException"
	// DescribeKey ""
}

// Why was my Decrypt denied? The error knows its request, and the fake knows why.
func ExampleKMS_Why() {
	const vendor = "arn:aws:iam::444455556666:role/vendor"
	fake := kmsfake.New(nil)
	cmk := fake.Account("111122223333").CreateKey(`{
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
			"Principal": {"AWS": "` + vendor + `"},
			"Action": ["kms:GenerateDataKey", "kms:Decrypt"],
			"Resource": "*",
			"Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "acme"}}
		}]
	}`)
	_, err := fake.Client(vendor).GenerateDataKey(context.Background(), &kms.GenerateDataKeyInput{
		KeyId: aws.String(cmk.ARN()), KeySpec: types.DataKeySpecAes256,
		EncryptionContext: map[string]string{"tenant": "Acme"},
	})
	fmt.Println(strings.ReplaceAll(fake.Why(err).String(), cmk.ID(), "KEY"))
	// Output:
	// GenerateDataKey by arn:aws:sts::444455556666:assumed-role/vendor/kmsfake was denied
	//   DENIED kms:GenerateDataKey on arn:aws:kms:us-east-1:111122223333:key/KEY
	//     Across accounts both sides must allow, and the key's does not: neither its policy nor a grant.
	//     Key policy:
	//       Allow, statement 1 (owner): does not apply: Principal is account 111122223333, the caller arn:aws:sts::444455556666:assumed-role/vendor/kmsfake
	//       Allow, statement 2 (vendor): does not apply: StringEquals wants kms:EncryptionContext:tenant "acme", the request has "Acme"
}

// A grant lets a worker decrypt for one tenant, until it is done and retires it.
func ExampleClient_RetireGrant() {
	const worker = "arn:aws:iam::111122223333:role/worker"
	fake, ctx := kmsfake.New(nil), context.Background()
	cmk := fake.Account("111122223333").CreateKey("")
	owner := fake.Client("111122223333")
	tenant := map[string]string{"tenant": "acme"}
	key, err := owner.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: aws.String(cmk.ARN()), KeySpec: types.DataKeySpecAes256, EncryptionContext: tenant,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := fake.Client(worker)
	decrypt := func() string {
		_, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: key.CiphertextBlob, EncryptionContext: tenant})
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			return api.ErrorCode()
		}
		return "ok"
	}
	fmt.Println("before: ", decrypt())
	grant, err := owner.CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId:             aws.String(cmk.ARN()),
		GranteePrincipal:  aws.String(worker),
		RetiringPrincipal: aws.String(worker),
		Operations:        []types.GrantOperation{types.GrantOperationDecrypt},
		Constraints:       &types.GrantConstraints{EncryptionContextSubset: tenant},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("granted:", decrypt())
	if _, err := client.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: grant.GrantToken}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("retired:", decrypt())
	// Output:
	// before:  AccessDeniedException
	// granted: ok
	// retired: AccessDeniedException
}
