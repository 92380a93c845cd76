package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok/byokhttp"
)

const (
	keysPath = "/api/v1/byok/keys"
	ackPath  = "/api/v1/byok/legal-waiver/acknowledge"
	ackAll   = `{"acknowledge_data_loss_risk":true,"acknowledge_key_management_responsibility":true,"acknowledge_no_liability":true}`
	acme     = 0 // places in demo.json
	globex   = 1
)

// testServer is the example server in this process.
type testServer struct {
	*app
	*httptest.Server
}

// start runs a server on dir, without rate limits that a test would meet.
func start(t *testing.T, dir string, change func(*config)) *testServer {
	t.Helper()
	plenty := byokhttp.Limit{N: 10_000, Per: time.Minute}
	c := &config{kms: "fake", data: dir, maxAge: 5 * time.Second, unbound: true, limits: byokhttp.Limits{
		RegisterKey: plenty, GetKey: plenty, DeleteKey: plenty, Rotate: plenty, Health: plenty, Audit: plenty, Waiver: plenty, FailedAuth: plenty}}
	if change != nil {
		change(c)
	}
	a, err := newApp(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{a, httptest.NewServer(a.handler)}
	t.Cleanup(s.shutdown)
	return s
}

func (s *testServer) shutdown() {
	s.Server.Close()
	s.app.close()
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// code is the code of a problem, and "" of anything else.
func (a answer) code() string {
	var p struct{ Code string }
	if a.header.Get("Content-Type") == "application/problem+json" {
		_ = json.Unmarshal(a.body, &p)
	}
	return p.Code
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	return m
}

func send(t *testing.T, s *testServer, token, method, path string, body []byte, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.Contains(path, "/byok/") && body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// as sends a request of one of the demo's organizations.
func (s *testServer) as(t *testing.T, org int, method, path, body string) answer {
	t.Helper()
	var b []byte
	if body != "" {
		b = []byte(body)
	}
	return send(t, s, s.demo.Organizations[org].Token, method, path, b)
}

// want is as, and checks the status and the code of a problem.
func (s *testServer) want(t *testing.T, org int, method, path, body string, status int, code string) answer {
	t.Helper()
	a := s.as(t, org, method, path, body)
	if a.status != status || a.code() != code {
		t.Fatalf("%s %s %.80s: got %s, want %d %s", method, path, body, a, status, code)
	}
	if a.header.Get("Cache-Control") != "no-store" || (a.header.Get("Retry-After") != "") != (status == 503 || status == 429) {
		t.Errorf("%s %s: headers %v", method, path, a.header)
	}
	return a
}

func arnBody(arn string) string { return `{"cmk_arn":"` + arn + `"}` }

// activate registers the organization's own CMK and acknowledges.
func (s *testServer) activate(t *testing.T, org int) {
	t.Helper()
	s.want(t, org, "POST", keysPath, arnBody(s.demo.Organizations[org].CMKARN), 201, "")
	s.want(t, org, "POST", ackPath, ackAll, 200, "")
}

// until repeats a read until it answers status, for at most limit.
func (s *testServer) until(t *testing.T, org int, path string, status int, limit time.Duration) answer {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		a := s.as(t, org, "GET", path, "")
		if a.status == status {
			return a
		}
		if time.Now().After(end) {
			t.Fatalf("%s: still %s after %v, want %d", path, a, limit, status)
		}
	}
}
