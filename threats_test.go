package byok_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// docs/threats.md is an index from the rows of the threat model to tests. The
// tests of this file keep it true, in both directions.

// groups are the groups of threats, and how many rows each has.
var groups = map[string]int{"A": 25, "B": 15, "C": 8, "D": 18, "E": 20, "F": 7, "G": 19, "H": 8, "I": 8, "J": 7, "K": 20}

// named are the rows that must each have a test with the row in its name.
func named(row string) bool {
	return strings.Contains("ABCDEFIJ", row[:1]) || slices.Contains(strings.Fields("G1 G2 G3 G4 G5 G6 G7 G9 G10"), row)
}

// rowID is how a row is written: I-1 and not I1, since I1 is an invariant.
func rowID(group string, n int) string {
	if group == "I" {
		return fmt.Sprintf("I-%d", n)
	}
	return group + strconv.Itoa(n)
}

// testID is a test and the directory of its package.
type testID struct{ dir, name string }

func (t testID) String() string { return t.dir + ": " + t.name }

// allTests are the tests and fuzz targets of all modules, with any build tags.
func allTests(t *testing.T) map[testID]bool {
	t.Helper()
	all := map[testID]bool{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && testName.MatchString(fn.Name.Name) && len(fn.Type.Params.List) == 1 {
				all[testID{filepath.ToSlash(filepath.Dir(path)), fn.Name.Name}] = true
			}
		}
		return nil
	})
	want(t, "WalkDir", err, nil)
	return all
}

var testName = regexp.MustCompile(`^(?:Test|Fuzz)(?:[A-Z0-9_]\w*)$`)

// rowsInName returns the rows that a test's name tells: TestD9_X, TestX_K2_K3,
// TestI_3_I_6_X. TestI3 is about an invariant.
func rowsInName(name string) (rows []string, unknown string) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(name, "Test"), "Fuzz"), "_")
	for i, p := range parts {
		group, digits := "", ""
		switch {
		case p == "I" && i+1 < len(parts):
			group, digits = p, parts[i+1]
		case p != "" && p[0] != 'I':
			group, digits = p[:1], p[1:]
		}
		n, err := strconv.Atoi(digits)
		if err != nil || groups[group] == 0 {
			continue
		}
		if n < 1 || n > groups[group] {
			unknown = p
			continue
		}
		rows = append(rows, rowID(group, n))
	}
	return rows, unknown
}

// rowsInText reads "D1", "A23, A24", "F1 to F5, F7" and "I-1".
func rowsInText(s string) (rows []string, err error) {
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), " to ")
		if !isRange {
			to = from
		}
		group := from[:min(1, len(from))]
		number := func(s string) int {
			n, _ := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(s, group), "-"))
			return n
		}
		for n := number(from); ; n++ {
			if n < 1 || n > groups[group] || n > number(to) || n == number(from) && rowID(group, n) != from {
				return nil, fmt.Errorf("%q is no row, or no range of rows", part)
			}
			if rows = append(rows, rowID(group, n)); n == number(to) {
				break
			}
		}
	}
	return rows, nil
}

var (
	tableRow  = regexp.MustCompile(`^\| ([A-K]-?\d[^|]*) \| ([^|]+) \| ([^|]+) \|$`)
	laterRows = regexp.MustCompile(`[A-K]-?\d+(?: to [A-K]-?\d+)?(?:, [A-K]-?\d+(?: to [A-K]-?\d+)?)*:`)
	quoted    = regexp.MustCompile("`([^`]+)`(:?)")
)

// checkIndex returns what is wrong with an index, given the tests that exist.
func checkIndex(doc string, exists map[testID]bool) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	tables, later, ok := strings.Cut(doc, "\n## Later\n")
	if !ok {
		bad("there is no section Later")
	}
	listed := map[string][]testID{} // by row
	for line := range strings.Lines(tables) {
		m := tableRow.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		rows, err := rowsInText(m[1])
		if err != nil {
			bad("%v", err)
		}
		var tests []testID
		for cell := range strings.SplitSeq(m[3], ";") {
			dir := "."
			for i, q := range quoted.FindAllStringSubmatch(cell, -1) {
				switch {
				case i == 0 && q[2] == ":":
					dir = q[1]
				case testName.MatchString(q[1]):
					tests = append(tests, testID{dir, q[1]})
				}
			}
		}
		for _, r := range rows {
			if listed[r] != nil {
				bad("%s has two lines", r)
			}
			if listed[r] = tests; len(tests) == 0 {
				bad("%s is in a table without a test", r)
			}
		}
	}
	postponed := map[string]bool{}
	for _, m := range laterRows.FindAllString(later, -1) {
		rows, err := rowsInText(strings.TrimSuffix(m, ":"))
		if err != nil {
			bad("Later: %v", err)
		}
		for _, r := range rows {
			if postponed[r] = true; listed[r] != nil {
				bad("%s is under Later, and has tests", r)
			}
		}
	}
	for group, rows := range groups {
		for n := range rows {
			r := rowID(group, n+1)
			if listed[r] == nil && !postponed[r] {
				bad("%s is missing", r)
			}
			if listed[r] == nil && named(r) {
				bad("%s needs a test", r)
			}
			own := false
			for _, test := range listed[r] {
				if !exists[test] {
					bad("%s: there is no %v", r, test)
				}
				tells, _ := rowsInName(test.name)
				own = own || exists[test] && slices.Contains(tells, r)
			}
			if named(r) && !own {
				bad("%s: none of its tests has it in its name", r)
			}
		}
	}
	for test := range exists {
		rows, unknown := rowsInName(test.name)
		if unknown != "" {
			bad("%v: there is no row %s", test, unknown)
		}
		for _, r := range rows {
			if !slices.Contains(listed[r], test) {
				bad("%v is not in the line of %s", test, r)
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// Each row is in the index, with tests that exist, or under Later; each test that
// names a row is in the row's line.
func TestThreatIndex(t *testing.T) {
	doc, exists := readThreats(t), allTests(t)
	for _, w := range checkIndex(doc, exists) {
		t.Error(w)
	}
}

// The check itself: it notices each row that is dropped, each test that is
// removed, and each that is not written down.
func TestThreatIndexNotices(t *testing.T) {
	doc, exists := readThreats(t), allTests(t)
	base := checkIndex(doc, exists)
	lines := strings.SplitAfter(doc, "\n")
	dropped, removed := 0, map[testID]bool{}
	for i, line := range lines {
		m := tableRow.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		dropped++
		if got := checkIndex(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), ""), exists); len(got) <= len(base) {
			t.Errorf("nobody misses the line of %s", m[1])
		}
	}
	for test := range exists {
		if rows, _ := rowsInName(test.name); len(rows) > 0 {
			without := maps.Clone(exists)
			delete(without, test)
			if removed[test] = true; len(checkIndex(doc, without)) <= len(base) {
				t.Errorf("nobody misses %v", test)
			}
		}
	}
	for _, extra := range []string{"TestD1_New", "TestI_8_New", "TestNew_K20", "TestG99_New"} {
		with := maps.Clone(exists)
		with[testID{"awskms", extra}] = true
		if len(checkIndex(doc, with)) <= len(base) {
			t.Errorf("nobody misses %s in the index", extra)
		}
	}
	if dropped < 80 || len(removed) < 60 {
		t.Errorf("only %d lines and %d tests: this test could pass on nothing", dropped, len(removed))
	}
}

func readThreats(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("docs/threats.md")
	want(t, "ReadFile", err, nil)
	return string(b)
}
