package byokhttp

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// README.md lists every code with its status, and every route with its scope
// and limit. The type of a problem points at the code's line.
func TestReadmeListsEverything(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	if len(answers) != 19 {
		t.Errorf("%d codes", len(answers))
	}
	for code, a := range answers {
		if line := fmt.Sprintf("| <a id=%q></a>`%s` | %d", asciiLower(code), code, a.Status); strings.Count(readme, line) != 1 {
			t.Errorf("README.md does not have %s", line)
		}
	}
	limits, err := Limits{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for i := range routes {
		rt := &routes[i]
		l := rt.limit(&limits)
		per := map[string]string{"1h0m0s": "an hour", "1m0s": "a minute"}[l.Per.String()]
		found := false
		for line := range strings.Lines(readme) {
			if strings.HasPrefix(line, "| `"+rt.String()+"` |") {
				found = strings.Contains(line, fmt.Sprintf("| `%s` | %d %s", rt.scope, l.N, per))
			}
		}
		if !found {
			t.Errorf("README.md does not have %s with %s and %v", rt, rt.scope, l)
		}
	}
}
