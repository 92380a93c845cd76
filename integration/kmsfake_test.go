package integration

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kmsProcess is a running cmd/kmsfake.
type kmsProcess struct {
	cmd    *exec.Cmd
	url    string
	closed chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func startKMSFake(t *testing.T, args ...string) *kmsProcess {
	t.Helper()
	p := &kmsProcess{cmd: exec.Command(kmsfakeBinary, append([]string{"-addr", "127.0.0.1:0"}, args...)...), closed: make(chan struct{})}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	url := make(chan string, 1)
	go func() {
		defer close(p.closed)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.out.WriteString(s.Text() + "\n")
			p.mu.Unlock()
			if at, ok := strings.CutPrefix(s.Text(), "listening on "); ok {
				url <- at
			}
		}
	}()
	select {
	case p.url = <-url:
	case <-p.closed:
		t.Fatal("kmsfake ended")
	case <-time.After(30 * time.Second):
		t.Fatal("kmsfake does not start")
	}
	return p
}

// stop ends it and returns what it printed.
func (p *kmsProcess) stop(t *testing.T) string {
	if p.cmd.ProcessState == nil {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-p.closed
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("kmsfake: %v", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// TestFiveMinutes runs the commands of docs/testing-revocation.md: from nothing to
// "my Decrypt is denied after I removed the statement, and here is why".
func TestFiveMinutes(t *testing.T) {
	guide, err := os.ReadFile("../docs/testing-revocation.md")
	if err != nil {
		t.Fatal(err)
	}
	var script []string
	for _, b := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(string(guide), -1) {
		if strings.Contains(b[1], "kms 111122223333") {
			script = append(script, b[1])
		}
	}
	if len(script) != 2 {
		t.Fatalf("the guide has %d blocks of commands", len(script))
	}
	p := startKMSFake(t, "-v")
	cmd := exec.Command("bash", "-c", strings.ReplaceAll(script[0]+"test $? = 0 || exit 9\n"+script[1], "http://127.0.0.1:4599", p.url))
	cmd.Dir = t.TempDir()
	cmd.Env = append(cleanEnv("AWS_PAGER=", "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent",
		"AWS_EC2_METADATA_DISABLED=true"), "PATH="+filepath.Dir(*awsBinary)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 254 || err == nil {
		t.Errorf("status %d, want 254", code)
	}
	for _, want := range []string{`"Plaintext": "aGVsbG8="`, "An error occurred (AccessDeniedException) when calling the Decrypt operation"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands do not print %q:\n%s", want, out)
		}
	}
	_, why, _ := strings.Cut(p.stop(t), "Decrypt AccessDeniedException")
	for _, want := range []string{"DENIED kms:Decrypt", "statement 1 (owner): does not apply"} {
		if !strings.Contains(why, want) {
			t.Errorf("the log of kmsfake lacks %q:\n%s", want, why)
		}
	}
}
