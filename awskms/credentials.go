package awskms

import (
	"context"
	"errors"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/byok-go/byok"
)

// credentialsError marks a failure as one of obtaining our own credentials. STS
// refuses with the same words as KMS: without the mark its AccessDenied would
// look as if the customer had revoked us.
type credentialsError struct {
	text string
	ctx  error // the context's error, if that was it
}

func (e *credentialsError) Error() string { return "credentials: " + e.text }
func (e *credentialsError) Unwrap() error { return e.ctx }

// credentialsFailed keeps the text alone of err: the errors of STS hold a request
// whose headers are credentials.
func credentialsFailed(err error) error {
	e := &credentialsError{text: causeText(err)}
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, c) {
			e.ctx = c
		}
	}
	return e
}

// stage wraps the provider of one call, so that its errors carry the mark.
type stage struct{ provider aws.CredentialsProvider }

func (s stage) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if s.provider == nil {
		// The SDK would send the request unsigned.
		return aws.Credentials{}, &credentialsError{text: "the client has none"}
	}
	c, err := s.provider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, credentialsFailed(err)
	}
	if !c.HasKeys() {
		return aws.Credentials{}, &credentialsError{text: "the provider returned none"}
	}
	return c, nil
}

// maxTenants bounds the credentials that are kept: a few kilobytes each. When there are more, any
// tenant's are forgotten for a newcomer's: a role is assumed once more, and that is all.
const maxTenants = 8192

// tenantCredentials keeps the providers that Options.CredentialsFor returned, so
// that a role is assumed once an hour and not for each request.
type tenantCredentials struct {
	find func(ctx context.Context, tenant string) (aws.CredentialsProvider, error)
	mu   sync.Mutex
	kept map[string]*aws.CredentialsCache
}

func newTenantCredentials(find func(context.Context, string) (aws.CredentialsProvider, error)) *tenantCredentials {
	return &tenantCredentials{find: find, kept: make(map[string]*aws.CredentialsCache)}
}

// get returns the provider for the tenant of ctx. The lock is not held while the
// user's function runs; two first calls at once may run it twice.
func (t *tenantCredentials) get(ctx context.Context, tenant string) (*aws.CredentialsCache, error) {
	t.mu.Lock()
	cached := t.kept[tenant]
	t.mu.Unlock()
	if cached != nil {
		return cached, nil
	}
	p, err := t.find(ctx, tenant)
	if err != nil {
		return nil, credentialsFailed(err)
	}
	if p == nil {
		return nil, &credentialsError{text: "Options.CredentialsFor returned none"}
	}
	fresh, ok := p.(*aws.CredentialsCache)
	if !ok {
		fresh = aws.NewCredentialsCache(p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if cached := t.kept[tenant]; cached != nil {
		return cached, nil
	}
	if len(t.kept) >= maxTenants {
		for any := range t.kept {
			delete(t.kept, any)
			break
		}
	}
	t.kept[tenant] = fresh
	return fresh, nil
}

// drop forgets credentials that do not work, so that a corrected role takes
// effect at the next call. It leaves what another call has put there since.
func (t *tenantCredentials) drop(tenant string, failed *aws.CredentialsCache) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept[tenant] == failed {
		delete(t.kept, tenant)
	}
}

// tenantOf is a variable for the tests of this package: only a Keeper can put a
// tenant into a context.
var tenantOf = byok.TenantFromContext
