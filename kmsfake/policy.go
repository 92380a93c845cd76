package kmsfake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// policy is a parsed policy document: of a key, or of an identity.
type policy struct {
	statements []statement
	keys       []string // the condition keys that it mentions, lower case, each once
}

type statement struct {
	sid          string
	deny         bool
	principals   []principalRef // key policies only
	notPrincipal bool
	actions      []value // the text in lower case
	notAction    bool
	resources    []value
	notResource  bool
	conditions   []condition
}

// principalRef is one entry of a Principal element.
type principalRef struct {
	any       bool   // "*"
	never     bool   // a service, a web identity: real, but nobody who calls the fake
	name      string // of that
	principal principal
}

// maxPolicySize is KMS's limit on a key policy document.
const maxPolicySize = 32 << 10

var errPolicySize = badPolicy("Policy document is too large: the limit is 32768 bytes.")

// parsePolicy reads a policy document strictly: an element that the evaluator
// would not understand is an error, because ignoring half of a Deny would open
// what its author meant to close. A key policy must name principals, an identity
// policy must not.
func parsePolicy(doc string, keyPolicy bool) (*policy, error) {
	if len(doc) > maxPolicySize {
		return nil, errPolicySize
	}
	top, err := members([]byte(doc), "Version", "Id", "Statement")
	if err != nil {
		return nil, badPolicy("Syntax errors in policy: %v", err)
	}
	variables := false
	if v, ok := top["Version"]; ok {
		s, err := text(v)
		if err != nil || s != "2012-10-17" && s != "2008-10-17" {
			return nil, badPolicy("The policy must contain a valid version string, not %s.", v)
		}
		variables = s == "2012-10-17"
	}
	if v, ok := top["Id"]; ok {
		if _, err := text(v); err != nil {
			return nil, badPolicy("Syntax errors in policy: Id is not a string.")
		}
	}
	raws, err := oneOrMany(top["Statement"])
	if err != nil || len(raws) == 0 {
		return nil, badPolicy("Policy must contain at least one statement.")
	}
	p := &policy{statements: make([]statement, 0, len(raws))}
	seen := make(map[string]bool)
	for i, raw := range raws {
		s, err := parseStatement(raw, keyPolicy, variables)
		if err != nil {
			return nil, badPolicy("Statement %d: %w", i+1, err)
		}
		if s.sid != "" && seen[s.sid] {
			return nil, badPolicy("Statement IDs (SID) in a single policy must be unique: %q is repeated.", s.sid)
		}
		seen[s.sid] = true
		p.statements = append(p.statements, s)
	}
	p.keys = p.mentions()
	return p, nil
}

func parseStatement(raw json.RawMessage, keyPolicy, variables bool) (s statement, err error) {
	in, err := members(raw, "Sid", "Effect", "Principal", "NotPrincipal",
		"Action", "NotAction", "Resource", "NotResource", "Condition")
	if err != nil {
		return s, badPolicy("Syntax errors in policy: %v", err)
	}
	if v, ok := in["Sid"]; ok {
		if s.sid, err = text(v); err != nil {
			return s, badPolicy("Syntax errors in policy: Sid is not a string.")
		}
	}
	switch effect, _ := text(in["Effect"]); effect {
	case "Allow":
	case "Deny":
		s.deny = true
	default:
		return s, badPolicy(`Effect must be "Allow" or "Deny".`)
	}
	if s.principals, s.notPrincipal, err = parsePrincipals(in["Principal"], in["NotPrincipal"], keyPolicy); err != nil {
		return s, err
	}
	actions, negated, err := either("Action", in["Action"], in["NotAction"])
	if err != nil {
		return s, err
	}
	s.notAction = negated
	for _, a := range actions {
		if a != "*" && strings.IndexByte(a, ':') <= 0 {
			return s, badPolicy("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.: %q", a)
		}
		if strings.Contains(a, "${") {
			return s, badPolicy("Policy variables are not allowed in Action: %q", a)
		}
		s.actions = append(s.actions, value{raw: a, text: wild(strings.ToLower(a))})
	}
	resources, negated, err := either("Resource", in["Resource"], in["NotResource"])
	if err != nil {
		return s, err
	}
	s.notResource = negated
	for _, r := range resources {
		if r != "*" && !strings.HasPrefix(r, "arn:") {
			return s, badPolicy("Resource %q must be in ARN format or \"*\".", r)
		}
		v, err := parseValue(r, true, variables)
		if err != nil {
			return s, err
		}
		s.resources = append(s.resources, v)
	}
	if s.conditions, err = parseConditions(in["Condition"], variables); err != nil || !keyPolicy {
		return s, err
	}
	for i := range s.conditions { // this one means something in identity policies only
		if c := &s.conditions[i]; c.key == "kms:resourcealiases" {
			c.key = "kms:resourcealiases in a key policy"
		}
	}
	return s, nil
}

// mentions are the condition keys that a request is asked for, in conditions and
// in variables.
func (p *policy) mentions() (keys []string) {
	for i := range p.statements {
		s := &p.statements[i]
		for j := range s.resources {
			keys = append(keys, s.resources[j].keys()...)
		}
		for j := range s.conditions {
			c := &s.conditions[j]
			keys = append(keys, c.key)
			for k := range c.values {
				keys = append(keys, c.values[k].keys()...)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func parsePrincipals(is, not json.RawMessage, keyPolicy bool) (refs []principalRef, negated bool, err error) {
	if !keyPolicy {
		if is != nil || not != nil {
			return nil, false, badPolicy("Policy document should not specify a principal.")
		}
		return nil, false, nil
	}
	if (is == nil) == (not == nil) {
		return nil, false, badPolicy("A statement needs exactly one of Principal and NotPrincipal.")
	}
	raw := is
	if is == nil {
		raw, negated = not, true
	}
	invalid := badPolicy("Policy contains a statement with one or more invalid principals.")
	if name, err := text(raw); err == nil {
		if name != "*" {
			return nil, false, invalid
		}
		return []principalRef{{any: true}}, negated, nil
	}
	byType, err := members(raw)
	if err != nil || len(byType) == 0 {
		return nil, false, invalid
	}
	for kind, raw := range byType {
		names, err := stringOrMany(raw)
		if err != nil || len(names) == 0 {
			return nil, false, invalid
		}
		for _, name := range names {
			switch kind {
			case "AWS":
				if name == "*" {
					refs = append(refs, principalRef{any: true})
					continue
				}
				p, err := parsePrincipal(name) // no wildcards inside an ARN: AWS refuses them too
				if err != nil {
					return nil, false, badPolicy("%w (%v)", invalid, err)
				}
				refs = append(refs, principalRef{principal: p})
			case "Service", "Federated", "CanonicalUser":
				refs = append(refs, principalRef{never: true, name: kind + " " + name})
			default:
				return nil, false, invalid
			}
		}
	}
	return refs, negated, nil
}

// either reads an element that has a negated twin, of which one must be there.
func either(name string, is, not json.RawMessage) (values []string, negated bool, err error) {
	if (is == nil) == (not == nil) {
		return nil, false, badPolicy("A statement needs exactly one of %s and Not%s.", name, name)
	}
	raw := is
	if is == nil {
		raw, negated = not, true
	}
	values, err = stringOrMany(raw)
	if err != nil || len(values) == 0 {
		return nil, false, badPolicy("%s must be a string or a list of strings.", name)
	}
	return values, negated, nil
}

// badPolicy makes the errors of this file: sentences for the author of a policy,
// as AWS writes them, not parts of a Go error.
func badPolicy(format string, args ...any) error { return fmt.Errorf(format, args...) }

// members splits a JSON object, whose member names must be among known unless
// that is empty. A repeated name is an error: encoding/json would let the last
// one win, fold the case of names, and take {"Effect":"Deny","effect":"Allow"}
// for an Allow.
func members(raw []byte, known ...string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	out := make(map[string]json.RawMessage)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := t.(string) // the decoder allows nothing else here
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("repeated member %q", name)
		}
		if len(known) > 0 && !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown member %q", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		out[name] = value
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one document")
	}
	return out, nil
}

// text is a JSON string, and nothing that merely decodes into one, as null does.
func text(raw json.RawMessage) (s string, err error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", errors.New("not a string")
	}
	err = json.Unmarshal(raw, &s)
	return s, err
}

// oneOrMany is a JSON value, or the elements of an array.
func oneOrMany(raw json.RawMessage) ([]json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if raw[0] != '[' {
		return []json.RawMessage{raw}, nil
	}
	var many []json.RawMessage
	err := json.Unmarshal(raw, &many)
	return many, err
}

func stringOrMany(raw json.RawMessage) ([]string, error) {
	raws, err := oneOrMany(raw)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(raws))
	for i, r := range raws {
		if out[i], err = text(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}
