package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxFileName is how long a file name may get: file systems end at 255 bytes.
const maxFileName = 200

// fileName makes a file name of a record's name, which can be any bytes and which nothing
// authenticates. Bytes other than letters, digits, '_', '-' and '.' become %XX, so that no path, no option, no
// control character and no name of another alphabet comes out, and decoding %XX gives the name again.
// Escaped as well are a first '.' or '-', a last '.', the first letter of what is a device on Windows
// and, with fold, capitals: where the file system does not tell them from small letters.
//
// What would be too long is cut, and ends with "%~" and the beginning of its SHA-256: the index has the name.
func fileName(name string, fold bool) string {
	device := isDevice(name)
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		upper := 'A' <= c && c <= 'Z'
		plain := 'a' <= c && c <= 'z' || upper && !fold || '0' <= c && c <= '9' || c == '_' ||
			c == '.' && i > 0 && i < len(name)-1 || c == '-' && i > 0
		if plain && !(i == 0 && device) {
			b.WriteByte(c)
		} else {
			const digits = "0123456789abcdef" // small, since fold is about them, too
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	out := b.String()
	if len(out) <= maxFileName {
		return out
	}
	sum := sha256.Sum256([]byte(name))
	out = out[:maxFileName-2-32]
	if i := strings.LastIndexByte(out, '%'); i > len(out)-3 {
		out = out[:i] // not in the midst of an escape
	}
	return out + "%~" + hex.EncodeToString(sum[:16])
}

// isDevice reports whether Windows takes a file of that name for a device, with any extension.
func isDevice(name string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(name), ".")
	base = strings.TrimRight(base, " ")
	switch base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(base) == 4 && (base[:3] == "COM" || base[:3] == "LPT") && '0' <= base[3] && base[3] <= '9'
}
