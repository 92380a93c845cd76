package byokhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

var update = flag.Bool("update", false, "rewrite testdata")

// The JSON of every route is a promise: customers' scripts read it.
func TestGoldenAnswers(t *testing.T) {
	want := map[string]int{"POST /keys": 201, "POST /keys/move": 202}
	for i := range routes {
		rt := &routes[i]
		w := newEnv(t, nil).route(tokenAcme, rt)
		status := want[rt.String()]
		if status == 0 {
			status = 200
		}
		if w.Code != status || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", rt, w.Code, w.Body)
		}
		wantHeaders(t, w)
		golden(t, strings.ToLower(rt.method)+strings.NewReplacer("/", "_", "{", "", "}", "").Replace(rt.path)+".json", w.Body.Bytes())
	}
}

// What never happened is null, and lists are never null.
func TestGoldenNothingYet(t *testing.T) {
	e := newEnv(t, nil)
	for name, v := range map[string]any{
		"zero_key_status.json": newKeyStatus(byok.KeyStatus{Tenant: "acme", Status: byok.StatusDisabled, Reason: "KMS: DisabledException"}),
		"zero_health.json": func() any {
			_, b, _ := e.handler.health(&call{Request: httpReq("GET", "/health"), id: Identity{Tenant: "acme"}, tenant: zeroTenant{}})
			return b
		}(),
		"zero_data_keys.json": newDataKeys("acme", byok.DataKeyCounts{}),
		"zero_audit.json": func() any {
			_, b, _ := e.handler.audit(&call{Request: httpReq("GET", "/audit"), tenant: zeroTenant{}})
			return b
		}(),
		"zero_waiver_status.json": func() any {
			_, b, _ := e.handler.waiverStatus(&call{Request: httpReq("GET", "/"), id: Identity{Tenant: "acme"}, tenant: zeroTenant{}})
			return b
		}(),
	} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, b)
	}
}

func httpReq(method, target string) *http.Request {
	r, _ := http.NewRequest(method, target, nil)
	return r
}

type zeroTenant struct{ tenant }

func (zeroTenant) Health(context.Context) (byok.Health, error) { return byok.Health{}, nil }
func (zeroTenant) WaiverStatus(context.Context) (byok.WaiverStatus, error) {
	return byok.WaiverStatus{}, nil
}
func (zeroTenant) Audit(context.Context, byok.AuditQuery) (byok.AuditPage, error) {
	return byok.AuditPage{Total: -1}, nil
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var buf bytes.Buffer
	if err := json.Indent(&buf, got, "", "  "); err != nil {
		t.Fatalf("%s: %v: %s", name, err, got)
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.TrimSpace(buf.Bytes()); !bytes.Equal(got, bytes.TrimSpace(want)) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// marker stands for what the texts of SDKs and databases hold.
const marker = "arn:aws:kms:us-east-1:999999999999:key/somebody-elses MARKER"

// failures are all errors that a Keeper can return, with texts that must not get out.
var failures = []struct {
	err    error
	status int
	code   string
}{
	{byok.ErrKeyID, 400, "BYOK_001"},
	{byok.ErrKeyRevoked, 403, "BYOK_002"},
	{byok.ErrKeyDenied, 403, "BYOK_002"},
	{byok.ErrKeyTaken, 409, "BYOK_003"},
	{byok.ErrWaiverRequired, 400, "BYOK_004"},
	{byok.ErrNotRegistered, 404, "BYOK_005"},
	{byok.ErrKeyUnavailable, 503, "BYOK_006"},
	{byok.ErrThrottled, 503, "BYOK_006"},
	{byok.ErrPlatform, 503, "BYOK_006"},
	{byok.ErrInternal, 500, "BYOK_007"},
	{byok.ErrNotFound, 500, "BYOK_007"},
	{byok.ErrConflict, 500, "BYOK_007"},
	{byok.ErrOpen, 422, "BYOK_008"},
	{byok.ErrMalformed, 422, "BYOK_008"},
	{byok.ErrMoveRequired, 409, "BYOK_009"},
	{byok.ErrKeyRemoved, 403, "BYOK_010"},
	{byok.ErrSuspended, 403, "BYOK_010"},
	{byok.ErrPolicyUnbound, 403, "BYOK_011"},
	{byok.ErrStore, 503, "BYOK_012"},
	{byok.ErrAudit, 503, "BYOK_012"},
	{byok.ErrClosed, 503, "BYOK_012"},
	{byok.ErrNotAudited, 503, "BYOK_013"},
	{byok.ErrArgument, 400, "BYOK_014"},
	{&byok.KeyError{Op: "Decrypt", Code: "AccessDeniedException", RequestID: "req-9", Class: byok.ClassDenied, Err: errors.New(marker)}, 403, "BYOK_002"},
	{&byok.KeyError{Op: "Decrypt", Class: byok.ClassPlatformDenied, Err: errors.New(marker)}, 503, "BYOK_006"},
	{&byok.KeyError{Op: "Decrypt", Class: byok.ClassBlob, Err: errors.New(marker)}, 422, "BYOK_008"},
	{&byok.KeyError{Op: "Decrypt", Class: byok.ClassInternal, Err: errors.New(marker)}, 500, "BYOK_007"},
	{context.DeadlineExceeded, 503, "BYOK_006"},
	{context.Canceled, 503, "BYOK_006"},
	{errors.ErrUnsupported, 500, "BYOK_007"},
	{errors.New("pq: duplicate key"), 500, "BYOK_007"},
}

// K16: every route × every error: the codes of the contract and nothing else.
func TestErrorLeakage_K16(t *testing.T) {
	first := map[string]string{} // code -> body
	for i := range routes {
		rt := &routes[i]
		for _, f := range failures {
			if rt.path == "/legal-waiver" {
				continue // cannot fail
			}
			e := newEnv(t, nil)
			e.tenants["acme"].err = fmt.Errorf("%w: %s", f.err, marker)
			w := e.route(tokenAcme, rt)
			if rt.method != "GET" && errors.Is(f.err, byok.ErrNotAudited) {
				continue // TestNotAudited
			}
			wantProblem(t, w, f.status, f.code)
			for _, secret := range []string{"MARKER", "999999999999", "somebody", "req-9", "pq:", "AccessDenied"} {
				if strings.Contains(w.Body.String(), secret) || strings.Contains(fmt.Sprint(w.Header()), secret) {
					t.Errorf("%s: %v: leaks %q: %s", rt, f.err, secret, w.Body)
				}
			}
			if got := w.Header().Get("Retry-After"); (got != "") != (f.status == 503) {
				t.Errorf("%s: %v: Retry-After %q", rt, f.err, got)
			}
			if body, seen := first[f.code]; seen && body != w.Body.String() {
				t.Errorf("%s: %v: two bodies for %s:\n%s%s", rt, f.err, f.code, body, w.Body)
			}
			first[f.code] = w.Body.String()
			if logged := e.logs.String(); (f.status >= 500) != strings.Contains(logged, "MARKER") {
				t.Errorf("%s: %v: operators see %q", rt, f.err, logged)
			}
		}
	}
	if len(first) != 14 {
		t.Errorf("saw the codes %v, want all 14", slices.Sorted(maps.Keys(first)))
	}
}

// Error is for the platform's handlers: malformed and inauthentic data must
// look alike to the byte, headers included.
func TestErrorMalformedIsInauthentic_A25(t *testing.T) {
	answer := func(err error) string {
		e := newEnv(t, nil)
		w := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Error(w, r, err) }), httpReq("GET", "/"))
		_ = e
		wantProblem(t, w, 422, "BYOK_008")
		return fmt.Sprint(w.Header(), w.Body)
	}
	want := answer(byok.ErrOpen)
	for _, err := range []error{byok.ErrMalformed, fmt.Errorf("x: %w", byok.ErrMalformed), &byok.KeyError{Class: byok.ClassBlob, RequestID: "r"}} {
		if got := answer(err); got != want {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
}

func TestErrorNilAndProblem(t *testing.T) {
	answer := func(err error) string {
		w := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Error(w, r, err) }), httpReq("GET", "/"))
		return fmt.Sprint(w.Code, " ", w.Body)
	}
	if got := answer(nil); !strings.HasPrefix(got, "500 ") {
		t.Error("nil was answered as a success:", got)
	}
	got := answer(fmt.Errorf("wrapped: %w", &Problem{Status: 404, Code: "RECORD_NOT_FOUND", Detail: "There is no such record."}))
	want := `404 {"type":"about:blank","title":"Not Found","status":404,"detail":"There is no such record.","code":"RECORD_NOT_FOUND"}` + "\n"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		in   time.Duration
		want string
	}{{0, "5"}, {time.Millisecond, "1"}, {1500 * time.Millisecond, "2"}, {7 * time.Second, "7"}, {time.Hour, "300"}, {-time.Second, "5"}} {
		e := newEnv(t, nil)
		e.tenants["acme"].err = &byok.KeyError{Class: byok.ClassThrottled, RetryAfter: c.in}
		if got := e.do(tokenAcme, "GET", "/keys", "").Header().Get("Retry-After"); got != c.want {
			t.Errorf("%v: Retry-After %q, want %q", c.in, got, c.want)
		}
	}
}

// A command that took effect without its audit event is a success that says so.
func TestNotAudited(t *testing.T) {
	seen := 0
	for i := range routes {
		rt := &routes[i]
		if rt.method == "GET" {
			continue
		}
		seen++
		e := newEnv(t, nil)
		e.tenants["acme"].err, e.tenants["acme"].statusOK = fmt.Errorf("%w: %w", byok.ErrNotAudited, byok.ErrAudit), true
		w := e.route(tokenAcme, rt)
		if w.Code >= 300 || !strings.Contains(w.Body.String(), `"audited":false`) {
			t.Errorf("%s: %d %s", rt, w.Code, w.Body)
		}
		if rt.path == "/keys" && rt.method == "DELETE" && !strings.Contains(w.Body.String(), `"status":"revoked"`) {
			t.Error(w.Body)
		}
	}
	if seen != 7 {
		t.Errorf("%d commands", seen)
	}
	e := newEnv(t, nil) // it took effect, and could not be read back
	e.tenants["acme"].err, e.tenants["acme"].statusOK, e.tenants["acme"].noBody = byok.ErrNotAudited, true, true
	if w := e.do(tokenAcme, "DELETE", "/keys", ""); !strings.Contains(w.Body.String(), `"organization_id":"acme"`) || !strings.Contains(w.Body.String(), `"status":"revoked"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A client that hangs up after it pulled the brake has pulled it.
func TestDeleteOutlivesClient(t *testing.T) {
	e := newEnv(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httpReq("DELETE", "/keys").WithContext(ctx)
	r.Header.Set("Authorization", "Bearer "+tokenAcme)
	if w := serve(e, r); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	if err := e.tenants["acme"].ctxErr; err != nil {
		t.Error("stopped by the client:", err)
	}
	if _, ok := e.tenants["acme"].ctx.Deadline(); !ok {
		t.Error("no deadline either")
	}
}

func TestArgumentsArrive(t *testing.T) {
	e := newEnv(t, &Options{Provider: "other-kms"})
	for _, c := range []struct {
		method, target, body string
		want                 any
	}{
		{"POST", "/keys", `{"cmk_arn":"` + testARN + `","cmk_alias":"a","description":"d","abandon_existing_data":true}`,
			byok.Registration{Key: byok.KeyID{Provider: "other-kms", ID: testARN}, Alias: "a", Description: "d", AbandonExistingData: true}},
		{"POST", "/keys/rotate", `{"rotation_type":"dek","reason":"yearly"}`, byok.Rotation{Type: "dek", Reason: "yearly"}},
		{"POST", "/legal-waiver/acknowledge", strings.Replace(ackAll, "{", `{"waiver_version":"1.0",`, 1),
			byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true, Version: "1.0"}},
		{"POST", "/keys/rotate", `{"rotation_type":"full","reason":"yearly"}`, byok.Rotation{Type: "full", Reason: "yearly"}},
		{"POST", "/keys/move", `{"cmk_arn":"` + testARN + `","reason":"new account"}`, byok.Move{Key: byok.KeyID{Provider: "other-kms", ID: testARN}, Reason: "new account"}},
		{"GET", "/keys/rotate/" + testJob, "", testJob},
		{"GET", "/keys/move/" + testJob, "", testJob},
		{"DELETE", "/keys/move/" + testJob, "", []any{testJob, "cancelled through the API"}},
		{"GET", "/audit", "", byok.AuditQuery{Limit: 100}},
		{"GET", "/audit?limit=7&cursor=c&start=2026-01-01T01:00:00%2B01:00&end=2026-01-02T00:00:00Z&operation=seal", "",
			byok.AuditQuery{Limit: 7, Cursor: "c", Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Op: "seal"}},
	} {
		if w := e.do(tokenAcme, c.method, c.target, c.body); w.Code >= 300 {
			t.Errorf("%s %s: %d %s", c.method, c.target, w.Code, w.Body)
		}
		if got := e.tenants["acme"].last; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s: got %+v, want %+v", c.method, c.target, got, c.want)
		}
	}
}

// K4, K5: no path, query or body names an organization; every route works on the
// token's, and an attempt to name another is refused.
func TestTenantComesFromTheToken_K4_K5(t *testing.T) {
	for i := range routes {
		rt := &routes[i]
		e := newEnv(t, nil)
		if w := e.route(tokenAcme, rt); w.Code >= 300 {
			t.Fatalf("%s: %d %s", rt, w.Code, w.Body)
		}
		if rt.path != "/legal-waiver" && len(e.tenants["acme"].calls) == 0 {
			t.Errorf("%s: the token's organization was not asked", rt)
		}
		if len(e.tenants["globex"].calls) != 0 {
			t.Errorf("%s: reached another organization", rt)
		}
		for _, name := range []string{"organization_id", "tenant", "tenant_id", "org"} {
			e := newEnv(t, nil)
			wantProblem(t, e.do(tokenAcme, rt.method, rt.at()+"?"+name+"=globex", bodies[rt.String()]), 400, "BYOK_014")
			if b := bodies[rt.String()]; b != "" {
				wantProblem(t, e.do(tokenAcme, rt.method, rt.at(), strings.Replace(b, "{", `{"`+name+`":"globex",`, 1)), 400, "BYOK_014")
			}
			w := e.do(tokenAcme, rt.method, rt.at(), bodies[rt.String()], "X-Organization-Id", "globex", "X-Tenant", "globex")
			if w.Code >= 300 || len(e.tenants["globex"].calls) != 0 {
				t.Errorf("%s: a header changed the organization", rt)
			}
		}
	}
}

// K6: a path matches as it was sent or not at all; nothing redirects, since a
// redirect would leave the prefix that http.StripPrefix took off.
func TestPathTricks_K6(t *testing.T) {
	e := newEnv(t, nil)
	mounted := http.StripPrefix("/api/v1/byok", e.handler)
	for _, path := range []string{"", "/", "/keys/", "//keys", "/keys//rotate", "/./keys", "/x/../keys", "/keys%2frotate", "/%6beys",
		"/keys%00", "/KEYS", "/keys/rotate/1", "/keys/rotate/" + testJob + "0", "/keys/rotate/" + testJob[1:] + "A", "/keys/rotate/" + testJob + "/", "/keys/move/..", "/keys;a=b", "/organizations/globex/keys", "/legal-waiver/../keys", "/keys%20"} {
		r := httpReq("GET", "http://h/api/v1/byok"+path)
		r.Header.Set("Authorization", "Bearer "+tokenAcme)
		w := serve(mounted, r)
		if w.Code != 404 {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	}
	if len(e.tenants["acme"].calls) != 0 {
		t.Errorf("reached a tenant: %v", e.tenants["acme"].calls)
	}
}

func TestMethods(t *testing.T) {
	e := newEnv(t, nil)
	allow := map[string]string{
		"/keys": "DELETE, GET, HEAD, POST", "/keys/rotate": "POST", "/keys/data-keys": "GET, HEAD", "/health": "GET, HEAD", "/audit": "GET, HEAD",
		"/keys/rotate/{id}": "DELETE, GET, HEAD", "/keys/move": "POST", "/keys/move/{id}": "DELETE, GET, HEAD",
		"/legal-waiver": "GET, HEAD", "/legal-waiver/acknowledge": "POST", "/legal-waiver/status": "GET, HEAD",
	}
	for path, want := range allow {
		for _, m := range []string{"PUT", "PATCH", "OPTIONS", "TRACE", "get", "BREW"} {
			w := e.do(tokenAcme, m, strings.Replace(path, "{id}", testJob, 1), "")
			wantProblem(t, w, 405, "BYOK_014")
			if got := w.Header().Get("Allow"); got != want {
				t.Errorf("%s: Allow %q, want %q", path, got, want)
			}
		}
	}
	for i := range routes {
		if allow[routes[i].path] == "" {
			t.Errorf("%s has no row here", &routes[i])
		}
	}
	if w := e.do(tokenAcme, "HEAD", "/keys", ""); w.Code != 200 {
		t.Error("HEAD:", w.Code)
	}
	wantProblem(t, e.do("", "GET", "/nothing", ""), 404, "BYOK_014")
}

// K15: a panic below answers 500 and is counted; its value stays out of the answer and the log.
func TestPanic_K15(t *testing.T) {
	e := newEnv(t, nil)
	e.tenants["acme"].panic = "MARKER"
	w := e.do(tokenAcme, "GET", "/health", "")
	wantProblem(t, w, 500, "BYOK_007")
	if e.panics.Load() != 1 || strings.Contains(w.Body.String()+e.logs.String(), "MARKER") {
		t.Errorf("%d panics counted; answer %s; log %s", e.panics.Load(), w.Body, e.logs)
	}
	if !strings.Contains(e.logs.String(), "stack=") {
		t.Error("operators see no stack")
	}
	e.tenants["acme"].panic = http.ErrAbortHandler
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("http.ErrAbortHandler must reach net/http")
		}
	}()
	e.do(tokenAcme, "GET", "/health", "")
}

func TestNewRefuses(t *testing.T) {
	auth := AuthenticatorFunc(func(*http.Request) (Identity, error) { return Identity{}, nil })
	if _, err := New(nil, auth, nil); !errors.Is(err, byok.ErrArgument) {
		t.Error("no Keeper:", err)
	}
	for _, l := range []Limit{{-1, time.Hour}, {1, 0}, {0, time.Hour}, {1, -1}, {1, 25 * time.Hour}, {1_000_001, time.Hour}, {1, time.Millisecond}} {
		if _, err := newHandler(nil, nil, auth, &Options{Limits: Limits{Health: l}}); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("%v: %v", l, err)
		}
		if _, err := LimitFailures(auth, l); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("%v: %v", l, err)
		}
	}
}
