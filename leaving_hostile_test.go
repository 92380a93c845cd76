package byok_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// forged is an export as an attacker writes it, frame by frame.
type forged struct {
	number int
	bytes.Buffer
}

func (f *forged) frame(kind byte, body ...[]byte) *forged {
	f.Write(frame(kind, f.number, body...))
	f.number++
	return f
}

func forgeExport(tenant string) *forged {
	f := new(forged)
	return f.frame('H', lp8(tenant), lp8(byoktest.Service), make([]byte, 8))
}

func lp8(s string) []byte { return append([]byte{byte(len(s))}, s...) }

func lp16(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func number(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// wrapped is a data key at rest.
func wrapped(tenant string, id byok.DataKeyID, key byok.KeyID, blob []byte) []byte {
	b := append([]byte("byok\x01\x01\x01\x00"), id[:]...)
	b = append(b, lp8(tenant)...)
	section := bytes.Join([][]byte{{1}, lp8(key.Provider), lp16(key.ID), lp16(string(blob))}, nil)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(section))), section...)
}

func (f *forged) key(header []byte, purpose string) *forged {
	return f.frame('K', header, lp8(purpose), make([]byte, 16))
}

func (f *forged) record(n int, name, purpose, aad string, sealed []byte) *forged {
	return f.frame('R', number(n), []byte{1}, lp16(name), lp8(purpose), lp16(aad), sealed)
}

func (f *forged) open(l *leaving, trusted ...byok.KeyID) *openedExport {
	l.t.Helper()
	l.env.Fake.ResetCalls()
	return openExport(l.t.Context(), l.own, bytes.NewReader(f.Bytes()), trusted...)
}

// header returns the data key of a record, as the Store has it.
func (l *leaving) header(i int) (byok.DataKeyID, []byte) {
	l.t.Helper()
	h, err := byok.Inspect(l.records[i].sealed)
	want(l.t, "Inspect", err, nil)
	b := l.export()
	for _, f := range framesOf(b) {
		if body := b[f.at+34 : f.end-4]; f.kind == 'K' && bytes.Equal(body[8:24], h.DataKey[:]) {
			return h.DataKey, body[:len(body)-1-len(l.records[i].Purpose)-16]
		}
	}
	l.t.Fatal("the export lacks a data key")
	return byok.DataKeyID{}, nil
}

// Whose KMS is asked is the caller's word. A file that names an attacker's CMK, whose policy lets
// everybody in, gets no request, wherever it names it.
func TestD1_ExportOfAnAttackersCMK(t *testing.T) {
	l := newLeaving(t)
	evil := l.env.Fake.Account("666666666666").CreateKey(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:*","Resource":"*"}]}`)
	theirs, err := awskms.NewFromClient(l.env.Fake.Client("arn:aws:iam::666666666666:root"), nil)
	want(t, "NewFromClient", err, nil)
	d, err := byok.NewDirect(byoktest.Service, theirs, awskms.Key(evil.ARN()), new(byok.MemAudit))
	want(t, "NewDirect", err, nil)
	inside, err := d.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "x"}, []byte("theirs"), nil)
	want(t, "Seal", err, nil)
	h, err := byok.Inspect(inside)
	want(t, "Inspect", err, nil)

	f := forgeExport("acme").record(1, "inside", "x", "", inside)
	f.key(wrapped("acme", h.DataKey, awskms.Key(evil.ARN()), h.Recipients[0].Wrapped), "x").record(2, "beside", "x", "", inside)
	for name, trusted := range map[string][]byok.KeyID{"the tenant's": {l.cmk}, "none": nil} {
		o := f.open(l, trusted...)
		if n := len(l.env.Fake.Calls()); n != 0 {
			t.Errorf("%s: %d KMS requests, for %v", name, n, l.env.Fake.Calls())
		}
		if len(o.plain) != 0 || len(o.bad) < 2 || !errors.Is(o.bad[0], byok.ErrExportUntrusted) || !errors.Is(o.bad[1], byok.ErrExportUntrusted) {
			t.Errorf("%s: %v, %v", name, o.plain, o.bad)
		}
		if len(o.info.CMKs) != 1 || o.info.CMKs[0].Key.ID != evil.ARN() {
			t.Errorf("%s: it names %v", name, o.info.CMKs)
		}
	}
	// The test can fail: whoever says that it is his key gets what it sealed.
	if o := f.open(l, awskms.Key(evil.ARN())); len(o.plain) != 2 || o.plain[1] != "theirs" {
		t.Errorf("%v, %v", o.plain, o.bad)
	}
}

// Records and data keys of others, two contents for one thing, things out of order: each is
// named, nothing of it opens, and KMS is asked once at most.
func TestExport_Hostile(t *testing.T) {
	l := newLeaving(t)
	l.seal("mine", "x", []byte("aad"), []byte("first"))
	mine := l.records[0].sealed
	id, header := l.header(0)
	l.env.Tenant("other")
	others, err := l.env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "other", Purpose: "x"}, []byte("secret"), []byte("aad"))
	want(t, "Seal", err, nil)
	oid, err := byok.Inspect(others)
	want(t, "Inspect", err, nil)
	bent := bytes.Clone(header)
	bent[len(bent)-1] ^= 1
	other := wrapped("acme", oid.DataKey, l.cmk, []byte("junk"))
	good := func() *forged { return forgeExport("acme").key(header, "x") }

	for name, c := range map[string]struct {
		f     *forged
		plain int
		calls int
		bad   byok.ExportProblem
		err   error
	}{
		"as it should be":             {good().record(1, "mine", "x", "aad", mine), 1, 1, byok.ExportTruncated, nil},
		"another tenant's record":     {good().record(1, "n", "x", "aad", others), 0, 0, byok.ExportNotOpened, byok.ErrOpen},
		"another tenant's data key":   {forgeExport("acme").key(wrapped("other", id, l.cmk, []byte("w")), "x"), 0, 0, byok.ExportDamaged, nil},
		"another tenant's name":       {forgeExport("other").key(header, "x"), 0, 0, byok.ExportDamaged, nil},
		"another purpose":             {good().record(1, "n", "y", "aad", mine), 0, 0, byok.ExportNotOpened, byok.ErrOpen},
		"another purpose of both":     {forgeExport("acme").key(header, "y").record(1, "n", "y", "aad", mine), 0, 1, byok.ExportNotOpened, byok.ErrOpen},
		"another aad":                 {good().record(1, "n", "x", "AAD", mine), 0, 1, byok.ExportNotOpened, byok.ErrOpen},
		"a data key that is none":     {forgeExport("acme").key(other, "x").record(1, "n", "x", "aad", append(other[:24:24], others[24:]...)), 0, 0, byok.ExportNotOpened, byok.ErrOpen},
		"a wrapping that is none":     {forgeExport("acme").key(bent, "x").record(1, "n", "x", "aad", mine).record(2, "n", "x", "aad", mine), 0, 1, byok.ExportNotOpened, byok.ErrOpen},
		"no data key":                 {forgeExport("acme").record(1, "n", "x", "aad", mine), 0, 0, byok.ExportNotOpened, byok.ErrExportKey},
		"no envelope":                 {good().record(1, "n", "x", "aad", []byte("plain")), 0, 0, byok.ExportNotOpened, byok.ErrMalformed},
		"two wrappings":               {good().key(bent, "x").record(1, "n", "x", "aad", mine), 1, 1, byok.ExportConflict, nil},
		"two headers":                 {good().frame('H', lp8("other"), lp8("s"), make([]byte, 8)).record(1, "n", "x", "aad", mine), 1, 1, byok.ExportConflict, nil},
		"no header":                   {new(forged).key(header, "x"), 0, 0, byok.ExportNoHeader, nil},
		"a number twice":              {good().record(1, "n", "x", "aad", mine).record(1, "m", "x", "aad", mine), 1, 1, byok.ExportDamaged, nil},
		"numbers that go back":        {good().record(2, "n", "x", "aad", mine).record(1, "m", "x", "aad", mine), 1, 1, byok.ExportMissing, nil},
		"number 0":                    {good().record(0, "n", "x", "aad", mine), 0, 0, byok.ExportDamaged, nil},
		"a name twice":                {good().record(1, "n", "x", "aad", mine).record(2, "n", "x", "aad", mine), 2, 1, byok.ExportTruncated, nil},
		"no name":                     {good().record(1, "", "x", "aad", mine), 0, 0, byok.ExportDamaged, nil},
		"a long name":                 {good().record(1, strings.Repeat("n", 1025), "x", "aad", mine), 0, 0, byok.ExportDamaged, nil},
		"unknown flags":               {good().frame('R', number(1), []byte{5}, lp16("n"), lp8("x"), lp16("aad"), mine), 0, 0, byok.ExportDamaged, nil},
		"an unknown kind":             {good().frame('X'), 0, 0, byok.ExportDamaged, nil},
		"a part of nothing":           {good().frame('D', number(9), []byte{0, 0, 0, 1}, []byte{1}, mine), 0, 0, byok.ExportMissing, nil},
		"an end that counts more":     {good().frame('E', number(1), number(5), number(0), make([]byte, 32)), 0, 0, byok.ExportMissing, nil},
		"an end that counts less":     {good().record(1, "n", "x", "aad", mine).frame('E', number(1), number(0), number(0), make([]byte, 32)), 1, 1, byok.ExportChecksum, nil},
		"an end with another sum":     {good().frame('E', number(1), number(0), number(0), make([]byte, 32)), 0, 0, byok.ExportChecksum, nil},
		"policy REF for a data key":   {forgeExport("acme").key(mine[:25+len("acme")], "x"), 0, 0, byok.ExportDamaged, nil},
		"a data key and more":         {forgeExport("acme").frame('K', header, lp8("x"), make([]byte, 17)), 0, 0, byok.ExportDamaged, nil},
		"a tenant that cannot be":     {new(forged).frame('H', lp8("a b"), lp8("s"), make([]byte, 8)), 0, 0, byok.ExportDamaged, nil},
		"a service that cannot be":    {new(forged).frame('H', lp8("acme"), lp8("s/s"), make([]byte, 8)), 0, 0, byok.ExportDamaged, nil},
		"a header of before 1970":     {new(forged).frame('H', lp8("acme"), lp8("s"), []byte{0x80, 0, 0, 0, 0, 0, 0, 0}), 0, 0, byok.ExportDamaged, nil},
		"an end without a beginning":  {new(forged).frame('E', make([]byte, 56)), 0, 0, byok.ExportNoHeader, nil},
		"nothing":                     {new(forged), 0, 0, byok.ExportTruncated, nil},
		"a record after it was ended": {good().record(1, "n", "x", "aad", mine).frame('D', number(1), []byte{0, 0, 0, 1}, []byte{1}, mine), 1, 1, byok.ExportDamaged, nil},
	} {
		o := c.f.open(l, l.cmk)
		if n := len(l.env.Fake.Calls()); len(o.plain) != c.plain || n != c.calls || o.err != nil || o.info.Complete {
			t.Errorf("%s: %v, %v, %v, %d KMS requests", name, o.plain, o.bad, o.err, n)
			continue
		}
		for _, p := range o.plain {
			if p != "first" {
				t.Errorf("%s: %q", name, p)
			}
		}
		if len(o.bad) == 0 || o.bad[0].Problem != c.bad || c.err != nil && !errors.Is(o.bad[0], c.err) {
			t.Errorf("%s: %v", name, o.bad)
		}
	}
}

// What somebody writes into a file costs its reader no more memory than docs/export.md says.
func TestExport_Memory(t *testing.T) {
	l := newLeaving(t)
	r, w := io.Pipe()
	const many = 12_000 // of the largest: 200 MB
	go func() {
		f := forgeExport("acme")
		for i := range many {
			var id byok.DataKeyID
			binary.BigEndian.PutUint64(id[:], uint64(i))
			f.key(wrapped("acme", id, byok.KeyID{Provider: "aws-kms", ID: strings.Repeat("k", 2048)}, make([]byte, 6144)), "x")
			if _, err := f.WriteTo(w); err != nil {
				break
			}
		}
		_ = w.Close()
	}()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := byok.OpenExport(l.own, []byok.KeyID{l.cmk}, r)
	refused := 0
	for _, err := range x.Records(t.Context()) {
		var e *byok.ExportError
		if errors.As(err, &e) && e.Problem == byok.ExportDamaged {
			refused++
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := x.Info().DataKeys; kept < 7000 || kept > 8200 || refused != many-int(kept) {
		t.Errorf("%d kept, %d refused", kept, refused)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 160<<20 {
		t.Errorf("%d MiB", grown>>20)
	}
	runtime.KeepAlive(x)
}

// A data key that KMS denies costs one request and the records under it; the others open.
func TestExport_DeniedDataKey(t *testing.T) {
	l := newLeaving(t)
	for i := range 10 {
		l.seal(fmt.Sprint(i), []string{"x", "y"}[i%2], nil, []byte{byte(i)})
	}
	b := l.export()
	l.env.Fake.Inject(kmsfake.Fault{EncryptionContext: map[string]string{byok.ContextPurpose: "y"}, Code: "AccessDeniedException"})
	l.env.Fake.ResetCalls()
	o := openExport(t.Context(), l.own, bytes.NewReader(b), l.cmk)
	l.same(o, 2, 4, 6, 8, 10)
	if n := len(l.env.Fake.Calls()); n != 2 || len(o.bad) != 5 || !o.info.Complete {
		t.Errorf("%d KMS requests, %v", n, o.bad)
	}
	for _, bad := range o.bad {
		var ke *byok.KeyError
		if !errors.Is(bad, byok.ErrKeyDenied) || !errors.As(bad, &ke) || ke.RequestID == "" || !strings.Contains(bad.Error(), bad.DataKey.String()) {
			t.Errorf("%v", bad)
		}
	}
}

// KMS that does not answer for a while is waited for. One that does not for longer than a minute
// fails what is under the data keys that it was asked for, and is not waited for again and again.
func TestExport_Outage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaving(t)
		for i := range 40 {
			l.seal(fmt.Sprint(i), fmt.Sprint("p", i%20), nil, []byte{byte(i)})
		}
		b := l.export()
		end := l.env.Fake.Inject(kmsfake.Fault{Code: "KMSInternalException"})
		time.AfterFunc(30*time.Second, end)
		begun := time.Now()
		o := openExport(t.Context(), l.own, bytes.NewReader(b), l.cmk)
		if l.same(o); len(o.bad) != 0 || time.Since(begun) < 30*time.Second || time.Since(begun) > 45*time.Second {
			t.Errorf("%v after %v", o.bad, time.Since(begun))
		}

		l.env.Fake.Inject(kmsfake.Fault{Code: "KMSInternalException"})
		begun = time.Now()
		o = openExport(t.Context(), l.own, bytes.NewReader(b), l.cmk)
		if d := time.Since(begun); len(o.plain) != 0 || len(o.bad) != 40 || d < time.Minute || d > 2*time.Minute {
			t.Errorf("%d opened, %d not, after %v", len(o.plain), len(o.bad), d)
		}
		for _, bad := range o.bad {
			if !errors.Is(bad, byok.ErrKeyUnavailable) {
				t.Errorf("%v", bad)
			}
		}
	})
}
