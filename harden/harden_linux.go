package harden

import (
	"fmt"
	"os"
	"syscall"
)

func process() error {
	// Both are needed. A limit of 0 does not bind the kernel where core_pattern
	// is a pipe to a collector; core(5). Not dumpable does, but ends with execve.
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("harden: RLIMIT_CORE: %w", os.NewSyscallError("setrlimit", err))
	}
	// Of the whole process, not of a thread: prctl(2).
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return fmt.Errorf("harden: PR_SET_DUMPABLE: %w", os.NewSyscallError("prctl", errno))
	}
	return nil
}
