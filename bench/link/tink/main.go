// Command tink is the least that seals with Tink under a key in AWS KMS.
package main

import (
	"context"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
)

func main() {
	ctx := context.Background()
	remote, err := awskms.NewAEADWithContext(ctx, "arn")
	if err != nil {
		panic(err)
	}
	a, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), remote)
	if err == nil {
		_, err = a.EncryptWithContext(ctx, nil, nil)
	}
	if err != nil {
		panic(err)
	}
}
