package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/drill"
	"github.com/byok-go/byok/kmsfake"
)

// The test binary is the command, too: that is what os.Executable finds.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == workerCommand || os.Args[1] == "drill" || os.Args[1] == "open-export") {
		main()
	}
	os.Exit(m.Run())
}

const (
	role    = "arn:aws:iam::777788889999:role/byok-platform"
	account = "111122223333"
)

// place is a platform with a tenant, a database file and a KMS on the wire.
type place struct {
	t     *testing.T
	fake  *kmsfake.KMS
	url   string
	store string
	acme  *byok.Tenant
	cmk   *kmsfake.Key
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, fake: kmsfake.New(&kmsfake.Options{TB: t})}
	p.fake.RegisterAccessKey(demoAccessKey, role)
	wire := httptest.NewServer(p.fake.Handler())
	t.Cleanup(wire.Close)
	p.url = wire.URL
	file := filepath.Join(t.TempDir(), "by?ok #%20.db") // a name that a URL would take apart
	p.store = "sqlite:" + file
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pl := &platform{Store: p.store, Service: "test", MaxAge: byok.DefaultMaxAge, Endpoint: p.url, AccessKey: demoAccessKey}
	k, done, err := pl.keeper(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	p.acme = k.Tenant("acme")
	p.cmk = p.fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, p.acme.EncryptionContext()).JSON())
	if _, err := p.acme.Register(t.Context(), byok.Registration{Key: awskms.Key(p.cmk.ARN()), Drillable: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.acme.AcknowledgeWaiver(t.Context(), byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) args(more ...string) []string {
	return append([]string{"drill", "revoke", "-store", p.store, "-service", "test", "-tenant", "acme", "-max-age", "1s", "-kms-endpoint", p.url}, more...)
}

// buffer is a bytes.Buffer for several writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestDrillOfProcesses(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	file := filepath.Join(t.TempDir(), "report.json")
	var out, errs buffer
	status := run(t.Context(), p.args("-customer-access-key", account, "-json", file), strings.NewReader(""), &out, &errs)
	if status != exitOK {
		t.Fatalf("status %d\n%s\n%s", status, &out, &errs)
	}
	var r drill.Report
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &r) != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if r.Verdict != drill.Pass || len(r.Workers) != 3 || r.AfterDenial.Succeeded != 0 || r.AfterDenial.Tried < 30 || r.AfterBound.Succeeded != 0 ||
		r.AfterBound.Tried < 30 || r.FirstDenial == nil || r.Recovery == nil || r.KMSDenied == nil || r.Tenant != "acme" {
		t.Errorf("%s", b)
	}
	if !strings.HasPrefix(out.String(), "# Revocation drill: PASS\n") {
		t.Errorf("the page:\n%s", &out)
	}
	if !strings.Contains(errs.String(), "kms enable-key --key-id "+p.cmk.ARN()) {
		t.Errorf("it does not say how to undo it:\n%s", &errs)
	}
	p.enabled()
	// The key was denied by its owner, over the wire, and used by the platform's role only.
	did := map[string]string{}
	for _, c := range p.fake.Calls() {
		did[c.Operation] = c.Principal
	}
	for op, who := range map[string]string{"DisableKey": "arn:aws:iam::" + account + ":root", "EnableKey": "arn:aws:iam::" + account + ":root", "Decrypt": role} {
		if did[op] != who {
			t.Errorf("%s by %q, want %s", op, did[op], who)
		}
	}
}

func (p *place) enabled() {
	p.t.Helper()
	if p.cmk.State() != "Enabled" {
		p.t.Errorf("the CMK was left %s", p.cmk.State())
	}
}

// A person who answers each question, and types the wrong word first.
func TestDrillByHandOfProcesses(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	in, answers := io.Pipe()
	var out, errs buffer
	go func() {
		until := func(text string) {
			for !strings.Contains(errs.String(), text) && t.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		until("aws --endpoint-url " + p.url + " kms disable-key --key-id " + p.cmk.ARN())
		p.cmk.Disable()
		_, _ = io.WriteString(answers, "yes\ndenied\n")
		until("aws --endpoint-url " + p.url + " kms enable-key --key-id " + p.cmk.ARN())
		p.cmk.Enable()
		_, _ = io.WriteString(answers, "denied\n") // which is no answer to this
	}()
	status := run(t.Context(), p.args("-by-hand", "-workers", "2"), in, &out, &errs)
	if status != exitOK || !strings.Contains(out.String(), "PASS") || !strings.Contains(out.String(), " by hand") {
		t.Fatalf("status %d\n%s\n%s", status, &out, &errs)
	}
}

func TestDrillRefusals(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	customer := []string{"-customer-access-key", account}
	none := filepath.Join(t.TempDir(), "none.db")
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no arguments":            {nil, "usage:"},
		"an unknown command":      {[]string{"drill", "fire"}, `no command "drill fire"`},
		"no flags":                {[]string{"drill", "revoke"}, "required"},
		"help":                    {[]string{"drill", "revoke", "-h"}, "THE TENANT IS BLOCKED"},
		"an unknown flag":         {p.args("-x"), "byok: drill revoke: flag provided but not defined: -x; -h lists all flags\n"},
		"an argument":             {p.args("x"), "unexpected"},
		"nobody to deny":          {p.args(), "either -by-hand or"},
		"both to deny":            {p.args("-by-hand", "-customer-access-key", account), "either -by-hand or"},
		"a customer's key on AWS": {[]string{"drill", "revoke", "-store", p.store, "-service", "test", "-tenant", "acme", "-customer-access-key", account}, "on AWS use -by-hand"},
		"no such store":           {p.args(append(customer, "-store", "sqlite:"+none)...), "no such file"},
		"no kind of store":        {p.args(append(customer, "-store", none)...), "sqlite:PATH"},
		"MaxAge":                  {p.args(append(customer, "-max-age", "1h")...), "1 s to 5 min"},
		"workers":                 {p.args(append(customer, "-workers", "100")...), "1 to 32"},
		"an unknown tenant":       {p.args(append(customer, "-tenant", "globex")...), "no key is registered"},
		"another service":         {p.args(append(customer, "-service", "tset", "-workers", "1")...), "are the role, the service and the tenant the platform's?"},
		"a stranger as customer":  {p.args("-customer-access-key", "444455556666"), "AccessDenied"},
		"a worker alone":          {[]string{workerCommand}, "started by byok drill"},
		"inspect, no file":        {[]string{"inspect", none}, "no such file"},
		"inspect, two files":      {[]string{"inspect", none, none}, "one file"},
		"inspect, nothing":        {[]string{"inspect"}, "not a byok envelope"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs buffer
			if status := run(t.Context(), c.args, strings.NewReader(""), &out, &errs); status != exitFailed || !strings.Contains(errs.String(), c.says) {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, exitFailed, c.says, &out, &errs)
			}
		})
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a Store was made")
	}
	if _, err := p.acme.SetDrillable(t.Context(), false, ""); err != nil {
		t.Fatal(err)
	}
	var out, errs buffer
	if status := run(t.Context(), p.args(customer...), strings.NewReader(""), &out, &errs); status != exitFailed || !strings.Contains(errs.String(), "-yes-block-this-tenant") {
		t.Errorf("not marked: status %d\n%s", status, &errs)
	}
	p.enabled()
}

// A promise that is broken is status 1: here the platform's processes have a
// longer MaxAge than what is promised.
func TestDrillFails(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var errs buffer
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	longer := &platform{Store: p.store, Service: "test", Tenant: "acme", MaxAge: 8 * time.Second, Endpoint: p.url, AccessKey: demoAccessKey}
	f := &drillFlags{platform: *longer, customer: account}
	c := drill.Config{Status: p.acme.Status, MaxAge: time.Second, Worker: process(self, longer, &errs), Workers: 1}
	if err := f.asCustomer(&c, awskms.Key(p.cmk.ARN()), &errs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := drill.Revoke(ctx, c)
	if err != nil || r.Verdict != drill.Fail || r.AfterBound.Succeeded == 0 || conclude(r, err, &errs) != exitBroken {
		t.Errorf("%v, %+v\n%s", err, r, &errs)
	}
	p.enabled()
}

func TestInspect(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	keys, err := (&platform{Endpoint: p.url, AccessKey: demoAccessKey}).keyring(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := byok.NewDirect("test", keys, awskms.Key(p.cmk.ARN()), new(byok.MemAudit))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := d.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("hello"), nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sealed")
	if err := os.WriteFile(file, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	var first string
	for _, args := range [][]string{{"inspect", file}, {"inspect"}} {
		var out, errs buffer
		if status := run(t.Context(), args, bytes.NewReader(sealed), &out, &errs); status != exitOK {
			t.Fatalf("status %d\n%s", status, &errs)
		}
		for _, want := range []string{"not authenticated", "\ntenant     acme\n", p.cmk.ARN()} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not in\n%s", want, &out)
			}
		}
		if first == "" {
			first = out.String()
		} else if first != out.String() {
			t.Errorf("from a file:\n%s\nfrom standard input:\n%s", first, &out)
		}
	}
}
