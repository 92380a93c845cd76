package kmsfake_test

import (
	"context"
	"errors"
	"fmt"

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
