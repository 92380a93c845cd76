package storecheck

import (
	"strings"
	"unicode/utf8"
)

// MaxRecordKey is the longest key of a record, in bytes.
const MaxRecordKey = 255

// RecordKey reports whether a record of a byok.Source can have a key. It stands in cursors and logs, and ends shards.
func RecordKey(key string) bool {
	return key != "" && len(key) <= MaxRecordKey && utf8.ValidString(key) && !strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f })
}
