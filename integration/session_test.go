package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok/kmsfake"
)

var sessionBlock = regexp.MustCompile("(?s)<!-- session -->\n```sh\n(.*?)```\n")

// session is the README's, in the order in which it is there.
func session(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := sessionBlock.FindAllSubmatch(b, -1)
	if len(blocks) < 5 || len(blocks) != bytes.Count(b, []byte("<!-- session -->")) {
		t.Fatalf("README.md has %d session blocks that can be read, of %d", len(blocks), bytes.Count(b, []byte("<!-- session -->")))
	}
	var s strings.Builder
	for _, m := range blocks {
		s.Write(m[1])
	}
	return s.String()
}

// workDir is an empty directory, but for the file that the session seals: the
// README, with a mark that can be searched for.
func workDir(t *testing.T) (dir, mark string) {
	t.Helper()
	dir, mark = t.TempDir(), "MARK-"+rand.Text()+rand.Text()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), append(b, "\n"+mark+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, mark
}

// runSession runs the session as somebody who pastes it, but with -e and -u.
func runSession(t *testing.T, dir string) string {
	t.Helper()
	home := t.TempDir()
	// Whatever else is called aws on this machine, Debian's comes first.
	if err := os.Symlink(*awsBinary, filepath.Join(home, "aws")); err != nil {
		t.Fatal(err)
	}
	// Of the session's directory go run would make nothing: the command is built once.
	if err := os.WriteFile(filepath.Join(home, "go"), []byte(`#!/bin/sh
[ "$1 $2" = "run ./cmd/byok" ] || { echo "not what the README has: go $*" >&2; exit 1; }
shift 2
exec '`+byokBinary+`' "$@"
`), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-eu", "-c", session(t))
	cmd.Dir = dir
	cmd.Env = cleanEnv("PATH="+home+":"+os.Getenv("PATH"), "HOME="+home, "TMPDIR="+home, "AWS_EC2_METADATA_DISABLED=true")
	cmd.WaitDelay = time.Second
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the session failed: %v\n%s", err, out)
	}
	t.Logf("the session took %v:\n%s", time.Since(begun).Round(time.Second), out)
	return string(out)
}

func wantIn(t *testing.T, out string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(out, p) {
			t.Errorf("the session's output does not have %q", p)
		}
	}
}

// The README's session, from nothing and then on what it left behind, with the
// server as the README starts it.
func TestReadmeSession(t *testing.T) {
	needPorts(t)
	dir, mark := workDir(t)
	p := start(t, dir)
	out := runSession(t, dir)
	wantIn(t, out, "\n201\n", `"status":"active"`, "BYOK_002", "the same file", "# Revocation drill: PASS\n")
	if strings.Contains(out, "BYOK_003") {
		t.Error("the first time, there was a key already")
	}
	p.terminate()
	log := p.log.String()

	p = start(t, dir)
	out = runSession(t, dir)
	wantIn(t, out, "BYOK_003", "\n409\n", `"status":"active"`, "BYOK_002", "the same file", "# Revocation drill: PASS\n")
	p.terminate()

	searchSecrets(t, dir, log+p.log.String(), map[string]string{"plaintext": mark})
}

// The session again, from nothing, with a fake KMS of this test on the demo's
// port: what is in the audit log is what KMS was asked, one to one, and there is
// no plaintext, token or data key where it should not be.
func TestReadmeSessionAudit(t *testing.T) {
	needPorts(t)
	dir, mark := workDir(t)
	data := filepath.Join(dir, "byok-data")
	start(t, dir).terminate() // makes the demo's organizations

	fake, err := kmsfake.Open(&kmsfake.Options{TB: t, File: filepath.Join(data, "kms.json")})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	fake.RegisterAccessKey(platformAccessKey, platformRole)
	spy := &plaintexts{handler: fake.Handler()}
	l, err := net.Listen("tcp", "127.0.0.1:4599")
	if err != nil {
		t.Fatal(err)
	}
	wire := &httptest.Server{Listener: l, Config: &http.Server{Handler: spy}}
	wire.Start()
	defer wire.Close()

	p := start(t, dir, "-kms-endpoint", wire.URL)
	out := runSession(t, dir)

	// Every operation of the session has one outcome event.
	orgs := readDemo(t, data).Organizations
	events := map[string][]event{}
	for _, o := range orgs {
		events[o.OrganizationID] = auditLog(t, p, o.Token)
	}
	reads := 1 + len(regexp.MustCompile(`(?m)^after \d+ s: `).FindAllString(out, -1))
	got, drilled := map[string]int{}, 0
	for _, e := range events["acme"] {
		if e.Scope.Purpose == "drill" {
			drilled++
		} else if e.Outcome != "withheld" { // beside the outcome
			got[e.Op]++
		}
	}
	if drilled < 300 {
		t.Errorf("%d events of the drill", drilled)
	}
	// The server, and each of the drill's three processes, saw one denial and its end.
	for op, n := range map[string]int{"register": 1, "activate": 1, "waiver": 1, "seal": 1, "open": reads, "rotate": 1, "health": 1, "deny": 4, "restore": 4} {
		if got[op] != n {
			t.Errorf("%d events of %s, want %d", got[op], op, n)
		}
	}
	if n := len(events["globex"]); n != 0 {
		t.Errorf("%d events of globex, which did nothing", n)
	}

	// The calls in the events are the calls of the platform.
	asked := map[string]string{}
	for _, c := range fake.Calls() {
		if c.Principal == platformRole {
			asked[c.RequestID] = c.Operation
		}
	}
	if len(asked) < 10 {
		t.Fatalf("the fake was asked %d times only", len(asked))
	}
	ids, told := map[string]bool{}, map[string]string{}
	for _, list := range events {
		for _, e := range list {
			if e.ID == "" || ids[e.ID] {
				t.Errorf("event id %q is there twice", e.ID)
			}
			ids[e.ID] = true
			for _, c := range e.Calls {
				if _, twice := told[c.RequestID]; twice {
					t.Errorf("KMS request %s stands in two events", c.RequestID)
				}
				if told[c.RequestID] = c.Op; asked[c.RequestID] != c.Op {
					t.Errorf("event %s has %s %s, of which KMS knows %q", e.ID, c.Op, c.RequestID, asked[c.RequestID])
				}
			}
		}
	}
	for id, op := range asked {
		if _, ok := told[id]; !ok {
			t.Errorf("KMS was asked for %s (%s), of which no event knows", op, id)
		}
	}
	t.Logf("%d events, %d KMS calls", len(ids), len(asked))
	p.terminate()

	secrets := map[string]string{"plaintext": mark}
	for i, k := range spy.all() {
		secrets[fmt.Sprintf("data key %d", i)] = k
	}
	if len(secrets) < 3 {
		t.Fatal("no data keys were seen")
	}
	for _, list := range events {
		b, _ := json.Marshal(list)
		search(t, "the audit log", b, secrets)
	}
	searchSecrets(t, dir, p.log.String(), secrets)
}

// event is what the tests read of an audit event.
type event struct {
	ID      string `json:"id"`
	Op      string `json:"op"`
	Outcome string `json:"outcome"`
	Scope   struct {
		Purpose string `json:"purpose"`
	} `json:"scope"`
	Calls []struct {
		RequestID string `json:"request_id"`
		Op        string `json:"op"`
	} `json:"kms_calls"`
	raw json.RawMessage
}

func (e *event) UnmarshalJSON(b []byte) error {
	type plain event
	if err := json.Unmarshal(b, (*plain)(e)); err != nil {
		return err
	}
	e.raw = append(json.RawMessage(nil), b...)
	return nil
}

func (e event) MarshalJSON() ([]byte, error) { return e.raw, nil }

// auditLog reads all pages; there are several, and not more than a token may ask for in a minute.
func auditLog(t *testing.T, p *process, token string) (all []event) {
	t.Helper()
	client := newClient()
	for cursor, pages := "", 0; ; pages++ {
		q := url.Values{"limit": {"90"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		a := want(t, client, "GET", p.api+"/api/v1/byok/audit?"+q.Encode(), token, nil, 200)
		var page struct {
			Entries    []event `json:"entries"`
			NextCursor *string `json:"next_cursor"`
			TotalCount *int    `json:"total_count"`
		}
		if err := json.Unmarshal(a.body, &page); err != nil {
			t.Fatal(err)
		}
		if all = append(all, page.Entries...); page.NextCursor == nil {
			if page.TotalCount == nil || *page.TotalCount != len(all) {
				t.Errorf("%d events on %d pages, but total_count is %v", len(all), pages+1, page.TotalCount)
			}
			return all
		}
		cursor = *page.NextCursor
	}
}

// plaintexts keeps the plaintext data keys that pass through it.
type plaintexts struct {
	handler http.Handler
	mu      sync.Mutex
	keys    []string
}

func (s *plaintexts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, r)
	var out struct{ Plaintext []byte }
	if json.Unmarshal(rec.Body.Bytes(), &out) == nil && len(out.Plaintext) == 32 {
		s.mu.Lock()
		s.keys = append(s.keys, string(out.Plaintext))
		s.mu.Unlock()
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

func (s *plaintexts) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys
}

// searchSecrets looks for secrets and tokens in everything under dir and in log.
// The demo shows its tokens in demo.json and in its banner, by design.
func searchSecrets(t *testing.T, dir, log string, secrets map[string]string) {
	t.Helper()
	search(t, "the server's output", []byte(log), secrets)
	tokens := map[string]string{}
	for _, o := range readDemo(t, filepath.Join(dir, "byok-data")).Organizations {
		tokens["token of "+o.OrganizationID] = o.Token
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(dir, "byok-data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen[d.Name()] = true
		search(t, d.Name(), b, secrets)
		if d.Name() != "demo.json" {
			search(t, d.Name(), b, tokens)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"byok.db", "demo.json", "kms.json"} {
		if !seen[name] {
			t.Errorf("%s is not there: nothing was searched", name)
		}
	}
}

func search(t *testing.T, where string, b []byte, secrets map[string]string) {
	t.Helper()
	for name, secret := range secrets {
		for form, text := range forms(secret) {
			if bytes.Contains(b, text) {
				t.Errorf("%s has %s, as %s", where, name, form)
			}
		}
	}
}

// forms are the ways in which bytes are written. Base64 has three, by where the
// secret begins in what was encoded; their ends depend on the neighbours.
func forms(secret string) map[string][]byte {
	f := map[string][]byte{
		"raw": []byte(secret),
		"hex": []byte(hex.EncodeToString([]byte(secret))),
		"HEX": []byte(strings.ToUpper(hex.EncodeToString([]byte(secret)))),
	}
	for phase := range 3 {
		for name, enc := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.URLEncoding} {
			e := enc.EncodeToString([]byte(strings.Repeat("\x00", phase) + secret))
			f[fmt.Sprint(name, " at ", phase)] = []byte(e[4 : len(e)-4])
		}
	}
	return f
}

func TestForms(t *testing.T) {
	secret := map[string]string{"it": "a secret that is long enough"}
	for phase := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", phase) + secret["it"] + "behind it"))
		found := false
		for _, f := range forms(secret["it"]) {
			found = found || strings.Contains(text, string(f))
		}
		if !found {
			t.Errorf("phase %d is not found in %s", phase, text)
		}
	}
}
