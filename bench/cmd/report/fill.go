package main

import (
	"fmt"
	"os"
	"strings"
)

// fill replaces what stands between <!-- NAME --> and <!-- /NAME --> in a file, for each
// part. Every mark has to be there, once: what is measured is told.
func fill(path string, parts map[string]string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(old)
	for name, part := range parts {
		open, shut := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, ok := strings.Cut(text, open)
		_, after, ok2 := strings.Cut(rest, shut)
		if !ok || !ok2 || strings.Contains(after, open) {
			return fmt.Errorf("%s: %q and %q must be there once", path, open, shut)
		}
		text = before + open + part + shut + after
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
