package byokhttp

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
)

// What is said, to whom: operators get the KMS call under a 5xx, and its cause
// where KMS has not spoken; clients get nothing of either.
func TestOperatorsSeeTheKMSCall(t *testing.T) {
	for class, cause := range map[byok.Class]bool{byok.ClassPlatform: true, byok.ClassOutage: true, byok.ClassThrottled: false, byok.ClassPlatformDenied: false, byok.ClassInternal: false} {
		e := newEnv(t, nil)
		ke := &byok.KeyError{Op: "GenerateDataKey", Code: "SomeCode", RequestID: "req-9", Class: class, Err: errors.New("MARKER of the cause")}
		e.tenants["acme"].err = fmt.Errorf("somewhere: %w", ke)
		w := e.do(tokenAcme, "POST", "/keys/rotate", bodies["POST /keys/rotate"])
		if w.Code < 500 || strings.Contains(w.Body.String(), "MARKER") || strings.Contains(w.Body.String(), "req-9") {
			t.Errorf("%s: %d %s", class, w.Code, w.Body)
		}
		logged := e.logs.String()
		for _, want := range []string{"kms.op=GenerateDataKey", "kms.code=SomeCode", "kms.class=" + class.String(), "kms.request_id=req-9", " code=BYOK_00"} {
			if !strings.Contains(logged, want) {
				t.Errorf("%s: no %s: %s", class, want, logged)
			}
		}
		if strings.Contains(logged, `kms.cause="MARKER of the cause"`) != cause || strings.Contains(logged, "MARKER") != cause {
			t.Errorf("%s: cause, want %v: %s", class, cause, logged)
		}
	}
	e := newEnv(t, nil)
	e.tenants["acme"].err = &byok.KeyError{Op: "Decrypt", Class: byok.ClassOutage}
	e.do(tokenAcme, "GET", "/health", "")
	if logged := e.logs.String(); !strings.Contains(logged, "kms.class=outage") || strings.Contains(logged, "cause") {
		t.Errorf("without a cause: %s", logged)
	}
}

// The reason why a key id is not accepted is for whoever typed it; no other
// cause is, and none of another code.
func TestReasonOfAKeyID_001(t *testing.T) {
	e := newEnv(t, nil)
	detail := func(err error, status int, code string) string {
		e.tenants["acme"].err = err
		return wantProblem(t, e.do(tokenAcme, "GET", "/keys", ""), status, code)["detail"].(string)
	}
	plain := detail(byok.ErrKeyID, 400, "BYOK_001")
	got := detail(fmt.Errorf("x: %w", &byok.KeyError{Class: byok.ClassKeyID, Err: errors.New("multi-Region keys are not allowed here")}), 400, "BYOK_001")
	if want := "The key is refused: multi-Region keys are not allowed here. " + plain; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = detail(&byok.KeyError{Class: byok.ClassKeyID, Err: errors.New("<\x1b[31m\n\x7f\u00e9>" + strings.Repeat("x", 300))}, 400, "BYOK_001")
	if want := "The key is refused: <?[31m????>" + strings.Repeat("x", 200-len("<?[31m????>")) + ". " + plain; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := detail(&byok.KeyError{Class: byok.ClassKeyID}, 400, "BYOK_001"); got != plain {
		t.Errorf("no reason: %q", got)
	}
	// A refusal of KMS beside ErrKeyID, and a reason beside another code.
	if got := detail(fmt.Errorf("%w: %w", byok.ErrKeyTaken, &byok.KeyError{Class: byok.ClassOutage, Err: errors.New("MARKER")}), 409, "BYOK_003"); strings.Contains(got, "MARKER") {
		t.Error(got)
	}
}

// A 429 says which limit it is, and in words what Retry-After says.
func TestRateLimitIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		for i := range routes {
			rt := &routes[i]
			l := rt.limit(&e.limits.limits)
			for range l.N {
				e.tenants["acme"].status = byok.StatusActive
				e.route(tokenAcme, rt)
			}
			e.tenants["acme"].status = byok.StatusActive
			w := e.route(tokenAcme, rt)
			retry, _ := strconv.ParseInt(w.Header().Get("Retry-After"), 10, 64)
			want := fmt.Sprintf("The rate limit of %s is reached, which is %s. Try again in %s.", rt, l, inWords(retry))
			if got := wantProblem(t, w, 429, "BYOK_017")["detail"]; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		for range 60 {
			wantProblem(t, e.do("wrong", "GET", "/keys", ""), 401, "BYOK_016")
		}
		want := "The limit of failed authentications from one address is reached, which is 60 a minute. Try again in 1 second."
		if got := wantProblem(t, e.do("wrong", "GET", "/keys", ""), 429, "BYOK_017")["detail"]; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	for s, want := range map[int64]string{1: "1 second", 59: "59 seconds", 60: "1 minute", 720: "12 minutes", 3600: "1 hour", 7322: "2 hours 2 minutes 2 seconds"} {
		if got := inWords(s); got != want {
			t.Errorf("%d: %q, want %q", s, got, want)
		}
	}
	for l, want := range map[Limit]string{{5, time.Hour}: "5 an hour", {1, time.Minute}: "1 a minute", {2, time.Second}: "2 a second", {9, 90 * time.Second}: "9 in 1 minute 30 seconds", {3, 24 * time.Hour}: "3 in 24 hours"} {
		if got := l.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What an Authenticator says that nobody knows is 401, and a warning: it may be
// broken, and then every customer is locked out. What is known is no warning.
func TestStrangeAuthenticatorErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		warn   bool
	}{
		{errors.New("no\nsession MARKER"), 401, true},
		{byok.ErrStore, 401, true},
		{ErrUnauthenticated, 401, false},
		{fmt.Errorf("expired MARKER: %w", ErrUnauthenticated), 401, false},
		{fmt.Errorf("MARKER: %w", ErrCredentials), 400, false},
		{&Problem{Status: 403, Code: "BYOK_015"}, 403, false},
		{fmt.Errorf("%w: db MARKER", ErrAuthUnavailable), 503, false}, // an error line of its own
	} {
		auth := AuthenticatorFunc(func(*http.Request) (Identity, error) { return Identity{Tenant: "acme"}, c.err })
		limited, err := LimitFailures(auth, Limit{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []Authenticator{auth, limited} {
			logs := new(strings.Builder)
			h, err := newHandler(func(string) tenant { return &fakeTenant{} }, byok.DefaultWaiver, a, &Options{Logger: slog.New(slog.NewTextHandler(logs, nil))})
			if err != nil {
				t.Fatal(err)
			}
			w := serve(h, httpReq("GET", "/keys"))
			if w.Code != c.status || strings.Contains(w.Body.String(), "MARKER") {
				t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
			}
			if got := logs.String(); strings.Contains(got, "level=WARN") != c.warn || c.warn && !strings.Contains(got, printable(c.err.Error(), 500)) {
				t.Errorf("%v: logged %q", c.err, got)
			}
		}
		// The platform's own handlers can tell, too.
		if _, err := limited.Authenticate(httpReq("GET", "/")); c.warn && (!errors.Is(err, ErrUnauthenticated) || !errors.Is(err, c.err)) {
			t.Errorf("%v came back as %v", c.err, err)
		}
	}
}

// Without a Token, one budget per tenant.
func TestIdentityWithoutToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := AuthenticatorFunc(func(r *http.Request) (Identity, error) {
			return Identity{Tenant: r.Header.Get("X-Tenant"), Actor: r.Header.Get("X-Actor")}, nil
		})
		h, err := newHandler(func(id string) tenant { return &fakeTenant{id: id} }, byok.DefaultWaiver, auth, &Options{Limits: Limits{GetKey: Limit{2, time.Hour}}})
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, who := range []string{"acme ana", "acme bob", "acme cem", "globex gus"} {
			r := httpReq("GET", "/keys")
			r.Header.Set("X-Tenant", strings.Fields(who)[0])
			r.Header.Set("X-Actor", strings.Fields(who)[1])
			got = append(got, serve(h, r).Code)
		}
		if !slices.Equal(got, []int{200, 200, 429, 200}) {
			t.Error(got)
		}
	})
}

// A parameter that cannot be right is named, instead of an answer that looks as
// if nothing had happened.
func TestAuditParametersAreNamed(t *testing.T) {
	e := newEnv(t, nil)
	for query, name := range map[string]string{
		"operation=delete": "operation", "operation=seals": "operation", "operation=Seal": "operation", "operation=": "operation",
		"cursor=": "cursor", "cursor=" + strings.Repeat("a", 1025): "cursor", "limit=0": "limit", "start=x": "start", "end=x": "end",
	} {
		p := wantProblem(t, e.do(tokenAcme, "GET", "/audit?"+query, ""), 400, "BYOK_014")
		if !strings.HasPrefix(p["detail"].(string), name+" must be ") {
			t.Errorf("%.40s: %v", query, p["detail"])
		}
	}
	if len(e.tenants["acme"].calls) != 0 {
		t.Error("the sink was asked")
	}
	e.tenants["acme"].err = fmt.Errorf("%w: MARKER", byok.ErrArgument) // from the sink
	p := wantProblem(t, e.do(tokenAcme, "GET", "/audit?cursor=forged", ""), 400, "BYOK_014")
	if got := p["detail"].(string); !strings.HasPrefix(got, "cursor must be ") || strings.Contains(got, "MARKER") {
		t.Error(got)
	}
	e.tenants["acme"].err = byok.ErrAudit
	wantProblem(t, e.do(tokenAcme, "GET", "/audit?cursor=good", ""), 503, "BYOK_012")
	e.tenants["acme"].err = context.DeadlineExceeded
	wantProblem(t, e.do(tokenAcme, "GET", "/audit?cursor=good", ""), 503, "BYOK_006")
}

// Every operation that events can have can be asked for.
func TestOpsAreComplete(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []byok.Op
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Op" {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, byok.Op(s))
		}
		return true
	})
	if len(want) < 16 || !slices.Equal(ops, want) {
		t.Errorf("got %v, want %v", ops, want)
	}
	e := newEnv(t, nil)
	for _, op := range want {
		if w := e.do(tokenAcme, "GET", "/audit?operation="+string(op), ""); w.Code != 200 {
			t.Errorf("%s: %d %s", op, w.Code, w.Body)
		}
	}
}
