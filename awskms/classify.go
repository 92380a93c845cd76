package awskms

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/byok-go/byok"
)

// classes is the table "KMS answers" of docs/design.md. What is not in it is for
// classOf to decide. Denials that are in the rule for unknown codes anyway stand
// here all the same: they are denials without a request id too.
var classes = map[string]byok.Class{
	// Denial: the key, or our right to use it.
	"AccessDeniedException":                                   byok.ClassDenied, // or ClassPlatformDenied, by the text
	"AccessDenied":                                            byok.ClassDenied,
	"DisabledException":                                       byok.ClassDenied,
	"KMSInvalidStateException":                                byok.ClassDenied,
	"NotFoundException":                                       byok.ClassDenied,
	"InvalidGrantTokenException":                              byok.ClassDenied,
	"InvalidKeyUsageException":                                byok.ClassDenied,
	"UnsupportedOperationException":                           byok.ClassDenied,
	"CustomKeyStoreInvalidStateException":                     byok.ClassDenied,
	"CustomKeyStoreNotFoundException":                         byok.ClassDenied,
	"CloudHsmClusterNotActiveException":                       byok.ClassDenied,
	"CloudHsmClusterNotFoundException":                        byok.ClassDenied,
	"CloudHsmClusterInvalidConfigurationException":            byok.ClassDenied,
	"XksKeyNotFoundException":                                 byok.ClassDenied,
	"XksKeyInvalidConfigurationException":                     byok.ClassDenied,
	"XksProxyUriUnreachableException":                         byok.ClassDenied,
	"XksProxyInvalidResponseException":                        byok.ClassDenied,
	"XksProxyInvalidConfigurationException":                   byok.ClassDenied,
	"XksProxyIncorrectAuthenticationCredentialException":      byok.ClassDenied,
	"XksProxyVpcEndpointServiceNotFoundException":             byok.ClassDenied,
	"XksProxyVpcEndpointServiceInvalidConfigurationException": byok.ClassDenied,

	// Platform fault: our credentials or our clock.
	"ExpiredToken":                        byok.ClassPlatform,
	"ExpiredTokenException":               byok.ClassPlatform,
	"TokenRefreshRequired":                byok.ClassPlatform,
	"InvalidToken":                        byok.ClassPlatform,
	"UnrecognizedClientException":         byok.ClassPlatform,
	"UnrecognizedClient":                  byok.ClassPlatform,
	"InvalidClientTokenId":                byok.ClassPlatform,
	"InvalidClientTokenIdException":       byok.ClassPlatform,
	"InvalidAccessKeyId":                  byok.ClassPlatform,
	"InvalidSignatureException":           byok.ClassPlatform,
	"SignatureDoesNotMatch":               byok.ClassPlatform,
	"IncompleteSignature":                 byok.ClassPlatform,
	"IncompleteSignatureException":        byok.ClassPlatform,
	"MissingAuthenticationToken":          byok.ClassPlatform,
	"MissingAuthenticationTokenException": byok.ClassPlatform,
	"AuthFailure":                         byok.ClassPlatform,
	"RequestExpired":                      byok.ClassPlatform,
	"RequestExpiredException":             byok.ClassPlatform,
	"RequestTimeTooSkewed":                byok.ClassPlatform,
	"RequestInTheFuture":                  byok.ClassPlatform,

	// Our bug.
	"ValidationException":    byok.ClassInternal,
	"ValidationError":        byok.ClassInternal,
	"SerializationException": byok.ClassInternal,

	// Outage.
	"KMSInternalException":        byok.ClassOutage,
	"DependencyTimeoutException":  byok.ClassOutage,
	"KeyUnavailableException":     byok.ClassOutage,
	"RequestTimeout":              byok.ClassOutage,
	"RequestTimeoutException":     byok.ClassOutage,
	"InternalFailure":             byok.ClassOutage,
	"InternalError":               byok.ClassOutage,
	"InternalServerError":         byok.ClassOutage,
	"InternalServerException":     byok.ClassOutage,
	"ServiceUnavailable":          byok.ClassOutage,
	"ServiceUnavailableException": byok.ClassOutage,

	// Throttled. LimitExceededException is no quota on keys here: none is created.
	"ThrottlingException":                    byok.ClassThrottled,
	"Throttling":                             byok.ClassThrottled,
	"ThrottledException":                     byok.ClassThrottled,
	"LimitExceededException":                 byok.ClassThrottled,
	"LimitExceeded":                          byok.ClassThrottled,
	"TooManyRequests":                        byok.ClassThrottled,
	"TooManyRequestsException":               byok.ClassThrottled,
	"RequestLimitExceeded":                   byok.ClassThrottled,
	"RequestThrottled":                       byok.ClassThrottled,
	"RequestThrottledException":              byok.ClassThrottled,
	"BandwidthLimitExceeded":                 byok.ClassThrottled,
	"SlowDown":                               byok.ClassThrottled,
	"PriorRequestNotComplete":                byok.ClassThrottled,
	"ProvisionedThroughputExceededException": byok.ClassThrottled,
	"TransactionInProgressException":         byok.ClassThrottled,
	"EC2ThrottledException":                  byok.ClassThrottled,

	// About one wrapped data key.
	"InvalidCiphertextException": byok.ClassBlob,
	"IncorrectKeyException":      byok.ClassBlob,
}

// classOf decides by the code. An answer with a code that we do not know is a
// denial if it is certain that AWS gave it (a 4xx with a code and a request id):
// the next way of saying no will be one. Anything less certain is an outage.
func classOf(code string, status int, requestID string) byok.Class {
	if c, ok := classes[code]; ok {
		return c
	}
	switch {
	case status == http.StatusTooManyRequests:
		return byok.ClassThrottled
	case status == http.StatusRequestTimeout:
		return byok.ClassOutage
	case code != "" && requestID != "" && status >= 400 && status < 500:
		return byok.ClassDenied
	}
	return byok.ClassOutage
}

// failed makes a [*byok.KeyError] of whatever a client returned instead of an
// answer. The order matters: our credentials first, since STS refuses in the
// words of KMS; then the answer of KMS, which stands although ctx may be done by
// now; then everything that is no answer.
func (c *call) failed(err error) error {
	ke := &byok.KeyError{Op: c.op, Key: c.key, Class: byok.ClassOutage}
	if err == nil {
		ke.Class, ke.Err = byok.ClassInternal, errors.New("neither an answer nor an error")
		return ke
	}
	var cred *credentialsError
	var signing *v4.SigningError
	if errors.As(err, &cred) || errors.As(err, &signing) {
		// No code and no request id: those of STS are not KMS's.
		ke.Class, ke.Err = byok.ClassPlatform, &credentialsError{text: causeText(err)}
		if cred != nil {
			ke.Err = cred
			if cred.ctx != nil && c.caller.Err() != nil {
				ke.Class = byok.ClassOutage // the caller left, and nothing failed
			}
		}
		c.dropCredentials(ke.Class)
		return ke
	}
	status, header := 0, http.Header(nil)
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil && re.Response.Response != nil {
		status, header = re.HTTPStatusCode(), re.Response.Header
	}
	var ae *awshttp.ResponseError
	if errors.As(err, &ae) {
		ke.RequestID = cleanID(ae.ServiceRequestID())
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		ke.Code = cleanCode(api.ErrorCode())
	}
	switch {
	case api != nil:
		ke.Class = classOf(ke.Code, status, ke.RequestID)
	case status != 0:
		ke.Class = classOf("", status, "")
		if status < 300 && unreadable(err) {
			ke.Class = byok.ClassInternal
		}
	case unsendable(err):
		ke.Class = byok.ClassInternal
	}
	if strings.HasPrefix(ke.Code, "AccessDenied") && c.ours(api.ErrorMessage()) {
		ke.Class = byok.ClassPlatformDenied
	}
	ke.RetryAfter = retryAfter(header)
	ke.Err = cause(err, status)
	c.dropCredentials(ke.Class)
	return ke
}

// dropCredentials forgets a tenant's credentials that do not work.
func (c *call) dropCredentials(class byok.Class) {
	if class == byok.ClassPlatform && c.tenants != nil {
		c.k.tenants.drop(c.tenant, c.tenants)
	}
}

// identityText is how AWS says that the policy of the calling identity is why.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
//
// It has to be the whole of the sentence: in doubt, the denial is the customer's.
// Session policies, permissions boundaries and organization policies are doubt.
var identityText = regexp.MustCompile(`^User: arn:[a-z-]+:(?:sts|iam)::(\d{12}):\S+ is not authorized to perform: kms:[A-Za-z]+ on (?:this )?resource(?:: \S+)? ` +
	`(?:because no identity-based policy allows the kms:[A-Za-z]+ action|with an explicit deny in an identity-based policy)(?:: arn:\S+)?\.?$`)

// ours reports whether an AccessDenied says that the platform's own identity
// policy refused. With a role per tenant the identity may be one in the
// customer's account, whose policy is the customer's to change.
func (c *call) ours(text string) bool {
	m := identityText.FindStringSubmatch(strings.TrimSpace(text))
	return m != nil && (c.k.tenants == nil || m[1] != c.arn.account)
}

// unreadable reports whether a successful answer could not be understood, as
// against not having arrived whole.
func unreadable(err error) bool {
	var de *smithy.DeserializationError
	var ne net.Error
	return errors.As(err, &de) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &ne) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// unsendable reports whether the SDK refused to make a request of the input.
func unsendable(err error) bool {
	var se *smithy.SerializationError
	var pe smithy.InvalidParamsError
	var pp *smithy.InvalidParamsError
	return errors.As(err, &se) || errors.As(err, &pe) || errors.As(err, &pp)
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 5 * time.Minute

func retryAfter(h http.Header) time.Duration {
	var d time.Duration
	if v := h.Get("Retry-After"); v != "" {
		if s, err := strconv.ParseUint(v, 10, 31); err == nil {
			d = time.Duration(s) * time.Second
		} else if t, err := http.ParseTime(v); err == nil {
			d = time.Until(t)
		}
	}
	return min(max(d, 0), maxRetryAfter)
}

// statusError is an answer without an error of AWS in it, perhaps a proxy's. Its
// body is left out.
type statusError int

func (e statusError) Error() string {
	return "answered with HTTP status " + strconv.Itoa(int(e)) + " and no error of AWS"
}

// cause is what a KeyError wraps: enough for operators, and nothing that holds a
// body, a header or a request. The SDK's own chain holds all three.
func cause(err error, status int) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		if mayQuoteHeaders(api.ErrorCode()) {
			return &smithy.GenericAPIError{Code: cleanCode(api.ErrorCode()), Message: "(text withheld)", Fault: api.ErrorFault()}
		}
		return api
	}
	var de *smithy.DeserializationError
	switch {
	case status == 0: // nothing came back: no body, no header
		return err
	case status >= 300 || !errors.As(err, &de):
		return statusError(status)
	case unreadable(err):
		return errors.New("the answer cannot be understood") // the SDK's reason can quote it
	}
	return de.Err // the connection broke
}

// mayQuoteHeaders reports whether the text of a refusal can quote the headers
// that were signed, x-amz-security-token among them.
func mayQuoteHeaders(code string) bool { return classes[cleanCode(code)] == byok.ClassPlatform }

// causeText is cause for errors of other services, as text.
func causeText(err error) string {
	text := err.Error()
	var api smithy.APIError
	if errors.As(err, &api) && mayQuoteHeaders(api.ErrorCode()) {
		text = cleanCode(api.ErrorCode()) + " (text withheld)"
	}
	const most = 1024
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}

var idSyntax = regexp.MustCompile(`^[0-9A-Za-z._/-]{1,128}$`)

// cleanID is an id out of an answer, "" if it does not look like one: it goes
// into logs and events as it is.
func cleanID(s string) string {
	if !idSyntax.MatchString(s) {
		return ""
	}
	return s
}

// cleanCode is an error code, "" if there is none. The SDK's word for none is
// UnknownError.
func cleanCode(s string) string {
	if s == "UnknownError" {
		return ""
	}
	return cleanID(s)
}
