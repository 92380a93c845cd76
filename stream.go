package byok

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
)

// SealWriter begins an envelope of any length, whose plaintext is what is written to the
// [Writer]. dst gets a header now, and the rest as it comes. For tenant, purpose and aad see
// [Keeper.Seal]; [Keeper.Open] opens the result too.
//
// The envelope carries its wrapped data key (policy ANY), since files and buckets outlive a
// database. It is 65536-byte segments of 65504 bytes of plaintext. Memory is a few of them
// for each of Options.Parallelism, whatever the length.
//
// ctx is for the whole stream: once it is done, nothing can be written. The errors are
// Seal's, and dst's own.
func (k *Keeper) SealWriter(ctx context.Context, dst io.Writer, s Scope, aad []byte) (*Writer, error) {
	s, err := s.check(aad)
	if err != nil {
		return nil, err
	}
	t := k.cache(s.Tenant)
	h, err := t.holdSeal(ctx, s.Purpose)
	if err != nil {
		return nil, err
	}
	p := newPermit(ctx, h)
	header, core, err := t.selfContained(h)
	if err != nil {
		return nil, h.end(ctx, err)
	}
	w, err := floe.NewWriter(dst, header, p, floe.Params{}, format.PayloadAAD(core, s.Purpose, aad), k.parallelism)
	if err != nil {
		return nil, told(p.Done(err))
	}
	return &Writer{w, p}, nil
}

// selfContained returns the header of an envelope that carries its data key.
func (t *tenantCache) selfContained(h *hold) (header, core []byte, err error) {
	w := h.from
	if w.none() {
		if w = t.wrappingOf(h.g.e); w.said() != w.policy || w.moved != nil {
			return nil, nil, errReplaced // moved meanwhile: what said so would never open
		}
	}
	return w.headers(t.tenant, h.id.dataKey)
}

// Writer seals what is written to it. It must be closed: only a Close without an error says
// that the envelope is complete, and one that is not never opens.
//
// Access to the CMK is proved all along, as by an operation that begins whenever a part of
// the envelope is written: a Writer stops when access is denied, within that part, and when it
// cannot be proved for Options.MaxAge. Between two calls it holds no key. Once it has
// failed it fails for good; the stream has to be begun anew.
//
// Its methods may be called from many goroutines, and wait for each other.
type Writer struct {
	w      *floe.Writer
	permit *permit
}

// Write implements [io.Writer]. An error of the destination is returned as it is.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	return n, told(err)
}

// ReadFrom implements [io.ReaderFrom], for io.Copy: it seals what src has left, without
// copying it. An error of src is returned as it is, and spoils w: half of an input must not
// pass for all of it. src and the destination are called one at a time each, from up to
// Options.Parallelism goroutines, and src while the destination is; when the destination has failed, ReadFrom
// returns after the Read that is under way. A panic of either spoils w too.
func (w *Writer) ReadFrom(src io.Reader) (int64, error) {
	n, err := w.w.ReadFrom(src)
	return n, told(err)
}

// Close completes the envelope: it seals the rest, records the outcome event, proves access
// for the last time, and then writes the last segments to the destination, which it does not
// close. It fails after any error and once the stream's ctx is done. A second Close returns
// what the first one did.
func (w *Writer) Close() error { return told(w.w.Close()) }

// Abort gives the envelope up: what is at the destination never opens. After Close it does
// nothing, so it can be deferred.
func (w *Writer) Abort() { w.w.Abort() }

// OpenReader opens an envelope that comes from src, be it made by SealWriter or by
// [Keeper.Seal], for the same tenant, purpose and aad. It reads the header and no more.
//
// ctx is for the whole stream. The errors are Open's, and src's own; an envelope that ends too
// early is [ErrOpen].
func (k *Keeper) OpenReader(ctx context.Context, src io.Reader, s Scope, aad []byte) (*Reader, error) {
	o, err := k.openStream(ctx, src, 0, s, aad)
	if err != nil {
		return nil, err
	}
	r, err := floe.NewReader(src, o.floe, o.permit, o.aad, k.parallelism)
	if err != nil {
		return nil, told(o.permit.Done(err))
	}
	return &Reader{r, o.permit}, nil
}

// opening is an envelope whose headers were read and whose data key is at hand.
type opening struct {
	permit *permit
	size   int64  // of the header, before FLOE's
	aad    []byte // of FLOE
	floe   *floe.Header
}

// openStream reads both headers, and then gets the data key: KMS is not asked for a key to
// what cannot be opened anyway. size is the length of the envelope if it is known.
func (k *Keeper) openStream(ctx context.Context, src io.Reader, size int64, s Scope, aad []byte) (*opening, error) {
	s, err := s.check(aad)
	if err != nil {
		return nil, err
	}
	t := k.cache(s.Tenant)
	p := newPermit(ctx, newHold(t, Event{Op: OpOpen, Scope: s})) // until there is a data key
	f, core, err := format.Read(src)
	var m *format.MalformedError
	switch {
	case errors.As(err, &m):
		return nil, p.h.end(ctx, malformed(err))
	case err != nil:
		return nil, told(p.Done(err))
	case f.Tenant != s.Tenant:
		return nil, p.h.end(ctx, ErrOpen)
	}
	p.h.event.DataKey = f.DataKey
	o := &opening{permit: p, size: int64(f.Size()), aad: format.PayloadAAD(core, s.Purpose, aad)}
	if o.floe, err = floe.ReadHeader(src); err == nil && size > 0 && o.floe.OpenedSize(size-o.size) < 0 {
		err = floe.ErrAuth
	}
	if err != nil {
		return nil, told(p.Done(err))
	}
	if p.h, err = t.holdOpen(ctx, s.Purpose, f); err != nil {
		return nil, err
	}
	return o, nil
}

// Reader opens an envelope as it arrives. All that it hands out is authentic, but only
// io.EOF says that it was everything: what was read before another error is the beginning of
// the message, and must not be used as the whole. If in doubt use [Keeper.Open] or
// [Keeper.OpenFile], which give all or nothing.
//
// It proves access as a [Writer] does, and both ask once more whenever they hand out something.
// The outcome event is recorded before the last segments are handed out. Once it has failed
// it fails for good. Its methods may be called from many goroutines, and wait for each other.
type Reader struct {
	r      *floe.Reader
	permit *permit
}

// Read implements [io.Reader]. An error of the source is returned as it is, but for those that
// could be taken for the end: they are [ErrOpen].
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	return n, told(err)
}

// WriteTo implements [io.WriterTo], for io.Copy: it writes the rest to dst. Its error is nil only at
// the end of the envelope. An error of dst is returned as it is, and does not spoil r; a panic does. The
// source and dst are called as [Writer.ReadFrom] does.
func (r *Reader) WriteTo(dst io.Writer) (int64, error) {
	n, err := r.r.WriteTo(dst)
	return n, told(err)
}

// Close ends r; before the end of the envelope it leaves an event that says so. It does not
// close the source, and waits for a Read that is under way. Its error is nil.
func (r *Reader) Close() error { return r.r.Close() }

// OpenReaderAt opens an envelope, made by SealWriter or by [Keeper.Seal], of which only parts
// may be wanted. src is size bytes long and must not change. The last segment is
// authenticated before OpenReaderAt returns, so that Size is true and nothing is missing
// at the end; the others when they are read. The outcome event is recorded then.
//
//	http.ServeContent(w, r, name, modified, io.NewSectionReader(ra, 0, ra.Size()))
//
// ctx is for all that is read; the errors are those of OpenReader.
func (k *Keeper) OpenReaderAt(ctx context.Context, src io.ReaderAt, size int64, s Scope, aad []byte) (*ReaderAt, error) {
	if size < 0 { // of which a section would be all of src
		return nil, fmt.Errorf("%w: a negative size", ErrArgument)
	}
	o, err := k.openStream(ctx, io.NewSectionReader(src, 0, size), size, s, aad)
	if err != nil {
		return nil, err
	}
	size -= o.size
	r, err := floe.NewReaderAt(io.NewSectionReader(src, o.size, size), size, o.floe, o.permit, o.aad, k.parallelism)
	if err != nil {
		return nil, told(o.permit.Done(err))
	}
	return &ReaderAt{r}, nil
}

// ReaderAt opens parts of an envelope. Each call opens the segments that it touches, and
// proves access as an operation of its own would. A segment that is not authentic, or a
// refusal, ends it for good, and leaves a withheld event; an error of the source is that
// call's alone. It may be used from many goroutines, which do not wait for each other.
type ReaderAt struct{ r *floe.ReaderAt }

// ReadAt implements [io.ReaderAt]. It returns nothing beside an error other than io.EOF.
func (r *ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: a negative offset", ErrArgument)
	}
	n, err := r.r.ReadAt(p, off)
	return n, told(err)
}

// Size is the length of the plaintext.
func (r *ReaderAt) Size() int64 { return r.r.Size() }

// Close ends r. It does not close the source. Its error is nil.
func (r *ReaderAt) Close() error { return r.r.Close() }

// permit is a hold as a stream sees it, with the stream's ctx.
type permit struct {
	ctx context.Context
	h   *hold

	// How the stream ended is decided by one of its workers at a time, which has the turn. Not a
	// mutex, since it is held across I/O.
	turn chan struct{}
}

func newPermit(ctx context.Context, h *hold) *permit { return &permit{ctx, h, make(chan struct{}, 1)} }

func (p *permit) lock()   { p.turn <- struct{}{} }
func (p *permit) unlock() { <-p.turn }

// Lend implements floe.Permit.
func (p *permit) Lend(size int64, f func(key []byte, shared *floe.Keyed) error) error {
	p.lock()
	err := p.current()
	p.unlock()
	if err != nil {
		return err
	}
	return p.h.step(p.ctx, size, stepFunc(f))
}

// Still implements floe.Permit.
func (p *permit) Still() error {
	p.lock()
	defer p.unlock()
	if err := p.current(); err != nil {
		return err
	}
	if err := p.h.still(p.ctx); err != nil {
		return p.h.outcome(p.ctx, err)
	}
	return nil
}

// current reports that the stream's ctx is done. If the outcome is recorded, it stays: what
// then is left to read is no news.
func (p *permit) current() error {
	err := p.ctx.Err()
	if err != nil && !p.h.recorded {
		_ = p.h.outcome(p.ctx, &givenUp{"its context ended", err})
	}
	return err
}

// Done implements floe.Permit.
func (p *permit) Done(err error) error {
	p.lock()
	defer p.unlock()
	switch {
	case err == nil:
		if err = p.current(); err == nil {
			err = p.h.outcome(p.ctx, nil)
		}
		return err
	case p.h.failed() || err == floe.ErrAuth || err == floe.ErrMalformed:
	case err == floe.ErrClosed:
		err = &givenUp{"given up before the end", ErrClosed}
	default:
		err = &givenUp{"its source or destination failed", err}
	}
	return p.h.outcome(p.ctx, err)
}

// givenUp is the end of a stream for a reason that is its user's. The user gets the cause.
type givenUp struct {
	reason string
	cause  error
}

func (g *givenUp) Error() string { return "byok: the stream was given up: " + g.reason }

// told is the error that a user gets.
func told(err error) error {
	if g, ok := err.(*givenUp); ok {
		return g.cause
	}
	if err == floe.ErrClosed {
		return ErrClosed
	}
	return err
}
