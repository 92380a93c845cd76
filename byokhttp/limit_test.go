package byokhttp

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
)

// The limits of the contract, each with the Retry-After that it announces, which
// must be enough and not a second too long.
func TestRateLimits(t *testing.T) {
	limits := map[string]struct {
		n     int
		retry int
	}{
		"POST /keys": {5, 720}, "GET /keys": {100, 1}, "POST /keys/rotate": {10, 360}, "GET /health": {60, 1}, "GET /audit": {60, 1},
		"GET /legal-waiver": {60, 1}, "GET /legal-waiver/status": {60, 1}, "POST /legal-waiver/acknowledge": {60, 1},
		"DELETE /keys": {1, 3600}, "GET /keys/data-keys": {10, 6},
		"POST /keys/move": {5, 720}, "GET /keys/rotate/{id}": {60, 1}, "GET /keys/move/{id}": {60, 1},
		"DELETE /keys/rotate/{id}": {10, 360}, "DELETE /keys/move/{id}": {10, 360},
	}
	for i := range routes {
		rt := &routes[i]
		l, ok := limits[rt.String()]
		if !ok {
			t.Errorf("%s has no row here", rt)
			continue
		}
		t.Run(rt.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, nil)
				send := func() int {
					e.tenants["acme"].status = byok.StatusActive // so that a DELETE changes something
					return e.route(tokenAcme, rt).Code
				}
				for n := range l.n {
					if c := send(); c >= 300 {
						t.Fatalf("request %d: %d", n, c)
					}
				}
				e.tenants["acme"].status = byok.StatusActive
				w := e.route(tokenAcme, rt)
				wantProblem(t, w, 429, "BYOK_017")
				retry, err := strconv.Atoi(w.Header().Get("Retry-After"))
				if err != nil || retry != l.retry {
					t.Fatalf("Retry-After %q, want %d", w.Header().Get("Retry-After"), l.retry)
				}
				if retry > 1 {
					time.Sleep(time.Duration(retry-1) * time.Second)
					if c := send(); c != 429 {
						t.Errorf("a second before Retry-After: %d", c)
					}
				}
				time.Sleep(time.Second)
				if c := send(); c >= 300 {
					t.Errorf("after Retry-After: %d", c)
				}
				// Per token: another of the same tenant, and another tenant's, are not touched.
				other := map[string]string{ScopeRead: tokenRead, ScopeAdmin: tokenAdmin, ScopeMove: tokenMove}[rt.scope]
				e.tenants["acme"].status = byok.StatusActive
				for _, token := range []string{other, tokenGlobex} {
					if w := e.route(token, rt); w.Code >= 300 {
						t.Errorf("%s: %d %s", token, w.Code, w.Body)
					}
				}
			})
		})
	}
}

// What never got past the syntax costs nothing and is not counted.
func TestTypingErrorsAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		for range 20 {
			wantProblem(t, e.do(tokenAcme, "POST", "/keys", `{"cmk":"x"}`), 400, "BYOK_014")
			wantProblem(t, e.do(tokenAcme, "POST", "/keys/rotate", `{"rotation_type":"half"}`), 400, "BYOK_014")
		}
		for i := range routes {
			if w := e.route(tokenAcme, &routes[i]); w.Code >= 300 {
				t.Errorf("%s: %d", &routes[i], w.Code)
			}
		}
		// What KMS or the Store was asked about is, also when it failed.
		e.tenants["acme"].err = byok.ErrKeyID
		for n := range 5 {
			want := 400
			if n == 4 {
				want = 429
			}
			if w := e.route(tokenAcme, &routes[0]); w.Code != want {
				t.Errorf("%d: %d, want %d", n, w.Code, want)
			}
		}
	})
}

// The emergency brake can be pulled again.
func TestDeleteRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		acme := e.tenants["acme"]
		for n := range 50 {
			if w := e.do(tokenAcme, "DELETE", "/keys", ""); w.Code != 200 {
				t.Fatalf("repeat %d: %d %s", n, w.Code, w.Body)
			}
		}
		if acme.calls["Revoke"] != 50 {
			t.Error("a repeat did not reach the Keeper")
		}
		acme.status = byok.StatusActive // registered again
		wantProblem(t, e.do(tokenAcme, "DELETE", "/keys", ""), 429, "BYOK_017")
		acme.status = byok.StatusRevoked
		if w := e.do(tokenAcme, "DELETE", "/keys", ""); w.Code != 200 {
			t.Error("a repeat while limited:", w.Code)
		}
		time.Sleep(time.Hour)
		for _, s := range []byok.Status{byok.StatusDisabled, byok.StatusPendingWaiver} {
			acme.status = s
			if w := e.do(tokenAcme, "DELETE", "/keys", ""); w.Code != 200 {
				t.Errorf("%s: %d", s, w.Code)
			}
			time.Sleep(time.Hour)
		}
	})
}

// A removal that failed may be tried again at once, and an unreadable status does not stop it.
func TestDeleteFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		acme := e.tenants["acme"]
		acme.statusOK, acme.err = true, byok.ErrStore
		for range 10 {
			wantProblem(t, e.do(tokenAcme, "DELETE", "/keys", ""), 503, "BYOK_012")
		}
		acme.statusOK = false
		wantProblem(t, e.do(tokenAcme, "DELETE", "/keys", ""), 503, "BYOK_012")
		if acme.calls["Revoke"] != 11 {
			t.Errorf("Revoke was called %d times, want 11", acme.calls["Revoke"])
		}
		acme.err = nil
		if w := e.do(tokenAcme, "DELETE", "/keys", ""); w.Code != 200 {
			t.Error(w.Code)
		}
	})
}

// Flooding the set of buckets wins back no budget, and neither grows without bound.
func TestBucketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Limit{5, time.Hour}
		r := newRates(Limits{})
		r.max = 100
		spent := bucketKey{"POST/keys", "acme", "t"}
		for range 5 {
			if err := r.take(spent, l); err != nil {
				t.Fatal(err)
			}
		}
		limited := 0
		for i := range 10_000 {
			var p *Problem
			if err := r.take(bucketKey{"POST/keys", "acme", fmt.Sprint(i)}, l); errors.As(err, &p) {
				limited++
				if p.retryAfter <= 0 {
					t.Fatal("no Retry-After")
				}
			}
			time.Sleep(time.Millisecond)
		}
		if n := r.buckets.Len(); n > 101 {
			t.Errorf("%d buckets", n)
		}
		if r.take(spent, l) == nil {
			t.Error("a spent budget came back")
		}
		if limited < 9800 {
			t.Errorf("only %d of the newcomers were limited", limited)
		}
		time.Sleep(time.Hour)   // all full again
		for i := range 99 * 5 { // 99 newcomers have a bucket of their own
			if err := r.take(bucketKey{"POST/keys", "acme", fmt.Sprint("new", i%99)}, l); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		if n := r.buckets.Len(); n > 101 {
			t.Errorf("%d buckets", n)
		}
	})
}
