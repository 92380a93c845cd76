package kmsfake

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// What a test says of a session reaches conditions, and policy variables.
func TestSessions(t *testing.T) {
	session := "arn:aws:sts::111122223333:assumed-role/app/alice"
	for _, tc := range []struct {
		name, condition string
		who             string
		session         Session
		ec              map[string]string
		allowed         bool
	}{
		{"service", `{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}`, appRole, Session{ViaService: "s3.us-east-1.amazonaws.com"}, nil, true},
		{"another service", `{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}`, appRole, Session{ViaService: "ebs.us-east-1.amazonaws.com"}, nil, false},
		{"direct call", `{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}`, appRole, Session{}, nil, false},
		{"not by a service", `{"Null":{"kms:ViaService":"true"},"Bool":{"aws:ViaAWSService":"false"}}`, appRole, Session{}, nil, true},
		{"source", `{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","fd00::/8"]}}`, appRole, Session{SourceIP: "10.1.2.3"}, nil, true},
		{"source, v6", `{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","fd00::/8"]}}`, appRole, Session{SourceIP: "fd00::1"}, nil, true},
		{"another source", `{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`, appRole, Session{SourceIP: "11.1.2.3"}, nil, false},
		{"no source", `{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`, appRole, Session{}, nil, false},
		{"tag", `{"StringEquals":{"aws:PrincipalTag/Team":"red"}}`, appRole, Session{Tags: map[string]string{"team": "red"}}, nil, true},
		{"another tag", `{"StringEquals":{"aws:PrincipalTag/team":"red"}}`, appRole, Session{Tags: map[string]string{"team": "blue"}}, nil, false},
		{"two tags of one name", `{"StringEquals":{"aws:PrincipalTag/TEAM":"red"}}`, appRole, Session{Tags: map[string]string{"Team": "red", "tEam": "red"}}, nil, false},
		{"any key", `{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`, appRole, Session{Keys: map[string][]string{"aws:multifactorauthPRESENT": {"true"}}}, nil, true},
		{"several values", `{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-1/*"}}`, appRole, Session{Keys: map[string][]string{"aws:PrincipalOrgPaths": {"o-2/x/", "o-1/y/"}}}, nil, true},
		{"key instead of the fake's own", `{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}`, appRole, Session{Keys: map[string][]string{"aws:RequestedRegion": {"eu-west-1"}}}, nil, true},
		{"transport", `{"Bool":{"aws:SecureTransport":"true"}}`, appRole, Session{}, nil, true},
		{"user name", `{"StringEquals":{"aws:username":"bob"}}`, "arn:aws:iam::111122223333:user/a/bob", Session{}, nil, true},
		{"user name of a role", `{"StringEquals":{"aws:username":"app"}}`, appRole, Session{}, nil, false},
		{"user id of a session", `{"StringLike":{"aws:userid":"AROA*:alice"}}`, session, Session{}, nil, true},
		{"user id of a user", `{"StringLike":{"aws:userid":"AIDA*"}}`, "arn:aws:iam::111122223333:user/bob", Session{}, nil, true},

		{"variable", `{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`, appRole, Session{Tags: map[string]string{"team": "red"}}, map[string]string{"team": "red"}, true},
		{"variable, another value", `{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`, appRole, Session{Tags: map[string]string{"team": "red"}}, map[string]string{"team": "blue"}, false},
		{"variable without a value", `{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`, appRole, Session{}, map[string]string{"team": ""}, false},
		{"variable without a value, negated", `{"StringNotEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`, appRole, Session{}, map[string]string{"team": "x"}, true},
		{"default", `{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team, 'all'}"}}`, appRole, Session{}, map[string]string{"team": "all"}, true},
		{"default that is not needed", `{"StringEquals":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team, 'all'}"}}`, appRole, Session{Tags: map[string]string{"team": "red"}}, map[string]string{"team": "all"}, false},
		{"in the middle", `{"StringLike":{"kms:EncryptionContext:team":"x-${aws:PrincipalTag/a}-*-${aws:PrincipalTag/b}"}}`, appRole, Session{Tags: map[string]string{"a": "1", "b": "2"}}, map[string]string{"team": "x-1-anything-2"}, true},
		{"a value brings no wildcards", `{"StringLike":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`, appRole, Session{Tags: map[string]string{"team": "*"}}, map[string]string{"team": "red"}, false},
		{"a value that is a star", `{"StringLike":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}"}}`, appRole, Session{Tags: map[string]string{"team": "*"}}, map[string]string{"team": "*"}, true},
		{"a star and a question mark", `{"StringLike":{"kms:EncryptionContext:team":"${*}${?}${$}"}}`, appRole, Session{}, map[string]string{"team": "*?$"}, true},
		{"no star and no question mark", `{"StringLike":{"kms:EncryptionContext:team":"${*}${?}${$}"}}`, appRole, Session{}, map[string]string{"team": "ab$"}, false},
		{"in an ARN", `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::${aws:PrincipalAccount}:role/*"}}`, appRole, Session{}, nil, true},
		{"as a boolean", `{"Bool":{"aws:ViaAWSService":"${aws:PrincipalIsAWSService}"}}`, appRole, Session{}, nil, true},
		{"of several values", `{"StringEquals":{"kms:EncryptionContext:team":"${kms:EncryptionContextKeys}"}}`, appRole, Session{}, map[string]string{"team": "team", "b": "c"}, false},
	} {
		fake := New(&Options{TB: t, StrictIAM: true})
		key := fake.Account(customer).CreateKey(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":` + tc.condition + `}}`)
		_, err := fake.Client(tc.who).With(tc.session).Region(DefaultRegion).Encrypt(context.Background(), &kms.EncryptInput{
			KeyId: aws.String(key.ARN()), Plaintext: []byte("x"), EncryptionContext: tc.ec})
		if (err == nil) != tc.allowed || err != nil && code(err) != denied {
			t.Errorf("%s: %v\n%s", tc.name, err, fake.Why(err))
		}
	}
}

// Without a version, or with the old one, ${...} is text, as in AWS.
func TestVariablesNeedTheVersion(t *testing.T) {
	for version, allowed := range map[string]map[string]bool{
		"":                        {"${aws:PrincipalAccount}": true, customer: false},
		`"Version":"2008-10-17",`: {"${aws:PrincipalAccount}": true, customer: false},
		`"Version":"2012-10-17",`: {"${aws:PrincipalAccount}": false, customer: true},
	} {
		fake := New(&Options{TB: t})
		key := fake.Account(customer).CreateKey(`{` + version + `"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:a":"${aws:PrincipalAccount}"}}}}`)
		for value, want := range allowed {
			if err := attempt(fake, key, appRole, "Encrypt", map[string]string{"a": value}); (err == nil) != want {
				t.Errorf("version %q, context %q: %v", version, value, err)
			}
		}
	}
}

// Variables in Resource: each user has an alias of its own name, and nobody
// another's.
func TestVariablesInResources(t *testing.T) {
	fake := New(&Options{TB: t, StrictIAM: true})
	account := fake.Account(customer)
	key := account.CreateKey("")
	create := func(user, alias string) error {
		arn := "arn:aws:iam::111122223333:user/" + user
		account.DeleteIdentityPolicies(arn)
		account.PutIdentityPolicy(arn, `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"kms:CreateAlias","Resource":["arn:aws:kms:*:*:alias/${aws:username}-*","arn:aws:kms:*:*:key/*"]},
			{"Effect":"Deny","Action":"kms:*","NotResource":["arn:aws:kms:*:${aws:PrincipalAccount}:*","arn:aws:kms:*:*:${aws:PrincipalTag/none}"]}]}`)
		_, err := fake.Client(arn).CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: aws.String(key.ID())})
		return err
	}
	wantCode(t, create("bob", "alias/bob-1"), "")
	wantCode(t, create("bob", "alias/eve-1"), denied)
	wantCode(t, create("eve", "alias/eve-1"), "")
}

// An organization has accounts, and keys.
func TestOrganizations(t *testing.T) {
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-abc123","aws:ResourceOrgID":"o-abc123"}}}}`)
	try := func(who string) error { return attempt(fake, key, who, "Encrypt", nil) }
	wantCode(t, try(role), denied)
	fake.Account(vendor).SetOrganization("o-abc123")
	wantCode(t, try(role), denied) // its account is, the key's is not
	fake.Account(customer).SetOrganization("o-abc123")
	wantCode(t, try(role), "")
	wantCode(t, try(appRole), "")
	fake.Account(vendor).SetOrganization("o-other")
	wantCode(t, try(role), denied)
	fake.Account(vendor).SetOrganization("")
	wantCode(t, try(role), denied)
}

// A registered access key can be a session, over HTTP and after a restart; the
// source address is the peer's unless it is said otherwise.
func TestSessionsOverHTTP(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms")
	fake := New(&Options{TB: t, File: file})
	fake.RegisterAccessKey("AKIASESSION", appRole, testSecret)
	fake.Account(customer).SetOrganization("o-1")
	policy := func(condition string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":` + condition + `}}`
	}
	key := fake.Account(customer).CreateKey(policy(`{"StringEquals":{"aws:PrincipalTag/team":"red","aws:PrincipalOrgID":"o-1"}}`))
	try := func() error {
		_, err := sdkClient(t, fake, "AKIASESSION", testSecret).Encrypt(context.Background(), &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x")})
		return err
	}
	wantCode(t, try(), denied)
	fake.SetSession("AKIASESSION", Session{Tags: map[string]string{"team": "red"}, Keys: map[string][]string{"aws:MFA": {"x"}}})
	wantCode(t, try(), "")
	fake.Close()
	fake = New(&Options{TB: t, File: file})
	defer fake.Close()
	key = fake.Account(customer).Key(key.ARN())
	wantCode(t, try(), "")

	key.SetPolicy(policy(`{"IpAddress":{"aws:SourceIp":["127.0.0.0/8","::1"]}}`))
	wantCode(t, try(), "")
	fake.SetSession("AKIASESSION", Session{SourceIP: "192.0.2.1"})
	wantCode(t, try(), denied)
	fake.SetSession("AKIASESSION", Session{ViaService: "s3.us-east-1.amazonaws.com"})
	wantCode(t, try(), denied) // the service has an address, the caller none
	fake.RegisterAccessKey("AKIASESSION", appRole, testSecret)
	wantCode(t, try(), "")
}

// A grant for one resource works on its behalf only.
func TestGrantOnBehalfOf(t *testing.T) {
	g := newGranter(t)
	bucket := "arn:aws:s3:::bucket"
	g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt", "DescribeKey"},
		Constraints: &types.GrantConstraints{SourceArn: &bucket}})
	try := func(keys map[string][]string) error {
		_, err := g.fake.Client(role).With(Session{Keys: keys}).DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(g.key.ARN())})
		return err
	}
	wantCode(t, try(nil), denied)
	wantCode(t, try(map[string][]string{"aws:SourceArn": {bucket}}), "")
	wantCode(t, try(map[string][]string{"aws:SourceArn": {bucket + "2"}}), denied)
}

// Sessions are copied, and nonsense ends the test that says it.
func TestSessionMisuse(t *testing.T) {
	for name, do := range map[string]func(f *KMS){
		"address":       func(f *KMS) { f.Client(customer).With(Session{SourceIP: "10.0.0.0/8"}) },
		"condition key": func(f *KMS) { f.Client(customer).With(Session{Keys: map[string][]string{"mfa": nil}}) },
		"tag":           func(f *KMS) { f.Client(customer).With(Session{Tags: map[string]string{"": "x"}}) },
		"tag's bytes":   func(f *KMS) { f.Client(customer).With(Session{Tags: map[string]string{"a": "\xff"}}) },
		"access key":    func(f *KMS) { f.SetSession("AKIANONE", Session{}) },
		"key's session": func(f *KMS) { f.RegisterAccessKey("AKIA", role); f.SetSession("AKIA", Session{SourceIP: "x"}) },
		"organization":  func(f *KMS) { f.Account(customer).SetOrganization("abc") },
	} {
		b := new(tb)
		func() {
			defer func() { _ = recover() }()
			do(New(&Options{TB: b}))
		}()
		if !strings.HasPrefix(b.said, "kmsfake: ") {
			t.Errorf("%s: the test was told %q", name, b.said)
		}
	}
	tags := map[string]string{"team": "red"}
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:DescribeKey","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"red"}}}}`)
	c := fake.Client(appRole).With(Session{Tags: tags})
	tags["team"] = "blue"
	if _, err := c.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(key.ARN())}); err != nil {
		t.Error(err)
	}
}
