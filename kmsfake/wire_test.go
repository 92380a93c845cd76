package kmsfake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// testSecret is as long as AWS's: FIPS mode does not sign with short ones.
const testSecret = "any secret will do, of forty characters"

// sdkClient is the real SDK client, on the fake's wire protocol, without retries.
func sdkClient(t testing.TB, fake *KMS, accessKeyID, secret string) *kms.Client {
	t.Helper()
	server := httptest.NewServer(fake.Handler())
	t.Cleanup(server.Close)
	return kms.New(kms.Options{
		Region: DefaultRegion, BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{},
		HTTPClient: server.Client(),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secret}, nil
		}),
	})
}

// story is a key's whole life through an API; it returns one line for each
// answer, without what is random.
func story(t *testing.T, fake *KMS, c API) []string {
	ctx := context.Background()
	var lines []string
	names := strings.NewReplacer()
	var known []string
	call := func(name string, out any, err error) {
		t.Helper()
		text := fmt.Sprint(err)
		if err == nil {
			b, _ := json.Marshal(out)
			text = string(b)
		}
		text = names.Replace(text)
		text = regexp.MustCompile(`RequestID: [0-9a-f-]{36}`).ReplaceAllString(text, "RequestID: R")
		text = regexp.MustCompile(`"(CiphertextBlob|Plaintext|KeyMaterialId|CurrentKeyMaterialId|SourceKeyMaterialId|DestinationKeyMaterialId)":"[^"]+"`).ReplaceAllString(text, `"$1":"…"`)
		text = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`).ReplaceAllString(text, "TIME")
		lines = append(lines, name+": "+text)
	}
	name := func(id *string, short string) {
		if id != nil && *id != "" {
			known = append(known, *id, short)
			names = strings.NewReplacer(known...)
		}
	}
	made, err := c.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("ä <b> \"q\""), Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}})
	if err != nil {
		t.Fatal(err)
	}
	id := made.KeyMetadata.KeyId
	name(id, "KEY1")
	call("CreateKey", made, err)
	if _, ok := awsmiddleware.GetRequestIDMetadata(made.ResultMetadata); !ok {
		t.Error("no request id in the metadata of CreateKey")
	}
	other, err := c.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	name(other.KeyMetadata.KeyId, "KEY2")
	arn := made.KeyMetadata.Arn
	ec := map[string]string{"tenant": "t1", "ключ": "значение"}
	alias, missing := aws.String("alias/story"), aws.String("3b241101-e2bb-4255-8caf-4136c566a962")

	o1, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: id})
	call("CreateAlias", o1, err)
	o1, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: id})
	call("CreateAlias again", o1, err)
	o1, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("story"), TargetKeyId: id})
	call("CreateAlias without prefix", o1, err)
	enc, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: alias, Plaintext: []byte("hello"), EncryptionContext: ec})
	if err != nil {
		t.Fatal(err)
	}
	call("Encrypt", enc, err)
	dec, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: ec, KeyId: arn})
	if err != nil || string(dec.Plaintext) != "hello" {
		t.Fatalf("Decrypt: %v, %v", dec, err)
	}
	call("Decrypt", dec, err)
	dec, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, KeyId: arn})
	call("Decrypt without context", dec, err)
	dec, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: ec, KeyId: other.KeyMetadata.Arn})
	call("Decrypt under the other key", dec, err)
	dec, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: ec, DryRun: aws.Bool(true)})
	call("Decrypt as dry run", dec, err)
	dec, err = c.Decrypt(ctx, &kms.DecryptInput{})
	call("Decrypt of nothing", dec, err)
	re, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, SourceEncryptionContext: ec, DestinationKeyId: other.KeyMetadata.Arn})
	if err != nil {
		t.Fatal(err)
	}
	call("ReEncrypt", re, err)
	gen, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, NumberOfBytes: aws.Int32(64)})
	if err != nil || len(gen.Plaintext) != 64 {
		t.Fatalf("GenerateDataKey: %v, %v", gen, err)
	}
	call("GenerateDataKey", gen, err)
	gen, err = c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id})
	call("GenerateDataKey of no size", gen, err)
	gen, err = c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: missing, NumberOfBytes: aws.Int32(0), KeySpec: "AES_512"})
	call("GenerateDataKey of two faults", gen, err)
	gen, err = c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256})
	call("GenerateDataKey without a key", gen, err)
	without, err := c.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, KeySpec: types.DataKeySpecAes128})
	call("GenerateDataKeyWithoutPlaintext", without, err)
	desc, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: alias})
	call("DescribeKey", desc, err)
	desc, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: missing})
	call("DescribeKey of no key", desc, err)
	desc, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("arn:aws:kms:us-east-1:444455556666:key/" + *missing)})
	call("DescribeKey of a stranger's key", desc, err)
	desc, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("arn:nonsense")})
	call("DescribeKey of nonsense", desc, err)
	for range 2 {
		keys, err := c.ListKeys(ctx, &kms.ListKeysInput{Limit: aws.Int32(2)})
		if err != nil || len(keys.Keys) != 2 || keys.Truncated {
			t.Errorf("ListKeys: %+v, %v", keys, err)
		}
	}
	aliases, err := c.ListAliases(ctx, &kms.ListAliasesInput{KeyId: id})
	call("ListAliases", aliases, err)
	up, err := c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: other.KeyMetadata.KeyId})
	call("UpdateAlias", up, err)
	del, err := c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: alias})
	call("DeleteAlias", del, err)
	del, err = c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: alias})
	call("DeleteAlias again", del, err)
	pol, err := c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: id})
	call("GetKeyPolicy", pol, err)
	put, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: pol.Policy, PolicyName: aws.String("default")})
	call("PutKeyPolicy", put, err)
	put, err = c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: aws.String("{}")})
	call("PutKeyPolicy malformed", put, err)
	put, err = c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: aws.String(strings.ReplaceAll(*pol.Policy, customer, vendor))})
	call("PutKeyPolicy that locks out", put, err)
	lists, err := c.ListKeyPolicies(ctx, &kms.ListKeyPoliciesInput{KeyId: id})
	call("ListKeyPolicies", lists, err)
	rot, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(90)})
	call("EnableKeyRotation", rot, err)
	status, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
	call("GetKeyRotationStatus", status, err)
	norot, err := c.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: id})
	call("DisableKeyRotation", norot, err)
	dis, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
	call("DisableKey", dis, err)
	enc, err = c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	call("Encrypt disabled", enc, err)
	en, err := c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
	call("EnableKey", en, err)
	sched, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(6)})
	call("ScheduleKeyDeletion too soon", sched, err)
	sched, err = c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id})
	call("ScheduleKeyDeletion", sched, err)
	enc, err = c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	call("Encrypt pending deletion", enc, err)
	cancel, err := c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
	call("CancelKeyDeletion", cancel, err)
	for _, code := range []string{"ThrottlingException", "KMSInternalException", "ExpiredTokenException", "KeyUnavailableException", "AccessDeniedException", "DependencyTimeoutException"} {
		fake.Fail("DescribeKey", code, 1)
		desc, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
		call(code, desc, err)
	}
	return lines
}

// The heart of the promise: the in-process client and the real SDK client over
// HTTP cannot be told apart, in answers, error chains and their texts.
func TestClientEqualsSDKClient(t *testing.T) {
	inProcess := New(&Options{TB: t})
	onWire := New(&Options{TB: t})
	a := story(t, inProcess, inProcess.Client(customer))
	b := story(t, onWire, sdkClient(t, onWire, customer, testSecret))
	if len(a) != len(b) || len(a) < 45 {
		t.Fatalf("%d and %d answers", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("in process: %s\nby the SDK: %s", a[i], b[i])
		}
	}
	if testing.Verbose() {
		t.Log("\n" + strings.Join(a, "\n"))
	}
	// And both left the same log.
	ca, cb := inProcess.Calls(), onWire.Calls()
	if len(ca) != len(cb) {
		t.Fatalf("%d calls in process, %d on the wire", len(ca), len(cb))
	}
	for i := range ca {
		if ca[i].Operation != cb[i].Operation || ca[i].Code != cb[i].Code || cb[i].AccessKeyID != customer || ca[i].RequestID == "" {
			t.Errorf("%+v\n%+v", ca[i], cb[i])
		}
	}
}

// layers names the types of an error chain.
func layers(err error) (out []string) {
	for ; err != nil; err = errors.Unwrap(err) {
		out = append(out, fmt.Sprintf("%T", err))
		if _, ok := err.(interface{ Unwrap() []error }); ok {
			break
		}
	}
	return out
}

// The same layers as the SDK's, for each kind of failure.
func TestErrorLayers(t *testing.T) {
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey("")
	key.Disable()
	wire, local := sdkClient(t, fake, customer, testSecret), fake.Client(customer)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	slow := func() func() {
		fake.Latency(time.Hour)
		return func() { fake.Latency(0) }
	}
	for _, tc := range []struct {
		name string
		ctx  context.Context // nil: ends on the way
		id   string
		prep func() func()
	}{
		{name: "modelled", ctx: context.Background(), id: key.ARN()},
		{name: "denied", ctx: context.Background(), id: keyARN(DefaultRegion, vendor, newUUID())},
		{name: "validation", ctx: context.Background(), id: strings.Repeat("x", 2049)},
		{name: "throttled", ctx: context.Background(), id: key.ARN(), prep: func() func() {
			return fake.Inject(Fault{Code: "ThrottlingException"})
		}},
		{name: "server fault", ctx: context.Background(), id: key.ARN(), prep: func() func() {
			return fake.Inject(Fault{Code: "KMSInternalException"})
		}},
		{name: "own status", ctx: context.Background(), id: key.ARN(), prep: func() func() {
			return fake.Inject(Fault{Code: "SlowDown", Status: 503, Message: "please"})
		}},
		{name: "outage", ctx: context.Background(), id: key.ARN(), prep: fake.Outage},
		{name: "canceled before", ctx: canceled, id: key.ARN()},
		{name: "deadline on the way", id: key.ARN(), prep: slow},
		{name: "canceled on the way", id: key.ARN(), prep: slow},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.prep != nil {
				defer tc.prep()()
			}
			in := &kms.EncryptInput{KeyId: &tc.id, Plaintext: []byte("x")}
			during := func() context.Context {
				if tc.ctx != nil {
					return tc.ctx
				}
				if strings.HasPrefix(tc.name, "deadline") {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
					t.Cleanup(cancel)
					return ctx
				}
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(20*time.Millisecond, cancel)
				return ctx
			}
			_, a := local.Encrypt(during(), in)
			_, b := wire.Encrypt(during(), in)
			la, lb := layers(a), layers(b)
			if tc.name == "outage" { // below the send error: a refused dial here, an EOF there
				la, lb = la[:4], lb[:4]
			}
			if fmt.Sprint(la) != fmt.Sprint(lb) {
				t.Errorf("in process %v\nby the SDK %v", la, lb)
			}
			var ra, rb *awshttp.ResponseError
			if errors.As(a, &ra) != errors.As(b, &rb) {
				t.Fatalf("ResponseError: %v, %v", a, b)
			}
			if ra != nil && (ra.HTTPStatusCode() != rb.HTTPStatusCode() || (ra.RequestID == "") != (rb.RequestID == "")) {
				t.Errorf("status %d and %d, request ids %q and %q", ra.HTTPStatusCode(), rb.HTTPStatusCode(), ra.RequestID, rb.RequestID)
			}
			var aa, ab smithy.APIError
			if errors.As(a, &aa) != errors.As(b, &ab) {
				t.Fatalf("APIError: %v, %v", a, b)
			}
			if aa != nil && (aa.ErrorCode() != ab.ErrorCode() || aa.ErrorMessage() != ab.ErrorMessage() || aa.ErrorFault() != ab.ErrorFault()) {
				t.Errorf("%#v\n%#v", aa, ab)
			}
			for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
				if errors.Is(a, end) != errors.Is(b, end) {
					t.Errorf("only one is %v:\n%v\n%v", end, a, b)
				}
			}
		})
	}
}

// post sends one raw request, signed by nobody.
func post(t testing.TB, h http.Handler, target, auth, body string) (int, map[string]any, http.Header) {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	req.Header.Set("X-Amz-Target", target)
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	var out map[string]any
	data, _ := io.ReadAll(w.Body)
	if len(data) > 0 {
		if err := json.Unmarshal(data, &out); err != nil {
			t.Fatalf("answer %q: %v", data, err)
		}
	}
	return w.Code, out, w.Header()
}

const asCustomer = sigAlgorithm + " Credential=" + customer + "/20250101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"

func TestMalformedRequests(t *testing.T) {
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey("")
	h := fake.Handler()
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	for _, tc := range []struct {
		name, target, auth, body string
		status                   int
		code                     string
	}{
		{"fine", "TrentService.DescribeKey", asCustomer, `{"KeyId":"` + key.ID() + `"}`, 200, ""},
		{"fine and more", "TrentService.DescribeKey", asCustomer, `{"KeyId":"` + key.ID() + `","Later":{"x":[1]}}`, 200, ""},
		{"no target", "", asCustomer, `{}`, 400, "UnknownOperationException"},
		{"another service", "DynamoDB_20120810.GetItem", asCustomer, `{}`, 400, "UnknownOperationException"},
		{"unknown operation", "TrentService.Nope", asCustomer, `{}`, 400, "UnknownOperationException"},
		{"unsupported operation", "TrentService.Encapsulate", asCustomer, `{}`, 400, "UnsupportedOperationException"},
		{"no credentials", "TrentService.ListKeys", "", `{}`, 400, "MissingAuthenticationTokenException"},
		{"other scheme", "TrentService.ListKeys", "Bearer x", `{}`, 400, "IncompleteSignatureException"},
		{"short scope", "TrentService.ListKeys", strings.ReplaceAll(asCustomer, "/kms", ""), `{}`, 400, "IncompleteSignatureException"},
		{"no signature", "TrentService.ListKeys", strings.ReplaceAll(asCustomer, "Signature=00", ""), `{}`, 400, "IncompleteSignatureException"},
		{"other service's scope", "TrentService.ListKeys", strings.ReplaceAll(asCustomer, "/kms", "/s3"), `{}`, 400, "InvalidSignatureException"},
		{"no region", "TrentService.ListKeys", strings.ReplaceAll(asCustomer, "us-east-1", "%"), `{}`, 400, "InvalidSignatureException"},
		{"empty body", "TrentService.ListKeys", asCustomer, ``, 200, ""},
		{"no JSON", "TrentService.ListKeys", asCustomer, `{`, 400, "SerializationException"},
		{"a list", "TrentService.ListKeys", asCustomer, `[]`, 400, "SerializationException"},
		{"number for string", "TrentService.DescribeKey", asCustomer, `{"KeyId":1}`, 400, "SerializationException"},
		{"string for number", "TrentService.ListKeys", asCustomer, `{"Limit":"1"}`, 400, "SerializationException"},
		{"huge number", "TrentService.ListKeys", asCustomer, `{"Limit":99999999999}`, 400, "SerializationException"},
		{"bad base64", "TrentService.Decrypt", asCustomer, `{"CiphertextBlob":"*"}`, 400, "SerializationException"},
		{"bad UTF-8", "TrentService.Encrypt", asCustomer, "{\"EncryptionContext\":{\"\xff\":\"\"}}", 400, "SerializationException"},
		{"deep", "TrentService.ListKeys", asCustomer, deep, 400, "SerializationException"},
		{"deep in a known member", "TrentService.Encrypt", asCustomer, `{"EncryptionContext":` + deep + `}`, 400, "SerializationException"},
		{"deep lists", "TrentService.TagResource", asCustomer, `{"Tags":` + strings.Repeat("[", 100_000), 400, "SerializationException"},
		{"huge", "TrentService.ListKeys", asCustomer, strings.Repeat(" ", maxBody+1), 400, "RequestEntityTooLargeException"},
		{"a huge number", "TrentService.ListKeys", asCustomer, `{"Limit":1` + strings.Repeat("0", 100_000) + `}`, 400, "SerializationException"},
		{"a huge exponent", "TrentService.ListKeys", asCustomer, `{"Limit":1e999999999}`, 400, "SerializationException"},
		{"a fraction", "TrentService.ListKeys", asCustomer, `{"Limit":1.5}`, 400, "SerializationException"},
		{"a date beyond all", "TrentService.ImportKeyMaterial", asCustomer, `{"ValidTo":1e300}`, 400, "SerializationException"},
		{"a date that is text", "TrentService.ImportKeyMaterial", asCustomer, `{"ValidTo":"2030-01-01T00:00:00Z"}`, 400, "SerializationException"},
		{"null for required", "TrentService.DescribeKey", asCustomer, `{"KeyId":null}`, 400, "ValidationException"},
		{"null", "TrentService.ListKeys", asCustomer, `null`, 400, "SerializationException"},
		{"two documents", "TrentService.ListKeys", asCustomer, `{}{}`, 400, "SerializationException"},
		{"a member twice", "TrentService.DescribeKey", asCustomer, `{"KeyId":"` + key.ID() + `","KeyId":"` + key.ID() + `"}`, 400, "SerializationException"},
		{"two contexts", "TrentService.Encrypt", asCustomer, `{"EncryptionContext":{"a":"1"},"EncryptionContext":{"b":"2"}}`, 400, "SerializationException"},
		{"a pair twice", "TrentService.Encrypt", asCustomer, `{"EncryptionContext":{"a":"1","a":"2"}}`, 400, "SerializationException"},
		{"a pair twice, escaped", "TrentService.Encrypt", asCustomer, `{"EncryptionContext":{"a":"1","\u0061":"2"}}`, 400, "SerializationException"},
		{"half a character", "TrentService.Encrypt", asCustomer, `{"EncryptionContext":{"\ud800":"1"}}`, 400, "SerializationException"},
		{"the other half", "TrentService.Encrypt", asCustomer, `{"EncryptionContext":{"a":"x\uDC00"}}`, 400, "SerializationException"},
		{"a whole character", "TrentService.Encrypt", asCustomer, `{"KeyId":"` + key.ID() + `","Plaintext":"AA==","EncryptionContext":{"\ud83d\ude00":"\\ud800"}}`, 200, ""},
		{"null for a value", "TrentService.Encrypt", asCustomer, `{"EncryptionContext":{"a":null}}`, 400, "SerializationException"},
		{"bytes as numbers", "TrentService.Encrypt", asCustomer, `{"Plaintext":[1,2]}`, 400, "SerializationException"},
		{"a member of another case", "TrentService.DescribeKey", asCustomer, `{"keyid":"` + key.ID() + `"}`, 400, "ValidationException"},
		{"what the SDK has and KMS has not", "TrentService.DescribeKey", asCustomer, `{"KeyId":"` + key.ID() + `","ResultMetadata":{},"noSmithyDocumentSerde":{}}`, 200, ""},
	} {
		status, out, header := post(t, h, tc.target, tc.auth, tc.body)
		got, _ := out["__type"].(string)
		if status != tc.status || got != tc.code {
			t.Errorf("%s: %d %v, want %d %s", tc.name, status, out, tc.status, tc.code)
		}
		if len(header.Get("x-amzn-RequestId")) != 36 || header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("%s: headers %v", tc.name, header)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
}

// The one letter in which AccessDenied differs, and the exceptions without text.
func TestErrorBodies(t *testing.T) {
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey("")
	h := fake.Handler()
	asVendor := strings.ReplaceAll(asCustomer, customer, vendor)
	for _, tc := range []struct{ op, auth, body, code, member string }{
		{"DescribeKey", asVendor, `{"KeyId":"` + key.ARN() + `"}`, "AccessDeniedException", "Message"},
		{"DescribeKey", asCustomer, `{"KeyId":"x"}`, "NotFoundException", "message"},
		{"DescribeKey", asCustomer, `{}`, "ValidationException", "message"},
		{"Decrypt", asCustomer, `{"CiphertextBlob":"AAAA"}`, "InvalidCiphertextException", ""},
	} {
		status, out, _ := post(t, h, "TrentService."+tc.op, tc.auth, tc.body)
		members := 1
		if tc.member != "" {
			members = 2
		}
		if text, _ := out[tc.member].(string); status != 400 || out["__type"] != tc.code || len(out) != members || tc.member != "" && text == "" {
			t.Errorf("%s: %d %v", tc.op, status, out)
		}
	}
}

// Who calls is told by the access key id; Region by the scope; and a secret, once
// registered, is demanded.
func TestAccessKeys(t *testing.T) {
	now := time.Now()
	fake := New(&Options{TB: t, Now: func() time.Time { return now }})
	ctx := context.Background()
	const secret = "0123456789012345678901234567890123456789"
	fake.RegisterAccessKey("AKIAPLAIN", role)
	fake.RegisterAccessKey("AKIASIGNED", appRole, secret)
	who := func(id, secret string) (string, error) {
		_, err := sdkClient(t, fake, id, secret).ListKeys(ctx, nil)
		if err != nil {
			return "", err
		}
		calls := fake.Calls()
		return calls[len(calls)-1].Principal, nil
	}
	for _, tc := range []struct{ id, secret, want, code string }{
		{customer, testSecret, "arn:aws:iam::" + customer + ":root", ""},
		{"AKIAUNKNOWN", testSecret, "arn:aws:iam::000000000000:root", ""},
		{"AKIAPLAIN", testSecret, role, ""},
		{"AKIASIGNED", secret, appRole, ""},
		{"AKIASIGNED", secret + "x", "", "InvalidSignatureException"},
	} {
		got, err := who(tc.id, tc.secret)
		if got != tc.want || code(err) != tc.code {
			t.Errorf("%s: %q, %v", tc.id, got, err)
		}
	}
	now = now.Add(6 * time.Minute)
	_, err := who("AKIASIGNED", secret)
	wantCode(t, err, "InvalidSignatureException")
	now = now.Add(-6 * time.Minute)
	// A body that was changed after it was signed is refused.
	c := sdkClient(t, fake, "AKIASIGNED", secret)
	_, err = c.ListKeys(ctx, nil, func(o *kms.Options) { o.HTTPClient = tamperingClient{} })
	wantCode(t, err, "InvalidSignatureException")

	key := fake.Account(customer).Region("eu-west-1").CreateKey("")
	out, err := sdkClient(t, fake, customer, testSecret).ListKeys(ctx, nil, func(o *kms.Options) { o.Region = "eu-west-1" })
	if err != nil || len(out.Keys) != 1 || *out.Keys[0].KeyArn != key.ARN() {
		t.Errorf("%+v, %v", out, err)
	}
}

// tamperingClient changes the body between the signature and the server.
type tamperingClient struct{}

func (tamperingClient) Do(req *http.Request) (*http.Response, error) {
	req.Body = io.NopCloser(strings.NewReader("[]"))
	req.ContentLength = 2
	return http.DefaultClient.Do(req)
}

func FuzzWire(f *testing.F) {
	fake := New(nil)
	key := fake.Account(customer).CreateKey("")
	for name := range operations {
		f.Add("TrentService."+name, asCustomer, `{"KeyId":"`+key.ARN()+`"}`)
		if name == "GetParametersForImport" { // makes an RSA key each time
			continue
		}
		body, err := json.Marshal(wholeInput(key, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add("TrentService."+name, asCustomer, string(body))
	}
	f.Add("TrentService.Encrypt", asCustomer, `{"KeyId":"alias/x","Plaintext":"AAAA","EncryptionContext":{"a":"b"},"GrantTokens":["x"]}`)
	f.Add("TrentService.Decrypt", asCustomer, `{"CiphertextBlob":"S0YB"}`)
	f.Add("TrentService.CreateKey", asCustomer, `{"Tags":[{"TagKey":"a"},null],"Policy":"{\"Statement\":[]}"}`)
	f.Add("TrentService.ListKeys", "AWS4-HMAC-SHA256 Credential=////,,=", `{"Limit":1,"Marker":"AA"}`)
	f.Add("", "", "[[[[")
	f.Add("TrentService.Encrypt", asCustomer, `{"KeyId":"`+key.ID()+`","Plaintext":"AA==","EncryptionContext":{"\ud83d\ude00":"\ud800"},"EncryptionContext":{}}`)
	f.Add("TrentService.CreateGrant", asCustomer, `{"KeyId":"`+key.ID()+`","Operations":["Encrypt",null],"Constraints":{"EncryptionContextSubset":{"a":"b","a":"c"}}}`)
	f.Add("TrentService.ImportKeyMaterial", asCustomer, `{"ValidTo":1e999,"ImportToken":"=","EncryptedKeyMaterial":""}`)
	f.Add("TrentService.ListKeys", asCustomer, `{"Limit":-0.0e-999999999999}`)
	h := fake.Handler()
	f.Fuzz(func(t *testing.T, target, auth, body string) {
		status, out, _ := post(t, h, target, auth, body)
		if status != 200 && status != 400 {
			t.Errorf("%d %v for %q %q %q", status, out, target, auth, body)
		}
	})
}
