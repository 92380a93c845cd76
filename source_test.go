package byok_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Rules that only the source can be asked about.

// source is a file that is not a test's.
type source struct {
	path    string // from the root of the repository, with slashes
	file    *ast.File
	imports map[string]string // name in this file -> import path
}

var fset = token.NewFileSet()

// sources parses all modules but tools, with any build tags.
func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (p == "tools" || p == "integration") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s := source{filepath.ToSlash(p), f, map[string]string{}}
		for _, i := range f.Imports {
			from, _ := strconv.Unquote(i.Path.Value)
			name := path.Base(from)
			if version := strings.TrimPrefix(name, "v"); version != name && len(version) == 1 {
				name = path.Base(path.Dir(from))
			}
			if i.Name != nil {
				name = i.Name.Name
			}
			s.imports[name] = from
		}
		all = append(all, s)
		return nil
	})
	want(t, "WalkDir", err, nil)
	if len(all) < 100 {
		t.Fatalf("only %d files: this test could pass on nothing", len(all))
	}
	return all
}

// uses calls f with each thing of another package that s mentions: "crypto/rand",
// "Read".
func (s source) uses(f func(pkg, name string, at token.Pos)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && s.imports[x.Name] != "" {
				f(s.imports[x.Name], sel.Sel.Name, sel.Pos())
			}
		}
		return true
	})
}

// product reports whether s runs in production: not a fake, no drill, and no suite for tests.
func (s source) product() bool {
	for _, dir := range []string{"kmsfake/", "keyringtest/", "storetest/", "sourcetest/", "byoktest/", "internal/fipstest/", "internal/vectors/", "internal/dynamofake/", "drill/", "cmd/"} {
		if strings.HasPrefix(s.path, dir) {
			return false
		}
	}
	return true
}

// What FIPS-only mode refuses is used nowhere, and random bytes come from one
// place (threats J1 and J5).
func TestJ5_ForbiddenCalls(t *testing.T) {
	packages := []string{"crypto/sha1", "crypto/md5", "crypto/des", "crypto/rc4", "crypto/dsa", "golang.org/x/crypto/chacha20",
		"golang.org/x/crypto/chacha20poly1305", "golang.org/x/crypto/nacl", "golang.org/x/crypto/blake2b", "golang.org/x/crypto/salsa20"}
	calls := map[string]bool{"crypto/cipher.NewGCM": true, "crypto/cipher.NewGCMWithNonceSize": true, "crypto/cipher.NewGCMWithTagSize": true,
		"crypto/cipher.NewCTR": true, "crypto/cipher.NewOFB": true, "crypto/cipher.NewCFBEncrypter": true, "crypto/cipher.NewCFBDecrypter": true}
	excluded := map[string]string{ // by name, with the reason
		"kmsfake/oaep.go":    "KMS's RSAES_OAEP_SHA_1, which FIPS-only mode refuses",
		"kmsfake/keywrap.go": "RSAES_OAEP_SHA_1 for imported key material, likewise",
	}
	gcm := 0
	for _, s := range sources(t) {
		for _, from := range s.imports {
			for _, bad := range packages {
				if (from == bad || strings.HasPrefix(from, bad+"/")) && (s.product() || excluded[s.path] == "") {
					t.Errorf("%s imports %s", s.path, from)
				}
			}
			if from == "crypto/rand" && s.product() && s.path != "internal/random/random.go" && !strings.HasPrefix(s.path, "examples/") && !strings.HasPrefix(s.path, "bench/") {
				t.Errorf("%s imports crypto/rand: its Reader can be replaced, so random bytes come from internal/random", s.path)
			}
		}
		s.uses(func(pkg, name string, at token.Pos) {
			if calls[pkg+"."+name] {
				t.Errorf("%v: %s.%s", fset.Position(at), pkg, name)
			}
			if pkg+"."+name == "crypto/cipher.NewGCMWithRandomNonce" {
				gcm++
			}
		})
	}
	if gcm == 0 {
		t.Error("no use of AES-GCM was found: this test could pass on nothing")
	}
}

// HMAC takes keys in two places: one has checked their length, the other's is a salt of 28
// bytes. FIPS-only mode panics on short ones (threat J6; internal/floe has the behaviour).
func TestJ6_OneUseOfHMAC(t *testing.T) {
	var files []string
	for _, s := range sources(t) {
		s.uses(func(pkg, name string, _ token.Pos) {
			if s.product() && (pkg == "crypto/hmac" || pkg == "crypto/hkdf" || pkg == "crypto/pbkdf2") {
				files = append(files, s.path+" "+name)
			}
		})
	}
	if got := strings.Join(files, ", "); got != "internal/floe/hmac.go New, internal/shares/shares.go Extract, internal/shares/shares.go Expand" {
		t.Errorf("uses of keyed hashes: %s", got)
	}
}

// Nothing secret is compared in a time that depends on it: what compares bytes is
// either crypto/subtle, and stands in this list, or not there at all.
func TestJ7_ConstantTime(t *testing.T) {
	where := map[string]string{
		"internal/floe/message.go":      "the tag that commits to a key",
		"load.go":                       "two data keys",
		"examples/server/tokens.go":     "hashes of bearer tokens",
		"internal/storecheck/cursor.go": "the checksum of a cursor, which is no secret",
	}
	variable := map[string]bool{"bytes.Equal": true, "bytes.Compare": true, "bytes.HasPrefix": true, "slices.Equal": true, "slices.Compare": true,
		"reflect.DeepEqual": true, "crypto/hmac.Equal": true, "bytes.EqualFold": true}
	for _, s := range sources(t) {
		if !s.product() {
			continue
		}
		s.uses(func(pkg, name string, at token.Pos) {
			switch {
			case pkg == "crypto/subtle" && name == "ConstantTimeCompare":
				if where[s.path] == "" {
					t.Errorf("%v: a comparison that is in no list", fset.Position(at))
				}
				delete(where, s.path)
			case variable[pkg+"."+name]:
				t.Errorf("%v: %s.%s takes a time that depends on what is compared", fset.Position(at), pkg, name)
			}
		})
	}
	for file, what := range where {
		t.Errorf("%s does not compare %s in constant time any more", file, what)
	}
}

// A trace of a panic shows arguments: an array in full, of a slice only where it
// is. So no function takes or returns an array of bytes that could be a key, nor a
// struct with one, by value (threat I-2).
func TestI_2_NoKeyArraysByValue(t *testing.T) {
	public := map[string]string{ // types and functions with arrays that are no secret
		".DataKeyID":                       "an id, which is in every envelope and in CloudTrail",
		".entryID":                         "an id, and the hash of a wrapped key",
		".flightID":                        "an id, and the hash of a wrapped key",
		".hashWrapped":                     "the hash of a wrapped key",
		".hash":                            "the hash of wrapped keys",
		"internal/format.Header":           "an id; wrapped keys are slices",
		"internal/floe.encode":             "FLOE's public parameters",
		"internal/storecheck.cursorDigest": "a checksum of public things",
		"byokhttp.Bearer":                  "the SHA-256 of a token: not the token",
		"examples/server.lookup":           "the SHA-256 of a token",
		"examples/server.newLookup":        "the SHA-256 of a token",
	}
	all := sources(t)
	dir := func(s source) string { return strings.TrimSuffix(path.Dir(s.path), "/") }
	arrays := map[string]bool{} // types of the module that are arrays of bytes, or hold some
	holds := func(s source, e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.ArrayType:
			elem, ok := e.Elt.(*ast.Ident)
			return ok && e.Len != nil && (elem.Name == "byte" || elem.Name == "uint8")
		case *ast.Ident:
			return arrays[strings.TrimPrefix(dir(s), ".")+"."+e.Name]
		case *ast.SelectorExpr:
			x, ok := e.X.(*ast.Ident)
			from, ours := strings.CutPrefix(s.imports[x.Name], "github.com/byok-go/byok")
			return ok && ours && arrays[strings.TrimPrefix(from, "/")+"."+e.Sel.Name]
		}
		return false
	}
	for range 4 { // structs in structs
		for _, s := range all {
			ast.Inspect(s.file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				name := strings.TrimPrefix(dir(s), ".") + "." + spec.Name.Name
				found := holds(s, spec.Type)
				if st, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						found = found || holds(s, f.Type)
					}
				}
				arrays[name] = found && public[name] == ""
				return true
			})
		}
	}
	if !arrays["internal/floe.message"] {
		t.Error("floe's message has arrays of key bytes, and they were not seen: this test could pass on nothing")
	}
	checked := 0
	for _, s := range all {
		if !s.product() {
			continue
		}
		check := func(name string, lists ...*ast.FieldList) {
			checked++
			for _, l := range lists {
				if l == nil {
					continue
				}
				for _, f := range l.List {
					if holds(s, f.Type) && public[strings.TrimPrefix(dir(s), ".")+"."+name] == "" {
						t.Errorf("%v: an array of bytes is passed by value (%s)", fset.Position(f.Pos()), name)
					}
				}
			}
		}
		for _, d := range s.file.Decls {
			name := ""
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.TypeSpec:
					name = n.Name.Name
				case *ast.FuncDecl:
					name = n.Name.Name
					check(name, n.Recv)
				case *ast.FuncType:
					check(name, n.Params, n.Results)
				}
				return true
			})
		}
	}
	if checked < 500 {
		t.Errorf("only %d functions", checked)
	}
}

// Whether a process may be debugged is its operator's choice: the library calls
// harden nowhere (threat I-5).
func TestI_5_NeverCalledSilently(t *testing.T) {
	for _, s := range sources(t) {
		for _, from := range s.imports {
			if strings.HasSuffix(from, "byok/harden") && !strings.HasPrefix(s.path, "examples/") {
				t.Errorf("%s imports %s", s.path, from)
			}
		}
	}
}
