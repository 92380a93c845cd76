package peers

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/byok-go/byok/bench/kms"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"google.golang.org/protobuf/proto"
)

// kmsWrapping is HashiCorp's go-kms-wrapping. Its own AWS wrapper takes no client from
// outside, so what it does is done here: its core's envelope, the data key wrapped without an
// encryption context, and the BlobInfo that Vault and Boundary store.
type kmsWrapping struct{ kms *kms.Fake }

func startWrapping(_ context.Context, w *World) (Library, error) { return &kmsWrapping{w.KMS}, nil }

func (k *kmsWrapping) Seal(ctx context.Context, _ string, plain, aad []byte) ([]byte, error) {
	e, err := wrapping.EnvelopeEncrypt(plain, wrapping.WithAad(aad))
	if err != nil {
		return nil, err
	}
	wrapped, err := k.kms.Encrypt(ctx, &awskms.EncryptInput{KeyId: aws.String(kms.Key), Plaintext: e.Key})
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&wrapping.BlobInfo{
		Ciphertext: e.Ciphertext, Iv: e.Iv,
		KeyInfo: &wrapping.KeyInfo{Mechanism: 1, KeyId: kms.Key, WrappedKey: wrapped.CiphertextBlob},
	})
}

func (k *kmsWrapping) Open(ctx context.Context, _ string, sealed, aad []byte) ([]byte, error) {
	var in wrapping.BlobInfo
	if err := proto.Unmarshal(sealed, &in); err != nil {
		return nil, err
	}
	key, err := k.kms.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: in.GetKeyInfo().GetWrappedKey()})
	if err != nil {
		return nil, err
	}
	return wrapping.EnvelopeDecrypt(&wrapping.EnvelopeInfo{Key: key.Plaintext, Iv: in.Iv, Ciphertext: in.Ciphertext}, wrapping.WithAad(aad))
}

func (k *kmsWrapping) Close() error { return nil }
