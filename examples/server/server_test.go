package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

// Tokens, keys, records and registrations are there again after a restart.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil)
	first := *s.demo
	s.activate(t, acme)
	s.want(t, acme, "PUT", note, "kept", 201, "")
	audited := s.want(t, acme, "GET", "/api/v1/byok/audit", "", 200, "").json(t)["total_count"].(float64)
	s.shutdown()

	s = start(t, dir, nil)
	if fmt.Sprint(first) != fmt.Sprint(*s.demo) {
		t.Errorf("the demo's organizations changed: %v, %v", first, *s.demo)
	}
	s.want(t, acme, "POST", keysPath, arnBody(s.demo.Organizations[acme].CMKARN), 409, "BYOK_003")
	if a := s.want(t, acme, "GET", note, "", 200, ""); string(a.body) != "kept" {
		t.Errorf("got %s", a)
	}
	if n := s.want(t, acme, "GET", "/api/v1/byok/audit", "", 200, "").json(t)["total_count"].(float64); n < audited+2 {
		t.Errorf("%v events after the restart, %v before", n, audited)
	}
}

// Two processes on one database, the second with the first one's fake over the wire: a
// disabled CMK stops both within MaxAge, each at once after its first denial; both
// recover by themselves.
func TestTwoServers(t *testing.T) {
	dir := t.TempDir()
	short := func(c *config) { c.maxAge = 2 * time.Second }
	one := start(t, dir, short)
	wire := httptest.NewServer(one.fake.Handler())
	defer wire.Close()
	two := start(t, dir, func(c *config) { short(c); c.kmsEndpoint = wire.URL })
	one.activate(t, acme)
	one.want(t, acme, "PUT", note, "from one", 201, "")
	two.want(t, acme, "PUT", "/api/v1/records/notes/2", "from two", 201, "")
	for _, s := range []*testServer{one, two} {
		s.want(t, acme, "GET", note, "", 200, "")
		s.want(t, acme, "GET", "/api/v1/records/notes/2", "", 200, "")
	}

	arn := one.demo.Organizations[acme].CMKARN
	cmk := one.fake.Account("111122223333").Key(arn[strings.LastIndexByte(arn, '/')+1:])
	cmk.Disable()
	disabled := time.Now()
	denied := map[*testServer]bool{}
	for reads := 0; time.Since(disabled) < 3*time.Second; reads++ {
		for _, s := range []*testServer{one, two} {
			started := time.Now()
			a := s.as(t, acme, "GET", note, "")
			switch {
			case a.status == 403 && a.code() == "BYOK_002":
				denied[s] = true
			case a.status != 200:
				t.Fatalf("read %d: %s", reads, a)
			case denied[s]:
				t.Fatalf("read %d: served after a denial", reads)
			case started.Sub(disabled) >= 2*time.Second:
				t.Fatalf("read %d: served %v after the CMK was disabled", reads, started.Sub(disabled))
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	if len(denied) != 2 {
		t.Fatal("not both were stopped")
	}
	cmk.Enable()
	for _, s := range []*testServer{one, two} {
		s.until(t, acme, note, 200, 40*time.Second) // the back-off is 30 s at most
	}
}

// What is on disk has no plaintext and no token, but for demo.json.
func TestAtRest(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil)
	s.activate(t, acme)
	marker := "MARKER-0123456789"
	s.want(t, acme, "PUT", note, strings.Repeat(marker, 100), 201, "")
	s.want(t, acme, "GET", note, "", 200, "")
	token := s.demo.Organizations[acme].Token
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatal(err, files)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{marker, token} {
			for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
				if bytes.Contains(b, []byte(form)) && f.Name() != "demo.json" {
					t.Errorf("%s has %q", f.Name(), form)
				}
			}
		}
	}
}

// Scripts read this file.
func TestDemoFile(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, nil).shutdown()
	file := filepath.Join(dir, "demo.json")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(err, info.Mode())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	one := `\{\s*"organization_id": "\w+",\s*"token": "\w{52}",\s*"cmk_arn": "arn:aws:kms:us-east-1:(\d{12}):key/[0-9a-f-]{36}",\s*"account_id": "\d{12}",\s*"aws_access_key_id": "\d{12}"\s*\}`
	if !regexp.MustCompile(`^\{\s*"organizations": \[\s*` + one + `,\s*` + one + `\s*\]\s*\}\s*$`).Match(b) {
		t.Errorf("demo.json is\n%s", b)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newApp(t.Context(), &config{kms: "fake", data: dir, maxAge: time.Second}); err == nil || !strings.Contains(err.Error(), "demo.json is damaged") {
		t.Errorf("a damaged demo.json: %v", err)
	}
	if _, err := newApp(t.Context(), &config{kms: "fake", kmsEndpoint: "http://127.0.0.1:1", data: t.TempDir(), maxAge: time.Second}); err == nil || !strings.Contains(err.Error(), "first") {
		t.Errorf("a second server on no data: %v", err)
	}
}

// K17, and the -tokens file.
func TestTokensFile_K17(t *testing.T) {
	dir := t.TempDir()
	entry := func(token, scopes string) string {
		h := sha256.Sum256([]byte(token))
		return `{"token_sha256":"` + hex.EncodeToString(h[:]) + `","organization_id":"acme","actor":"` + token + `"` + scopes + `}`
	}
	file := filepath.Join(dir, "tokens.json")
	list := "[" + strings.Join([]string{entry("all", ""), entry("data", `,"scopes":["records:read","records:write"]`), entry("reader", `,"scopes":["records:read"]`),
		entry("admin", `,"scopes":["byok:read","byok:admin"]`), entry("none", `,"scopes":[]`)}, ",") + "]"
	if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir, func(c *config) { c.tokens = file })
	cmk := s.fake.Account("111122223333").CreateKey(shortPolicy("111122223333"))
	for _, c := range []struct {
		token, method, path, body string
		status                    int
	}{
		{"data", "POST", keysPath, arnBody(cmk.ARN()), 403}, {"none", "POST", keysPath, arnBody(cmk.ARN()), 403}, {"admin", "POST", keysPath, arnBody(cmk.ARN()), 201},
		{"data", "POST", ackPath, ackAll, 403}, {"all", "POST", ackPath, ackAll, 200},
		{"data", "PUT", note, "x", 201}, {"reader", "PUT", note, "x", 403}, {"admin", "PUT", note, "x", 403}, {"none", "PUT", note, "x", 403}, {"all", "PUT", note, "x", 200},
		{"reader", "GET", note, "", 200}, {"data", "GET", note, "", 200}, {"admin", "GET", note, "", 403},
		{"data", "GET", keysPath, "", 403}, {"admin", "GET", keysPath, "", 200}, {"data", "DELETE", keysPath, "", 403},
		{"data", "POST", keysPath + "/rotate", `{"rotation_type":"dek"}`, 403}, {"admin", "POST", keysPath + "/rotate", `{"rotation_type":"dek"}`, 200},
		{"reader", "DELETE", note, "", 403}, {"data", "DELETE", note, "", 204},
	} {
		var body []byte
		if c.body != "" {
			body = []byte(c.body)
		}
		if a := send(t, s, c.token, c.method, c.path, body); a.status != c.status || c.status == 403 && a.code() != "BYOK_015" {
			t.Errorf("%s: %s %s: %s, want %d", c.token, c.method, c.path, a, c.status)
		}
	}
	hash := strings.Repeat("ab", 32)
	row := func(hash, org, more string) string {
		return `[{"token_sha256":"` + hash + `","organization_id":"` + org + `","actor":"a"` + more + `}]`
	}
	for _, good := range []string{row(hash, "acme", ""), row(strings.ToUpper(hash), strings.Repeat("x", 128), `,"scopes":[]`), row(hash, "!~", `,"scopes":["records:read","records:write","byok:read","byok:admin"]`)} {
		if _, err := parseTokens([]byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	// What could never work, and what is wrong with it.
	for bad, why := range map[string]string{
		row(hash, "", ""): "organization_id", row(hash, "a b", ""): "organization_id", row(hash, "acm\u00e9", ""): "organization_id",
		row(hash, "a\\u0000", ""): "organization_id", row(hash, strings.Repeat("x", 129), ""): "organization_id",
		row(hash, "acme", `,"scopes":["record:read"]`): `"record:read"`, row(hash, "acme", `,"scopes":["byok:read","Byok:admin"]`): `"Byok:admin"`,
		row(hash, "acme", `,"scopes":["records:read "]`): `"records:read "`, row(hash, "acme", `,"scopes":["*"]`): `"*"`, row(hash, "acme", `,"scopes":[""]`): `""`,
		row(hash[1:]+"g", "acme", ""): "token_sha256", row(hash[2:], "acme", ""): "token_sha256", row("", "acme", ""): "token_sha256",
		row("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "acme", ""):     "token_sha256", // of nothing
		"[" + entry("x", "") + "," + strings.Replace(entry("x", ""), "acme", "globex", 1) + "]": "entry 1: this token_sha256 is there twice",
	} {
		if _, err := parseTokens([]byte(bad)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %s", bad, err, why)
		}
	}
	for _, bad := range []string{"", "{}", "[]", "null", "[{}]", `[{"token_sha256":"` + hash + `","organization_id":"acme"}]`, `[{"token_sha256":"ab","organization_id":"acme","actor":"a"}]`,
		`[{"token_sha256":"` + hash + `00","organization_id":"acme","actor":"a"}]`, `[{"token":"x","organization_id":"acme","actor":"a"}]`, list + "[]",
		"[" + entry("x", "") + "," + entry("x", "") + "]"} {
		if _, err := parseTokens([]byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range [][]string{{"x"}, {"-kms", "gcp"}, {"-kms", "aws"}, {"-kms", "aws", "-tokens", "f", "-kms-endpoint", "http://x"}, {"-nope"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for args, want := range map[string]bool{"": true, "-kms aws -tokens f": false, "-kms aws -tokens f -allow-unbound-policy": true, "-allow-unbound-policy=false": false, "-tokens f": true, "-kms-endpoint http://x": true} {
		if c, err := parse(strings.Fields(args), io.Discard); err != nil || c.unbound != want {
			t.Errorf("%s: %+v, %v: want unbound %v", args, c, err, want)
		}
	}
	var help strings.Builder
	if _, err := parse([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, want := range []string{"byok:read", "byok:admin", "byok:move", "records:read", "records:write", "-allow-unbound-policy"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("-h does not say %s", want)
		}
	}
	for want, args := range map[time.Duration][]string{5 * time.Second: {}, byok.DefaultMaxAge: {"-kms", "aws", "-tokens", "f"}, time.Minute / 2: {"-max-age", "30s"}} {
		if c, err := parse(args, io.Discard); err != nil || c.maxAge != want {
			t.Errorf("%v: %+v, %v", args, c, err)
		}
	}
	for _, age := range []time.Duration{-1, time.Millisecond, time.Hour} {
		if _, err := newApp(t.Context(), &config{kms: "fake", data: t.TempDir(), maxAge: age}); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("MaxAge %v: %v", age, err)
		}
	}
}

// running is run() with real listeners.
type running struct {
	addr string
	stop context.CancelFunc
	done chan error
}

func startRun(t *testing.T, dir string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	out, in := io.Pipe()
	r := &running{stop: stop, done: make(chan error, 1)}
	go func() {
		r.done <- run(ctx, []string{"-addr", "127.0.0.1:0", "-kms-addr", "127.0.0.1:0", "-data", dir}, in)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := regexp.MustCompile(`^API +http://(\S+)/api/v1$`).FindStringSubmatch(lines.Text()); m != nil {
			r.addr = m[1]
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return r
		}
	}
	t.Fatal("it did not start:", <-r.done)
	return nil
}

// K19: a request that is under way when the stop comes is finished; then run returns nil.
func TestGracefulStop_K19(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil)
	s.activate(t, acme)
	token := s.demo.Organizations[acme].Token
	s.shutdown()

	r := startRun(t, dir)
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://"+r.addr+note, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	got := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			defer resp.Body.Close()
			if resp.StatusCode != 201 {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
		}
		got <- err
	}()
	if _, err := feed.Write([]byte("first half, ")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // the server has read it
	r.stop()
	time.Sleep(100 * time.Millisecond)
	if _, err := net.DialTimeout("tcp", r.addr, time.Second); err == nil {
		t.Error("still takes connections")
	}
	_, _ = feed.Write([]byte("second half"))
	_ = feed.Close()
	if err := <-got; err != nil {
		t.Error("the upload that was under way:", err)
	}
	if err := <-r.done; err != nil {
		t.Error("run:", err)
	}
	s = start(t, dir, nil)
	if a := s.want(t, acme, "GET", note, "", 200, ""); string(a.body) != "first half, second half" {
		t.Errorf("got %s", a)
	}
}

// K7, K8, K10: what net/http makes of requests that proxies read differently, as measured with Go 1.26.
func TestRawRequests_K7_K8_K10(t *testing.T) {
	dir := t.TempDir()
	r := startRun(t, dir)
	b, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`"token": "(\w+)"`).FindSubmatch(b)[1]
	const json = "Content-Type: application/json\r\n"
	for _, c := range []struct {
		name, head, body string
		status           string
	}{
		{"two Content-Lengths", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}", "400"},
		{"a signed Content-Length", "Content-Length: +2\r\n", "{}", "400"},
		{"Transfer-Encoding chunked, identity", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n", "501"},
		{"a bare LF in a chunk size", "Transfer-Encoding: chunked\r\n" + json, "2\n{}\r\n0\r\n\r\n", "400"},
		{"a space before the colon", "Content-Length : 2\r\n", "{}", "400"},
		{"two Hosts", "Host: evil\r\n", "", "400"},
		{"NUL in the token", "X: \x00\r\n", "", "400"},
		{"a huge Content-Length and no body", "Content-Length: 9223372036854775807\r\n" + json, "", "413"},
		{"Content-Length and chunked: chunked wins", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + json, "2\r\n{}\r\n0\r\n\r\n", "400"},
		{"16 KiB of headers", "X: " + strings.Repeat("x", 16<<10) + "\r\n", "", "431"},
	} {
		conn, err := net.DialTimeout("tcp", r.addr, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second)) // before any timeout of the server's
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n%s", keysPath, token, c.head, c.body)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.status) {
			t.Errorf("%s: %q, %v, want %s", c.name, line, err, c.status)
		}
		_ = conn.Close()
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// K9: none of the four timeouts is missing. That each works is net/http's promise.
func TestTimeouts_K9(t *testing.T) {
	s := httpServer(nil)
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= s.ReadTimeout || s.IdleTimeout <= 0 || s.MaxHeaderBytes != 8<<10 {
		t.Errorf("%+v", s)
	}
}

// A panic in a handler of ours is a 500 without its value.
func TestPanic(t *testing.T) {
	h := strict(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("MARKER") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/x", nil))
	if w.Code != 500 || strings.Contains(w.Body.String(), "MARKER") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
