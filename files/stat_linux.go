package files

import (
	"fmt"
	"io/fs"
	"syscall"
)

// identity changes with each write to a file, and from one file to the next. The time of the last change of the inode is nobody's to set.
func identity(info fs.FileInfo) string {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
	}
	return fmt.Sprintf("%d-%d-%d.%09d-%d.%09d-%d", s.Dev, s.Ino, s.Ctim.Sec, s.Ctim.Nsec, s.Mtim.Sec, s.Mtim.Nsec, s.Size)
}
