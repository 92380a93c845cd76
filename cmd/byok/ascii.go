package main

import (
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// ascii passes JSON on with all that is not printable ASCII as \u escapes, which mean the same to
// whoever parses it. encoding/json escapes what is below 0x20 and no more, and a name in an
// export may be anybody's: U+009B begins a terminal's commands as ESC does, and U+202E turns a line round.
type ascii struct{ w io.Writer }

// Write takes whole JSON values, as json.Encoder writes them.
func (a ascii) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p))
	for rest := p; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r < 0x7f: // and the line's end
			out = append(out, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	if _, err := a.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
