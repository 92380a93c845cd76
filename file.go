package byok

import (
	"context"
	"io"
	"os"
	"path/filepath"
)

// SealFile seals the file src to the file dst, as [Keeper.SealWriter] does. dst appears under
// its name when it is complete and on disk, and not before; what had that name is replaced
// then. On any error it is as it was, but for one of the last step, the fsync of dst's directory: then dst is the
// new file, and a crash of the machine may undo that.
//
// Until then there is a file with a name like ".byok-123.tmp" in dst's directory, which is removed
// on every error; only a crash leaves it behind. dst has the mode 0600, and nothing else of
// src: no time, owner or attribute. The errors are those of SealWriter and of package os.
func (k *Keeper) SealFile(ctx context.Context, dst, src string, s Scope, aad []byte) error {
	return intoFile(dst, src, func(dst io.Writer, src io.Reader) (*permit, error) {
		w, err := k.SealWriter(ctx, dst, s, aad)
		if err != nil {
			return nil, err
		}
		defer w.Abort()
		if _, err := w.ReadFrom(src); err != nil {
			return nil, err
		}
		return w.permit, w.Close()
	})
}

// OpenFile opens the sealed file src to the file dst, all of it or nothing: if src is not
// authentic to its last byte, or access to the CMK is denied meanwhile, dst is as it was.
// Where dst is before and its mode are as with [Keeper.SealFile]; mind that it then is plaintext
// in dst's directory. The errors are those of [Keeper.OpenReader] and of package os.
func (k *Keeper) OpenFile(ctx context.Context, dst, src string, s Scope, aad []byte) error {
	return intoFile(dst, src, func(dst io.Writer, src io.Reader) (*permit, error) {
		r, err := k.OpenReader(ctx, src, s, aad)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		_, err = r.WriteTo(dst)
		return r.permit, err
	})
}

// intoFile has fill write dst, out of sight until all of it is on disk. Renaming it is what
// releases it, so access is asked about once more before; if it fails after the outcome was
// recorded as a success, a withheld event says so.
func intoFile(dst, src string, fill func(io.Writer, io.Reader) (*permit, error)) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	dir := filepath.Dir(dst)
	f, err := os.CreateTemp(dir, ".byok-*.tmp") // mode 0600; in this directory, since a rename is atomic only within a file system
	if err != nil {
		return err
	}
	renamed := false
	defer func() { // also in a panic
		if !renamed {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	names, err := openDir(dir) // now: that it may not be read must not come out after the rename
	if err != nil {
		return err
	}
	defer names.Close()
	p, err := fill(f, in)
	if err != nil {
		return err
	}
	if err = f.Sync(); err == nil {
		err = f.Close()
	}
	if err == nil {
		err = p.Still()
	}
	if err == nil {
		err = os.Rename(f.Name(), dst)
	}
	if err != nil {
		return told(p.Done(err))
	}
	renamed = true
	return names.Sync()
}
