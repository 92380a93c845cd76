package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// Names of records are anybody's. What is printed of them is printable, and parses to what they were.
func TestASCII(t *testing.T) {
	for _, name := range []string{"", "plain", "tab\tline\nend", "\x1b[2J", "\u009b2J", "\u007f", "\u202etxt.exe", "é", "漢字", "😀", "\u2028", "a\"b\\c", "\ufffd"} {
		var b strings.Builder
		enc := json.NewEncoder(ascii{&b})
		enc.SetEscapeHTML(false)
		if err := enc.Encode(name); err != nil {
			t.Fatal(err)
		}
		line, found := strings.CutSuffix(b.String(), "\n")
		for _, c := range []byte(line) {
			if c < 0x20 || c > 0x7e {
				t.Errorf("%q prints %#x", name, c)
			}
		}
		var got string
		if err := json.Unmarshal([]byte(line), &got); err != nil || got != name || !found {
			t.Errorf("%q came back as %q: %v", name, got, err)
		}
	}
}
