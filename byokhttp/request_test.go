package byokhttp

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

// K14: whatever is not exactly the request of the contract is refused, and reaches no tenant.
func TestJSONAbuse_K14(t *testing.T) {
	deep := strings.Repeat("[", 30_000)
	many := "{" + strings.Repeat(`"a":1,`, 9000) + `"b":1}`
	for name, body := range map[string]string{
		"empty":                      " ",
		"array":                      `[]`,
		"string":                     `"x"`,
		"null":                       `null`,
		"unknown":                    `{"cmk_arn":"x","extra":1}`,
		"case variant":               `{"CMK_ARN":"x"}`,
		"duplicate":                  `{"cmk_arn":"x","cmk_arn":"y"}`,
		"duplicate, escaped":         `{"cmk_arn":"x","cmk\u005farn":"y"}`,
		"trailing object":            `{"cmk_arn":"x"}{}`,
		"trailing text":              `{"cmk_arn":"x"} x`,
		"trailing brace":             `{"cmk_arn":"x"}}`,
		"unclosed":                   `{"cmk_arn":"x"`,
		"no value":                   `{"cmk_arn"}`,
		"comment":                    `{"cmk_arn":"x"/**/}`,
		"trailing comma":             `{"cmk_arn":"x",}`,
		"number":                     `{"cmk_arn":1}`,
		"huge number":                `{"cmk_arn":1e999999}`,
		"bool":                       `{"cmk_arn":true}`,
		"null value":                 `{"cmk_arn":null}`,
		"missing":                    `{}`,
		"array value":                `{"cmk_arn":["x"]}`,
		"object value":               `{"cmk_arn":{"x":1}}`,
		"deep":                       deep,
		"deep value":                 `{"cmk_arn":` + deep,
		"many members":               many,
		"not UTF-8":                  "{\"cmk_arn\":\"\xff\"}",
		"BOM":                        "\ufeff{\"cmk_arn\":\"x\"}",
		"UTF-16":                     "{\x00\"\x00}\x00",
		"alias too long":             `{"cmk_arn":"x","cmk_alias":"` + strings.Repeat("a", 257) + `"}`,
		"description too long":       `{"cmk_arn":"x","description":"` + strings.Repeat("a", 1025) + `"}`,
		"ARN too long":               `{"cmk_arn":"` + strings.Repeat("a", 2049) + `"}`,
		"alias with a NUL":           `{"cmk_arn":"x","cmk_alias":"a\u0000"}`,
		"description with a newline": `{"cmk_arn":"x","description":"a\nb"}`,
		"abandon string":             `{"cmk_arn":"x","abandon_existing_data":"true"}`,
		"abandon 1":                  `{"cmk_arn":"x","abandon_existing_data":1}`,
		"abandon null":               `{"cmk_arn":"x","abandon_existing_data":null}`,
	} {
		for _, path := range []string{"/keys", "/keys/rotate", "/legal-waiver/acknowledge"} {
			e := newEnv(t, nil)
			w := e.do(tokenAcme, "POST", path, body)
			if path == "/legal-waiver/acknowledge" && name == "missing" {
				continue // BYOK_004, below
			}
			wantProblem(t, w, 400, "BYOK_014")
			if len(e.tenants["acme"].calls) != 0 {
				t.Errorf("%s: %s reached the tenant", path, name)
			}
		}
	}
}

// A move to several CMKs: a list is a list of strings, and of no more than there can be, and nothing else may be one.
func TestMoveToSeveral(t *testing.T) {
	e := newEnv(t, nil)
	for _, body := range []string{
		`{"cmk_arn":"x","other_cmk_arns":"y"}`,
		`{"cmk_arn":"x","other_cmk_arns":null}`,
		`{"cmk_arn":"x","other_cmk_arns":{}}`,
		`{"cmk_arn":"x","other_cmk_arns":[1]}`,
		`{"cmk_arn":"x","other_cmk_arns":[null]}`,
		`{"cmk_arn":"x","other_cmk_arns":[["y"]]}`,
		`{"cmk_arn":"x","other_cmk_arns":["y"}`,
		`{"cmk_arn":"x","other_cmk_arns":["y",]}`,
		`{"cmk_arn":"x","other_cmk_arns":["y"`,
		`{"cmk_arn":"x","other_cmk_arns":["y"],"other_cmk_arns":["y"]}`,
		`{"cmk_arn":"x","other_cmk_arns[]":["y"]}`,
		`{"cmk_arn":"x","other_cmk_arns":["1","2","3","4","5","6","7","8","9"]}`,
		`{"cmk_arn":"x","other_cmk_arns":["` + strings.Repeat("a", maxARN+1) + `"]}`,
		`{"cmk_arn":"x","other_cmk_arns":["a\u0000"]}`,
		`{"cmk_arn":"x","other_cmk_arns":` + strings.Repeat("[", 30_000),
		`{"cmk_arn":["x"],"policy":"any"}`,
		`{"cmk_arn":"x","policy":["any"]}`,
		`{"cmk_arn":"x","policy":"whatever"}x`,
		`{"cmk_arn":"x","fewer_consents":true}`,
		`{"other_cmk_arns":["x"]}`,
	} {
		wantProblem(t, e.do(tokenAcme, "POST", "/keys/move", body), 400, "BYOK_014")
	}
	if len(e.tenants["acme"].calls) != 0 {
		t.Errorf("reached the tenant: %v", e.tenants["acme"].calls)
	}
	w := e.do(tokenAcme, "POST", "/keys/move", `{"cmk_arn":"x","other_cmk_arns":["y","z"],"policy":"all","reason":"why"}`)
	want := byok.Move{Key: byok.KeyID{Provider: "aws-kms", ID: "x"}, Others: []byok.KeyID{{Provider: "aws-kms", ID: "y"}, {Provider: "aws-kms", ID: "z"}},
		Policy: byok.PolicyAll, Reason: "why"}
	if got := e.tenants["acme"].last; w.Code != 202 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d: %+v", w.Code, got)
	}
	if b := w.Body.String(); !strings.Contains(b, `"to_other_cmk_arns":["y","z"]`) || !strings.Contains(b, `"to_policy":"all"`) {
		t.Error(b)
	}
}

func TestRotationTypes(t *testing.T) {
	e := newEnv(t, nil)
	for body, hint := range map[string]string{
		`{"rotation_type":"Full"}`: "full",
		`{"rotation_type":"DEK"}`:  "dek",
		`{"rotation_type":"move"}`: "dek",
		`{"rotation_type":""}`:     "dek",
		`{}`:                       "dek",
		`{"rotation_type":"dek","reason":"\u001b[31m"}`:                        "reason",
		`{"rotation_type":"dek","reason":["x"]}`:                               "reason",
		`{"rotation_type":"dek","reason":"` + strings.Repeat("x", 1025) + `"}`: "reason",
	} {
		p := wantProblem(t, e.do(tokenAcme, "POST", "/keys/rotate", body), 400, "BYOK_014")
		if !strings.Contains(p["detail"].(string), hint) {
			t.Errorf("%s: %v", body, p["detail"])
		}
	}
	if len(e.tenants["acme"].calls) != 0 {
		t.Error("reached the tenant")
	}
}

// E19: consent is three times literally true, to the current text.
func TestFlagsLiterallyTrue_E19(t *testing.T) {
	flags := []string{byok.FlagDataLossRisk, byok.FlagKeyManagement, byok.FlagNoLiability}
	e := newEnv(t, nil)
	for i, f := range flags {
		for _, v := range []string{"", "false", `"true"`, "1", "null", `"yes"`, "0"} {
			var members []string
			for j, g := range flags {
				switch {
				case i != j:
					members = append(members, `"`+g+`":true`)
				case v != "":
					members = append(members, `"`+g+`":`+v)
				}
			}
			p := wantProblem(t, e.do(tokenAcme, "POST", "/legal-waiver/acknowledge", "{"+strings.Join(members, ",")+"}"), 400, "BYOK_004")
			for j, g := range flags {
				if strings.Contains(p["detail"].(string), g) != (i == j) {
					t.Errorf("%s=%s: %v", f, v, p["detail"])
				}
			}
		}
	}
	p := wantProblem(t, e.do(tokenAcme, "POST", "/legal-waiver/acknowledge", "{}"), 400, "BYOK_004")
	for _, f := range flags {
		if !strings.Contains(p["detail"].(string), f) {
			t.Errorf("%s is not named: %v", f, p["detail"])
		}
	}
	for _, v := range []string{"0.9", "", "1.0 ", "2.0"} {
		body := strings.Replace(ackAll, "{", `{"waiver_version":"`+v+`",`, 1)
		wantProblem(t, e.do(tokenAcme, "POST", "/legal-waiver/acknowledge", body), 400, "BYOK_004")
	}
	wantProblem(t, e.do(tokenAcme, "POST", "/legal-waiver/acknowledge", strings.Replace(ackAll, "{", `{"waiver_version":1.0,`, 1)), 400, "BYOK_014")
	if len(e.tenants["acme"].calls) != 0 {
		t.Error("reached the tenant")
	}
}

// K20: a page of another origin can send text/plain without asking; it is refused.
func TestContentType_K20(t *testing.T) {
	for i := range routes {
		rt := &routes[i]
		body := bodies[rt.String()]
		if body == "" {
			continue
		}
		e := newEnv(t, nil)
		for _, ct := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "json",
			"application/json; charset=utf-16", "application/json, text/plain", "application/problem+json", ";"} {
			wantProblem(t, e.do(tokenAcme, rt.method, rt.at(), body, "Content-Type", ct, "Origin", "https://evil.example"), 415, "BYOK_014")
		}
		wantProblem(t, e.do(tokenAcme, rt.method, rt.at(), body, "Content-Encoding", "gzip"), 415, "BYOK_014")
		if len(e.tenants["acme"].calls) != 0 {
			t.Error("reached the tenant")
		}
		for _, ct := range []string{"application/json", "Application/JSON; charset=UTF-8"} {
			w := e.do(tokenAcme, rt.method, rt.at(), body, "Content-Type", ct, "Origin", "https://evil.example")
			if w.Code >= 300 {
				t.Errorf("%s: %q: %d %s", rt, ct, w.Code, w.Body)
			}
			wantHeaders(t, w)
		}
	}
}

// K8: a body is refused by what it announces, before anything is read.
func TestLargeBody_K8(t *testing.T) {
	for _, c := range []struct {
		announced int64
		size      int
		want      int
	}{{-1, MaxBody + 1, 413}, {MaxBody + 1, 0, 413}, {1<<63 - 1, 0, 413}, {-1, MaxBody, 201}, {MaxBody, MaxBody, 201}} {
		e := newEnv(t, nil)
		start := `{"cmk_arn":"` + testARN + `"`
		body := &counting{r: strings.NewReader(start + strings.Repeat(" ", max(0, c.size-len(start)-1)) + "}")}
		r := httptest.NewRequest("POST", "/keys", body)
		r.ContentLength = c.announced
		r.Header.Set("Authorization", "Bearer "+tokenAcme)
		r.Header.Set("Content-Type", "application/json")
		w := serve(e, r)
		if w.Code != c.want {
			t.Errorf("announced %d, size %d: %d %s", c.announced, c.size, w.Code, w.Body)
		}
		if c.want == 413 {
			wantProblem(t, w, 413, "BYOK_014")
			if c.announced > 0 && body.n != 0 {
				t.Errorf("read %d bytes of a body that announced too much", body.n)
			}
		}
	}
}

type counting struct {
	r *strings.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestQueries(t *testing.T) {
	e := newEnv(t, nil)
	for _, q := range []string{"limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=99999999999999999999", "cursor=", "cursor=" + strings.Repeat("a", 1025),
		"start=yesterday", "start=", "end=2026-01-01", "start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "start=2026-01-02T00:00:00Z&end=2026-01-02T00:00:00Z",
		"operation=", "operation=DROP%20TABLE", "operation=" + strings.Repeat("a", 33), "unknown=1", "Limit=1", "a;b", "%zz", "tenant=globex"} {
		wantProblem(t, e.do(tokenAcme, "GET", "/audit?"+q, ""), 400, "BYOK_014")
	}
	for _, q := range []string{"", "limit=1", "limit=1000", "operation=seal", "start=2026-01-01T00:00:00.5Z"} {
		if w := e.do(tokenAcme, "GET", "/audit?"+q, ""); w.Code != http.StatusOK {
			t.Errorf("%q: %d %s", q, w.Code, w.Body)
		}
	}
}

func TestTimesAreUTC(t *testing.T) {
	if got := *stamp(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", -3600))); got != "2026-01-02T04:04:05.000006Z" {
		t.Error(got)
	}
	if stamp(time.Time{}) != nil {
		t.Error("the zero time is not null")
	}
}
