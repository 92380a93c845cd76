package peers

import (
	"context"
	"io"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/byok-go/byok/bench/kms"
)

// ageKMS is age with a recipient that it does not have: one whose file key the KMS wraps.
type ageKMS struct{ kms *kms.Fake }

func startAge(_ context.Context, w *World) (Library, error) {
	a := &ageKMS{w.KMS}
	return ranged{messages{a}, a}, nil
}

// recipient is both age.Recipient and age.Identity, which are not given a context.
type recipient struct {
	ctx    context.Context
	kms    *kms.Fake
	tenant string
}

func (r *recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	out, err := r.kms.Encrypt(r.ctx, &awskms.EncryptInput{KeyId: aws.String(kms.Key), Plaintext: fileKey, EncryptionContext: map[string]string{"tenant": r.tenant}})
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{{Type: "bench.example.com/kms", Body: out.CiphertextBlob}}, nil
}

func (r *recipient) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type == "bench.example.com/kms" {
			out, err := r.kms.Decrypt(r.ctx, &awskms.DecryptInput{KeyId: aws.String(kms.Key), CiphertextBlob: s.Body, EncryptionContext: map[string]string{"tenant": r.tenant}})
			if err != nil {
				return nil, err
			}
			return out.Plaintext, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

func (a *ageKMS) SealStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, _ []byte) error {
	w, err := age.Encrypt(dst, &recipient{ctx, a.kms, tenant})
	return sealTo(w, src, err)
}

func (a *ageKMS) OpenStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, _ []byte) error {
	r, err := age.Decrypt(src, &recipient{ctx, a.kms, tenant})
	return openFrom(dst, r, err)
}

func (a *ageKMS) OpenReaderAt(ctx context.Context, src io.ReaderAt, size int64, tenant string, _ []byte) (io.ReaderAt, error) {
	r, _, err := age.DecryptReaderAt(src, size, &recipient{ctx, a.kms, tenant})
	return r, err
}
