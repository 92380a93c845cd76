// Command asherah is the least that seals with Asherah under a key in AWS KMS.
package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/godaddy/asherah/go/appencryption"
	"github.com/godaddy/asherah/go/appencryption/pkg/crypto/aead"
	"github.com/godaddy/asherah/go/appencryption/pkg/persistence"
	"github.com/godaddy/asherah/go/appencryption/plugins/aws-v2/kms"
)

func main() {
	crypto := aead.NewAES256GCM()
	keys, err := kms.NewBuilder(crypto, map[string]string{"us-east-1": "arn"}).WithAWSConfig(aws.Config{}).Build()
	if err != nil {
		panic(err)
	}
	config := &appencryption.Config{Service: "bench", Product: "example", Policy: appencryption.NewCryptoPolicy()}
	s, err := appencryption.NewSessionFactory(config, persistence.NewMemoryMetastore(), keys, crypto).GetSession("acme")
	if err == nil {
		_, err = s.Encrypt(context.Background(), nil)
	}
	if err != nil {
		panic(err)
	}
}
