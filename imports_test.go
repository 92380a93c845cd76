package byok_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The rules of the house: imports go one way, and whoever imports byok compiles
// neither an SDK, nor a database driver, nor a test library.
func TestImports(t *testing.T) {
	const module = "github.com/byok-go/byok"
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	type pkg struct {
		ImportPath    string
		Imports, Deps []string
	}
	pkgs := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[p.ImportPath] = p
	}
	if len(pkgs) < 8 {
		t.Fatalf("only %d packages: this test could pass on nothing", len(pkgs))
	}
	forbid := func(path, why string, bad func(string) bool) {
		p, ok := pkgs[path]
		if !ok {
			t.Errorf("no package %s", path)
		}
		for _, d := range p.Deps {
			if bad(d) {
				t.Errorf("%s depends on %s: %s", path, d, why)
			}
		}
	}
	sdk := func(d string) bool { return strings.HasPrefix(d, "github.com/aws/") }
	suites := []string{module + "/keyringtest", module + "/storetest", module + "/sourcetest", module + "/byoktest", module + "/internal/fipstest"}

	forbid(module, "the root links only its own parts and cryptobyte", func(d string) bool {
		host, _, _ := strings.Cut(d, "/")
		return strings.Contains(host, ".") && !strings.HasPrefix(d, module+"/internal/") &&
			!strings.HasPrefix(d, "golang.org/x/crypto/cryptobyte") && !strings.HasPrefix(d, "vendor/") || d == "testing" || d == "database/sql" || d == "net/http"
	})
	forbid(module+"/kmsfake", "it stands alone", func(d string) bool { return d == module || d == "testing" })
	forbid(module+"/cmd/kmsfake", "it is kmsfake and nothing else", func(d string) bool { return d == module || d == "testing" })
	forbid(module+"/byokhttp", "it serves any Keyring", sdk)
	forbid(module+"/drill", "it drills any Keyring and Store", func(d string) bool { return sdk(d) || d == "testing" || d == "net/http" || d == "database/sql" })
	for path, p := range pkgs {
		rel := strings.TrimPrefix(path, module+"/")
		for _, i := range p.Imports {
			switch {
			case strings.HasPrefix(rel, "internal/") && (i == module || strings.HasPrefix(i, module+"/") && !strings.HasPrefix(i, module+"/internal/")):
				t.Errorf("%s imports %s: internal packages import only each other", path, i)
			case sdk(i) && rel != "awskms" && rel != "kmsfake" && rel != "dynamostore" && !strings.HasPrefix(rel, "examples/") && !strings.HasPrefix(rel, "cmd/"):
				t.Errorf("%s imports %s: only awskms, kmsfake and dynamostore may", path, i)
			case i == module+"/internal/dynamofake":
				t.Errorf("%s imports %s: it is for tests only", path, i)
			case i == module+"/internal/vectors":
				t.Errorf("%s imports %s: it forges envelopes, for tests only", path, i)
			case i == "testing" && !slices.Contains(suites, path):
				t.Errorf("%s imports testing: only the suites may", path)
			}
		}
	}
}
