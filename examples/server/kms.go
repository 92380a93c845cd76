package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

// The platform's side of AWS in the demo: the role that customers let in, and
// the access key id with which this server is that role on the fake.
const (
	platformRole      = "arn:aws:iam::777788889999:role/byok-platform"
	platformAccessKey = "AKIABYOKEXAMPLE00001"
)

// openFake starts the AWS KMS in memory. Its keys are kept in file, in clear:
// it is a fake.
func openFake(file string) (*kmsfake.KMS, error) {
	fake, err := kmsfake.Open(&kmsfake.Options{File: file})
	if errors.Is(err, kmsfake.ErrInUse) {
		return nil, fmt.Errorf("%w: a server with the fake KMS runs on this -data already. "+
			"Start this one with -kms-endpoint and the address of that one's fake, such as http://127.0.0.1:4599, or with another -data", err)
	}
	if err != nil {
		return nil, err
	}
	fake.RegisterAccessKey(platformAccessKey, platformRole)
	return fake, nil
}

// keyring is the driver to KMS: real AWS, the fake in this process, or the fake
// of another, over the wire.
func (a *app) keyring(ctx context.Context) (*awskms.Keyring, error) {
	switch {
	case a.config.kms == "aws":
		cfg, err := awsconfig.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, err
		}
		a.cloud = "AWS KMS (real), in the Region of each key; default credential chain: " + credentials(ctx, cfg)
		return awskms.New(cfg, nil)
	case a.fake != nil:
		return awskms.NewFromClient(a.fake.Client(platformRole), nil)
	}
	cfg := aws.Config{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: platformAccessKey, SecretAccessKey: "the fake accepts any secret"}, nil
	})}
	return awskms.New(cfg, &awskms.Options{Endpoint: a.config.kmsEndpoint})
}

// credentials says where the credentials come from. Having none is no reason not
// to start: they can come later, and what needs no key works without. But whoever
// starts a server wants to know before the first customer does.
func credentials(ctx context.Context, cfg aws.Config) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := errors.New("none are configured")
	if cfg.Credentials != nil {
		var found aws.Credentials
		if found, err = cfg.Credentials.Retrieve(ctx); err == nil {
			return found.Source
		}
	}
	text := err.Error()
	// What STS and its like write can quote the headers that were signed.
	if api, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		text = api.ErrorCode()
	}
	slog.Warn("server: no AWS credentials now: every use of a key will fail until there are (BYOK_006)", "error", text)
	return "NONE NOW"
}
