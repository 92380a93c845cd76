package byokhttp_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byokhttp"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// These tests have no fake tenants: requests in, a Keeper and a KMS behind.

const ackAll = `{"acknowledge_data_loss_risk":true,"acknowledge_key_management_responsibility":true,"acknowledge_no_liability":true}`

type server struct {
	*byoktest.Env
	http.Handler
	sink *brittleSink
	logs strings.Builder
}

// brittleSink fails on demand.
type brittleSink struct {
	*byok.MemAudit
	down atomic.Bool
}

func (s *brittleSink) Record(ctx context.Context, e byok.Event) error {
	if s.down.Load() {
		return errors.New("disk full MARKER")
	}
	return s.MemAudit.Record(ctx, e)
}

func newServer(t *testing.T, unbound bool) *server {
	t.Helper()
	return newServerWith(t, byoktest.Options{Keeper: &byok.Options{AllowUnboundPolicy: unbound}})
}

func newServerWith(t *testing.T, o byoktest.Options) *server {
	t.Helper()
	s := &server{sink: &brittleSink{MemAudit: new(byok.MemAudit)}}
	log := slog.New(slog.NewTextHandler(&s.logs, nil))
	o.Keeper.Logger, o.Sink = log, s.sink
	s.Env = byoktest.New(t, &o)
	plenty := byokhttp.Limit{N: 1000, Per: time.Minute}
	h, err := byokhttp.New(s.Keeper, byokhttp.Bearer(func(_ context.Context, hash [32]byte) (byokhttp.Identity, bool, error) {
		for _, org := range []string{"acme", "globex"} {
			if sha256.Sum256([]byte(token(org))) == hash {
				return byokhttp.Identity{Tenant: org, Actor: "admin@" + org + ".example"}, true, nil
			}
			if sha256.Sum256([]byte(token(org+"-no-move"))) == hash {
				return byokhttp.Identity{Tenant: org, Scopes: []string{byokhttp.ScopeRead, byokhttp.ScopeAdmin}}, true, nil
			}
		}
		return byokhttp.Identity{}, false, nil
	}), &byokhttp.Options{Logger: log, Limits: byokhttp.Limits{RegisterKey: plenty, DeleteKey: plenty, Rotate: plenty, Move: plenty}})
	if err != nil {
		t.Fatal(err)
	}
	s.Handler = http.StripPrefix("/api/v1/byok", h)
	return s
}

func token(org string) string { return "token-of-" + org + "-0123456789abcdefghijklmnop" }

func (s *server) do(org, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/api/v1/byok"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token(org))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// want sends a request and checks its status, and the code of a problem.
func (s *server) want(t *testing.T, org, method, path, body string, status int, code string) map[string]any {
	t.Helper()
	w := s.do(org, method, path, body)
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%s %s: %d %q: %v", method, path, w.Code, w.Body, err)
	}
	c, _ := got["code"].(string)
	if w.Code != status || c != code {
		t.Fatalf("%s %s %s: got %d %s, want %d %s: %s", method, path, body, w.Code, c, status, code, w.Body)
	}
	if (w.Header().Get("Retry-After") != "") != (status == 503) {
		t.Errorf("%s %s: Retry-After %q", method, path, w.Header().Get("Retry-After"))
	}
	if strings.Contains(w.Body.String(), "MARKER") {
		t.Errorf("%s %s: leaks: %s", method, path, w.Body)
	}
	return got
}

func (s *server) register(t *testing.T, org string, k *kmsfake.Key) map[string]any {
	t.Helper()
	return s.want(t, org, "POST", "/keys", arnBody(k.ARN()), 201, "")
}

func (s *server) active(t *testing.T, org string) *kmsfake.Key {
	t.Helper()
	k := s.CMK(org)
	s.register(t, org, k)
	s.want(t, org, "POST", "/legal-waiver/acknowledge", ackAll, 200, "")
	return k
}

func arnBody(arn string) string { return `{"cmk_arn":"` + arn + `"}` }

func (s *server) seal(t *testing.T, org string) []byte {
	t.Helper()
	sealed, err := s.Keeper.Seal(t.Context(), byok.Scope{Tenant: org}, []byte("plain MARKER-1"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// One life of a key.
func TestLife(t *testing.T) {
	s := newServer(t, false)
	for _, path := range []string{"/keys", "/health"} {
		s.want(t, "acme", "GET", path, "", 404, "BYOK_005")
	}
	s.want(t, "acme", "DELETE", "/keys", "", 404, "BYOK_005")
	s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"dek"}`, 404, "BYOK_005")
	if got := s.want(t, "acme", "GET", "/legal-waiver/status", "", 200, ""); got["acknowledged"] != false || got["needs_acknowledgement"] != true {
		t.Errorf("waiver status: %v", got)
	}

	cmk := s.CMK("acme")
	got := s.want(t, "acme", "POST", "/keys", `{"cmk_arn":"`+cmk.ARN()+`","cmk_alias":"alias/x","description":"d"}`, 201, "")
	if got["status"] != "pending_waiver" || got["organization_id"] != "acme" || got["cmk_arn"] != cmk.ARN() || got["cmk_alias"] != "alias/x" ||
		got["description"] != "d" || got["dek_version"] != 1.0 || got["waiver_acknowledged"] != false {
		t.Errorf("registered: %v", got)
	}
	s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"dek"}`, 400, "BYOK_004")
	s.want(t, "acme", "POST", "/keys", arnBody(cmk.ARN()), 409, "BYOK_003")

	waiver := s.want(t, "acme", "GET", "/legal-waiver", "", 200, "")
	got = s.want(t, "acme", "POST", "/legal-waiver/acknowledge", strings.Replace(ackAll, "{", `{"waiver_version":"`+waiver["version"].(string)+`",`, 1), 200, "")
	if got["acknowledged"] != true || got["acknowledged_by"] != "admin@acme.example" || got["waiver_sha256"] != waiver["sha256"] || got["waiver_version"] != waiver["version"] {
		t.Errorf("acknowledged: %v", got)
	}
	if got := s.want(t, "acme", "GET", "/legal-waiver/status", "", 200, ""); got["acknowledged"] != true || got["acknowledged_sha256"] != got["current_sha256"] {
		t.Errorf("waiver status: %v", got)
	}
	if got := s.want(t, "acme", "GET", "/keys", "", 200, ""); got["status"] != "active" || got["waiver_acknowledged"] != true {
		t.Errorf("active: %v", got)
	}
	s.seal(t, "acme")
	got = s.want(t, "acme", "GET", "/health", "", 200, "")
	if got["status"] != "healthy" || got["key_status"] != "active" || got["cmk_accessible"] != true || got["last_encryption"] == nil ||
		got["last_decryption"] != nil || got["revocation_bound_seconds"] != 60.0 || got["dek_version"] != 1.0 {
		t.Errorf("health: %v", got)
	}
	got = s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"dek","reason":"yearly"}`, 200, "")
	if got["previous_dek_version"] != 1.0 || got["new_dek_version"] != 2.0 || got["reason"] != "yearly" {
		t.Errorf("rotated: %v", got)
	}
	rotation := got["id"]

	got = s.want(t, "acme", "GET", "/audit?operation=rotate&limit=1", "", 200, "")
	entry := got["entries"].([]any)[0].(map[string]any)
	if entry["id"] != rotation || entry["actor"] != "admin@acme.example" || entry["outcome"] != "success" || entry["kms_calls"] == nil {
		t.Errorf("audit of the rotation: %v", entry)
	}
	if got["total_count"].(float64) < 1 {
		t.Error("total_count:", got)
	}

	for range 3 {
		if got := s.want(t, "acme", "DELETE", "/keys", "", 200, ""); got["status"] != "revoked" || got["cmk_arn"] != cmk.ARN() {
			t.Errorf("removed: %v", got)
		}
	}
	if got := s.want(t, "acme", "GET", "/keys", "", 200, ""); got["status"] != "revoked" || got["status_reason"] == nil {
		t.Errorf("after: %v", got)
	}
	s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"dek"}`, 403, "BYOK_010")
	other := s.CMK("acme")
	s.want(t, "acme", "POST", "/keys", arnBody(other.ARN()), 409, "BYOK_009")
	s.register(t, "acme", cmk) // the same again, and the waiver still counts
	if got := s.want(t, "acme", "GET", "/keys", "", 200, ""); got["status"] != "active" {
		t.Errorf("again: %v", got)
	}
	s.want(t, "acme", "DELETE", "/keys", "", 200, "")
	s.want(t, "acme", "POST", "/keys", `{"cmk_arn":"`+other.ARN()+`","abandon_existing_data":true}`, 201, "")
	s.walkAudit(t, "acme")
	if got := s.want(t, "globex", "GET", "/audit", "", 200, ""); len(got["entries"].([]any)) > 0 || got["next_cursor"] != nil || got["total_count"] != 0.0 {
		t.Errorf("another organization's audit log: %v", got)
	}
}

// walkAudit reads the whole log page by page: everything once, newest first.
func (s *server) walkAudit(t *testing.T, org string) {
	t.Helper()
	seen, last, total := map[any]bool{}, "9999", 0.0
	for cursor := ""; ; {
		path := "/audit?limit=3"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		got := s.want(t, org, "GET", path, "", 200, "")
		if total = got["total_count"].(float64); len(got["entries"].([]any)) == 0 {
			t.Fatal("an empty page")
		}
		for _, e := range got["entries"].([]any) {
			e := e.(map[string]any)
			at := e["time"].(string)
			if _, err := time.Parse(time.RFC3339, at); err != nil || !strings.HasSuffix(at, "Z") {
				t.Errorf("time %q", at)
			}
			if seen[e["id"]] || at[:19] > last {
				t.Errorf("repeated or out of order: %v", e)
			}
			seen[e["id"]], last = true, at[:19]
		}
		next, _ := got["next_cursor"].(string)
		if cursor = next; cursor == "" {
			break
		}
	}
	if float64(len(seen)) != total || total == 0 {
		t.Errorf("%d events, total_count %v", len(seen), total)
	}
	if got := s.want(t, org, "GET", "/audit?cursor=forged", "", 400, "BYOK_014"); !strings.HasPrefix(got["detail"].(string), "cursor ") {
		t.Errorf("a forged cursor: %v", got)
	}
}

// shortPolicy is the one of README.md: it lets the platform in for any tenant.
const shortPolicy = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + byoktest.Account + `:root"}, "Action": "kms:*", "Resource": "*"},
	{"Effect": "Allow", "Principal": {"AWS": "` + byoktest.PlatformRole + `"}, "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"}]}`

// What is not a key of AWS KMS.
func TestNotAKey_001(t *testing.T) {
	s := newServer(t, false)
	id := s.CMK("acme").ID()
	for _, arn := range []string{"", "x", id, "alias/byok", "arn:aws:kms:us-east-1:111122223333:alias/byok", "arn:aws-cn:kms:cn-north-1:111122223333:key/" + id,
		"arn:aws:kms:us-east-1.evil:111122223333:key/" + id, "arn:aws:kms:us-east-1.evil.example:111122223333:key/" + id, "arn:aws:kms:xx-east-1:111122223333:key/" + id,
		"arn:aws:kms:us-east-1:1111:key/" + id, "arn:aws:s3:us-east-1:111122223333:key/" + id, "arn:aws:kms:us-east-1:111122223333:key/" + id + " ",
		"arn:aws:kms:us-east-1:111122223333:key/../" + id, "arn:aws:kms:us-east-1:111122223333:key/" + id + `\u0131`} {
		s.want(t, "acme", "POST", "/keys", arnBody(arn), 400, "BYOK_001")
	}
	// The customer is told what is wrong with it.
	for arn, reason := range map[string]string{
		"arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab": "multi-Region",
		"arn:aws:kms:us-east-1:111122223333:alias/byok":                               "alias",
		"arn:aws-cn:kms:cn-north-1:111122223333:key/" + id:                            "partition",
		"arn:aws:kms:xx-east-1:111122223333:key/" + id:                                "Region",
		id: "not a key ARN",
	} {
		got := s.want(t, "acme", "POST", "/keys", arnBody(arn), 400, "BYOK_001")["detail"].(string)
		said, _, _ := strings.Cut(strings.TrimPrefix(got, "The key is refused: "), ". cmk_arn must be ")
		if len(said) == len(got) || !strings.Contains(said, reason) {
			t.Errorf("%s: %s", arn, got)
		}
	}
	if n := len(s.Fake.Calls()); n != 0 {
		t.Errorf("%d requests went to KMS", n)
	}
}

func TestDenied_002(t *testing.T) {
	s := newServer(t, false)
	notIn := s.Fake.Account(byoktest.Account).CreateKey("")
	s.want(t, "acme", "POST", "/keys", arnBody(notIn.ARN()), 403, "BYOK_002")
	s.want(t, "acme", "POST", "/keys", arnBody(s.CMK("globex").ARN()), 403, "BYOK_002") // bound to another organization
	s.want(t, "acme", "POST", "/keys", arnBody("arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"), 403, "BYOK_002")
	cmk := s.active(t, "acme")
	cmk.Disable()
	s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"dek"}`, 403, "BYOK_002")
	if got := s.want(t, "acme", "GET", "/keys", "", 200, ""); got["status"] != "disabled" || !strings.Contains(got["status_reason"].(string), "DisabledException") {
		t.Errorf("status: %v", got)
	}
	if got := s.want(t, "acme", "GET", "/health", "", 200, ""); got["status"] != "unhealthy" || got["cmk_accessible"] != false || got["key_status"] != "disabled" {
		t.Errorf("health: %v", got)
	}
}

// Who holds a CMK is not told, and a stranger learns nothing by asking.
func TestTaken_003(t *testing.T) {
	s := newServer(t, true)
	cmk := s.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
	if got := s.register(t, "acme", cmk); fmt.Sprint(got["warnings"]) != "["+byok.WarnPolicyNotTenantBound+"]" {
		t.Errorf("warnings: %v", got["warnings"])
	}
	taken := s.do("globex", "POST", "/keys", arnBody(cmk.ARN())).Body.String()
	own := s.do("acme", "POST", "/keys", arnBody(cmk.ARN())).Body.String()
	if taken != own || strings.Contains(taken, "acme") || !strings.Contains(taken, "BYOK_003") {
		t.Errorf("got %s and %s", taken, own)
	}
}

func TestOutage_006(t *testing.T) {
	s := newServer(t, false)
	cmk := s.CMK("acme")
	s.Fake.Fail("GenerateDataKey", "ThrottlingException", 1000)
	s.want(t, "acme", "POST", "/keys", arnBody(cmk.ARN()), 503, "BYOK_006")
	s = newServer(t, false)
	s.active(t, "acme")
	restore := s.Fake.Outage()
	s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"dek"}`, 503, "BYOK_006")
	if logged := s.logs.String(); !strings.Contains(logged, "kms.op=GenerateDataKey") || !strings.Contains(logged, "kms.class=outage") || !strings.Contains(logged, "kms.cause=") {
		t.Errorf("operators see %s", logged)
	}
	if got := s.want(t, "acme", "GET", "/health", "", 200, ""); got["status"] != "degraded" || got["cmk_accessible"] != false {
		t.Errorf("health: %v", got)
	}
	restore()
}

func TestWrongAnswer_007(t *testing.T) {
	s := newServer(t, false)
	s.Fake.Fail("GenerateDataKey", "ValidationException", 100)
	s.want(t, "acme", "POST", "/keys", arnBody(s.CMK("acme").ARN()), 500, "BYOK_007")
}

func TestSuspended_010(t *testing.T) {
	s := newServer(t, false)
	s.active(t, "acme")
	if _, err := s.Keeper.Tenant("acme").Suspend(t.Context(), "unpaid"); err != nil {
		t.Fatal(err)
	}
	s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"dek"}`, 403, "BYOK_010")
	if got := s.want(t, "acme", "GET", "/keys", "", 200, ""); got["status"] != "disabled" {
		t.Errorf("status: %v", got)
	}
}

func TestUnbound_011(t *testing.T) {
	s := newServer(t, false)
	cmk := s.Fake.Account(byoktest.Account).CreateKey(shortPolicy)
	s.want(t, "acme", "POST", "/keys", arnBody(cmk.ARN()), 403, "BYOK_011")
}

func TestSinkDown_012_013(t *testing.T) {
	s := newServer(t, false)
	s.active(t, "acme")
	s.sink.down.Store(true)
	s.want(t, "acme", "GET", "/health", "", 503, "BYOK_012")
	if got := s.want(t, "acme", "DELETE", "/keys", "", 200, ""); got["status"] != "revoked" || got["audited"] != false {
		t.Errorf("removed: %v", got)
	}
	if _, err := s.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil); byok.Code(err) != "BYOK_010" {
		t.Errorf("Seal after a removal that was not audited: %v", err)
	}
	s.sink.down.Store(false)
	got := s.want(t, "acme", "GET", "/audit?operation=revoke", "", 200, "")
	if len(got["entries"].([]any)) != 1 {
		t.Errorf("the sink works again, and the log has %v", got["entries"])
	}
	if err := s.Keeper.Close(); err != nil {
		t.Fatal(err)
	}
	s.want(t, "acme", "GET", "/keys", "", 503, "BYOK_012")
}

// K16, H6: after a busy day neither answers, nor logs, nor events hold a token,
// plaintext or another organization's name.
func TestNothingLeaks_K16(t *testing.T) {
	s := newServer(t, false)
	s.active(t, "acme")
	s.active(t, "globex")
	sealed := s.seal(t, "acme")
	if _, err := s.Keeper.Open(t.Context(), byok.Scope{Tenant: "globex"}, sealed, []byte("aad")); byok.Code(err) != "BYOK_008" {
		t.Fatal(err)
	}
	s.Fake.Fail("GenerateDataKey", "ValidationException", 1)
	s.do("acme", "POST", "/keys/rotate", `{"rotation_type":"dek"}`)
	s.do("acme", "POST", "/keys", `{"`+token("acme")+`":1}`)
	s.do("acme", "GET", "/audit?"+token("acme"), "")
	page, err := s.Keeper.Tenant("acme").Audit(t.Context(), byok.AuditQuery{Limit: 1000})
	if err != nil || len(page.Events) == 0 {
		t.Fatal(err, page)
	}
	events, _ := json.Marshal(page)
	all := string(events) + s.logs.String() + s.do("acme", "GET", "/audit", "").Body.String() + s.do("acme", "GET", "/keys", "").Body.String()
	for _, secret := range []string{token("acme"), token("globex"), "plain MARKER-1", "globex"} {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(all, form) {
				t.Errorf("%q got out", form)
			}
		}
	}
}

// Error on real errors of a Keeper: what is malformed and what is not ours look alike.
func TestErrorOnRealErrors_008(t *testing.T) {
	s := newServer(t, false)
	s.active(t, "acme")
	s.active(t, "globex")
	good := s.seal(t, "acme")
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	open := func(tenant, purpose string, sealed []byte, aad string) string {
		w := httptest.NewRecorder()
		_, err := s.Keeper.Open(t.Context(), byok.Scope{Tenant: tenant, Purpose: purpose}, sealed, []byte(aad))
		byokhttp.Error(w, httptest.NewRequest("GET", "/", nil), err)
		if w.Code != 422 {
			t.Errorf("%v: %d", err, w.Code)
		}
		b, _ := io.ReadAll(w.Result().Body)
		return fmt.Sprint(w.Header()) + string(b)
	}
	want := open("acme", "", nil, "aad")
	for name, got := range map[string]string{
		"junk": open("acme", "", []byte("junk"), "aad"), "truncated": open("acme", "", good[:len(good)-1], "aad"), "flipped": open("acme", "", flipped, "aad"),
		"another tenant": open("globex", "", good, "aad"), "another purpose": open("acme", "other", good, "aad"), "another record": open("acme", "", good, "other"),
		"base64": open("acme", "", []byte(base64.StdEncoding.EncodeToString(good)), "aad"),
	} {
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// GET /audit needs a sink that can be read.
func TestNewNeedsAnAuditReader(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Sink: writeOnly{}})
	if _, err := byokhttp.New(env.Keeper, byokhttp.AuthenticatorFunc(nil), nil); !errors.Is(err, byok.ErrArgument) {
		t.Error(err)
	}
}

type writeOnly struct{}

func (writeOnly) Record(context.Context, byok.Event) error { return nil }

// An organization with several CMKs, which the platform has registered: each of them is shown, and which check
// was about which.
func TestSeveralCMKs(t *testing.T) {
	s := newServer(t, false)
	a, b := s.CMK("acme"), s.CMK("acme")
	_, err := s.Keeper.Tenant("acme").Register(t.Context(), byok.Registration{Key: byok.KeyID{Provider: "aws-kms", ID: a.ARN()},
		Others: []byok.KeyID{{Provider: "aws-kms", ID: b.ARN()}}, Policy: byok.PolicyAll})
	if err != nil {
		t.Fatal(err)
	}
	s.want(t, "acme", "POST", "/legal-waiver/acknowledge", ackAll, 200, "")
	b.Disable()
	health := s.want(t, "acme", "GET", "/health", "", 200, "")
	failed := map[any]bool{}
	for _, c := range health["checks"].([]any) {
		if c := c.(map[string]any); c["status"] == "fail" {
			failed[c["cmk_arn"]] = true
		}
	}
	if health["status"] != "unhealthy" || health["cmk_accessible"] != false || len(failed) != 1 || !failed[b.ARN()] {
		t.Errorf("failed checks %v of %v", failed, health)
	}
	got := s.want(t, "acme", "GET", "/keys", "", 200, "")
	cmks, _ := got["cmks"].([]any)
	if len(cmks) != 2 || got["policy"] != "all" || got["cmk_arn"] != a.ARN() || got["status"] != "disabled" ||
		cmks[0].(map[string]any)["access"] != "accessible" || cmks[1].(map[string]any)["cmk_arn"] != b.ARN() || cmks[1].(map[string]any)["access"] != "blocked" {
		t.Errorf("%v", got)
	}
	one := s.active(t, "globex")
	if got := s.want(t, "globex", "GET", "/keys", "", 200, ""); got["cmk_arn"] != one.ARN() || got["cmks"] != nil || got["policy"] != nil {
		t.Errorf("one CMK: %v", got)
	}
}
