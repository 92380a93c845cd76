package kmsfake

import (
	"slices"
	"strings"
)

// question is one authorization decision: may this caller do that to this
// resource? It holds all that the answer depends on and nothing that changes
// afterwards, so that it can be asked again to explain the answer.
type question struct {
	who      *principal
	action   string // "kms:Decrypt"
	lower    string // the same in lower case: actions have none
	resource string // an ARN, or "*"
	strict   bool   // Options.StrictIAM

	// account owns the key. "" is a resource without a key policy, of which the
	// caller's own account decides alone.
	account   string
	keyPolicy *policy

	identities []*identityDoc // of the caller, or of its role
	grants     []candidate    // those to the caller, or to its account
	creating   *grantState    // of CreateGrant: the grant that it would make
	ec         map[string]string

	facts map[string][]string // of the condition keys that the policies mention
}

// candidate is a grant that may concern a question.
type candidate struct {
	*grantState
	visible bool
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

// ruling is a verdict and the rule that led to it, for the explanation.
type ruling struct {
	verdict verdict
	rule    string
}

// decide answers a question.
func (q *question) decide() ruling {
	byKey := outcomeNone
	if q.keyPolicy != nil {
		byKey = q.keyPolicy.evaluate(q)
	}
	return q.conclude(byKey, q.byIdentity(), q.byGrants())
}

// conclude combines what the three sources say. The order matters: an explicit
// deny on either side wins over everything; a grant to the caller is enough, at
// home and across accounts; otherwise the key policy must allow, because in KMS
// nothing else does, not even for the account's root; then, unless the key policy
// names the caller itself and the caller is at home, the caller's own account
// must allow.
func (q *question) conclude(byKey, byIdentity, byGrant outcome) ruling {
	home := q.who.account == q.account
	registered := len(q.identities) > 0
	switch {
	case q.account == "":
		return q.concludeOwn(byIdentity)
	case !home && !crossAccount[q.action]:
		return ruling{noKeyPolicyAllows, ruleNotAcross}
	case byKey == outcomeDeny:
		return ruling{deniedByKeyPolicy, ruleKeyDeny}
	case byIdentity == outcomeDeny:
		return ruling{deniedByIdentity, ruleIdentityDeny}
	case byGrant == outcomeAllow:
		return ruling{allowed, ruleGrant}
	case byKey == outcomeNone && byGrant == outcomeNone:
		if home {
			return ruling{noKeyPolicyAllows, ruleKeyNone}
		}
		return ruling{noKeyPolicyAllows, ruleKeyNoneAcross}
	case byKey == outcomeAllow && home:
		return ruling{allowed, ruleNamed}
	case q.who.kind == kindRoot:
		return ruling{allowed, ruleRoot}
	case byIdentity == outcomeAllow && home:
		return ruling{allowed, ruleDelegated}
	case byIdentity == outcomeAllow:
		return ruling{allowed, ruleBothSides}
	case !home && !registered && !q.strict:
		return ruling{allowed, ruleLenient} // see Options.StrictIAM
	case home:
		return ruling{noIdentityAllows, ruleIdentityNone}
	}
	return ruling{noIdentityAllows, ruleIdentityNoneAcross}
}

// concludeOwn is for what no key policy speaks about: CreateKey, the lists, the
// alias side of alias operations.
func (q *question) concludeOwn(byIdentity outcome) ruling {
	switch {
	case q.who.kind == kindRoot:
		return ruling{allowed, ruleOwnRoot}
	case byIdentity == outcomeDeny:
		return ruling{deniedByIdentity, ruleIdentityDeny}
	case byIdentity == outcomeAllow:
		return ruling{allowed, ruleOwnIdentity}
	case len(q.identities) == 0 && !q.strict:
		return ruling{allowed, ruleLenient}
	}
	return ruling{noIdentityAllows, ruleOwnNone}
}

type outcome uint8

const (
	outcomeNone     outcome = iota
	outcomeDelegate         // allowed to the caller's account, which then decides
	outcomeAllow            // allowed to the caller by name, or to everybody
	outcomeDeny
)

// byIdentity is what the identity policies of the caller say.
func (q *question) byIdentity() (out outcome) {
	for _, d := range q.identities {
		out = max(out, d.policy.evaluate(q)) // outcomeDeny is the largest
	}
	return out
}

// byGrants is what the grants on the key say. A grant to an account is a
// delegation, as in a key policy: the account decides who of it may.
func (q *question) byGrants() (out outcome) {
	for i := range q.grants {
		if q.grants[i].misses(q) == grantMatches {
			out = max(out, q.grants[i].outcome())
		}
	}
	return out
}

func (g *grantState) outcome() outcome {
	if g.grantee.kind == kindRoot {
		return outcomeDelegate
	}
	return outcomeAllow
}

// evaluate is what one policy says about q.
func (p *policy) evaluate(q *question) outcome {
	best := outcomeNone
	for i := range p.statements {
		s := &p.statements[i]
		out, why := s.apply(q)
		if why != applies {
			continue
		}
		if s.deny {
			return outcomeDeny
		}
		best = max(best, out)
	}
	return best
}

// miss is the first reason why a statement does not apply.
type miss uint8

const (
	applies miss = iota
	missPrincipal
	missAction
	missResource
	missCondition
)

// apply is how a statement speaks about q, if it does.
func (s *statement) apply(q *question) (outcome, miss) {
	out := outcomeAllow
	if s.principals != nil {
		if out = s.names(q.who); out == outcomeNone {
			return out, missPrincipal
		}
	}
	if slices.ContainsFunc(s.actions, func(a value) bool { return glob(q.lower, a.text) }) == s.notAction {
		return outcomeNone, missAction
	}
	if slices.ContainsFunc(s.resources, func(r value) bool { return r.matchesResource(q) }) == s.notResource {
		return outcomeNone, missResource
	}
	for i := range s.conditions {
		if c := &s.conditions[i]; !c.holds(q) {
			return outcomeNone, missCondition
		}
	}
	return out, applies
}

func (v *value) matchesResource(q *question) bool {
	text, ok := v.expand(q)
	return ok && glob(q.resource, text)
}

// named is by what a caller is listed in a Principal or NotPrincipal element: as
// anybody, as its account, as its user or role, as its session.
type named struct{ anybody, account, self, session bool }

func (s *statement) named(who *principal) (n named) {
	for i := range s.principals {
		ref := &s.principals[i]
		switch {
		case ref.never:
		case ref.any:
			n.anybody = true
		case ref.principal.kind == kindRoot: // the account, not only its root user
			n.account = n.account || ref.principal.account == who.account
		case who.is(&ref.principal) && ref.principal.session != "":
			n.session = true
		case who.is(&ref.principal):
			n.self = true
		}
	}
	return n
}

// names is how a statement speaks about the caller: outcomeAllow by name or as
// anybody, outcomeDelegate as a member of its account, outcomeNone not at all.
func (s *statement) names(who *principal) outcome {
	n := s.named(who)
	switch {
	case s.notPrincipal && n.spared(who, s.deny):
		return outcomeNone
	case s.notPrincipal, n.anybody, n.self, n.session:
		return outcomeAllow
	case n.account:
		return outcomeDelegate
	}
	return outcomeNone
}

// spared reports whether a NotPrincipal excepts the caller. AWS looks at the
// account, then at the user or role, then at the session, and a Deny excepts only
// whom all of these except: a role that is listed alone is denied.
func (n named) spared(who *principal, deny bool) bool {
	switch {
	case n.anybody:
		return true
	case !deny:
		return n.account || n.self || n.session
	case who.kind == kindRoot:
		return n.account
	case who.kind == kindRole:
		return n.account && n.self && n.session
	}
	return n.account && n.self
}

// ask makes the question of a call: what policies and grants there are, as of now,
// and what of the request they depend on.
func (r *request) ask(k *keyState, a *aim, alias string) *question {
	q := r.newQuestion(a, k.ARN())
	q.account, q.keyPolicy = k.Account, k.policy
	own, account := k.grantsTo(r.who)
	if n := len(own) + len(account); n > 0 {
		tokens, _ := r.presented() // checked before
		q.grants = make([]candidate, 0, n)
		for _, some := range [][]*grantState{own, account} {
			for _, g := range some {
				q.grants = append(q.grants, candidate{g, g.visible(r.now, tokens[q.resource+" "+g.ID])})
			}
		}
		q.ec = cloneContext(a.ec) // the caller's map may change
	}
	q.gather(&asked{request: r, aim: a, key: k, alias: alias})
	return q
}

// askOwn is the question about a resource without a key policy. k is a key that it
// has to do with, or nil.
func (r *request) askOwn(a *aim, resource string, k *keyState) *question {
	q := r.newQuestion(a, resource)
	q.gather(&asked{request: r, aim: a, key: k})
	return q
}

func (r *request) newQuestion(a *aim, resource string) *question {
	return &question{
		who: r.who, action: a.action, lower: strings.ToLower(a.action), resource: resource, strict: r.f.strict,
		identities: r.st.Identities[r.who.identity()], creating: a.creating,
	}
}
