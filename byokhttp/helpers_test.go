package byokhttp

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

const (
	testARN = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	ackAll  = `{"acknowledge_data_loss_risk":true,"acknowledge_key_management_responsibility":true,"acknowledge_no_liability":true}`

	tokenAcme   = "acme-token-0123456789abcdefghijklmnopqrs"
	tokenGlobex = "globex-token-0123456789abcdefghijklmnopq"
	tokenRead   = "read-token-0123456789abcdefghijklmnopqrs"
	tokenAdmin  = "admin-token-0123456789abcdefghijklmnopqr"
	tokenMove   = "move-token-0123456789abcdefghijklmnopqrs"
	tokenData   = "data-token-0123456789abcdefghijklmnopqrs"
	tokenNone   = "none-token-0123456789abcdefghijklmnopqrs"
)

// bodies has a good body for each route that takes one.
var bodies = map[string]string{
	"POST /keys":                     `{"cmk_arn":"` + testARN + `"}`,
	"POST /keys/rotate":              `{"rotation_type":"dek"}`,
	"POST /keys/move":                `{"cmk_arn":"` + testARN + `","reason":"new account"}`,
	"POST /legal-waiver/acknowledge": ackAll,
}

// testJob stands for {id} in paths.
const testJob = "0123456789abcdef0123456789abcdef"

// at is the path with an id in it.
func (rt *route) at() string { return strings.Replace(rt.path, "{id}", testJob, 1) }

func (rt *route) String() string { return rt.method + " " + rt.path }

// fakeTenant answers every method with fixed values, or with err.
type fakeTenant struct {
	id    string
	err   error
	panic any

	status   byok.Status // of Status
	statusOK bool        // Status works although err is set
	calls    map[string]int
	last     any // argument of the last call
	ctx      context.Context
	ctxErr   error // during the call
	noBody   bool  // Revoke returns an empty status
}

var day = time.Date(2026, 2, 3, 4, 5, 6, 789000000, time.FixedZone("", 3600))

func (t *fakeTenant) key() byok.KeyStatus {
	return byok.KeyStatus{
		Tenant: t.id, Key: byok.KeyID{Provider: "aws-kms", ID: testARN}, Alias: "alias", Description: "text", Status: t.status,
		Access: byok.AccessAccessible, AccessSince: day, LastProof: day, LastProofRequestID: "req-0", KeyMaterialID: "0123456789abcdef", KeyMaterialSince: day,
		CreatedAt: day, LastValidatedAt: day, DEKVersion: 3, DataKeys: 4, WaiverAcknowledged: true,
		Warnings: []string{byok.WarnPolicyNotTenantBound},
	}
}

func (t *fakeTenant) note(ctx context.Context, name string, arg any) error {
	if t.calls == nil {
		t.calls = map[string]int{}
	}
	t.calls[name]++
	t.last, t.ctx, t.ctxErr = arg, ctx, ctx.Err()
	if t.panic != nil {
		panic(t.panic)
	}
	return t.err
}

func (t *fakeTenant) Register(ctx context.Context, r byok.Registration) (byok.KeyStatus, error) {
	return t.key(), t.note(ctx, "Register", r)
}

func (t *fakeTenant) Status(ctx context.Context) (byok.KeyStatus, error) {
	err := t.note(ctx, "Status", nil)
	if t.statusOK {
		err = nil
	}
	return t.key(), err
}

func (t *fakeTenant) DataKeys(ctx context.Context) (byok.DataKeyCounts, error) {
	key := byok.KeyID{Provider: "aws-kms", ID: testARN}
	return byok.DataKeyCounts{DataKeys: 4, Oldest: day, Damaged: 1, Groups: []byok.DataKeyGroup{
		{Generation: 3, Keys: []byok.KeyID{key}, DataKeys: 1, Oldest: day.Add(time.Hour), Newest: day.Add(time.Hour), LastUsed: day.Add(2 * time.Hour)},
		{Generation: 1, Keys: []byok.KeyID{key, {Provider: "aws-kms", ID: testARN + "2"}}, Policy: byok.PolicyAll, DataKeys: 3, Oldest: day, Newest: day},
	}}, t.note(ctx, "DataKeys", nil)
}

func (t *fakeTenant) Health(ctx context.Context) (byok.Health, error) {
	key := t.key()
	key.Access, key.AccessClass = byok.AccessDegraded, byok.ClassThrottled
	return byok.Health{
		Status: byok.Degraded, KeyStatus: key, LastEncryption: day, CMKAccessible: true, Latency: 1500 * time.Microsecond,
		Checks: []byok.Check{
			{Name: "store", Status: "pass"},
			{Name: "decrypt", Status: "fail", Code: "BYOK_006", RequestID: "req-1", Took: time.Millisecond},
		},
		RevocationBound: time.Minute, BudgetUsed: 0.25, Warnings: []string{byok.WarnDescribeNotGranted},
	}, t.note(ctx, "Health", nil)
}

func (t *fakeTenant) Revoke(ctx context.Context, reason string) (byok.KeyStatus, error) {
	err := t.note(ctx, "Revoke", reason)
	if err == nil {
		t.status = byok.StatusRevoked
	}
	k := t.key()
	k.Status = byok.StatusRevoked
	if t.noBody {
		k = byok.KeyStatus{}
	}
	return k, err
}

func (t *fakeTenant) Rotate(ctx context.Context, r byok.Rotation) (byok.RotationResult, error) {
	return byok.RotationResult{ID: "ev-1", Type: r.Type, PreviousVersion: 3, NewVersion: 4, StartedAt: day, CompletedAt: day.Add(time.Second), Reason: r.Reason,
		Job: byok.Job{State: byok.JobRunning, Left: 9}}, t.note(ctx, "Rotate", r)
}

func (t *fakeTenant) job(id, kind string) byok.Job {
	return byok.Job{ID: id, Type: kind, State: byok.JobPaused, Why: "BYOK_002", Method: byok.MethodUnwrap,
		From: byok.KeyID{Provider: "aws-kms", ID: testARN}, To: byok.KeyID{Provider: "aws-kms", ID: testARN},
		Done: 5, Failed: 1, Left: 7, Actor: "ana", Reason: "new account", StartedAt: day, UpdatedAt: day.Add(time.Second)}
}

func (t *fakeTenant) MoveTo(ctx context.Context, m byok.Move) (byok.Job, error) {
	j := t.job(testJob, byok.JobMove)
	j.ToOthers, j.ToPolicy = m.Others, m.Policy
	return j, t.note(ctx, "MoveTo", m)
}

func (t *fakeTenant) Job(ctx context.Context, id string) (byok.Job, error) {
	j := t.job(id, byok.RotateFull)
	j.PreviousVersion, j.NewVersion = 3, 4
	return j, t.note(ctx, "Job", id)
}

func (t *fakeTenant) CancelJob(ctx context.Context, id, reason string) (byok.Job, error) {
	j := t.job(id, byok.JobMove)
	j.State, j.Why, j.EndedAt = byok.JobCancelled, "", day.Add(time.Minute)
	return j, t.note(ctx, "CancelJob", []any{id, reason})
}

func (t *fakeTenant) AcknowledgeWaiver(ctx context.Context, a byok.Acknowledgement) (byok.WaiverStatus, error) {
	return t.waiver(), t.note(ctx, "AcknowledgeWaiver", a)
}

func (t *fakeTenant) WaiverStatus(ctx context.Context) (byok.WaiverStatus, error) {
	return t.waiver(), t.note(ctx, "WaiverStatus", nil)
}

func (t *fakeTenant) waiver() byok.WaiverStatus {
	return byok.WaiverStatus{Acknowledged: true, AcknowledgedAt: day, AcknowledgedBy: "ana", AcknowledgedVersion: "1.0",
		AcknowledgedSHA256: "aa", CurrentVersion: "1.0", CurrentSHA256: "aa"}
}

func (t *fakeTenant) Audit(ctx context.Context, q byok.AuditQuery) (byok.AuditPage, error) {
	return byok.AuditPage{
		Events: []byok.Event{{
			ID: "ev-2", Time: day.UTC(), Actor: "ana", Op: byok.OpOpen, Outcome: byok.OutcomeDenied, Class: byok.ClassDenied, Code: "BYOK_002",
			Scope: byok.Scope{Tenant: t.id, Purpose: "records"}, Key: byok.KeyID{Provider: "aws-kms", ID: testARN},
			DataKey: byok.DataKeyID{1, 2, 3}, Version: 3,
			Calls: []byok.KMSCall{{Receipt: byok.Receipt{RequestID: "req-2"}, Op: "Decrypt", Code: "DisabledException",
				Key: byok.KeyID{Provider: "aws-kms", ID: testARN}, Class: byok.ClassDenied, Took: time.Millisecond}},
		}},
		NextCursor: "next", Total: 7,
	}, t.note(ctx, "Audit", q)
}

// env is a handler over fake tenants.
type env struct {
	*handler
	tenants map[string]*fakeTenant
	logs    *strings.Builder
}

func newEnv(t testing.TB, opts *Options) *env {
	t.Helper()
	e := &env{tenants: map[string]*fakeTenant{}, logs: new(strings.Builder)}
	for _, id := range []string{"acme", "globex"} {
		e.tenants[id] = &fakeTenant{id: id, status: byok.StatusActive}
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	o.Logger = slog.New(slog.NewTextHandler(e.logs, nil))
	h, err := newHandler(func(id string) tenant { return e.tenants[id] }, byok.DefaultWaiver, Bearer(testLookup), &o)
	if err != nil {
		t.Fatal(err)
	}
	e.handler = h
	return e
}

func testLookup(_ context.Context, hash [32]byte) (Identity, bool, error) {
	for token, id := range map[string]Identity{
		tokenAcme:   {Tenant: "acme", Actor: "ana@acme.example"},
		tokenGlobex: {Tenant: "globex", Actor: "gus@globex.example"},
		tokenRead:   {Tenant: "acme", Actor: "auditor", Scopes: []string{ScopeRead}},
		tokenAdmin:  {Tenant: "acme", Actor: "admin", Scopes: []string{ScopeAdmin}},
		tokenMove:   {Tenant: "acme", Actor: "mover", Scopes: []string{ScopeMove}},
		tokenData:   {Tenant: "acme", Actor: "app", Scopes: []string{"records:read", "records:write"}},
		tokenNone:   {Tenant: "acme", Actor: "nobody", Scopes: []string{}},
	} {
		if sha256.Sum256([]byte(token)) == hash {
			return id, true, nil
		}
	}
	return Identity{}, false, nil
}

// do sends a request the way net/http would hand it over.
func (e *env) do(token, method, target, body string, header ...string) *httptest.ResponseRecorder {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, rd)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = nil
		if header[i+1] != "" {
			r.Header.Add(header[i], header[i+1])
		}
	}
	return serve(e, r)
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func (e *env) route(token string, rt *route) *httptest.ResponseRecorder {
	return e.do(token, rt.method, rt.at(), bodies[rt.String()])
}

// wantProblem checks everything that every error answer must be.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, code string) map[string]any {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	if w.Code != status || p["code"] != code {
		t.Fatalf("got %d %v, want %d %s: %s", w.Code, p["code"], status, code, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if p["status"] != float64(status) || p["title"] == "" || p["type"] != typeBase+strings.ToLower(code) {
		t.Errorf("not an RFC 9457 problem: %s", w.Body)
	}
	for k := range p {
		if !strings.Contains("type title status detail code", k) {
			t.Errorf("member %q is not expected", k)
		}
	}
	wantHeaders(t, w)
	if (w.Header().Get("Connection") == "close") != (status == http.StatusRequestEntityTooLarge) {
		t.Errorf("%d with Connection %q", status, w.Header().Get("Connection"))
	}
	return p
}

func wantHeaders(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", w.Header())
	}
	for k := range w.Header() {
		if strings.HasPrefix(k, "Access-Control") {
			t.Errorf("CORS header %s", k)
		}
	}
}
