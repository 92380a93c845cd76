package byok_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/byok-go/byok"
)

// The golden exports are wrapped by this key, so that they open without a KMS.
func goldenKeyring(t testing.TB) *rawKeyring {
	t.Helper()
	kek := make([]byte, 32)
	for i := range kek {
		kek[i] = byte(i)
	}
	block, err := aes.NewCipher(kek)
	want(t, "NewCipher", err, nil)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	want(t, "NewGCMWithRandomNonce", err, nil)
	return &rawKeyring{aead}
}

var goldenPlain = []string{"first", "second, which carries its data key", ""}

// writeGolden writes an export for ever.
func writeGolden(t *testing.T, file string) {
	t.Helper()
	keys := goldenKeyring(t)
	k, err := byok.New("golden.example", keys, new(byok.MemStore), new(byok.MemAudit), nil)
	want(t, "New", err, nil)
	defer k.Close()
	acme := k.Tenant("acme")
	_, err = acme.Register(t.Context(), byok.Registration{Key: rawKey})
	want(t, "Register", err, nil)
	_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
	want(t, "AcknowledgeWaiver", err, nil)
	d, err := byok.NewDirect("golden.example", keys, rawKey, new(byok.MemAudit))
	want(t, "NewDirect", err, nil)
	var out bytes.Buffer
	e, err := acme.Export(t.Context(), &out)
	want(t, "Export", err, nil)
	type sealer interface {
		Seal(context.Context, byok.Scope, []byte, []byte) ([]byte, error)
	}
	for i, s := range []sealer{k, d, k} {
		r := byok.ExportRecord{Name: []string{"invoices/1", "\x00\xff/..", "CON"}[i], Purpose: []string{"invoices", "", "invoices"}[i], AAD: []byte{byte(i)}}
		sealed, err := s.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: r.Purpose}, []byte(goldenPlain[i]), r.AAD)
		want(t, "Seal", err, nil)
		want(t, "Add", e.Add(r, sealed), nil)
	}
	want(t, "Close", e.Close(), nil)
	want(t, "MkdirAll", os.MkdirAll(filepath.Dir(file), 0o755), nil)
	want(t, "WriteFile", os.WriteFile(file, out.Bytes(), 0o644), nil)
}

// golden returns the export that the first release wrote.
func golden(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "export", "v1.byokexport"))
	want(t, "ReadFile", err, nil)
	return b
}

// Every release opens what any earlier one has written.
func TestExport_Golden(t *testing.T) {
	if file := filepath.Join("testdata", "export", "v1.byokexport"); *update {
		if _, err := os.Stat(file); err != nil {
			writeGolden(t, file)
		}
	}
	o := openExport(t.Context(), goldenKeyring(t), bytes.NewReader(golden(t)), rawKey)
	if len(o.bad) != 0 || o.err != nil || len(o.plain) != len(goldenPlain) || !o.info.Complete {
		t.Fatalf("%v, %v, %+v", o.bad, o.err, o.info)
	}
	for i, plain := range goldenPlain {
		if o.plain[uint64(i+1)] != plain {
			t.Errorf("record %d is %q", i+1, o.plain[uint64(i+1)])
		}
	}
	if o.info.Tenant != "acme" || o.info.Service != "golden.example" || o.info.DataKeys != 1 || o.names[2] != "\x00\xff/.." {
		t.Errorf("%+v, %v", o.info, o.names)
	}
}

// Whatever the bytes are: no panic, and nothing but what the tenant sealed.
func FuzzOpenExport(f *testing.F) {
	b, keys := golden(f), goldenKeyring(f)
	sealed := map[string]bool{}
	for _, p := range goldenPlain {
		sealed[p] = true
	}
	f.Add(b, false)
	f.Add(b, true)
	f.Add(b[:len(b)-3], false)
	f.Add(b[30:], true)
	f.Add(bytes.Join([][]byte{b, b}, nil), true)
	f.Add([]byte{}, false)
	// The second record in parts, as one of some MiB is.
	fs := framesOf(b)
	parts := new(forged).frame('H', lp8("acme"), lp8("golden.example"), make([]byte, 8))
	for _, x := range fs {
		if body := b[x.at+34 : x.end-4]; x.record == 2 {
			second := body[8+1+2+5+1+7+2+1:]
			parts.frame('R', number(1), []byte{0}, lp16("n"), lp8("default"), lp16("\x01"), second[:50])
			parts.frame('D', number(1), []byte{0, 0, 0, 1}, []byte{0}, second[50:60])
			parts.frame('D', number(1), []byte{0, 0, 0, 2}, []byte{1}, second[60:])
		}
	}
	if o := openExport(f.Context(), keys, bytes.NewReader(parts.Bytes()), rawKey); len(o.plain) != 1 {
		f.Fatal(o.bad)
	}
	f.Add(parts.Bytes(), true)
	f.Fuzz(func(t *testing.T, b []byte, checksums bool) {
		if checksums { // as of somebody who writes them
			for at := 0; at+38 <= len(b); {
				n := int(min(binary.BigEndian.Uint32(b[at+26:]), 1<<20))
				end := min(at+34+n+4, len(b))
				binary.BigEndian.PutUint32(b[at+26:], uint32(end-at-38))
				reseal(b[at:end])
				at = end
			}
		}
		o := openExport(t.Context(), keys, bytes.NewReader(b), rawKey)
		for n, plain := range o.plain {
			if !sealed[plain] {
				t.Errorf("record %d is %q", n, plain)
			}
		}
		if o.err != nil || !o.info.Complete && len(o.bad) == 0 {
			t.Errorf("%v; complete %v, %v", o.err, o.info.Complete, o.bad)
		}
	})
}
