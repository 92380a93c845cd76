package kmsfake

import (
	"crypto/rand"
	"encoding/hex"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var faultMessages = map[string]string{
	"ThrottlingException":         throttlingMessage,
	"ExpiredTokenException":       "The security token included in the request is expired",
	"UnrecognizedClientException": "The security token included in the request is invalid.",
	"KMSInternalException":        "The request was rejected because an internal exception occurred. The request can be retried.",
	"DependencyTimeoutException":  "The system timed out while trying to fulfill the request. You can retry the request.",
	"KeyUnavailableException":     "The request was rejected because the specified KMS key was not available. You can retry the request.",
	"LimitExceededException":      "The request was rejected because a quota was exceeded.",
}

// refusal is the error that a fault with a Code answers.
func (x *Fault) refusal(c *Call, who *principal) *apiError {
	msg := x.Message
	if msg == "" {
		msg = faultMessages[x.Code]
	}
	if msg == "" && x.Code == "AccessDeniedException" {
		action, on := "kms:"+c.Operation, "on this resource"
		if c.KeyARN != "" {
			on = "on resource: " + c.KeyARN
		}
		msg = "User: " + who.caller() + " is not authorized to perform: " + action + " " + on + " " +
			noKeyPolicyAllows.because(action)
	}
	return &apiError{code: x.Code, msg: msg, status: x.Status, silent: x.Code == errInvalidCiphertext.code && msg == ""}
}

// falsify rewrites a right answer, an SDK output that nobody else holds. What an
// output does not have cannot be wrong in it.
func (x *Fault) falsify(out any) {
	v := reflect.ValueOf(out).Elem()
	if md := v.FieldByName("KeyMetadata"); md.IsValid() && !md.IsNil() {
		x.rewrite(md.Elem())
	}
	x.rewrite(v)
}

func (x *Fault) rewrite(v reflect.Value) {
	set := func(change func(old string) string, names ...string) {
		for _, name := range names {
			if p, ok := stringMember(v, name); ok {
				p.Set(reflect.ValueOf(aws.String(change(p.Elem().String()))))
			}
		}
	}
	switch x.Effect {
	case WrongKeyID:
		id := newUUID()
		set(func(old string) string {
			if region, account, _, ok := splitKeyARN(old); ok {
				return keyARN(region, account, id)
			}
			return id
		}, "KeyId", "Arn")
	case WrongMaterialID:
		var id [32]byte
		rand.Read(id[:])
		set(func(string) string { return hex.EncodeToString(id[:]) },
			"KeyMaterialId", "CurrentKeyMaterialId", "SourceKeyMaterialId", "DestinationKeyMaterialId")
	case WrongKeyLength:
		if p := v.FieldByName("Plaintext"); p.IsValid() {
			key := make([]byte, x.Bytes)
			rand.Read(key)
			copy(key, p.Bytes())
			p.SetBytes(key)
		}
	}
}

// stringMember is a *string member that is set.
func stringMember(v reflect.Value, name string) (reflect.Value, bool) {
	p := v.FieldByName(name)
	return p, p.IsValid() && p.Type() == reflect.TypeFor[*string]() && !p.IsNil()
}
