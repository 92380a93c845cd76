package kmsfake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"syscall"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Client calls the service in process, as one principal in one Region. It has
// the methods of *kms.Client, and errors and metadata come in the same layers.
// It is safe for concurrent use. It does not retry.
type Client struct {
	f       *KMS
	who     *principal
	region  string
	session *Session // see With
}

// Client returns a client that acts as a principal: the ARN of an account's
// root, a user, a role, an assumed-role session, or a bare account id for its
// root. A role's ARN means a session of it named "kmsfake".
func (f *KMS) Client(principalARN string) *Client {
	f.helper()
	return &Client{f: f, who: f.mustPrincipal(principalARN), region: DefaultRegion}
}

func (f *KMS) mustPrincipal(arn string) *principal {
	f.helper()
	p, err := parsePrincipal(arn)
	if err != nil {
		f.misuse("%v", err)
	}
	return &p
}

// Region returns a client of the same principal in another Region.
func (c *Client) Region(region string) *Client {
	c.f.helper()
	if !isRegion(region) {
		c.f.misuse("%q is not a Region", region)
	}
	return &Client{f: c.f, who: c.who, region: region, session: c.session}
}

// Options is the configuration that a *kms.Client would show.
func (c *Client) Options() kms.Options { return kms.Options{Region: c.region} }

// invoke is what all methods do. Of the option functions only Region has an
// effect: there is neither transport nor retryer that the others could change.
func invoke[In, Out any](ctx context.Context, c *Client, name string, in *In, optFns []func(*kms.Options)) (*Out, error) {
	if in == nil {
		in = new(In)
	}
	operationError := func(err error) error {
		return &smithy.OperationError{ServiceID: kms.ServiceID, OperationName: name, Err: err}
	}
	if err := missing(name, in); err != nil {
		return nil, operationError(err)
	}
	if err := ctx.Err(); err != nil { // the SDK does not even wrap this one
		return nil, operationError(err)
	}
	from := caller{who: c.who, region: c.region, session: c.session}
	if len(optFns) > 0 {
		o := c.Options()
		for _, fn := range optFns {
			fn(&o)
		}
		from.region = o.Region
	}
	a := c.f.do(ctx, from, operations[name], in)
	if a.truncated {
		a.err = errTruncated
	}
	if err := wait(ctx, a.body); err != nil {
		a.err = err
	}
	if a.err != nil {
		return nil, operationError(sdkError(from.region, a.requestID, a.err))
	}
	result := a.out.(*Out)
	var md middleware.Metadata
	awsmiddleware.SetRequestIDMetadata(&md, a.requestID)
	reflect.ValueOf(result).Elem().FieldByName("ResultMetadata").Set(reflect.ValueOf(md))
	return result, nil
}

// sdkError wraps a refusal as the SDK's middleware does, so that errors.As finds
// the exception, the HTTP response and the request id where it does in production.
func sdkError(region, requestID string, err error) error {
	response := &http.Response{Header: http.Header{}, Body: http.NoBody}
	wrap := func(id string, err error) error {
		return &awshttp.ResponseError{
			RequestID: id,
			ResponseError: &smithyhttp.ResponseError{
				Response: &smithyhttp.Response{Response: response}, Err: err,
			},
		}
	}
	answered := func(status int) {
		response.StatusCode, response.Status = status, http.StatusText(status)
		response.Proto, response.ProtoMajor, response.ProtoMinor = "HTTP/1.1", 1, 1
		response.Header.Set("X-Amzn-Requestid", requestID)
	}
	broken := func(op, call string, errno syscall.Errno) error {
		return wrap("", &smithyhttp.RequestSendError{Err: &url.Error{
			Op: "Post", URL: "https://kms." + region + ".amazonaws.com/",
			Err: &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(call, errno)},
		}})
	}
	var refused *apiError
	switch {
	case errors.As(err, &refused):
		answered(refused.httpStatus())
		return wrap(requestID, refused.sdk())
	case errors.Is(err, errUnreachable):
		return broken("dial", "connect", syscall.ECONNREFUSED)
	case errors.Is(err, errReset):
		return broken("read", "read", syscall.ECONNRESET)
	case errors.Is(err, errTruncated):
		answered(http.StatusOK)
		return wrap(requestID, &smithy.DeserializationError{
			Err: fmt.Errorf("failed to decode response body, %w", io.ErrUnexpectedEOF),
		})
	}
	return wrap("", &smithy.CanceledError{Err: err})
}

// requiredMembers are those that the SDK itself insists on, before it sends
// anything: such a call never reaches the service, nor its log.
var requiredMembers = map[string][]string{
	"CancelKeyDeletion": {"KeyId"}, "CreateAlias": {"AliasName", "TargetKeyId"}, "DeleteAlias": {"AliasName"},
	"CreateGrant": {"KeyId", "Operations"}, "ListGrants": {"KeyId"}, "RevokeGrant": {"GrantId", "KeyId"},
	"DescribeKey": {"KeyId"}, "DisableKey": {"KeyId"}, "DisableKeyRotation": {"KeyId"}, "EnableKey": {"KeyId"},
	"EnableKeyRotation": {"KeyId"}, "Encrypt": {"KeyId", "Plaintext"}, "GenerateDataKey": {"KeyId"},
	"GenerateDataKeyWithoutPlaintext": {"KeyId"}, "GetKeyPolicy": {"KeyId"}, "GetKeyRotationStatus": {"KeyId"},
	"ListKeyPolicies": {"KeyId"}, "PutKeyPolicy": {"KeyId", "Policy"}, "ReEncrypt": {"DestinationKeyId"},
	"ScheduleKeyDeletion": {"KeyId"}, "UpdateAlias": {"AliasName", "TargetKeyId"},
	"DeleteImportedKeyMaterial": {"KeyId"}, "DeriveSharedSecret": {"KeyAgreementAlgorithm", "KeyId", "PublicKey"},
	"GenerateDataKeyPair": {"KeyId", "KeyPairSpec"}, "GenerateDataKeyPairWithoutPlaintext": {"KeyId", "KeyPairSpec"},
	"GenerateMac": {"KeyId", "MacAlgorithm", "Message"}, "VerifyMac": {"KeyId", "Mac", "MacAlgorithm", "Message"},
	"GetParametersForImport": {"KeyId", "WrappingAlgorithm", "WrappingKeySpec"}, "GetPublicKey": {"KeyId"},
	"ImportKeyMaterial": {"EncryptedKeyMaterial", "ImportToken", "KeyId"}, "ReplicateKey": {"KeyId", "ReplicaRegion"},
	"Sign": {"KeyId", "Message", "SigningAlgorithm"}, "Verify": {"KeyId", "Message", "Signature", "SigningAlgorithm"},
	"UpdatePrimaryRegion": {"KeyId", "PrimaryRegion"}, "GetKeyLastUsage": {"KeyId"}, "ListKeyRotations": {"KeyId"}, "ListResourceTags": {"KeyId"}, "RotateKeyOnDemand": {"KeyId"},
	"TagResource": {"KeyId", "Tags"}, "UntagResource": {"KeyId", "TagKeys"}, "UpdateKeyDescription": {"KeyId", "Description"},
}

func missing(name string, in any) error {
	invalid := smithy.InvalidParamsError{Context: name + "Input"}
	v := reflect.ValueOf(in).Elem()
	for _, member := range requiredMembers[name] {
		if unset(v.FieldByName(member)) {
			invalid.Add(smithy.NewErrParamRequired(member))
		}
	}
	if invalid.Len() == 0 {
		return nil
	}
	return invalid
}
