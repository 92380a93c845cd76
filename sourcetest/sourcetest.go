// Package sourcetest checks implementations of byok.Source and byok.Objects against their contracts. A driver's test is this:
//
//	func TestContract(t *testing.T) {
//		sourcetest.Test(t, func(t *testing.T) sourcetest.Place { return emptyPlace(t) })
//	}
//
// The suite is tested itself: sources with deliberate faults, from a lost update to a clear value that is left behind, each fail it.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

// Place is where records are: what is tested, and the platform's own side of it.
type Place struct {
	Source  byok.Source  // what is tested: this,
	Objects byok.Objects // or this

	// The platform's own reads and writes, as its processes make them. Put makes a record or replaces it. They are called by
	// several goroutines at once, and for one key by one at a time. Get returns byok.ErrNotFound if there is none.
	Put    func(key string, value []byte, inClear bool) error
	Get    func(key string) (value []byte, inClear bool, err error)
	Delete func(key string) error

	// Key makes the i-th key. It is the same for the same i, and others may lie between two keys in order. Default: as in "record-000042".
	Key func(i int) string

	// Same: what the place says of the record with this key: purpose and AAD. Default: no purpose, and no AAD.
	Same func(key string) (purpose string, aad []byte)

	// SealedOnly: the place cannot hold records in clear.
	SealedOnly bool

	// Break makes all methods fail from now on, as an outage does. Nil leaves out the cases about that.
	Break func()
}

// Test runs all cases. open is called once for each, and returns a place without records; it cleans up with t.Cleanup.
func Test(t *testing.T, open func(t *testing.T) Place) {
	ran := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, open(t))
			switch {
			case c.clear && p.SealedOnly, c.breaks && p.Break == nil:
				return // it has no such thing, as the Place says; the count below tells
			}
			c.run(p)
			ran++
		})
	}
	t.Logf("sourcetest: %d of %d cases", ran, len(cases))
}

// tb is what a case needs of a *testing.T. The package's own tests pass another one, to see cases fail.
type tb interface {
	Helper()
	Context() context.Context
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Logf(string, ...any)
}

type testCase struct {
	name   string
	clear  bool // needs records in clear
	breaks bool
	run    func(p *place)
}

// place is a Place under test, with the steps that the cases are made of.
type place struct {
	tb
	Place
	ctx context.Context
	src byok.Source
}

func newPlace(t tb, p Place) *place {
	out := &place{tb: t, Place: p, ctx: t.Context(), src: p.Source}
	if (p.Source == nil) == (p.Objects == nil) || p.Put == nil || p.Get == nil || p.Delete == nil {
		t.Fatalf("a Place has a Source or Objects, and Put, Get and Delete")
	}
	if p.Objects != nil {
		out.src = asSource{p.Objects}
	}
	if p.Key == nil {
		out.Key = func(i int) string { return fmt.Sprintf("record-%06d", i) }
	}
	if p.Same == nil {
		out.Same = func(string) (string, []byte) { return "", nil }
	}
	return out
}

// secret begins every value that is put in clear: no error may show it.
const secret = "PLAINTEXT-that-no-error-may-show"

func (p *place) put(i int, value string, inClear bool) {
	p.Helper()
	if err := p.Put(p.Key(i), []byte(value), inClear); err != nil {
		p.Fatalf("the place's own Put of %q: %v", p.Key(i), err)
	}
}

// fill puts n sealed records.
func (p *place) fill(n int) {
	p.Helper()
	for i := range n {
		p.put(i, fmt.Sprint("value ", i), false)
	}
}

// want checks a record as the platform reads it.
func (p *place) want(i int, value string, inClear bool) {
	p.Helper()
	got, c, err := p.Get(p.Key(i))
	if err != nil {
		p.Fatalf("the place's own Get of %q: %v", p.Key(i), err)
	}
	if string(got) != value || c != inClear {
		p.Fatalf("the record %q is %s, in clear: %t; want %s, %t", p.Key(i), brief(got), c, brief([]byte(value)), inClear)
	}
}

// page is one call of Records, whose answer must be a page.
func (p *place) page(after, last string, limit int) []byok.Record {
	p.Helper()
	page, err := p.src.Records(p.ctx, after, last, limit)
	if err != nil {
		p.Fatalf("Records after %q: %v", after, err)
	}
	if len(page) > limit {
		p.Fatalf("Records returned %d records, and the limit was %d", len(page), limit)
	}
	return page
}

// all reads all records in pages.
func (p *place) all(after, last string, limit int) (all []byok.Record) {
	p.Helper()
	for seen := map[string]bool{}; ; {
		page := p.page(after, last, limit)
		if len(page) == 0 {
			return all
		}
		for _, r := range page {
			if seen[r.Key] {
				p.Fatalf("%q was returned twice", r.Key)
			}
			seen[r.Key] = true
		}
		all, after = append(all, page...), page[len(page)-1].Key
	}
}

// replace is one call of Replace that must not fail.
func (p *place) replace(records []byok.Record, sealed ...string) []bool {
	p.Helper()
	values := make([][]byte, len(sealed))
	for i, s := range sealed {
		values[i] = []byte(s)
	}
	done, err := p.src.Replace(p.ctx, records, values)
	if err != nil {
		p.Fatalf("Replace: %v", err)
	}
	if len(done) != len(records) {
		p.Fatalf("Replace told of %d records, and was given %d", len(done), len(records))
	}
	return done
}

// hygienic checks that an error, and whatever it wraps, tells nothing of what is in clear.
func (p *place) hygienic(what string, err error) {
	p.Helper()
	if err == nil {
		p.Fatalf("%s: no error", what)
	}
	var look func(e error)
	look = func(e error) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
			text := fmt.Sprintf(verb, e)
			if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) || strings.Contains(text, hexes) || strings.Contains(text, decimals) {
				p.Fatalf("%s: an error of type %T shows what is in clear", what, e)
			}
		}
		switch e := e.(type) {
		case interface{ Unwrap() error }:
			if e.Unwrap() != nil {
				look(e.Unwrap())
			}
		case interface{ Unwrap() []error }:
			for _, e := range e.Unwrap() {
				look(e)
			}
		}
	}
	look(err)
}

// How %#v and %v show the first bytes of secret.
var (
	hexes    = strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(secret[:8])), "[]byte{"), "}")
	decimals = strings.Trim(fmt.Sprint([]byte(secret[:8])), "[]")
)

func brief(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%d bytes %q...", len(b), b[:40])
	}
	return fmt.Sprintf("%q", b)
}

// soon fails if f, whose ctx is done, does not return within a generous time.
func (p *place) soon(what string, f func()) {
	p.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		p.Fatalf("%s did not return though its ctx is done", what)
	}
}

// asSource makes Objects a Source, so that the same cases are for both.
type asSource struct{ byok.Objects }

func (a asSource) Records(ctx context.Context, after, last string, limit int) (out []byok.Record, err error) {
	for len(out) == 0 { // a page all of whose objects have gone by now is not the end
		objects, err := a.Objects.Objects(ctx, after, last, limit)
		if err != nil || len(objects) == 0 {
			return nil, err
		}
		for _, o := range objects {
			r, ok, err := a.read(ctx, o, after)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, r)
			}
			after = o.Key
		}
	}
	return out, nil
}

// read reads an object whole, and again if it has changed since it was listed. before is the key of the one before it on the list.
func (a asSource) read(ctx context.Context, o byok.Object, before string) (byok.Record, bool, error) {
	for range 1000 {
		b, err := a.readOnce(ctx, o)
		if err == nil {
			return byok.Record{Key: o.Key, Purpose: o.Purpose, AAD: o.AAD, Value: b, Clear: o.Clear, Version: o.Version}, true, nil
		}
		again, lerr := a.Objects.Objects(ctx, before, o.Key, 1000) // others may have come in between
		if lerr != nil {
			return byok.Record{}, false, lerr
		}
		i := slices.IndexFunc(again, func(is byok.Object) bool { return is.Key == o.Key })
		switch {
		case i < 0: // it is gone
			return byok.Record{}, false, nil
		case again[i].Version == o.Version:
			return byok.Record{}, false, err // it has not changed, and cannot be read
		}
		o = again[i]
	}
	return byok.Record{}, false, errors.New("sourcetest: an object changes all the time")
}

func (a asSource) readOnce(ctx context.Context, o byok.Object) ([]byte, error) {
	r, err := a.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func (a asSource) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	done := make([]bool, len(records))
	for i, r := range records {
		o := byok.Object{Key: r.Key, Purpose: r.Purpose, AAD: r.AAD, Clear: r.Clear, Version: r.Version}
		var err error
		done[i], err = a.Objects.Replace(ctx, o, func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(sealed[i]))
			return err
		})
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
