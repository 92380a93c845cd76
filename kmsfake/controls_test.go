package kmsfake

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// remote controls a fake as curl would.
type remote struct {
	t   *testing.T
	url string
}

func newRemote(t *testing.T, f *KMS) *remote {
	server := httptest.NewServer(f.Handler())
	t.Cleanup(server.Close)
	return &remote{t, server.URL + controlsPath}
}

func (r *remote) do(method, path, body string) (status int, answer string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return r.send(req)
}

func (r *remote) send(req *http.Request) (status int, answer string) {
	r.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// must is do for what works; it decodes the answer into out, if there is one.
func (r *remote) must(method, path, body string, out any) {
	r.t.Helper()
	status, answer := r.do(method, path, body)
	if status >= 300 || out != nil && json.Unmarshal([]byte(answer), out) != nil {
		r.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
}

// Each control does over HTTP what its method does in process.
func TestControlsOverHTTP(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fake := New(&Options{TB: t, Controls: true, StrictIAM: true, Now: func() time.Time { return start }})
	r := newRemote(t, fake)
	key := fake.Account(customer).CreateKey("")
	ctx := context.Background()
	encrypt := func(who string) error {
		return second(fake.Client(who).Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x")}))
	}

	var made struct{ ID uint64 }
	r.must("POST", "faults", `{"Operation":"Encrypt","Code":"ThrottlingException","Count":2,"Latency":"uniform 1ms 2ms"}`, &made)
	wantCode(t, encrypt(customer), "ThrottlingException")
	var left []struct {
		ID, Count int
		Latency   string
	}
	r.must("GET", "faults", "", &left)
	if len(left) != 1 || left[0].ID != int(made.ID) || left[0].Count != 1 || left[0].Latency != "uniform 1ms 2ms" {
		t.Errorf("%+v", left)
	}
	r.must("DELETE", fmt.Sprint("faults/", made.ID), "", nil)
	wantCode(t, encrypt(customer), "")
	if status, _ := r.do("DELETE", fmt.Sprint("faults/", made.ID), ""); status != 404 {
		t.Errorf("removed twice: %d", status)
	}
	r.must("POST", "faults", `{"Effect":"wrong-key-length","Bytes":31}`, nil)
	r.must("DELETE", "faults", "", nil)
	wantCode(t, encrypt(customer), "")

	restore := fake.Outage()
	r.must("PUT", "outage", `{"Outage":false}`, nil)
	wantCode(t, encrypt(customer), "")
	restore() // of an outage that is over
	r.must("PUT", "outage", `{"Outage":true}`, nil)
	if err := encrypt(customer); err == nil || code(err) != "" {
		t.Error(err)
	}
	r.must("PUT", "outage", `{"Outage":false}`, nil)
	wantCode(t, encrypt(customer), "")

	r.must("PUT", "latency", `{"Latency":"30ms"}`, nil)
	begun := time.Now()
	wantCode(t, encrypt(customer), "")
	if time.Since(begun) < 30*time.Millisecond {
		t.Error("no latency")
	}
	r.must("PUT", "latency", `{"Latency":"0s"}`, nil)

	r.must("PUT", "throttle", `{"RequestsPerSecond":1}`, nil)
	wantCode(t, encrypt(customer), "")
	wantCode(t, encrypt(customer), "ThrottlingException")
	r.must("PUT", "throttle", `{"RequestsPerSecond":0}`, nil)

	r.must("PUT", "propagation", `{"Delay":"1m"}`, nil)
	key.Disable()
	wantCode(t, encrypt(customer), "")
	r.must("POST", "clock/advance", `{"By":"1m"}`, nil)
	wantCode(t, encrypt(customer), "DisabledException")
	key.Enable()
	r.must("PUT", "clock", `{"Now":"2027-01-01T00:00:00Z"}`, nil)
	var clock struct{ Now time.Time }
	r.must("GET", "clock", "", &clock)
	if !clock.Now.Equal(start.AddDate(1, 0, 0)) {
		t.Error(clock.Now)
	}
	wantCode(t, encrypt(customer), "")

	// Principals: an access key, its secret and tags, and an identity policy.
	r.must("PUT", "access-keys/AKIAAPP", `{"Principal":"`+appRole+`","Secret":"`+testSecret+`","Session":{"Tags":{"team":"red"}}}`, nil)
	wantCode(t, encrypt(appRole), "AccessDeniedException")
	r.must("POST", "identity-policies", `{"Principal":"`+appRole+`","Policy":{"Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"red"}}}}}`, nil)
	fake.SetTime(time.Now())
	fake.wall = time.Now // the client signs with today's date
	fake.SetTime(time.Now())
	app := sdkClient(t, fake, "AKIAAPP", testSecret)
	wantCode(t, second(app.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x")})), "")
	wrong := sdkClient(t, fake, "AKIAAPP", testSecret+"?")
	wantCode(t, second(wrong.ListKeys(ctx, nil)), "InvalidSignatureException")
	_, keys := r.do("GET", "access-keys", "")
	if !strings.Contains(keys, `"team": "red"`) || strings.Contains(keys, testSecret) {
		t.Error(keys)
	}
	r.must("POST", "identity-policies", `{"Principal":"`+appRole+`","Policy":"{\"Statement\":{\"Effect\":\"Deny\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}}"}`, nil)
	err := second(app.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key.ARN()), Plaintext: []byte("x")}))
	wantCode(t, err, "AccessDeniedException")

	// Why, by request id and for people; and what CloudTrail says of it.
	var why Explanation
	r.must("GET", "explain/"+fake.Why(err).RequestID, "", &why)
	if why.Code != "AccessDeniedException" || len(why.Decisions) != 1 || why.Decisions[0].Allowed {
		t.Errorf("%+v", why)
	}
	_, people := r.do("GET", "explain/last?format=text", "")
	if !strings.Contains(people, "statement") || !strings.Contains(people, "kms:Encrypt") || strings.HasPrefix(people, "{") {
		t.Error(people)
	}
	var trail struct{ Records []CloudTrailEvent }
	r.must("GET", "cloudtrail/"+customer, "", &trail)
	if e := trail.Records[len(trail.Records)-1]; e.ErrorCode != "AccessDenied" || e.UserIdentity.AccessKeyID != "AKIAAPP" {
		t.Errorf("%+v", e)
	}
	var calls []Call
	r.must("GET", "calls", "", &calls)
	if c := calls[len(calls)-1]; c.RequestID != why.RequestID || c.Operation != "Encrypt" {
		t.Errorf("%+v", c)
	}
	r.must("DELETE", "calls", "", nil)
	if _, answer := r.do("GET", "calls", ""); strings.TrimSpace(answer) != "[]" {
		t.Error(answer)
	}
	r.must("DELETE", "identity-policies", `{"Principal":"`+appRole+`"}`, nil)
	r.must("DELETE", "access-keys/AKIAAPP", "", nil)
	if status, _ := r.do("DELETE", "access-keys/AKIAAPP", ""); status != 404 {
		t.Error(status)
	}
	_, list := r.do("GET", "", "")
	for _, route := range controlRoutes {
		if !strings.Contains(list, route.method+" "+controlsPath+strings.TrimSuffix(route.path, "{$}")) {
			t.Errorf("%s %s is not listed", route.method, route.path)
		}
	}
}

// The guide has every control.
func TestControlsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/kmsfake.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range controlRoutes {
		path := controlsPath + strings.TrimSuffix(route.path, "{$}")
		line := regexp.MustCompile("(?m)^\\|.*\\b" + route.method + "\\b.*" + regexp.QuoteMeta(path) + "`.*\\|$")
		if !line.Match(b) {
			t.Errorf("docs/kmsfake.md does not have %s %s", route.method, path)
		}
	}
}

// A reset leaves nothing, and what is still waiting to be restored restores nothing.
func TestReset(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	fake := New(&Options{TB: t, File: file, Controls: true})
	r := newRemote(t, fake)
	key := fake.Account(customer).CreateKey("")
	fake.RegisterAccessKey("AKIA1", role)
	fake.Account(vendor).PutIdentityPolicy(role, `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
	restore := fake.Outage()
	fake.Fail("", "ThrottlingException", 9)
	fake.Latency(time.Hour)
	fake.Propagation(time.Hour)
	fake.Throttle(1)
	fake.Advance(1000 * time.Hour)
	fake.Tamper(func(string, any) { t.Error("tampers") })
	r.must("POST", "reset", "", nil)
	restore()
	if n := len(fake.Calls()) + len(fake.st.Keys) + len(fake.st.AccessKeys) + len(fake.st.Identities) + len(fake.faults) + fake.outages; n != 0 {
		t.Errorf("%d things are left", n)
	}
	if d := time.Until(fake.Now()); d > time.Minute {
		t.Errorf("the clock is %v ahead", d)
	}
	for range 3 {
		wantCode(t, second(fake.Client(role).CreateKey(context.Background(), nil)), "")
		wantCode(t, second(fake.Client(customer).GenerateRandom(context.Background(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})), "")
	}
	fake.Close()
	again := New(&Options{TB: t, File: file})
	defer again.Close()
	if len(again.st.Keys) != 3 || again.st.Keys[key.ARN()] != nil {
		t.Errorf("%d keys in the file", len(again.st.Keys))
	}
}

// The controls are there only if asked for, and never for a web page, nor by a
// name that only resolves to this machine.
func TestControlsAreForThisMachine(t *testing.T) {
	fake := New(&Options{TB: t, Controls: true})
	r := newRemote(t, fake)
	key := fake.Account(customer).CreateKey("")
	request := func(change func(*http.Request)) int {
		t.Helper()
		req, err := http.NewRequest("POST", r.url+"reset", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		status, _ := r.send(req)
		return status
	}
	for name, change := range map[string]func(*http.Request){
		"rebound name":       func(q *http.Request) { q.Host = "attacker.example:4599" },
		"like localhost":     func(q *http.Request) { q.Host = "localhost.attacker.example" },
		"another address":    func(q *http.Request) { q.Host = "192.0.2.1" },
		"any address":        func(q *http.Request) { q.Host = "0.0.0.0:4599" },
		"of another page":    func(q *http.Request) { q.Header.Set("Origin", "https://attacker.example") },
		"of a null origin":   func(q *http.Request) { q.Header.Set("Origin", "null") },
		"of the same origin": func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "same-origin") },
		"of an image":        func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		if status := request(change); status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	if key.State() != types.KeyStateEnabled { // fails the test if a reset came through
		t.Error(key.State())
	}
	for _, host := range []string{"localhost", "LOCALHOST:1", "127.0.0.1:4599", "127.8.9.10", "[::1]:4599", "[::1]", "::1", "[::ffff:127.0.0.1]:80"} {
		if !isLoopback(host) {
			t.Errorf("%s is refused", host)
		}
	}
	if status := request(func(*http.Request) {}); status != http.StatusNoContent {
		t.Errorf("from curl: %d", status)
	}
	// Another machine can say that it is for localhost: with -allow-remote it gets this far.
	for peer, want := range map[string]int{"203.0.113.7:4242": 403, "[2001:db8::1]:4242": 403, "[::ffff:203.0.113.7]:1": 403,
		"127.0.0.1:4242": 200, "[::1]:4242": 200, "@": 200} {
		req := httptest.NewRequest("GET", "http://localhost:4599"+controlsPath, nil)
		req.RemoteAddr = peer
		w := httptest.NewRecorder()
		fake.Handler().ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("from %s: %d, want %d", peer, w.Code, want)
		}
	}
	off := newRemote(t, New(&Options{TB: t}))
	if status, _ := off.do("POST", "reset", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("not asked for: %d", status)
	}
}

// What is not understood is refused, and changes nothing.
func TestControlsAreStrict(t *testing.T) {
	fake := New(&Options{TB: t, Controls: true})
	r := newRemote(t, fake)
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "faults", ``, 415},
		{"POST", "faults", `{`, 400},
		{"POST", "faults", `[]`, 400},
		{"POST", "faults", `null`, 400},
		{"POST", "faults", `{}`, 400},
		{"POST", "faults", `{"Code":"X"} {}`, 400},
		{"POST", "faults", `{"Code":"X","Code":"Y"}`, 400},
		{"POST", "faults", `{"Code":"X","Often":true}`, 400},
		{"POST", "faults", `{"Code":"X","Latency":"soon"}`, 400},
		{"POST", "faults", `{"Code":"X","Count":1e30}`, 400},
		{"POST", "faults", `{"Code":"X","Principal":"me"}`, 400},
		{"POST", "faults", `{"Code":"` + strings.Repeat("x", maxControl) + `"}`, 413},
		{"POST", "faults", strings.Repeat(`{"a":`, 20000), 400},
		{"DELETE", "faults/x", ``, 404},
		{"PUT", "latency", `{"Latency":"-1s"}`, 400},
		{"PUT", "latency", `{"Latency":5}`, 400},
		{"PUT", "outage", `{"Outage":"yes"}`, 400},
		{"PUT", "throttle", `{"RequestsPerSecond":-2}`, 400},
		{"POST", "clock/advance", `{"By":"-1h"}`, 400},
		{"POST", "clock/advance", `{"By":"2000000h"}`, 400},
		{"PUT", "clock", `{"Now":"9999-01-01T00:00:00Z"}`, 400},
		{"PUT", "clock", `{"Now":"yesterday"}`, 400},
		{"POST", "reset", `{}`, 400},
		{"GET", "explain/3b241101-e2bb-4255-8caf-4136c566a962", ``, 404},
		{"GET", "explain/last", ``, 404},
		{"GET", "cloudtrail/1", ``, 400},
		{"PUT", "access-keys/a%2Fb", `{"Principal":"` + role + `"}`, 400},
		{"PUT", "access-keys/AKIA1", `{"Principal":"nobody"}`, 400},
		{"PUT", "access-keys/AKIA1", `{"Principal":"` + role + `","Secret":"short"}`, 400},
		{"PUT", "access-keys/AKIA1", `{"Principal":"` + role + `","Session":{"SourceIP":"home"}}`, 400},
		{"POST", "identity-policies", `{"Principal":"` + role + `","Policy":{"Statement":[]}}`, 400},
		{"POST", "identity-policies", `{"Principal":"` + role + `"}`, 400},
		{"POST", "nothing", ``, 404},
		{"PATCH", "faults", ``, 405},
	} {
		status, answer := r.do(tt.method, tt.path, tt.body)
		var e struct{ Error string }
		if status != tt.want || json.Unmarshal([]byte(answer), &e) != nil || e.Error == "" || len(answer) > 1000 {
			t.Errorf("%s %s %.60s: %d %.200s, want %d", tt.method, tt.path, tt.body, status, answer, tt.want)
		}
	}
	if n := len(fake.faults) + len(fake.st.AccessKeys) + len(fake.st.Identities) + fake.outages; n != 0 || fake.ahead.Load() != 0 {
		t.Errorf("%d changes were made", n)
	}
}
