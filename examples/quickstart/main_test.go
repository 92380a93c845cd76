package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The quick start is printed in README.md, compiled here, and repeated by the
// Example of package byok: all three are the same lines.
func TestQuickStartIsTheReadmes(t *testing.T) {
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(read(t, "../../README.md"))
	if block == nil {
		t.Fatal("README.md has no Go block")
	}
	lines := unindent(block[1])
	if n := len(strings.Split(lines, "\n")); n < 10 || n > 12 {
		t.Errorf("the quick start has %d lines", n)
	}
	for _, file := range []string{"main.go", "../../example_test.go"} {
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
