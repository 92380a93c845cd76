package kmsfake

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

type ops = []types.GrantOperation

// granter makes grants on one key, as its account's root.
type granter struct {
	t    *testing.T
	fake *KMS
	key  *Key
}

func newGranter(t *testing.T) *granter {
	fake := New(&Options{TB: t, StrictIAM: true})
	return &granter{t, fake, fake.Account(customer).CreateKey("")}
}

func (g *granter) try(who string, in kms.CreateGrantInput) (id, token string, err error) {
	in.KeyId = aws.String(g.key.ARN())
	out, err := g.fake.Client(who).CreateGrant(context.Background(), &in)
	if err != nil {
		return "", "", err
	}
	return *out.GrantId, *out.GrantToken, nil
}

func (g *granter) grant(in kms.CreateGrantInput) (id, token string) {
	g.t.Helper()
	id, token, err := g.try(customer, in)
	if err != nil {
		g.t.Fatal(err)
	}
	return id, token
}

func (g *granter) encrypt(who string, ec map[string]string, tokens ...string) error {
	_, err := g.fake.Client(who).Encrypt(context.Background(), &kms.EncryptInput{
		KeyId: aws.String(g.key.ARN()), Plaintext: []byte("x"), EncryptionContext: ec, GrantTokens: tokens})
	return err
}

func (g *granter) list(who string, in kms.ListGrantsInput) ([]types.GrantListEntry, error) {
	in.KeyId = aws.String(g.key.ARN())
	out, err := g.fake.Client(who).ListGrants(context.Background(), &in)
	if err != nil {
		return nil, err
	}
	return out.Grants, nil
}

const denied = "AccessDeniedException"

// A grant gives what it lists to whom it names, and ends when it is revoked.
func TestGrantLife(t *testing.T) {
	g := newGranter(t)
	wantCode(t, g.encrypt(role, nil), denied)
	id, _ := g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), RetiringPrincipal: aws.String(appRole),
		Operations: ops{"Encrypt", "DescribeKey"}, Name: aws.String("for-the-vendor")})
	wantCode(t, g.encrypt(role, nil), "")
	wantCode(t, g.encrypt("arn:aws:sts::444455556666:assumed-role/vendor/any", nil), "")
	wantCode(t, g.encrypt("arn:aws:iam::444455556666:role/other", nil), denied)
	wantCode(t, g.encrypt("arn:aws:iam::111122223333:role/vendor", nil), denied)
	wantCode(t, attempt(g.fake, g.key, role, "Decrypt", nil), denied)

	list, err := g.list(customer, kms.ListGrantsInput{})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	e := list[0]
	if *e.GrantId != id || *e.KeyId != g.key.ARN() || *e.GranteePrincipal != role || *e.RetiringPrincipal != appRole ||
		*e.IssuingAccount != "arn:aws:iam::111122223333:root" || *e.Name != "for-the-vendor" || e.CreationDate.IsZero() ||
		!slices.Equal(e.Operations, ops{"Encrypt", "DescribeKey"}) || e.Constraints != nil {
		t.Errorf("%+v", e)
	}
	if _, err := g.fake.Client(customer).RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: &id}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, g.encrypt(role, nil), denied)
	if list, err := g.list(customer, kms.ListGrantsInput{}); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	_, err = g.fake.Client(customer).RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: &id})
	wantCode(t, err, "NotFoundException")
}

// The customer's levers work on a grantee as on anybody.
func TestGrantEndsWithTheKey(t *testing.T) {
	g := newGranter(t)
	g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}})
	wantCode(t, g.encrypt(role, nil), "")
	g.key.DenyTo(role)
	wantCode(t, g.encrypt(role, nil), denied)
	g.key.AllowTo(role)
	g.fake.Account(vendor).PutIdentityPolicy(role, `{"Statement":{"Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}}`)
	wantCode(t, g.encrypt(role, nil), denied)
	g.fake.Account(vendor).DeleteIdentityPolicies(role)
	g.key.Disable()
	wantCode(t, g.encrypt(role, nil), "DisabledException")
	g.key.Enable()
	wantCode(t, g.encrypt(role, nil), "")
	g.key.Delete()
	wantCode(t, g.encrypt(role, nil), denied)
}

// Constraints bind to the context of the call; names of pairs have no case in
// them, values have; DescribeKey has no context.
func TestGrantConstraints(t *testing.T) {
	type m = map[string]string
	for _, tc := range []struct {
		equals, subset, ec m
		ok                 bool
	}{
		{m{"t": "1"}, nil, m{"t": "1"}, true},
		{m{"t": "1"}, nil, m{"T": "1"}, true},
		{m{"t": "1"}, nil, m{"t": "1", "u": "2"}, false},
		{m{"t": "1"}, nil, m{"t": "2"}, false},
		{m{"t": "a"}, nil, m{"t": "A"}, false},
		{m{"t": "1"}, nil, nil, false},
		{m{"t": "1", "u": "2"}, nil, m{"t": "1"}, false},
		{nil, m{"t": "1"}, m{"t": "1", "u": "2"}, true},
		{nil, m{"T": "1"}, m{"t": "1", "u": "2"}, true},
		{nil, m{"t": "1"}, m{"u": "1"}, false},
		{nil, m{"t": "1"}, nil, false},
		{nil, m{"t": "1"}, m{"t": "1", "T": "2"}, false}, // which one is meant?
		{nil, m{"t": "1"}, m{"t": "1", "T": "1"}, false},
		{m{"t": "1"}, m{"t": "1"}, m{"t": "1"}, true},
		{m{"t": "1"}, m{"u": "1"}, m{"t": "1"}, false},
		{nil, nil, m{"t": "1"}, true},
	} {
		g := newGranter(t)
		g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt", "DescribeKey"},
			Constraints: &types.GrantConstraints{EncryptionContextEquals: tc.equals, EncryptionContextSubset: tc.subset}})
		if err := g.encrypt(role, tc.ec); (err == nil) != tc.ok || err != nil && code(err) != denied {
			t.Errorf("equals %v, subset %v, context %v: %v", tc.equals, tc.subset, tc.ec, err)
		}
		if err := attempt(g.fake, g.key, role, "DescribeKey", nil); err != nil {
			t.Errorf("equals %v, subset %v: DescribeKey: %v", tc.equals, tc.subset, err)
		}
	}
}

// Whoever creates grants by a grant cannot give more than it has.
func TestGrantChildren(t *testing.T) {
	type m = map[string]string
	child := func(parent, child *types.GrantConstraints, operations ops) error {
		g := newGranter(t)
		g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Constraints: parent,
			Operations: ops{"Encrypt", "Decrypt", "CreateGrant", "RetireGrant"}})
		_, _, err := g.try(role, kms.CreateGrantInput{GranteePrincipal: aws.String(appRole), Operations: operations, Constraints: child})
		return err
	}
	equals := func(pairs m) *types.GrantConstraints { return &types.GrantConstraints{EncryptionContextEquals: pairs} }
	subset := func(pairs m) *types.GrantConstraints { return &types.GrantConstraints{EncryptionContextSubset: pairs} }
	source := func(arn string) *types.GrantConstraints { return &types.GrantConstraints{SourceArn: &arn} }
	e := ops{"Encrypt"}
	for i, tc := range []struct {
		parent, child *types.GrantConstraints
		ops           ops
		ok            bool
	}{
		{nil, nil, e, true},
		{nil, nil, ops{"Encrypt", "Decrypt", "CreateGrant", "RetireGrant"}, true},
		{nil, nil, ops{"Encrypt", "DescribeKey"}, false},
		{nil, equals(m{"t": "1"}), e, true},
		{equals(m{"t": "1"}), nil, e, false},
		{equals(m{"t": "1"}), equals(m{"t": "1"}), e, true},
		{equals(m{"t": "1"}), equals(m{"t": "2"}), e, false},
		{equals(m{"t": "1"}), equals(m{"t": "1", "u": "2"}), e, false},
		{equals(m{"t": "1"}), subset(m{"t": "1"}), e, false},
		{subset(m{"t": "1"}), subset(m{"t": "1"}), e, true},
		{subset(m{"t": "1"}), subset(m{"t": "1", "u": "2"}), e, true},
		{subset(m{"t": "1"}), equals(m{"t": "1", "u": "2"}), e, true},
		{subset(m{"t": "1"}), subset(m{"u": "2"}), e, false},
		{subset(m{"t": "1", "u": "2"}), subset(m{"t": "1"}), e, false},
		{source("arn:aws:s3:::b"), nil, e, false},
	} {
		if err := child(tc.parent, tc.child, tc.ops); (err == nil) != tc.ok || err != nil && code(err) != denied {
			t.Errorf("case %d: %v", i, err)
		}
	}
	// A key policy that allows CreateGrant sets no such bounds.
	g := newGranter(t)
	g.key.SetPolicy(`{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:CreateGrant","Resource":"*"}}`)
	_, _, err := g.try(appRole, kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Decrypt"}})
	wantCode(t, err, "")
}

// Who may retire: the retiring principal, a grantee that was given it, and the
// account that created the grant; no policy alone.
func TestGrantRetirement(t *testing.T) {
	const user, other = "arn:aws:iam::111122223333:user/u", "arn:aws:iam::777788889999:root"
	allow := func(action string) string {
		return `{"Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"*"}}`
	}
	for _, tc := range []struct {
		name     string
		retiring string
		ops      ops
		who      string
		prepare  func(g *granter)
		ok       bool
	}{
		{"retiring principal", appRole, ops{"Encrypt"}, appRole, nil, true},
		{"its sessions", appRole, ops{"Encrypt"}, "arn:aws:sts::111122223333:assumed-role/app/s", nil, true},
		{"of another account", role, ops{"Encrypt"}, role, nil, true},
		{"grantee", appRole, ops{"Encrypt"}, role, nil, false},
		{"grantee with RetireGrant", appRole, ops{"Encrypt", "RetireGrant"}, role, nil, true},
		{"creator's root", "", ops{"Encrypt"}, customer, nil, true},
		{"creator's user", "", ops{"Encrypt"}, user, nil, false},
		{"creator's user with IAM", "", ops{"Encrypt"}, user, func(g *granter) { g.fake.Account(customer).PutIdentityPolicy(user, allow("kms:RetireGrant")) }, true},
		{"with IAM for the rest", "", ops{"Encrypt"}, user, func(g *granter) { g.fake.Account(customer).PutIdentityPolicy(user, allow("kms:Re*From")) }, false},
		{"retiring account's root", other, ops{"Encrypt"}, other, nil, true},
		{"denied in IAM", appRole, ops{"Encrypt"}, appRole, func(g *granter) {
			g.fake.Account(customer).PutIdentityPolicy(appRole, strings.Replace(allow("kms:RetireGrant"), "Allow", "Deny", 1))
		}, false},
		{"key policy gives nothing", "", ops{"Encrypt"}, user, func(g *granter) {
			g.key.SetPolicy(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`)
		}, false},
		{"key policy takes nothing", appRole, ops{"Encrypt"}, appRole, func(g *granter) { g.key.DenyTo(appRole) }, true},
		{"stranger", appRole, ops{"Encrypt", "RetireGrant"}, other, nil, false},
		{"in any state", appRole, ops{"Encrypt"}, appRole, func(g *granter) { g.key.ScheduleDeletion(7) }, true},
	} {
		for _, byToken := range []bool{false, true} {
			g := newGranter(t)
			in := kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: tc.ops, RetiringPrincipal: some(tc.retiring)}
			id, token := g.grant(in)
			if tc.prepare != nil {
				tc.prepare(g)
			}
			retire := &kms.RetireGrantInput{KeyId: aws.String(g.key.ARN()), GrantId: &id}
			if byToken {
				retire = &kms.RetireGrantInput{GrantToken: &token}
			}
			retire.DryRun = aws.Bool(true)
			_, dry := g.fake.Client(tc.who).RetireGrant(context.Background(), retire)
			if g.fake.st.Keys[g.key.ARN()].findGrant(id) == nil {
				t.Fatal(tc.name, "a dry run retired the grant")
			}
			retire.DryRun = nil
			_, err := g.fake.Client(tc.who).RetireGrant(context.Background(), retire)
			gone := g.fake.st.Keys[g.key.ARN()].findGrant(id) == nil
			if (err == nil) != tc.ok || gone != tc.ok || err != nil && code(err) != denied {
				t.Errorf("%s, by token %v: %v, gone %v", tc.name, byToken, err, gone)
			}
			if tc.ok != (code(dry) == "DryRunOperationException") {
				t.Errorf("%s: dry run: %v", tc.name, dry)
			}
		}
	}
}

// A token is worth what its grant is worth, to its grantee, on its key.
func TestGrantTokens(t *testing.T) {
	g := newGranter(t)
	id, token := g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}})
	wantCode(t, g.encrypt(role, nil, token), "")
	wantCode(t, g.encrypt("arn:aws:iam::444455556666:role/other", nil, token), denied)
	flipped := []byte(token)
	flipped[len(flipped)/2] ^= 1
	for _, bad := range []string{string(flipped), token[:len(token)-4], token + "AAAA", "AAAA", "no token"} {
		wantCode(t, g.encrypt(role, nil, bad), "InvalidGrantTokenException")
		wantCode(t, g.encrypt(customer, nil, bad), "InvalidGrantTokenException") // who needs no token at all
		_, err := g.fake.Client(customer).RetireGrant(context.Background(), &kms.RetireGrantInput{GrantToken: &bad})
		wantCode(t, err, "InvalidGrantTokenException")
	}
	if _, err := g.fake.Client(customer).RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: &id}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, g.encrypt(role, nil, token), denied)
	wantCode(t, g.encrypt(customer, nil, token), "")
	// Another service's token is none.
	wantCode(t, g.encrypt(role, nil, newGrantToken(newState().Secret, g.key.ARN(), id)), "InvalidGrantTokenException")
}

// A grant, and its end, take their time; a token works before its grant does, and
// brings no revoked grant back. The list tells the new at once.
func TestGrantsPropagate(t *testing.T) {
	g := newGranter(t)
	const delay = time.Minute
	g.fake.Propagation(delay)
	id, token := g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}})
	listed := func() int {
		out, err := g.fake.Client(customer).ListGrants(context.Background(), &kms.ListGrantsInput{KeyId: aws.String(g.key.ID())})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Grants)
	}
	if listed() != 1 {
		t.Error("not listed")
	}
	g.fake.Advance(delay - time.Second)
	wantCode(t, g.encrypt(role, nil), "AccessDeniedException")
	wantCode(t, g.encrypt(role, nil, token), "")
	g.fake.Advance(time.Second)
	wantCode(t, g.encrypt(role, nil), "")

	_, err := g.fake.Client(customer).RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: aws.String(id)})
	wantCode(t, err, "")
	if listed() != 0 {
		t.Error("revoked, and listed")
	}
	g.fake.Advance(delay - time.Second)
	wantCode(t, g.encrypt(role, nil), "")
	_, err = g.fake.Client(customer).RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: aws.String(id)})
	wantCode(t, err, "NotFoundException")
	g.fake.Advance(time.Second)
	wantCode(t, g.encrypt(role, nil), "AccessDeniedException")
	wantCode(t, g.encrypt(role, nil, token), "AccessDeniedException")
}

// A name makes a request repeatable, and nothing else the same.
func TestGrantNames(t *testing.T) {
	g := newGranter(t)
	in := kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt", "Decrypt"}, Name: aws.String("n")}
	id, token := g.grant(in)
	in.Operations = ops{"Decrypt", "Encrypt"}
	again, token2 := g.grant(in)
	if id != again || token == token2 {
		t.Error("a repeated request made another grant, or gave the same token")
	}
	wantCode(t, g.encrypt(role, nil, token2), "")
	for name, change := range map[string]func(*kms.CreateGrantInput){
		"operations": func(in *kms.CreateGrantInput) { in.Operations = ops{"Encrypt"} },
		"grantee":    func(in *kms.CreateGrantInput) { in.GranteePrincipal = aws.String(appRole) },
		"retiring":   func(in *kms.CreateGrantInput) { in.RetiringPrincipal = aws.String(appRole) },
		"name":       func(in *kms.CreateGrantInput) { in.Name = aws.String("m") },
		"no name":    func(in *kms.CreateGrantInput) { in.Name = nil },
		"constraint": func(in *kms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}}
		},
	} {
		other := in
		change(&other)
		if got, _ := g.grant(other); got == id {
			t.Errorf("with another %s it is the same grant", name)
		}
	}
	in.Name = nil
	one, _ := g.grant(in)
	if two, _ := g.grant(in); one == two {
		t.Error("without a name, the same grant twice")
	}
	in.Name, in.DryRun = aws.String("n"), aws.Bool(true)
	_, _, err := g.try(customer, in)
	wantCode(t, err, "DryRunOperationException")
	if _, err := g.fake.Client(customer).RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: &id}); err != nil {
		t.Fatal(err)
	}
	in.DryRun = nil
	if got, _ := g.grant(in); got == id {
		t.Error("a revoked grant came back")
	}
}

// Pages of grants, filters, and whom the lists are for.
func TestGrantLists(t *testing.T) {
	g := newGranter(t)
	other := g.fake.Account(customer).CreateKey("")
	var ids []string
	for i := range 120 {
		grantee := role
		if i%2 == 1 {
			grantee = appRole
		}
		id, _ := g.grant(kms.CreateGrantInput{GranteePrincipal: &grantee, Operations: ops{"Decrypt"}, RetiringPrincipal: aws.String(role)})
		ids = append(ids, id)
	}
	elsewhere := &granter{t, g.fake, other}
	elsewhere.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(appRole), Operations: ops{"Decrypt"}, RetiringPrincipal: aws.String(role)})
	ctx := context.Background()
	for _, limit := range []int32{1, 7, 100, 1000} {
		seen, marker, pages := map[string]bool{}, (*string)(nil), 0
		for {
			out, err := g.fake.Client(customer).ListGrants(ctx, &kms.ListGrantsInput{KeyId: aws.String(g.key.ID()), Limit: &limit, Marker: marker})
			if err != nil || len(out.Grants) > min(int(limit), maxGrantPage) || out.Truncated != (out.NextMarker != nil) {
				t.Fatal(limit, len(out.Grants), err)
			}
			for _, e := range out.Grants {
				seen[*e.GrantId] = true
			}
			if pages++; !out.Truncated {
				break
			}
			marker = out.NextMarker
		}
		if len(seen) != len(ids) || pages != (len(ids)+min(int(limit), maxGrantPage)-1)/min(int(limit), maxGrantPage) {
			t.Errorf("limit %d: %d grants on %d pages", limit, len(seen), pages)
		}
	}
	if list, err := g.list(customer, kms.ListGrantsInput{GranteePrincipal: aws.String(appRole), Limit: aws.Int32(100)}); err != nil || len(list) != 60 {
		t.Error(len(list), err)
	}
	if list, err := g.list(customer, kms.ListGrantsInput{}); err != nil || len(list) != grantPage {
		t.Error(len(list), err)
	}
	if list, err := g.list(customer, kms.ListGrantsInput{GrantId: &ids[7]}); err != nil || len(list) != 1 || *list[0].GrantId != ids[7] {
		t.Error(list, err)
	}
	if list, err := g.list(customer, kms.ListGrantsInput{GrantId: aws.String(newGrantID())}); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	for want, in := range map[string]kms.ListGrantsInput{
		"InvalidGrantIdException": {GrantId: aws.String("x")},
		"InvalidMarkerException":  {Marker: aws.String("%")},
		"InvalidArnException":     {GranteePrincipal: aws.String("bob")},
		"ValidationException":     {GranteeServicePrincipal: aws.String("s3.amazonaws.com")},
	} {
		_, err := g.list(customer, in)
		wantCode(t, err, want)
	}
	_, err := g.list(role, kms.ListGrantsInput{})
	wantCode(t, err, denied)

	retirable := func(who, retiring string) (int, error) {
		out, err := g.fake.Client(who).ListRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: &retiring, Limit: aws.Int32(100)})
		if err != nil {
			return 0, err
		}
		if len(out.Grants) == 100 && !out.Truncated {
			t.Error("121 grants on one page of 100")
		}
		return len(out.Grants), nil
	}
	if n, err := retirable(vendor, role); err != nil || n != 100 {
		t.Error(n, err)
	}
	if n, err := retirable(vendor, "arn:aws:iam::444455556666:role/none"); err != nil || n != 0 {
		t.Error(n, err)
	}
	_, err = retirable(customer, role) // the other account's business
	wantCode(t, err, denied)
	_, err = retirable(role, role)
	wantCode(t, err, denied)
	g.fake.Account(vendor).PutIdentityPolicy(role, `{"Statement":{"Effect":"Allow","Action":"kms:ListRetirableGrants","Resource":"`+role+`"}}`)
	if n, err := retirable(role, role); err != nil || n != 100 {
		t.Error(n, err)
	}
	_, err = retirable(role, vendorUser)
	wantCode(t, err, denied)
}

const vendorUser = "arn:aws:iam::444455556666:user/u"

// What is no grant is refused, with AWS's exception.
func TestGrantValidation(t *testing.T) {
	g := newGranter(t)
	const v, bad = "ValidationException", "InvalidArnException"
	pairs := func(n, size int) map[string]string {
		out := map[string]string{}
		for i := range n {
			out[fmt.Sprintf("%02d", i)] = strings.Repeat("x", size)
		}
		return out
	}
	with := func(c types.GrantConstraints) kms.CreateGrantInput {
		return kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}, Constraints: &c}
	}
	service := kms.CreateGrantInput{GranteeServicePrincipal: aws.String("s3.amazonaws.com"), RetiringPrincipal: aws.String(appRole),
		Operations: ops{"Encrypt"}, Constraints: &types.GrantConstraints{SourceArn: aws.String("arn:aws:s3:::bucket")}}
	without := func(change func(*kms.CreateGrantInput)) kms.CreateGrantInput { in := service; change(&in); return in }
	for i, tc := range []struct {
		in         kms.CreateGrantInput
		code, says string
	}{
		{kms.CreateGrantInput{Operations: ops{"Encrypt"}}, v, "Value null at 'granteePrincipal'"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(""), Operations: ops{"Encrypt"}}, v, "Value '' at 'granteePrincipal'"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String("a b"), Operations: ops{"Encrypt"}}, v, "regular expression pattern: ^[\\w+=,.@:/-]+$"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String("bob"), Operations: ops{"Encrypt"}}, bad, ""},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(vendor), Operations: ops{"Encrypt"}}, bad, ""},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), RetiringPrincipal: aws.String("bob"), Operations: ops{"Encrypt"}}, bad, ""},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{}}, v, "at 'operations'"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"PutKeyPolicy"}}, v, "Value '[PutKeyPolicy]' at 'operations' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [Decrypt, Encrypt"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Sign"}}, v, "Sign is not valid for a grant on a key"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"GenerateMac"}}, v, "GenerateMac is not valid"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}, Name: aws.String("no spaces")}, v, "at 'name'"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}, GrantTokens: make([]string, 11)}, v, "grantTokens"},
		{kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}, GrantTokens: []string{"x"}}, "InvalidGrantTokenException", ""},
		{with(types.GrantConstraints{}), "", ""},
		{with(types.GrantConstraints{EncryptionContextEquals: map[string]string{}}), v, "EncryptionContextEquals must not be empty"},
		{with(types.GrantConstraints{EncryptionContextSubset: pairs(8, 46)}), "", ""},
		{with(types.GrantConstraints{EncryptionContextSubset: pairs(9, 1)}), v, "more than 8 pairs"},
		{with(types.GrantConstraints{EncryptionContextEquals: pairs(8, 47)}), v, "longer than 384"},
		{with(types.GrantConstraints{SourceArn: aws.String("bucket")}), bad, ""},
		{service, "", ""},
		{without(func(in *kms.CreateGrantInput) { in.GranteePrincipal = aws.String(role) }), v, "both"},
		{without(func(in *kms.CreateGrantInput) { in.Constraints = nil }), v, "SourceArn"},
		{without(func(in *kms.CreateGrantInput) { in.RetiringPrincipal = nil }), v, "retiring principal"},
		{without(func(in *kms.CreateGrantInput) { in.RetiringServicePrincipal = aws.String("s3.amazonaws.com") }), v, "both"},
		{without(func(in *kms.CreateGrantInput) { in.GranteeServicePrincipal = aws.String("S3") }), v, "not a service principal"},
	} {
		_, _, err := g.try(customer, tc.in)
		if code(err) != tc.code || tc.code != "" && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("case %d: %v, want %s %q", i, err, tc.code, tc.says)
		}
	}
	ctx := context.Background()
	c := g.fake.Client(customer)
	for _, id := range []string{"alias/x", aliasARN(DefaultRegion, customer, "alias/x")} {
		_, err := c.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}})
		wantCode(t, err, map[bool]string{true: "NotFoundException", false: bad}[id == "alias/x"])
	}
	_, err := c.CreateGrant(ctx, nil)
	if invalid, ok := errors.AsType[smithy.InvalidParamsError](err); !ok || invalid.Len() != 2 {
		t.Error(err)
	}
	for i, in := range []kms.RetireGrantInput{
		{}, {KeyId: aws.String(g.key.ARN())}, {GrantId: aws.String(newGrantID())},
		{KeyId: aws.String(g.key.ARN()), GrantToken: aws.String("x")}, {GrantToken: aws.String("")},
	} {
		if _, err := c.RetireGrant(ctx, &in); code(err) != v {
			t.Errorf("RetireGrant %d: %v", i, err)
		}
	}
	retire := func(who, key, id string) error {
		_, err := g.fake.Client(who).RetireGrant(ctx, &kms.RetireGrantInput{KeyId: &key, GrantId: &id})
		return err
	}
	wantCode(t, retire(customer, g.key.ARN(), newGrantID()), "NotFoundException")
	wantCode(t, retire(customer, g.key.ARN(), "x"), "InvalidGrantIdException")
	// Another account learns neither of keys nor of grants.
	id, _ := g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}})
	var said []string
	for _, err := range []error{retire(role, g.key.ARN(), id), retire(role, g.key.ARN(), newGrantID()), retire(role, keyARN(DefaultRegion, customer, newUUID()), newGrantID())} {
		wantCode(t, err, denied)
		_, text, _ := strings.Cut(err.Error(), denied)
		said = append(said, text)
	}
	if said[0] != said[1] || said[1] != said[2] {
		t.Errorf("%q", said)
	}
}

// The quota of grants on one key, and that so many cost a call nothing.
func TestGrantQuota(t *testing.T) {
	g := newGranter(t)
	k := g.fake.st.Keys[g.key.ARN()]
	for i := range maxGrants - 1 {
		grant := &grantState{ID: fmt.Sprintf("%064x", i), Issuer: customer, Grantee: fmt.Sprintf("arn:aws:iam::444455556666:role/r%d", i), Operations: ops{"Encrypt"}}
		if err := grant.parse(); err != nil {
			t.Fatal(err)
		}
		k.grant(grant)
	}
	in := kms.CreateGrantInput{GranteePrincipal: aws.String(role), Operations: ops{"Encrypt"}, Name: aws.String("last")}
	g.grant(in)
	g.grant(in) // is no other
	wantCode(t, g.encrypt(role, nil), "")
	wantCode(t, g.encrypt("arn:aws:iam::444455556666:role/r49998", nil), "")
	wantCode(t, g.encrypt("arn:aws:iam::444455556666:role/r49999", nil), denied)
	in.Name = nil
	_, _, err := g.try(customer, in)
	wantCode(t, err, "LimitExceededException")
	if own, account := k.grantsTo(g.fake.mustPrincipal(role)); len(own) != 1 || len(account) != 0 {
		t.Errorf("%d and %d grants concern the role", len(own), len(account))
	}
}

// A grant to an account is the account's to give on.
func TestGrantToAnAccount(t *testing.T) {
	for _, account := range []string{customer, vendor} {
		g := newGranter(t)
		g.key.SetPolicy(`{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:CreateGrant","Resource":"*"}}`)
		user := "arn:aws:iam::" + account + ":user/u"
		if _, _, err := g.try(appRole, kms.CreateGrantInput{GranteePrincipal: aws.String("arn:aws:iam::" + account + ":root"), Operations: ops{"Encrypt"}}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, g.encrypt(account, nil), "")
		wantCode(t, g.encrypt(user, nil), denied)
		g.fake.Account(account).PutIdentityPolicy(user, `{"Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}`)
		wantCode(t, g.encrypt(user, nil), "")
	}
}

// Grants are kept, with their key, and their tokens stay good.
func TestGrantsSurviveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms")
	f := New(&Options{TB: t, File: file})
	g := &granter{t, f, f.Account(customer).CreateKey("")}
	id, token := g.grant(kms.CreateGrantInput{GranteePrincipal: aws.String(role), RetiringPrincipal: aws.String(appRole), Operations: ops{"Encrypt", "RetireGrant"},
		Constraints: &types.GrantConstraints{EncryptionContextEquals: map[string]string{"t": "1"}}})
	f.Close()
	f = New(&Options{TB: t, File: file})
	defer f.Close()
	g = &granter{t, f, f.Account(customer).Key(g.key.ARN())}
	wantCode(t, g.encrypt(role, map[string]string{"t": "1"}, token), "")
	wantCode(t, g.encrypt(role, nil, token), denied)
	if _, err := f.Client(appRole).RetireGrant(context.Background(), &kms.RetireGrantInput{GrantToken: &token}); err != nil {
		t.Error(err)
	}
	if list, err := g.list(customer, kms.ListGrantsInput{GrantId: &id}); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}

// A grant's life looks the same over HTTP, down to the types of errors.
func TestGrantsOnBothFaces(t *testing.T) {
	bothFaces(t, func(t *testing.T, f *fixture, c API) {
		ctx := context.Background()
		id := aws.String(f.key.ARN())
		constraints := &types.GrantConstraints{EncryptionContextSubset: map[string]string{"t": "1"}, SourceArn: aws.String("arn:aws:s3:::b")}
		made, err := c.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: id, GranteeServicePrincipal: aws.String("s3.amazonaws.com"),
			RetiringPrincipal: aws.String("arn:aws:iam::111122223333:root"), Operations: ops{"Decrypt", "RetireGrant"}, Constraints: constraints, Name: aws.String("n")})
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.ListGrants(ctx, &kms.ListGrantsInput{KeyId: id, GrantId: made.GrantId})
		if err != nil || len(list.Grants) != 1 {
			t.Fatal(list, err)
		}
		retirable, err := c.ListRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String("arn:aws:iam::111122223333:root")})
		if err != nil || len(retirable.Grants) != 1 || *retirable.Grants[0].GrantId != *made.GrantId {
			t.Fatal(retirable, err)
		}
		for _, e := range append(list.Grants, retirable.Grants...) {
			if *e.GranteeServicePrincipal != "s3.amazonaws.com" || e.GranteePrincipal != nil || *e.Name != "n" || !slices.Equal(e.Operations, ops{"Decrypt", "RetireGrant"}) ||
				e.Constraints.EncryptionContextSubset["t"] != "1" || e.Constraints.EncryptionContextEquals != nil || *e.Constraints.SourceArn != "arn:aws:s3:::b" {
				t.Errorf("%+v", e)
			}
		}
		_, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id, GrantTokens: []string{"bad"}})
		if _, ok := errors.AsType[*types.InvalidGrantTokenException](err); !ok {
			t.Errorf("%v", err)
		}
		_, err = c.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: aws.String("bad")})
		if _, ok := errors.AsType[*types.InvalidGrantIdException](err); !ok {
			t.Errorf("%v", err)
		}
		_, err = c.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: made.GrantId, DryRun: aws.Bool(true)})
		if _, ok := errors.AsType[*types.DryRunOperationException](err); !ok {
			t.Errorf("%v", err)
		}
		if _, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id, GrantTokens: []string{*made.GrantToken}}); err != nil {
			t.Error(err)
		}
		if _, err := c.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: made.GrantToken}); err != nil {
			t.Error(err)
		}
		_, err = c.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: made.GrantId})
		if _, ok := errors.AsType[*types.NotFoundException](err); !ok {
			t.Errorf("%v", err)
		}
	})
}

// Grants, policies, sessions and explanations, everybody at once. A worker is
// allowed between its own grant and its own revocation, and never otherwise.
func TestGrantsConcurrently(t *testing.T) {
	g := newGranter(t)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			who := fmt.Sprintf("arn:aws:iam::444455556666:role/w%d", w)
			c, ctx := g.fake.Client(who).With(Session{Tags: map[string]string{"w": who}}), context.Background()
			use := func() error {
				_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(g.key.ARN()), Plaintext: []byte("x"), EncryptionContext: map[string]string{"w": who}})
				return err
			}
			for range 20 {
				id, _, err := g.try(customer, kms.CreateGrantInput{GranteePrincipal: &who, Operations: ops{"Encrypt"},
					Constraints: &types.GrantConstraints{EncryptionContextEquals: map[string]string{"w": who}}})
				if err != nil {
					t.Error(err)
					return
				}
				if err := use(); err != nil {
					t.Errorf("granted: %v\n%s", err, g.fake.Why(err))
				}
				if _, err := g.fake.Client(customer).RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: aws.String(g.key.ID()), GrantId: &id}); err != nil {
					t.Error(err)
				}
				err = use()
				if why := g.fake.Why(err); code(err) != denied || why == nil || why.Decisions[0].Rule != ruleKeyNoneAcross {
					t.Errorf("revoked: %v\n%s", err, why)
				}
				g.key.DenyTo(who)
				g.key.AllowTo(who)
				g.list(customer, kms.ListGrantsInput{})
			}
		})
	}
	wg.Wait()
}
