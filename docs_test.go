package byok_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the documents say of tests and files is there: a test that is renamed or
// deleted takes its claim along.
func TestDocsNameWhatExists(t *testing.T) {
	defined := map[string]bool{}
	definition := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example|Benchmark)\w*)\(`) // suites have functions of such names too
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range definition.FindAllStringSubmatch(string(b), -1) {
			defined[m[1]] = true
		}
		return err
	})
	want(t, "WalkDir", err, nil)
	docs, err := filepath.Glob("docs/*.md")
	want(t, "Glob", err, nil)
	docs = append(docs, "README.md", "SPEC.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
	mention := regexp.MustCompile("`((?:Test|Fuzz|Example|Benchmark)[A-Z0-9_]\\w*)`")
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	code := regexp.MustCompile("(?s)```.*?```") // a type parameter and its argument look like a link
	mentions, links := 0, 0
	for _, doc := range docs {
		b, err := os.ReadFile(doc)
		want(t, doc, err, nil)
		for _, m := range mention.FindAllStringSubmatch(string(b), -1) {
			if mentions++; !defined[m[1]] {
				t.Errorf("%s names %s, which does not exist", doc, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(string(b), ""), -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", doc, m[1])
			}
		}
	}
	if mentions < 100 || links < 20 {
		t.Errorf("only %d tests and %d files are named: this test could pass on nothing", mentions, links)
	}
}
