package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/files"
	"github.com/byok-go/byok/sourcetest"
)

// platform is the platform's side of a directory: it writes as the package's documentation tells.
type platform struct {
	dir, suffix string
	mu          sync.Mutex
	locks       map[string]*sync.Mutex
}

func (p *platform) lock(_ context.Context, key string) (func(), error) {
	p.mu.Lock()
	l := p.locks[key]
	if l == nil {
		l = new(sync.Mutex)
		p.locks[key] = l
	}
	p.mu.Unlock()
	l.Lock()
	return l.Unlock, nil
}

func (p *platform) path(key string) string { return filepath.Join(p.dir, filepath.FromSlash(key)) }

func (p *platform) put(key string, value []byte, inClear bool) error {
	unlock, _ := p.lock(context.Background(), key)
	defer unlock()
	at, other := p.path(key)+p.suffix, p.path(key)
	if inClear {
		at, other = other, at
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(at+".new", value, 0o600); err != nil {
		return err
	}
	if err := os.Rename(at+".new", at); err != nil || p.suffix == "" {
		return err
	}
	if err := os.Remove(other); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (p *platform) get(key string) (value []byte, inClear bool, err error) {
	for range 100 {
		if value, err = os.ReadFile(p.path(key) + p.suffix); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return value, false, err
		}
		if p.suffix == "" {
			break
		}
		if value, err = os.ReadFile(p.path(key)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return value, true, err
		}
	}
	return nil, false, byok.ErrNotFound
}

func (p *platform) remove(key string) error {
	unlock, _ := p.lock(context.Background(), key)
	defer unlock()
	err := os.Remove(p.path(key) + p.suffix)
	if p.suffix != "" && errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(p.path(key))
	}
	return err
}

func open(t *testing.T, suffix string) (*files.Dir, *platform) {
	t.Helper()
	p := &platform{dir: t.TempDir(), suffix: suffix, locks: map[string]*sync.Mutex{}}
	d, err := files.Open(p.dir, &files.Options{Suffix: suffix, Lock: p.lock,
		Skip:    func(path string) bool { return strings.HasSuffix(path, ".new") || strings.HasSuffix(path, "/skipped/") },
		Purpose: func(key string) string { return "of " + filepath.Base(key) }, AAD: func(key string) []byte { return []byte("files/" + key) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, p
}

// key makes paths whose order is another than that of directories walked one by one.
func key(i int) string {
	return fmt.Sprintf([]string{"d%d/f", "d%d.x", "d%d0", "d%d/e/g h", "d%d-/ü", "D%d/%%"}[i%6], i/6%10) + strings.Repeat("0", i/60)
}

func TestContract(t *testing.T) {
	for name, suffix := range map[string]string{"all sealed": "", "sealed by name": ".sealed"} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Test(t, func(t *testing.T) sourcetest.Place {
				d, p := open(t, suffix)
				return sourcetest.Place{Objects: d, Put: p.put, Get: p.get, Delete: p.remove, Key: key, SealedOnly: suffix == "",
					Same:  func(key string) (string, []byte) { return "of " + filepath.Base(key), []byte("files/" + key) },
					Break: func() { _ = d.Close() }}
			})
		})
	}
}

func all(t *testing.T, d *files.Dir) []byok.Object {
	t.Helper()
	o, err := d.Objects(t.Context(), "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func write(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

// Any tree, any range, any page: the keys in the order of their bytes.
func TestOrder(t *testing.T) {
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(n))
		n++
		part := rapid.StringMatching(`[ab.\-0]{1,3}`).Filter(func(s string) bool { return s != "." && s != ".." })
		var keys []string
		for range rapid.IntRange(1, 12).Draw(r, "files") {
			k := strings.Join(rapid.SliceOfN(part, 1, 3).Draw(r, "path"), "/")
			if os.MkdirAll(filepath.Join(dir, filepath.Dir(k)), 0o700) == nil && os.WriteFile(filepath.Join(dir, k), nil, 0o600) == nil {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		d, err := files.Open(dir, nil)
		if err != nil {
			r.Fatal(err)
		}
		defer d.Close()
		after, last := rapid.SampledFrom(append(keys, "", "a/b")).Draw(r, "after"), rapid.SampledFrom(append(keys, "", "a/b")).Draw(r, "last")
		limit := rapid.IntRange(1, 5).Draw(r, "limit")
		var got, want []string
		for _, k := range keys {
			if k > after && (last == "" || k <= last) {
				want = append(want, k)
			}
		}
		for at := after; ; {
			page, err := d.Objects(t.Context(), at, last, limit)
			if err != nil || len(page) > limit {
				r.Fatal(len(page), err)
			}
			if len(page) == 0 {
				break
			}
			for _, o := range page {
				got = append(got, o.Key)
			}
			at = got[len(got)-1]
		}
		if !slices.Equal(got, want) {
			r.Fatalf("after %q up to %q in pages of %d: %q, want %q", after, last, limit, got, want)
		}
	})
}

// A directory with more entries than a page holds is read in parts.
func TestLargeDirectory(t *testing.T) {
	d, p := open(t, ".sealed")
	const n = 3500
	for i := range n {
		if err := os.WriteFile(p.path(fmt.Sprintf("f%04d.sealed", i*7919%n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	after, seen := "", 0
	for {
		page, err := d.Objects(t.Context(), after, "", 700)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, o := range page {
			if o.Key != fmt.Sprintf("f%04d", seen) {
				t.Fatalf("the key %d is %q", seen, o.Key)
			}
			seen++
		}
		after = page[len(page)-1].Key
	}
	if count, err := d.Count(t.Context()); seen != n || count != n || err != nil {
		t.Errorf("%d files, counted %d, %v", seen, count, err)
	}
	lasts, err := d.Split(t.Context(), 4)
	if err != nil || len(lasts) != 3 {
		t.Fatal(lasts, err)
	}
	for i, last := range lasts {
		var at int
		if _, err := fmt.Sscanf(last, "f%d", &at); err != nil || at < n*(i+1)/4-n/10 || at > n*(i+1)/4+n/10 {
			t.Errorf("shard %d ends with %s", i, last)
		}
	}
}

// Links are not followed, out of the directory or within it, and what is no regular file is passed over.
func TestLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Fatal("this test is about links as Unix has them")
	}
	d, p := open(t, "")
	outside := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(outside, "secret"), []byte("of another tenant"), 0o600))
	must(p.put("dir/a", []byte("a"), false))
	must(os.Symlink(outside, p.path("out")))
	must(os.Symlink(filepath.Join(outside, "secret"), p.path("dir/secret")))
	must(os.Symlink("dir", p.path("in")))
	must(os.Symlink("a", p.path("dir/b")))
	o := all(t, d)
	if len(o) != 1 || o[0].Key != "dir/a" {
		t.Fatalf("%+v", o)
	}
	// The file becomes a link after it was listed.
	must(os.Remove(p.path("dir/a")))
	must(os.Symlink(filepath.Join(outside, "secret"), p.path("dir/a")))
	if r, err := d.Open(t.Context(), o[0]); err == nil {
		b, _ := io.ReadAll(r)
		t.Errorf("a link was followed: %q", b)
	}
	if done, err := d.Replace(t.Context(), o[0], write("x")); done || err != nil {
		t.Errorf("a link was replaced: %t, %v", done, err)
	}
	// The directory becomes one that leads outside.
	must(os.RemoveAll(p.path("dir")))
	must(os.Symlink(outside, p.path("dir")))
	must(os.WriteFile(filepath.Join(outside, "a"), []byte("a"), 0o600))
	if _, err := d.Open(t.Context(), o[0]); err == nil {
		t.Error("a directory that is a link was followed")
	}
	if done, _ := d.Replace(t.Context(), o[0], write("x")); done {
		t.Error("a file outside was replaced")
	}
	for _, name := range []string{"../secret", "/etc/passwd", "dir/secret"} {
		if _, err := d.Open(t.Context(), byok.Object{Key: name}); err == nil {
			t.Errorf("%q was opened", name)
		}
	}
}

// A replaced file has its mode, and its owner, and nothing is left beside it.
func TestModeIsKept(t *testing.T) {
	d, p := open(t, ".sealed")
	for _, inClear := range []bool{false, true} {
		if err := p.put("f", []byte("old"), inClear); err != nil {
			t.Fatal(err)
		}
		name := p.path("f")
		if !inClear {
			name += ".sealed"
		}
		for _, mode := range []os.FileMode{0o640, 0o600 | os.ModeSetgid, 0o444} {
			if err := p.put("f", []byte("old"), inClear); err != nil {
				t.Fatal(err)
			}
			if os.Geteuid() == 0 {
				if err := os.Chown(name, 12345, 54321); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if done, err := d.Replace(t.Context(), all(t, d)[0], write("new")); !done || err != nil {
				t.Fatal(done, err)
			}
			after, err := os.Stat(p.path("f.sealed"))
			if err != nil || after.Mode() != before.Mode() || files.Owner(after) != files.Owner(before) {
				t.Errorf("%v of %s became %v of %s, %v", before.Mode(), files.Owner(before), after.Mode(), files.Owner(after), err)
			}
			if names, err := os.ReadDir(p.dir); err != nil || len(names) != 1 {
				t.Errorf("%v, %v", names, err)
			}
		}
	}
}

// A crash between the two steps of an adoption leaves both files. What is in clear is no record of its own, is told, and goes.
func TestAdoptionAfterACrash(t *testing.T) {
	d, p := open(t, ".sealed")
	for name, text := range map[string]string{"f": "in clear", "f.sealed": "sealed, newer", "g": "in clear"} {
		if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := all(t, d)
	if len(o) != 2 || !o[0].Clear || o[0].Key != "f" || !o[1].Clear {
		t.Fatalf("%+v", o)
	}
	if done, err := d.Replace(t.Context(), o[0], write("sealed from what was in clear")); !done || err != nil {
		t.Fatal(done, err)
	}
	if v, c, err := p.get("f"); string(v) != "sealed, newer" || c || err != nil {
		t.Errorf("%q, %t, %v", v, c, err)
	}
	if _, err := os.Stat(p.path("f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is in clear is still there: %v", err)
	}
	// The platform sealed it meanwhile: its file stays.
	if err := os.WriteFile(p.path("g.sealed"), []byte("the platform's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := d.Replace(t.Context(), o[1], write("ours")); done || err != nil {
		t.Fatal(done, err)
	}
	if v, _, _ := p.get("g"); string(v) != "the platform's" {
		t.Errorf("%q", v)
	}
}

// What the platform says is no record is not seen, not counted, not opened, and not touched beside one that is.
func TestSkip(t *testing.T) {
	d, p := open(t, ".sealed")
	for _, name := range []string{"a", "a.new", "b.sealed.new", "d/skipped/f", "d/skipped/e/f", "d/skipped.sealed", "new.sealed", "x.new.sealed"} {
		if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.path(name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for _, o := range all(t, d) {
		keys = append(keys, o.Key)
		if o.Clear != (o.Key == "a") {
			t.Errorf("%q: in clear: %t", o.Key, o.Clear)
		}
		if done, err := d.Replace(t.Context(), o, write("replaced")); !done || err != nil {
			t.Errorf("%q: %t, %v", o.Key, done, err)
		}
	}
	if want := []string{"a", "d/skipped", "new", "x.new"}; !slices.Equal(keys, want) {
		t.Errorf("%q, want %q", keys, want)
	}
	if n, err := d.Count(t.Context()); n != 4 || err != nil {
		t.Error(n, err)
	}
	for _, name := range []string{"a.new", "b.sealed.new", "d/skipped/f", "d/skipped/e/f"} {
		if text, err := os.ReadFile(p.path(name)); string(text) != name {
			t.Errorf("%s is %q, %v", name, text, err)
		}
	}
	if _, err := d.Open(t.Context(), byok.Object{Key: "a.new", Clear: true}); !errors.Is(err, byok.ErrNotFound) {
		t.Error(err)
	}
}

// What a crash left behind goes after a day, and nothing else does.
func TestStaleFiles(t *testing.T) {
	d, p := open(t, "")
	old := time.Now().Add(-25 * time.Hour)
	for name, stays := range map[string]bool{".byok-reseal-old.tmp": false, ".byok-reseal-young.tmp": true, ".byok-old.tmp": true, ".byok-reseal-old": true, "old": true} {
		if err := os.WriteFile(p.path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(name, "old") {
			if err := os.Chtimes(p.path(name), old, old); err != nil {
				t.Fatal(err)
			}
		}
		keys := 0
		for _, o := range all(t, d) {
			if keys++; strings.HasSuffix(o.Key, ".tmp") {
				t.Errorf("%q is taken for a record", o.Key)
			}
		}
		if _, err := os.Stat(p.path(name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that somebody writes to in place, against the rules, is found to have changed.
func TestChangedInPlace(t *testing.T) {
	d, p := open(t, "")
	if err := p.put("f", bytes.Repeat([]byte("x"), 100), false); err != nil {
		t.Fatal(err)
	}
	o := all(t, d)[0]
	r, err := d.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(p.path("f"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err == nil {
		t.Error("it was read as if it had not changed")
	}
	if done, err := d.Replace(t.Context(), o, write("new")); done || err != nil {
		t.Error(done, err)
	}
}

func TestRefusals(t *testing.T) {
	if _, err := files.Open(t.TempDir(), &files.Options{Suffix: "/x"}); !errors.Is(err, byok.ErrArgument) {
		t.Error(err)
	}
	if _, err := files.Open(filepath.Join(t.TempDir(), "nothing"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	d, _ := open(t, "")
	if _, err := d.Objects(t.Context(), "", "", 0); !errors.Is(err, byok.ErrArgument) {
		t.Error(err)
	}
	if _, err := d.Split(t.Context(), 0); !errors.Is(err, byok.ErrArgument) {
		t.Error(err)
	}
}

// Whoever may name files makes names that cannot be keys: they are listed, for the Resealer to name, and no shard ends with one.
func TestOddNames(t *testing.T) {
	d, p := open(t, "")
	const n = 60
	for i := range n {
		name := fmt.Sprintf("%02d", i)
		if i%3 > 0 {
			name += "\n"
		}
		if err := p.put(name, []byte("sealed"), false); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for after := ""; ; after = keys[len(keys)-1] {
		page, err := d.Objects(t.Context(), after, "", 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, o := range page {
			keys = append(keys, o.Key)
		}
	}
	if len(keys) != n || !slices.IsSorted(keys) {
		t.Errorf("%d of %d: %q", len(keys), n, keys)
	}
	lasts, err := d.Split(t.Context(), 5)
	if err != nil || len(lasts) != 4 || slices.ContainsFunc(lasts, func(key string) bool { return strings.Contains(key, "\n") }) {
		t.Errorf("%q, %v", lasts, err)
	}
}
