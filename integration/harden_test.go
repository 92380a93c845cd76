package integration

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// With -harden, and not without, the server leaves no core dump (threat I-5).
func TestI_5_HardenedServer(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Fatal("-harden is for Linux, and so is this test")
	}
	core := func(args ...string) string {
		p := start(t, t.TempDir(), onFreePorts(args...)...)
		defer p.terminate()
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "Max core file size")
		line, _, _ := strings.Cut(rest, "\n")
		return strings.Join(strings.Fields(line), " ")
	}
	if got := core("-harden"); got != "0 0 bytes" {
		t.Errorf("with -harden the limit of core dumps is %q", got)
	}
	if got, ours := core(), ownCoreLimit(t); got != ours {
		t.Errorf("without it the limit is %q, and not the %q that it inherits", got, ours)
	}
}

func ownCoreLimit(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "Max core file size")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(line), " ")
}
