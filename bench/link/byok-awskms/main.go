// Command byok-awskms is the least that seals with byok under a key in AWS KMS.
package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
)

func main() {
	keys, err := awskms.New(aws.Config{}, nil)
	if err != nil {
		panic(err)
	}
	k, err := byok.New("bench.example.com", keys, new(byok.MemStore), new(byok.MemAudit), nil)
	if err == nil {
		_, err = k.Seal(context.Background(), byok.Scope{Tenant: "acme"}, nil, nil)
	}
	if err != nil {
		panic(err)
	}
}
