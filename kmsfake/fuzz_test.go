package kmsfake

import (
	"encoding/json"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"pgregory.net/rapid"
)

// Whatever a Condition says, and whatever the request has: an error, or an answer,
// and the same answer for the same values in another order of evaluation.
func FuzzConditions(f *testing.F) {
	f.Add(`{"StringLike":{"k":["a*","${aws:username, 'x'}-?"]}}`, "abc")
	f.Add(`{"ForAllValues:ArnLike":{"k":"arn:aws:iam::*:role/*"},"Null":{"k":false}}`, "arn:aws:iam::1:role/x")
	f.Add(`{"DateLessThanIfExists":{"k":1e300},"NumericEquals":{"k":[1,-0]}}`, "2025-01-01T00:00:00Z")
	f.Add(`{"IpAddress":{"k":["::/0","10.0.0.0/8"]},"BinaryEquals":{"k":"AA=="}}`, "::ffff:10.0.0.1")
	f.Add(`{"StringLike":{"k":"`+strings.Repeat("*a", 200)+`"}}`, strings.Repeat("a", 400))
	f.Add(`{"StringLike":{"k":`+strings.Repeat("[", 2000)+`}}`, "")
	f.Add(`{"StringEquals":{"k":"${${a:b}}${*}${`+"\x00"+`:}"}}`, "${")
	f.Fuzz(func(t *testing.T, condition, value string) {
		for _, variables := range []bool{false, true} {
			cs, err := parseConditions([]byte(condition), variables)
			if err != nil {
				continue
			}
			facts := map[string][]string{"k": {value}, "aws:username": {value}}
			for i := range cs {
				c := &cs[i]
				for _, facts := range []map[string][]string{nil, facts, {"k": {value, value}}} {
					q := &question{facts: facts}
					holds := c.holds(q)
					if because := c.because(q); because == "" {
						t.Fatal("no words")
					}
					if c.null || c.forAll || c.forAny || len(facts[c.key]) != 1 {
						continue
					}
					twice := &question{facts: map[string][]string{c.key: {facts[c.key][0], facts[c.key][0]}}}
					maps.Copy(twice.facts, map[string][]string{"aws:username": facts["aws:username"]})
					if c.key != "aws:username" && c.holds(twice) != holds {
						t.Fatalf("%s over %q twice: %v", c.operator, facts[c.key], !holds)
					}
				}
			}
		}
	})
}

// Whatever constraints a grant is created with, and whatever context a call has:
// an error, or constraints that hold exactly when each pair is there once, under
// a name that has no case.
func FuzzGrantConstraints(f *testing.F) {
	f.Add(`{"t":"1"}`, `null`, `{"t":"1"}`)
	f.Add(`null`, `{"t":"1","u":""}`, `{"T":"1","u":"","v":"2"}`)
	f.Add(`{"K":"1"}`, `{"ſ":"1"}`, `{"K":"1","k":"1","s":"1"}`)
	f.Add(`{}`, `{"":""}`, `{"":""}`)
	f.Fuzz(func(t *testing.T, equals, subset, ec string) {
		parse := func(s string) (m map[string]string) {
			if json.Unmarshal([]byte(s), &m) != nil {
				t.Skip()
			}
			return m
		}
		in := &types.GrantConstraints{EncryptionContextEquals: parse(equals), EncryptionContextSubset: parse(subset)}
		context := parse(ec)
		var g grantState
		if err := g.constrain(in); err != nil {
			return
		}
		within := func(pairs map[string]string) bool {
			for name, value := range pairs {
				n := 0
				for k, v := range context {
					if strings.EqualFold(k, name) {
						n++
						if v != value {
							n = 2
						}
					}
				}
				if n != 1 {
					return false
				}
			}
			return true
		}
		want := within(in.EncryptionContextSubset) &&
			(in.EncryptionContextEquals == nil || len(context) == len(in.EncryptionContextEquals) && within(in.EncryptionContextEquals))
		if got := g.Constraints.hold(context); got != want {
			t.Fatalf("equals %q, subset %q, context %q: %v", in.EncryptionContextEquals, in.EncryptionContextSubset, context, got)
		}
		// A grant may always create itself again, unless names that differ by case only make it ambiguous.
		if !g.covers(&g) && within(in.EncryptionContextEquals) && within(in.EncryptionContextSubset) && want {
			t.Fatalf("equals %q, subset %q does not cover itself", in.EncryptionContextEquals, in.EncryptionContextSubset)
		}
	})
}

// A pattern matches what the regular expression with the same meaning matches.
func TestGlobIsThatRegularExpression(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pattern := rapid.StringOf(rapid.SampledFrom([]rune("ab*?ä"))).Draw(rt, "pattern")
		s := rapid.StringOf(rapid.SampledFrom([]rune("abä"))).Draw(rt, "s")
		expression := "(?s)^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern)) + "$"
		if got, want := glob(s, wild(pattern)), regexp.MustCompile(expression).MatchString(s); got != want {
			rt.Fatalf("glob(%q, %q) = %v", s, pattern, got)
		}
		if unwild(wild(pattern)) != pattern {
			rt.Fatalf("%q", pattern)
		}
	})
}

// The worst patterns over the largest context are no hang.
func TestGlobIsNeverExponential(t *testing.T) {
	began := time.Now()
	for _, p := range []string{strings.Repeat("*a", 4000) + "b", "*" + strings.Repeat("a", 4000) + "b", strings.Repeat("?*", 4000) + "b"} {
		if glob(strings.Repeat("a", maxContext), wild(p)) {
			t.Error("no b matches")
		}
	}
	// Exponential would be for ever; the margin is for a loaded machine.
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %v", took)
	}
}
