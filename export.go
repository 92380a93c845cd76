package byok

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/frames"
)

// Export begins an export: a file with the tenant's wrapped data keys and the sealed records
// that are added to it, which [OpenExport] and the command "byok open-export" open with the tenant's own access to its CMK,
// and with nothing of ours. It is how a tenant leaves, and a backup. docs/export.md
// specifies the file.
//
// Nothing is decrypted for it and KMS is not asked, so it works whatever the tenant's status
// is: blocked, suspended or removed. What leaves is sealed. Who may have it is the caller's to decide.
//
// The data keys are written now, and dst gets them and the records as they come; ctx is for the whole
// export. One outcome event (OpExport) is recorded by Close, with counts, before the end of the export is
// written: one without its end is known to be incomplete. Data keys that are damaged in the Store are left out, see
// [ExportSummary].
//
// The error is ErrNotRegistered, ErrStore, ErrArgument, ErrClosed, or dst's own.
func (t *Tenant) Export(ctx context.Context, dst io.Writer) (*Exporter, error) {
	within, c, done, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := c.readState(within)
	if err != nil {
		return nil, err
	}
	if s.Lifecycle == lifecycleNone {
		return nil, ErrNotRegistered
	}
	id := newDataKeyID()                     // random, and so are its first bytes
	out := bufio.NewWriterSize(dst, 128<<10) // a frame of a small record is a few hundred bytes
	e := &Exporter{ctx: ctx, t: c, out: out, frames: frames.NewWriter(out, frames.ID(binary.BigEndian.Uint64(id[:]))), keys: map[DataKeyID]string{},
		event: Event{Op: OpExport, Scope: Scope{Tenant: t.id}, Key: s.Key, Actor: actorFrom(ctx)}}
	if err := e.begin(within); err != nil {
		e.Abort()
		return nil, err
	}
	return e, nil
}

// ExportRecord is what an export says of a record beside its envelope: what Open needs, and
// a name for people. Nothing of it is authenticated, but Purpose and AAD must be what they were at Seal, or the
// record does not open.
type ExportRecord struct {
	Name    string // which record: 1 to MaxExportName bytes of any kind; "byok open-export" makes a file name of it
	Purpose string // as in Scope
	AAD     []byte
}

// ExportSummary counts what is in an export.
type ExportSummary struct {
	DataKeys uint64
	Records  uint64
	Bytes    int64
	GivenUp  uint64      // of Records: AddReader could not read them to their end
	Damaged  []DataKeyID // data keys whose items in the Store are damaged; they are not in the export
}

func (s ExportSummary) String() string {
	text := fmt.Sprintf("%d data keys, %d records, %d bytes", s.DataKeys, s.Records, s.Bytes)
	if s.GivenUp > 0 {
		text += fmt.Sprintf("; %d records could not be read", s.GivenUp)
	}
	if len(s.Damaged) > 0 {
		text += fmt.Sprintf("; %d data keys are damaged", len(s.Damaged))
	}
	return text
}

// Exporter writes an export. It must be closed. Its methods may be called from many
// goroutines, and wait for each other.
type Exporter struct {
	ctx    context.Context
	t      *tenantCache
	mu     sync.Mutex
	out    *bufio.Writer
	frames *frames.Writer
	keys   map[DataKeyID]string // purposes of the data keys that are written
	size   int                  // of them
	sum    ExportSummary
	event  Event
	buf    []byte
	err    error // of dst, or the end: nothing is written any more
	over   bool
	closed error // what Close returns
}

var errExportOver = newError(ErrArgument, "the export is closed")

// begin writes the header and the data keys. What everything else depends on stands there
// twice, so that one damaged frame loses none of it.
func (e *Exporter) begin(ctx context.Context) error {
	h := exportHead{e.t.tenant, e.t.k.service, e.t.k.clock.Now().Wall.Unix()}
	body := h.append(nil)
	for range 2 {
		if err := e.write(frames.Header, body); err != nil {
			return err
		}
	}
	return e.t.k.eachDataKey(ctx, e.t.tenant, func(id DataKeyID, value []byte) error {
		err := e.key(id, value)
		if errors.Is(err, errDamaged) {
			e.sum.Damaged = append(e.sum.Damaged, id)
			return nil
		}
		return err
	})
}

// key writes a data key of the Store. errDamaged: it is none.
func (e *Exporter) key(id DataKeyID, value []byte) error {
	e.t.mu.RLock()
	keys := e.t.state.keys()
	e.t.mu.RUnlock()
	item, _, err := decodeDataKey(e.t.tenant, id, value, keys)
	if err != nil {
		return err
	}
	k := exportKey{string(item.Header), item.Purpose, item.Generation, max(0, item.CreatedAt.Unix()), string(item.Moved)}
	body := k.append(nil)
	if _, _, ok := parseExportKey(body); !ok {
		return errDamaged
	}
	if e.size += len(body); e.size > maxExportKeys {
		return fmt.Errorf("%w: more data keys than an export can hold", ErrArgument)
	}
	for range 2 {
		if err := e.write(frames.Key, body); err != nil {
			return err
		}
	}
	e.keys[id] = item.Purpose
	e.sum.DataKeys++
	return nil
}

func (e *Exporter) write(kind frames.Kind, parts ...[]byte) error {
	err := e.frames.Write(kind, parts...)
	if err != nil && e.err == nil {
		e.err = err
	}
	return err
}

// Add adds a record: the envelope that [Keeper.Seal], or anything else here that seals,
// made of it. It is refused, and the export goes on without it, if it is no envelope of this tenant (ErrOpen), its
// data key is not in the Store nor in the envelope (ErrNotFound) or damaged there (ErrStore), or r is beyond the limits (ErrArgument). Whether it opens
// is not tried: that would need KMS. Any other error ends the export.
func (e *Exporter) Add(r ExportRecord, sealed []byte) error {
	h, _, payload, err := format.Parse(sealed)
	if err != nil {
		return malformed(err)
	}
	if err := floe.Check(payload); err != nil {
		return opaque(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p, err := e.admit(r, h)
	if err != nil {
		return err
	}
	return e.record(p, sealed, nil)
}

// AddReader is Add for an envelope of any length, which is read to its end. Memory does not
// depend on that. An error of src is returned as it is: if the record was begun by then, it is in the
// export and marked as one that was given up, and the export goes on.
func (e *Exporter) AddReader(r ExportRecord, src io.Reader) error {
	h, core, err := format.Read(src)
	var m *format.MalformedError
	if errors.As(err, &m) {
		return malformed(err)
	} else if err != nil {
		return err
	}
	head, err := h.Append(core[:0:0])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p, err := e.admit(r, h)
	if err != nil {
		return err
	}
	return e.record(p, head, src)
}

// admit checks a record, and sees to it that its data key is in the export. The caller holds mu.
func (e *Exporter) admit(r ExportRecord, h *format.Header) (*exportPart, error) {
	if err := e.usable(); err != nil {
		return nil, err
	}
	s, err := Scope{e.t.tenant, r.Purpose}.check(r.AAD)
	if err != nil {
		return nil, err
	}
	if len(r.Name) < 1 || len(r.Name) > MaxExportName {
		return nil, fmt.Errorf("%w: a record's name is 1 to %d bytes", ErrArgument, MaxExportName)
	}
	if h.Tenant != e.t.tenant {
		return nil, ErrOpen
	}
	purpose, ok := e.keys[h.DataKey]
	if !ok {
		if err := e.fetch(h); err != nil {
			return nil, err
		}
		purpose, ok = e.keys[h.DataKey]
	}
	if ok && purpose != s.Purpose {
		return nil, ErrOpen // sealed for another purpose: it would not open
	}
	return &exportPart{name: r.Name, purpose: s.Purpose, aad: r.AAD}, nil
}

// fetch looks for a data key that was made after the export began. That the Store does not
// know it is no error if the envelope carries it.
func (e *Exporter) fetch(h *format.Header) error {
	ctx, done, err := e.t.k.within(e.ctx)
	if err != nil {
		return err
	}
	defer done()
	ref := refDataKey(e.t.tenant, h.DataKey)
	item, err := e.t.k.store.Get(ctx, ref)
	switch {
	case errors.Is(err, ErrNotFound) && h.Policy != format.PolicyREF:
		return nil
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("%w: the record's data key", ErrNotFound)
	case err != nil:
		return storeError(err)
	case item.Ref != ref:
		return fmt.Errorf("%w: it answered with another item", ErrStore)
	}
	return e.key(h.DataKey, item.Value)
}

// usable returns why nothing can be added. The caller holds mu.
func (e *Exporter) usable() error {
	switch {
	case e.over:
		return errExportOver
	case e.err == nil && e.ctx.Err() != nil:
		e.err = e.ctx.Err()
	case e.err == nil && e.t.k.closed.Load():
		e.err = ErrClosed
	}
	return e.err
}

// record writes an envelope that begins with sealed and goes on with what src has, which may
// be nil, in as many frames as it takes.
func (e *Exporter) record(p *exportPart, sealed []byte, src io.Reader) error {
	p.record = e.sum.Records + 1
	e.sum.Records++
	for {
		head := p.head(nil)
		room := frames.MaxBody - len(head)
		var failed error
		if src != nil {
			if e.buf == nil {
				e.buf = make([]byte, frames.MaxBody)
			}
			n := copy(e.buf[:room], sealed)
			k, err := io.ReadFull(src, e.buf[n:room])
			if sealed = e.buf[:n+k]; err != nil {
				if src = nil; err != io.EOF && err != io.ErrUnexpectedEOF {
					failed = err
				}
			}
		}
		part := sealed[:min(room, len(sealed))]
		if sealed = sealed[len(part):]; len(sealed) == 0 && src == nil {
			p.flags = partFinal
		}
		if failed != nil {
			p.flags |= partGivenUp
			e.sum.GivenUp++
		}
		if err := e.write(p.kind(), p.head(head[:0]), part); err != nil {
			return err
		}
		if p.flags&partFinal != 0 {
			return failed
		}
		if p.index++; e.ctx.Err() != nil || e.t.k.closed.Load() {
			return e.usable() // in the midst of a long record
		}
	}
}

// Summary counts what has been added by now.
func (e *Exporter) Summary() ExportSummary {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.summary()
}

func (e *Exporter) summary() ExportSummary {
	s := e.sum
	s.Bytes = e.frames.Size()
	s.Damaged = append([]DataKeyID(nil), s.Damaged...)
	return s
}

// Close records the outcome event and writes the end, without which the export is known to be
// incomplete. It fails after an error that has ended the export, and once ctx is done. It does not close dst. A second Close
// returns what the first one did.
func (e *Exporter) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return e.closed
	}
	e.closed = e.end(e.usable())
	e.over = true
	return e.closed
}

// Abort gives the export up: its end is not written. After Close it does nothing, so it can
// be deferred.
func (e *Exporter) Abort() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		e.closed = e.end(&givenUp{"given up before the end", errExportOver})
		e.over = true
	}
}

func (e *Exporter) end(err error) error {
	sum := e.summary()
	event := e.t.k.stamp(e.event)
	event.Reason = sum.String()
	if err == nil {
		err = e.out.Flush()
	}
	if err != nil {
		if e.t.k.enter() { // so that the Keeper's Close waits for it
			defer e.t.k.leave()
		}
		g, ok := err.(*givenUp)
		if !ok {
			g = &givenUp{"it failed", err}
		}
		_, _ = e.t.k.conclude(e.ctx, event, &givenUp{g.reason + ", after " + sum.String(), g.cause})
		return g.cause
	}
	ctx, done, err := e.t.k.within(e.ctx)
	if err == nil {
		event, err = e.t.k.conclude(ctx, event, nil)
		done()
	}
	if err != nil {
		return err
	}
	end := exportEnd{e.sum.DataKeys, e.sum.Records, uint64(e.frames.Size()), e.frames.Sum()}
	if err = e.write(frames.End, end.append(nil)); err == nil {
		err = e.out.Flush()
	}
	if err != nil {
		e.t.k.report(e.ctx, e.t.k.withheld(event, err))
	}
	return err
}
