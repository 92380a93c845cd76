package kmsfake

import "strings"

// value is one string of a policy that is compared with a request: a resource,
// or a value of a condition. It may have wildcards, and policy variables.
type value struct {
	raw   string // as written
	text  string // to compare, if there are no variables
	parts []part // if there are
}

// part is a run of text or, with a key, a policy variable such as
// ${aws:PrincipalTag/team, 'nobody'}.
type part struct {
	text     string
	key      string // lower case
	fallback *string
}

// Wildcards are kept apart from the characters * and ?, which are ordinary where
// a variable brings them in and in ${*} and ${?}. UTF-8 has neither of these bytes.
const (
	anyRun byte = 0xff
	anyOne byte = 0xfe
)

func wild(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "*", string([]byte{anyRun})), "?", string([]byte{anyOne}))
}

// parseValue reads a value of a policy. Policies of the version 2012-10-17 have
// variables; in older ones, and those without a version, ${ is text, as in AWS.
func parseValue(s string, wildcards, variables bool) (v value, err error) {
	text := func(s string) string {
		if wildcards {
			return wild(s)
		}
		return s
	}
	v.raw = s
	if !variables || !strings.Contains(s, "${") {
		v.text = text(s)
		return v, nil
	}
	for rest := s; rest != ""; {
		before, after, found := strings.Cut(rest, "${")
		v.parts = append(v.parts, part{text: text(before)})
		if !found {
			break
		}
		name, more, closed := strings.Cut(after, "}")
		if !closed {
			return v, badPolicy("Policy variable without an end: %q", s)
		}
		p, err := parseVariable(name)
		if err != nil {
			return v, badPolicy("%v in %q", err, s)
		}
		v.parts, rest = append(v.parts, p), more
	}
	return v, nil
}

func parseVariable(name string) (p part, err error) {
	if name == "*" || name == "?" || name == "$" {
		return part{text: name}, nil
	}
	key, fallback, has := strings.Cut(name, ",")
	if has {
		f := strings.TrimSpace(fallback)
		if len(f) < 2 || f[0] != '\'' || f[len(f)-1] != '\'' {
			return p, badPolicy("Policy variable with a default value that is not in single quotes")
		}
		f = f[1 : len(f)-1]
		p.fallback = &f
	}
	p.key = strings.ToLower(strings.TrimSpace(key))
	if strings.IndexByte(p.key, ':') <= 0 {
		return p, badPolicy("Policy variable that is no condition key")
	}
	return p, nil
}

// expand puts the request's values in. A variable that has none there, or
// several, makes the whole value one that equals nothing.
func (v *value) expand(q *question) (string, bool) {
	if v.parts == nil {
		return v.text, true
	}
	var b strings.Builder
	for i := range v.parts {
		p := &v.parts[i]
		switch values := q.facts[p.key]; {
		case p.key == "":
			b.WriteString(p.text)
		case len(values) == 1:
			b.WriteString(strings.ToValidUTF8(values[0], "\uFFFD"))
		case len(values) == 0 && p.fallback != nil:
			b.WriteString(*p.fallback)
		default:
			return "", false
		}
	}
	return b.String(), true
}

// keys are the condition keys that a value needs, beside the condition's own.
func (v *value) keys() (out []string) {
	for i := range v.parts {
		if v.parts[i].key != "" {
			out = append(out, v.parts[i].key)
		}
	}
	return out
}
