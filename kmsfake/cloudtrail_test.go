package kmsfake

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"
)

// names are the events of an account in short.
func names(a *Account) (out []string) {
	for _, e := range a.CloudTrail() {
		out = append(out, strings.TrimSpace(e.EventName+" "+e.ErrorCode))
	}
	return out
}

// Who sees what: the caller's account everything it did, the owner of the key
// what was permitted, nobody else anything.
func TestCloudTrailTellsEachAccountItsPart(t *testing.T) {
	const third = "777788889999"
	fake := New(&Options{TB: t})
	owner, caller := fake.Account(customer), fake.Account(vendor)
	key := owner.CreateKey(`{"Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + customer + `:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":["kms:GenerateDataKey","kms:Decrypt","kms:ReEncrypt*"],"Resource":"*"}]}`)
	other := fake.Account(third).CreateKey(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`)
	ctx := context.Background()
	c := fake.Client(role)
	gen, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(key.ARN()), KeySpec: types.DataKeySpecAes256})
	if err != nil {
		t.Fatal(err)
	}
	c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x")}) // not allowed
	c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keyARN(DefaultRegion, customer, "3b241101-e2bb-4255-8caf-4136c566a962"))})
	c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: gen.CiphertextBlob, DestinationKeyId: aws.String(other.ARN())})
	key.Disable()
	c.Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String(key.ARN()), CiphertextBlob: gen.CiphertextBlob})
	fake.Fail("Decrypt", "DisabledException", 1) // a pretended one is no permission
	c.Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String(other.ARN()), CiphertextBlob: gen.CiphertextBlob})
	fake.Fail("", "ThrottlingException", 1)
	c.ListKeys(ctx, nil)
	restore := fake.Outage()
	c.ListKeys(ctx, nil)
	restore()
	fake.Inject(Fault{Effect: ConnectionReset, Count: 1})
	c.ListKeys(ctx, nil)
	fake.Inject(Fault{Effect: LostAnswer, Count: 1})
	c.ListKeys(ctx, nil)
	fake.Client(customer).ListKeys(ctx, nil)

	for _, tt := range []struct {
		account *Account
		want    []string
	}{
		{caller, []string{"GenerateDataKey", "Encrypt AccessDenied", "DescribeKey AccessDenied", "ReEncrypt", "Decrypt DisabledException",
			"Decrypt DisabledException", "ListKeys ThrottlingException", "ListKeys"}},
		{owner, []string{"GenerateDataKey", "ReEncrypt", "Decrypt DisabledException", "ListKeys"}},
		{fake.Account(third), []string{"ReEncrypt"}},
		{fake.Account("000000000001"), nil},
	} {
		if d := cmp.Diff(tt.want, names(tt.account)); d != "" {
			t.Errorf("%s: %s", tt.account.ID(), d)
		}
	}
	mine, theirs := caller.CloudTrail()[3], owner.CloudTrail()[1]
	third1 := fake.Account(third).CloudTrail()[0]
	if mine.SharedEventID == "" || mine.SharedEventID != theirs.SharedEventID || mine.SharedEventID != third1.SharedEventID {
		t.Error("three accounts, three shared event ids")
	}
	if mine.EventID == theirs.EventID || theirs.EventID == third1.EventID || mine.RequestID != theirs.RequestID {
		t.Error("event ids are each account's own, the request id is not")
	}
	if mine.RecipientAccountID != vendor || theirs.RecipientAccountID != customer {
		t.Error(mine.RecipientAccountID, theirs.RecipientAccountID)
	}
	if u := theirs.UserIdentity; u.Type != "AWSAccount" || u.AccountID != vendor || u.ARN != "" || u.SessionContext != nil ||
		u.PrincipalID != mine.UserIdentity.PrincipalID {
		t.Errorf("an owner's event says of a stranger: %+v", u)
	}
	if len(mine.Resources) != 2 || mine.Resources[0].ARN != key.ARN() || mine.Resources[1].AccountID != third {
		t.Errorf("%+v", mine.Resources)
	}
	if only := owner.CloudTrail()[3]; only.SharedEventID != "" {
		t.Error("an event of one account is shared")
	}
}

// An event, member for member as CloudTrail would have it.
func TestCloudTrailEventsReadAsAWS(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 10e6, time.UTC)
	fake := New(&Options{TB: t, Now: func() time.Time { return at }})
	key := fake.Account(customer).CreateKey(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:*","Resource":"*"}]}`)
	fake.RegisterAccessKey("AKIAAPP", "arn:aws:sts::"+customer+":assumed-role/app/i-1", testSecret)
	fake.wall = time.Now // for the signature
	c := sdkClient(t, fake, "AKIAAPP", testSecret)
	fake.SetTime(at)
	ctx := context.Background()
	gen, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(key.ID()), KeySpec: types.DataKeySpecAes256,
		EncryptionContext: map[string]string{"tenant": "acme"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String(key.ARN()), CiphertextBlob: gen.CiphertextBlob}); err == nil {
		t.Fatal("without the context")
	}
	if _, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: aws.String(key.ID()), PendingWindowInDays: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: aws.String(key.ID())}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: aws.String(key.ID())}); err != nil {
		t.Fatal(err)
	}
	events := fake.Account(customer).CloudTrail()
	id := func(i int) string { return events[i].RequestID + " " + events[i].EventID }
	uuids := regexp.MustCompile(`^[0-9a-f-]{36} [0-9a-f-]{36}$`)
	common := `"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"AROAXXX:i-1","arn":"arn:aws:sts::` + customer +
		`:assumed-role/app/i-1","accountId":"` + customer + `","accessKeyId":"AKIAAPP","sessionContext":{"sessionIssuer":{"type":"Role",` +
		`"principalId":"AROAXXX","arn":"arn:aws:iam::` + customer + `:role/app","accountId":"` + customer + `","userName":"app"}}},` +
		`"eventTime":"2026-03-04T05:06:07Z","eventSource":"kms.amazonaws.com",`
	tail := `"resources":[{"accountId":"` + customer + `","type":"AWS::KMS::Key","ARN":"` + key.ARN() + `"}],"eventType":"AwsApiCall",` +
		`"managementEvent":true,"recipientAccountId":"` + customer + `","eventCategory":"Management"}`
	want := []string{
		`{` + common + `"eventName":"GenerateDataKey","awsRegion":"us-east-1","sourceIPAddress":"127.0.0.1","userAgent":"UA",` +
			`"requestParameters":{"encryptionContext":{"tenant":"acme"},"keyId":"` + key.ID() + `","keySpec":"AES_256"},"responseElements":null,` +
			`"additionalEventData":{"keyMaterialId":"` + key.MaterialID() + `"},"requestID":"R","eventID":"E","readOnly":true,` + tail,
		`{` + common + `"eventName":"Decrypt","awsRegion":"us-east-1","sourceIPAddress":"127.0.0.1","userAgent":"UA",` +
			`"errorCode":"InvalidCiphertextException","requestParameters":{"encryptionAlgorithm":"SYMMETRIC_DEFAULT","keyId":"` + key.ARN() +
			`"},"responseElements":null,"requestID":"R","eventID":"E","readOnly":true,` + tail,
		`{` + common + `"eventName":"ScheduleKeyDeletion","awsRegion":"us-east-1","sourceIPAddress":"127.0.0.1","userAgent":"UA",` +
			`"requestParameters":{"keyId":"` + key.ID() + `","pendingWindowInDays":7},"responseElements":{"deletionDate":"Mar 11, 2026, 5:06:07 AM",` +
			`"keyId":"` + key.ARN() + `","keyState":"PendingDeletion","pendingWindowInDays":7},"requestID":"R","eventID":"E","readOnly":false,` + tail,
		`{` + common + `"eventName":"CancelKeyDeletion","awsRegion":"us-east-1","sourceIPAddress":"127.0.0.1","userAgent":"UA",` +
			`"requestParameters":{"keyId":"` + key.ID() + `"},"responseElements":{"keyId":"` + key.ARN() + `"},"requestID":"R","eventID":"E","readOnly":false,` + tail,
		`{` + common + `"eventName":"EnableKey","awsRegion":"us-east-1","sourceIPAddress":"127.0.0.1","userAgent":"UA",` +
			`"requestParameters":{"keyId":"` + key.ID() + `"},"responseElements":{"keyId":"` + key.ARN() + `"},"requestID":"R","eventID":"E","readOnly":false,` + tail,
	}
	if len(events) != len(want) {
		t.Fatalf("%d events", len(events))
	}
	for i := range events {
		if !uuids.MatchString(id(i)) || !strings.Contains(events[i].UserAgent, "aws-sdk-go-v2") {
			t.Errorf("%+v", events[i])
		}
		if len(events[i].UserIdentity.PrincipalID) != len("AROA")+17+len(":i-1") {
			t.Error(events[i].UserIdentity.PrincipalID)
		}
		events[i].RequestID, events[i].EventID, events[i].UserAgent = "R", "E", "UA"
		raw, err := json.Marshal(events[i])
		if err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile(`AROA[A-Z2-7]{17}`).ReplaceAllString(string(raw), "AROAXXX")
		if got != want[i] {
			t.Errorf("event %d:\n got %s\nwant %s", i, got, want[i])
		}
	}
}

// The kinds of principals.
func TestCloudTrailIdentities(t *testing.T) {
	fake := New(&Options{TB: t})
	for arn, want := range map[string]CloudTrailIdentity{
		customer: {Type: "Root", PrincipalID: customer, ARN: "arn:aws:iam::" + customer + ":root", AccountID: customer},
		"arn:aws:iam::" + customer + ":user/team/eve": {Type: "IAMUser", ARN: "arn:aws:iam::" + customer + ":user/team/eve",
			AccountID: customer, UserName: "eve"},
		"arn:aws:sts::" + customer + ":federated-user/bob": {Type: "FederatedUser", PrincipalID: customer + ":bob",
			ARN: "arn:aws:sts::" + customer + ":federated-user/bob", AccountID: customer},
		appRole: {Type: "AssumedRole", ARN: "arn:aws:sts::" + customer + ":assumed-role/app/kmsfake", AccountID: customer},
	} {
		fake.ResetCalls()
		fake.Client(arn).ListKeys(context.Background(), nil)
		got := fake.Account(customer).CloudTrail()[0].UserIdentity
		if want.PrincipalID == "" {
			want.PrincipalID, want.SessionContext = got.PrincipalID, got.SessionContext
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

// H6: whatever binary or secret member an input or output has, of any operation,
// CloudTrail does not tell of it.
func TestH6_CloudTrailTellsNoSecret(t *testing.T) {
	secret := []byte("a secret that is easy to recognise")
	forms := []string{string(secret), base64.StdEncoding.EncodeToString(secret), hex.EncodeToString(secret), "[97,32,115"}
	var fill func(v reflect.Value, depth int)
	fill = func(v reflect.Value, depth int) {
		switch {
		case depth > 4:
		case isBinary(v.Type()):
			v.SetBytes(secret)
		case v.Kind() == reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth+1)
		case v.Kind() == reflect.Struct && v.Type() != timeType:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() && f.Name != "ResultMetadata" {
					fill(v.Field(i), depth+1)
					if neverTold[f.Name] && v.Field(i).Type() == reflect.TypeFor[[]string]() {
						v.Field(i).Set(reflect.ValueOf([]string{string(secret)}))
					}
					if neverTold[f.Name] && v.Field(i).Type() == reflect.TypeFor[*string]() {
						v.Field(i).Set(reflect.ValueOf(aws.String(string(secret))))
					}
				}
			}
		case v.Kind() == reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), depth+1)
		}
	}
	members := 0
	values := []any{new(kms.DecryptOutput), new(kms.GenerateDataKeyOutput), new(kms.CreateGrantOutput), new(kms.GenerateRandomOutput)}
	for _, op := range operations {
		values = append(values, op.input())
	}
	for _, value := range values {
		fill(reflect.ValueOf(value).Elem(), 0)
		all, _ := json.Marshal(value)
		members += bytes.Count(all, []byte(forms[1])) + bytes.Count(all, []byte(forms[0]))
		told := encodeTrail(value, nil)
		for _, form := range forms {
			if bytes.Contains(told, []byte(form)) {
				t.Errorf("%T: %s", value, told)
			}
		}
		if told != nil && !json.Valid(told) {
			t.Errorf("%T: %s", value, told)
		}
	}
	if members < 20 {
		t.Errorf("only %d members were secret: this test could pass on nothing", members)
	}
}

// A stranger who is denied learns from its own trail no more than from the answer.
func TestCloudTrailKeepsAliasesOfOthers(t *testing.T) {
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey("")
	ctx := context.Background()
	if _, err := fake.Client(customer).CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: aws.String(key.ID())}); err != nil {
		t.Fatal(err)
	}
	blob, err := fake.Client(customer).Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/a"), Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	c := fake.Client(role)
	c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(aliasARN(DefaultRegion, customer, "alias/a")), Plaintext: []byte("x")})
	c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob.CiphertextBlob})
	events := fake.Account(vendor).CloudTrail()
	raw, _ := json.Marshal(events)
	if len(events) != 2 || bytes.Contains(raw, []byte(key.ID())) {
		t.Errorf("%s", raw)
	}
}

// Log files have CloudTrail's names and form, and each event is in one of them.
func TestCloudTrailLogFiles(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	fake := New(&Options{TB: t, Now: func() time.Time { return at }})
	key := fake.Account(customer).CreateKey(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`)
	dir := t.TempDir()
	if files, err := fake.DeliverCloudTrail(dir); err != nil || len(files) != 0 {
		t.Fatal(files, err)
	}
	ctx := context.Background()
	describe := func(who, region string) {
		fake.Client(who).Region(region).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(key.ARN())})
	}
	describe(customer, DefaultRegion)
	describe(role, DefaultRegion)
	describe(customer, "eu-west-1")
	files, err := fake.DeliverCloudTrail(dir)
	if err != nil {
		t.Fatal(err)
	}
	describe(customer, DefaultRegion)
	more, err := fake.DeliverCloudTrail(dir)
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`^AWSLogs/(\d{12})/CloudTrail/([a-z0-9-]+)/2026/03/04/\d{12}_CloudTrail_[a-z0-9-]+_20260304T0506Z_[0-9a-f]{16}\.json\.gz$`)
	var got []string
	for _, file := range append(files, more...) {
		rel, _ := filepath.Rel(dir, file)
		m := pattern.FindStringSubmatch(filepath.ToSlash(rel))
		if m == nil {
			t.Fatalf("a log file is called %s", rel)
		}
		var log struct{ Records []CloudTrailEvent }
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil || json.Unmarshal(text, &log) != nil || !bytes.HasPrefix(text, []byte(`{"Records":[{"eventVersion":`)) {
			t.Fatalf("%v: %s", err, text)
		}
		for _, e := range log.Records {
			got = append(got, fmt.Sprint(m[1], " ", m[2], " ", e.EventName, e.ErrorCode, " ", e.UserIdentity.Type))
		}
	}
	slices.Sort(got)
	want := []string{
		customer + " eu-west-1 DescribeKeyNotFoundException Root",
		customer + " us-east-1 DescribeKey AWSAccount",
		customer + " us-east-1 DescribeKey Root",
		customer + " us-east-1 DescribeKey Root",
		vendor + " us-east-1 DescribeKey AssumedRole",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "AWSLogs/*/*/*/*/*/*/.delivery*")); left != nil {
		t.Error("left behind: ", left)
	}
	describe(customer, DefaultRegion)
	if _, err := fake.DeliverCloudTrail(files[0]); err == nil {
		t.Error("delivered below a file")
	}
	if files, err := fake.DeliverCloudTrail(dir); err != nil || len(files) != 1 {
		t.Errorf("what could not be delivered is gone: %v, %v", files, err)
	}
}

// The trail is bounded, and the log files go on from where they were.
func TestCloudTrailIsBounded(t *testing.T) {
	var tr trail
	for range maxTrail + 5 {
		tr.add(new(trailRecord))
	}
	if n := len(tr.records); n > maxTrail || tr.dropped+n != maxTrail+5 {
		t.Errorf("%d records, %d dropped", n, tr.dropped)
	}
	fake := New(&Options{TB: t})
	fake.trail.delivered, fake.trail.dropped = 3, 10 // seven were lost meanwhile
	if _, err := fake.DeliverCloudTrail(t.TempDir()); err != nil {
		t.Error(err)
	}
}
