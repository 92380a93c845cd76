package storecheck

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestNano(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{time.Unix(0, 0), 0}, {time.Unix(0, -1), -1}, {time.Unix(1, 5), 1_000_000_005},
		{time.Time{}, math.MinInt64}, {time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), math.MinInt64},
		{time.Date(2263, 1, 1, 0, 0, 0, 0, time.UTC), math.MaxInt64}, {time.Unix(math.MaxInt64, 0), math.MaxInt64},
		{time.Unix(math.MinInt64, 0), math.MinInt64},
	} {
		if got := Nano(c.at); got != c.want {
			t.Errorf("Nano(%v) = %d, want %d", c.at, got, c.want)
		}
	}
	// It never runs backwards, the ends included.
	last := int64(math.MinInt64)
	for s := int64(-9223372040); s <= 9223372040; s += 3_333_333 {
		if n := Nano(time.Unix(s, 0)); n < last {
			t.Fatalf("second %d is before the one earlier", s)
		} else {
			last = n
		}
	}
	for s := int64(9223372030); s <= 9223372040; s++ {
		for _, ns := range []int64{0, 854775807, 999999999} {
			n := Nano(time.Unix(s, ns))
			if n < last && s > 9223372030 {
				t.Fatalf("%d.%d wraps around", s, ns)
			}
			last = n
		}
	}
}

func TestCursor(t *testing.T) {
	for _, nano := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
		for _, id := range []string{"x", strings.Repeat("y", 255)} {
			c := Cursor("t", nano, id)
			gotNano, gotID, err := ParseCursor("t", c)
			if err != nil || gotNano != nano || gotID != id {
				t.Errorf("%d %q: %d %q %v", nano, id, gotNano, gotID, err)
			}
			for _, other := range []string{"", "T", "tt"} {
				if _, _, err := ParseCursor(other, c); err == nil {
					t.Error("another tenant's cursor is accepted")
				}
			}
			for _, again := range []string{c + "\n", "\n" + c, c[:4] + "\r\n" + c[4:], c + "=", c + c} {
				if _, _, err := ParseCursor("t", again); err == nil {
					t.Errorf("%q is accepted as a spelling of a cursor", again)
				}
			}
			for i := range c { // every single change is seen
				for _, b := range []byte{'A', 'B', '_', '=', '\n', 0} {
					if b == c[i] {
						continue
					}
					if _, _, err := ParseCursor("t", c[:i]+string(b)+c[i+1:]); err == nil {
						t.Errorf("byte %d of %s changed to %q is accepted", i, c, b)
					}
				}
				if _, _, err := ParseCursor("t", c[:i]); err == nil {
					t.Errorf("%s cut at %d is accepted", c, i)
				}
			}
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("t", Cursor("t", 1, "id"))
	f.Add("t", "")
	f.Add("", "AQ")
	f.Fuzz(func(t *testing.T, tenant, cursor string) {
		nano, id, err := ParseCursor(tenant, cursor)
		if err == nil && Cursor(tenant, nano, id) != cursor {
			t.Errorf("%q has two spellings", cursor)
		}
	})
}

func TestErrorsHoldNoValues(t *testing.T) {
	const marker = "MARKER"
	for _, err := range []error{
		Part(marker + "\n"), Part(strings.Repeat(marker, 99)), List("p", marker+" ", 1), List(marker+" ", "", 1),
		Apply(1, func(int) (string, string, []byte) { return "p", marker + "\x00", []byte(marker) }),
		Apply(1, func(int) (string, string, []byte) { return "p", "i", []byte(strings.Repeat(marker, 1<<16)) }),
		Apply(2, func(int) (string, string, []byte) { return marker, marker, []byte(marker) }),
	} {
		if err == nil || strings.Contains(err.Error(), marker) {
			t.Errorf("%v", err)
		}
	}
}
