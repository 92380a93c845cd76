package kmsfake

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

const stmt = `"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"`

// A policy that says something the evaluator would not hear is refused whole.
func TestMalformedPolicies(t *testing.T) {
	one := func(s string) string { return `{"Version":"2012-10-17","Statement":[{` + s + `}]}` }
	with := func(condition string) string { return one(stmt + `,"Condition":` + condition) }
	good := []string{
		one(stmt), `{"Statement":{` + stmt + `}}`, `{"Version":"2008-10-17","Id":"x","Statement":[{` + stmt + `},{"Sid":"a",` + stmt + `}]}`,
		one(strings.Replace(stmt, `"*"`, `{"AWS":["111122223333","arn:aws:iam::111122223333:user/a/b/c","*"]}`, 1)),
		one(strings.Replace(stmt, `"*"`, `{"Service":"logs.amazonaws.com"}`, 1)),
		one(strings.Replace(stmt, `"*"`, `{"AWS":"arn:aws:sts::111122223333:assumed-role/r/s"}`, 1)),
		one(strings.Replace(stmt, `"Principal"`, `"NotPrincipal"`, 1)),
		with(`{"StringEquals":{"kms:EncryptionContext:u":["${aws:username}","${aws:PrincipalTag/a b, 'x'}","${*}"]}}`), with(`{"Bool":{"aws:SecureTransport":"${aws:ViaAWSService}"}}`),
		`{"Statement":{` + stmt + `,"Condition":{"StringEquals":{"a":"${ is text without a version"}}}}`,
		with(`{}`), with(`{"StringLike":{"kms:ViaService":["a","b"],"nobody:knows":"x"}}`), with(`{"Bool":{"aws:SecureTransport":true}}`),
		with(`{"NumericLessThan":{"kms:Foo":7}}`), with(`{"ForAllValues:StringEqualsIfExists":{"kms:EncryptionContextKeys":"a"}}`),
		with(`{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","::1"]}}`), with(`{"DateGreaterThan":{"aws:CurrentTime":"2025-01-01T00:00:00Z"}}`),
	}
	bad := map[string]string{
		"empty": ``, "null": `null`, "list": `[]`, "no statement": `{}`, "empty statements": `{"Statement":[]}`,
		"trailing": one(stmt) + `{}`, "unknown member": `{"Statements":[]}`, "lower case": `{"statement":[{` + stmt + `}]}`,
		"version": `{"Version":"2013-10-17","Statement":[{` + stmt + `}]}`, "version null": `{"Version":null,"Statement":[{` + stmt + `}]}`,
		"statement string": `{"Statement":"x"}`, "statement twice": `{"Statement":[{` + stmt + `}],"Statement":[{` + stmt + `}]}`,
		"same sid": `{"Statement":[{"Sid":"a",` + stmt + `},{"Sid":"a",` + stmt + `}]}`,
		"effect":   one(strings.Replace(stmt, "Allow", "allow", 1)), "effect twice": one(stmt + `,"Effect":"Deny"`),
		"effect folded": one(stmt + `,"effect":"Deny"`), "no effect": one(strings.Replace(stmt, `"Effect":"Allow",`, "", 1)),
		"no principal": one(strings.Replace(stmt, `"Principal":"*",`, "", 1)), "both principals": one(stmt + `,"NotPrincipal":"*"`),
		"principal word": one(strings.Replace(stmt, `"*"`, `"111122223333"`, 1)), "principal empty": one(strings.Replace(stmt, `"*"`, `{}`, 1)),
		"principal wildcard": one(strings.Replace(stmt, `"*"`, `{"AWS":"arn:aws:iam::111122223333:role/*"}`, 1)),
		"principal no arn":   one(strings.Replace(stmt, `"*"`, `{"AWS":"bob"}`, 1)), "principal kind": one(strings.Replace(stmt, `"*"`, `{"aws":"*"}`, 1)),
		"principal list empty": one(strings.Replace(stmt, `"*"`, `{"AWS":[]}`, 1)), "principal null": one(strings.Replace(stmt, `"*"`, `null`, 1)),
		"no action": one(strings.Replace(stmt, `"Action":"kms:*",`, "", 1)), "both actions": one(stmt + `,"NotAction":"kms:*"`),
		"action vendor": one(strings.Replace(stmt, "kms:*", "Decrypt", 1)), "action number": one(strings.Replace(stmt, `"kms:*"`, "1", 1)),
		"no resource": one(strings.Replace(stmt, `,"Resource":"*"`, "", 1)), "resource": one(strings.Replace(stmt, `"Resource":"*"`, `"Resource":"key"`, 1)),
		"unknown element": one(stmt + `,"Conditions":{}`), "condition null": with(`null`), "condition list": with(`[]`),
		"operator": with(`{"StringMatches":{"a":"b"}}`), "operator case": with(`{"stringEquals":{"a":"b"}}`), "null if exists": with(`{"NullIfExists":{"a":"true"}}`),
		"null value": with(`{"Null":{"a":"yes"}}`), "bool value": with(`{"Bool":{"a":"maybe"}}`), "number value": with(`{"NumericEquals":{"a":"x"}}`), "no number": with(`{"NumericEquals":{"a":"NaN"}}`),
		"no date":    with(`{"DateEquals":{"a":"Inf"}}`),
		"date value": with(`{"DateEquals":{"a":"yesterday"}}`), "prefix value": with(`{"IpAddress":{"a":"10/8"}}`), "binary value": with(`{"BinaryEquals":{"a":"*"}}`),
		"condition value": with(`{"StringEquals":{"a":{}}}`), "condition value null": with(`{"StringEquals":{"a":null}}`), "no condition values": with(`{"StringEquals":{"a":[]}}`),
		"operator twice": with(`{"Bool":{"a":"true"},"Bool":{"a":"false"}}`), "key twice": with(`{"Bool":{"a":"true","a":"false"}}`),
		"variable without end": with(`{"StringEquals":{"kms:EncryptionContext:u":"${aws:username"}}`), "variable that is no key": one(strings.Replace(stmt, `"Resource":"*"`, `"Resource":"arn:aws:kms:*:*:key/${x}"`, 1)),
		"variable default": with(`{"StringEquals":{"kms:EncryptionContext:u":"${aws:username, bob}"}}`), "variable in action": one(strings.Replace(stmt, "kms:*", "kms:${aws:username}", 1)),
		"variable as number": with(`{"NumericEquals":{"a":"${aws:username}"}}`), "variable as prefix": with(`{"IpAddress":{"aws:SourceIp":"${aws:PrincipalTag/net}"}}`),
		"variable as principal": one(strings.Replace(stmt, `"*"`, `{"AWS":"arn:aws:iam::111122223333:user/${aws:username}"}`, 1)),
		"characters":            one(stmt + `,"Sid":"世"`),
		"too large":             one(stmt + `,"Sid":"` + strings.Repeat("a", maxPolicySize) + `"`), "quantifier": with(`{"ForSomeValue:StringEquals":{"a":"b"}}`),
	}
	fake := New(&Options{TB: t})
	key := fake.Account(customer).CreateKey("")
	put := func(doc string) error {
		_, err := fake.Client(customer).PutKeyPolicy(context.Background(), &kms.PutKeyPolicyInput{
			KeyId: aws.String(key.ID()), Policy: aws.String(doc), BypassPolicyLockoutSafetyCheck: true})
		key.SetPolicy(defaultPolicy(DefaultRegion, customer))
		return err
	}
	for _, doc := range good {
		if err := put(doc); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
	for name, doc := range bad {
		want := "MalformedPolicyDocumentException"
		switch {
		case doc == "", name == "characters":
			want = "ValidationException"
		case len(doc) > maxPolicySize:
			want = "LimitExceededException"
		}
		if err := put(doc); code(err) != want {
			t.Errorf("%s: %v, want %s for %s", name, err, want, doc)
		}
	}
	if _, err := parsePolicy(one(stmt), false); err == nil {
		t.Error("an identity policy with a principal")
	}
	t.Logf("%d good and %d malformed policies", len(good), len(bad))
}

// Each operator and quantifier over values that are absent, one and many.
func TestConditions(t *testing.T) {
	for _, tc := range []struct {
		condition string
		values    []string // of the request, for key "k"
		want      bool
	}{
		{`{"StringEquals":{"k":"a"}}`, []string{"a"}, true},
		{`{"StringEquals":{"k":"a"}}`, []string{"A"}, false},
		{`{"StringEquals":{"k":"a*"}}`, []string{"ab"}, false},
		{`{"StringEquals":{"k":["a","b"]}}`, []string{"b"}, true},
		{`{"StringEquals":{"k":"a"}}`, nil, false},
		{`{"StringEqualsIfExists":{"k":"a"}}`, nil, true},
		{`{"StringEqualsIfExists":{"k":"a"}}`, []string{"b"}, false},
		{`{"StringNotEquals":{"k":"a"}}`, nil, true},
		{`{"StringNotEquals":{"k":["a","b"]}}`, []string{"b"}, false},
		{`{"StringNotEquals":{"k":["a","b"]}}`, []string{"c"}, true},
		{`{"StringEqualsIgnoreCase":{"k":"ABC"}}`, []string{"abc"}, true},
		{`{"StringNotEqualsIgnoreCase":{"k":"ABC"}}`, []string{"abc"}, false},
		{`{"StringLike":{"k":"a?c*"}}`, []string{"abcdef"}, true},
		{`{"StringLike":{"k":"a?c*"}}`, []string{"ac"}, false},
		{`{"StringLike":{"k":"*a*b"}}`, []string{"xaxxaxb"}, true},
		{`{"StringLike":{"k":"t?nant-*"}}`, []string{"tänant-ö"}, true},
		{`{"StringLike":{"k":""}}`, []string{""}, true},
		{`{"StringNotLike":{"k":"a*"}}`, []string{"b"}, true},
		{`{"StringNotLike":{"k":"a*"}}`, []string{"ab"}, false},
		{`{"ArnLike":{"k":"arn:aws:iam::*:role/x*"}}`, []string{"arn:aws:iam::1:role/xy"}, true},
		{`{"ArnEquals":{"k":"arn:aws:iam::*:role/x*"}}`, []string{"arn:aws:iam::1:role/xy"}, true},
		{`{"ArnLike":{"k":"arn:aws:*:role/x"}}`, []string{"arn:aws:iam::1:role/x"}, false},
		{`{"ArnNotLike":{"k":"arn:aws:iam::1:*"}}`, []string{"arn:aws:iam::1:role/x"}, false},
		{`{"ArnLike":{"k":"arn:aws:iam::*:role/x"}}`, []string{"arn:aws:iam::1:user/u:role/x"}, false},
		{`{"Bool":{"k":"TRUE"}}`, []string{"true"}, true},
		{`{"Bool":{"k":"true"}}`, []string{"false"}, false},
		{`{"Bool":{"k":"false"}}`, nil, false},
		{`{"BoolIfExists":{"k":"false"}}`, nil, true},
		{`{"Null":{"k":"true"}}`, nil, true},
		{`{"Null":{"k":"true"}}`, []string{"a"}, false},
		{`{"Null":{"k":"false"}}`, []string{"a"}, true},
		{`{"Null":{"k":"false"}}`, nil, false},
		{`{"NumericEquals":{"k":"7"}}`, []string{"7.0"}, true},
		{`{"NumericEquals":{"k":"7"}}`, []string{"NaN"}, false},
		{`{"NumericEquals":{"k":"7"}}`, []string{"0x7p0"}, false},
		{`{"NumericLessThanEquals":{"k":"7"}}`, []string{"nan"}, false},
		{`{"NumericLessThan":{"k":"7"}}`, []string{"-Inf"}, false},
		{`{"NumericNotEquals":{"k":"7"}}`, []string{"NaN"}, true},
		{`{"DateGreaterThanEquals":{"k":"7"}}`, []string{"NaN"}, false},
		{`{"NumericNotEquals":{"k":"7"}}`, []string{"8"}, true},
		{`{"NumericNotEquals":{"k":"7"}}`, []string{"7"}, false},
		{`{"NumericLessThan":{"k":"7"}}`, []string{"10"}, false},
		{`{"NumericLessThanEquals":{"k":7}}`, []string{"7"}, true},
		{`{"NumericGreaterThan":{"k":"7"}}`, []string{"10"}, true},
		{`{"NumericGreaterThanEquals":{"k":"7"}}`, []string{"x"}, false},
		{`{"DateLessThan":{"k":"2025-01-02"}}`, []string{"2025-01-01T23:59:59Z"}, true},
		{`{"DateGreaterThan":{"k":"2025-01-02"}}`, []string{"1000"}, false},
		{`{"IpAddress":{"k":"10.0.0.0/8"}}`, []string{"10.1.2.3"}, true},
		{`{"NotIpAddress":{"k":"10.0.0.0/8"}}`, []string{"10.1.2.3"}, false},
		{`{"BinaryEquals":{"k":"AA=="}}`, []string{"AA=="}, true},
		{`{"ForAllValues:StringEquals":{"k":["a","b"]}}`, []string{"a", "b"}, true},
		{`{"ForAllValues:StringEquals":{"k":["a","b"]}}`, []string{"a", "c"}, false},
		{`{"ForAllValues:StringEquals":{"k":"a"}}`, nil, true},
		{`{"ForAllValues:StringNotEquals":{"k":"a"}}`, []string{"b", "c"}, true},
		{`{"ForAllValues:StringNotEquals":{"k":"a"}}`, []string{"b", "a"}, false},
		{`{"ForAnyValue:StringEquals":{"k":"a"}}`, []string{"b", "a"}, true},
		{`{"ForAnyValue:StringEquals":{"k":"a"}}`, []string{"b"}, false},
		{`{"ForAnyValue:StringEquals":{"k":"a"}}`, nil, false},
		{`{"ForAnyValue:StringNotEquals":{"k":"a"}}`, nil, false},
		{`{"ForAnyValue:StringNotEquals":{"k":"a"}}`, []string{"a", "b"}, true},
		{`{"StringEquals":{"k":"a"}}`, []string{"a", "b"}, false},
		{`{"StringNotEquals":{"k":"a"}}`, []string{"a", "b"}, false},
	} {
		cs, err := parseConditions([]byte(tc.condition), true)
		if err != nil || len(cs) != 1 {
			t.Fatalf("%s: %v", tc.condition, err)
		}
		if got := cs[0].holds(&question{facts: map[string][]string{"k": tc.values}}); got != tc.want {
			t.Errorf("%s over %q: %v", tc.condition, tc.values, got)
		}
	}
}

// What the shared cases leave out: sessions, paths, NotPrincipal, NotResource,
// account-wide denies, condition keys.
func TestStatements(t *testing.T) {
	root := `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`
	session := func(name string) string { return "arn:aws:sts::" + customer + ":assumed-role/app/" + name }
	for _, tc := range []struct {
		name, statement, who string
		ec                   map[string]string
		want                 string // "" is allowed
	}{
		{"role covers its sessions", `"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, ""},
		{"role with a path", `"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/team/app"},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, ""},
		{"session covers itself", `"Effect":"Allow","Principal":{"AWS":"` + session("a") + `"},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, ""},
		{"session covers no other", `"Effect":"Allow","Principal":{"AWS":"` + session("a") + `"},"Action":"kms:Decrypt","Resource":"*"`, session("b"), nil, "because no identity-based policy"},
		{"user is not role", `"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:Decrypt","Resource":"*"`, "arn:aws:iam::111122223333:user/app", nil, "because no identity-based policy"},
		{"same name elsewhere", `"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:Decrypt","Resource":"*"`, "arn:aws:iam::444455556666:role/app", nil, "because no resource-based policy"},
		{"deny the account", `"Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"kms:Decrypt","Resource":"*"`, customer, nil, "with an explicit deny in a resource-based policy"},
		{"deny all but", `"Effect":"Deny","NotPrincipal":{"AWS":["` + appRole + `"]},"Action":"kms:Decrypt","Resource":"*"`, customer, nil, "with an explicit deny"},
		{"not this principal", `"Effect":"Deny","NotPrincipal":{"AWS":["` + customer + `"]},"Action":"kms:Decrypt","Resource":"*"`, customer, nil, ""},
		{"a role alone is not excepted", `"Effect":"Deny","NotPrincipal":{"AWS":["` + appRole + `"]},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, "with an explicit deny"},
		{"nor with its account", `"Effect":"Deny","NotPrincipal":{"AWS":["` + appRole + `","111122223333"]},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, "with an explicit deny"},
		{"nor for another session", `"Effect":"Deny","NotPrincipal":{"AWS":["` + appRole + `","111122223333","` + session("b") + `"]},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, "with an explicit deny"},
		{"role, session and account are", `"Effect":"Deny","NotPrincipal":{"AWS":["` + appRole + `","111122223333","` + session("a") + `"]},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, "because no identity-based policy"},
		{"an account does not except its users", `"Effect":"Deny","NotPrincipal":{"AWS":["111122223333"]},"Action":"kms:Decrypt","Resource":"*"`, "arn:aws:iam::111122223333:user/app", nil, "with an explicit deny"},
		{"user and account are", `"Effect":"Deny","NotPrincipal":{"AWS":["arn:aws:iam::111122223333:user/app","111122223333"]},"Action":"kms:Decrypt","Resource":"*"`, "arn:aws:iam::111122223333:user/app", nil, "because no identity-based policy"},
		{"allow all but", `"Effect":"Allow","NotPrincipal":{"AWS":["` + appRole + `"]},"Action":"kms:Decrypt","Resource":"*"`, "arn:aws:iam::111122223333:user/app", nil, ""},
		{"allow not the account", `"Effect":"Allow","NotPrincipal":{"AWS":["111122223333"]},"Action":"kms:Decrypt","Resource":"*"`, session("a"), nil, "because no identity-based policy"},
		{"service principal", `"Effect":"Deny","Principal":{"Service":"s3.amazonaws.com"},"Action":"kms:*","Resource":"*"`, customer, nil, ""},
		{"another resource", `"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:us-east-1:111122223333:key/x"`, customer, nil, ""},
		{"not another resource", `"Effect":"Deny","Principal":"*","Action":"kms:*","NotResource":"arn:aws:kms:us-east-1:111122223333:key/x"`, customer, nil, "with an explicit deny"},
		{"resource pattern", `"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:*:111122223333:key/*"`, customer, nil, "with an explicit deny"},
		{"ambiguous context fails closed", `"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringNotEquals":{"kms:EncryptionContext:tenant":"t1"}}`, customer, map[string]string{"Tenant": "t1", "TENANT": "t1"}, "with an explicit deny"},
		{"exact context key first", `"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringNotEquals":{"kms:EncryptionContext:tenant":"t1"}}`, customer, map[string]string{"tenant": "t1", "TENANT": "t2"}, ""},
		{"session's ARN is the role's", `"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"ArnNotEquals":{"aws:PrincipalArn":"` + appRole + `"}}`, session("x"), nil, "because no identity-based policy"},
		{"caller's account", `"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:CallerAccount":"111122223333","aws:PrincipalAccount":"111122223333","kms:EncryptionAlgorithm":"SYMMETRIC_DEFAULT","aws:RequestedRegion":"us-east-1"}}`, customer, nil, "with an explicit deny"},
		{"unknown key is absent", `"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"aws:SourceVpce":"x"}}`, customer, nil, ""},
	} {
		fake := New(&Options{TB: t})
		key := fake.Account(customer).CreateKey(`{"Statement":[` + root + `,{` + tc.statement + `}]}`)
		err := attempt(fake, key, tc.who, "Decrypt", tc.ec)
		if tc.want == "" && err != nil || tc.want != "" && (code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// The lenient default across accounts, and its three ends.
func TestOutsidersOwnAccount(t *testing.T) {
	policy := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:*","Resource":"*"}}`
	try := func(strict bool, prepare func(*Account)) error {
		fake := New(&Options{TB: t, StrictIAM: strict})
		key := fake.Account(customer).CreateKey(policy)
		prepare(fake.Account(vendor))
		return attempt(fake, key, role, "Decrypt", nil)
	}
	allow := `{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}`
	if err := try(false, func(*Account) {}); err != nil {
		t.Errorf("nobody ever spoke of the role: %v", err)
	}
	wantCode(t, try(true, func(*Account) {}), "AccessDeniedException")
	wantCode(t, try(false, func(a *Account) { a.PutIdentityPolicy(role, strings.Replace(allow, "Decrypt", "Encrypt", 1)) }), "AccessDeniedException")
	wantCode(t, try(false, func(a *Account) {
		a.PutIdentityPolicy(role, allow)
		a.PutIdentityPolicy(role, strings.Replace(allow, "Allow", "Deny", 1))
	}), "AccessDeniedException")
	if err := try(true, func(a *Account) { a.PutIdentityPolicy(role, allow) }); err != nil {
		t.Error(err)
	}
	if err := try(false, func(a *Account) {
		a.PutIdentityPolicy(role, strings.Replace(allow, "Decrypt", "Encrypt", 1))
		a.DeleteIdentityPolicies(role)
	}); err != nil {
		t.Error(err)
	}
	// Without a key: own account only.
	strict := New(&Options{TB: t, StrictIAM: true})
	_, err := strict.Client(role).CreateKey(context.Background(), nil)
	wantCode(t, err, "AccessDeniedException")
	if _, err := New(nil).Client(role).CreateKey(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

// DenyTo is explicit, AllowTo takes back exactly that.
func TestDenyTo(t *testing.T) {
	fake := New(&Options{TB: t})
	policy := `{"Id":"mine","Statement":{"Sid":"s","Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:Decrypt","Resource":"*"}}`
	key := fake.Account(customer).CreateKey(policy)
	key.AllowTo(role) // nothing to take back
	if err := attempt(fake, key, role, "Decrypt", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		key.DenyTo(role)
	}
	err := attempt(fake, key, role, "Decrypt", nil)
	if code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "with an explicit deny in a resource-based policy") {
		t.Error(err)
	}
	key.AllowTo(role)
	if err := attempt(fake, key, role, "Decrypt", nil); err != nil {
		t.Error(err)
	}
	wantCode(t, attempt(fake, key, role, "Encrypt", nil), "AccessDeniedException")
	only := fake.Account(customer).CreateKey(`{"Statement":{"Sid":"kmsfake DenyTo ` + role + `",` + strings.Replace(stmt, "Allow", "Deny", 1) + `}}`)
	fake.tb = new(tb)
	func() {
		defer func() {
			if said := recover().(*tb).said; !strings.Contains(said, "AllowTo") {
				t.Errorf("taking away the last statement: %q", said)
			}
		}()
		only.AllowTo(role)
	}()
	if !strings.Contains(key.Policy(), `"mine"`) {
		t.Errorf("the rest of the policy is gone: %s", key.Policy())
	}
}

// Whatever the document, parsing ends in a policy or an error, and a policy can
// be evaluated.
func FuzzPolicy(f *testing.F) {
	f.Add(`{"Statement":{` + stmt + `}}`)
	f.Add(defaultPolicy("cn-north-1", customer))
	f.Add(`{"Statement":[{` + stmt + `,"Condition":{"ForAllValues:StringLike":{"kms:EncryptionContextKeys":["a*?**"]},"Null":{"kms:ViaService":true}}}]}`)
	f.Add(`{"Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"NotAction":["kms:*"],"NotResource":["arn:*"]}]}`)
	f.Add(strings.Repeat(`{"Statement":`, 2000))
	f.Add(`{"Statement":[{` + stmt + `,"Condition":{"NumericLessThan":{"k":1e999}}}]}`)
	fake := New(nil)
	k := &keyState{ID: newUUID(), Account: customer, Region: DefaultRegion}
	who, _ := parsePrincipal(role)
	f.Fuzz(func(t *testing.T, doc string) {
		for _, keyPolicy := range []bool{true, false} {
			p, err := parsePolicy(doc, keyPolicy)
			if (p == nil) == (err == nil) {
				t.Fatal(p, err)
			}
			if err == nil {
				r := &request{f: fake, st: fake.st, now: fake.now(), caller: caller{who: &who, region: DefaultRegion}}
				k.policy = p
				q := r.ask(k, &aim{action: "kms:Decrypt", ec: map[string]string{"a": doc}}, "")
				d := decided{q, q.decide()}
				if e := d.explain(); e.Allowed != (d.by.verdict == allowed) || len(e.KeyPolicy) != len(p.statements) {
					t.Fatalf("%+v", e)
				}
			}
		}
	})
}
