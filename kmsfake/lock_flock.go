//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package kmsfake

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock that is a flock on name. The file is not the one that
// it protects: that one is replaced at each save, and a lock on it would be a
// lock on the file of before. It is never removed, since whoever waits for a
// removed file's lock gets one that protects nothing.
//
// flock belongs to this opening of the file: a second one is refused in this
// process too, and the kernel ends it with the process, however that ends.
func lockFile(name string) (*os.File, error) {
	l, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return l, nil
	}
	_ = l.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}
	return nil, err
}
