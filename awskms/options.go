package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// Options of a Keyring; nil and the zero Options are safe defaults.
type Options struct {
	// Partitions are the AWS partitions whose keys are accepted: "aws", "aws-cn",
	// "aws-us-gov". Defaults to "aws" alone.
	Partitions []string

	// Regions are the Regions whose keys are accepted. Defaults to all Regions of
	// the partitions that this version of the package knows.
	Regions []string

	// Accounts are the accounts (12 digits) whose keys are accepted. Defaults to
	// all: which customer may register which key is for the key policies to say.
	Accounts []string

	// AllowMultiRegion accepts multi-Region keys ("key/mrk-..."). Their replicas
	// have policies and states of their own, so disabling one of them does not
	// stop who has registered another. An ARN with its Region still is one key:
	// nothing here falls over to a replica.
	AllowMultiRegion bool

	// AttemptTimeout bounds one request to KMS, obtaining the credentials for it
	// included. 1 ms to 1 min. Defaults to 5 s.
	AttemptTimeout time.Duration

	// Endpoint replaces the endpoint of every Region, as tests with kmsfake need
	// it. This is the only way to a plain http endpoint for a configuration
	// that config.LoadDefaultConfig has made: what stands in the environment or in
	// a file must not take the TLS from requests that carry data keys. For [New] only.
	Endpoint string

	// Region is the Region of the client, for a client that cannot tell. For
	// [NewFromClient] only; a *kms.Client can tell.
	Region string

	// CredentialsFor, if set, gives the credentials that act for a tenant: an STS
	// role per tenant. The tenant is the one on whose behalf the Keeper
	// calls, and "" when the Keyring is called in another way. It is asked
	// once for a tenant, until the credentials fail or some thousands of other
	// tenants came in between, and must return soon: return a provider that
	// does the work, such as
	//
	//	stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), roleOf(tenant),
	//		func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "byok"; o.ExternalID = &externalID })
	//
	// Its credentials are cached until they expire, and a failure to obtain them is
	// [byok.ErrPlatform], never a denial: a customer who refuses sts:AssumeRole
	// has stopped us no later than MaxAge, but KMS has not told us so.
	CredentialsFor func(ctx context.Context, tenant string) (aws.CredentialsProvider, error)
}

const (
	defaultAttemptTimeout = 5 * time.Second
	maxAttemptTimeout     = time.Minute
)

// bodyLogging is what would write plaintext data keys into a log.
const bodyLogging = aws.LogRequestWithBody | aws.LogResponseWithBody | aws.LogRequestEventMessage | aws.LogResponseEventMessage

var errBodyLogging = errors.New("awskms: ClientLogMode logs bodies, which contain plaintext data keys: " +
	"use a configuration without LogRequestWithBody, LogResponseWithBody and the event message modes")

// New returns a Keyring with one KMS client per Region, made from cfg when a key
// of the Region is first used. cfg.Region does not matter.
//
// It fails if cfg logs bodies, has no credentials (unless Options.CredentialsFor
// gives them), or leads to a plain http endpoint that was not set in code.
func New(cfg aws.Config, opts *Options) (*Keyring, error) {
	k, o, err := newKeyring(opts)
	if err != nil {
		return nil, err
	}
	if o.Region != "" {
		return nil, errors.New("awskms: Options.Region is for NewFromClient: a key's ARN names its Region")
	}
	cfg = cfg.Copy()
	if cfg.Credentials == nil && o.CredentialsFor == nil {
		return nil, errors.New("awskms: the configuration has no credentials")
	}
	client := func(region string) *kms.Client {
		return kms.NewFromConfig(cfg, func(ko *kms.Options) {
			ko.Region = region
			if o.Endpoint != "" {
				ko.BaseEndpoint = aws.String(o.Endpoint)
			}
		})
	}
	// cfg.ServiceOptions and ConfigSources can change any of this behind cfg's
	// back, so ask a finished client.
	made := client("us-east-1").Options()
	if (cfg.ClientLogMode|made.ClientLogMode)&bodyLogging != 0 {
		return nil, errBodyLogging
	}
	if err := checkEndpoint(made, o.Endpoint != "" || len(cfg.ConfigSources) == 0); err != nil {
		return nil, err
	}
	k.newClient = func(region string) API { return client(region) }
	k.clients = make(map[string]API)
	return k, nil
}

// checkEndpoint refuses an endpoint without TLS, unless it is in the program.
func checkEndpoint(o kms.Options, inCode bool) error {
	if o.EndpointOptions.DisableHTTPS && !inCode {
		return errors.New("awskms: HTTPS is disabled")
	}
	if o.BaseEndpoint == nil {
		return nil
	}
	u, err := url.Parse(*o.BaseEndpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("awskms: the endpoint is not a URL of a scheme and a host")
	case u.Scheme == "https", u.Scheme == "http" && inCode:
		return nil
	}
	return errors.New("awskms: the endpoint has no TLS, and may come from the environment: set it as Options.Endpoint")
}

// NewFromClient returns a Keyring on one client, for the keys of its Region: a
// *kms.Client, or what has its methods, such as a client of kmsfake. If neither
// the client nor Options.Region tells the Region, keys of every allowed Region
// are given to it.
//
// It fails if client logs bodies. Retries need not be off: each call says so.
func NewFromClient(client API, opts *Options) (*Keyring, error) {
	k, o, err := newKeyring(opts)
	if err != nil {
		return nil, err
	}
	if c, ok := client.(*kms.Client); client == nil || ok && c == nil {
		return nil, errors.New("awskms: nil client")
	}
	if o.Endpoint != "" {
		return nil, errors.New("awskms: Options.Endpoint is for New: the client has its own")
	}
	region := o.Region
	c, ok := client.(interface{ Options() kms.Options })
	if ok {
		co := c.Options()
		if co.ClientLogMode&bodyLogging != 0 {
			return nil, errBodyLogging
		}
		if region != "" && co.Region != "" && region != co.Region {
			return nil, fmt.Errorf("awskms: Options.Region is %q, but the client's is %q", region, co.Region)
		}
		if region == "" {
			region = co.Region
		}
	}
	if o.CredentialsFor != nil && !ok {
		return nil, errors.New("awskms: Options.CredentialsFor needs a *kms.Client, which takes credentials with each call")
	}
	if region != "" && !k.limits.allows(region) {
		return nil, fmt.Errorf("awskms: the client's Region %q is not allowed by the Options", region)
	}
	k.limits.client = region
	k.newClient = func(string) API { return client }
	return k, nil
}

// newKeyring is what both constructors share.
func newKeyring(opts *Options) (*Keyring, Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	l, err := newLimits(&o)
	if err != nil {
		return nil, o, err
	}
	k := &Keyring{limits: l, timeout: defaultAttemptTimeout}
	if t := o.AttemptTimeout; t != 0 {
		if t < time.Millisecond || t > maxAttemptTimeout {
			return nil, o, fmt.Errorf("awskms: Options.AttemptTimeout is %v, want %v to %v", t, time.Millisecond, maxAttemptTimeout)
		}
		k.timeout = t
	}
	if o.CredentialsFor != nil {
		k.tenants = newTenantCredentials(o.CredentialsFor)
	}
	return k, o, nil
}
