package kmsfake

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strconv"
	"strings"
	"time"
)

// asked is what a decision is about, before any policy is read.
type asked struct {
	*request
	aim   *aim
	key   *keyState // nil for what has no key
	alias string    // how the key was named, if by alias
}

// gather finds the request's values for the condition keys that the policies and
// grants mention, once: the decision and its explanation then see the same,
// whatever happens to tags and aliases between them.
func (q *question) gather(from *asked) {
	if q.keyPolicy != nil {
		q.gatherKeys(from, q.keyPolicy.keys)
	}
	for _, d := range q.identities {
		q.gatherKeys(from, d.policy.keys)
	}
	for i := range q.grants {
		if q.grants[i].Constraints.SourceARN != "" {
			q.gatherKeys(from, sourceARN)
		}
	}
}

var sourceARN = []string{"aws:sourcearn"}

func (q *question) gatherKeys(from *asked, keys []string) {
	for _, key := range keys {
		if _, done := q.facts[key]; done {
			continue
		}
		if q.facts == nil {
			q.facts = make(map[string][]string, len(keys))
		}
		q.facts[key] = from.values(key)
	}
}

// values are the request's values for a condition key in lower case; nil if it has
// none. A key that this fake does not know is one that no request carries.
func (a *asked) values(key string) []string {
	if s := a.session; s != nil {
		if v, ok := s.Keys[key]; ok {
			return v
		}
	}
	if v, ok := a.aim.extra[key]; ok {
		return v
	}
	for _, from := range [...]func(string) ([]string, bool){a.principalFact, a.callFact, a.keyFact} {
		if v, ok := from(key); ok {
			return v
		}
	}
	return nil
}

func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// principalFact is about who calls, and from where.
func (a *asked) principalFact(key string) ([]string, bool) {
	var s Session
	if a.session != nil {
		s = *a.session
	}
	if name, ok := strings.CutPrefix(key, "aws:principaltag/"); ok {
		return byFoldedName(s.Tags, name), true
	}
	who := a.who
	switch key {
	case "kms:calleraccount": // of operations on keys only
		if a.key == nil {
			return nil, true
		}
		return one(who.account), true
	case "aws:principalaccount":
		return one(who.account), true
	case "aws:principalarn":
		return one(who.policyARN()), true
	case "aws:principalorgid":
		return one(a.st.Organizations[who.account]), true
	case "aws:principaltype":
		return one(map[principalKind]string{
			kindRoot: "Account", kindUser: "User", kindRole: "AssumedRole", kindFederated: "FederatedUser"}[who.kind]), true
	case "aws:userid":
		return one(who.userID()), true
	case "aws:username":
		if who.kind != kindUser {
			return nil, true
		}
		return one(who.name), true
	case "kms:viaservice":
		if a.key == nil {
			return nil, true
		}
		return one(s.ViaService), true
	case "kms:grantisforawsresource":
		switch a.aim.action {
		case "kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant":
			return one(strconv.FormatBool(s.ViaService != "")), true
		}
		return nil, true
	case "aws:viaawsservice":
		return one(strconv.FormatBool(s.ViaService != "")), true
	case "aws:principalisawsservice":
		return one("false"), true
	case "aws:sourceip":
		return one(s.SourceIP), true
	case "aws:securetransport": // AWS has no other, and the fake stands for AWS
		return one("true"), true
	}
	return nil, false
}

// callFact is about the call: when, where, and what it encrypts.
func (a *asked) callFact(key string) ([]string, bool) {
	if name, ok := strings.CutPrefix(key, "kms:encryptioncontext:"); ok {
		return byFoldedName(a.aim.ec, name), true
	}
	switch key {
	case "kms:encryptioncontextkeys":
		keys := make([]string, 0, len(a.aim.ec))
		for k := range a.aim.ec {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		return keys, true
	case "kms:encryptionalgorithm":
		return one(a.aim.alg), true
	case "kms:requestalias":
		return one(a.alias), true
	case "aws:requestedregion":
		return one(a.region), true
	case "aws:currenttime":
		return one(a.now.UTC().Format(time.RFC3339)), true
	case "aws:epochtime":
		return one(strconv.FormatInt(a.now.Unix(), 10)), true
	}
	if g := a.aim.creating; g != nil {
		return g.fact(key)
	}
	return nil, false
}

// fact is about the grant that a CreateGrant would make.
func (g *grantState) fact(key string) ([]string, bool) {
	switch key {
	case "kms:granteeprincipal":
		return one(g.Grantee), true
	case "kms:granteeserviceprincipal":
		return one(g.GranteeService), true
	case "kms:retiringprincipal":
		return one(g.Retiring), true
	case "kms:retiringserviceprincipal":
		return one(g.RetiringService), true
	case "kms:grantoperations":
		out := make([]string, len(g.Operations))
		for i, op := range g.Operations {
			out[i] = string(op)
		}
		return out, true
	case "kms:grantconstrainttype":
		var out []string
		if g.Constraints.Equals != nil {
			out = append(out, "EncryptionContextEquals")
		}
		if g.Constraints.Subset != nil {
			out = append(out, "EncryptionContextSubset")
		}
		if g.Constraints.SourceARN != "" {
			out = append(out, "SourceArn")
		}
		return out, true
	}
	return nil, false
}

// keyFact is about the key.
func (a *asked) keyFact(key string) ([]string, bool) {
	k := a.key
	if k == nil {
		return nil, false
	}
	switch key {
	case "aws:resourceaccount":
		return one(k.Account), true
	case "aws:resourceorgid":
		return one(a.st.Organizations[k.Account]), true
	}
	if name, ok := strings.CutPrefix(key, "aws:resourcetag/"); ok {
		return k.tagValue(name), true
	}
	switch key {
	case "kms:resourcealiases":
		var names []string
		for _, alias := range a.st.Aliases {
			if alias.Account == k.Account && alias.Region == k.Region && alias.Target == k.ID {
				names = append(names, alias.Name)
			}
		}
		slices.Sort(names)
		return names, true
	}
	v, ok := k.attributes()[key]
	return v, ok
}

// byFoldedName finds a pair by a name in lower case, as conditions do. With
// {tenant, Tenant} in one context the name is ambiguous unless one of them is
// spelled in lower case: then the pair is taken as absent, which an Allow does not
// match and a Deny-unless does.
func byFoldedName(pairs map[string]string, lower string) []string {
	if v, ok := pairs[lower]; ok {
		return []string{v}
	}
	var found []string
	for k, v := range pairs {
		if strings.EqualFold(k, lower) {
			if found != nil {
				return nil
			}
			found = []string{v}
		}
	}
	return found
}

// userID is aws:userid: made up as AWS makes them up, and stable.
func (p *principal) userID() string {
	sum := sha256.Sum256([]byte(p.policyARN()))
	id := base32.StdEncoding.EncodeToString(sum[:])[:17]
	switch p.kind {
	case kindUser:
		return "AIDA" + id
	case kindRole:
		return "AROA" + id + ":" + p.sessionName()
	case kindFederated:
		return p.account + ":" + p.name
	}
	return p.account
}
