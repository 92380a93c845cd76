package files_test

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/byok-go/byok"
)

// A file that may not be read, or whose owner cannot be kept, is a record that is refused; a directory that may not be read is an error.
func TestRefusedFiles(t *testing.T) {
	d, p := open(t, "")
	for _, name := range []string{"a", "dir/b", "c"} {
		if err := p.put(name, []byte("sealed"), false); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(p.path("dir"), 0o700) })
	for name, mode := range map[string]os.FileMode{"a": 0, "dir": 0o555} {
		if err := os.Chmod(p.path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	objects := all(t, d)
	if os.Geteuid() == 0 { // who may do everything. These rights are of this thread, which ends with the test
		runtime.LockOSThread()
		if err := os.Chmod(p.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(syscall.Setfsgid(54321), syscall.Setfsuid(12345)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Setfsuid(0); _ = syscall.Setfsgid(0); runtime.UnlockOSThread() }()
		// Another one's file can be read, and its owner cannot be kept.
		if done, err := d.Replace(t.Context(), objects[1], write("new")); done || !errors.Is(err, byok.ErrRecordRefused) {
			t.Errorf("the file of another one: %t, %v", done, err)
		}
	}
	if f, err := d.Open(t.Context(), objects[0]); !errors.Is(err, byok.ErrRecordRefused) {
		t.Errorf("%v, %v", f, err)
	}
	if done, err := d.Replace(t.Context(), objects[2], write("new")); done || !errors.Is(err, byok.ErrRecordRefused) {
		t.Errorf("in a directory that cannot be written: %t, %v", done, err)
	}
	own := errors.New("the writer's")
	if _, err := d.Replace(t.Context(), objects[1], func(io.Writer) error { return own }); !errors.Is(err, own) || errors.Is(err, byok.ErrRecordRefused) {
		t.Errorf("%v", err)
	}
}
