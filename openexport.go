package byok

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/frames"
)

// ExportReader reads an export, see [OpenExport].
type ExportReader struct {
	keyring Keyring
	trusted []KeyID
	frames  *frames.Reader
	held    *frames.Frame // read ahead, valid as long as frames.Next is not called
	heldErr error

	head   *exportHead
	keys   *exportKeyring
	info   ExportInfo
	last   uint64 // number of the newest record
	lastOK bool   // nothing is amiss with it so far
	broken bool   // something was damaged, so the checksum cannot be right
	begun  bool
	extra  []error // what was found while a record was read
	cmks   map[KeyID]uint64
}

// ExportInfo is what an export says of itself, as far as it has been read. Nothing of it is
// authenticated.
type ExportInfo struct {
	Tenant    string
	Service   string // first argument of the platform's New
	CreatedAt time.Time
	DataKeys  uint64
	Records   uint64
	CMKs      []ExportCMK // that have wrapped data keys, at most 1000 of them
	Complete  bool        // the end was read, and all that it counts
}

// ExportCMK is a CMK that an export names.
type ExportCMK struct {
	Key      KeyID
	DataKeys uint64 // that it has wrapped; of those that envelopes carry, each counts
}

const maxExportCMKs = 1000

// OpenExport returns a reader of an export that [Tenant.Export] made, and reads nothing yet. It needs no
// Keeper and no Store: KMS is asked through keys, one Decrypt for each data key.
//
// trusted are the CMKs that KMS may be asked about. The export names some, but whoever made
// the file chose them: asking about any key in a file would use the caller's credentials on an attacker's
// word. What is wrapped by others only is not opened. Of several that each can open a data key (PolicyAny) the first is
// asked, and the next one if KMS does not answer, but not after a denial; with PolicyAll name all.
//
// A nil Keyring, or no trusted, is for a look at what there is: nothing opens then.
func OpenExport(keys Keyring, trusted []KeyID, src io.Reader) *ExportReader {
	if keys == nil {
		trusted = nil
	}
	r := &ExportReader{keyring: keys, frames: frames.NewReader(src), cmks: map[KeyID]uint64{}}
	for _, key := range trusted {
		if !slices.Contains(r.trusted, key) {
			r.trusted = append(r.trusted, key)
		}
	}
	return r
}

// Records returns the records in the order in which they were added. It reads the source once, and
// takes no more memory for large records, or many.
//
// Each error is an [*ExportError], names one thing that is wrong, and the sequence goes on: what is not
// concerned still comes. Other errors are the source's and ctx's, and are the last. If no error came
// that is not Harmless, everything was there and everything that was read opened.
//
// A record is valid until the next is asked for; all data keys are wiped when the sequence ends. Records can be
// called once.
func (r *ExportReader) Records(ctx context.Context) iter.Seq2[*ExportedRecord, error] {
	return func(yield func(*ExportedRecord, error) bool) {
		if r.begun {
			yield(nil, fmt.Errorf("%w: an export is read once", ErrArgument))
			return
		}
		r.begun = true
		defer func() {
			if r.keys != nil {
				r.keys.wipe()
			}
		}()
		for {
			rec, err, over := r.next(ctx)
			if over && err == nil || (rec != nil || err != nil) && !yield(rec, err) || over {
				return
			}
			if rec != nil {
				if err := rec.finish(); err != nil && !yield(nil, err) {
					return
				}
			}
		}
	}
}

// Info is what has been read by now.
func (r *ExportReader) Info() ExportInfo {
	i := r.info
	for key, n := range r.cmks {
		i.CMKs = append(i.CMKs, ExportCMK{key, n})
	}
	slices.SortFunc(i.CMKs, func(a, b ExportCMK) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return i
}

// frame returns the next frame, or what pushBack put back.
func (r *ExportReader) frame() (frames.Frame, error) {
	if f, err := r.held, r.heldErr; f != nil || err != nil {
		r.held, r.heldErr = nil, nil
		if f == nil {
			f = new(frames.Frame)
		}
		return *f, err
	}
	return r.frames.Next()
}

func (r *ExportReader) pushBack(f frames.Frame, err error) {
	if r.heldErr = err; err == nil {
		r.held = &f
	}
}

// next handles one frame. It returns a record, something that is wrong, or neither; over: the
// sequence ends.
func (r *ExportReader) next(ctx context.Context) (rec *ExportedRecord, err error, over bool) {
	if err := ctx.Err(); err != nil {
		return nil, err, true
	}
	if len(r.extra) > 0 {
		err, r.extra = r.extra[0], r.extra[1:]
		return nil, err, false
	}
	f, err := r.frame()
	var d *frames.Damage
	switch {
	case err == io.EOF:
		return nil, &ExportError{Problem: ExportTruncated, Record: r.last + 1, Offset: r.frames.Offset()}, true
	case errors.As(err, &d):
		r.broken = true
		if bad := r.damaged(d); bad != nil {
			return nil, bad, false
		}
		return nil, nil, false
	case err != nil:
		return nil, err, true
	case r.head == nil && f.Kind != frames.Header:
		return nil, &ExportError{Problem: ExportNoHeader, Offset: f.Offset}, true
	}
	var bad *ExportError
	switch f.Kind {
	case frames.Header:
		bad = r.header(f)
	case frames.Key:
		bad = r.key(f)
	case frames.Record:
		rec, bad = r.record(ctx, f)
	case frames.End:
		return nil, r.end(f), true
	default: // Data of a record that is not to be had, or what only a forger writes
		bad = &ExportError{Problem: ExportDamaged, Offset: f.Offset}
		if p, ok := parseExportPart(f.Kind, f.Body); ok && f.Kind == frames.Data {
			switch {
			case p.record == r.last && !r.lastOK:
				return nil, nil, false // it was told
			case p.record > r.last:
				bad = r.missing(p.record, f.Offset)
			}
		}
	}
	if bad != nil {
		return rec, bad, false
	}
	return rec, nil, false
}

func (r *ExportReader) header(f frames.Frame) *ExportError {
	h, ok := parseExportHead(f.Body)
	switch {
	case !ok:
		return &ExportError{Problem: ExportDamaged, Offset: f.Offset}
	case r.head == nil:
		r.head = &h
		r.info.Tenant, r.info.Service, r.info.CreatedAt = h.tenant, h.service, unixUTC(h.at)
		r.keys = newExportKeyring(r.keyring, r.trusted, &h)
	case *r.head != h:
		return &ExportError{Problem: ExportConflict, Offset: f.Offset}
	}
	return nil
}

func (r *ExportReader) key(f frames.Frame) *ExportError {
	k, h, ok := parseExportKey(f.Body)
	if !ok {
		return &ExportError{Problem: ExportDamaged, Offset: f.Offset}
	}
	bad := &ExportError{DataKey: h.DataKey, Offset: f.Offset}
	switch old := r.keys.keys[h.DataKey]; {
	case old != nil:
		if old.exportKey == k {
			return nil
		}
		bad.Problem = ExportConflict
		return bad
	case h.Tenant != r.head.tenant, r.keys.size+len(f.Body) > maxExportKeys:
		bad.Problem = ExportDamaged
		return bad
	}
	r.keys.size += len(f.Body)
	r.keys.keys[h.DataKey] = &exportedKey{exportKey: k, parsed: h}
	r.info.DataKeys++
	r.names(h)
	return nil
}

// names counts the CMKs that a data key is wrapped by.
func (r *ExportReader) names(h *format.Header) {
	for _, in := range h.Recipients {
		key := KeyID{in.Provider, in.Key}
		if _, ok := r.cmks[key]; ok || len(r.cmks) < maxExportCMKs {
			r.cmks[key]++
		}
	}
}

// record begins a record. Beside it there may be news of others that are missing before it.
func (r *ExportReader) record(ctx context.Context, f frames.Frame) (*ExportedRecord, *ExportError) {
	p, ok := parseExportPart(f.Kind, f.Body)
	if !ok || p.record <= r.last {
		return nil, &ExportError{Problem: ExportDamaged, Record: p.record, Name: p.name, Offset: f.Offset}
	}
	if missing := r.missing(p.record-1, f.Offset); missing != nil {
		r.pushBack(f, nil)
		return nil, missing
	}
	r.last, r.lastOK = p.record, true
	r.info.Records++
	rec := &ExportedRecord{Name: p.name, Purpose: p.purpose, AAD: p.aad, Number: p.record,
		r: r, ctx: ctx, parts: sealedParts{r: r, offset: f.Offset}}
	rec.parts.take(p)
	if h, _, _, err := format.Parse(p.sealed); err == nil {
		if rec.DataKey = h.DataKey; r.keys.keys[h.DataKey] == nil {
			r.names(h)
		}
	}
	return rec, nil
}

// missing reports that records are, if upTo is not the newest.
func (r *ExportReader) missing(upTo uint64, offset int64) *ExportError {
	if upTo <= r.last {
		return nil
	}
	e := &ExportError{Problem: ExportMissing, Record: r.last + 1, Count: upTo - r.last, Offset: offset}
	r.last, r.lastOK = upTo, false
	return e
}

// end handles the end, and whatever is behind it.
func (r *ExportReader) end(f frames.Frame) error {
	e, ok := parseExportEnd(f.Body)
	if !ok {
		return &ExportError{Problem: ExportDamaged, Offset: f.Offset}
	}
	if missing := r.missing(e.records, f.Offset); missing != nil {
		return missing
	}
	if e.records != r.last || e.keys != r.info.DataKeys && !r.broken || !r.broken && (e.size != uint64(f.Offset) || e.sum != f.Sum) {
		return &ExportError{Problem: ExportChecksum, Offset: f.Offset}
	}
	r.info.Complete = true
	if _, err := r.frames.Next(); err != io.EOF {
		return &ExportError{Problem: ExportTrailing, Offset: r.frames.Offset()}
	}
	return nil
}

// superfluous reports whether err is about bytes that stand where nothing is missing, such as a
// frame that comes twice. A record that is being read goes on behind them.
func (r *ExportReader) superfluous(err error) bool {
	var d *frames.Damage
	if !errors.As(err, &d) || d.Count != 0 || d.Ends {
		return false
	}
	r.broken = true
	if len(r.extra) < 100 { // more is not told, however much there is
		r.extra = append(r.extra, &ExportError{Problem: ExportDamaged, Offset: d.Offset})
	}
	return true
}

// damaged says what a damage has hit, as far as can be told, and nil if that was told before.
func (r *ExportReader) damaged(d *frames.Damage) *ExportError {
	e := &ExportError{Problem: ExportDamaged, Count: d.Count, Offset: d.Offset}
	if d.Count > 1 || d.Count == 0 && !d.Ends {
		return e
	}
	body, kind := d.Body(), d.Kind
	if kind == 0 {
		kind = r.guess(body)
	}
	switch kind {
	case frames.Header:
		e.Problem, e.Count = ExportCopyDamaged, 0
	case frames.Key:
		e.Problem, e.Count, e.DataKey = ExportCopyDamaged, 0, guessDataKey(body)
	case frames.Record:
		p, _ := parseExportPart(kind, body)
		r.last, r.lastOK = r.last+1, false // since no other frame is lost
		e.Record, e.Count, e.Name = r.last, 0, p.name
	case frames.Data:
		if !r.lastOK {
			return nil
		}
		e.Record, e.Count = r.last, 0
		r.lastOK = false
	}
	return e
}

// guess says of what kind a frame is whose head is damaged and whose body, then, is likely not: of the one
// kind that it can be.
func (r *ExportReader) guess(body []byte) frames.Kind {
	if _, _, ok := parseExportKey(body); ok {
		return frames.Key
	}
	if _, ok := parseExportHead(body); ok {
		return frames.Header
	}
	if _, ok := parseExportEnd(body); ok {
		return frames.End
	}
	if p, ok := parseExportPart(frames.Record, body); ok && p.record == r.last+1 {
		return frames.Record
	}
	if p, ok := parseExportPart(frames.Data, body); ok && p.record == r.last && r.last != 0 {
		return frames.Data
	}
	return 0
}
