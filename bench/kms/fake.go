// Package kms is the one KMS of all peers: it wraps with AES-256-GCM in this process, in
// about a microsecond, and counts. So what is measured is the peers' work, and beside it how
// often each would have waited for AWS.
//
// It has no policies, no states but one, and no quotas. For tests there is kmsfake, which
// behaves like AWS, and would take longer than most of what is measured here.
package kms

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// Key is the CMK of peers that have one for all tenants.
var Key = KeyOf("everybody")

// KeyOf is the ARN of a tenant's own CMK. Every ARN is a key that exists.
func KeyOf(tenant string) string {
	h := sha256.Sum256([]byte(tenant))
	return fmt.Sprintf("arn:aws:kms:us-east-1:111122223333:key/%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// Fake has the methods of *kms.Client that the peers use, and [Fake.Client] is one. It is
// safe for concurrent use.
type Fake struct {
	aead   cipher.AEAD
	calls  atomic.Int64
	denies atomic.Bool
}

// New returns a KMS with a key of its own.
func New() *Fake {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block) // NewGCM is refused in FIPS-only mode
	if err != nil {
		panic(err)
	}
	return &Fake{aead: aead}
}

// Calls is how many requests there were, refused ones too.
func (f *Fake) Calls() int64 { return f.calls.Load() }

// Disable makes every request fail from now on, as if each customer had disabled its CMK.
func (f *Fake) Disable() { f.denies.Store(true) }

func (f *Fake) call(ctx context.Context) error {
	f.calls.Add(1)
	if f.denies.Load() {
		return &types.DisabledException{Message: aws.String("the key is disabled")}
	}
	return ctx.Err()
}

// AWS wraps a key of 32 bytes in 184, of which this is what is left.
const overhead = 152

// idRoom is where a wrapping tells the key's ARN, after a byte with its length. After it
// come AES-GCM's nonce, ciphertext and tag.
const idRoom = overhead - 1 - 12 - 16

func (f *Fake) wrap(key string, plain []byte, ec map[string]string) ([]byte, error) {
	if len(key) > idRoom {
		return nil, &types.NotFoundException{Message: aws.String("no such key")}
	}
	out := make([]byte, 1+idRoom, len(plain)+overhead)
	out[0] = byte(copy(out[1:], key))
	return f.aead.Seal(out, nil, plain, bound(out, ec)), nil
}

// unwrap takes the key from the wrapping if it is not told, as KMS does.
func (f *Fake) unwrap(key string, blob []byte, ec map[string]string) (id string, plain []byte, err error) {
	if len(blob) < overhead || int(blob[0]) > idRoom {
		return "", nil, &types.InvalidCiphertextException{}
	}
	id = string(blob[1 : 1+blob[0]])
	if key != "" && key != id {
		return "", nil, &types.IncorrectKeyException{}
	}
	if plain, err = f.aead.Open(nil, nil, blob[1+idRoom:], bound(blob[:1+idRoom], ec)); err != nil {
		return "", nil, &types.InvalidCiphertextException{}
	}
	return id, plain, nil
}

// bound is what a wrapping is bound to: its own beginning, with the key, and the encryption
// context. A zero ends each name and value, since none has one.
func bound(beginning []byte, ec map[string]string) []byte {
	b := bytes.Clone(beginning)
	for _, name := range slices.Sorted(maps.Keys(ec)) {
		b = append(append(append(append(b, name...), 0), ec[name]...), 0)
	}
	return b
}

// Encrypt is AWS KMS's.
func (f *Fake) Encrypt(ctx context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	blob, err := f.wrap(*in.KeyId, in.Plaintext, in.EncryptionContext)
	return &kms.EncryptOutput{CiphertextBlob: blob, KeyId: in.KeyId}, err
}

// Decrypt is AWS KMS's.
func (f *Fake) Decrypt(ctx context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	id, plain, err := f.unwrap(aws.ToString(in.KeyId), in.CiphertextBlob, in.EncryptionContext)
	return &kms.DecryptOutput{Plaintext: plain, KeyId: &id}, err
}

// GenerateDataKey is AWS KMS's, for keys of 32 bytes and nothing else.
func (f *Fake) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput, _ ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	plain := make([]byte, 32)
	_, _ = rand.Read(plain)
	blob, err := f.wrap(*in.KeyId, plain, in.EncryptionContext)
	return &kms.GenerateDataKeyOutput{Plaintext: plain, CiphertextBlob: blob, KeyId: in.KeyId}, err
}

// ReEncrypt is AWS KMS's.
func (f *Fake) ReEncrypt(ctx context.Context, in *kms.ReEncryptInput) (*kms.ReEncryptOutput, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	source, plain, err := f.unwrap(aws.ToString(in.SourceKeyId), in.CiphertextBlob, in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	blob, err := f.wrap(*in.DestinationKeyId, plain, in.DestinationEncryptionContext)
	return &kms.ReEncryptOutput{CiphertextBlob: blob, SourceKeyId: &source, KeyId: in.DestinationKeyId}, err
}

// DescribeKey is AWS KMS's, for whom it is not granted.
func (f *Fake) DescribeKey(ctx context.Context, _ *kms.DescribeKeyInput, _ ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	return nil, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not authorized"}
}
