package byok

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/frames"
)

// ExportedRecord is a record of an export. Reading it opens it: the first read asks KMS for the data
// key, if that was not asked for before. It is an [io.Reader] and [io.WriterTo] of the plaintext, and
// not for concurrent use.
//
// All that it hands out is authentic, but only io.EOF says that it was everything: what was
// read before another error is the beginning, and must not be used as the whole. A record of up to about a MiB gives
// all or nothing. Purpose and AAD are authentic once io.EOF has come; Name and Number never are.
type ExportedRecord struct {
	Name    string
	Purpose string
	AAD     []byte
	Number  uint64    // 1, 2 ... in the export
	DataKey DataKeyID // zero if it is no envelope

	r     *ExportReader
	ctx   context.Context
	parts sealedParts
	open  plain // nil: not opened yet
	own   *DEK  // of this record alone
	err   error // what reading ends with
	told  bool  // err was returned
}

// plain is what an opened record is read from: at once, or as a stream.
type plain interface {
	io.Reader
	io.WriterTo
}

// Read implements [io.Reader]. Its errors are *ExportError, ctx's and the source's.
func (x *ExportedRecord) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if x.ready() {
		if n, err = x.open.Read(p); err == nil {
			return n, nil
		}
		x.end(err)
	}
	x.told = true
	return n, x.err
}

// WriteTo implements [io.WriterTo]. Its error is nil only at the end of the record. An error of dst is
// returned as it is.
func (x *ExportedRecord) WriteTo(dst io.Writer) (n int64, err error) {
	if x.ready() {
		w := &noted{dst: dst}
		if n, err = x.open.WriteTo(w); w.err != nil {
			return n, w.err
		}
		if err == nil {
			err = io.EOF
		}
		x.end(err)
	}
	if x.told = true; x.err == io.EOF {
		return n, nil
	}
	return n, x.err
}

// noted tells an error of the destination from one of the record.
type noted struct {
	dst io.Writer
	err error
}

func (w *noted) Write(p []byte) (int, error) {
	n, err := w.dst.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.err = err
	return n, err
}

// ready opens the record, and reports whether it can be read on.
func (x *ExportedRecord) ready() bool {
	if x.err == nil && x.open == nil {
		if err := x.begin(); err != nil {
			x.end(err)
		}
	}
	return x.err == nil
}

// end makes err what reading ends with. What happened to the file says more than what that
// did to the envelope.
func (x *ExportedRecord) end(err error) {
	x.own.Wipe()
	switch {
	case err == io.EOF:
		x.err = err
	case x.parts.err != nil:
		x.err = x.parts.err
	case x.ctx.Err() != nil:
		x.err = x.ctx.Err()
	default:
		switch { // who opens an export may know more of the why than who asks a Keeper: both hold all there is
		case errors.Is(err, floe.ErrMalformed):
			err = ErrMalformed
		case errors.Is(err, floe.ErrAuth):
			err = ErrOpen
		}
		x.err = &ExportError{Problem: ExportNotOpened, Record: x.Number, Name: x.Name, DataKey: x.DataKey, Offset: x.parts.offset, Err: err}
	}
}

// begin opens the record at once if all of it is here, and else as a stream. In either case
// KMS is asked last.
func (x *ExportedRecord) begin() error {
	p := &x.parts
	if !p.final {
		return x.stream()
	}
	if p.err != nil {
		return p.err
	}
	h, core, payload, err := format.Parse(p.rest)
	switch {
	case err != nil:
		return malformed(err)
	case h.Tenant != x.r.head.tenant:
		return ErrOpen
	}
	if err := floe.Check(payload); err != nil {
		return err
	}
	dek, own, err := x.r.keys.find(x.ctx, x.Purpose, h)
	if err != nil {
		return err
	}
	if own {
		defer dek.Wipe()
	}
	return dek.Use(func(raw []byte) error {
		b, err := floe.Open(nil, raw, format.PayloadAAD(core, x.Purpose, x.AAD), payload)
		x.open = bytes.NewReader(b)
		return err
	})
}

func (x *ExportedRecord) stream() error {
	h, core, err := format.Read(&x.parts)
	var m *format.MalformedError
	switch {
	case errors.As(err, &m):
		return malformed(err)
	case err != nil:
		return err
	case h.Tenant != x.r.head.tenant:
		return ErrOpen
	}
	f, err := floe.ReadHeader(&x.parts)
	if err != nil {
		return err
	}
	dek, own, err := x.r.keys.find(x.ctx, x.Purpose, h)
	if err != nil {
		return err
	}
	if own {
		x.own = dek
	}
	r, err := floe.NewReader(&x.parts, f, lent{x.ctx, dek}, format.PayloadAAD(core, x.Purpose, x.AAD), exportWorkers)
	if err == nil {
		x.open = r
	}
	return err
}

// exportWorkers open a large record at once.
const exportWorkers = 4

// lent is a data key that nobody takes away.
type lent struct {
	ctx context.Context
	dek *DEK
}

func (l lent) Lend(_ int64, f func([]byte, *floe.Keyed) error) error {
	return l.dek.lend(stepFunc(f), 0)
}
func (l lent) Still() error         { return l.ctx.Err() }
func (l lent) Done(err error) error { return err }

// finish ends the record, read or not, and skips what is left of it. It returns what is wrong
// with it, if nobody was told.
func (x *ExportedRecord) finish() error {
	x.own.Wipe()
	for x.parts.err == nil && !x.parts.final {
		x.parts.fetch()
	}
	if x.err == nil || x.err == io.EOF {
		x.err = ErrClosed
	}
	var bad *ExportError
	if !x.told && errors.As(x.parts.err, &bad) {
		return bad
	}
	return nil // an error of the source comes again by itself
}

// sealedParts is the envelope of a record, as it comes out of the frames.
type sealedParts struct {
	r      *ExportReader
	offset int64
	exportPart
	rest  []byte // until the next frame is read
	final bool
	err   error
}

func (s *sealedParts) take(p exportPart) {
	s.exportPart, s.rest, s.final = p, p.sealed, p.flags&partFinal != 0
	if p.flags&partGivenUp != 0 {
		s.fail(ExportGivenUp)
	}
}

func (s *sealedParts) fail(p ExportProblem) {
	s.err = &ExportError{Problem: p, Record: s.record, Name: s.name, Offset: s.offset}
	s.rest, s.r.lastOK = nil, false
}

// fetch reads the next part. What is not that is left for the ExportReader to see.
func (s *sealedParts) fetch() {
	f, err := s.r.frame()
	for s.r.superfluous(err) {
		f, err = s.r.frame()
	}
	p, ok := exportPart{}, false
	if err == nil && f.Kind == frames.Data {
		p, ok = parseExportPart(f.Kind, f.Body)
	}
	var d *frames.Damage
	switch {
	case ok && p.record == s.record && p.index == s.index+1:
		p.name = s.name
		s.take(p)
		return
	case err != nil && err != io.EOF && !errors.As(err, &d):
		s.err = err
	default:
		s.fail(ExportDamaged)
	}
	s.r.pushBack(f, err)
}

// Read implements io.Reader.
func (s *sealedParts) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.final:
			return 0, io.EOF
		}
		s.fetch()
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
