package byok_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/byok-go/byok/internal/fipstest"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	fipstest.Main(m)
}

// Some tests need a process of their own: one whose memory no other test has
// touched, or one whose random source is broken. It is this binary again, and
// does what its name in children says instead of running tests.
const childEnv = "BYOK_TEST_CHILD"

var children = map[string]func(out io.Writer) error{}

// child runs a process of that name and returns what it printed.
func child(t *testing.T, name string, env ...string) string {
	t.Helper()
	if children[name] == nil {
		t.Fatalf("no child process %q", name)
	}
	exe, err := os.Executable()
	want(t, "Executable", err, nil)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(append(os.Environ(), env...), childEnv+"="+name)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child %s: %v\n%s", name, err, stderr.String())
	}
	return string(out)
}
