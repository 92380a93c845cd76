package byokhttp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/byok-go/byok"
)

// Codes beside those of [byok.Code].
const (
	codeRequest         = "BYOK_014" // of byok.ErrArgument: the request can never work
	codeForbidden       = "BYOK_015"
	codeUnauthenticated = "BYOK_016"
	codeRateLimited     = "BYOK_017"
)

// typeBase makes the type of a problem: README.md has an anchor for each code.
const typeBase = "https://github.com/byok-go/byok#"

// Problem is an RFC 9457 problem, and the error with which a handler asks for it.
// Its texts go to the client as they are.
type Problem struct {
	Type   string // a URI; "" is "about:blank"
	Title  string // "" is the text of Status
	Status int
	Detail string
	Code   string

	retryAfter time.Duration
	allow      string
	challenge  string
}

// Error implements error.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// answers is what each code says to a client: fixed text, whatever the error
// says to operators. Before that of BYOK_001 goes the driver's reason.
var answers = map[string]Problem{
	"BYOK_001": {Status: 400, Title: "Not an acceptable key ARN", Detail: "cmk_arn must be the full ARN of a symmetric encryption key in AWS KMS, in a partition and region that this service accepts: arn:aws:kms:<region>:<account>:key/<id>. Aliases and bare key ids are refused."},
	"BYOK_002": {Status: 403, Title: "Access to the key is denied", Detail: "KMS denies this service the use of the CMK. Check that it is enabled and not pending deletion, and that its key policy lets this service in."},
	"BYOK_003": {Status: 409, Title: "A key is registered already", Detail: "The organization has a key already, or this CMK is in use."},
	"BYOK_004": {Status: 400, Title: "The legal waiver is not acknowledged", Detail: "The current legal waiver must be acknowledged first."},
	"BYOK_005": {Status: 404, Title: "No key is registered", Detail: "The organization has not registered a CMK."},
	"BYOK_006": {Status: 503, Title: "The key is unavailable", Detail: "KMS did not give a usable answer. Try again later.", retryAfter: 5 * time.Second},
	"BYOK_007": {Status: 500, Title: "Encryption failed", Detail: "An internal error occurred. Nothing was returned or stored."},
	"BYOK_008": {Status: 422, Title: "Cannot be opened", Detail: "This is not something that the organization's key sealed with this context."},
	"BYOK_009": {Status: 409, Title: "Existing data is under another CMK", Detail: "Data of the organization is wrapped by another CMK. Move it to this one with POST /keys/move, or set abandon_existing_data to true to give up opening that data."},
	"BYOK_010": {Status: 403, Title: "The key is removed or suspended", Detail: "The organization removed its key, or the platform suspended the organization."},
	"BYOK_011": {Status: 403, Title: "The key policy is not bound to the organization", Detail: "The CMK's policy would let this service in on behalf of other organizations too. Require kms:EncryptionContext:tenant_id and kms:EncryptionContext:service in its condition."},
	"BYOK_012": {Status: 503, Title: "Temporarily unavailable", Detail: "The service cannot read or write its own records now. Nothing was returned. Try again later.", retryAfter: 5 * time.Second},
	"BYOK_013": {Status: 503, Title: "Took effect, not audited yet", Detail: "The change has taken effect, but the audit log does not have its event yet; it will get it by itself.", retryAfter: 5 * time.Second},
	"BYOK_014": {Status: 400, Title: "Bad request", Detail: "A value of the request is not acceptable."},
	"BYOK_015": {Status: 403, Title: "Forbidden", Detail: "The credentials do not allow this operation."},
	"BYOK_016": {Status: 401, Title: "Not authenticated", Detail: "Valid credentials are required.", challenge: `Bearer realm="byok"`},
	"BYOK_017": {Status: 429, Title: "Too many requests", Detail: "The rate limit is reached. Try again later."},
	"BYOK_018": {Status: 409, Title: "A job is under way", Detail: "A full rotation or a move of the organization's data keys is under way. Wait for it, or cancel it."},
	"BYOK_019": {Status: 404, Title: "No such job", Detail: "The organization has no rotation, move or re-sealing with this id."},
}

// Error answers r with the problem that err stands for: the errors of package
// byok by their [byok.Code], those of this package, and a *Problem as it is.
// Anything else is 500 BYOK_007. The client gets fixed text and nothing of err
// (but for the reason why a Keyring does not take a key id), so log err where
// you call it. A nil err is answered as an internal error.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	setHeaders(w)
	ProblemOf(err).write(w)
}

// ProblemOf returns what [Error] answers for err: its Status tells what is worth
// a log line.
func ProblemOf(err error) *Problem {
	var own *Problem
	if errors.As(err, &own) {
		return own.complete()
	}
	code := byok.Code(err)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		code = codeUnauthenticated
	case errors.Is(err, ErrCredentials):
		return (&Problem{Status: 400, Code: codeRequest, Detail: "Exactly one Authorization header is accepted."}).complete()
	case errors.Is(err, ErrAuthUnavailable):
		code = "BYOK_012"
	case err == nil:
		code = "BYOK_007"
	case code == "BYOK_007" && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		code = "BYOK_006" // nobody gave an answer in the time that there was
	}
	p := answers[code]
	p.Code = code
	var ke *byok.KeyError
	if errors.As(err, &ke) {
		if p.retryAfter > 0 && ke.RetryAfter > 0 {
			p.retryAfter = min(ke.RetryAfter, 5*time.Minute)
		}
		if code == "BYOK_001" && ke.Class == byok.ClassKeyID && ke.Err != nil {
			// The driver's own words about the identifier, before anything was sent:
			// the one cause that is for the client too.
			p.Detail = "The key is refused: " + printable(ke.Err.Error(), 200) + ". " + p.Detail
		}
	}
	return p.complete()
}

// printable makes a text harmless to terminals, logs and pages, and cuts it.
func printable(s string, limit int) string {
	b := []byte(s[:min(len(s), limit)])
	for i, c := range b {
		if c < 0x20 || c > 0x7e {
			b[i] = '?'
		}
	}
	return string(b)
}

// complete fills in what follows from the code and the status.
func (p *Problem) complete() *Problem {
	c := *p
	known, ok := answers[c.Code]
	if c.Title == "" && ok && known.Status == c.Status {
		c.Title = known.Title
	}
	if c.Title == "" {
		c.Title = http.StatusText(c.Status)
	}
	if c.Type == "" {
		c.Type = "about:blank"
		if ok {
			c.Type = typeBase + asciiLower(c.Code)
		}
	}
	return &c
}

func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(seconds(p.retryAfter), 10))
	}
	if p.Status == http.StatusRequestEntityTooLarge {
		h.Set("Connection", "close") // do not read on to find the next request
	}
	h.Set("Content-Type", "application/problem+json")
	body, _ := json.Marshal(struct { // strings and an int cannot fail
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
		Code   string `json:"code"`
	}{p.Type, p.Title, p.Status, p.Detail, p.Code})
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// seconds rounds up, to 1 at least: a client that waits this long is let in.
func seconds(d time.Duration) int64 {
	return max(1, int64((d+time.Second-1)/time.Second))
}

// setHeaders sets what every answer carries. There are no CORS headers: a
// page of another origin cannot read any of it.
func setHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// writeJSON marshals before it writes, so that an error can still be answered.
func writeJSON(w http.ResponseWriter, status int, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return errors.Join(byok.ErrInternal, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
	return nil
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
