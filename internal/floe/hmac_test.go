package floe

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"testing"

	"pgregory.net/rapid"
)

// inBothModes runs f with HMAC as it is in FIPS mode, and as it is otherwise.
func inBothModes(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	was := validated
	defer func() { validated = was }()
	for _, validated = range []bool{false, true} {
		name := "own HMAC"
		if validated {
			name = "crypto/hmac"
		}
		t.Run(name, f)
	}
}

// tag computes an HMAC in each way that there is, and one after the other with the same hasher.
func tag(t interface{ Errorf(string, ...any) }, h *hasher, key, data []byte) (out [sha512.Size384]byte) {
	h.hmac(&out, key, data)
	p := h.padded(key)
	for range 2 {
		var again [sha512.Size384]byte
		if h.hmacOf(&again, p, data); again != out {
			t.Errorf("another tag with hashed pads")
		}
	}
	return out
}

// Our HMAC is the one of the standard library, which RFC 2104 and FIPS 198-1 define, for all
// keys that fit into a block. What was hashed before does not matter.
func TestHMACIsHMAC(t *testing.T) {
	inBothModes(t, func(t *testing.T) {
		var h hasher
		h.init()
		rapid.Check(t, func(t *rapid.T) {
			key := rapid.SliceOfN(rapid.Byte(), 14, sha512.BlockSize).Draw(t, "key")
			data := rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "data")
			mac := hmac.New(sha512.New384, key)
			mac.Write(data)
			if got := tag(t, &h, key, data); !bytes.Equal(got[:], mac.Sum(nil)) {
				t.Fatalf("%x", got)
			}
			if rapid.Bool().Draw(t, "wipe") {
				h.wipe()
			}
		})
	})
}

// A key that does not fit would have to be hashed first. There is none: it would be a mistake.
func TestHMACOfLongKey(t *testing.T) {
	inBothModes(t, func(t *testing.T) {
		var h hasher
		h.init()
		defer func() {
			if recover() == nil {
				t.Error("a key longer than a block was taken")
			}
		}()
		h.padded(make([]byte, sha512.BlockSize+1))
	})
}

// One mode opens what the other seals.
func TestModesAgree(t *testing.T) {
	var sealed [][]byte
	msg := randomBytes(70_000)
	inBothModes(t, func(t *testing.T) {
		ct, err := Seal(nil, testKey, Params{}, testAAD, msg)
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, ct)
	})
	inBothModes(t, func(t *testing.T) {
		for _, ct := range sealed {
			if got, err := Open(nil, testKey, testAAD, ct); err != nil || !bytes.Equal(got, msg) {
				t.Error(err)
			}
		}
	})
}
