package awskms

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/byok-go/byok"
)

var update = flag.Bool("update", false, "write testdata/*.golden")

// golden compares got with a file of testdata, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s has changed (-update writes it):\n%s", path, got)
	}
}

// modelled are the exceptions that the SDK has types for. TestD11_ModelledCodes
// asks it: one that a new version adds has to be looked at, and given a class.
var modelled = strings.Fields(`AlreadyExistsException CloudHsmClusterInUseException
	CloudHsmClusterInvalidConfigurationException CloudHsmClusterNotActiveException CloudHsmClusterNotFoundException
	CloudHsmClusterNotRelatedException ConflictException CustomKeyStoreHasCMKsException CustomKeyStoreInvalidStateException
	CustomKeyStoreNameInUseException CustomKeyStoreNotFoundException DependencyTimeoutException DisabledException
	DryRunOperationException ExpiredImportTokenException IncorrectKeyException IncorrectKeyMaterialException
	IncorrectTrustAnchorException InvalidAliasNameException InvalidArnException InvalidCiphertextException
	InvalidGrantIdException InvalidGrantTokenException InvalidImportTokenException InvalidKeyUsageException
	InvalidMarkerException KeyUnavailableException KMSInternalException KMSInvalidMacException KMSInvalidSignatureException
	KMSInvalidStateException LimitExceededException MalformedPolicyDocumentException NotFoundException TagException
	UnsupportedOperationException XksKeyAlreadyInUseException XksKeyInvalidConfigurationException XksKeyNotFoundException
	XksProxyIncorrectAuthenticationCredentialException XksProxyInvalidConfigurationException XksProxyInvalidResponseException
	XksProxyUriEndpointInUseException XksProxyUriInUseException XksProxyUriUnreachableException
	XksProxyVpcEndpointServiceInUseException XksProxyVpcEndpointServiceInvalidConfigurationException
	XksProxyVpcEndpointServiceNotFoundException`)

// unmodelled are the codes common to AWS services, and some that are nobody's.
var unmodelled = strings.Fields(`AccessDeniedException AccessDenied NotAuthorized OptInRequired InvalidAction UnknownOperationException
	ValidationException ValidationError SerializationException
	ExpiredToken ExpiredTokenException TokenRefreshRequired InvalidToken UnrecognizedClientException UnrecognizedClient
	InvalidClientTokenId InvalidClientTokenIdException InvalidAccessKeyId InvalidSignatureException SignatureDoesNotMatch
	IncompleteSignature IncompleteSignatureException MissingAuthenticationToken MissingAuthenticationTokenException AuthFailure
	RequestExpired RequestExpiredException RequestTimeTooSkewed RequestInTheFuture
	RequestTimeout RequestTimeoutException InternalFailure InternalError InternalServerError InternalServerException
	ServiceUnavailable ServiceUnavailableException
	ThrottlingException Throttling ThrottledException LimitExceeded TooManyRequests TooManyRequestsException RequestLimitExceeded
	RequestThrottled RequestThrottledException BandwidthLimitExceeded SlowDown PriorRequestNotComplete
	ProvisionedThroughputExceededException TransactionInProgressException EC2ThrottledException
	SomethingNewException UnknownError`)

// TestD11_ModelledCodes compares the list above with the SDK, both ways.
func TestD11_ModelledCodes(t *testing.T) {
	known := map[string]bool{}
	for _, entry := range kms.TypeRegistry.Entries {
		if err, ok := entry.New().(smithy.APIError); ok {
			known[err.ErrorCode()] = true
			if !slices.Contains(modelled, err.ErrorCode()) {
				t.Errorf("the SDK models %s: decide what it means in classes or by the rule for unknown codes, and write it into the list", err.ErrorCode())
			}
		}
	}
	for _, code := range modelled {
		if !known[code] {
			t.Errorf("the SDK does not model %s", code)
		}
	}
	if len(known) < 40 {
		t.Errorf("the SDK models %d exceptions: this test could pass on nothing", len(known))
	}
	for code := range classes {
		if !slices.Contains(modelled, code) && !slices.Contains(unmodelled, code) {
			t.Errorf("%s has a class, and is not in the golden file", code)
		}
	}
}

// TestD11_Golden sends each code through the SDK's deserializer, with each kind of
// status, with and without a request id, and writes down the class. A class does
// not depend on how often the error is wrapped, nor on what ctx says once the
// answer is there.
func TestD11_Golden(t *testing.T) {
	var b strings.Builder
	n := 0
	codes := append(append(slices.Clone(modelled), unmodelled...), "")
	slices.Sort(codes)
	for _, code := range codes {
		var row []string
		for _, status := range []int{400, 403, 408, 429, 500, 503, 301} {
			for _, id := range []string{"11111111-2222-3333-4444-555555555555", ""} {
				n++
				class := classified(t, code, status, id)
				if id == "" && class == classified(t, code, status, "x") {
					continue // no difference, said once
				}
				name := fmt.Sprint(status)
				if id == "" {
					name += " without id"
				}
				row = append(row, name+" "+class.String())
			}
		}
		if code == "" {
			code = "(none)"
		}
		if len(row) == 7 && !slices.ContainsFunc(row, func(s string) bool { return s[4:] != row[0][4:] }) {
			row = []string{"always " + row[0][4:]}
		}
		fmt.Fprintf(&b, "%s: %s\n", code, strings.Join(row, ", "))
	}
	golden(t, "classes.golden", b.String())
	t.Logf("%d codes, %d answers", len(codes), n)
}

// classified is the class of an answer, which four ways of delivery must agree on.
func classified(t *testing.T, code string, status int, id string) byok.Class {
	t.Helper()
	body := `{"__type":"com.amazonaws.kms#` + code + `","message":"no"}`
	if code == "" {
		body = `<html>no</html>`
	}
	send := func(ctx context.Context, before func()) error {
		client := realClient(func(*http.Request) (*http.Response, error) { before(); return answer(status, id, body), nil })
		_, _, err := newFrom(t, client, nil).UnwrapDataKey(ctx, Key(testARN), []byte("wrapped"), nil)
		return err
	}
	err := send(t.Context(), func() {})
	var ke *byok.KeyError
	if !errors.As(err, &ke) {
		t.Fatal(err)
	}
	wantCode := code
	if code == "UnknownError" {
		wantCode = ""
	}
	if ke.Code != wantCode || ke.RequestID != id {
		t.Errorf("%s, %d: code %q, request id %q", code, status, ke.Code, ke.RequestID)
	}
	// The caller leaves while the answer is being read: it stands.
	ctx, cancel := context.WithCancel(t.Context())
	if late := send(ctx, cancel); !sameClass(late, ke.Class) {
		t.Errorf("%s, %d: cancelled late: %v", code, status, late)
	}
	// The SDK's error inside others, as interceptors and wrappers of clients do it.
	_, sdk := realClient(func(*http.Request) (*http.Response, error) { return answer(status, id, body), nil }).
		Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte("x"), KeyId: aws.String(testARN)},
			func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	for _, wrapped := range []error{
		fmt.Errorf("client: %w", sdk), errors.Join(io.EOF, sdk),
		&retry.MaxAttemptsError{Attempt: 3, Err: fmt.Errorf("%w", &smithy.OperationError{ServiceID: "KMS", OperationName: "Decrypt", Err: sdk})},
	} {
		s := &stub{decrypt: func(context.Context, *kms.DecryptInput) (*kms.DecryptOutput, error) { return nil, wrapped }}
		if _, _, err := newFrom(t, s, nil).UnwrapDataKey(t.Context(), Key(testARN), []byte("x"), nil); !sameClass(err, ke.Class) {
			t.Errorf("%s, %d, wrapped in %T: %v", code, status, wrapped, err)
		}
	}
	return ke.Class
}

func sameClass(err error, class byok.Class) bool {
	var ke *byok.KeyError
	return errors.As(err, &ke) && ke.Class == class
}

// TestD11_Table is the table of the design in the words of the design, apart from
// the golden file, which -update can change.
func TestD11_Table(t *testing.T) {
	for class, codes := range map[byok.Class]string{
		byok.ClassDenied: `DisabledException KMSInvalidStateException NotFoundException AccessDeniedException AccessDenied
			InvalidGrantTokenException InvalidKeyUsageException UnsupportedOperationException CustomKeyStoreInvalidStateException
			CloudHsmClusterNotActiveException XksProxyUriUnreachableException SomethingNewException`,
		byok.ClassPlatform: `ExpiredTokenException UnrecognizedClientException InvalidClientTokenId InvalidSignatureException
			SignatureDoesNotMatch IncompleteSignature MissingAuthenticationToken RequestExpired RequestTimeTooSkewed`,
		byok.ClassInternal:  `ValidationException SerializationException`,
		byok.ClassOutage:    `KMSInternalException DependencyTimeoutException KeyUnavailableException RequestTimeout`,
		byok.ClassThrottled: `ThrottlingException LimitExceededException TooManyRequestsException RequestLimitExceeded`,
		byok.ClassBlob:      `InvalidCiphertextException IncorrectKeyException`,
	} {
		for _, code := range strings.Fields(codes) {
			if got := classified(t, code, 400, "id"); got != class {
				t.Errorf("%s: %v, want %v", code, got, class)
			}
		}
	}
	for code := range retry.DefaultThrottleErrorCodes {
		if classes[code] != byok.ClassThrottled {
			t.Errorf("the SDK throttles on %s, we do not", code)
		}
	}
	// Only ever an outage: what AWS may not have said.
	for _, tt := range []struct {
		code   string
		status int
		id     string
	}{{"SomethingNewException", 400, ""}, {"SomethingNewException", 500, "id"}, {"", 403, "id"}, {"", 403, ""}, {"UnknownError", 403, "id"}, {"", 502, ""}, {"", 307, ""}} {
		if got := classified(t, tt.code, tt.status, tt.id); got != byok.ClassOutage {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestD11_NoAnswer: what is no answer is an outage.
func TestD11_NoAnswer(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for name, do := range map[string]doer{
		"refused": func(*http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Post", URL: "https://kms", Err: dial}
		},
		"DNS": func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "kms"}
		},
		"EOF": func(*http.Request) (*http.Response, error) { return nil, io.EOF },
		"broken off": func(*http.Request) (*http.Response, error) {
			r := answer(200, "id", "")
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"KeyId":`), errReader{io.ErrUnexpectedEOF}))
			return r, nil
		},
		"reset": func(*http.Request) (*http.Response, error) {
			r := answer(200, "id", "")
			r.Body = io.NopCloser(errReader{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}})
			return r, nil
		},
		"proxy":       func(*http.Request) (*http.Response, error) { return answer(407, "", "<html>"), nil },
		"bad gateway": func(*http.Request) (*http.Response, error) { return answer(502, "", "<html>"), nil },
	} {
		for op, call := range operations(t, newFrom(t, realClient(do), nil)) {
			if ke := wantClass(t, call(t.Context(), Key(testARN)), op, byok.ClassOutage); !errors.Is(ke, byok.ErrKeyUnavailable) {
				t.Errorf("%s: %v", name, ke)
			}
		}
	}
	// A whole answer that cannot be read is a wrong one.
	for _, body := range []string{`{"KeyId":`, `<html>`, `{"KeyId":7,"Plaintext":7,"CiphertextBlob":7,"KeyMetadata":7}`, `[]`, `"x"`, ``, `{}`, `null`} {
		do := doer(func(*http.Request) (*http.Response, error) { return answer(200, "id", body), nil })
		for op, call := range operations(t, newFrom(t, realClient(do), nil)) {
			wantClass(t, call(t.Context(), Key(testARN)), op, byok.ClassInternal)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestD11_AccessDenied: whose policy refused, by the text, and theirs in doubt.
func TestD11_AccessDenied(t *testing.T) {
	user := func(account, why string) string {
		return "User: arn:aws:sts::" + account + ":assumed-role/byok-platform/session is not authorized to perform: kms:Decrypt on resource: " + testARN + " " + why
	}
	const none, deny = "because no identity-based policy allows the kms:Decrypt action", "with an explicit deny in an identity-based policy"
	for _, tt := range []struct {
		text       string
		own, role2 byok.Class // with the platform's own credentials; with a role per tenant
	}{
		{user(platformAccount, none), byok.ClassPlatformDenied, byok.ClassPlatformDenied},
		{user(platformAccount, deny), byok.ClassPlatformDenied, byok.ClassPlatformDenied},
		{user(platformAccount, deny+": arn:aws:iam::"+platformAccount+":policy/stop"), byok.ClassPlatformDenied, byok.ClassPlatformDenied},
		{user(tenantAccount, none), byok.ClassPlatformDenied, byok.ClassDenied}, // a role that is the customer's
		{user(tenantAccount, deny), byok.ClassPlatformDenied, byok.ClassDenied},
		{user(platformAccount, "because no resource-based policy allows the kms:Decrypt action"), byok.ClassDenied, byok.ClassDenied},
		{user(platformAccount, "with an explicit deny in a resource-based policy"), byok.ClassDenied, byok.ClassDenied},
		{user(platformAccount, "with an explicit deny in a service control policy"), byok.ClassDenied, byok.ClassDenied},
		{user(platformAccount, "because no session policy allows the kms:Decrypt action"), byok.ClassDenied, byok.ClassDenied},
		{user(platformAccount, "because no permissions boundary allows the kms:Decrypt action"), byok.ClassDenied, byok.ClassDenied},
		{user(platformAccount, ""), byok.ClassDenied, byok.ClassDenied},
		{user(platformAccount, none) + " and because no resource-based policy allows it", byok.ClassDenied, byok.ClassDenied},
		{"resource-based: " + user(platformAccount, none), byok.ClassDenied, byok.ClassDenied},
		{none, byok.ClassDenied, byok.ClassDenied},
		{"", byok.ClassDenied, byok.ClassDenied},
		{"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.", byok.ClassDenied, byok.ClassDenied},
	} {
		for _, code := range []string{"AccessDeniedException", "AccessDenied"} {
			client := realClient(func(*http.Request) (*http.Response, error) {
				return answer(400, "id", fmt.Sprintf(`{"__type":%q,"Message":%q}`, code, tt.text)), nil
			})
			perTenant := &Options{CredentialsFor: func(context.Context, string) (aws.CredentialsProvider, error) {
				return static(accessKey, secretKey, ""), nil
			}}
			for opts, want := range map[*Options]byok.Class{nil: tt.own, perTenant: tt.role2} {
				ke := wantClass(t, operations(t, newFrom(t, client, opts))["Decrypt"](t.Context(), Key(testARN)), "Decrypt", want)
				if ke.Class != want {
					t.Errorf("%q, role per tenant: %v", tt.text, opts != nil)
				}
			}
		}
	}
	// No other code is ever ours by its text.
	client := realClient(func(*http.Request) (*http.Response, error) {
		return answer(400, "id", fmt.Sprintf(`{"__type":"DisabledException","message":%q}`, user(platformAccount, none))), nil
	})
	wantClass(t, operations(t, newFrom(t, client, nil))["Decrypt"](t.Context(), Key(testARN)), "Decrypt", byok.ClassDenied)
}

// D11 against the fake's words, which are AWS's.
func TestD11_AccessDeniedByTheFake(t *testing.T) {
	fake, key := newFake(t)
	k := newFrom(t, fake.Client(role), nil)
	use := func(tenant string) error {
		_, _, err := k.GenerateDataKey(t.Context(), Key(key.ARN()), context4(tenant))
		return err
	}
	if err := use("acme"); err != nil {
		t.Fatal(err)
	}
	wantClass(t, use("initech"), "GenerateDataKey", byok.ClassDenied) // the key policy
	fake.Account(platformAccount).PutIdentityPolicy(role, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}`)
	if ke := wantClass(t, use("acme"), "GenerateDataKey", byok.ClassPlatformDenied); !errors.Is(ke, byok.ErrPlatform) || errors.Is(ke, byok.ErrKeyRevoked) {
		t.Errorf("%v", ke)
	}
}

// TestD11_D15_STS: what STS answers, on the way to credentials, is never KMS's word
// about a key, whatever the code, the status and the id.
func TestD11_D15_STS(t *testing.T) {
	do := doer(func(*http.Request) (*http.Response, error) { t.Error("sent without credentials"); return nil, io.EOF })
	for _, code := range strings.Fields(`AccessDenied AccessDeniedException ExpiredTokenException IDPCommunicationError IDPRejectedClaim
		InvalidAuthorizationMessageException InvalidIdentityToken MalformedPolicyDocument PackedPolicyTooLarge RegionDisabledException
		InvalidClientTokenId SignatureDoesNotMatch Throttling InternalFailure ServiceUnavailable DisabledException NotFoundException
		KMSInvalidStateException InvalidCiphertextException SomethingNew`) {
		for _, status := range []int{400, 403, 429, 500} {
			for _, id := range []string{"id-of-sts", ""} {
				answered := &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: &awshttp.ResponseError{RequestID: id,
					ResponseError: &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: answer(status, id, "")},
						Err: &smithy.GenericAPIError{Code: code, Message: "no"}}}}
				p := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, answered })
				k := newFrom(t, realClient(do, func(o *kms.Options) { o.Credentials = p }), nil)
				_, _, err := k.UnwrapDataKey(t.Context(), Key(testARN), []byte("wrapped"), nil)
				if ke := wantClass(t, err, "Decrypt", byok.ClassPlatform); ke.Code != "" || ke.RequestID != "" {
					t.Errorf("%s, %d: code %q and id %q are not KMS's", code, status, ke.Code, ke.RequestID)
				}
			}
		}
	}
}

// D15: a failure to obtain credentials is ours, whatever it looks like: STS says
// AccessDenied in the words of KMS.
func TestD15_CredentialsStage(t *testing.T) {
	sts := &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: &awshttp.ResponseError{
		RequestID: "id-of-sts",
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: answer(403, "id-of-sts", "")},
			Err:      &smithy.GenericAPIError{Code: "AccessDenied", Message: "User: arn:aws:sts::1:x is not authorized to perform: sts:AssumeRole"},
		}}}
	var sent int
	do := doer(func(*http.Request) (*http.Response, error) { sent++; return answer(200, "", "{}"), nil })
	for name, p := range map[string]aws.CredentialsProvider{
		"STS":       aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, sts }),
		"STS again": aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, sts })),
		"IMDS":      aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, io.ErrUnexpectedEOF }),
		"empty":     aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, nil }),
		"anonymous": aws.AnonymousCredentials{},
		"none":      nil,
	} {
		given := newFrom(t, realClient(do, func(o *kms.Options) { o.Credentials = p }), nil)
		tenant := newFrom(t, realClient(do), &Options{CredentialsFor: func(context.Context, string) (aws.CredentialsProvider, error) { return p, nil }})
		keyrings := []*Keyring{given, tenant}
		if p != nil {
			made, err := New(aws.Config{Credentials: p, HTTPClient: do}, nil)
			if err != nil {
				t.Fatal(err)
			}
			keyrings = append(keyrings, made)
		}
		for _, k := range keyrings {
			for op, call := range operations(t, k) {
				ke := wantClass(t, call(t.Context(), Key(testARN)), op, byok.ClassPlatform)
				if !errors.Is(ke, byok.ErrPlatform) || errors.Is(ke, byok.ErrKeyRevoked) {
					t.Errorf("%s, %s: %v", name, op, ke)
				}
				if ke.RequestID != "" || ke.Code != "" {
					t.Errorf("%s: %q and %q are not KMS's", name, ke.RequestID, ke.Code)
				}
				if name == "STS" && !strings.Contains(ke.Err.Error(), "sts:AssumeRole") {
					t.Errorf("operators do not learn why: %v", ke.Err)
				}
			}
		}
	}
	if sent != 0 {
		t.Errorf("%d requests were sent without credentials", sent)
	}
	refusing := &Options{CredentialsFor: func(context.Context, string) (aws.CredentialsProvider, error) { return nil, sts }}
	wantClass(t, operations(t, newFrom(t, realClient(do), refusing))["Decrypt"](t.Context(), Key(testARN)), "Decrypt", byok.ClassPlatform)
}

// D15 on the wire: expired and skewed credentials are ours, and KMS's real fake says so.
func TestD15_OnTheWire(t *testing.T) {
	fake, key := newFake(t)
	cfg := onWire(t, fake)
	cfg.Credentials = static(accessKey, secretKey[:39]+"2", "") // another secret: a bad signature
	k, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for op, call := range operations(t, k) {
		ke := wantClass(t, call(t.Context(), Key(key.ARN())), op, byok.ClassPlatform)
		if ke.Code == "" {
			t.Errorf("no code: %v", ke)
		}
	}
	for _, code := range []string{"ExpiredTokenException", "RequestExpired"} {
		fake.Fail("Decrypt", code, 1)
		k := newFrom(t, fake.Client(role), nil)
		wantClass(t, operations(t, k)["Decrypt"](t.Context(), Key(key.ARN())), "Decrypt", byok.ClassPlatform)
	}
}

// A caller that leaves while credentials are awaited has met no fault of ours.
func TestCallerLeavesInCredentialsStage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	k := newFrom(t, realClient(nil, func(o *kms.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			cancel()
			<-ctx.Done()
			return aws.Credentials{}, fmt.Errorf("imds: %w", ctx.Err())
		})
	}), nil)
	wantClass(t, operations(t, k)["Decrypt"](ctx, Key(testARN)), "Decrypt", byok.ClassOutage)
}

// D10: a bad blob says nothing about the key.
func TestD10_Blobs(t *testing.T) {
	fake, key := newFake(t)
	k := newFrom(t, fake.Client(role), nil)
	for _, blob := range [][]byte{nil, {}, []byte("junk"), make([]byte, 6145)} {
		_, _, err := k.UnwrapDataKey(t.Context(), Key(key.ARN()), blob, context4("acme"))
		if ke := wantClass(t, err, "Decrypt", byok.ClassBlob); !errors.Is(ke, byok.ErrOpen) || errors.Is(ke, byok.ErrKeyRevoked) {
			t.Errorf("%v", ke)
		}
	}
	if n := len(fake.Calls()); n != 1 {
		t.Errorf("%d calls; a blob that cannot be one need not be sent", n)
	}
}

func TestRetryAfter(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "999999999": maxRetryAfter, "99999999999999999999": 0,
		"Wed, 21 Oct 2015 07:28:00 GMT": 0, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): maxRetryAfter,
	} {
		client := realClient(func(*http.Request) (*http.Response, error) {
			r := answer(400, "id", `{"__type":"ThrottlingException"}`)
			r.Header.Set("Retry-After", v)
			return r, nil
		})
		if ke := wantClass(t, operations(t, newFrom(t, client, nil))["Decrypt"](t.Context(), Key(testARN)), "Decrypt", byok.ClassThrottled); ke.RetryAfter != want {
			t.Errorf("%q: %v, want %v", v, ke.RetryAfter, want)
		}
	}
}

// What a server says goes into logs and events: only what looks like an id does.
func TestAnswersAreNotTrustedAsText(t *testing.T) {
	for _, bad := range []string{"a b", "x\x1b[31m", `"`, strings.Repeat("a", 129), "é"} {
		client := realClient(func(*http.Request) (*http.Response, error) {
			r := answer(400, "", fmt.Sprintf(`{"__type":%q}`, bad))
			r.Header["X-Amzn-Requestid"] = []string{bad}
			return r, nil
		})
		ke := wantClass(t, operations(t, newFrom(t, client, nil))["Decrypt"](t.Context(), Key(testARN)), "Decrypt", byok.ClassOutage)
		if ke.Code != "" || ke.RequestID != "" {
			t.Errorf("%q: code %q, request id %q", bad, ke.Code, ke.RequestID)
		}
	}
}

// No error holds a key, a credential or a body: not in its text, and not in
// anything that its chain leads to.
func TestErrorsHoldNoSecrets(t *testing.T) {
	const token, plain = "FwoGZXIvYXdzTOKENMARKER", "cGxhaW50ZXh0LW1hcmtlcg" // a session token; base64
	canonical := "The request signature we calculated does not match. The Canonical String for this request should have been 'POST\n/\n\nx-amz-security-token:" + token + "'"
	for name, resp := range map[string]func() *http.Response{
		"signature": func() *http.Response {
			return answer(403, "id", fmt.Sprintf(`{"__type":"InvalidSignatureException","message":%q}`, canonical))
		},
		"signature, other": func() *http.Response {
			return answer(403, "id", fmt.Sprintf(`{"__type":"SignatureDoesNotMatch","message":%q}`, canonical))
		},
		"unreadable": func() *http.Response {
			return answer(200, "id", `{"Plaintext":true,"KeyId":"`+plain+`","CiphertextBlob":1`+plain)
		},
		"unreadable number": func() *http.Response { return answer(200, "id", `{"KeyId":123450678,"Plaintext":"`+plain+`"}`) },
		"bad base64":        func() *http.Response { return answer(200, "id", `{"Plaintext":"!`+plain+`"}`) },
		"another key": func() *http.Response {
			return answer(200, "id", `{"KeyId":"k","CiphertextBlob":"AAAA","Plaintext":"`+plain+`AA="}`)
		},
		"error body": func() *http.Response { return answer(500, "id", plain+token) },
		"denied":     func() *http.Response { return answer(400, "id", `{"__type":"DisabledException"}`) },
		"broken off": func() *http.Response {
			r := answer(200, "id", "")
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"Plaintext":"`+plain), errReader{io.ErrUnexpectedEOF}))
			return r
		},
	} {
		client := realClient(func(req *http.Request) (*http.Response, error) {
			if req.Header.Get("X-Amz-Security-Token") != token {
				t.Error("the marker was not sent")
			}
			r := resp()
			r.Request = req
			return r, nil
		}, func(o *kms.Options) { o.Credentials = static(accessKey, secretKey, token) })
		for op, call := range operations(t, newFrom(t, client, nil)) {
			err := call(t.Context(), Key(testARN))
			if err == nil {
				t.Fatalf("%s, %s: no error", name, op)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
					text := fmt.Sprintf(verb, e)
					for _, secret := range []string{token, plain, secretKey, "123450678"} {
						if strings.Contains(text, secret) {
							t.Errorf("%s, %s: %s of %T has %q", name, op, verb, e, secret)
						}
					}
				}
			}
			var re *smithyhttp.ResponseError
			if errors.As(err, &re) && re.Response != nil && re.Response.Response != nil && re.Response.Request != nil {
				t.Errorf("%s, %s: the error leads to the request and its credentials", name, op)
			}
			var de *smithy.DeserializationError
			if errors.As(err, &de) && bytes.Contains(de.Snapshot, []byte(plain)) {
				t.Errorf("%s, %s: the error leads to the body", name, op)
			}
		}
	}
}
