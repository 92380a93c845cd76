package awskms

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/byok-go/byok"
)

// API is the part of *kms.Client that a Keyring uses.
type API interface {
	GenerateDataKey(context.Context, *kms.GenerateDataKeyInput, ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error)
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
}

// Keyring is a [byok.Keyring] and [byok.Describer] on AWS KMS. It is safe for
// concurrent use. Make one with [New] or [NewFromClient]; the zero Keyring
// accepts no key.
type Keyring struct {
	limits  limits
	timeout time.Duration
	tenants *tenantCredentials // nil: the client's own credentials

	newClient func(region string) API // the configuration hides in here from every formatting verb
	mu        sync.Mutex
	clients   map[string]API // by Region; nil: newClient returns the one there is
}

var (
	_ byok.Keyring   = (*Keyring)(nil)
	_ byok.Describer = (*Keyring)(nil)
)

// The limits of AWS on what it answers.
const (
	dataKeySize    = 32
	maxWrappedSize = 6144
)

// GenerateDataKey implements [byok.Keyring] by kms:GenerateDataKey.
func (k *Keyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	c, err := k.begin(ctx, "GenerateDataKey", key)
	if err != nil {
		return nil, byok.Wrapped{}, err
	}
	defer c.cancel()
	out, err := c.api.GenerateDataKey(c.ctx, &kms.GenerateDataKeyInput{
		KeyId:             aws.String(key.ID),
		KeySpec:           types.DataKeySpecAes256,
		EncryptionContext: sent(ec),
	}, c.options)
	if err != nil || out == nil {
		return nil, byok.Wrapped{}, c.failed(err)
	}
	defer clear(out.Plaintext) // whatever else is wrong with the answer
	receipt := receiptOf(out.ResultMetadata, out.KeyMaterialId)
	if err := errors.Join(c.sameKey(out.KeyId), goodWrapped(out.CiphertextBlob), goodKey(out.Plaintext)); err != nil {
		return nil, byok.Wrapped{}, c.wrong(receipt, err)
	}
	dek, err := byok.NewDEK(out.Plaintext)
	if err != nil {
		return nil, byok.Wrapped{}, c.wrong(receipt, err)
	}
	return dek, byok.Wrapped{Receipt: receipt, Bytes: bytes.Clone(out.CiphertextBlob)}, nil
}

// WrapDataKey implements [byok.Keyring] by kms:Encrypt.
func (k *Keyring) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	c, err := k.begin(ctx, "Encrypt", key)
	if err != nil {
		return byok.Wrapped{}, err
	}
	defer c.cancel()
	// A copy for the time of the request: inside Use, a purge that wipes dek
	// would wait for KMS, and a denial must never wait.
	raw := make([]byte, 0, dataKeySize)
	defer func() { clear(raw[:cap(raw)]) }()
	if err := dek.Use(func(b []byte) error { raw = append(raw, b...); return nil }); err != nil {
		return byok.Wrapped{}, c.wrong(byok.Receipt{}, err)
	}
	out, err := c.api.Encrypt(c.ctx, &kms.EncryptInput{
		KeyId:             aws.String(key.ID),
		Plaintext:         raw,
		EncryptionContext: sent(ec),
	}, c.options)
	if err != nil || out == nil {
		return byok.Wrapped{}, c.failed(err)
	}
	receipt := receiptOf(out.ResultMetadata, nil) // Encrypt does not tell the key material
	if err := errors.Join(c.sameKey(out.KeyId), goodWrapped(out.CiphertextBlob)); err != nil {
		return byok.Wrapped{}, c.wrong(receipt, err)
	}
	return byok.Wrapped{Receipt: receipt, Bytes: bytes.Clone(out.CiphertextBlob)}, nil
}

// UnwrapDataKey implements [byok.Keyring] by kms:Decrypt. The key in the request
// is the one that was given: left out, KMS would take it from the ciphertext,
// which whoever wrote the ciphertext has chosen.
func (k *Keyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	c, err := k.begin(ctx, "Decrypt", key)
	if err != nil {
		return nil, byok.Receipt{}, err
	}
	defer c.cancel()
	if err := goodWrapped(wrapped); err != nil {
		// KMS would call it a ValidationException, our bug. It is a bad blob.
		return nil, byok.Receipt{}, &byok.KeyError{Op: c.op, Key: key, Class: byok.ClassBlob, Err: err}
	}
	out, err := c.api.Decrypt(c.ctx, &kms.DecryptInput{
		KeyId:             aws.String(key.ID),
		CiphertextBlob:    bytes.Clone(wrapped),
		EncryptionContext: sent(ec),
	}, c.options)
	if err != nil || out == nil {
		return nil, byok.Receipt{}, c.failed(err)
	}
	defer clear(out.Plaintext)
	receipt := receiptOf(out.ResultMetadata, out.KeyMaterialId)
	if err := errors.Join(c.sameKey(out.KeyId), goodKey(out.Plaintext)); err != nil {
		return nil, byok.Receipt{}, c.wrong(receipt, err)
	}
	dek, err := byok.NewDEK(out.Plaintext)
	if err != nil {
		return nil, byok.Receipt{}, c.wrong(receipt, err)
	}
	return dek, receipt, nil
}

// DescribeKey implements [byok.Describer] by kms:DescribeKey, which the key
// policy need not grant.
func (k *Keyring) DescribeKey(ctx context.Context, key byok.KeyID) (byok.KeyInfo, error) {
	c, err := k.begin(ctx, "DescribeKey", key)
	if err != nil {
		return byok.KeyInfo{}, err
	}
	defer c.cancel()
	out, err := c.api.DescribeKey(c.ctx, &kms.DescribeKeyInput{KeyId: aws.String(key.ID)}, c.options)
	if err != nil || out == nil {
		return byok.KeyInfo{}, c.failed(err)
	}
	receipt := receiptOf(out.ResultMetadata, nil)
	m := out.KeyMetadata
	if m == nil {
		return byok.KeyInfo{}, c.wrong(receipt, errors.New("the answer has no metadata"))
	}
	if err := c.sameKey(m.Arn); err != nil {
		return byok.KeyInfo{}, c.wrong(receipt, err)
	}
	return byok.KeyInfo{
		State:      string(m.KeyState),
		MaterialID: aws.ToString(m.CurrentKeyMaterialId),
		DeletionAt: aws.ToTime(m.DeletionDate),
		Receipt:    receipt,
	}, nil
}

// call is one attempt.
type call struct {
	k       *Keyring
	op      string
	key     byok.KeyID
	arn     keyARN
	api     API
	caller  context.Context // the caller's
	ctx     context.Context // the attempt's, which ends sooner
	cancel  context.CancelFunc
	tenant  string
	tenants *aws.CredentialsCache // of the tenant; nil: the client's own
}

// begin does what must be done before anything is sent.
func (k *Keyring) begin(ctx context.Context, op string, key byok.KeyID) (*call, error) {
	c := &call{k: k, op: op, key: key, caller: ctx}
	var err error
	if c.arn, err = k.limits.check(key); err != nil {
		return nil, &byok.KeyError{Op: op, Key: key, Class: byok.ClassKeyID, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return nil, c.failed(err)
	}
	c.api = k.client(c.arn.region)
	c.ctx, c.cancel = context.WithTimeout(ctx, k.timeout)
	if k.tenants != nil {
		c.tenant = tenantOf(ctx)
		if c.tenants, err = k.tenants.get(c.ctx, c.tenant); err != nil {
			c.cancel()
			return nil, c.failed(err)
		}
	}
	return c, nil
}

// client returns the client for a Region, which was checked: there are as many
// as Regions, at most.
func (k *Keyring) client(region string) API {
	if k.clients == nil {
		return k.newClient(region)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	api := k.clients[region]
	if api == nil {
		api = k.newClient(region)
		k.clients[region] = api
	}
	return api
}

// options hold for one request, whatever the client was made with.
func (c *call) options(o *kms.Options) {
	o.Retryer = aws.NopRetryer{}
	o.RetryMaxAttempts = 0 // else the SDK wraps the Retryer once more
	o.ClientLogMode &^= bodyLogging
	if c.tenants != nil {
		o.Credentials = c.tenants
	}
	o.Credentials = stage{o.Credentials}
}

// sent is the encryption context as KMS gets it: a copy, since it is the caller's
// map, and none if there is none.
func sent(ec byok.EncryptionContext) map[string]string {
	if len(ec) == 0 {
		return nil
	}
	return maps.Clone(ec)
}

func receiptOf(m middleware.Metadata, material *string) byok.Receipt {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return byok.Receipt{RequestID: cleanID(id), MaterialID: cleanID(aws.ToString(material))}
}

func (c *call) sameKey(arn *string) error {
	if aws.ToString(arn) != c.key.ID {
		return errors.New("the answer is about another key")
	}
	return nil
}

func goodWrapped(b []byte) error {
	if len(b) == 0 || len(b) > maxWrappedSize {
		return errors.New("the wrapped data key is not 1 to 6144 bytes long")
	}
	return nil
}

func goodKey(b []byte) error {
	if len(b) != dataKeySize {
		return errors.New("the data key is not 32 bytes long")
	}
	return nil
}

// wrong is an answer that must not be. Nothing of it is used.
func (c *call) wrong(r byok.Receipt, err error) error {
	return &byok.KeyError{Op: c.op, Key: c.key, Class: byok.ClassInternal, RequestID: r.RequestID, Err: err}
}
