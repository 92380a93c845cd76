// Package files is byok.Objects: the files of a directory and all below it, of one tenant.
//
//	dir, err := files.Open("/srv/tenants/acme", &files.Options{AAD: func(key string) []byte { return []byte("files/" + key) }})
//	...
//	resealer, err := keeper.Tenant("acme").ObjectResealer(ctx, job.ID, dir, nil)
//
// A key is a file's path below the directory, with slashes; their order is that of its bytes. Symbolic links are not followed and what is no
// regular file is passed over. Nothing outside of the directory is touched, whatever links there are (os.Root). A file whose path cannot be a
// key, see byok.Source, is named as a bad record: it is longer than 255 bytes, say.
//
// # Replacing
//
// A file is replaced by another one: written beside it under a name like ".byok-reseal-x.tmp", flushed to disk, given mode and owner, and renamed, so
// that a reader sees the old or the new, whole. Times, extended attributes and hard links are not kept. Files of names like ".byok-x.tmp", as
// byok.SealFile writes too, are no records; those of this package that are older than a day were left behind by a crash, and are removed as they are come across.
//
// # Writers
//
// The platform must write as this package does: another file, renamed. Until it has its name, that file must not be taken for a record, or a job
// would seal what is half written: let it be in another directory, have a name like ".byok-x.tmp", or be one that Options.Skip names.
// What the platform replaces a file by is another file, which is seen, and is not touched. But a file system has no rename that compares: between the last look and the rename, some microseconds, a
// writer of the platform's can come, and lose. Options.Lock excludes that. Without it, do not let others write while a job
// runs.
//
// # Files in clear
//
// With a Suffix, those whose name ends with it are sealed, and all others are in clear: "a.pdf" and "a.pdf.sealed" are the same
// record, with the key "a.pdf". Sealing one makes the second name, which fails if there is one, and then removes the first. So the platform, before a
// job begins that adopts, must write sealed files only, and read the sealed one if there are both: a crash can leave the file in
// clear beside it, until the next pass removes that.
//
// # Size
//
// A page reads the directories on its way anew, and holds no more names than the page has. Where one directory has a million files that is
// about half a second for each page: do not let them grow far beyond that.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/random"
)

// Options of Open; nil or zero is the default.
type Options struct {
	Suffix  string                  // of the names of sealed files, see above: ".sealed", say. "": all files are sealed
	Purpose func(key string) string // as byok.Scope.Purpose. Nil: ""
	AAD     func(key string) []byte // as files are sealed with, and are to be. Nil: none

	// Skip tells what is no record, beside what is no regular file: the platform's own temporary files, say. It is given the path of a file below
	// the directory, or that of a directory with a slash behind it, which is skipped with all that is in it. Nil: nothing is.
	Skip func(path string) bool

	// Lock excludes the platform's own writers of a key, until unlock is called, which is soon. Nil: there are none, or see above.
	Lock func(ctx context.Context, key string) (unlock func(), err error)
}

// Dir is byok.Objects, Splitter and Counter. It is safe for concurrent use, and any number of processes may have the same directory.
type Dir struct {
	root *os.Root
	opts Options
}

var (
	_ byok.Objects  = (*Dir)(nil)
	_ byok.Splitter = (*Dir)(nil)
	_ byok.Counter  = (*Dir)(nil)
)

const (
	tempPrefix = ".byok-"        // byok.SealFile's too
	ourPrefix  = ".byok-reseal-" // this package's
	tempSuffix = ".tmp"
	staleAfter = 24 * time.Hour // of the last byte that was written to it
)

func isTemp(name string) bool {
	return strings.HasPrefix(name, tempPrefix) && strings.HasSuffix(name, tempSuffix)
}

// Open returns the files of a directory. The error is byok.ErrArgument, or of package os. Close it when done.
func Open(dir string, opts *Options) (*Dir, error) {
	d := &Dir{}
	if opts != nil {
		d.opts = *opts
	}
	if strings.ContainsAny(d.opts.Suffix, "/\x00") {
		return nil, fmt.Errorf("%w: files: the suffix cannot be a part of a name", byok.ErrArgument)
	}
	var err error
	d.root, err = os.OpenRoot(dir)
	return d, err
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// found is what there is of a key.
type found struct {
	sealed, clear fs.FileInfo // nil: there is none
}

// version tells what there is, so that whatever is done to it is seen. "": nothing.
func (f found) version() string {
	switch {
	case f.clear == nil && f.sealed == nil:
		return ""
	case f.clear == nil:
		return "sealed " + identity(f.sealed)
	case f.sealed == nil:
		return "clear " + identity(f.clear)
	}
	return "both " + identity(f.sealed) + " " + identity(f.clear)
}

// look looks what there is of a key.
func (d *Dir) look(key string) (f found, err error) {
	if f.sealed, err = d.lstat(key + d.opts.Suffix); err == nil && d.opts.Suffix != "" && !strings.HasSuffix(key, d.opts.Suffix) {
		f.clear, err = d.lstat(key)
	}
	return f, err
}

// skip tells that a file or a directory, which has a slash behind it, is no record.
func (d *Dir) skip(path string) bool { return d.opts.Skip != nil && d.opts.Skip(path) }

// lstat returns nil if there is no regular file of that name that can be a record.
func (d *Dir) lstat(name string) (fs.FileInfo, error) {
	if d.skip(name) {
		return nil, nil
	}
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	return info, err
}

// Objects implements byok.Objects.
func (d *Dir) Objects(ctx context.Context, after, last string, limit int) ([]byok.Object, error) {
	if limit < 1 {
		return nil, fmt.Errorf("%w: files: a page has at least one object", byok.ErrArgument)
	}
	var page []byok.Object
	err := d.walk(ctx, after, last, limit, func(key string) (bool, error) {
		f, err := d.look(key)
		if err != nil || f.version() == "" { // or it is gone
			return err == nil, err
		}
		o := byok.Object{Key: key, Clear: f.clear != nil, Version: f.version()}
		if d.opts.Purpose != nil {
			o.Purpose = d.opts.Purpose(key)
		}
		if d.opts.AAD != nil {
			o.AAD = d.opts.AAD(key)
		}
		page = append(page, o)
		return len(page) < limit, nil
	})
	return page, err
}

// name is that of the file that o is.
func (d *Dir) name(o byok.Object) string {
	if o.Clear {
		return o.Key
	}
	return o.Key + d.opts.Suffix
}

var errChanged = errors.New("files: the file has changed since it was listed")

// Open implements byok.Objects.
func (d *Dir) Open(ctx context.Context, o byok.Object) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	is, err := d.look(o.Key)
	switch {
	case err != nil:
		return nil, err
	case is.version() == "":
		return nil, fmt.Errorf("%w: files: %q", byok.ErrNotFound, o.Key)
	case is.version() != o.Version:
		return nil, errChanged
	}
	// Somebody can put a link or a pipe there now: neither is opened, and no other file either.
	f, err := d.root.OpenFile(d.name(o), os.O_RDONLY|openFlags, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errChanged
		}
		return nil, refused(err)
	}
	info, err := f.Stat()
	want := is.sealed
	if o.Clear {
		want = is.clear
	}
	if err == nil && (!info.Mode().IsRegular() || identity(info) != identity(want)) {
		err = errChanged
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &reader{f, ctx, info}, nil
}

// reader notices at its end if somebody has written to the file.
type reader struct {
	*os.File
	ctx context.Context
	was fs.FileInfo
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.File.Read(p)
	if err == io.EOF {
		// Its name may be another file's by now; that, Replace looks at.
		if now, serr := r.Stat(); serr != nil || now.Size() != r.was.Size() || !now.ModTime().Equal(r.was.ModTime()) {
			err = errors.Join(errChanged, serr)
		}
	}
	return n, err
}

// WriteTo keeps io.Copy from going round Read.
func (r *reader) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{r}) }

// Replace implements byok.Objects.
func (d *Dir) Replace(ctx context.Context, o byok.Object, write func(io.Writer) error) (done bool, err error) {
	defer func() { err = refused(err) }()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	is, err := d.look(o.Key)
	if err != nil || is.version() == "" || is.version() != o.Version {
		return false, err
	}
	if is.sealed != nil && is.clear != nil {
		return d.superseded(ctx, o)
	}
	like := is.sealed
	if o.Clear {
		like = is.clear
	}
	temp, err := d.temp(ctx, path.Dir(o.Key), like, write)
	if err != nil {
		return false, err
	}
	defer func() {
		if !done || o.Clear { // or it has a second name now
			err = errors.Join(err, d.removed(temp))
		}
	}()
	unlock, err := d.lock(ctx, o.Key)
	if err != nil {
		return false, err
	}
	defer unlock()
	if is, err = d.look(o.Key); err != nil || is.version() != o.Version {
		return false, err
	}
	if !o.Clear {
		err = d.root.Rename(temp, d.name(o))
		done = err == nil
		return done, errors.Join(err, d.sync(path.Dir(o.Key)))
	}
	sealed := o.Key + d.opts.Suffix
	if err = d.root.Link(temp, sealed); errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	// On disk before what is in clear goes, and that on disk as well.
	if err == nil {
		err = d.sync(path.Dir(o.Key))
	}
	if err == nil {
		err = d.removed(o.Key) // or another process has: it saw both
		done = err == nil
	}
	return done, errors.Join(err, d.sync(path.Dir(o.Key)))
}

// refused: who may not read or replace one file may another one. A directory that may not be read is another thing: nobody knows what is in it.
func refused(err error) error {
	if errors.Is(err, fs.ErrPermission) && !errors.Is(err, byok.ErrRecordRefused) {
		return fmt.Errorf("%w: %w", byok.ErrRecordRefused, err)
	}
	return err
}

// superseded removes a file in clear beside the sealed one.
func (d *Dir) superseded(ctx context.Context, o byok.Object) (bool, error) {
	unlock, err := d.lock(ctx, o.Key)
	if err != nil {
		return false, err
	}
	defer unlock()
	if is, err := d.look(o.Key); err != nil || is.version() != o.Version {
		return false, err
	}
	// Whoever made the sealed one may have died before its name was on disk.
	if err := d.sync(path.Dir(o.Key)); err != nil {
		return false, err
	}
	if err := d.removed(o.Key); err != nil {
		return false, err
	}
	return true, d.sync(path.Dir(o.Key))
}

func (d *Dir) lock(ctx context.Context, key string) (func(), error) {
	if d.opts.Lock == nil {
		return func() {}, nil
	}
	return d.opts.Lock(ctx, key)
}

// temp makes a file in a directory, of what write writes, and with mode and owner of like. It is on disk.
func (d *Dir) temp(ctx context.Context, dir string, like fs.FileInfo, write func(io.Writer) error) (name string, err error) {
	name = path.Join(dir, ourPrefix+random.Text()+tempSuffix)
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
	if err != nil {
		return "", err
	}
	made := false
	defer func() { // also in a panic
		if !made {
			_ = f.Close()
			_ = d.root.Remove(name)
		}
	}()
	if err := write(&writer{f, ctx}); err != nil {
		return "", err
	}
	if err = owner(f, like); err == nil {
		err = f.Chmod(like.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)) // after chown, which takes bits away
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	made = err == nil
	return name, err
}

// writer ends with ctx.
type writer struct {
	f   *os.File
	ctx context.Context
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.f.Write(p)
}

// removed removes a file if it is there.
func (d *Dir) removed(name string) error {
	if err := d.root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
