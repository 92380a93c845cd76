package byokhttp

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/byok-go/byok"
)

// FuzzHandlers sends anything to every route (K15): no panic, an answer of the
// contract, and nothing reaches another organization.
func FuzzHandlers(f *testing.F) {
	for i := range routes {
		rt := &routes[i]
		f.Add(rt.method, rt.at(), "", "Bearer "+tokenAcme, "application/json", bodies[rt.String()])
		f.Add(rt.method, rt.at(), "limit=1&cursor=x", "Bearer "+tokenRead, "application/json; charset=utf-8", `{"a":[[[[`)
	}
	f.Add("GET", "/audit", "limit=10&start=2026-01-01T00:00:00Z&end=2027-01-01T00:00:00Z&operation=seal", "Bearer "+tokenAcme, "", "")
	f.Add("POST", "/keys", "", "Bearer "+tokenAcme, "application/json", "{\"cmk_arn\":\"\\ud800\"}")
	f.Fuzz(func(t *testing.T, method, path, query, auth, kind, body string) {
		e := newEnv(t, nil)
		r := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Authorization": {auth}, "Content-Type": {kind}},
			Body:   &body2{strings.NewReader(body)}, ContentLength: -1, RemoteAddr: "192.0.2.1:1",
		}
		w := serve(e, r)
		if n := e.panics.Load(); n != 0 {
			t.Fatalf("panic: %s", e.logs)
		}
		if !json.Valid(w.Body.Bytes()) || w.Code < 200 || w.Code >= 500 {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
		if auth != "Bearer "+tokenGlobex && len(e.tenants["globex"].calls) != 0 {
			t.Fatal("reached another organization")
		}
		if reg, ok := e.tenants["acme"].last.(byok.Registration); ok && (len(reg.Alias) > 256 || len(reg.Description) > 1024 || len(reg.Key.ID) > maxARN) {
			t.Fatalf("unchecked lengths: %+v", reg)
		}
	})
}

type body2 struct{ *strings.Reader }

func (*body2) Close() error { return nil }
