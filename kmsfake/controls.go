package kmsfake

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// controlsPath is below which Handler has the controls, if it has them.
const controlsPath = "/_kmsfake/"

// maxControl bounds the body of a control; an identity policy is the largest.
const maxControl = 256 << 10

// control does one thing. The result becomes JSON; nil is 204 No Content.
type control func(f *KMS, req *http.Request, body []byte) (result any, err error)

// newControls routes the controls, and lets nobody in who should not be.
func newControls(f *KMS) http.Handler {
	mux := http.NewServeMux()
	for _, r := range controlRoutes {
		mux.HandleFunc(r.method+" "+controlsPath+r.path, func(w http.ResponseWriter, req *http.Request) {
			body, err := controlBody(w, req, r.body)
			var result any
			if err == nil {
				result, err = r.do(f, req, body)
			}
			answerControl(w, result, err)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := fromThisMachine(req); err != nil {
			answerControl(w, nil, err)
			return
		}
		if h, pattern := mux.Handler(req); pattern == "" {
			// The mux's own words are text; those of the controls are JSON.
			rec := &statusOnly{header: http.Header{}}
			h.ServeHTTP(rec, req)
			if allow := rec.header.Get("Allow"); allow != "" {
				w.Header().Set("Allow", allow)
			}
			answerControl(w, nil, &controlError{max(rec.status, http.StatusNotFound), "GET " + controlsPath + " lists what there is"})
			return
		}
		mux.ServeHTTP(w, req)
	})
}

// statusOnly is a ResponseWriter that forgets the body.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }

// controlError is a refusal with a status other than 400.
type controlError struct {
	status int
	says   string
}

func (e *controlError) Error() string { return e.says }

// fromThisMachine refuses other machines, whatever Host they say, and what a web page
// in somebody's browser could send: the controls ask for no credentials, and a page
// can reach whatever its browser can. Host must be local, so that a name which was
// made to point here is not enough (DNS rebinding); and browsers add Origin or
// Sec-Fetch-Site to what pages send.
func fromThisMachine(req *http.Request) error {
	// A peer without an IP address came through a socket of this machine's.
	if peer, err := netip.ParseAddrPort(req.RemoteAddr); err == nil && !peer.Addr().Unmap().IsLoopback() {
		return &controlError{http.StatusForbidden, "the controls are for this machine, not for " + peer.Addr().String()}
	}
	if !isLoopback(req.Host) {
		return &controlError{http.StatusForbidden, "the controls are for localhost and loopback addresses, not for Host " + strconv.Quote(req.Host)}
	}
	if site := req.Header.Get("Sec-Fetch-Site"); req.Header.Get("Origin") != "" || site != "" && site != "none" {
		return &controlError{http.StatusForbidden, "the controls are not for web pages"}
	}
	return nil
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// controlBody reads the body, which must say that it is JSON: a form of another
// site's page cannot say so.
func controlBody(w http.ResponseWriter, req *http.Request, wanted bool) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxControl))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &controlError{http.StatusRequestEntityTooLarge, "the body is larger than " + strconv.Itoa(maxControl) + " bytes"}
	case err != nil:
		return nil, errors.New("the body could not be read")
	case !wanted && len(body) > 0:
		return nil, errors.New("this control takes no body")
	case !wanted:
		return nil, nil
	}
	if t, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, &controlError{http.StatusUnsupportedMediaType, "the Content-Type must be application/json"}
	}
	return body, nil
}

func answerControl(w http.ResponseWriter, result any, err error) {
	status := http.StatusOK
	if err != nil {
		status, result = http.StatusBadRequest, map[string]string{"error": err.Error()}
		var e *controlError
		if errors.As(err, &e) {
			status = e.status
		}
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if text, ok := result.(plainText); ok {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, string(text))
		return
	}
	if result == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	data := indented(result)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	w.Write(data)
}
