package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The quick start is printed in README.md, compiled here, and may be repeated by
// an Example of package byok: the same lines everywhere.
func TestQuickStartIsTheReadmes(t *testing.T) {
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(read(t, "../../README.md"))
	if block == nil {
		t.Fatal("README.md has no Go block")
	}
	lines := unindent(block[1])
	if n := len(strings.Split(lines, "\n")); n < 10 || n > 12 {
		t.Errorf("the quick start has %d lines", n)
	}
	files := []string{"main.go"}
	if _, err := os.Stat("../../example_test.go"); err == nil {
		files = append(files, "../../example_test.go")
	}
	for _, file := range files {
		if !strings.Contains(unindent(read(t, file)), lines) {
			t.Errorf("%s does not have the quick start of README.md:\n%s", file, lines)
		}
	}
}

func Example() {
	main()
	// Output: hello, from 140 sealed bytes
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func unindent(s string) string {
	var out []string
	for l := range strings.Lines(strings.TrimSpace(s)) {
		out = append(out, strings.TrimSpace(l))
	}
	return strings.Join(out, "\n")
}
