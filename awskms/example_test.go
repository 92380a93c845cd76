package awskms_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

const (
	account = "111122223333"                             // the customer's
	role    = "arn:aws:iam::999988887777:role/acme-saas" // the platform's
)

var tenantContext = byok.EncryptionContext{"tenant_id": "acme", "service": "example-saas"}

// Without a Keeper, a Keyring is three permissions on a CMK and nothing else.
func ExampleNewFromClient() {
	fake := kmsfake.New(nil)
	keys, err := awskms.NewFromClient(fake.Client(role), nil) // in production: kms.NewFromConfig(cfg)
	if err != nil {
		panic(err)
	}
	cmk := fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, tenantContext).JSON())
	ctx := context.Background()

	_, wrapped, err := keys.GenerateDataKey(ctx, awskms.Key(cmk.ARN()), tenantContext)
	fmt.Println("generated:", err == nil)

	cmk.Disable()
	_, _, err = keys.UnwrapDataKey(ctx, awskms.Key(cmk.ARN()), wrapped.Bytes, tenantContext)
	fmt.Println("revoked:", errors.Is(err, byok.ErrKeyRevoked))
	// Output:
	// generated: true
	// revoked: true
}

func ExampleNew() {
	cfg := aws.Config{ // in production: config.LoadDefaultConfig(ctx)
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY01"}, nil
		}),
	}
	_, err := awskms.New(cfg, &awskms.Options{Regions: []string{"eu-central-1", "eu-west-1"}})
	fmt.Println(err)

	cfg.ClientLogMode = aws.LogResponseWithBody
	_, err = awskms.New(cfg, nil)
	fmt.Println(strings.Contains(err.Error(), "plaintext data keys"))
	// Output:
	// <nil>
	// true
}

func ExampleKeyPolicy() {
	fmt.Println(awskms.KeyPolicy(account, role, tenantContext).JSON())
	// Output:
	// {
	//   "Version": "2012-10-17",
	//   "Statement": [
	//     {
	//       "Sid": "AccountAdministersTheKey",
	//       "Effect": "Allow",
	//       "Principal": {
	//         "AWS": "arn:aws:iam::111122223333:root"
	//       },
	//       "Action": [
	//         "kms:*"
	//       ],
	//       "Resource": "*"
	//     },
	//     {
	//       "Sid": "ByokUseForThisTenant",
	//       "Effect": "Allow",
	//       "Principal": {
	//         "AWS": "arn:aws:iam::999988887777:role/acme-saas"
	//       },
	//       "Action": [
	//         "kms:Encrypt",
	//         "kms:Decrypt",
	//         "kms:GenerateDataKey"
	//       ],
	//       "Resource": "*",
	//       "Condition": {
	//         "StringEquals": {
	//           "kms:EncryptionContext:service": "example-saas",
	//           "kms:EncryptionContext:tenant_id": "acme"
	//         }
	//       }
	//     },
	//     {
	//       "Sid": "ByokDescribeOptional",
	//       "Effect": "Allow",
	//       "Principal": {
	//         "AWS": "arn:aws:iam::999988887777:role/acme-saas"
	//       },
	//       "Action": [
	//         "kms:DescribeKey"
	//       ],
	//       "Resource": "*"
	//     }
	//   ]
	// }
}

// A mistake is no policy, in whatever it is pasted into.
func ExamplePolicy_Err() {
	p := awskms.KeyPolicy(account, "*", tenantContext)
	fmt.Println(p.Err())
	fmt.Println(p.JSON())
	// Output:
	// awskms: no policy: the principal is not the ARN of one IAM role or user
	// awskms: no policy: the principal is not the ARN of one IAM role or user
}

// An STS role per tenant: any provider will do, such as stscreds.AssumeRoleProvider.
func ExampleOptions_credentialsFor() {
	client := kms.New(kms.Options{Region: "us-east-1"})
	_, err := awskms.NewFromClient(client, &awskms.Options{
		CredentialsFor: func(_ context.Context, tenant string) (aws.CredentialsProvider, error) {
			return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{}, errors.New("assume the role of " + tenant)
			}), nil
		},
	})
	fmt.Println(err)
	// Output: <nil>
}
