package kmsfake

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// checks collects the constraints that an input breaks. AWS reports all of them
// in one ValidationException, in these words.
type checks struct{ broken []string }

func (c *checks) err() error {
	switch len(c.broken) {
	case 0:
		return nil
	case 1:
		return validation("1 validation error detected: %s", c.broken[0])
	}
	return validation("%d validation errors detected: %s", len(c.broken), strings.Join(c.broken, "; "))
}

func (c *checks) add(value, at, must string) {
	c.broken = append(c.broken, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: Member must %s", value, at, must))
}

func quoted(s string) string { return " '" + s + "'" }

func (c *checks) length(value, at string, n, min, max int) {
	if n < min {
		c.add(value, at, "have length greater than or equal to "+strconv.Itoa(min))
	}
	if n > max {
		c.add(value, at, "have length less than or equal to "+strconv.Itoa(max))
	}
}

// need checks a required string.
func (c *checks) need(at string, s *string, min, max int) {
	if s == nil {
		c.add(" null", at, "not be null")
		return
	}
	c.str(at, s, min, max)
}

// str checks an optional string.
func (c *checks) str(at string, s *string, min, max int) {
	if s != nil {
		c.length(quoted(*s), at, len(*s), min, max)
	}
}

// list checks that a required list is there.
func (c *checks) list(at string, absent bool) {
	if absent {
		c.add(" null", at, "not be null")
	}
}

// key checks a required KeyId.
func (c *checks) key(at string, s *string) { c.need(at, s, 1, 2048) }

// blob checks bytes, whose value AWS does not repeat: it may be a plaintext.
func (c *checks) blob(at string, b []byte, max int, required bool) {
	if b == nil {
		if required {
			c.add(" null", at, "not be null")
		}
		return
	}
	c.length("", at, len(b), 1, max)
}

func (c *checks) num(at string, n *int32, min, max int32) {
	if n == nil {
		return
	}
	value := quoted(strconv.Itoa(int(*n)))
	if *n < min {
		c.add(value, at, "have value greater than or equal to "+strconv.Itoa(int(min)))
	}
	if *n > max {
		c.add(value, at, "have value less than or equal to "+strconv.Itoa(int(max)))
	}
}

// enum checks a string against the values that the SDK's model knows.
func enum[E ~string](c *checks, at string, v E, known []E) {
	if v == "" {
		return
	}
	names := make([]string, len(known))
	for i, k := range known {
		if k == v {
			return
		}
		names[i] = string(k)
	}
	c.add(quoted(string(v)), at, "satisfy enum value set: ["+strings.Join(names, ", ")+"]")
}

// required is enum for a member that must be there.
func required[E interface {
	~string
	Values() []E
}](c *checks, at string, v E) {
	if v == "" {
		c.add(" null", at, "not be null")
		return
	}
	enum(c, at, v, v.Values())
}

var (
	markerChars     = regexp.MustCompile(`^[\x{0020}-\x{00FF}]*$`)
	policyNameChars = regexp.MustCompile(`^\w*$`)
)

// policyName checks the form of a policy's name; there is but one name.
func (c *checks) policyName(name *string) {
	c.str("policyName", name, 1, 128)
	if name != nil && !policyNameChars.MatchString(*name) {
		c.add(quoted(*name), "policyName", `satisfy regular expression pattern: [\w]+`)
	}
}

func (c *checks) page(limit *int32, marker *string) {
	c.num("limit", limit, 1, 1000)
	c.str("marker", marker, 1, 1024)
	if marker != nil && !markerChars.MatchString(*marker) {
		c.add(quoted(*marker), "marker", `satisfy regular expression pattern: [\u0020-\u00FF]*`)
	}
}

func (c *checks) tokens(tokens []string) {
	if len(tokens) > 10 {
		c.add(" '["+strings.Join(tokens, ", ")+"]'", "grantTokens", "have length less than or equal to 10")
	}
	for i := range tokens {
		c.str(fmt.Sprintf("grantTokens.%d.member", i+1), &tokens[i], 1, 8192)
	}
}

// maxContext is the size limit of an encryption context, keys and values.
const maxContext = 8192

func contextSize(ec map[string]string) error {
	n := 0
	for k, v := range ec {
		n += len(k) + len(v)
	}
	if n > maxContext {
		return validation("The encryption context is too large: %d bytes, the limit is %d.", n, maxContext)
	}
	return nil
}

// firstOf returns the first error that is one.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
