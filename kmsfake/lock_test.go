//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package kmsfake

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Two KMS on one file would each overwrite what the other saved.
func TestFileIsLocked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	one := New(&Options{TB: t, File: file})
	key := one.Account(customer).CreateKey("") // the save replaced the file
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // nor does a refusal give the lock away
		two, err := Open(&Options{File: file})
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "is in use by another process") {
			t.Fatalf("a second KMS on the file: %v, %v", two, err)
		}
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Error("the refused one changed the file", err)
	}
	if info, err := os.Stat(file + ".lock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}

	for range 2 {
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
	}
	two := New(&Options{TB: t, File: file})
	two.Account(customer).Key(key.ARN()).Disable()
	// The first one has no say any more.
	if _, err := one.Client(customer).CreateKey(context.Background(), nil); code(err) != "KMSInternalException" {
		t.Errorf("after Close: %v", err)
	}
	if _, err := one.Client(customer).EnableKey(context.Background(), &kms.EnableKeyInput{KeyId: aws.String(key.ID())}); code(err) != "KMSInternalException" {
		t.Errorf("after Close: %v", err)
	}
	two.killed()
	three := New(&Options{TB: t, File: file})
	if s := three.Account(customer).Key(key.ARN()).State(); s != types.KeyStateDisabled || len(three.st.Keys) != 1 {
		t.Errorf("the key is %s, of %d", s, len(three.st.Keys))
	}
	if err := New(nil).Close(); err != nil {
		t.Error(err)
	}
}

// Another process is refused, and nothing is left of the lock of one that was killed.
func TestLockOfAnotherProcess(t *testing.T) {
	if file := os.Getenv("KMSFAKE_LOCK_HOLDER"); file != "" {
		fake := New(&Options{File: file})
		fmt.Println("locked")
		for { // with fake in use: an unreachable one would be collected, and its lock with it
			time.Sleep(time.Second)
			fake.Calls()
		}
	}
	file := filepath.Join(t.TempDir(), "kms.json")
	child := exec.Command(os.Args[0], "-test.run=^TestLockOfAnotherProcess$")
	child.Env = append(os.Environ(), "KMSFAKE_LOCK_HOLDER="+file)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if lines := bufio.NewScanner(out); !lines.Scan() || lines.Text() != "locked" {
		t.Fatalf("the child says %q", lines.Text())
	}
	if _, err := Open(&Options{File: file}); !errors.Is(err, ErrInUse) {
		t.Errorf("the file of another process: %v", err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	if err := New(&Options{TB: t, File: file}).Close(); err != nil {
		t.Error(err)
	}
}
