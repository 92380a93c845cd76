// Command kms-wrapping is the least that seals with go-kms-wrapping's core, and the AWS SDK's
// client to wrap with.
package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"google.golang.org/protobuf/proto"
)

func main() {
	e, err := wrapping.EnvelopeEncrypt(nil)
	if err != nil {
		panic(err)
	}
	out, err := kms.New(kms.Options{}).Encrypt(context.Background(), &kms.EncryptInput{Plaintext: e.Key})
	if err == nil {
		_, err = proto.Marshal(&wrapping.BlobInfo{Ciphertext: e.Ciphertext, Iv: e.Iv, KeyInfo: &wrapping.KeyInfo{WrappedKey: out.CiphertextBlob}})
	}
	if err != nil {
		panic(err)
	}
}
