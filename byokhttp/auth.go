package byokhttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The scopes that routes ask for. A platform may use others for its own routes.
const (
	ScopeRead  = "byok:read"  // every GET
	ScopeAdmin = "byok:admin" // register, remove, rotate, acknowledge
	ScopeMove  = "byok:move"  // begin a move: see SECURITY.md on whom to give it to
)

// Identity is who sends a request.
type Identity struct {
	Tenant string // the organization; required: an Identity without one is nobody, 401
	Actor  string // who acts for it, for the audit log

	// Token is a stable id of the credentials, not secret: rate limits are per
	// Tenant and Token. Without one, all credentials of a tenant share its
	// buckets, and one busy script of theirs stops the others. [Bearer] makes one.
	Token string

	// Scopes, unless nil, are all that the credentials allow; no scope implies
	// another. Nil allows everything.
	Scopes []string
}

// Require returns an error, answered with 403, unless id has the scope.
func (id Identity) Require(scope string) error {
	if id.Scopes == nil || slices.Contains(id.Scopes, scope) {
		return nil
	}
	p := answers[codeForbidden]
	p.Code = codeForbidden
	return &p
}

// What an [Authenticator] can say. A *[Problem] is answered as it is, and an
// error of a context that has ended is ErrAuthUnavailable. Any other error lets
// nobody in either: it is answered as ErrUnauthenticated, 401, and as it may be a
// fault of the Authenticator's, [Options].Logger gets it as a warning. So it must
// not hold credentials.
var (
	// ErrUnauthenticated: no credentials, or none that are good. 401.
	ErrUnauthenticated = errors.New("byokhttp: not authenticated")
	// ErrCredentials: the request carries credentials more than once. 400.
	ErrCredentials = errors.New("byokhttp: ambiguous credentials")
	// ErrAuthUnavailable: it cannot be told now whether the credentials are good. 503.
	ErrAuthUnavailable = errors.New("byokhttp: credentials cannot be checked now")
)

// Authenticator finds out who sends a request. It is called once a request,
// concurrently, before anything else looks at it, and must not read its body.
//
// Return [ErrUnauthenticated] for credentials that are not there or not good, and
// [ErrAuthUnavailable], wrapped around the cause, when they could not be looked
// up: a client takes a 401 for a reason to throw its credentials away.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// AuthenticatorFunc is an Authenticator.
type AuthenticatorFunc func(*http.Request) (Identity, error)

// Authenticate implements Authenticator.
func (f AuthenticatorFunc) Authenticate(r *http.Request) (Identity, error) { return f(r) }

// maxToken bounds what is hashed for a stranger.
const maxToken = 512

// Bearer returns an Authenticator for opaque bearer tokens (RFC 6750) of which
// the platform stores nothing but the SHA-256.
//
// lookup gets the hash of the token that was presented, and says whose it is.
// A map or an index on the hash is fine: how long a look-up takes tells about
// the hash only, from which nobody gets to a token that was drawn at random
// (128 bits or more; not passwords). If there is a hash to compare with, use
// crypto/subtle. An error of lookup is answered with 503. If the Identity has
// no Token, it gets one from the hash.
//
// There must be exactly one Authorization header, and it must be "Bearer", one
// space and the token: other spellings of the scheme are refused, so that no
// proxy and no log filter in front can read the header differently.
func Bearer(lookup func(ctx context.Context, tokenSHA256 [32]byte) (Identity, bool, error)) Authenticator {
	return AuthenticatorFunc(func(r *http.Request) (Identity, error) {
		values := r.Header.Values("Authorization")
		if len(values) > 1 {
			return Identity{}, ErrCredentials
		}
		if len(values) == 0 {
			return Identity{}, ErrUnauthenticated
		}
		token, ok := strings.CutPrefix(values[0], "Bearer ")
		if !ok || !isToken(token) {
			return Identity{}, ErrUnauthenticated
		}
		hash := sha256.Sum256([]byte(token))
		id, ok, err := lookup(r.Context(), hash)
		if err != nil {
			return Identity{}, fmt.Errorf("%w: %w", ErrAuthUnavailable, err)
		}
		if !ok {
			return Identity{}, ErrUnauthenticated
		}
		if id.Token == "" {
			id.Token = hex.EncodeToString(hash[:8])
		}
		return id, nil
	})
}

// isToken reports whether s is a b64token of RFC 6750.
func isToken(s string) bool {
	s = strings.TrimRight(s, "=")
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/", c) >= 0) {
			return false
		}
	}
	return true
}

// LimitFailures bounds how often one peer address is told that its credentials
// are wrong: beyond limit the answer is 429. The zero Limit is the default of
// [Limits].
//
// Credentials that are good are never refused, whatever else came from their
// address: a limit that locks people out is a weapon. What protects tokens
// is that they are random; the limit keeps guessers slow to learn and visible.
// The address is the TCP peer's (for IPv6 its /64); X-Forwarded-For is ignored,
// since whoever guesses also writes that. Behind a proxy all failures share
// one budget, which by the above is harmless.
//
// [New] does this to its Authenticator, unless it has been done. Do it yourself
// to share one budget with the platform's own handlers. An error of auth that is
// none of this package's is then an ErrUnauthenticated that wraps it.
func LimitFailures(auth Authenticator, limit Limit) (Authenticator, error) {
	limits, err := Limits{FailedAuth: limit}.withDefaults()
	if err != nil {
		return nil, err
	}
	return &failureLimiter{auth: auth, rates: newRates(limits)}, nil
}

type failureLimiter struct {
	auth  Authenticator
	rates *rates
}

func (f *failureLimiter) Authenticate(r *http.Request) (Identity, error) {
	id, err := f.auth.Authenticate(r)
	if err == nil && id.Tenant != "" {
		return id, nil
	}
	if err == nil {
		err = ErrUnauthenticated // an Authenticator that forgot its error lets nobody in
	}
	err = authError(err)
	if errors.Is(err, ErrAuthUnavailable) {
		return Identity{}, err
	}
	if limited := f.rates.take(bucketKey{route: routeAuth, tenant: peer(r)}, f.rates.limits.FailedAuth); limited != nil {
		return Identity{}, limited
	}
	return Identity{}, err
}

// peer is who gets the blame: an address, or the /64 that one IPv6 site has.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "?"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "?"
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
