package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/storecheck"
)

// A unit is what stands in order in a directory: the key of a file, or a directory's name with a slash behind it. All keys below a directory begin with
// that, so units in the order of their bytes give keys in the order of theirs: "a.b", "a/b", "a0".

// walk calls visit with keys in order, of those after one and up to last, until it returns false. atOnce is how many units it holds of a directory.
func (d *Dir) walk(ctx context.Context, after, last string, atOnce int, visit func(key string) (more bool, err error)) error {
	_, err := d.walkDir(ctx, "", after, last, atOnce, visit)
	return err
}

// walkDir walks a directory, whose prefix is "" or ends with a slash.
func (d *Dir) walkDir(ctx context.Context, prefix, after, last string, atOnce int, visit func(string) (bool, error)) (more bool, err error) {
	for from := ""; ; {
		units, whole, err := d.units(ctx, prefix, from, after, last, atOnce)
		if err != nil {
			return false, err
		}
		for _, u := range units {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			if strings.HasSuffix(u, "/") {
				more, err = d.walkDir(ctx, prefix+u, after, last, atOnce, visit)
			} else {
				more, err = visit(prefix + u)
			}
			if err != nil || !more {
				return false, err
			}
			from = u
		}
		if whole {
			return true, nil
		}
	}
}

// units returns the first units of a directory, in order, of those behind from; and whether these are all.
func (d *Dir) units(ctx context.Context, prefix, from, after, last string, n int) (units []string, whole bool, err error) {
	dir, err := d.root.Open("./" + prefix)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && prefix != "" { // it is gone, with all that was in it
			return nil, true, nil
		}
		return nil, false, err
	}
	defer dir.Close()
	whole = true
	trim := func() { // what is behind the first n is for the next time
		slices.Sort(units)
		if units = slices.Compact(units); len(units) > n {
			units, whole = units[:n], false
		}
	}
	for {
		entries, err := dir.ReadDir(1024)
		for _, e := range entries {
			u, ok := d.unit(prefix, e)
			if !ok || u <= from || last != "" && prefix+u > last {
				continue
			}
			if strings.HasPrefix(after, prefix+u) && strings.HasSuffix(u, "/") || prefix+u > after {
				units = append(units, u)
			}
		}
		if len(units) > 2*n+1024 {
			trim()
		}
		if err == io.EOF {
			trim()
			return units, whole, nil
		}
		if err != nil {
			return nil, false, err
		}
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
	}
}

// unit is what an entry of a directory stands for. ok is false if it is no record.
func (d *Dir) unit(prefix string, e fs.DirEntry) (u string, ok bool) {
	switch name := e.Name(); {
	case e.IsDir():
		return name + "/", !d.skip(prefix + name + "/")
	case !e.Type().IsRegular():
		return "", false
	case isTemp(name):
		d.sweep(prefix + name)
		return "", false
	case d.skip(prefix + name):
		return "", false
	default:
		key := strings.TrimSuffix(name, d.opts.Suffix)
		return key, key != ""
	}
}

// sweep removes what a crash left behind. Should somebody still be writing it, he fails, and tries again.
func (d *Dir) sweep(name string) {
	if strings.HasPrefix(path.Base(name), ourPrefix) {
		if info, err := d.root.Lstat(name); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > staleAfter {
			_ = d.root.Remove(name)
		}
	}
}

// Count implements byok.Counter: it walks the whole tree, and opens no file.
func (d *Dir) Count(ctx context.Context) (n int64, err error) {
	err = d.walk(ctx, "", "", 1000, func(string) (bool, error) { n++; return true, nil })
	return n, err
}

// samples is how many keys Split remembers for each shard.
const samples = 200

// Split implements byok.Splitter. It walks the whole tree, as Count does, and shares it out by a sample.
func (d *Dir) Split(ctx context.Context, n int) ([]string, error) {
	if n < 1 || n > 1000 {
		return nil, fmt.Errorf("%w: files: 1 to 1000 shards", byok.ErrArgument)
	}
	type seen struct {
		key string
		at  int64
	}
	var sample []seen
	at := int64(0)
	err := d.walk(ctx, "", "", 1000, func(key string) (bool, error) {
		if !storecheck.RecordKey(key) {
			return true, nil // no shard can end with it
		}
		at++
		if len(sample) < n*samples {
			sample = append(sample, seen{key, at})
		} else if i := rand.Int64N(at); i < int64(len(sample)) {
			sample[i] = seen{key, at}
		}
		return true, nil
	})
	if err != nil || at < int64(n) {
		return nil, err
	}
	slices.SortFunc(sample, func(a, b seen) int { return cmp.Compare(a.at, b.at) })
	lasts := make([]string, 0, n-1)
	for i := 1; i < n; i++ {
		lasts = append(lasts, sample[i*len(sample)/n-1].key)
	}
	return lasts, nil
}
