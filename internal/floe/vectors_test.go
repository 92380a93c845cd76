package floe

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pinned accepts one set of parameters only: what a test of other segment lengths
// has in place of accept. startOpening compares the whole of them.
func pinned(p params) func([]byte) (params, error) {
	return func([]byte) (params, error) { return p, nil }
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// knownAnswers finds the files of the other implementations. Their licence keeps
// them out of this repository: BYOK_SHARED names the folder that holds
// vectors/floe, otherwise a folder "shared" next to a parent directory is used.
func knownAnswers(t *testing.T) string {
	t.Helper()
	if root := os.Getenv("BYOK_SHARED"); root != "" {
		return filepath.Join(root, "vectors", "floe") // said in so many words: no skip
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for parent := filepath.Dir(dir); parent != dir; dir, parent = parent, filepath.Dir(parent) {
		candidate := filepath.Join(parent, "shared", "vectors", "floe")
		if _, err := os.Stat(candidate); err == nil {
			return candidate
		}
	}
	t.Skip("no shared/vectors/floe here, and BYOK_SHARED is not set: other implementations' files not checked")
	return ""
}

// Messages of five other implementations open, and a message of ours with the same
// content has the same length.
func TestKnownAnswersOfOtherImplementations(t *testing.T) {
	dir := knownAnswers(t)
	files, err := filepath.Glob(filepath.Join(dir, "*_ct.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no known-answer files (%v)", dir, err)
	}
	key, aad := make([]byte, 32), []byte("This is AAD")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), "_ct.txt")
		t.Run(name, func(t *testing.T) {
			p := params{40, rotationBits} // lastSegAligned, lastSegEmpty
			switch {
			case strings.HasSuffix(name, "_4K"):
				p.segment = 4096
			case strings.HasSuffix(name, "_64"):
				p.segment = 64
			case strings.HasSuffix(name, "_rotation"):
				p.rotation = 2
			}
			rawCT, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rawPT, err := os.ReadFile(strings.TrimSuffix(file, "_ct.txt") + "_pt.txt")
			if err != nil {
				t.Fatal(err)
			}
			ct, want := fromHex(t, string(rawCT)), fromHex(t, string(rawPT))
			got, err := open(nil, key, aad, ct, pinned(p))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("one-shot: %v", err)
			}
			if got, err = stream(ct, key, aad, pinned(p)); err != io.EOF || !bytes.Equal(got, want) {
				t.Fatalf("stream: %v", err)
			}
			if p.segment == 4096 {
				if got, err = Open(nil, key, aad, ct); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("exported Open: %v", err)
				}
			}
			ours, err := seal(nil, key, p, aad, want)
			if err != nil {
				t.Fatal(err)
			}
			// An aligned message may also end in an empty segment; we never write that.
			extra := 0
			if name == "java_lastSegEmpty" {
				extra = SegmentOverhead
			}
			if len(ours)+extra != len(ct) {
				t.Errorf("we write %d bytes, they wrote %d", len(ours), len(ct))
			}
		})
	}
}

// stream reads a message one byte at a time and returns what was released and the
// error that ended it, io.EOF for a complete message.
func stream(ct, key, aad []byte, allowed func([]byte) (params, error)) ([]byte, error) {
	r, err := newReader(bytes.NewReader(ct), key, aad, allowed)
	if err != nil {
		return nil, err
	}
	var out []byte
	for one := make([]byte, 1); ; {
		n, err := r.Read(one)
		out = append(out, one[:n]...)
		if err != nil {
			return out, err
		}
	}
}

type floeCase struct {
	TcID                                          int
	Comment, FailStage, Result, Key, AAD, CT, Msg string
	Flags                                         []string
	EncSegLen                                     int
	ReleasedPrefix                                string
}

func floeCases(t testing.TB) []floeCase {
	var file struct {
		NumberOfTests int
		Tests         []floeCase
	}
	readJSON(t, "floe-cases.json", &file)
	if len(file.Tests) != 78 || file.NumberOfTests != 78 {
		t.Fatalf("%d cases in floe-cases.json, want 78", len(file.Tests))
	}
	return file.Tests
}

// Each case fails at its stage, a stream releases exactly the prefix that it may,
// and a one-shot Open returns nothing.
func TestFLOECases(t *testing.T) {
	count := map[string]int{}
	for _, c := range floeCases(t) {
		count[c.Result]++
		key, aad, ct := fromHex(t, c.Key), fromHex(t, c.AAD), fromHex(t, c.CT)
		allowed := pinned(params{c.EncSegLen, rotationBits})
		room := bytes.Repeat([]byte{0xee}, 2000)
		oneShot, oneErr := open(room[:0], key, aad, ct, allowed)
		released, streamErr := stream(ct, key, aad, allowed)
		if c.Result == "valid" {
			msg := fromHex(t, c.Msg)
			if oneErr != nil || !bytes.Equal(oneShot, msg) {
				t.Errorf("%d %s: Open: %v", c.TcID, c.Comment, oneErr)
			}
			if streamErr != io.EOF || !bytes.Equal(released, msg) {
				t.Errorf("%d %s: Reader: %v", c.TcID, c.Comment, streamErr)
			}
			continue
		}
		headerErr := headerError(key, aad, ct[:min(len(ct), HeaderSize)], allowed)
		switch c.FailStage {
		case "header":
			if headerErr == nil {
				t.Errorf("%d %s: header accepted", c.TcID, c.Comment)
			}
		case "body":
			if headerErr != nil {
				t.Errorf("%d %s: header refused: %v", c.TcID, c.Comment, headerErr)
			}
		default:
			t.Fatalf("%d: stage %q", c.TcID, c.FailStage)
		}
		want := ErrAuth
		switch {
		case c.Flags[0] == "Downgrade", strings.HasPrefix(c.Comment, "header parameter"):
			want = ErrMalformed // public parameters, not cryptography
		}
		if oneErr != want || streamErr != want {
			t.Errorf("%d %s: Open: %v, Reader: %v, want %v", c.TcID, c.Comment, oneErr, streamErr, want)
		}
		if !bytes.Equal(released, fromHex(t, c.ReleasedPrefix)) {
			t.Errorf("%d %s: released %x, may release %s", c.TcID, c.Comment, released, c.ReleasedPrefix)
		}
		if oneShot != nil {
			t.Errorf("%d %s: Open returned %d bytes", c.TcID, c.Comment, len(oneShot))
		}
		// Not only nothing returned, nothing left behind either.
		for _, b := range room {
			if b != 0xee && b != 0 {
				t.Errorf("%d %s: plaintext left in dst", c.TcID, c.Comment)
				break
			}
		}
	}
	if count["valid"] != 13 || count["invalid"] != 65 {
		t.Errorf("ran %v, want 13 valid and 65 invalid", count)
	}
}

// The exported functions only know three segment lengths: every case with another
// one is malformed for them, however valid it is.
func TestCasesWithOtherSegmentLengthsAreMalformed(t *testing.T) {
	ran := 0
	for _, c := range floeCases(t) {
		ct := fromHex(t, c.CT)
		if c.EncSegLen == 4096 && c.Result == "valid" || len(ct) < HeaderSize {
			continue
		}
		ran++
		_, err := Open(nil, fromHex(t, c.Key), fromHex(t, c.AAD), ct)
		_, streamErr := newReader(bytes.NewReader(ct), fromHex(t, c.Key), fromHex(t, c.AAD), accept)
		if err != ErrMalformed || streamErr != ErrMalformed {
			t.Errorf("%d %s: %v, %v", c.TcID, c.Comment, err, streamErr)
		}
	}
	if ran < 60 {
		t.Errorf("only %d cases ran", ran)
	}
}

type salamanders struct {
	RawGCM []struct {
		Keys, Plaintexts     []string
		Nonce, AAD, CtAndTag string
	}
	FloeCanary struct {
		EncSegLen                         int
		AAD, Key1, Key2, FloeCiphertext   string
		PlaintextUnderKey1                string
		PlaintextIfCommitmentIsNotChecked string
	}
}

func gcmOpen(t *testing.T, key, sealed, aad []byte) ([]byte, error) {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead.Open(nil, nil, sealed, aad)
}

// AES-GCM alone opens one ciphertext under 2 or 16 keys. Carried as a segment by
// FLOE, under a header that is right for one key, it opens under no other: and all
// the others get the same error, so that trying keys tells nothing.
func TestC1_C2_InvisibleSalamanders(t *testing.T) {
	var s salamanders
	readJSON(t, "salamander-cases.json", &s)
	if len(s.RawGCM) != 2 || len(s.RawGCM[0].Keys) != 2 || len(s.RawGCM[1].Keys) != 16 {
		t.Fatal("want one ciphertext under 2 and one under 16 keys")
	}
	for _, c := range s.RawGCM {
		sealed, aad := append(fromHex(t, c.Nonce), fromHex(t, c.CtAndTag)...), fromHex(t, c.AAD)
		for i, k := range c.Keys {
			pt, err := gcmOpen(t, fromHex(t, k), sealed, aad)
			if err != nil || !bytes.Equal(pt, fromHex(t, c.Plaintexts[i])) {
				t.Fatalf("the sanity check failed: no salamander: %v", err)
			}
		}
		iv := make([]byte, ivSize)
		carrier := newReference(fromHex(t, c.Keys[0]), aad, iv, params{4096, rotationBits}).header()
		carrier = append(carrier, 0, 0, byte((len(sealed)+4)>>8), byte(len(sealed)+4))
		carrier = append(carrier, sealed...)
		for i, k := range c.Keys {
			headerErr := headerError(fromHex(t, k), aad, carrier[:HeaderSize], accept)
			if (headerErr == nil) != (i == 0) || (i > 0 && headerErr != ErrAuth) {
				t.Errorf("key %d: header: %v", i, headerErr)
			}
			if _, err := Open(nil, fromHex(t, k), aad, carrier); err != ErrAuth {
				t.Errorf("key %d: %v", i, err)
			}
		}
	}
}

// The canary's only segment authenticates under the segment keys of two FLOE keys.
// The header tag alone tells them apart, and it does so before a segment is seen:
// NewDecryptor is given none.
func TestC3_CommitmentCanary(t *testing.T) {
	var s salamanders
	readJSON(t, "salamander-cases.json", &s)
	c := s.FloeCanary
	aad, ct := fromHex(t, c.AAD), fromHex(t, c.FloeCiphertext)
	key1, key2 := fromHex(t, c.Key1), fromHex(t, c.Key2)

	pt, err := Open(nil, key1, aad, ct)
	if err != nil || !bytes.Equal(pt, fromHex(t, c.PlaintextUnderKey1)) {
		t.Fatalf("key 1: %v", err)
	}
	ref := newReference(key2, aad, ct[10:42], params{c.EncSegLen, rotationBits})
	pt, err = ref.open(ct[HeaderSize:], 0, 1)
	if err != nil || !bytes.Equal(pt, fromHex(t, c.PlaintextIfCommitmentIsNotChecked)) {
		t.Fatalf("the sanity check failed, the canary is dead: %v", err)
	}
	if err := headerError(key2, aad, ct[:HeaderSize], accept); !errors.Is(err, ErrAuth) {
		t.Errorf("key 2: header: %v", err)
	}
	if pt, err := Open(nil, key2, aad, ct); err != ErrAuth || pt != nil {
		t.Errorf("key 2: %d bytes, %v", len(pt), err)
	}
	// A prefix of the tag is not the tag: each of its bytes counts.
	for i := prefixSize; i < HeaderSize; i++ {
		bad := bytes.Clone(ct)
		bad[i] ^= 1
		if _, err := Open(nil, key1, aad, bad); err != ErrAuth {
			t.Errorf("byte %d of the header changed: %v", i, err)
		}
	}
}
