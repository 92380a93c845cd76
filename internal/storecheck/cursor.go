package storecheck

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Nano is a time's place in the order of an audit log. Times before 1678 and
// after 2262, which only a broken clock makes, sit at the ends instead of
// wrapping around to the other one.
func Nano(t time.Time) int64 {
	switch s := t.Unix(); {
	case s <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return t.UnixNano()
}

const (
	cursorVersion = 1
	cursorSum     = 8 // bytes of checksum
	cursorFixed   = 1 + cursorSum + 8
)

// errCursor says no more: what a cursor holds is nobody's business.
var errCursor = errors.New("not a cursor of this log")

// Cursor names the last event of a page, of which the next page holds the older
// ones. It is a position and not a count, so events that arrive between two
// pages neither repeat nor hide an entry.
func Cursor(tenant string, nano int64, id string) string {
	b := make([]byte, cursorFixed, cursorFixed+len(id))
	b[0] = cursorVersion
	binary.BigEndian.PutUint64(b[1+cursorSum:], uint64(nano))
	b = append(b, id...)
	sum := cursorDigest(tenant, b)
	copy(b[1:], sum[:cursorSum])
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor returns what Cursor was given.
func ParseCursor(tenant, cursor string) (nano int64, id string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	// The decoder skips newlines and forgives spare bits: one cursor has one spelling.
	if err != nil || base64.RawURLEncoding.EncodeToString(b) != cursor {
		return 0, "", errCursor
	}
	if len(b) <= cursorFixed || b[0] != cursorVersion {
		return 0, "", errCursor
	}
	sum := cursorDigest(tenant, b)
	if subtle.ConstantTimeCompare(sum[:cursorSum], b[1:1+cursorSum]) != 1 {
		return 0, "", errCursor
	}
	return int64(binary.BigEndian.Uint64(b[1+cursorSum:])), string(b[cursorFixed:]), nil
}

// cursorDigest binds a cursor to its tenant. It has no key and protects nothing:
// a query returns the asking tenant's events whatever the cursor. It tells a
// client at once that it mixed up two cursors, or cut one short.
func cursorDigest(tenant string, b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("byok audit cursor\x00"))
	_ = binary.Write(h, binary.BigEndian, uint64(len(tenant)))
	h.Write([]byte(tenant))
	h.Write(b[:1])
	h.Write(b[1+cursorSum:])
	return [sha256.Size]byte(h.Sum(nil))
}
