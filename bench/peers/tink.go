package peers

import (
	"bytes"
	"context"
	"io"

	"github.com/byok-go/byok/bench/kms"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/streamingaead"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// tinkEnvelope is KMSEnvelopeAEAD: a data key for each message, which the KMS wraps.
type tinkEnvelope struct {
	aead *aead.KMSEnvelopeAEADWithContext
}

func startTinkEnvelope(ctx context.Context, w *World) (Library, error) {
	remote, err := awskms.NewAEADWithContext(ctx, kms.Key, awskms.WithKMS(w.KMS))
	if err != nil {
		return nil, err
	}
	a, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), remote)
	return &tinkEnvelope{a}, err
}

func (t *tinkEnvelope) Seal(ctx context.Context, _ string, plain, aad []byte) ([]byte, error) {
	return t.aead.EncryptWithContext(ctx, plain, aad)
}

func (t *tinkEnvelope) Open(ctx context.Context, _ string, sealed, aad []byte) ([]byte, error) {
	return t.aead.DecryptWithContext(ctx, sealed, aad)
}

func (t *tinkEnvelope) Close() error { return nil }

// tinkStream is streaming AEAD in segments of 1 MiB, under one keyset for all streams, which
// the KMS unwraps when the process starts and never again.
type tinkStream struct{ aead tink.StreamingAEAD }

func startTinkStream(ctx context.Context, w *World) (Library, error) {
	remote, err := awskms.NewAEADWithContext(ctx, kms.Key, awskms.WithKMS(w.KMS))
	if err != nil {
		return nil, err
	}
	if w.disk == nil {
		h, err := keyset.NewHandle(streamingaead.AES256GCMHKDF1MBKeyTemplate())
		if err != nil {
			return nil, err
		}
		var stored bytes.Buffer
		if err := h.WriteWithContext(ctx, keyset.NewBinaryWriter(&stored), remote, nil); err != nil {
			return nil, err
		}
		w.disk = stored.Bytes()
	}
	h, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(w.disk.([]byte))), remote, nil)
	if err != nil {
		return nil, err
	}
	a, err := streamingaead.New(h)
	return messages{&tinkStream{a}}, err
}

func (t *tinkStream) SealStream(_ context.Context, dst io.Writer, src io.Reader, _ string, aad []byte) error {
	w, err := t.aead.NewEncryptingWriter(dst, aad)
	return sealTo(w, src, err)
}

func (t *tinkStream) OpenStream(_ context.Context, dst io.Writer, src io.Reader, _ string, aad []byte) error {
	r, err := t.aead.NewDecryptingReader(src, aad)
	return openFrom(dst, r, err)
}
