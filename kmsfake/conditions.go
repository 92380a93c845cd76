package kmsfake

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// condition is one line of a Condition element: operator, key, values.
type condition struct {
	operator string // as written, ForAnyValue: and IfExists included
	op       *operator
	forAll   bool
	forAny   bool
	ifExists bool
	null     bool   // the Null operator: about presence, not about values
	name     string // as written
	key      string // lower case: names of condition keys have no case
	values   []value
}

// operator compares one value of the request with one of the policy.
type operator struct {
	negated   bool
	wildcards bool // in the policy's value
	variables bool // in the policy's value
	match     func(request, policy string) bool
	check     func(policy string) error // is the policy's value readable at all?
}

var operators = makeOperators()

func makeOperators() map[string]*operator {
	ops := make(map[string]*operator)
	add := func(name string, negated bool, check func(string) error, match func(r, p string) bool) {
		texts := strings.HasPrefix(name, "String") || strings.HasPrefix(name, "Arn")
		ops[name] = &operator{
			negated: negated, match: match, check: check,
			wildcards: strings.HasSuffix(name, "Like") || strings.HasPrefix(name, "Arn"),
			variables: texts || name == "Bool",
		}
	}
	equal := func(r, p string) bool { return r == p }
	add("StringEquals", false, nil, equal)
	add("StringNotEquals", true, nil, equal)
	add("StringEqualsIgnoreCase", false, nil, strings.EqualFold)
	add("StringNotEqualsIgnoreCase", true, nil, strings.EqualFold)
	add("StringLike", false, nil, glob)
	add("StringNotLike", true, nil, glob)
	// AWS made the two ARN operators the same: both take wildcards.
	add("ArnEquals", false, nil, arnLike)
	add("ArnLike", false, nil, arnLike)
	add("ArnNotEquals", true, nil, arnLike)
	add("ArnNotLike", true, nil, arnLike)
	add("Bool", false, checkBool, strings.EqualFold)
	add("BinaryEquals", false, checkBase64, equal)
	for suffix, holds := range map[string]func(c int) bool{
		"Equals":            func(c int) bool { return c == 0 },
		"LessThan":          func(c int) bool { return c < 0 },
		"LessThanEquals":    func(c int) bool { return c <= 0 },
		"GreaterThan":       func(c int) bool { return c > 0 },
		"GreaterThanEquals": func(c int) bool { return c >= 0 },
	} {
		add("Numeric"+suffix, false, checkNumber, compareBy(parseNumber, holds))
		add("Date"+suffix, false, checkDate, compareBy(parseDate, holds))
	}
	same := func(c int) bool { return c == 0 }
	add("NumericNotEquals", true, checkNumber, compareBy(parseNumber, same))
	add("DateNotEquals", true, checkDate, compareBy(parseDate, same))
	add("IpAddress", false, checkPrefix, inPrefix)
	add("NotIpAddress", true, checkPrefix, inPrefix)
	return ops
}

// parseConditions reads a Condition element. Unknown operators are errors;
// unknown keys are not: they are keys that no request carries.
func parseConditions(raw json.RawMessage, variables bool) ([]condition, error) {
	if raw == nil {
		return nil, nil
	}
	byOp, err := members(raw)
	if err != nil {
		return nil, badPolicy("Syntax errors in policy: Condition: %v", err)
	}
	var out []condition
	for name, raw := range byOp {
		byKey, err := members(raw)
		if err != nil {
			return nil, badPolicy("Syntax errors in policy: Condition: %v", err)
		}
		for key, raw := range byKey {
			c, err := parseOperator(name)
			if err != nil {
				return nil, err
			}
			c.name, c.key = key, strings.ToLower(key)
			if err := c.parseValues(raw, variables); err != nil {
				return nil, badPolicy("Syntax errors in policy: %s of %s: %v", name, key, err)
			}
			out = append(out, c)
		}
	}
	// A JSON object has no order, an explanation needs one.
	slices.SortFunc(out, func(a, b condition) int {
		return cmp.Or(cmp.Compare(a.operator, b.operator), cmp.Compare(a.name, b.name))
	})
	return out, nil
}

func (c *condition) parseValues(raw json.RawMessage, variables bool) error {
	texts, err := conditionValues(raw)
	if err != nil {
		return err
	}
	for _, text := range texts {
		v, err := parseValue(text, c.op.wildcards && !c.null, variables && c.op.variables && !c.null)
		if err != nil {
			return err
		}
		if c.op.check != nil && v.parts == nil {
			if err := c.op.check(text); err != nil {
				return err
			}
		}
		c.values = append(c.values, v)
	}
	return nil
}

func parseOperator(name string) (c condition, err error) {
	c.operator = name
	bare := name
	if rest, ok := strings.CutPrefix(bare, "ForAllValues:"); ok {
		c.forAll, bare = true, rest
	} else if rest, ok := strings.CutPrefix(bare, "ForAnyValue:"); ok {
		c.forAny, bare = true, rest
	}
	if bare == "Null" { // has no IfExists form
		c.null, c.op = true, operators["Bool"]
		return c, nil
	}
	if rest, ok := strings.CutSuffix(bare, "IfExists"); ok {
		c.ifExists, bare = true, rest
	}
	if c.op = operators[bare]; c.op == nil {
		return c, badPolicy("Invalid Condition type : %s.", name)
	}
	return c, nil
}

// conditionValues are strings, or JSON booleans and numbers, which AWS takes as
// their text.
func conditionValues(raw json.RawMessage) ([]string, error) {
	raws, err := oneOrMany(raw)
	if err != nil {
		return nil, err
	}
	if len(raws) == 0 {
		return nil, errors.New("empty")
	}
	out := make([]string, len(raws))
	for i, r := range raws {
		switch {
		case len(r) > 0 && r[0] == '"':
			if err := json.Unmarshal(r, &out[i]); err != nil {
				return nil, err
			}
		case len(r) > 0 && (r[0] == 't' || r[0] == 'f' || r[0] == '-' || '0' <= r[0] && r[0] <= '9'):
			out[i] = string(r)
		default:
			return nil, errors.New("neither string, number nor boolean")
		}
	}
	return out, nil
}

// holds evaluates one condition over the values that the request has for its key.
func (c *condition) holds(q *question) bool {
	request := q.facts[c.key]
	absent := len(request) == 0
	if c.null {
		for i := range c.values {
			if strings.EqualFold(c.values[i].text, "true") == absent {
				return true
			}
		}
		return false
	}
	if absent {
		// ForAllValues over nothing is true, as AWS warns; ForAnyValue over
		// nothing is false; a negated operator holds for what is not there.
		return c.ifExists || c.forAll || c.op.negated && !c.forAny
	}
	// Without a quantifier a key has one value. Should it have several, the
	// reading that is hardest to satisfy by adding values is taken.
	all := c.forAll || !c.forAny
	for _, r := range request {
		if c.one(q, r) != all {
			return !all
		}
	}
	return all
}

// one: a value of the request satisfies the operator if it matches any of the
// policy's values, or none of them if the operator is negated.
func (c *condition) one(q *question, r string) bool {
	for i := range c.values {
		if p, ok := c.values[i].expand(q); ok && c.op.match(r, p) {
			return !c.op.negated
		}
	}
	return c.op.negated
}

// glob matches s against a pattern with the wildcards that wild makes. It is
// linear in practice and never worse than quadratic: policies come from strangers.
func glob(s, pattern string) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == anyRun:
			star, mark = j, i
			j++
		case j < len(pattern) && pattern[j] == anyOne:
			_, size := utf8.DecodeRuneInString(s[i:])
			i += size
			j++
		case j < len(pattern) && pattern[j] == s[i]:
			i++
			j++
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(pattern) && pattern[j] == anyRun {
		j++
	}
	return j == len(pattern)
}

// arnLike matches the six fields of an ARN one by one, so that a wildcard for
// the account cannot swallow the resource as well.
func arnLike(s, pattern string) bool {
	a, b := strings.SplitN(s, ":", 6), strings.SplitN(pattern, ":", 6)
	if len(a) != 6 || len(b) != 6 {
		return pattern == string([]byte{anyRun})
	}
	for i := range a {
		if !glob(a[i], b[i]) {
			return false
		}
	}
	return true
}

func compareBy(parse func(string) (float64, error), holds func(int) bool) func(r, p string) bool {
	return func(r, p string) bool {
		a, err1 := parse(r)
		b, err2 := parse(p)
		if err1 != nil || err2 != nil {
			return false
		}
		switch {
		case a < b:
			return holds(-1)
		case a > b:
			return holds(1)
		}
		return holds(0)
	}
}

// parseNumber reads a decimal number. ParseFloat would take more, as NaN, which is
// neither less nor more than anything: a tag of that value would equal every number.
func parseNumber(s string) (float64, error) {
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return strconv.ParseFloat(s, 64)
}

// parseDate reads ISO 8601, or seconds since the epoch.
func parseDate(s string) (float64, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return float64(t.Unix()), nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return float64(t.Unix()), nil
	}
	return parseNumber(s)
}

func checkNumber(s string) error { _, err := parseNumber(s); return err }
func checkDate(s string) error   { _, err := parseDate(s); return err }
func checkBase64(s string) error { _, err := base64.StdEncoding.DecodeString(s); return err }
func checkPrefix(s string) error { _, err := parsePrefix(s); return err }

func checkBool(s string) error {
	if !strings.EqualFold(s, "true") && !strings.EqualFold(s, "false") {
		return fmt.Errorf("%q is not a boolean", s)
	}
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	return netip.ParsePrefix(s)
}

func inPrefix(r, p string) bool {
	a, err1 := netip.ParseAddr(r)
	n, err2 := parsePrefix(p)
	return err1 == nil && err2 == nil && n.Contains(a)
}
