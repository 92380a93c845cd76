//go:build unix

package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// openFlags keep a link, and a pipe without a writer, from being opened.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// owner gives f the owner and group of another file. Without the right to, it fails: the file must not change hands.
func owner(f *os.File, like fs.FileInfo) error {
	want, ok := like.Sys().(*syscall.Stat_t)
	info, err := f.Stat()
	if err != nil || !ok {
		return err
	}
	if have, ok := info.Sys().(*syscall.Stat_t); ok && have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// sync makes the names of a directory durable.
func (d *Dir) sync(dir string) error {
	f, err := d.root.Open(path.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
