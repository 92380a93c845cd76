package kmsfake

import (
	"slices"
	"sort"
	"strconv"
	"strings"
)

// question is one authorization decision: may this caller do that to this key?
type question struct {
	who     *principal
	action  string // "kms:Decrypt"
	key     *keyState
	region  string
	ec      map[string]string
	alg     string // EncryptionAlgorithm, of the operations that have one
	seconds int64  // since the epoch
	extra   map[string][]string
	alias   string // how the key was named, if by alias

	creating *grantState            // of CreateGrant: the grant that it would make
	visible  func(*grantState) bool // does a grant count for this call?
}

// verdict says who decided. AWS words its messages by it, and callers tell
// "the customer stopped us" from "our own role is broken" by nothing else.
type verdict uint8

const (
	allowed verdict = iota
	deniedByKeyPolicy
	deniedByIdentity
	noKeyPolicyAllows
	noIdentityAllows
)

func (v verdict) because(action string) string {
	switch v {
	case deniedByKeyPolicy:
		return "with an explicit deny in a resource-based policy"
	case deniedByIdentity:
		return "with an explicit deny in an identity-based policy"
	case noKeyPolicyAllows:
		return "because no resource-based policy allows the " + action + " action"
	case noIdentityAllows:
		return "because no identity-based policy allows the " + action + " action"
	}
	return ""
}

// crossAccount are the actions that a principal of another account can be given
// (those of operations that are not built yet, too); "kms:*" gives it no others.
var crossAccount = map[string]bool{
	"kms:Encrypt": true, "kms:Decrypt": true, "kms:ReEncryptFrom": true, "kms:ReEncryptTo": true,
	"kms:GenerateDataKey": true, "kms:GenerateDataKeyWithoutPlaintext": true,
	"kms:DescribeKey": true, "kms:GetKeyRotationStatus": true,
	"kms:CreateGrant": true, "kms:ListGrants": true, "kms:RevokeGrant": true, "kms:RetireGrant": true,
	"kms:GenerateDataKeyPair": true, "kms:GenerateDataKeyPairWithoutPlaintext": true,
	"kms:GenerateMac": true, "kms:VerifyMac": true, "kms:Sign": true, "kms:Verify": true,
	"kms:GetPublicKey": true, "kms:DeriveSharedSecret": true, "kms:Encapsulate": true, "kms:Decapsulate": true,
}

// decide evaluates a question about a key. The order matters: an explicit deny
// on either side wins over everything; a grant to the caller is enough, at home
// and across accounts; otherwise the key policy must allow, because in KMS
// nothing else does, not even for the account's root; then, unless the key policy
// names the caller itself and the caller is at home, the caller's own account
// must allow.
func (st *state) decide(q *question, strict bool) verdict {
	home := q.who.account == q.key.Account
	if !home && !crossAccount[q.action] {
		return noKeyPolicyAllows
	}
	byKey := q.key.policy.evaluate(q)
	byIdentity, registered := st.identity(q)
	switch {
	case byKey == outcomeDeny:
		return deniedByKeyPolicy
	case byIdentity == outcomeDeny:
		return deniedByIdentity
	}
	byGrant := q.byGrants()
	switch {
	case byGrant == outcomeAllow:
		return allowed
	case byKey == outcomeNone && byGrant == outcomeNone:
		return noKeyPolicyAllows
	case byKey == outcomeAllow && home, q.who.kind == kindRoot, byIdentity == outcomeAllow:
		return allowed
	case !home && !registered && !strict:
		return allowed // see Options.StrictIAM
	}
	return noIdentityAllows
}

// byGrants is what the grants on the key say. A grant to an account is a
// delegation, as in a key policy: the account decides who of it may.
func (q *question) byGrants() outcome {
	own, account := q.key.grantsTo(q.who)
	for _, g := range own {
		if g.misses(q, q.visible(g)) == grantMatches {
			return outcomeAllow
		}
	}
	for _, g := range account {
		if g.misses(q, q.visible(g)) == grantMatches {
			return outcomeDelegate
		}
	}
	return outcomeNone
}

// decideOwn evaluates an operation that no key policy speaks about: CreateKey,
// the lists, the alias side of alias operations. resource is its ARN, or "*".
func (st *state) decideOwn(q *question, resource string, strict bool) verdict {
	if q.who.kind == kindRoot {
		return allowed
	}
	out, registered := st.identityOn(q, resource)
	switch {
	case out == outcomeDeny:
		return deniedByIdentity
	case out == outcomeAllow, !registered && !strict:
		return allowed
	}
	return noIdentityAllows
}

type outcome uint8

const (
	outcomeNone     outcome = iota
	outcomeDelegate         // allowed to the caller's account, which then decides
	outcomeAllow            // allowed to the caller by name, or to everybody
	outcomeDeny
)

// evaluate is what one policy says about q.
func (p *policy) evaluate(q *question) outcome { return p.evaluateOn(q, q.key.ARN()) }

func (p *policy) evaluateOn(q *question, resource string) outcome {
	best := outcomeNone
	for i := range p.statements {
		s := &p.statements[i]
		if !s.covers(q, resource) {
			continue
		}
		out := outcomeAllow
		if s.principals != nil {
			if out = s.names(q.who); out == outcomeNone {
				continue
			}
		}
		if s.deny {
			return outcomeDeny
		}
		best = max(best, out)
	}
	return best
}

// covers reports whether everything but the principal matches.
func (s *statement) covers(q *question, resource string) bool {
	action := strings.ToLower(q.action)
	if slices.ContainsFunc(s.actions, func(a string) bool { return glob(action, a) }) == s.notAction {
		return false
	}
	onResource := func(r string) bool { return r == "*" || glob(resource, r) }
	if slices.ContainsFunc(s.resources, onResource) == s.notResource {
		return false
	}
	for i := range s.conditions {
		if c := &s.conditions[i]; !c.holds(q.value(c.key)) {
			return false
		}
	}
	return true
}

// names is how a statement speaks about the caller: outcomeAllow by name or as
// anybody, outcomeDelegate as a member of its account, outcomeNone not at all.
func (s *statement) names(who *principal) outcome {
	best := outcomeNone
	for i := range s.principals {
		ref := &s.principals[i]
		switch {
		case ref.never:
		case ref.any:
			best = outcomeAllow
		case ref.principal.kind == kindRoot: // the account, not only its root user
			if ref.principal.account == who.account {
				best = max(best, outcomeDelegate)
			}
		case who.is(&ref.principal):
			best = outcomeAllow
		}
	}
	if !s.notPrincipal {
		return best
	}
	if best == outcomeNone {
		return outcomeAllow
	}
	return outcomeNone
}

// identity combines the identity policies of the caller on the key.
func (st *state) identity(q *question) (out outcome, registered bool) {
	return st.identityOn(q, q.key.ARN())
}

func (st *state) identityOn(q *question, resource string) (out outcome, registered bool) {
	policies := st.Identities[q.who.identity()]
	for _, p := range policies {
		out = max(out, p.policy.evaluateOn(q, resource)) // outcomeDeny is the largest
	}
	return out, len(policies) > 0
}

// value is the request's value for a condition key; nil if it has none. Keys
// that this fake does not know are keys that the request does not carry.
func (q *question) value(key string) []string {
	if name, ok := strings.CutPrefix(key, "kms:encryptioncontext:"); ok {
		return q.contextValue(name)
	}
	if v, ok := q.extra[key]; ok {
		return v
	}
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	switch key {
	case "kms:encryptioncontextkeys":
		keys := make([]string, 0, len(q.ec))
		for k := range q.ec {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		return keys
	case "kms:encryptionalgorithm":
		return one(q.alg)
	case "kms:calleraccount", "aws:principalaccount":
		return one(q.who.account)
	case "kms:requestalias":
		return one(q.alias)
	case "aws:principalarn":
		return one(q.who.policyARN())
	case "aws:principaltype":
		return one(map[principalKind]string{
			kindRoot: "Account", kindUser: "User", kindRole: "AssumedRole", kindFederated: "FederatedUser"}[q.who.kind])
	case "aws:requestedregion":
		return one(q.region)
	case "aws:epochtime", "aws:currenttime":
		return one(strconv.FormatInt(q.seconds, 10))
	}
	if q.key == nil {
		return nil
	}
	if name, ok := strings.CutPrefix(key, "aws:resourcetag/"); ok {
		return q.key.tagValue(name)
	}
	switch key {
	case "aws:resourceaccount":
		return one(q.key.Account)
	}
	return q.key.attributes()[key]
}

// contextValue finds a context pair by a name without case, as conditions do.
// With {tenant, Tenant} in one context the name is ambiguous unless one of them
// is spelled as the policy spells it in lower case: then the pair is taken as
// absent, which an Allow does not match and a Deny-unless does.
func (q *question) contextValue(lower string) []string {
	if v, ok := q.ec[lower]; ok {
		return []string{v}
	}
	var found []string
	for k, v := range q.ec {
		if strings.EqualFold(k, lower) {
			if found != nil {
				return nil
			}
			found = []string{v}
		}
	}
	return found
}
