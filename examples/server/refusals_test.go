package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byokhttp"
)

// shortPolicy is the one of README.md: it lets the platform in for any tenant.
func shortPolicy(account string) string {
	return `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + account + `:root"}, "Action": "kms:*", "Resource": "*"},
	{"Effect": "Allow", "Principal": {"AWS": "` + platformRole + `"}, "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"}]}`
}

const note = "/api/v1/records/notes/1"

// Everything that must be refused on the way to a key in use, each with its
// code, and nothing lost by it.
func TestRefusalsBeforeUse(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	own := s.demo.Organizations[acme].CMKARN

	// Before registering.
	s.want(t, acme, "PUT", note, "x", 404, "BYOK_005")
	s.want(t, acme, "GET", keysPath, "", 404, "BYOK_005")

	// What is not a key, or not one that lets us in for this organization.
	id := own[strings.LastIndexByte(own, '/')+1:]
	for _, arn := range []string{"arn:aws:kms:us-east-1:111122223333:alias/byok", id, "alias/byok", "arn:aws-cn:kms:cn-north-1:111122223333:key/" + id,
		"arn:aws:kms:us-east-1.evil:111122223333:key/" + id} {
		s.want(t, acme, "POST", keysPath, arnBody(arn), 400, "BYOK_001")
	}
	account := s.fake.Account("111122223333")
	s.want(t, acme, "POST", keysPath, arnBody(account.CreateKey("").ARN()), 403, "BYOK_002")
	s.want(t, acme, "POST", keysPath, arnBody(s.demo.Organizations[globex].CMKARN), 403, "BYOK_002")
	s.want(t, acme, "GET", keysPath, "", 404, "BYOK_005")

	// Before the waiver.
	s.want(t, acme, "POST", keysPath, arnBody(own), 201, "")
	s.want(t, acme, "PUT", note, "x", 400, "BYOK_004")
	flags := []string{byok.FlagDataLossRisk, byok.FlagKeyManagement, byok.FlagNoLiability}
	for _, f := range flags {
		for _, v := range []string{"false", `"true"`, "1", "null", ""} {
			body := strings.Replace(ackAll, `"`+f+`":true`, `"`+f+`":`+v, 1)
			if v == "" {
				body = strings.Replace(strings.Replace(ackAll, `"`+f+`":true`, "", 1), ",,", ",", 1)
				body = strings.NewReplacer("{,", "{", ",}", "}").Replace(body)
			}
			a := s.want(t, acme, "POST", ackPath, body, 400, "BYOK_004")
			if !strings.Contains(string(a.body), f) {
				t.Errorf("%s is not named: %s", f, a)
			}
		}
	}
	s.want(t, acme, "PUT", note, "x", 400, "BYOK_004")
	s.want(t, acme, "POST", ackPath, ackAll, 200, "")
	s.want(t, acme, "PUT", note, "x", 201, "")

	// A second key, and an unbound CMK that another organization holds.
	shared := account.CreateKey(shortPolicy("111122223333")).ARN()
	s.want(t, acme, "POST", keysPath, arnBody(shared), 409, "BYOK_003")
	a := s.want(t, globex, "POST", keysPath, arnBody(shared), 201, "")
	if !strings.Contains(string(a.body), byok.WarnPolicyNotTenantBound) {
		t.Errorf("no warning: %s", a)
	}
	s.want(t, acme, "POST", keysPath, arnBody(own), 409, "BYOK_003")
	s.want(t, acme, "DELETE", keysPath, "", 200, "")
	s.want(t, acme, "POST", keysPath, arnBody(own), 201, "") // so that nothing of the next is BYOK_009
	if got := string(s.want(t, acme, "GET", note, "", 200, "").body); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestTakenByAnother_003(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	shared := s.fake.Account("111122223333").CreateKey(shortPolicy("111122223333")).ARN()
	s.want(t, acme, "POST", keysPath, arnBody(shared), 201, "")
	a := s.want(t, globex, "POST", keysPath, arnBody(shared), 409, "BYOK_003")
	if strings.Contains(string(a.body), "acme") {
		t.Errorf("says who: %s", a)
	}
}

// Removal, suspension, and what comes back.
func TestRefusalsAfterRemoval(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	s.activate(t, acme)
	own := s.demo.Organizations[acme].CMKARN
	s.want(t, acme, "PUT", note, "kept", 201, "")
	for range 3 {
		s.want(t, acme, "DELETE", keysPath, "", 200, "")
	}
	s.want(t, acme, "GET", note, "", 403, "BYOK_010")
	s.want(t, acme, "PUT", note, "lost?", 403, "BYOK_010")
	s.want(t, acme, "GET", keysPath, "", 200, "")

	policy := awskms.KeyPolicy("111122223333", platformRole, s.keeper.Tenant("acme").EncryptionContext()).JSON()
	other := s.fake.Account("111122223333").CreateKey(policy).ARN()
	s.want(t, acme, "POST", keysPath, arnBody(other), 409, "BYOK_009")
	s.want(t, acme, "POST", keysPath, arnBody(own), 201, "")
	s.want(t, acme, "GET", note, "", 200, "")

	if _, err := s.keeper.Tenant("acme").Suspend(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	s.want(t, acme, "GET", note, "", 403, "BYOK_010")
	if _, err := s.keeper.Tenant("acme").Resume(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if got := string(s.want(t, acme, "GET", note, "", 200, "").body); got != "kept" {
		t.Errorf("got %q", got)
	}
}

// Envelopes that are not this record's, written into the row past the API.
func TestForeignEnvelopes_008(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	s.activate(t, acme)
	s.activate(t, globex)
	s.want(t, acme, "PUT", note, "mine", 201, "")
	s.want(t, acme, "PUT", "/api/v1/records/notes/2", "other", 201, "")
	s.want(t, acme, "PUT", "/api/v1/records/note/s2", "other", 201, "")
	s.want(t, globex, "PUT", note, "theirs", 201, "")
	row := func(org, collection, id string) (b []byte) {
		t.Helper()
		if err := s.db.QueryRow(`SELECT sealed FROM records WHERE organization = ? AND collection = ? AND id = ?`, org, collection, id).Scan(&b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	mine := row("acme", "notes", "1")
	flipped := append([]byte(nil), mine...)
	flipped[len(flipped)/2] ^= 1
	var first string
	for what, sealed := range map[string][]byte{
		"junk": []byte("junk"), "nothing": {}, "in clear": []byte("mine"), "truncated": mine[:len(mine)-1], "flipped": flipped,
		"another record": row("acme", "notes", "2"), "another collection": row("acme", "note", "s2"), "another organization": row("globex", "notes", "1"),
	} {
		if _, err := s.db.Exec(`UPDATE records SET sealed = ? WHERE organization = 'acme' AND collection = 'notes' AND id = '1'`, sealed); err != nil {
			t.Fatal(err)
		}
		a := s.want(t, acme, "GET", note, "", 422, "BYOK_008")
		if first == "" {
			first = string(a.body)
		}
		if string(a.body) != first {
			t.Errorf("%s is told apart: %s", what, a)
		}
	}
	if _, err := s.db.Exec(`UPDATE records SET sealed = ? WHERE organization = 'acme' AND collection = 'notes' AND id = '1'`, mine); err != nil {
		t.Fatal(err)
	}
	s.want(t, acme, "GET", note, "", 200, "")
}

func TestOutage_006(t *testing.T) {
	s := start(t, t.TempDir(), func(c *config) { c.maxAge = byok.MinMaxAge })
	s.activate(t, acme)
	s.want(t, acme, "PUT", note, "kept", 201, "")
	restore := s.fake.Outage()
	s.until(t, acme, note, 503, 5*time.Second)
	s.want(t, acme, "GET", note, "", 503, "BYOK_006")
	s.want(t, acme, "PUT", note, "lost", 503, "BYOK_006")
	restore()
	if a := s.until(t, acme, note, 200, 10*time.Second); string(a.body) != "kept" {
		t.Errorf("got %s", a)
	}
}

// K1 to K3 on a real connection: bad, missing and doubled tokens.
func TestTokens_K1_K2_K3(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	good := s.demo.Organizations[acme].Token
	for _, path := range []string{keysPath, note} {
		for _, token := range []string{"", "wrong", good[:len(good)-1], good + "A", strings.ToLower(good)} {
			a := send(t, s, token, "GET", path, nil)
			if a.status != 401 || a.code() != "BYOK_016" || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %s", path, token, a)
			}
		}
		for _, second := range []string{"Bearer " + good, "Bearer evil"} {
			if a := send(t, s, good, "GET", path, nil, "Authorization", second); a.status != 400 {
				t.Errorf("%s with two headers: %s", path, a)
			}
		}
	}
}

// K8, and the limits of the data API.
func TestSizes(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	s.activate(t, acme)
	s.want(t, acme, "POST", keysPath, `{"cmk_arn":"`+strings.Repeat("a", 64<<10)+`"}`, 413, "BYOK_014")
	big := strings.Repeat("b", maxRecord)
	s.want(t, acme, "PUT", note, big, 201, "")
	if a := s.want(t, acme, "GET", note, "", 200, ""); string(a.body) != big {
		t.Error("10 MiB came back changed")
	}
	s.want(t, acme, "PUT", note, big+"b", 413, "BYOK_014")
	s.want(t, acme, "PUT", note, "", 200, "") // empty is a record too
	if a := s.want(t, acme, "GET", note, "", 200, ""); len(a.body) != 0 {
		t.Errorf("got %s", a)
	}
	s.want(t, acme, "POST", keysPath, `{"cmk_arn":"x","more":1}`, 400, "BYOK_014")
}

// The default limits, on a real connection.
func TestLimits_429(t *testing.T) {
	s := start(t, t.TempDir(), func(c *config) { c.limits = byokhttp.Limits{} })
	for n := range 6 {
		a := s.as(t, acme, "POST", keysPath, arnBody("alias/x"))
		if want := map[bool]int{true: 400, false: 429}[n < 5]; a.status != want {
			t.Fatalf("request %d: %s", n, a)
		}
	}
	s.want(t, acme, "POST", keysPath, arnBody("alias/x"), 429, "BYOK_017")
	s.want(t, globex, "POST", keysPath, arnBody("alias/x"), 400, "BYOK_001")
	for n := range 100 {
		if a := s.as(t, acme, "GET", keysPath, ""); a.status != 404 {
			t.Fatalf("request %d: %s", n, a)
		}
	}
	s.want(t, acme, "GET", keysPath, "", 429, "BYOK_017")
}

// K4: another organization's record answers as one that does not exist, for every method.
func TestOtherOrganizationsRecords_K4(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	s.activate(t, acme)
	s.activate(t, globex)
	s.want(t, acme, "PUT", note, "acme's", 201, "")
	unknown := s.want(t, globex, "GET", "/api/v1/records/notes/unknown", "", 404, "RECORD_NOT_FOUND")
	for _, m := range []string{"GET", "DELETE"} {
		if a := s.want(t, globex, m, note, "", 404, "RECORD_NOT_FOUND"); string(a.body) != string(unknown.body) {
			t.Errorf("%s: told apart: %s", m, a)
		}
	}
	s.want(t, globex, "PUT", note, "globex's", 201, "")
	if a := s.want(t, acme, "GET", note, "", 200, ""); string(a.body) != "acme's" {
		t.Errorf("got %s", a)
	}
	s.want(t, acme, "DELETE", note, "", 204, "")
	s.want(t, acme, "GET", note, "", 404, "RECORD_NOT_FOUND")
	if a := s.want(t, globex, "GET", note, "", 200, ""); string(a.body) != "globex's" {
		t.Errorf("got %s", a)
	}
}

// K6: one spelling of a path, and no redirects.
func TestPaths_K6(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	s.Client().CheckRedirect = func(r *http.Request, _ []*http.Request) error { return fmt.Errorf("redirected to %s", r.URL) }
	s.activate(t, acme)
	for _, path := range []string{"/", "/api/v1/records/a/../b", "/api/v1/records/a%2f..%2fb/c", "/api/v1/records/a/b%2fc", "/api/v1/records/a/b/", "/api/v1/records//b",
		"/api/v1/records/a/b/c", "/api/v1/records/a", "/api/v1//records/a/b", "/api/v1/byok", "/api/v1/byok/", "/api/v1/byok/keys/", "/api/v1/byok//keys", "/api/v1/byok/%6beys",
		"/api/v1/byok/x/../keys", "/api/v1/records/a/%2e%2e", "/API/v1/byok/keys",
		"/api/v1/records/.hidden/b", "/api/v1/records/a/" + strings.Repeat("b", 129), "/api/v1/records/a/b%00", "/api/v1/records/a/b%20c", "/api/v1/records/%C3%A9/b"} {
		if a := s.as(t, acme, "GET", path, ""); a.status != 404 || a.code() == "" {
			t.Errorf("%s: %s", path, a)
		}
	}
	if a := s.as(t, acme, "PATCH", note, "x"); a.status != 405 || a.header.Get("Allow") == "" {
		t.Errorf("PATCH: %s", a)
	}
}
