package kmsfake

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// explain asks the question again, of every statement and grant, and says what
// each answered. It must not come to another answer than decide: they share apply,
// misses and conclude.
func (d *decided) explain() Decision {
	q := d.q
	out := Decision{
		Action: q.action, Resource: q.resource, Allowed: d.by.verdict == allowed, Rule: d.by.rule, Request: maps.Clone(q.facts),
	}
	for key, values := range out.Request {
		out.Request[key] = slices.Clone(values)
	}
	if q.keyPolicy != nil {
		out.KeyPolicy = q.keyPolicy.findings(q, "")
	}
	for i, doc := range q.identities {
		in := ""
		if len(q.identities) > 1 {
			in = " of policy " + strconv.Itoa(i+1)
		}
		out.Identity = append(out.Identity, doc.policy.findings(q, in)...)
	}
	for i := range q.grants {
		out.Grants = append(out.Grants, q.grants[i].finding(q))
	}
	out.By = d.decider(&out)
	return out
}

// decider names what decided, if it was one thing.
func (d *decided) decider(out *Decision) string {
	first := func(all []Finding, effect string, suffix string) string {
		found := ""
		for i := range all {
			if f := &all[i]; f.Applies && f.Effect == effect {
				if !f.Delegates { // one by name says more than one that delegates
					return f.Name + suffix
				}
				if found == "" {
					found = f.Name + suffix
				}
			}
		}
		return found
	}
	const ofKey, ofIdentity = " of the key policy", " of the caller's identity policies"
	switch d.by.rule {
	case ruleKeyDeny:
		return first(out.KeyPolicy, "Deny", ofKey)
	case ruleIdentityDeny:
		return first(out.Identity, "Deny", ofIdentity)
	case ruleGrant:
		return first(out.Grants, "Allow", "")
	case ruleNamed, ruleRoot:
		if by := first(out.KeyPolicy, "Allow", ofKey); by != "" {
			return by
		}
		return first(out.Grants, "Allow", "")
	case ruleDelegated, ruleBothSides, ruleOwnIdentity:
		return first(out.Identity, "Allow", ofIdentity)
	}
	return ""
}

func (p *policy) findings(q *question, in string) (all []Finding) {
	for i := range p.statements {
		s := &p.statements[i]
		f := Finding{Name: "statement " + strconv.Itoa(i+1), Effect: "Allow"}
		if s.sid != "" {
			f.Name += " (" + s.sid + ")"
		}
		f.Name += in
		if s.deny {
			f.Effect = "Deny"
		}
		out, why := s.apply(q)
		f.Applies = why == applies
		f.Delegates = f.Applies && !s.deny && out == outcomeDelegate
		f.Why = s.because(q, why)
		all = append(all, f)
	}
	return all
}

// because says in words why a statement does not apply.
func (s *statement) because(q *question, why miss) string {
	not := func(negated bool, element string) string {
		if negated {
			return "Not" + element
		}
		return element
	}
	raw := func(values []value) (out []string) {
		for i := range values {
			out = append(out, values[i].raw)
		}
		return out
	}
	switch why {
	case missPrincipal:
		var names []string
		for i := range s.principals {
			names = append(names, s.principals[i].String())
		}
		return not(s.notPrincipal, "Principal") + " is " + some3(names) + ", the caller " + q.who.caller()
	case missAction:
		return not(s.notAction, "Action") + " is " + some3(raw(s.actions)) + ", the call " + q.action
	case missResource:
		return not(s.notResource, "Resource") + " is " + some3(raw(s.resources)) + ", the call's " + q.resource
	case missCondition:
		var all []string
		for i := range s.conditions {
			if c := &s.conditions[i]; !c.holds(q) {
				all = append(all, c.because(q))
			}
		}
		return strings.Join(all, "; ")
	}
	return ""
}

func (ref *principalRef) String() string {
	switch {
	case ref.any:
		return "*"
	case ref.never:
		return ref.name
	case ref.principal.kind == kindRoot:
		return "account " + ref.principal.account
	}
	return ref.principal.arn
}

// because says what a condition wanted, and what the request had.
func (c *condition) because(q *question) string {
	var want []string
	for i := range c.values {
		v := &c.values[i]
		text := quote(v.raw)
		if v.parts != nil {
			if got, ok := v.expand(q); ok {
				text += " (here " + quote(unwild(got)) + ")"
			} else {
				text += " (which this request does not have)"
			}
		}
		want = append(want, text)
	}
	has := "none"
	if values := q.facts[c.key]; len(values) > 0 {
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = quote(v)
		}
		has = some3(quoted)
	}
	return c.operator + " wants " + c.name + " " + some3(want) + ", the request has " + has
}

// finding is what a grant says about the call.
func (g *candidate) finding(q *question) Finding {
	why := g.misses(q)
	f := Finding{Name: "grant " + g.ID, Effect: "Allow", Applies: why == grantMatches}
	if g.Name != "" {
		f.Name += " (" + g.Name + ")"
	}
	f.Delegates = f.Applies && g.outcome() == outcomeDelegate
	switch why {
	case grantNotVisible:
		f.Why = "it is not in effect yet, or no more"
	case grantOtherSession:
		f.Why = "its grantee is " + g.Grantee + ", the caller " + q.who.caller()
	case grantOtherOperation:
		ops := make([]string, len(g.Operations))
		for i, op := range g.Operations {
			ops[i] = string(op)
		}
		f.Why = "its operations are " + some3(ops) + ", the call " + q.action
	case grantSource:
		f.Why = "it is for calls on behalf of " + g.Constraints.SourceARN
	case grantExceeded:
		f.Why = "the new grant would give more than this one has"
	case grantContext:
		var wants []string
		if c := g.Constraints.Equals; c != nil {
			wants = append(wants, "EncryptionContextEquals "+pairs(c))
		}
		if c := g.Constraints.Subset; c != nil {
			wants = append(wants, "EncryptionContextSubset "+pairs(c))
		}
		f.Why = "it wants " + strings.Join(wants, " and ") + ", the request has " + pairs(q.ec)
	}
	return f
}

func pairs(ec map[string]string) string {
	if len(ec) == 0 {
		return "none"
	}
	return clip(fmt.Sprintf("%q", ec)[len("map"):]) // fmt sorts maps
}

// some3 lists a few of many.
func some3(all []string) string {
	const few = 3
	if len(all) <= few+1 {
		return strings.Join(all, ", ")
	}
	return strings.Join(all[:few], ", ") + " and " + strconv.Itoa(len(all)-few) + " more"
}

func quote(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func unwild(s string) string {
	return strings.NewReplacer(string([]byte{anyRun}), "*", string([]byte{anyOne}), "?").Replace(s)
}
