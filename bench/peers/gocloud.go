package peers

import (
	"context"

	"github.com/byok-go/byok/bench/kms"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/awskms"
)

// goCloud is gocloud.dev/secrets, which makes no envelopes: the message itself goes to the
// KMS, which takes 4096 bytes.
type goCloud struct{ k *secrets.Keeper }

func startGoCloud(_ context.Context, w *World) (Library, error) {
	options := &awskms.KeeperOptions{EncryptionContext: map[string]string{"app": service}}
	return &goCloud{awskms.OpenKeeper(w.KMS.Client(), kms.Key, options)}, nil
}

func (g *goCloud) Seal(ctx context.Context, _ string, plain, _ []byte) ([]byte, error) {
	return g.k.Encrypt(ctx, plain)
}

func (g *goCloud) Open(ctx context.Context, _ string, sealed, _ []byte) ([]byte, error) {
	return g.k.Decrypt(ctx, sealed)
}

func (g *goCloud) Close() error { return g.k.Close() }
