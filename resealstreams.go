package byok

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/byok-go/byok/internal/format"
)

// streams are Objects.
type streams struct{ Objects }

const (
	objectPage = 16              // objects of a step, at most
	objectTime = 5 * time.Second // after that, a step of Objects ends behind the one that it is at
)

func (s streams) page(ctx context.Context, after, last string, limit int) ([]Object, []RecordFailure, error) {
	return readPage(after, limit, func(after string) ([]Object, error) { return s.Objects.Objects(ctx, after, last, limit) }, func(o *Object) string { return o.Key })
}

// look implements recordSource.
func (s streams) look(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, c *resealCursor, last string) (more bool, err error) {
	begun := t.k.clock.Now().Mono
	page, odd, err := s.page(ctx, c.After, last, min(r.opts.Page, objectPage))
	if err != nil || len(page) == 0 {
		r.passBy(c, odd)
		return false, err
	}
	for i := range page {
		if err := s.one(ctx, r, t, j, c, page[i]); err != nil {
			return true, err
		}
		r.passBy(c, odd) // there are none if this is not the only one
		c.Looked++
		if c.After = page[i].Key; t.k.clock.Now().Mono-begun > objectTime {
			break
		}
	}
	return true, nil
}

// one re-seals an object, if it is due. Opening and sealing leave their own events.
func (s streams) one(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, c *resealCursor, o Object) error {
	is := o.Clear
	if !is {
		h, gone, err := s.header(ctx, o)
		if gone {
			c.Changed++
			return nil
		}
		if errors.Is(err, ErrRecordRefused) {
			f, _ := bad(o.Key, err, false)
			r.failed(c, f)
			return nil
		}
		if err != nil && !errors.Is(err, ErrMalformed) {
			return err
		}
		if is, _, err = r.due(ctx, t, j, o.Purpose, h, err); err != nil || !is {
			return err
		}
	} else if !j.Reseal.Adopt {
		f, _ := bad(o.Key, errInClear, false)
		r.failed(c, f)
		return nil
	}
	if err := r.pay(ctx, t.k.clock.Now().Mono, 1); err != nil {
		return err
	}
	var why error
	done, err := s.Replace(ctx, o, func(w io.Writer) error {
		why = s.copy(ctx, t.k, Scope{t.tenant, o.Purpose}, o, w)
		return why
	})
	switch {
	case errors.Is(err, ErrNotFound) && (why == nil || errors.Is(why, ErrNotFound)):
		done, err = false, nil // it is gone
	case why != nil: // whatever Replace made of it
		var sealing *whileSealing
		is := errors.As(why, &sealing)
		if !is && !o.Clear && cut(why) {
			why = errCut
		}
		if f, ok := bad(o.Key, why, is); ok {
			r.failed(c, f)
			return nil
		}
		return why
	case errors.Is(err, ErrRecordRefused):
		f, _ := bad(o.Key, err, true)
		r.failed(c, f)
		return nil
	case err != nil:
		return err
	}
	if done {
		c.Sealed++
	} else {
		c.Changed++
	}
	return nil
}

// header reads the header of an object's envelope. gone: there is none any more.
func (s streams) header(ctx context.Context, o Object) (h Header, gone bool, err error) {
	src, err := s.Open(ctx, o)
	if err != nil {
		return Header{}, errors.Is(err, ErrNotFound), err
	}
	defer src.Close()
	f, _, err := format.Read(src)
	var m *format.MalformedError
	if errors.As(err, &m) || cut(err) {
		return Header{}, false, malformed(err)
	}
	if err != nil {
		return Header{}, errors.Is(err, ErrNotFound), err
	}
	return headerOf(f), false, nil
}

// cut reports whether there was less than an envelope. If it was the connection that was cut, the record is named until the next pass.
func cut(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

var errCut = fmt.Errorf("%w: it is cut short", ErrMalformed)

// whileSealing is an error of the sealing half of a copy.
type whileSealing struct{ error }

func (e *whileSealing) Unwrap() error { return e.error }

// copy seals anew what the object holds, into w. If its error is nil, all of it is there.
func (s streams) copy(ctx context.Context, k *Keeper, scope Scope, o Object, w io.Writer) error {
	src, err := s.Open(ctx, o)
	if err != nil {
		return err
	}
	defer src.Close()
	var plain io.Reader = src
	if !o.Clear {
		opened, err := k.OpenReader(ctx, src, scope, o.AAD)
		if err != nil {
			return err
		}
		defer opened.Close()
		plain = opened
	}
	out, err := k.SealWriter(ctx, w, scope, o.AAD)
	if err != nil {
		return &whileSealing{err}
	}
	defer out.Abort()
	read := &remembers{Reader: plain}
	if _, err := io.Copy(out, read); err != nil {
		if read.err != nil {
			return read.err
		}
		return &whileSealing{err}
	}
	if err := out.Close(); err != nil {
		return &whileSealing{err}
	}
	return nil
}

// remembers tells errors of a source from those of a destination.
type remembers struct {
	io.Reader
	err error
}

func (r *remembers) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// census implements recordSource.
func (s streams) census(ctx context.Context, r *Resealer, t *tenantCache, j *jobItem, after, last string, count func(censusRecord)) (string, bool, error) {
	page, odd, err := s.page(ctx, after, last, r.opts.Page)
	if err != nil {
		return after, false, err
	}
	for range odd {
		count(censusRecord{malformed: true})
	}
	if len(page) == 0 {
		return after, false, nil
	}
	for _, o := range page {
		rec := censusRecord{clear: o.Clear}
		if !rec.clear {
			h, gone, herr := s.header(ctx, o)
			if gone {
				continue
			}
			if herr != nil && !errors.Is(herr, ErrMalformed) && !errors.Is(herr, ErrRecordRefused) { // the latter will fail as well
				return after, false, herr
			}
			if rec, err = r.censusOf(ctx, t, j, o.Purpose, h, herr); err != nil {
				return after, false, err
			}
		}
		count(rec)
	}
	return page[len(page)-1].Key, true, nil
}
