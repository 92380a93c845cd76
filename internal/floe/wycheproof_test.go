package floe

import (
	"bytes"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha512"
	"testing"
)

// testdata/wycheproof is from c2sp.org/wycheproof, unmodified (Apache-2.0, LICENSE
// inside). The tests make the very calls that this package and the root package make:
// AES-GCM through NewGCMWithRandomNonce, which takes the nonce from the front of
// the ciphertext; HMAC-SHA-384 through crypto/hmac, and our own; HKDF through crypto/hkdf, to
// which expand is compared by TestAgreesWithTheLiteralSpecification.

type wycheproofTest struct {
	TcID                                                      int
	Key, IV, AAD, Msg, CT, Tag, IKM, Salt, Info, OKM, Comment string
	Size                                                      int
	Result                                                    string
}

func wycheproof(t *testing.T, name string, f func(keySize, ivSize, tagSize int, c wycheproofTest)) {
	t.Helper()
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			KeySize, IVSize, TagSize int
			Tests                    []wycheproofTest
		}
	}
	readJSON(t, "wycheproof/"+name, &file)
	n := 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			f(g.KeySize, g.IVSize, g.TagSize, c)
			n++
		}
	}
	if n == 0 || n != file.NumberOfTests {
		t.Errorf("%s: %d tests, and it says %d", name, n, file.NumberOfTests)
	}
}

func TestWycheproofAESGCM(t *testing.T) {
	valid, invalid, other := 0, 0, 0
	wycheproof(t, "aes_gcm_test.json", func(keySize, ivSize, _ int, c wycheproofTest) {
		if keySize != 256 || ivSize != 96 {
			other++ // this package has no call for these
			return
		}
		sealed := append(append(fromHex(t, c.IV), fromHex(t, c.CT)...), fromHex(t, c.Tag)...)
		pt, err := gcmOpen(t, fromHex(t, c.Key), sealed, fromHex(t, c.AAD))
		switch c.Result {
		case "valid":
			valid++
			if err != nil || !bytes.Equal(pt, fromHex(t, c.Msg)) {
				t.Errorf("%d %s: %v", c.TcID, c.Comment, err)
			}
		case "invalid":
			invalid++
			if err == nil {
				t.Errorf("%d %s: opens", c.TcID, c.Comment)
			}
		default:
			t.Errorf("%d: %q", c.TcID, c.Result)
		}
	})
	if valid+invalid != 66 || valid < 30 || invalid < 20 {
		t.Errorf("%d valid, %d invalid, %d with other sizes", valid, invalid, other)
	}
}

func TestWycheproofHMAC(t *testing.T) {
	ran, own := 0, 0
	var h hasher
	h.init()
	wycheproof(t, "hmac_sha384_test.json", func(_, _, tagSize int, c wycheproofTest) {
		mac := hmac.New(sha512.New384, fromHex(t, c.Key))
		mac.Write(fromHex(t, c.Msg))
		got := mac.Sum(nil)[:tagSize/8]
		if hmac.Equal(got, fromHex(t, c.Tag)) != (c.Result == "valid") {
			t.Errorf("%d %s: not %s", c.TcID, c.Comment, c.Result)
		}
		// A MAC that is used again, as derive does, is as good as a new one.
		mac.Reset()
		mac.Write(fromHex(t, c.Msg))
		if !bytes.Equal(mac.Sum(nil)[:tagSize/8], got) {
			t.Errorf("%d: another tag after Reset", c.TcID)
		}
		if key := fromHex(t, c.Key); len(key) <= sha512.BlockSize {
			ours := tag(t, &h, key, fromHex(t, c.Msg))
			if hmac.Equal(ours[:tagSize/8], fromHex(t, c.Tag)) != (c.Result == "valid") {
				t.Errorf("%d %s: ours is not %s", c.TcID, c.Comment, c.Result)
			}
			own++
		}
		ran++
	})
	if ran != 174 || own < 150 {
		t.Errorf("%d tests, %d of our own HMAC", ran, own)
	}
}

func TestWycheproofHKDF(t *testing.T) {
	ran, forbidden := 0, 0
	wycheproof(t, "hkdf_sha384_test.json", func(_, _, _ int, c wycheproofTest) {
		ikm, salt := fromHex(t, c.IKM), fromHex(t, c.Salt)
		prk, err := hkdf.Extract(sha512.New384, ikm, salt)
		if err != nil && fips140.Enforced() {
			forbidden++ // short salts are HMAC keys that this mode refuses; ours has 28 bytes
			return
		}
		var okm []byte
		if err == nil {
			okm, err = hkdf.Expand(sha512.New384, prk, string(fromHex(t, c.Info)), c.Size)
		}
		if ran++; (err == nil && bytes.Equal(okm, fromHex(t, c.OKM))) != (c.Result == "valid") {
			t.Errorf("%d %s: %v, want %s", c.TcID, c.Comment, err, c.Result)
		}
		if c.Result == "valid" && c.Size <= sha512.Size384 {
			// One block of it is all that expand makes: T(1) = HMAC(PRK, info | 1).
			mac := hmac.New(sha512.New384, prk)
			mac.Write(append(fromHex(t, c.Info), 1))
			if !bytes.Equal(mac.Sum(nil)[:c.Size], okm) {
				t.Errorf("%d: T(1) is another", c.TcID)
			}
		}
	})
	if ran+forbidden != 83 || ran < 50 {
		t.Errorf("%d tests, %d of them forbidden here", ran+forbidden, forbidden)
	}
}
