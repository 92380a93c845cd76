package kmsfake

import (
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// apiError is one refusal of the service, before it takes the form of an SDK
// error (in process) or of a body (on the wire).
type apiError struct {
	code   string
	msg    string
	silent bool // AWS sends no message member with this one at all
	status int  // 0: what AWS uses for the code
}

func (e *apiError) Error() string { return e.code + ": " + e.msg }

func fail(code, format string, args ...any) *apiError {
	return &apiError{code: code, msg: fmt.Sprintf(format, args...)}
}

// errInvalidCiphertext never says why: a wrong context, a flipped bit and a
// foreign blob must look the same.
var errInvalidCiphertext = &apiError{code: "InvalidCiphertextException", silent: true}

func validation(format string, args ...any) *apiError {
	return fail("ValidationException", format, args...)
}

// serverFaults are the codes that are not the caller's fault, with their HTTP
// status; everything else that KMS answers is a 400, AccessDenied included.
var serverFaults = map[string]int{
	"KMSInternalException":        http.StatusInternalServerError,
	"KeyUnavailableException":     http.StatusInternalServerError,
	"InternalFailure":             http.StatusInternalServerError,
	"InternalServerError":         http.StatusInternalServerError,
	"DependencyTimeoutException":  http.StatusServiceUnavailable,
	"ServiceUnavailable":          http.StatusServiceUnavailable,
	"ServiceUnavailableException": http.StatusServiceUnavailable,
}

func (e *apiError) httpStatus() int {
	if e.status != 0 {
		return e.status
	}
	if s, ok := serverFaults[e.code]; ok {
		return s
	}
	return http.StatusBadRequest
}

// modelled are the exceptions that the SDK has types for. AccessDenied,
// Validation, Throttling and the rest are not in KMS's model: they arrive as
// *smithy.GenericAPIError, which surprises those who only tested with errors.As.
var modelled = map[string]func(msg *string) smithy.APIError{
	"AlreadyExistsException": func(m *string) smithy.APIError { return &types.AlreadyExistsException{Message: m} },
	"ConflictException":      func(m *string) smithy.APIError { return &types.ConflictException{Message: m} },
	"CustomKeyStoreInvalidStateException": func(m *string) smithy.APIError {
		return &types.CustomKeyStoreInvalidStateException{Message: m}
	},
	"CustomKeyStoreNotFoundException": func(m *string) smithy.APIError { return &types.CustomKeyStoreNotFoundException{Message: m} },
	"DependencyTimeoutException":      func(m *string) smithy.APIError { return &types.DependencyTimeoutException{Message: m} },
	"DisabledException":               func(m *string) smithy.APIError { return &types.DisabledException{Message: m} },
	"DryRunOperationException":        func(m *string) smithy.APIError { return &types.DryRunOperationException{Message: m} },
	"IncorrectKeyException":           func(m *string) smithy.APIError { return &types.IncorrectKeyException{Message: m} },
	"InvalidAliasNameException":       func(m *string) smithy.APIError { return &types.InvalidAliasNameException{Message: m} },
	"InvalidArnException":             func(m *string) smithy.APIError { return &types.InvalidArnException{Message: m} },
	"InvalidCiphertextException":      func(m *string) smithy.APIError { return &types.InvalidCiphertextException{Message: m} },
	"InvalidGrantIdException":         func(m *string) smithy.APIError { return &types.InvalidGrantIdException{Message: m} },
	"InvalidGrantTokenException":      func(m *string) smithy.APIError { return &types.InvalidGrantTokenException{Message: m} },
	"InvalidKeyUsageException":        func(m *string) smithy.APIError { return &types.InvalidKeyUsageException{Message: m} },
	"InvalidMarkerException":          func(m *string) smithy.APIError { return &types.InvalidMarkerException{Message: m} },
	"KMSInternalException":            func(m *string) smithy.APIError { return &types.KMSInternalException{Message: m} },
	"KMSInvalidStateException":        func(m *string) smithy.APIError { return &types.KMSInvalidStateException{Message: m} },
	"KeyUnavailableException":         func(m *string) smithy.APIError { return &types.KeyUnavailableException{Message: m} },
	"LimitExceededException":          func(m *string) smithy.APIError { return &types.LimitExceededException{Message: m} },
	"MalformedPolicyDocumentException": func(m *string) smithy.APIError {
		return &types.MalformedPolicyDocumentException{Message: m}
	},
	"IncorrectKeyMaterialException": func(m *string) smithy.APIError { return &types.IncorrectKeyMaterialException{Message: m} },
	"ExpiredImportTokenException":   func(m *string) smithy.APIError { return &types.ExpiredImportTokenException{Message: m} },
	"InvalidImportTokenException":   func(m *string) smithy.APIError { return &types.InvalidImportTokenException{Message: m} },
	"KMSInvalidMacException":        func(m *string) smithy.APIError { return &types.KMSInvalidMacException{Message: m} },
	"KMSInvalidSignatureException":  func(m *string) smithy.APIError { return &types.KMSInvalidSignatureException{Message: m} },
	"NotFoundException":             func(m *string) smithy.APIError { return &types.NotFoundException{Message: m} },
	"TagException":                  func(m *string) smithy.APIError { return &types.TagException{Message: m} },
	"UnsupportedOperationException": func(m *string) smithy.APIError { return &types.UnsupportedOperationException{Message: m} },
	"XksProxyUriUnreachableException": func(m *string) smithy.APIError {
		return &types.XksProxyUriUnreachableException{Message: m}
	},
}

// sdk is the error as the SDK's deserializer would have built it.
func (e *apiError) sdk() smithy.APIError {
	if make, ok := modelled[e.code]; ok {
		if e.silent {
			return make(nil)
		}
		msg := e.msg
		return make(&msg)
	}
	return &smithy.GenericAPIError{Code: e.code, Message: e.msg}
}
