package byok_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// asAnybody calls f without root's right to read and write what it is not permitted to, if the tests have it.
func asAnybody(t *testing.T, f func()) {
	var failed syscall.Errno
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		header := struct {
			version uint32
			pid     int32
		}{version: 0x20080522}
		var caps [2]struct{ effective, permitted, inheritable uint32 }
		if _, _, failed = syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&caps)), 0); failed != 0 {
			return
		}
		caps[0].effective &^= 1<<1 | 1<<2 // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
		if _, _, failed = syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&caps)), 0); failed == 0 {
			f()
		}
	}()
	if <-done; failed != 0 {
		t.Fatal(failed)
	}
}

// A directory in which files may be made, and which may not be read, so that its names cannot be made durable: that is
// found out before dst is another file, and not after.
func TestA15_DirectoryWithoutNames(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		dir := t.TempDir()
		plain, drop := filepath.Join(dir, "plain"), filepath.Join(dir, "drop")
		dst := filepath.Join(drop, "dst")
		write(t, plain, pattern(plainSegment+1))
		want(t, "Mkdir", os.Mkdir(drop, 0o700), nil)
		write(t, dst, []byte("before"))
		want(t, "Chmod", os.Chmod(drop, 0o300), nil)
		before := outcomes(env)
		asAnybody(t, func() {
			if err := os.WriteFile(filepath.Join(drop, "other"), nil, 0o600); err != nil {
				t.Errorf("this test could pass on nothing: %v", err)
			}
			if err := env.Keeper.SealFile(t.Context(), dst, plain, acmeScope, nil); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("SealFile: %v", err)
			}
		})
		want(t, "Chmod", os.Chmod(drop, 0o700), nil)
		got, err := os.ReadFile(dst)
		if want(t, "ReadFile", err, nil); string(got) != "before" {
			t.Errorf("dst has %d bytes", len(got))
		}
		if left := names(t, drop); len(left) != 2 {
			t.Errorf("files: %v", left)
		}
		if now := outcomes(env); now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess] {
			t.Error("a success in the log")
		}
	})
}
