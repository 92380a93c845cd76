// Command aws-kms is the least that speaks to AWS KMS: what whoever seals under a key there
// has in the program anyway.
package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func main() {
	if _, err := kms.New(kms.Options{}).GenerateDataKey(context.Background(), new(kms.GenerateDataKeyInput)); err != nil {
		panic(err)
	}
}
