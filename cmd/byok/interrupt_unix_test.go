//go:build unix

package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An interrupt in the midst of a drill: access is given back, and the status says
// that nothing was shown.
func TestDrillInterrupted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, p.args("-customer-access-key", account)...)
	// As from a terminal: the interrupt goes to the workers as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); p.cmk.State() == "Enabled" && time.Since(begun) < time.Minute; {
		time.Sleep(5 * time.Millisecond)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(out.String(), "INCONCLUSIVE") {
		t.Errorf("status %d\n%s", cmd.ProcessState.ExitCode(), &out)
	}
	p.enabled()
}
