//go:build !unix

package files

import (
	"io/fs"
	"os"
)

const openFlags = 0

func owner(*os.File, fs.FileInfo) error { return nil } // there is no such thing

func (d *Dir) sync(string) error { return nil } // nor this
