package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/kmsfake"
)

// names are of records, as platforms and attackers have them.
var names = []string{
	"invoices/42", "../../etc/passwd", "/etc/passwd", "..", ".", "a/../../b", `C:\Windows\System32`, "CON", "nul.txt", "com1", "LPT9.tar.gz",
	"-rf", "~root", "\x00", "a\x00b", "line\nbreak", "\x1b[2J", "é", "\xff\xfe", " ", "a.", "a ", ".bashrc", "A", "a", "%41", "%2e%2e", "%~" + strings.Repeat("0", 32),
	strings.Repeat("/", 1024), strings.Repeat("a", 201), strings.Repeat("a", 202), "index.ndjson", "partial.tmp", "https://example.com/?a=b&c",
}

// exported is an export of the place's tenant with one record for each name, by which it is found again.
func (p *place) exported(names ...string) []byte {
	p.t.Helper()
	pl := &platform{Store: p.store, Service: "test", MaxAge: byok.DefaultMaxAge, Endpoint: p.url, AccessKey: demoAccessKey}
	k, done, err := pl.keeper(p.t.Context(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer done()
	var out bytes.Buffer
	e, err := k.Tenant("acme").Export(p.t.Context(), &out)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, n := range names {
		r := byok.ExportRecord{Name: n, Purpose: fmt.Sprint("p", i%3), AAD: []byte(n)}
		sealed, err := k.Seal(p.t.Context(), byok.Scope{Tenant: "acme", Purpose: r.Purpose}, []byte("data of "+n), r.AAD)
		if err = errors.Join(err, e.Add(r, sealed)); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		p.t.Fatal(err)
	}
	return out.Bytes()
}

// byokRun runs the command in this process.
func byokRun(ctx context.Context, in []byte, args ...string) (status int, out, errs string) {
	var o, e bytes.Buffer
	status = run(ctx, args, bytes.NewReader(in), &o, &e)
	return status, o.String(), e.String()
}

func (p *place) openArgs(more ...string) []string {
	return append([]string{"open-export", "-kms-endpoint", p.url, "-customer-access-key", account, "-key", p.cmk.ARN()}, more...)
}

// index reads the index of a directory.
func index(t *testing.T, dir string) (entries []entry) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var e entry
		if err := d.Decode(&e); err == io.EOF {
			return entries
		} else if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
}

func (e *entry) name() string {
	if e.Name != nil {
		return *e.Name
	}
	return string(e.NameBase64)
}

// files returns everything under dir, and fails if anything else than private files and
// directories is there.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || !d.IsDir() && !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q is %v, %v", path, info.Mode(), err)
		}
		if !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whatever records are called, each gets a file of its own in the directory and nowhere else, that says
// what it is; the platform is gone by then.
func TestOpenExport_Directory(t *testing.T) {
	p := newPlace(t)
	b := p.exported(names...)
	top := t.TempDir()
	dir := filepath.Join(top, "out")
	if err := os.WriteFile(filepath.Join(top, "export"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(strings.TrimPrefix(p.store, "sqlite:")); err != nil {
		t.Fatal(err)
	}
	p.fake.ResetCalls()
	status, out, errs := byokRun(t.Context(), nil, p.openArgs("-out", dir, filepath.Join(top, "export"))...)
	if status != exitOK || out != "" || !strings.Contains(errs, fmt.Sprintf("%d records opened, 0 problems", len(names))) {
		t.Fatalf("status %d\n%s\n%s", status, out, errs)
	}
	for _, c := range p.fake.Calls() {
		if c.Operation != "Decrypt" || c.KeyARN != p.cmk.ARN() || len(c.EncryptionContext) != 4 {
			t.Errorf("%s of %s with %v", c.Operation, c.KeyARN, c.EncryptionContext)
		}
	}
	if n := len(p.fake.Calls()); n != 3 {
		t.Errorf("%d KMS requests, want one for each data key", n)
	}
	entries, found := index(t, dir), files(t, dir)
	if len(entries) != len(names) || len(found) != len(names)+1 {
		t.Fatalf("%d in the index, files %q", len(entries), found)
	}
	for i, e := range entries {
		if e.name() != names[i] || string(e.AAD) != names[i] || e.Purpose != fmt.Sprint("p", i%3) || e.Number != uint64(i+1) {
			t.Errorf("%+v, want %q", e, names[i])
		}
		data, err := os.ReadFile(filepath.Join(dir, e.File))
		if err != nil || string(data) != "data of "+names[i] || e.Bytes != int64(len(data)) {
			t.Errorf("%q in %s: %q, %v", names[i], e.File, data, err)
		}
		file, ok := strings.CutPrefix(e.File, "records/")
		if back, err := url.PathUnescape(file); !ok || !strings.Contains(file, "%~") && (err != nil || back != names[i]) {
			t.Errorf("%s is %q, want %q", e.File, back, names[i])
		}
	}
	if up, err := os.ReadDir(top); err != nil || len(up) != 2 {
		t.Errorf("%v, %v", up, err)
	}
	// Nothing is overwritten.
	if status, _, errs = byokRun(t.Context(), b, p.openArgs("-out", dir, "-")...); status != exitFailed || !strings.Contains(errs, "not empty") {
		t.Errorf("status %d\n%s", status, errs)
	}
}

func TestOpenExport_Lines(t *testing.T) {
	p := newPlace(t)
	status, out, errs := byokRun(t.Context(), p.exported(names...), p.openArgs("-ndjson", "-")...)
	d, n := json.NewDecoder(strings.NewReader(out)), 0
	for ; ; n++ {
		var e entry
		if err := d.Decode(&e); err == io.EOF {
			break
		} else if err != nil || e.name() != names[n] || string(e.Data) != "data of "+names[n] || string(e.AAD) != names[n] {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	if status != exitOK || n != len(names) || strings.Count(out, "\n") != n {
		t.Errorf("status %d, %d lines\n%s", status, n, errs)
	}
	if i := strings.IndexFunc(out, func(c rune) bool { return c != '\n' && (c < 0x20 || c > 0x7e) }); i >= 0 { // it may be a terminal
		t.Errorf("prints %q", out[i:i+4])
	}
}

// Without -key no KMS is asked, and the file is checked.
func TestOpenExport_Look(t *testing.T) {
	p := newPlace(t)
	b := p.exported("a", "b")
	p.fake.ResetCalls()
	status, out, errs := byokRun(t.Context(), b, "open-export", "-")
	for _, want := range []string{"tenant     acme", "service    test", "data keys  2", "records    2", p.cmk.ARN() + " (2 data keys)", "nothing was opened", "not authenticated"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if status != exitOK || errs != "" || len(p.fake.Calls()) != 0 {
		t.Errorf("status %d, %d KMS requests\n%s", status, len(p.fake.Calls()), errs)
	}
	b[len(b)/2] ^= 1
	if status, _, errs = byokRun(t.Context(), b, "open-export", "-"); status != exitBroken && !strings.Contains(errs, "warning: ") {
		t.Errorf("status %d\n%s", status, errs)
	}
	if status, out, _ = byokRun(t.Context(), b[:len(b)-10], "open-export", "-"); status != exitBroken || !strings.Contains(out, "complete   no") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// What does not open is named with the reason, leaves no file, and the others open. The status
// tells what can be helped by waiting from what cannot.
func TestOpenExport_Status(t *testing.T) {
	p := newPlace(t)
	b := p.exported("one", "two", "three", "four\x1b[2J")
	var records []int // where their frames begin
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("\x89byokx\r\n\x01R"))
		if i < 0 {
			break
		}
		records, at = append(records, at+i), at+i+1
	}
	tampered := bytes.Clone(b)
	tampered[records[1]+100] ^= 1 // the second record
	denied := kmsfake.Fault{EncryptionContext: map[string]string{"purpose": "p1"}, Code: "AccessDeniedException"}
	expired := kmsfake.Fault{Code: "ExpiredTokenException"}
	other := p.fake.Account(account).CreateKey("")
	for name, c := range map[string]struct {
		file   []byte
		fault  *kmsfake.Fault
		key    string
		status int
		opened []string
		says   []string
	}{
		"tampered":    {tampered, nil, "", exitBroken, []string{"one", "three", "four\x1b[2J"}, []string{`record 2 "two"`, "damaged"}},
		"denied":      {b, &denied, "", exitBroken, []string{"one", "three", "four\x1b[2J"}, []string{`record 2 "two"`, "denies access", "request "}},
		"truncated":   {b[:records[3]], nil, "", exitBroken, []string{"one", "two", "three"}, []string{"record 4", "truncated"}},
		"another key": {b, nil, other.ARN(), exitBroken, nil, []string{`record 4 "four\x1b[2J"`, "not named", p.cmk.ARN(), "If it is yours"}},
		"expired":     {b, &expired, "", exitFailed, nil, []string{"your own access to AWS"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.fault != nil {
				defer p.fake.Inject(*c.fault)()
			}
			args := p.openArgs()
			if c.key != "" {
				args[len(args)-1] = c.key
			}
			dir := filepath.Join(t.TempDir(), "out")
			status, _, errs := byokRun(t.Context(), c.file, append(args, "-out", dir, "-")...)
			var opened []string
			for _, e := range index(t, dir) {
				opened = append(opened, e.name())
			}
			if found := files(t, dir); status != c.status || !slices.Equal(opened, c.opened) || len(found) != len(opened)+1 {
				t.Errorf("status %d, opened %q, files %q\n%s", status, opened, found, errs)
			}
			for _, s := range c.says {
				if !strings.Contains(errs, s) {
					t.Errorf("it does not say %q:\n%s", s, errs)
				}
			}
			if strings.ContainsAny(errs, "\x1b\x00") {
				t.Errorf("control characters on the terminal: %q", errs)
			}
		})
	}
	for _, args := range [][]string{
		{"open-export"}, {"open-export", "a", "b"}, {"open-export", "-nonsense"}, {"open-export", "/does/not/exist"}, {"open-export", "-ndjson", "-"},
		{"open-export", "-key", p.cmk.ARN(), "-"}, {"open-export", "-key", "alias/mine", "-ndjson", "-"}, {"open-export", "-key", p.cmk.ARN(), "-ndjson", "-out", "x", "-"},
		{"open-export", "-kms-endpoint", p.url, "-key", p.cmk.ARN(), "-ndjson", "-"},
	} {
		if status, out, errs := byokRun(t.Context(), b, args...); status != exitFailed || out != "" || errs == "" {
			t.Errorf("%q: status %d\n%s%s", args, status, out, errs)
		}
	}
}

// A second record of a name, from whoever made the file, does not replace the first.
func TestOpenExport_NameTwice(t *testing.T) {
	p := newPlace(t)
	dir := filepath.Join(t.TempDir(), "out")
	status, _, errs := byokRun(t.Context(), p.exported("a", "a", "b"), p.openArgs("-out", dir, "-")...)
	if status != exitBroken || !strings.Contains(errs, `record 2 "a"`) || len(index(t, dir)) != 2 {
		t.Errorf("status %d\n%s", status, errs)
	}
}

// A context that ends, as by an interrupt, leaves no half file.
func TestOpenExport_Interrupted(t *testing.T) {
	p := newPlace(t)
	b := p.exported("a", "b", "c")
	ctx, cancel := context.WithCancel(t.Context())
	dir := filepath.Join(t.TempDir(), "out")
	defer p.fake.Inject(kmsfake.Fault{EncryptionContext: map[string]string{"purpose": "p1"}, Effect: kmsfake.Hang})()
	var o, e bytes.Buffer
	done := make(chan int)
	go func() { done <- run(ctx, p.openArgs("-out", dir, "-"), bytes.NewReader(b), &o, &e) }()
	for {
		if _, err := os.Stat(filepath.Join(dir, partFile)); err == nil {
			if _, err := os.Stat(filepath.Join(dir, "records", "a")); err == nil {
				break
			}
		}
	}
	cancel()
	if status := <-done; status != exitFailed || !strings.HasSuffix(e.String(), "byok: interrupted\n") {
		t.Errorf("status %d\n%s", status, &e)
	}
	if found := files(t, dir); len(found) != 2 || len(index(t, dir)) != 1 {
		t.Errorf("%q", found)
	}
}

// No two names get one file, on any file system; names come back out of theirs; and no name is more
// than a name.
func TestFileNames(t *testing.T) {
	device := regexp.MustCompile(`(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$`)
	good := regexp.MustCompile(`^[A-Za-z0-9_%][A-Za-z0-9_.%~-]*$`)
	rapid.Check(t, func(rt *rapid.T) {
		any := rapid.Custom(func(t *rapid.T) string {
			if rapid.Bool().Draw(t, "listed") {
				return rapid.SampledFrom(names).Draw(t, "name")
			}
			return string(rapid.SliceOfN(rapid.Byte(), 1, 1024).Draw(t, "bytes"))
		})
		a, b, fold := any.Draw(rt, "a"), any.Draw(rt, "b"), rapid.Bool().Draw(rt, "fold")
		fa, fb := fileName(a, fold), fileName(b, fold)
		same := fa == fb || fold && strings.EqualFold(fa, fb)
		if same != (a == b) {
			rt.Fatalf("%q and %q: %q and %q", a, b, fa, fb)
		}
		if !good.MatchString(fa) || len(fa) > maxFileName || device.MatchString(fa) || strings.HasSuffix(fa, ".") || !filepath.IsLocal(fa) {
			rt.Fatalf("%q gives %q", a, fa)
		}
		if back, err := url.PathUnescape(fa); !strings.Contains(fa, "%~") && (err != nil || back != a) {
			rt.Fatalf("%q gives %q, which gives %q: %v", a, fa, back, err)
		}
	})
}
