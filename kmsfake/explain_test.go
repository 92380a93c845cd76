package kmsfake

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"pgregory.net/rapid"
)

// Why a call was denied, or allowed, in words that name the part that decided.
func TestExplain(t *testing.T) {
	statement := func(sid, effect, who, action, more string) string {
		return `{"Sid":"` + sid + `","Effect":"` + effect + `","Principal":{"AWS":"` + who + `"},"Action":"` + action + `","Resource":"*"` + more + `}`
	}
	tenant := `,"Condition":{"StringEquals":{"kms:EncryptionContext:tenant":["acme","emca"]}}`
	allow := func(action, resource string) string {
		return `{"Statement":{"Sid":"mine","Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}}`
	}
	root := statement("owner", "Allow", customer, "kms:*", "")
	for _, tc := range []struct {
		name     string
		policy   string // its statements
		who      string
		identity string
		grant    *kms.CreateGrantInput
		ec       map[string]string
		lenient  bool
		allowed  bool
		by       string
		says     []string
	}{
		{name: "removed statement", policy: root, who: role, identity: allow("kms:*", "*"), says: []string{
			"Decrypt by arn:aws:sts::444455556666:assumed-role/vendor/kmsfake was denied", ruleKeyNoneAcross,
			"Allow, statement 1 (owner): does not apply: Principal is account 111122223333, the caller arn:aws:sts::444455556666:assumed-role/vendor/kmsfake",
			"Allow, statement 1 (mine): applies"}},
		{name: "context", policy: root + "," + statement("vendor", "Allow", role, "kms:Decrypt", tenant), who: role, identity: allow("kms:*", "*"),
			ec: map[string]string{"tenant": "globex"}, says: []string{
				`statement 2 (vendor): does not apply: StringEquals wants kms:EncryptionContext:tenant "acme", "emca", the request has "globex"`}},
		{name: "no context", policy: root + "," + statement("vendor", "Allow", role, "kms:Decrypt", tenant), who: role, identity: allow("kms:*", "*"),
			says: []string{`wants kms:EncryptionContext:tenant "acme", "emca", the request has none`}},
		{name: "other action", policy: root + "," + statement("vendor", "Allow", role, "kms:Encrypt", ""), who: role, identity: allow("kms:*", "*"),
			says: []string{"statement 2 (vendor): does not apply: Action is kms:Encrypt, the call kms:Decrypt"}},
		{name: "deny", policy: root + "," + statement("vendor", "Allow", role, "kms:*", "") + "," + statement("stop", "Deny", role, "kms:*", ""), who: role,
			identity: allow("kms:*", "*"), by: "statement 3 (stop) of the key policy", says: []string{ruleKeyDeny, "Deny, statement 3 (stop): applies"}},
		{name: "own side", policy: root + "," + statement("vendor", "Allow", role, "kms:*", ""), who: role, identity: allow("kms:Encrypt", "*"),
			says: []string{ruleIdentityNoneAcross, "Identity policies of the caller:", "Action is kms:Encrypt, the call kms:Decrypt"}},
		{name: "own deny", policy: root + "," + statement("vendor", "Allow", role, "kms:*", ""), who: role, identity: strings.Replace(allow("kms:*", "*"), "Allow", "Deny", 1),
			by: "statement 1 (mine) of the caller's identity policies", says: []string{ruleIdentityDeny}},
		{name: "both sides", policy: root + "," + statement("vendor", "Allow", role, "kms:*", ""), who: role, identity: allow("kms:*", "*"),
			allowed: true, by: "statement 1 (mine) of the caller's identity policies", says: []string{"succeeded", ruleBothSides}},
		{name: "lenient", policy: statement("vendor", "Allow", role, "kms:*", ""), who: role, lenient: true, allowed: true, says: []string{ruleLenient}},
		{name: "delegated", policy: root, who: appRole, identity: allow("kms:Decrypt", "*"), allowed: true,
			says: []string{ruleDelegated, "statement 1 (owner): applies, to the account"}},
		{name: "not delegated on", policy: root, who: appRole, identity: allow("kms:Decrypt", "arn:aws:kms:*:*:key/none"),
			says: []string{ruleIdentityNone, "Resource is arn:aws:kms:*:*:key/none, the call's arn:aws:kms:us-east-1:111122223333:key/"}},
		{name: "named", policy: root + "," + statement("app", "Allow", appRole, "kms:*", ""), who: appRole, allowed: true,
			by: "statement 2 (app) of the key policy", says: []string{ruleNamed}},
		{name: "root", policy: root, who: customer, allowed: true, by: "statement 1 (owner) of the key policy", says: []string{ruleRoot}},
		{name: "root without policy", policy: statement("app", "Allow", appRole, "kms:*", ""), who: customer, says: []string{ruleKeyNone}},
		{name: "grant", policy: root, who: role, grant: &kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Decrypt"}},
			allowed: true, says: []string{ruleGrant, "Decided by grant "}},
		{name: "grant for another operation", policy: root, who: role, grant: &kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}, Name: aws.String("g")},
			says: []string{"(g): does not apply: its operations are Encrypt, the call kms:Decrypt"}},
		{name: "grant for another context", policy: root, who: role, ec: map[string]string{"tenant": "globex"},
			grant: &kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Decrypt"},
				Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "acme"}}},
			says: []string{`does not apply: it wants EncryptionContextSubset ["tenant":"acme"], the request has ["tenant":"globex"]`}},
		{name: "variable", policy: root + "," + statement("app", "Allow", appRole, "kms:*", `,"Condition":{"StringLike":{"kms:EncryptionContext:team":"${aws:PrincipalTag/team}-*"},"Bool":{"kms:ViaService":"${aws:PrincipalTag/none}"}}`),
			who: appRole, ec: map[string]string{"team": "blue-1"}, says: []string{
				`Bool wants kms:ViaService "${aws:PrincipalTag/none}" (which this request does not have), the request has none; ` +
					`StringLike wants kms:EncryptionContext:team "${aws:PrincipalTag/team}-*" (here "red-*"), the request has "blue-1"`}},
	} {
		fake := New(&Options{TB: t, StrictIAM: !tc.lenient})
		key := fake.Account(customer).CreateKey("")
		g := &granter{t, fake, key}
		if tc.grant != nil {
			g.grant(*tc.grant)
		}
		key.SetPolicy(`{"Version":"2012-10-17","Statement":[` + tc.policy + `]}`)
		if tc.identity != "" {
			p := fake.mustPrincipal(tc.who)
			fake.Account(p.account).PutIdentityPolicy(tc.who, tc.identity)
		}
		blob := seal(fake.st.Secret, fake.st.Keys[key.ARN()], fake.st.Keys[key.ARN()].current(), []byte("x"), tc.ec)
		_, err := fake.Client(tc.who).With(Session{Tags: map[string]string{"team": "red"}}).Decrypt(context.Background(),
			&kms.DecryptInput{KeyId: aws.String(key.ARN()), CiphertextBlob: blob, EncryptionContext: tc.ec})
		calls := fake.Calls()
		e := fake.Explain(calls[len(calls)-1].RequestID)
		if (err == nil) != tc.allowed || e == nil || len(e.Decisions) != 1 || e.Decisions[0].Allowed != tc.allowed || e.Code != code(err) {
			t.Errorf("%s: %v, %+v", tc.name, err, e)
			continue
		}
		if err != nil && fake.Why(err).String() != e.String() {
			t.Errorf("%s: Why says something else than Explain", tc.name)
		}
		if tc.by != "" && e.Decisions[0].By != tc.by {
			t.Errorf("%s: by %q", tc.name, e.Decisions[0].By)
		}
		for _, says := range tc.says {
			if !strings.Contains(e.String(), says) {
				t.Errorf("%s: want %q in\n%s", tc.name, says, e)
			}
		}
	}
}

// What an explanation says stays true when the world moves on.
func TestExplanationIsOfThen(t *testing.T) {
	f := newFixture(t, nil)
	f.key.DenyTo(customer)
	ec := map[string]string{"tenant": "t1"}
	_, err := f.decrypt(f.blob, ec)
	before := f.fake.Why(err).String()
	f.key.SetPolicy(defaultPolicy(DefaultRegion, customer))
	ec["tenant"] = "t2"
	f.key.Delete()
	if after := f.fake.Why(err).String(); after != before || !strings.Contains(before, "explicit deny") {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	// Nor does a grant's end, or the caller's own map, change what was.
	g := newGranter(t)
	id, _ := g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"},
		Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "t1"}}})
	ec["tenant"] = "t2"
	first := g.encrypt(role, ec)
	before = g.fake.Why(first).String()
	ec["tenant"] = "t1"
	if err := g.encrypt(role, ec); err != nil {
		t.Fatal(err)
	}
	calls := g.fake.Calls()
	granted := g.fake.Explain(calls[len(calls)-1].RequestID)
	ec["tenant"] = "t3"
	if _, err := g.fake.Client(customer).RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: &id}); err != nil {
		t.Fatal(err)
	}
	if after := g.fake.Why(first).String(); after != before || !strings.Contains(before, `the request has ["tenant":"t2"]`) {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if after := g.fake.Explain(granted.RequestID); after.String() != granted.String() || after.Decisions[0].By != "grant "+id {
		t.Errorf("before\n%s\nafter\n%s", granted, after)
	}
	// A deleted key is denied to strangers without a word; the explanation has it.
	_, err = f.fake.Client(role).Decrypt(context.Background(), &kms.DecryptInput{KeyId: aws.String(f.key.ARN()), CiphertextBlob: f.blob})
	if got := f.fake.Why(err).String(); !strings.Contains(got, ruleUnseen) {
		t.Error(got)
	}
	_, err = f.fake.Client(role).Decrypt(context.Background(), &kms.DecryptInput{CiphertextBlob: f.blob})
	if got := f.fake.Why(err).String(); !strings.Contains(got, ruleUnseen) {
		t.Error(got)
	}
}

// Calls with no decision, with several, and calls that nobody remembers.
func TestExplainTheOddOnes(t *testing.T) {
	f := newFixture(t, nil)
	last := func() *Explanation { c := f.fake.Calls(); return f.fake.Explain(c[len(c)-1].RequestID) }
	f.fake.Fail("Decrypt", "ThrottlingException", 1)
	_, err := f.decrypt(f.blob, nil)
	if got := f.fake.Why(err).String(); !strings.Contains(got, "Nobody asked whether it may") || !strings.Contains(got, "failed with ThrottlingException: ") {
		t.Error(got)
	}
	f.key.Disable()
	_, err = f.decrypt(f.blob, nil)
	if got := f.fake.Why(err).String(); !strings.Contains(got, "It was allowed, and failed after that.") || !strings.Contains(got, "ALLOWED kms:Decrypt") {
		t.Error(got)
	}
	f.key.Enable()
	if err := attempt(f.fake, f.key, customer, "ReEncrypt", nil); err != nil || len(last().Decisions) != 2 {
		t.Error(last(), err)
	}
	if err := attempt(f.fake, f.key, customer, "CreateAlias", nil); err != nil || !strings.Contains(last().String(), ruleOwnRoot) {
		t.Error(last(), err)
	}
	restore := f.fake.Outage()
	_, err = f.decrypt(f.blob, nil)
	restore()
	if e := f.fake.Why(err); e != nil || e.String() == "" {
		t.Error(e)
	}
	if f.fake.Why(nil) != nil || f.fake.Why(fmt.Errorf("x")) != nil || f.fake.Explain("") != nil || f.fake.Explain(newUUID()) != nil {
		t.Error("something is known of calls that never were")
	}
	_, err = f.decrypt(f.blob, map[string]string{"no": "such"})
	for range maxTraces - 1 {
		f.c.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(f.key.ID())})
	}
	if f.fake.Why(err) == nil {
		t.Errorf("the %dth last call is forgotten", maxTraces)
	}
	f.c.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(f.key.ID())})
	if f.fake.Why(err) != nil || len(f.fake.traces) != maxTraces {
		t.Errorf("traces without bound: %d", len(f.fake.traces))
	}
}

// A caller with thousands of grants does not make thousands of traces of them, and
// the one that decided is kept.
func TestExplainManyGrants(t *testing.T) {
	g := newGranter(t)
	for range 200 {
		g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Decrypt"}})
	}
	id, _ := g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}})
	wantCode(t, g.encrypt(role, nil), "")
	calls := g.fake.Calls()
	d := g.fake.Explain(calls[len(calls)-1].RequestID).Decisions[0]
	if len(d.Grants) != maxCandidates || d.By != "grant "+id {
		t.Errorf("%d grants, by %s", len(d.Grants), d.By)
	}
}

// Over HTTP the request id in the SDK's error finds the explanation, which is JSON.
func TestExplainOverHTTP(t *testing.T) {
	f := newFixture(t, nil)
	f.key.DenyTo(role)
	f.fake.RegisterAccessKey("AKIAEXPLAIN", role)
	_, err := sdkClient(t, f.fake, "AKIAEXPLAIN", testSecret).Decrypt(context.Background(), &kms.DecryptInput{KeyId: aws.String(f.key.ARN()), CiphertextBlob: f.blob})
	e := f.fake.Why(err)
	if e == nil || e.Decisions[0].Rule != ruleKeyDeny {
		t.Fatal(e, err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back Explanation
	if err := json.Unmarshal(data, &back); err != nil || back.String() != e.String() {
		t.Errorf("%v\n%s", err, data)
	}
}

// The explanation and the decision are one: for whatever policies and callers.
func TestExplainAgreesWithTheDecision(t *testing.T) {
	conditions := []string{"", `,"Condition":{"StringEquals":{"kms:EncryptionContext:t":"1"}}`, `,"Condition":{"StringNotLike":{"aws:PrincipalArn":"*/app"}}`,
		`,"Condition":{"Null":{"kms:EncryptionContextKeys":"true"}}`}
	verdicts := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, name) }
		statement := func(principal string) string {
			return `{"Effect":"` + pick("effect", "Allow", "Allow", "Deny") + `",` + principal + `"` + pick("action", "Action", "Action", "NotAction") + `":"` +
				pick("name", "kms:*", "kms:Decrypt", "kms:Encrypt", "kms:De*") + `","Resource":"*"` + pick("condition", conditions...) + `}`
		}
		document := func(principal func() string) string {
			all := make([]string, rapid.IntRange(1, 3).Draw(rt, "statements"))
			for i := range all {
				all[i] = statement(principal())
			}
			return `{"Statement":[` + strings.Join(all, ",") + `]}`
		}
		principal := func() string {
			return `"` + pick("element", "Principal", "Principal", "NotPrincipal") + `":{"AWS":"` + pick("principal", customer, vendor, role, appRole, "*") + `"},`
		}
		fake := New(&Options{TB: t, StrictIAM: rapid.Bool().Draw(rt, "strict")})
		key := fake.Account(customer).CreateKey(document(principal))
		who := pick("caller", customer, appRole, role, vendor)
		if rapid.Bool().Draw(rt, "registered") && who != customer && who != vendor {
			fake.Account(fake.mustPrincipal(who).account).PutIdentityPolicy(who, document(func() string { return "" }))
		}
		if rapid.Bool().Draw(rt, "granted") {
			grant := &grantState{ID: newGrantID(), Grantee: role, Operations: ops{"Decrypt"}, Constraints: grantConstraints{Subset: map[string]string{"t": "1"}}}
			if err := grant.parse(); err != nil {
				rt.Fatal(err)
			}
			fake.st.Keys[key.ARN()].grant(grant)
		}
		ec := map[string]string{pick("name", "t", "u"): "1"}
		err := attempt(fake, key, who, pick("operation", "Decrypt", "Encrypt", "DescribeKey", "DisableKey"), ec)
		e := fake.Explain(fake.Calls()[0].RequestID)
		d := e.Decisions[len(e.Decisions)-1]
		if d.Allowed != (err == nil) {
			rt.Fatalf("%v, but\n%s", err, e)
		}
		denies, allows := false, false
		for _, f := range append(append(d.KeyPolicy, d.Identity...), d.Grants...) {
			denies = denies || f.Applies && f.Effect == "Deny"
			allows = allows || f.Applies && f.Effect == "Allow"
			if f.Applies != (f.Why == "") {
				rt.Fatalf("%+v", f)
			}
		}
		if d.Allowed && (denies || !allows) {
			rt.Fatalf("allowed by nothing, or against a deny:\n%s", e)
		}
		verdicts[d.Rule]++
	})
	t.Logf("%d rules came up", len(verdicts))
	if len(verdicts) < 5 { // of the random ones; TestExplain has each
		t.Errorf("only %v", verdicts)
	}
}
