package byok_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/vectors"
)

var update = flag.Bool("update", false, "write the files of testdata/vectors that do not exist yet")

// The two folders of vectors, with the list of what is in them. A line of the list is
// never changed or removed: a release that could not open an older envelope would
// lose somebody's data.
const (
	goldenDir = "testdata/vectors/golden"
	badDir    = "testdata/vectors/bad"
	sumsFile  = "testdata/vectors/SHA256SUMS"
)

// The first lines of the list, and their digest: to take one away, somebody has to
// change these two as well, and say why. .ci/run also looks into git's history.
const (
	sumsKept   = 149
	sumsDigest = "2ae414b36b62dfe9d3efb6774e49240886768656943fe5dfd36df56c9ad877b8"
)

func TestVectorsUpdate(t *testing.T) {
	made := map[string][]*vectors.Vector{goldenDir: goldenVectors(), badDir: badVectors()}
	sums, err := os.ReadFile(sumsFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for _, dir := range []string{goldenDir, badDir} {
		names := map[string]bool{}
		for _, v := range made[dir] {
			if names[v.Name] {
				t.Errorf("two vectors %s", v.Name)
			}
			names[v.Name] = true
			// What the generator says is true of what it makes now, too.
			if err := v.Check(v.Open()); err != nil {
				t.Errorf("%s, made anew: %v", v.Name, err)
			}
			path := filepath.Join(dir, v.Name+".byok")
			if _, err := os.Stat(path); err == nil {
				continue
			} else if !*update {
				t.Errorf("%s is missing: go test -run TestVectorsUpdate -update .", path)
				continue
			}
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, v.Bytes(), 0o644)); err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(filepath.Dir(sumsFile), path)
			sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(v.Bytes()), filepath.ToSlash(rel))
			if err := os.WriteFile(sumsFile, sums, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkSums returns what is wrong with a list of files.
func checkSums(sums string, files map[string][]byte) (wrong []string) {
	listed := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(sums, "\n"), "\n") {
		sum, name, ok := strings.Cut(line, "  ")
		if b, exists := files[name]; !ok || !exists {
			wrong = append(wrong, fmt.Sprintf("line %d: there is no %q", i+1, name))
		} else if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
			wrong = append(wrong, name+" has changed")
		}
		listed[name] = true
	}
	for name := range files {
		if !listed[name] {
			wrong = append(wrong, name+" is not in the list")
		}
	}
	lines := strings.SplitAfter(sums, "\n")
	kept := sha256.Sum256([]byte(strings.Join(lines[:min(sumsKept, len(lines))], "")))
	if hex.EncodeToString(kept[:]) != sumsDigest {
		wrong = append(wrong, fmt.Sprintf("the first %d lines are others: lines are added, never changed", sumsKept))
	}
	return wrong
}

func TestVectorsAreAppendOnly(t *testing.T) {
	sums, err := os.ReadFile(sumsFile)
	want(t, "ReadFile", err, nil)
	files := map[string][]byte{}
	for _, dir := range []string{goldenDir, badDir} {
		paths, err := filepath.Glob(dir + "/*")
		want(t, "Glob", err, nil)
		for _, p := range paths {
			rel, _ := filepath.Rel(filepath.Dir(sumsFile), p)
			b, err := os.ReadFile(p)
			want(t, "ReadFile", err, nil)
			files[filepath.ToSlash(rel)] = b
		}
	}
	for _, w := range checkSums(string(sums), files) {
		t.Error(w)
	}
	// The check notices a file that is changed, taken away together with its line, or added.
	name := slices.Sorted(func(yield func(string) bool) {
		for n := range files {
			if !yield(n) {
				return
			}
		}
	})[0]
	keep := files[name]
	files[name] = append(bytes.Clone(keep), 0)
	if checkSums(string(sums), files) == nil {
		t.Error("nobody notices a changed file")
	}
	delete(files, name)
	if checkSums(string(sums), files) == nil {
		t.Error("nobody notices a missing file")
	}
	at := strings.Index(string(sums), name)
	line := strings.LastIndex(string(sums)[:at], "\n") + 1
	without := string(sums)[:line] + string(sums)[line+strings.Index(string(sums)[line:], "\n")+1:]
	if checkSums(without, files) == nil {
		t.Error("nobody notices a file that is gone with its line")
	}
	files[name], files["golden/new"] = keep, nil
	if checkSums(string(sums), files) == nil {
		t.Error("nobody notices a file without a line")
	}
}

// vectorKeyring unwraps what it is asked for to the data key of a vector, and only in
// the right context.
type vectorKeyring struct {
	byok.Keyring
	t     *testing.T
	v     *vectors.Vector
	asked int
}

func (k *vectorKeyring) UnwrapDataKey(_ context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	k.asked++
	if ec[byok.ContextTenant] != k.v.Tenant || ec["purpose"] != k.v.Purpose || ec["data_key_id"] != strings.Repeat("d1", 16) {
		k.t.Errorf("%s: context %v", k.v.Name, ec)
	}
	dek, err := byok.NewDEK(bytes.Clone(k.v.Key))
	return dek, byok.Receipt{}, err
}

// Every vector does what it says: in the parser and FLOE, and in the public Open, in
// which a data key is inside the envelope.
func TestVectors(t *testing.T) {
	golden, err := vectors.All(goldenDir)
	want(t, "All", err, nil)
	bad, err := vectors.All(badDir)
	want(t, "All", err, nil)
	opened, rules := 0, map[string]int{}
	for _, v := range append(golden, bad...) {
		if err := v.Check(v.Open()); err != nil {
			t.Errorf("%s (%s): %v", v.Name, v.Comment, err)
		}
		rules[v.Rule]++
		if _, err := byok.Inspect(v.Envelope); err == nil && v.Rule == "MUST-1" {
			t.Errorf("%s: Inspect shows it", v.Name)
		}
		key, inside := byok.KeyID{Provider: "aws-kms", ID: cmk1}, false
		if h, err := byok.Inspect(v.Envelope); err == nil && h.Policy == 1 {
			key, inside = h.Recipients[0].Key, true
		}
		ring := &vectorKeyring{t: t, v: v}
		d, err := byok.NewDirect(byoktest.Service, ring, key, new(byok.MemAudit))
		want(t, "NewDirect", err, nil)
		plain, err := d.Open(t.Context(), byok.Scope{Tenant: v.Tenant, Purpose: v.Purpose}, v.Envelope, v.AAD)
		switch {
		case v.Result == vectors.Opens && inside:
			opened++
			if want(t, v.Name, err, nil); v.Check(vectors.Opens, plain) != nil || ring.asked != 1 {
				t.Errorf("%s: another plaintext, or %d questions", v.Name, ring.asked)
			}
			continue
		case v.Result == vectors.Malformed:
			want(t, v.Name, err, byok.ErrMalformed)
		case v.Result == vectors.Argument && v.Purpose != "": // byok: it is then "default"
			want(t, v.Name, err, byok.ErrArgument)
		case inside && v.Name == "short-key":
			want(t, v.Name, err, byok.ErrKeyUnavailable)
		default:
			want(t, v.Name, err, byok.ErrOpen)
		}
		if plain != nil || ring.asked != 0 && v.Result != vectors.Refused {
			t.Errorf("%s: %d bytes beside an error, %d questions to KMS", v.Name, len(plain), ring.asked)
		}
	}
	if opened < 5 || len(golden) < 30 || len(bad) < 90 || len(rules) < 10 {
		t.Errorf("%d opened, %d golden, %d bad, rules %v: this test could pass on nothing", opened, len(golden), len(bad), rules)
	}
}
