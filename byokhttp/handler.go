package byokhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/byok-go/byok"
)

// DefaultProvider is what cmk_arn is an id of, unless Options says otherwise.
const DefaultProvider = "aws-kms"

// Options of a handler; nil and the zero Options are safe defaults.
type Options struct {
	// Provider is the byok.KeyID.Provider of keys that are registered: what the
	// Keyring calls itself. Defaults to DefaultProvider.
	Provider string

	// Limits are the rate limits, for this process alone. Each zero field is its
	// default. FailedAuth has no effect if the Authenticator comes from
	// LimitFailures, which has been given one.
	Limits Limits

	// Logger gets, as errors, panics and what was answered with a 5xx: of a
	// failed KMS call its operation, code, class and request id, and the cause if
	// it is no answer of KMS or our own credentials. As warnings it gets errors of
	// the Authenticator that it does not know. Defaults to slog.Default().
	Logger *slog.Logger
}

// tenant is what the handler needs of a [byok.Tenant]: authority over one
// tenant. It exists so that tests can force every error on every route.
type tenant interface {
	Register(context.Context, byok.Registration) (byok.KeyStatus, error)
	Status(context.Context) (byok.KeyStatus, error)
	DataKeys(context.Context) (byok.DataKeyCounts, error)
	Health(context.Context) (byok.Health, error)
	Revoke(ctx context.Context, reason string) (byok.KeyStatus, error)
	Rotate(context.Context, byok.Rotation) (byok.RotationResult, error)
	MoveTo(ctx context.Context, m byok.Move) (byok.Job, error)
	Job(ctx context.Context, id string) (byok.Job, error)
	CancelJob(ctx context.Context, id, reason string) (byok.Job, error)
	AcknowledgeWaiver(context.Context, byok.Acknowledgement) (byok.WaiverStatus, error)
	WaiverStatus(context.Context) (byok.WaiverStatus, error)
	Audit(context.Context, byok.AuditQuery) (byok.AuditPage, error)
}

type handler struct {
	tenant   func(id string) tenant
	waiver   func() byok.Waiver
	auth     *failureLimiter // never lets an identity without a tenant through
	provider string
	limits   *rates
	log      *slog.Logger
	panics   atomic.Int64 // only tests read it
}

// New returns the handler. Paths start at /keys: mount it with
// http.StripPrefix. [byok.Keeper.Run] should be running beside it: without it,
// events that the audit sink missed ("audited": false) reach it no sooner than
// the tenant's next change, or when its audit log is read. New fails if keeper's AuditSink is no [byok.AuditReader],
// since GET /audit needs one, and if Options make no sense.
func New(keeper *byok.Keeper, auth Authenticator, opts *Options) (http.Handler, error) {
	if keeper == nil || auth == nil {
		return nil, fmt.Errorf("%w: byokhttp: a Keeper and an Authenticator are required", byok.ErrArgument)
	}
	if !keeper.HasAuditReader() {
		return nil, fmt.Errorf("%w: byokhttp: GET /audit needs an AuditSink that is an AuditReader too", byok.ErrArgument)
	}
	return newHandler(func(id string) tenant { return keeper.Tenant(id) }, keeper.Waiver, auth, opts)
}

func newHandler(t func(string) tenant, waiver func() byok.Waiver, auth Authenticator, opts *Options) (*handler, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Provider == "" {
		o.Provider = DefaultProvider
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	limits, err := o.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	limited, ok := auth.(*failureLimiter)
	if !ok {
		limited = &failureLimiter{auth: auth, rates: newRates(limits)}
	}
	return &handler{
		tenant: t, waiver: waiver, auth: limited, provider: o.Provider,
		limits: newRates(limits), log: o.Logger,
	}, nil
}

// call is one authenticated request.
type call struct {
	*http.Request
	id     Identity
	tenant tenant
	route  *route
	param  string    // what stands for {id} in the path
	key    bucketKey // of its rate limit
}

// route is one line of the contract. Tests walk the table, so that a new route
// without tests fails.
type route struct {
	method, path string // a path may end with /{id}, which is 32 of [0-9a-f]
	scope        string
	limit        func(*Limits) Limit
	ownCount     bool     // serve counts by itself
	query        []string // parameters that may be given, each once
	serve        func(*handler, *call) (status int, body any, err error)
}

var routes = []route{
	{method: "POST", path: "/keys", scope: ScopeAdmin, limit: func(l *Limits) Limit { return l.RegisterKey }, ownCount: true, serve: (*handler).registerKey},
	{method: "GET", path: "/keys", scope: ScopeRead, limit: func(l *Limits) Limit { return l.GetKey }, serve: (*handler).getKey},
	{method: "GET", path: "/keys/data-keys", scope: ScopeRead, limit: func(l *Limits) Limit { return l.DataKeys }, serve: (*handler).dataKeys},
	{method: "DELETE", path: "/keys", scope: ScopeAdmin, limit: func(l *Limits) Limit { return l.DeleteKey }, ownCount: true, serve: (*handler).deleteKey},
	{method: "POST", path: "/keys/rotate", scope: ScopeAdmin, limit: func(l *Limits) Limit { return l.Rotate }, ownCount: true, serve: (*handler).rotate},
	{method: "GET", path: "/keys/rotate/{id}", scope: ScopeRead, limit: func(l *Limits) Limit { return l.GetJob }, serve: (*handler).getJob},
	{method: "DELETE", path: "/keys/rotate/{id}", scope: ScopeAdmin, limit: func(l *Limits) Limit { return l.Rotate }, serve: (*handler).cancelJob},
	{method: "POST", path: "/keys/move", scope: ScopeMove, limit: func(l *Limits) Limit { return l.Move }, ownCount: true, serve: (*handler).moveKey},
	{method: "GET", path: "/keys/move/{id}", scope: ScopeRead, limit: func(l *Limits) Limit { return l.GetJob }, serve: (*handler).getJob},
	{method: "DELETE", path: "/keys/move/{id}", scope: ScopeAdmin, limit: func(l *Limits) Limit { return l.Rotate }, serve: (*handler).cancelJob},
	{method: "GET", path: "/health", scope: ScopeRead, limit: func(l *Limits) Limit { return l.Health }, serve: (*handler).health},
	{method: "GET", path: "/audit", scope: ScopeRead, limit: func(l *Limits) Limit { return l.Audit }, query: []string{"limit", "cursor", "start", "end", "operation"}, serve: (*handler).audit},
	{method: "GET", path: "/legal-waiver", scope: ScopeRead, limit: func(l *Limits) Limit { return l.Waiver }, serve: (*handler).getWaiver},
	{method: "POST", path: "/legal-waiver/acknowledge", scope: ScopeAdmin, limit: func(l *Limits) Limit { return l.Waiver }, ownCount: true, serve: (*handler).acknowledge},
	{method: "GET", path: "/legal-waiver/status", scope: ScopeRead, limit: func(l *Limits) Limit { return l.Waiver }, serve: (*handler).waiverStatus},
}

// find matches paths byte by byte, and only as they were sent: "/keys%2frotate",
// "/keys/../keys" and "/keys/" are no routes, and nothing is redirected.
func find(r *http.Request) (*route, string, error) {
	var allow []string
	if r.URL.RawPath == "" {
		for i := range routes {
			rt := &routes[i]
			param, ok := rt.matches(r.URL.Path)
			if !ok {
				continue
			}
			if rt.method == r.Method || rt.method == http.MethodGet && r.Method == http.MethodHead {
				return rt, param, nil
			}
			allow = append(allow, rt.method)
			if rt.method == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
		}
	}
	if allow == nil {
		return nil, "", &Problem{Status: http.StatusNotFound, Code: codeRequest, Detail: "There is no such endpoint."}
	}
	slices.Sort(allow)
	return nil, "", &Problem{Status: http.StatusMethodNotAllowed, Code: codeRequest, Detail: "The endpoint does not have this method.", allow: strings.Join(allow, ", ")}
}

// matches reports whether the route has the path, and what stands in it for {id}.
func (rt *route) matches(path string) (param string, ok bool) {
	base, id := strings.CutSuffix(rt.path, "{id}")
	if !id {
		return "", rt.path == path
	}
	if param, ok = strings.CutPrefix(path, base); !ok || len(param) != 32 || strings.Trim(param, "0123456789abcdef") != "" {
		return "", false
	}
	return param, true
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w)
	status, body, err := h.run(r)
	if err == nil {
		err = writeJSON(w, status, body)
	}
	if err == nil {
		return
	}
	p := ProblemOf(err)
	if p.Status >= 500 {
		// err may quote a database or KMS. It is for the operator's log only.
		attrs := []slog.Attr{slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("code", p.Code), slog.Any("error", err)}
		h.log.LogAttrs(r.Context(), slog.LevelError, "byokhttp: request failed", append(attrs, kmsAttrs(err)...)...)
	}
	p.write(w)
}

// run does everything but write. A panic anywhere in it becomes BYOK_007.
func (h *handler) run(r *http.Request) (status int, body any, err error) {
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler {
				panic(v)
			}
			h.panics.Add(1)
			// The type, not the value: nobody knows what a value holds.
			h.log.LogAttrs(r.Context(), slog.LevelError, "byokhttp: panic", slog.String("type", fmt.Sprintf("%T", v)), slog.String("stack", string(debug.Stack())))
			status, body, err = 0, nil, byok.ErrInternal
		}
	}()
	rt, param, err := find(r)
	if err != nil {
		return 0, nil, err
	}
	id, err := h.auth.Authenticate(r)
	if err != nil {
		var strange *strangeError
		if errors.As(err, &strange) {
			h.log.LogAttrs(r.Context(), slog.LevelWarn, "byokhttp: the Authenticator failed in a way that is not known: answered as not authenticated",
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("error", printable(strange.cause.Error(), 500)))
		}
		return 0, nil, err
	}
	if err := id.Require(rt.scope); err != nil {
		return 0, nil, err
	}
	c := &call{
		Request: r.WithContext(byok.WithActor(r.Context(), id.Actor)), id: id,
		tenant: h.tenant(id.Tenant), route: rt, param: param,
		key: bucketKey{rt.method + " " + rt.path, id.Tenant, id.Token},
	}
	if err := checkQuery(r, rt.query); err != nil {
		return 0, nil, err
	}
	if !rt.ownCount {
		if err := h.count(c); err != nil {
			return 0, nil, err
		}
	}
	return rt.serve(h, c)
}

// count takes one request from the caller's budget. Routes with a body do it
// themselves once the body has been read: what costs neither KMS nor the Store
// anything, such as a typing error, is not counted.
func (h *handler) count(c *call) error {
	return h.limits.take(c.key, c.route.limit(&h.limits.limits))
}

// authError maps what an Authenticator may say. What it does not know is no
// identity: 401.
func authError(err error) error {
	var p *Problem
	switch {
	case errors.As(err, &p), errors.Is(err, ErrAuthUnavailable), errors.Is(err, ErrCredentials):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrAuthUnavailable, err)
	}
	if errors.Is(err, ErrUnauthenticated) {
		return ErrUnauthenticated
	}
	return &strangeError{err}
}

// strangeError is an ErrUnauthenticated for a reason that only the Authenticator
// understands.
type strangeError struct{ cause error }

func (e *strangeError) Error() string   { return ErrUnauthenticated.Error() + ": " + e.cause.Error() }
func (e *strangeError) Unwrap() []error { return []error{ErrUnauthenticated, e.cause} }

// kmsAttrs is the KMS call that an error comes from, for the operator's log. The
// cause is there where operators have to act and KMS has not spoken: what KMS
// wrote names principals and keys of others, and is in the customer's CloudTrail.
func kmsAttrs(err error) []slog.Attr {
	var ke *byok.KeyError
	if !errors.As(err, &ke) {
		return nil
	}
	group := []any{slog.String("op", ke.Op), slog.String("code", ke.Code), slog.String("class", ke.Class.String()), slog.String("request_id", ke.RequestID)}
	if ke.Err != nil && (ke.Class == byok.ClassPlatform || ke.Class == byok.ClassOutage) {
		group = append(group, slog.String("cause", ke.Err.Error()))
	}
	return []slog.Attr{slog.Group("kms", group...)}
}
