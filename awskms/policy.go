package awskms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/byok-go/byok"
)

// Policy is the key policy of a CMK, bound to one tenant. Print it with JSON or
// Terraform. The zero Policy is invalid.
type Policy struct {
	doc     *policyDocument
	service string
	err     error
}

// KeyPolicy returns the key policy that lets principalARN, the role of the
// platform, use a CMK of account for one tenant: the one whose
// [byok.Tenant.EncryptionContext] ec is.
//
//	fmt.Println(awskms.KeyPolicy("111122223333", role, keeper.Tenant("acme").EncryptionContext()).JSON())
//
// It has three statements. The first gives the key to its own account; without
// it, nobody could ever change the policy again. The second lets the role
// encrypt, decrypt and generate data keys, with the tenant's id and the
// platform's service name in the encryption context and not otherwise. The third,
// DescribeKey, is optional and may be left out: it lets the platform say
// why a key does not work and when it will be deleted. It is apart from the second
// because DescribeKey carries no encryption context and would never match.
//
// Arguments that make no policy (an account that is not 12 digits, a principal
// that is not the ARN of one role or user, no tenant) are told by Err. What JSON and
// Terraform then return is neither, but text with the reason, so that whatever it
// is pasted into refuses it: no mistake here can become a policy.
func KeyPolicy(account, principalARN string, ec byok.EncryptionContext) Policy {
	doc, err := newPolicy(account, principalARN, ec)
	if err != nil {
		return Policy{err: err}
	}
	return Policy{doc: doc, service: ec[byok.ContextService]}
}

// Err returns why there is no policy, or nil.
func (p Policy) Err() error {
	if p.doc == nil && p.err == nil {
		return errors.New("awskms: no policy: use KeyPolicy")
	}
	return p.err
}

// JSON returns the policy as KMS takes it.
func (p Policy) JSON() string {
	if err := p.Err(); err != nil {
		return err.Error()
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p.doc); err != nil {
		panic("byok: internal error: " + err.Error()) // strings only
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Terraform returns a resource "aws_kms_key" "byok" that has the policy, and
// yearly rotation.
func (p Policy) Terraform() string {
	if err := p.Err(); err != nil {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString("resource \"aws_kms_key\" \"byok\" {\n")
	b.WriteString("  description             = " + hclString("Customer-managed key (CMK) for "+p.service) + "\n")
	b.WriteString("  enable_key_rotation     = true\n")
	b.WriteString("  deletion_window_in_days = 30\n\n")
	b.WriteString("  policy = jsonencode({\n    Version = \"2012-10-17\"\n    Statement = [\n")
	for _, s := range p.doc.Statement {
		b.WriteString("      {\n")
		line := func(name, value string) { fmt.Fprintf(&b, "        %-9s = %s\n", name, value) }
		line("Sid", hclString(s.Sid))
		line("Effect", hclString(s.Effect))
		line("Principal", "{ AWS = "+hclString(s.Principal.AWS)+" }")
		actions := make([]string, len(s.Action))
		for i, a := range s.Action {
			actions[i] = hclString(a)
		}
		line("Action", "["+strings.Join(actions, ", ")+"]")
		line("Resource", hclString(s.Resource))
		if c := s.Condition; c != nil {
			b.WriteString("        Condition = {\n          StringEquals = {\n")
			for _, kv := range c.StringEquals.pairs() {
				fmt.Fprintf(&b, "            %-33s = %s\n", hclString(kv[0]), hclString(kv[1]))
			}
			b.WriteString("          }\n        }\n")
		}
		b.WriteString("      },\n")
	}
	b.WriteString("    ]\n  })\n}\n")
	return b.String()
}

// The document, with its members in the order in which people read them.
type policyDocument struct {
	Version   string
	Statement []policyStatement
}

type policyStatement struct {
	Sid       string
	Effect    string
	Principal struct{ AWS string }
	Action    []string
	Resource  string
	Condition *policyCondition `json:",omitempty"`
}

type policyCondition struct{ StringEquals boundContext }

// boundContext is the two members of the encryption context that never change
// for a tenant. The others, purpose and data_key_id, do.
type boundContext struct {
	Service string `json:"kms:EncryptionContext:service"`
	Tenant  string `json:"kms:EncryptionContext:tenant_id"`
}

func (c boundContext) pairs() [2][2]string {
	return [2][2]string{
		{"kms:EncryptionContext:" + byok.ContextService, c.Service},
		{"kms:EncryptionContext:" + byok.ContextTenant, c.Tenant},
	}
}

// principalSyntax is one role or one user. The account's root is left out, since
// it would let in everybody there; so are sessions, which come and go.
var principalSyntax = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):iam::\d{12}:(role|user)/([A-Za-z0-9+=,.@_-]+/)*[A-Za-z0-9+=,.@_-]{1,64}$`)

func newPolicy(account, principalARN string, ec byok.EncryptionContext) (*policyDocument, error) {
	principal := principalSyntax.FindStringSubmatch(principalARN)
	switch {
	case !accountSyntax.MatchString(account):
		return nil, errors.New("awskms: no policy: the account is not 12 digits")
	case principal == nil || len(principalARN) > 640:
		return nil, errors.New("awskms: no policy: the principal is not the ARN of one IAM role or user")
	}
	for _, name := range []string{byok.ContextTenant, byok.ContextService} {
		if !boundable(ec[name]) {
			return nil, fmt.Errorf("awskms: no policy: the encryption context has no usable %s", name)
		}
	}
	statement := func(sid, who string, actions ...string) policyStatement {
		s := policyStatement{Sid: sid, Effect: "Allow", Action: actions, Resource: "*"} // "*" is this key
		s.Principal.AWS = who
		return s
	}
	use := statement("ByokUseForThisTenant", principalARN, "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey")
	use.Condition = &policyCondition{StringEquals: boundContext{
		Service: literal(ec[byok.ContextService]),
		Tenant:  literal(ec[byok.ContextTenant]),
	}}
	return &policyDocument{Version: "2012-10-17", Statement: []policyStatement{
		statement("AccountAdministersTheKey", "arn:"+principal[1]+":iam::"+account+":root", "kms:*"),
		use,
		statement("ByokDescribeOptional", principalARN, "kms:DescribeKey"),
	}}, nil
}

// boundable is what a Keeper takes as a tenant or a service: an empty value would
// bind the key to nobody, and a Keeper never sends one.
func boundable(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// literal escapes a value against policy variables, which AWS expands in the
// values of StringEquals too: the tenant "${aws:username}" must not match others.
// Wildcards mean nothing to StringEquals.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
func literal(s string) string { return strings.ReplaceAll(s, "${", "${$}{") }

// hclString is a quoted template of HCL without a template in it. "$" and "%" are
// written by number: "$${" is the usual escape of "${", but is itself read
// differently after another "$".
func hclString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) { // ASCII: boundable and the patterns saw to that
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '$' || c == '%':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
