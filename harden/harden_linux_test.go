package harden

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const childEnv = "BYOK_HARDEN_CHILD"

// The child hardens itself, says what the kernel thinks of it, and waits.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	for range 2 { // once more does no harm
		if err := Process(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	dumpable, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_GET_DUMPABLE, 0, 0)
	fmt.Println("core", limit.Cur, limit.Max, "dumpable", dumpable, errno == 0)
	raised := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: 1 << 30, Max: 1 << 30})
	fmt.Println("raised", raised == nil && os.Getuid() != 0)
	_ = os.Stdout.Close()
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent has looked
	panic("with GOTRACEBACK=crash this aborts, which dumps core")
}

// The kernel says that the process leaves no core dump, and its files in /proc
// are not its user's any more (threat I-5).
func TestI_5_Process(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"=1", "GOTRACEBACK=crash")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	buf := make([]byte, 256)
	for {
		n, err := stdout.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if want := "core 0 0 dumpable 0 true\nraised false\n"; out.String() != want {
		t.Errorf("the child says %q, want %q", out.String(), want)
	}
	// proc(5): files of a process that is not dumpable belong to root.
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
		t.Errorf("its memory belongs to user %d", uid)
	}
	_ = stdin.Close()
	err = cmd.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		t.Fatalf("the child ended with %v, want SIGABRT", err)
	}
	if status := ended.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("signal %v, core dumped: %v", status.Signal(), status.CoreDump())
	}
}
