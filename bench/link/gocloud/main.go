// Command gocloud is the least that seals with gocloud.dev/secrets in AWS KMS.
package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"gocloud.dev/secrets/awskms"
)

func main() {
	if _, err := awskms.OpenKeeper(kms.New(kms.Options{}), "arn", nil).Encrypt(context.Background(), nil); err != nil {
		panic(err)
	}
}
