package main

import (
	"context"

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
	if err != nil {
		return nil, err
	}
	fake.RegisterAccessKey(platformAccessKey, platformRole)
	return fake, nil
}

// keyring is the driver to KMS: real AWS, the fake in this process, or the fake
// of another, over the wire.
func keyring(ctx context.Context, c *config, fake *kmsfake.KMS) (*awskms.Keyring, error) {
	switch {
	case c.kms == "aws":
		cfg, err := awsconfig.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, err
		}
		return awskms.New(cfg, nil)
	case fake != nil:
		return awskms.NewFromClient(fake.Client(platformRole), nil)
	}
	cfg := aws.Config{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: platformAccessKey, SecretAccessKey: "the fake accepts any secret"}, nil
	})}
	return awskms.New(cfg, &awskms.Options{Endpoint: c.kmsEndpoint})
}
