package kmsfake

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

var errLockout = fail("MalformedPolicyDocumentException",
	"The new key policy will not allow you to update the key policy in the future.")

// malformed is the refusal of a policy. Its size is a quota, not a fault of its form.
func malformed(err error) error {
	if errors.Is(err, errPolicySize) {
		return fail("LimitExceededException", "%v", err)
	}
	return fail("MalformedPolicyDocumentException", "%v", err)
}

const policyPattern = `[\u0009\u000A\u000D\u0020-\u00FF]+`

var policyChars = regexp.MustCompile(`^[\x09\x0A\x0D\x20-\x{FF}]+$`)

// policy checks the characters of a policy document, before anybody reads it.
func (c *checks) policy(s *string) {
	if s != nil && *s != "" && len(*s) <= 131072 && !policyChars.MatchString(*s) {
		c.add("", "policy", "satisfy regular expression pattern: "+policyPattern)
	}
}

// defaultPolicy is what KMS gives a key that is created without a policy: the
// account, that is its IAM, decides.
func defaultPolicy(region, account string) string {
	return fmt.Sprintf(`{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:%s:iam::%s:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`, partitionOf(region), account)
}

// keepsControl is the lockout safety check: under p, could this caller put
// another policy? A delegation to its account counts.
func (r *request) keepsControl(p *policy, k *keyState) bool {
	under := *k
	under.policy = p
	out := p.evaluate(r.ask(&under, &aim{action: "kms:PutKeyPolicy"}, ""))
	return out == outcomeAllow || out == outcomeDelegate
}

// policyName checks that a policy is called "default", the only name there is.
func policyName(name *string) error {
	if name != nil && *name != "default" {
		return fail("NotFoundException", "No such policy exists")
	}
	return nil
}

func (r *request) putKeyPolicy(in *kms.PutKeyPolicyInput) (*kms.PutKeyPolicyOutput, error) {
	extra := map[string][]string{"kms:bypasspolicylockoutsafetycheck": {strconv.FormatBool(in.BypassPolicyLockoutSafetyCheck)}}
	k, err := r.aboutKeyWith(in.KeyId, extra, func(c *checks) {
		c.policyName(in.PolicyName)
		c.need("policy", in.Policy, 1, 131072)
		c.policy(in.Policy)
	})
	if err := firstOf(err, policyName(in.PolicyName)); err != nil {
		return nil, err
	}
	p, err := parsePolicy(*in.Policy, true)
	if err != nil {
		return nil, malformed(err)
	}
	if !in.BypassPolicyLockoutSafetyCheck && !r.keepsControl(p, k) {
		return nil, errLockout
	}
	k.Policy, k.policy, r.f.dirty = *in.Policy, p, true
	return &kms.PutKeyPolicyOutput{}, nil
}

func (r *request) getKeyPolicy(in *kms.GetKeyPolicyInput) (*kms.GetKeyPolicyOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.policyName(in.PolicyName) })
	if err := firstOf(err, policyName(in.PolicyName)); err != nil {
		return nil, err
	}
	return &kms.GetKeyPolicyOutput{Policy: aws.String(k.Policy), PolicyName: aws.String("default")}, nil
}

func (r *request) listKeyPolicies(in *kms.ListKeyPoliciesInput) (*kms.ListKeyPoliciesOutput, error) {
	_, err := r.aboutKey(in.KeyId, func(c *checks) { c.page(in.Limit, in.Marker) })
	if err != nil {
		return nil, err
	}
	if in.Marker != nil {
		return nil, fail("InvalidMarkerException", "Invalid marker")
	}
	return &kms.ListKeyPoliciesOutput{PolicyNames: []string{"default"}}, nil
}
