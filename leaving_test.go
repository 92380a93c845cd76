package byok_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

var exportRecords = flag.Int("exportrecords", 5000, "records of the large export")

// leaving is a tenant that leaves: its records, and the access to its CMK that is its own.
type leaving struct {
	t       testing.TB
	env     *byoktest.Env
	tenant  *byok.Tenant
	cmk     byok.KeyID
	own     *awskms.Keyring // as the account that owns the CMK, not as the platform
	records []kept
}

// kept is a record that the platform keeps.
type kept struct {
	byok.ExportRecord
	plain, sealed []byte
}

func newLeaving(t testing.TB) *leaving {
	t.Helper()
	env := byoktest.New(t, nil)
	tenant, cmk := env.Tenant("acme")
	own, err := awskms.NewFromClient(env.Fake.Client("arn:aws:iam::"+byoktest.Account+":root"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &leaving{t: t, env: env, tenant: tenant, cmk: awskms.Key(cmk.ARN()), own: own}
}

func (l *leaving) seal(name, purpose string, aad, plain []byte) {
	l.t.Helper()
	s, err := l.env.Keeper.Seal(l.t.Context(), byok.Scope{Tenant: "acme", Purpose: purpose}, plain, aad)
	want(l.t, "Seal", err, nil)
	l.records = append(l.records, kept{byok.ExportRecord{Name: name, Purpose: purpose, AAD: aad}, plain, s})
}

// stream seals as a stream; small segments are none of its.
func (l *leaving) stream(name, purpose string, aad, plain []byte) {
	l.t.Helper()
	var out bytes.Buffer
	w, err := l.env.Keeper.SealWriter(l.t.Context(), &out, byok.Scope{Tenant: "acme", Purpose: purpose}, aad)
	want(l.t, "SealWriter", err, nil)
	_, err = w.Write(plain)
	want(l.t, "Write", errors.Join(err, w.Close()), nil)
	l.records = append(l.records, kept{byok.ExportRecord{Name: name, Purpose: purpose, AAD: aad}, plain, out.Bytes()})
}

// export exports all records, every second one from a stream.
func (l *leaving) export() []byte {
	l.t.Helper()
	var out bytes.Buffer
	e, err := l.tenant.Export(byok.WithActor(l.t.Context(), "ana"), &out)
	want(l.t, "Export", err, nil)
	for i, r := range l.records {
		if i%2 == 0 {
			err = e.Add(r.ExportRecord, r.sealed)
		} else {
			err = e.AddReader(r.ExportRecord, iotest.HalfReader(bytes.NewReader(r.sealed)))
		}
		want(l.t, "Add "+r.Name, err, nil)
	}
	want(l.t, "Close", e.Close(), nil)
	if s := e.Summary(); s.Records != uint64(len(l.records)) || s.Bytes != int64(out.Len()) {
		l.t.Errorf("%+v; %d bytes", s, out.Len())
	}
	return out.Bytes()
}

// openedExport is what came of opening an export.
type openedExport struct {
	plain map[uint64]string // by number
	names map[uint64]string
	bad   []*byok.ExportError
	err   error // another one
	info  byok.ExportInfo
}

func openExport(ctx context.Context, keys byok.Keyring, src io.Reader, trusted ...byok.KeyID) *openedExport {
	o := &openedExport{plain: map[uint64]string{}, names: map[uint64]string{}}
	r := byok.OpenExport(keys, trusted, src)
	for rec, err := range r.Records(ctx) {
		var plain bytes.Buffer
		if err == nil {
			_, err = rec.WriteTo(&plain)
		}
		var bad *byok.ExportError
		switch {
		case errors.As(err, &bad):
			o.bad = append(o.bad, bad)
		case err != nil:
			o.err = errors.Join(o.err, err)
		default:
			o.plain[rec.Number], o.names[rec.Number] = plain.String(), rec.Name
		}
	}
	o.info = r.Info()
	return o
}

// same fails unless exactly the records but those excepted opened, as they were.
func (l *leaving) same(o *openedExport, except ...uint64) {
	l.t.Helper()
	if o.err != nil || len(o.plain) != len(l.records)-len(except) {
		l.t.Fatalf("%d of %d opened, without %v: %v, %v", len(o.plain), len(l.records), except, o.bad, o.err)
	}
	for n, plain := range o.plain {
		if r := l.records[n-1]; plain != string(r.plain) || o.names[n] != r.Name || slices.Contains(except, n) {
			l.t.Fatalf("record %d %q: %d bytes, want those of %q", n, o.names[n], len(plain), r.Name)
		}
	}
}

func repeat(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n] }

// Everything comes back, whatever the records are called and however long they are: with the
// tenant's own access and one KMS request a data key, and with nothing that the platform has.
func TestExport_RoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLeaving(t)
		purposes := []string{"", "a", "b.c"}
		bytesOf := func(most int) *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), 0, most) }
		for range rapid.IntRange(0, 12).Draw(rt, "records") {
			if rapid.IntRange(0, 9).Draw(rt, "rotate") == 0 {
				_, err := l.tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
				want(t, "Rotate", err, nil)
			}
			name := string(rapid.SliceOfN(rapid.Byte(), 1, 30).Draw(rt, "name"))
			purpose := rapid.SampledFrom(purposes).Draw(rt, "purpose")
			n := rapid.OneOf(rapid.IntRange(0, 300), rapid.SampledFrom([]int{0, 65504, 1<<20 - 300, 1 << 20, 3<<20 + 7})).Draw(rt, "size")
			do := l.seal
			if rapid.Bool().Draw(rt, "stream") {
				do = l.stream
			}
			do(name, purpose, bytesOf(100).Draw(rt, "aad"), repeat(n))
		}
		b := l.export()
		l.env.Fake.ResetCalls()
		o := openExport(t.Context(), l.own, bytes.NewReader(b), l.cmk)
		l.same(o)
		if len(o.bad) != 0 || !o.info.Complete || o.info.Tenant != "acme" || o.info.Service != byoktest.Service {
			rt.Fatalf("%v, %+v", o.bad, o.info)
		}
		if n := len(l.env.Fake.Calls()); n > int(o.info.DataKeys) || len(l.records) > 0 && n == 0 {
			rt.Fatalf("%d KMS requests for %d data keys", n, o.info.DataKeys)
		}
	})
}

// frameOf is a frame of an export, found by its marker: enough for tests.
type frameOf struct {
	at, end int
	kind    byte
	record  uint64 // of kinds R and D
}

func framesOf(b []byte) (fs []frameOf) {
	for at := 0; at < len(b); {
		n := int(binary.BigEndian.Uint32(b[at+26:]))
		f := frameOf{at: at, end: at + 34 + n + 4, kind: b[at+9]}
		if f.kind == 'R' || f.kind == 'D' {
			f.record = binary.BigEndian.Uint64(b[at+34:])
		}
		fs, at = append(fs, f), f.end
	}
	return fs
}

// One flipped bit, anywhere. What it touched is named, and nothing else
// is; all other records open, as they were.
func TestExport_EveryFlippedBit(t *testing.T) {
	l := newLeaving(t)
	l.seal("invoices/1", "invoices", []byte("1"), []byte("first"))
	l.seal("users/é", "", nil, nil)
	l.seal("invoices/2", "invoices", []byte("2"), []byte("third"))
	b := l.export()
	fs := framesOf(b)
	kinds := ""
	for _, f := range fs {
		kinds += string(f.kind)
	}
	if kinds != "HHKKKKRRRE" {
		t.Fatal(kinds)
	}
	ids := map[byok.DataKeyID]bool{}
	for i, f := range fs {
		for bit := 8 * f.at; bit < 8*f.end; bit++ {
			if *exportRecords < 100_000 && bit%8 != bit/8%8 { // one for each byte will do
				continue
			}
			bent := bytes.Clone(b)
			bent[bit/8] ^= 1 << (bit % 8)
			o := openExport(t.Context(), l.own, bytes.NewReader(bent), l.cmk)
			if len(o.bad) == 0 {
				t.Fatalf("bit %d of frame %d (%c): nothing is named", bit, i, f.kind)
			}
			bad := o.bad[0]
			if bad.Offset != int64(f.at) || f.kind != 'E' && len(o.bad) != 1 {
				t.Fatalf("bit %d of frame %d (%c): %v", bit, i, f.kind, o.bad)
			}
			ok := false
			switch f.kind {
			case 'H':
				l.same(o)
				ok = bad.Harmless() && o.info.Complete && bad.DataKey == byok.DataKeyID{}
			case 'K':
				l.same(o)
				ids[bad.DataKey] = true
				ok = bad.Harmless() && o.info.Complete
			case 'R':
				l.same(o, f.record)
				ok = bad.Problem == byok.ExportDamaged && bad.Record == f.record && o.info.Complete
			case 'E':
				l.same(o)
				ok = bad.Problem == byok.ExportDamaged && len(o.bad) == 2 && o.bad[1].Problem == byok.ExportTruncated && !o.info.Complete
			}
			if !ok {
				t.Fatalf("bit %d of frame %d (%c, record %d): %v", bit, i, f.kind, f.record, o.bad)
			}
		}
	}
	// A flip inside of the id names another id, and all others name one of the two.
	if n := len(ids); n < 2+16 {
		t.Errorf("%d ids were named", n)
	}
}

// The same bytes flipped with checksums that are right, as somebody does on purpose: nothing
// but what was sealed comes out, and what was touched is named or was no part of what is sealed.
func TestExport_ForgedChecksums(t *testing.T) {
	l := newLeaving(t)
	l.seal("a", "invoices", []byte("1"), []byte("first"))
	l.seal("b", "", []byte("2"), []byte("second"))
	l.stream("c", "", nil, []byte("third"))
	b := l.export()
	named, plain := 0, map[string]bool{"first": true, "second": true, "third": true}
	for _, f := range framesOf(b) {
		for i := f.at + 34; i < f.end-4; i++ {
			bent := bytes.Clone(b)
			bent[i] ^= 1 << (i % 8)
			reseal(bent[f.at:f.end])
			o := openExport(t.Context(), l.own, bytes.NewReader(bent), l.cmk)
			for n, p := range o.plain {
				if !plain[p] {
					t.Fatalf("byte %d of a %c: record %d is %q", i-f.at, f.kind, n, p)
				}
			}
			if len(o.bad) == 0 { // not even the checksum at the end
				t.Fatalf("byte %d of a %c: nothing is said", i-f.at, f.kind)
			}
			for _, bad := range o.bad {
				if bad.Record != 0 {
					named++
				}
			}
		}
	}
	if named == 0 {
		t.Error("no record was named")
	}
}

// reseal gives a frame the checksums of what is in it.
func reseal(frame []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.BigEndian.PutUint32(frame[30:], crc32.Checksum(frame[:30], table))
	binary.BigEndian.PutUint32(frame[len(frame)-4:], crc32.Checksum(frame[:len(frame)-4], table))
}

// frame makes a frame, for exports that Export does not write.
func frame(kind byte, number int, body ...[]byte) []byte {
	n := bytes.Join(body, nil)
	b := append([]byte("\x89byokx\r\n\x01"), kind)
	b = append(b, "ABCDEFGH"...)
	b = binary.BigEndian.AppendUint64(b, uint64(number))
	b = binary.BigEndian.AppendUint32(b, uint32(len(n)))
	b = append(append(append(b, 0, 0, 0, 0), n...), 0, 0, 0, 0)
	reseal(b)
	return b
}

// Cut anywhere: the end is missed, what is whole opens, and the first record that is not there is
// named.
func TestExport_Truncated(t *testing.T) {
	l := newLeaving(t)
	l.seal("a", "", nil, []byte("first"))
	l.seal("b", "", nil, []byte("second"))
	b := l.export()
	fs := framesOf(b)
	for n := range b {
		o := openExport(t.Context(), l.own, bytes.NewReader(b[:n]), l.cmk)
		whole := 0
		for _, f := range fs {
			if f.kind == 'R' && f.end <= n {
				whole++
			}
		}
		if len(o.plain) != whole || o.info.Complete || o.err != nil || len(o.bad) == 0 {
			t.Fatalf("%d bytes: %d opened, want %d; %v, %v", n, len(o.plain), whole, o.bad, o.err)
		}
		last := o.bad[len(o.bad)-1]
		if last.Problem != byok.ExportTruncated || int(last.Record) < whole+1 {
			t.Fatalf("%d bytes: %v", n, last)
		}
	}
	o := openExport(t.Context(), l.own, io.MultiReader(bytes.NewReader(b), strings.NewReader("x")), l.cmk)
	if l.same(o); len(o.bad) != 1 || o.bad[0].Problem != byok.ExportTrailing {
		t.Errorf("%v", o.bad)
	}
	o = openExport(t.Context(), l.own, io.MultiReader(bytes.NewReader(b), bytes.NewReader(b)), l.cmk)
	if l.same(o); len(o.bad) != 1 || o.bad[0].Problem != byok.ExportTrailing {
		t.Errorf("twice: %v", o.bad)
	}
}

// A large record takes many frames. One that is damaged, missing, or twice costs that record, and
// those beside it open.
func TestExport_LargeRecordDamaged(t *testing.T) {
	l := newLeaving(t)
	l.seal("before", "", nil, []byte("before"))
	l.stream("large", "", nil, repeat(5<<20))
	l.seal("after", "", nil, []byte("after"))
	b := l.export()
	fs := framesOf(b)
	for i, f := range fs {
		if f.kind != 'D' && !(f.kind == 'R' && f.record == 2) {
			continue
		}
		bent := bytes.Clone(b)
		bent[f.at+1000] ^= 1
		twice := bytes.Join([][]byte{b[:f.end], b[f.at:f.end], b[f.end:]}, nil)
		for name, x := range map[string][]byte{"damaged": bent, "gone": slices.Delete(bytes.Clone(b), f.at, f.end), "twice": twice} {
			o := openExport(t.Context(), l.own, bytes.NewReader(x), l.cmk)
			if name == "twice" { // the second is left out
				if l.same(o); len(o.bad) != 1 || o.bad[0].Harmless() {
					t.Errorf("frame %d twice: %v", i, o.bad)
				}
				continue
			}
			l.same(o, 2)
			records := 0
			for _, bad := range o.bad {
				if bad.Record == 2 {
					records++
				} else if bad.Record != 0 || name == "damaged" {
					t.Errorf("frame %d %s: %v", i, name, bad)
				}
			}
			if records != 1 || !o.info.Complete {
				t.Errorf("frame %d (%c) %s: %v, %+v", i, f.kind, name, o.bad, o.info)
			}
		}
	}
}

// The tenant may go whatever its status is, and with the platform gone. What was blocked for the
// platform opens with the tenant's own access.
func TestExport_WhateverTheStatus(t *testing.T) {
	for name, stop := range map[string]func(l *leaving) error{
		"suspended": func(l *leaving) error { _, err := l.tenant.Suspend(l.t.Context(), "unpaid"); return err },
		"revoked":   func(l *leaving) error { _, err := l.tenant.Revoke(l.t.Context(), "leaving"); return err },
		"denied": func(l *leaving) error {
			l.env.Fake.Inject(kmsfake.Fault{Principal: byoktest.PlatformRole, Code: "AccessDeniedException"})
			_, err := l.tenant.Recheck(l.t.Context())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLeaving(t)
			l.seal("a", "x", []byte("aad"), []byte("first"))
			l.stream("b", "", nil, []byte("second"))
			if err := stop(l); err != nil && !errors.Is(err, byok.ErrKeyRevoked) {
				t.Fatal(err)
			}
			_, err := l.env.Keeper.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "x"}, l.records[0].sealed, []byte("aad"))
			want(t, "Open", err, byok.ErrKeyRevoked)
			l.env.Fake.ResetCalls()
			b := l.export()
			if n := len(l.env.Fake.Calls()); n != 0 {
				t.Errorf("%d KMS requests for an export", n)
			}
			want(t, "Close", l.env.Keeper.Close(), nil)
			*l.env.Store.(*byok.MemStore) = byok.MemStore{} // the platform's database is gone
			o := openExport(t.Context(), l.own, bytes.NewReader(b), l.cmk)
			if l.same(o); len(o.bad) != 0 {
				t.Error(o.bad)
			}
		})
	}
}

// The event says how much left, is recorded before the export is complete, and withholds the
// end if it cannot be.
func TestExport_Audited(t *testing.T) {
	l := newLeaving(t)
	l.seal("a", "", nil, []byte("first"))
	l.export()
	newest := func() byok.Event {
		t.Helper()
		page, err := l.tenant.Audit(t.Context(), byok.AuditQuery{Op: byok.OpExport})
		want(t, "Audit", err, nil)
		if len(page.Events) == 0 {
			t.Fatal("no event")
		}
		return page.Events[0]
	}
	e := newest()
	if e.Outcome != byok.OutcomeSuccess || e.Actor != "ana" || e.Key != l.cmk || !strings.HasPrefix(e.Reason, "1 data keys, 1 records, ") || len(e.Calls) != 0 {
		t.Errorf("%+v", e)
	}
	x, err := l.tenant.Export(t.Context(), io.Discard)
	want(t, "Export", err, nil)
	want(t, "Add", x.Add(l.records[0].ExportRecord, l.records[0].sealed), nil)
	x.Abort()
	x.Abort()
	want(t, "Add", x.Add(l.records[0].ExportRecord, l.records[0].sealed), byok.ErrArgument)
	if e = newest(); e.Outcome != byok.OutcomeAborted || !strings.Contains(e.Reason, "1 records") {
		t.Errorf("%+v", e)
	}
	// A destination that fails: when the data keys are written, and at the end.
	full := errors.New("disk full")
	x, err = l.tenant.Export(t.Context(), &limited{room: 300, err: full})
	want(t, "Export", err, nil)
	for range 1000 {
		if err = x.Add(l.records[0].ExportRecord, l.records[0].sealed); err != nil {
			break
		}
	}
	want(t, "Add", err, full)
	want(t, "Close", x.Close(), full)
	want(t, "Close", x.Close(), full)
	if e = newest(); e.Outcome != byok.OutcomeAborted {
		t.Errorf("%+v", e)
	}

	sink := &failingSink{AuditSink: l.env.Audit}
	env := byoktest.New(t, &byoktest.Options{Sink: sink})
	tenant, _ := env.Tenant("acme")
	var out bytes.Buffer
	x, err = tenant.Export(t.Context(), &out)
	want(t, "Export", err, nil)
	sink.broken.Store(true)
	want(t, "Close", x.Close(), byok.ErrAudit)
	if fs := framesOf(out.Bytes()); len(fs) != 2 {
		t.Errorf("%d frames, want the header alone", len(fs))
	}
}

// limited is a file system with little room.
type limited struct {
	room int
	err  error
}

func (w *limited) Write(p []byte) (int, error) {
	if len(p) > w.room {
		n := w.room
		w.room = 0
		return n, w.err
	}
	w.room -= len(p)
	return len(p), nil
}

type failingSink struct {
	byok.AuditSink
	broken atomic.Bool
}

func (s *failingSink) Record(ctx context.Context, e byok.Event) error {
	if s.broken.Load() {
		return errors.New("broken")
	}
	return s.AuditSink.Record(ctx, e)
}

// What cannot be opened by anybody is refused, and the export goes on.
func TestExport_AddRefuses(t *testing.T) {
	l := newLeaving(t)
	l.seal("a", "x", []byte("aad"), []byte("first"))
	good := l.records[0]
	l.env.Tenant("other")
	foreign, err := l.env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "other"}, nil, nil)
	want(t, "Seal", err, nil)
	lost := bytes.Clone(good.sealed)
	copy(lost[8:], "another data key")
	broken := errors.New("broken")

	var out bytes.Buffer
	e, err := l.tenant.Export(t.Context(), &out)
	want(t, "Export", err, nil)
	for name, c := range map[string]struct {
		r      byok.ExportRecord
		sealed []byte
		want   error
	}{
		"no name":         {byok.ExportRecord{Purpose: "x"}, good.sealed, byok.ErrArgument},
		"long name":       {byok.ExportRecord{Name: strings.Repeat("n", byok.MaxExportName+1), Purpose: "x"}, good.sealed, byok.ErrArgument},
		"bad purpose":     {byok.ExportRecord{Name: "n", Purpose: "X"}, good.sealed, byok.ErrArgument},
		"long aad":        {byok.ExportRecord{Name: "n", Purpose: "x", AAD: make([]byte, byok.MaxAAD+1)}, good.sealed, byok.ErrArgument},
		"another purpose": {byok.ExportRecord{Name: "n", Purpose: "y"}, good.sealed, byok.ErrOpen},
		"another tenant":  {byok.ExportRecord{Name: "n"}, foreign, byok.ErrOpen},
		"no envelope":     {byok.ExportRecord{Name: "n", Purpose: "x"}, []byte("plaintext"), byok.ErrMalformed},
		"lost data key":   {byok.ExportRecord{Name: "n", Purpose: "x"}, lost, byok.ErrNotFound},
	} {
		want(t, name, e.Add(c.r, c.sealed), c.want)
		want(t, name, e.AddReader(c.r, bytes.NewReader(c.sealed)), c.want)
	}
	want(t, "cut in the header", e.AddReader(good.ExportRecord, bytes.NewReader(good.sealed[:20])), byok.ErrMalformed)
	want(t, "cut in the payload", e.Add(good.ExportRecord, good.sealed[:h30(good.sealed)]), byok.ErrOpen)
	want(t, "broken at once", e.AddReader(good.ExportRecord, iotest.ErrReader(broken)), broken)
	want(t, "broken later", e.AddReader(byok.ExportRecord{Name: "unreadable", Purpose: "x"},
		io.MultiReader(bytes.NewReader(good.sealed[:len(good.sealed)-1]), iotest.ErrReader(broken))), broken)
	want(t, "Add", e.Add(good.ExportRecord, good.sealed), nil)
	want(t, "Close", e.Close(), nil)
	if s := e.Summary(); s.Records != 2 || s.GivenUp != 1 || s.DataKeys != 1 {
		t.Errorf("%+v", s)
	}
	for _, read := range []bool{true, false} {
		var bad []*byok.ExportError
		plain := ""
		for rec, err := range byok.OpenExport(l.own, []byok.KeyID{l.cmk}, bytes.NewReader(out.Bytes())).Records(t.Context()) {
			if err == nil && read {
				var b []byte
				if b, err = io.ReadAll(rec); err == nil {
					plain += string(b)
				}
			}
			var e *byok.ExportError
			if errors.As(err, &e) {
				bad = append(bad, e)
			} else if err != nil {
				t.Error(err)
			}
		}
		if len(bad) != 1 || bad[0].Problem != byok.ExportGivenUp || bad[0].Name != "unreadable" || bad[0].Record != 1 || read && plain != "first" {
			t.Errorf("read %v: %v, %q", read, bad, plain)
		}
	}
}

// h30 is where an envelope of policy REF has its FLOE header and nothing more.
func h30(sealed []byte) int { return 25 + int(sealed[24]) + 74 }

// While it lasts, data keys are made, rotated and damaged.
func TestExport_WhileOthersWork(t *testing.T) {
	l := newLeaving(t)
	l.seal("a", "x", nil, []byte("first"))
	var out bytes.Buffer
	e, err := l.tenant.Export(t.Context(), &out)
	want(t, "Export", err, nil)
	_, err = l.tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(t, "Rotate", err, nil)
	l.seal("b", "x", nil, []byte("second"))
	l.seal("c", "y", nil, []byte("third"))
	var wg sync.WaitGroup
	for _, r := range l.records {
		wg.Go(func() { want(t, "Add", e.Add(r.ExportRecord, r.sealed), nil) })
	}
	wg.Wait()
	want(t, "Close", e.Close(), nil)
	o := openExport(t.Context(), l.own, bytes.NewReader(out.Bytes()), l.cmk)
	if len(o.plain) != 3 || len(o.bad) != 0 || o.info.DataKeys != 3 || !o.info.Complete {
		t.Errorf("%v, %v, %+v", o.plain, o.bad, o.info)
	}
	// An item that is damaged is left out and named; the rest leaves.
	h, err := byok.Inspect(l.records[1].sealed)
	want(t, "Inspect", err, nil)
	ref := byok.Ref{Partition: "tenant:acme", ID: "dek:" + h.DataKey.String()}
	item, err := l.env.Store.Get(t.Context(), ref)
	want(t, "Get", err, nil)
	item.Value = bytes.Replace(item.Value, []byte(`"header":"Ynlvaw`), []byte(`"header":"Ynlvax`), 1)
	want(t, "Apply", l.env.Store.Apply(t.Context(), item), nil)
	e, err = l.tenant.Export(t.Context(), io.Discard)
	want(t, "Export", err, nil)
	want(t, "Add", e.Add(l.records[1].ExportRecord, l.records[1].sealed), byok.ErrStore)
	want(t, "Add", e.Add(l.records[2].ExportRecord, l.records[2].sealed), nil)
	want(t, "Close", e.Close(), nil)
	if s := e.Summary(); s.DataKeys != 2 || len(s.Damaged) != 1 || s.Damaged[0] != h.DataKey {
		t.Errorf("%+v", s)
	}
	_, err = l.env.Keeper.Tenant("nobody").Export(t.Context(), io.Discard)
	want(t, "Export of nobody", err, byok.ErrNotRegistered)
	_, err = l.env.Keeper.Tenant("no body").Export(t.Context(), io.Discard)
	want(t, "Export of a bad name", err, byok.ErrArgument)
	ctx, cancel := context.WithCancel(t.Context())
	e, err = l.tenant.Export(ctx, io.Discard)
	want(t, "Export", err, nil)
	cancel()
	want(t, "Add", e.Add(l.records[2].ExportRecord, l.records[2].sealed), context.Canceled)
	want(t, "Close", e.Close(), context.Canceled)
	e, err = l.tenant.Export(t.Context(), io.Discard)
	want(t, "Export", err, nil)
	want(t, "Keeper.Close", l.env.Keeper.Close(), nil) // it does not wait for exports
	want(t, "Add", e.Add(l.records[2].ExportRecord, l.records[2].sealed), byok.ErrClosed)
	want(t, "Close", e.Close(), byok.ErrClosed)
}

// The size that the issue asks for is -exportrecords 100000.
func TestExport_Large(t *testing.T) {
	l := newLeaving(t)
	plain := repeat(200)
	var out bytes.Buffer
	e, err := l.tenant.Export(t.Context(), &out)
	want(t, "Export", err, nil)
	begun := time.Now()
	var adding time.Duration
	for i := range *exportRecords {
		r := byok.ExportRecord{Name: fmt.Sprint("invoices/", i), Purpose: fmt.Sprint("p", i%10), AAD: fmt.Append(nil, i)}
		sealed, err := l.env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: r.Purpose}, plain, r.AAD)
		want(t, "Seal", err, nil)
		add := time.Now()
		want(t, "Add", e.Add(r, sealed), nil)
		adding += time.Since(add)
	}
	want(t, "Close", e.Close(), nil)
	t.Logf("%d records in %d bytes: sealed and exported in %v, exported in %v", *exportRecords, out.Len(), time.Since(begun).Round(time.Millisecond), adding.Round(time.Millisecond))
	bent := out.Bytes()
	fs := framesOf(bent)
	hit := fs[len(fs)/2]
	bent[hit.at+60] ^= 4
	l.env.Fake.ResetCalls()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun = time.Now()
	opened, most := 0, uint64(0)
	var bad []error
	for rec, err := range byok.OpenExport(l.own, []byok.KeyID{l.cmk}, bytes.NewReader(bent)).Records(t.Context()) {
		if err == nil {
			_, err = io.Copy(io.Discard, rec)
		}
		if err != nil {
			bad = append(bad, err)
			continue
		}
		if opened++; opened%1000 == 0 {
			runtime.ReadMemStats(&after)
			most = max(most, after.HeapInuse)
		}
	}
	took := time.Since(begun)
	t.Logf("opened %d in %v (%.0f a second), heap at most %d MiB, the export %d MiB of it; %v", opened, took.Round(time.Millisecond), float64(opened)/took.Seconds(), most>>20, out.Len()>>20, bad)
	if opened != *exportRecords-1 || len(bad) != 1 || len(l.env.Fake.Calls()) != 10 {
		t.Errorf("%d opened, %v, %d KMS requests", opened, bad, len(l.env.Fake.Calls()))
	}
	var e1 *byok.ExportError
	if !errors.As(bad[0], &e1) || e1.Record != hit.record || hit.record == 0 {
		t.Errorf("%v, want record %d", bad, hit.record)
	}
	if most > before.HeapInuse+32<<20 {
		t.Errorf("the heap grew from %d to %d", before.HeapInuse, most)
	}
}
