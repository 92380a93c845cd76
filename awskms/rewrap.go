package awskms

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/byok-go/byok"
)

// reEncrypter is what a client has beside [API] if it can rewrap: a *kms.Client does, and
// one of kmsfake. Of any other client a Keyring rewraps nothing, and a Keeper goes without.
type reEncrypter interface {
	ReEncrypt(context.Context, *kms.ReEncryptInput, ...func(*kms.Options)) (*kms.ReEncryptOutput, error)
}

var _ byok.Rewrapper = (*Keyring)(nil)

// errApart is why two keys have no ReEncrypt: a request goes to one Region, and neither
// KMS nor anybody's credentials reach from one partition into another.
// https://docs.aws.amazon.com/kms/latest/APIReference/API_ReEncrypt.html
var errApart = fmt.Errorf("the keys are in different Regions: %w", errors.ErrUnsupported)

var errNoReEncrypt = fmt.Errorf("the client has no ReEncrypt: %w", errors.ErrUnsupported)

// RewrapDataKey implements [byok.Rewrapper] by kms:ReEncrypt, which needs kms:ReEncryptFrom on
// from and kms:ReEncryptTo on to, both for the same principal, and both with ec. The source key is named in the
// request: left out, KMS would take it from the ciphertext, which whoever wrote the
// ciphertext has chosen.
func (k *Keyring) RewrapDataKey(ctx context.Context, from, to byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
	const op = "ReEncrypt"
	source, err := k.limits.check(from)
	if err != nil {
		return byok.Wrapped{}, &byok.KeyError{Op: op, Key: from, Class: byok.ClassKeyID, Err: err}
	}
	target, err := k.limits.check(to)
	if err == nil && (source.region != target.region || source.partition != target.partition) {
		err = errApart
	}
	if err != nil {
		return byok.Wrapped{}, &byok.KeyError{Op: op, Key: to, Class: byok.ClassKeyID, Err: err}
	}
	c, err := k.begin(ctx, op, from)
	if err != nil {
		return byok.Wrapped{}, err
	}
	defer c.cancel()
	api, ok := c.api.(reEncrypter)
	if !ok {
		return byok.Wrapped{}, &byok.KeyError{Op: op, Key: from, Class: byok.ClassKeyID, Err: errNoReEncrypt}
	}
	if err := goodWrapped(wrapped); err != nil {
		return byok.Wrapped{}, &byok.KeyError{Op: op, Key: from, Class: byok.ClassBlob, Err: err}
	}
	out, err := api.ReEncrypt(c.ctx, &kms.ReEncryptInput{
		CiphertextBlob:               bytes.Clone(wrapped),
		SourceKeyId:                  aws.String(from.ID),
		SourceEncryptionContext:      sent(ec),
		DestinationKeyId:             aws.String(to.ID),
		DestinationEncryptionContext: sent(ec),
	}, c.options)
	if err != nil || out == nil {
		return byok.Wrapped{}, c.failed(err)
	}
	receipt := receiptOf(out.ResultMetadata, out.DestinationKeyMaterialId)
	err = errors.Join(c.sameKey(out.SourceKeyId), goodWrapped(out.CiphertextBlob))
	if aws.ToString(out.KeyId) != to.ID {
		err = errors.Join(err, errors.New("the answer wraps under another key"))
	}
	if err != nil {
		return byok.Wrapped{}, c.wrong(receipt, err)
	}
	return byok.Wrapped{Receipt: receipt, Bytes: bytes.Clone(out.CiphertextBlob)}, nil
}
