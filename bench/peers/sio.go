package peers

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/byok-go/byok/bench/kms"
	"github.com/minio/sio"
)

// sioDARE is sio with what it leaves to others: a data key for each object, whose wrapping
// stands before it with its length in two bytes.
type sioDARE struct{ kms *kms.Fake }

func startSIO(_ context.Context, w *World) (Library, error) {
	s := &sioDARE{w.KMS}
	return ranged{messages{s}, s}, nil
}

func sioConfig(key []byte) sio.Config {
	return sio.Config{MinVersion: sio.Version20, CipherSuites: []byte{sio.AES_256_GCM}, Key: key}
}

func (s *sioDARE) SealStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, _ []byte) error {
	k, err := s.kms.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: aws.String(kms.Key), EncryptionContext: map[string]string{"tenant": tenant}})
	if err != nil {
		return err
	}
	header := binary.BigEndian.AppendUint16(nil, uint16(len(k.CiphertextBlob)))
	if _, err := dst.Write(append(header, k.CiphertextBlob...)); err != nil {
		return err
	}
	w, err := sio.EncryptWriter(onlyWriter{dst}, sioConfig(k.Plaintext)) // it would close dst
	return sealTo(w, src, err)
}

func (s *sioDARE) OpenStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, _ []byte) error {
	key, _, err := s.key(ctx, src, tenant)
	if err != nil {
		return err
	}
	r, err := sio.DecryptReader(src, sioConfig(key))
	return openFrom(dst, r, err)
}

func (s *sioDARE) OpenReaderAt(ctx context.Context, src io.ReaderAt, size int64, tenant string, _ []byte) (io.ReaderAt, error) {
	key, header, err := s.key(ctx, io.NewSectionReader(src, 0, size), tenant)
	if err != nil {
		return nil, err
	}
	return sio.DecryptReaderAt(io.NewSectionReader(src, header, size-header), sioConfig(key))
}

// key reads the header, which is so long, and has the KMS unwrap the key in it.
func (s *sioDARE) key(ctx context.Context, src io.Reader, tenant string) (key []byte, header int64, err error) {
	var n uint16
	if err := binary.Read(src, binary.BigEndian, &n); err != nil {
		return nil, 0, err
	}
	blob := make([]byte, n)
	if _, err := io.ReadFull(src, blob); err != nil {
		return nil, 0, fmt.Errorf("the wrapped key: %w", err)
	}
	k, err := s.kms.Decrypt(ctx, &awskms.DecryptInput{KeyId: aws.String(kms.Key), CiphertextBlob: blob, EncryptionContext: map[string]string{"tenant": tenant}})
	if err != nil {
		return nil, 0, err
	}
	return k.Plaintext, 2 + int64(n), nil
}
