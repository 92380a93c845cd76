package byokhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
)

// K1: only the hash of a token is looked up, and nothing that is like a token is one.
func TestTokens_K1(t *testing.T) {
	for i := range routes {
		rt := &routes[i]
		for _, token := range []string{"x", tokenAcme[:len(tokenAcme)-1], tokenAcme + "x", tokenAcme + "=", strings.ToUpper(tokenAcme), "Z" + tokenAcme[1:]} {
			e := newEnv(t, nil)
			w := e.route(token, rt)
			wantProblem(t, w, 401, "BYOK_016")
			if !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") {
				t.Error("no WWW-Authenticate")
			}
			if len(e.tenants["acme"].calls) != 0 || strings.Contains(w.Body.String()+e.logs.String(), token) && token != "x" {
				t.Errorf("%s: reached the tenant, or the token got out", rt)
			}
		}
	}
}

// K2: two headers are two opinions.
func TestTwoAuthorizationHeaders_K2(t *testing.T) {
	for _, second := range []string{"Bearer evil", "Bearer " + tokenAcme, "", "Basic eDp5"} {
		for _, order := range [][]string{{"Bearer " + tokenAcme, second}, {second, "Bearer " + tokenAcme}} {
			e := newEnv(t, nil)
			r := httpReq("GET", "/keys")
			r.Header["Authorization"] = order
			wantProblem(t, serve(e, r), 400, "BYOK_014")
		}
	}
}

// K3: one spelling.
func TestSchemeTricks_K3(t *testing.T) {
	e := newEnv(t, nil)
	for _, v := range []string{"", "Bearer", "Bearer ", "bearer", "bearer " + tokenAcme, "BEARER " + tokenAcme, "Bearer  " + tokenAcme, "Bearer\t" + tokenAcme,
		"Bearer " + tokenAcme + " ", " Bearer " + tokenAcme, "Bearer " + tokenAcme + "," + tokenAcme, "Bearer " + tokenAcme + ", Bearer x", "Basic " + tokenAcme,
		tokenAcme, "Bearer\x00" + tokenAcme, "Bearer " + tokenAcme + "\x00", "Bearer \"" + tokenAcme + "\"", "Bearer token=" + tokenAcme, "Bearer ==",
		"Bearer é", "Bearer " + strings.Repeat("a", maxToken+1)} {
		r := httpReq("GET", "/keys")
		r.Header["Authorization"] = []string{v}
		wantProblem(t, serve(e, r), 401, "BYOK_016")
	}
	wantProblem(t, e.do("", "GET", "/keys", ""), 401, "BYOK_016")
	for _, target := range []string{"/keys?access_token=" + tokenAcme, "/keys?token=" + tokenAcme} {
		wantProblem(t, e.do("", "GET", target, ""), 401, "BYOK_016")
	}
}

// An Authenticator's error is never mistaken for an identity.
func TestAuthenticatorErrors(t *testing.T) {
	for _, c := range []struct {
		id     Identity
		err    error
		status int
		code   string
	}{
		{Identity{}, nil, 401, "BYOK_016"},
		{Identity{Tenant: "acme"}, errors.New("no session"), 401, "BYOK_016"},
		{Identity{Tenant: "acme"}, byok.ErrKeyRevoked, 401, "BYOK_016"},
		{Identity{Tenant: "acme"}, ErrUnauthenticated, 401, "BYOK_016"},
		{Identity{Tenant: "acme"}, ErrCredentials, 400, "BYOK_014"},
		{Identity{Tenant: "acme"}, fmt.Errorf("%w: db: MARKER", ErrAuthUnavailable), 503, "BYOK_012"},
		{Identity{Tenant: "acme"}, context.DeadlineExceeded, 503, "BYOK_012"},
		{Identity{Tenant: "acme"}, &Problem{Status: 403, Code: "BYOK_015"}, 403, "BYOK_015"},
	} {
		h, err := newHandler(func(string) tenant { return &fakeTenant{} }, byok.DefaultWaiver,
			AuthenticatorFunc(func(*http.Request) (Identity, error) { return c.id, c.err }), &Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w := serve(h, httpReq("GET", "/keys"))
		wantProblem(t, w, c.status, c.code)
		if strings.Contains(w.Body.String(), "MARKER") {
			t.Error(w.Body)
		}
	}
	r := httpReq("GET", "/keys")
	r.Header.Set("Authorization", "Bearer "+tokenAcme)
	not := Bearer(func(context.Context, [32]byte) (Identity, bool, error) { return Identity{Tenant: "acme"}, false, nil })
	if id, err := not.Authenticate(r); !errors.Is(err, ErrUnauthenticated) || id.Tenant != "" {
		t.Error(id, err)
	}
	down := Bearer(func(context.Context, [32]byte) (Identity, bool, error) {
		return Identity{Tenant: "acme"}, true, errors.New("db down")
	})
	limited, err := LimitFailures(down, Limit{1, time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // nobody's failure: not counted
		if _, err := limited.Authenticate(r); !errors.Is(err, ErrAuthUnavailable) {
			t.Error(err)
		}
	}
}

// K17: every route × every scope.
func TestScopes_K17(t *testing.T) {
	for i := range routes {
		rt := &routes[i]
		moves := rt.method == "POST" && rt.path == "/keys/move" // what takes a key away, and cannot be taken back
		want := map[string]bool{tokenAcme: true, tokenRead: rt.method == "GET", tokenAdmin: rt.method != "GET" && !moves, tokenMove: moves,
			tokenData: false, tokenNone: false}
		for token, allowed := range want {
			e := newEnv(t, nil)
			w := e.route(token, rt)
			if allowed {
				if w.Code >= 300 {
					t.Errorf("%s with %s: %d %s", rt, token, w.Code, w.Body)
				}
				continue
			}
			wantProblem(t, w, 403, "BYOK_015")
			if len(e.tenants["acme"].calls) != 0 {
				t.Errorf("%s with %s reached the tenant", rt, token)
			}
		}
		if rt.scope != ScopeRead && rt.scope != ScopeAdmin && rt.scope != ScopeMove {
			t.Errorf("%s has no scope", rt)
		}
	}
}

// K12: failures are limited by the peer's address, whatever headers claim. K13:
// a good token works meanwhile, and variants of a bad one share the budget.
func TestFailedAuthentication_K12_K13(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		guess := func(i int, remote string) int {
			r := httpReq("GET", "/keys")
			r.RemoteAddr = remote
			r.Header.Set("Authorization", []string{"Bearer wrong", "bearer wrong", "Bearer  wrong", "Bearer WRONG", "Basic wrong"}[i%5])
			r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.0.%d.%d", i/256, i%256))
			r.Header.Set("Forwarded", fmt.Sprintf("for=10.1.%d.%d", i/256, i%256))
			r.Header.Set("X-Real-Ip", fmt.Sprintf("10.2.%d.%d", i/256, i%256))
			return serve(e, r).Code
		}
		var got []int
		for i := range 1000 {
			got = append(got, guess(i, fmt.Sprintf("192.0.2.1:%d", 1024+i)))
		}
		if first := slices.Index(got, 429); first != 60 || slices.Contains(got[60:], 401) {
			t.Errorf("the first 429 is number %d, want 60", first)
		}
		for i := range 100 { // K13
			r := httpReq("GET", "/keys")
			r.RemoteAddr = "192.0.2.1:999"
			r.Header.Set("Authorization", "Bearer "+tokenAcme)
			if w := serve(e, r); w.Code != 200 {
				t.Fatalf("good token %d: %d %s", i, w.Code, w.Body)
			}
		}
		if c := guess(0, "192.0.2.2:1"); c != 401 {
			t.Error("another address:", c)
		}
		// One IPv6 site has 2^64 addresses.
		got = nil
		for i := range 100 {
			got = append(got, guess(i, fmt.Sprintf("[2001:db8::%x]:1", i)))
		}
		if slices.Index(got, 429) != 60 {
			t.Error("an IPv6 /64 is not one peer")
		}
		if c := guess(0, "[2001:db8:0:1::1]:1"); c != 401 {
			t.Error("another /64:", c)
		}
		time.Sleep(time.Second)
		if c := guess(0, "192.0.2.1:1"); c != 401 {
			t.Error("no token came back:", c)
		}
	})
}

// The platform can share one budget between the handler and its own.
func TestLimitFailuresIsNotDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth, err := LimitFailures(Bearer(testLookup), Limit{10, time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		h, err := newHandler(nil, byok.DefaultWaiver, auth, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			want := 401
			if i >= 5 { // each round fails once here and once there
				want = 429
			}
			if w := serve(h, httpReq("GET", "/keys")); w.Code != want {
				t.Errorf("%d: %d", i, w.Code)
			}
			if _, err := auth.Authenticate(httpReq("GET", "/")); err == nil {
				t.Error("let in")
			}
		}
	})
}

func TestPeer(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1", "[fe80::1%eth0]:1": "fe80::/64", "@": "?", "": "?", "host:1": "?",
	} {
		if got := peer(&http.Request{RemoteAddr: remote}); got != want {
			t.Errorf("%q: %q, want %q", remote, got, want)
		}
	}
}
