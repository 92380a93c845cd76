package kmsfake

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxBody is far above the largest request that KMS accepts (a policy of 128 KiB).
const maxBody = 1 << 20

const targetPrefix = "TrentService."

// Handler speaks KMS's wire protocol, AWS JSON 1.1, for every account and
// Region: POST / with X-Amz-Target: TrentService.<Operation>. The caller is
// whom RegisterAccessKey says the access key id in the Authorization header
// belongs to; an unregistered id of 12 digits is that account's root, any other
// the root of account 000000000000. The credential scope gives the Region.
func (f *KMS) Handler() http.Handler { return http.HandlerFunc(f.serve) }

func (f *KMS) serve(w http.ResponseWriter, req *http.Request) {
	if f.controls != nil && strings.HasPrefix(req.URL.Path, controlsPath) {
		f.controls.ServeHTTP(w, req)
		return
	}
	if req.URL.Path != "/" || req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "kmsfake: POST / with X-Amz-Target", http.StatusMethodNotAllowed)
		return
	}
	if f.unreachable() {
		// Also for requests that would not get as far as an operation.
		f.abort(req)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			f.refuse(w, req, &apiError{code: "RequestEntityTooLargeException",
				msg: "The request body is too large."})
			return
		}
		f.refuse(w, req, fail("SerializationException", "The request body could not be read."))
		return
	}
	from, err := f.authenticate(req, body)
	if err == nil {
		var op *operation
		var in any
		if op, in, err = parseRequest(req.Header.Get("X-Amz-Target"), body); err == nil {
			f.answer(w, req, from, op, in)
			return
		}
	}
	f.refuse(w, req, err.(*apiError))
}

// answer runs a well-formed, authenticated request.
func (f *KMS) answer(w http.ResponseWriter, req *http.Request, from caller, op *operation, in any) {
	a := f.do(req.Context(), from, op, in)
	var refused *apiError
	switch {
	case errors.Is(a.err, errReset):
		reset(w)
	case a.err == nil:
		a.write(w, req, http.StatusOK, encodeOutput(a.out))
	case errors.As(a.err, &refused):
		a.write(w, req, refused.httpStatus(), refused.body())
	default: // an outage, or the caller hung up
		panic(http.ErrAbortHandler)
	}
}

func (f *KMS) unreachable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.outages > 0
}

// abort closes the connection without an answer, having logged what call it was
// if the request says so.
func (f *KMS) abort(req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody))
	if err == nil {
		if op, in, err := parseRequest(req.Header.Get("X-Amz-Target"), body); err == nil {
			if from, err := f.authenticate(req, body); err == nil {
				f.do(req.Context(), from, op, in)
			}
		}
	}
	panic(http.ErrAbortHandler)
}

// parseRequest finds the operation and decodes its input. Its errors are
// *apiError. The names of the JSON members are those of the SDK's fields.
func parseRequest(target string, body []byte) (op *operation, in any, err error) {
	name, ours := strings.CutPrefix(target, targetPrefix)
	op = operations[name]
	switch {
	case ours && unsupported[name]:
		return nil, nil, fail("UnsupportedOperationException", "kmsfake does not support %s.", name)
	case !ours || op == nil:
		return nil, nil, &apiError{code: "UnknownOperationException", silent: true}
	}
	in = op.input()
	if len(body) == 0 {
		return op, in, nil
	}
	if !utf8.Valid(body) {
		// encoding/json would replace the bytes, and two different encryption
		// contexts would become the same.
		return nil, nil, fail("SerializationException", "The request is not valid UTF-8.")
	}
	if err := decodeInput(body, in); err != nil {
		return nil, nil, fail("SerializationException", "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return op, in, nil
}

// refuse answers a request that did not become a call.
func (f *KMS) refuse(w http.ResponseWriter, req *http.Request, e *apiError) {
	id := newUUID()
	call := Call{Time: f.now(), RequestID: id, Code: e.code, Message: e.msg}
	if name := strings.TrimPrefix(req.Header.Get("X-Amz-Target"), targetPrefix); operations[name] != nil || unsupported[name] {
		call.Operation = name
	}
	f.onCall(call)
	respond(w, id, e.httpStatus(), e.body())
}

// body is an error as KMS writes it, down to its one quirk: AccessDenied's text
// is in "Message", everybody else's in "message".
func (e *apiError) body() []byte {
	body := map[string]string{"__type": e.code}
	member := "message"
	if e.code == "AccessDeniedException" {
		member = "Message"
	}
	if !e.silent {
		body[member] = e.msg
	}
	data, err := json.Marshal(body)
	if err != nil {
		panic("kmsfake: internal error: " + err.Error()) // strings always marshal
	}
	return data
}

func respond(w http.ResponseWriter, requestID string, status int, body []byte) {
	begin(w, requestID, status, len(body))
	w.Write(body)
}

func begin(w http.ResponseWriter, requestID string, status, length int) {
	h := w.Header()
	h.Set("X-Amzn-Requestid", requestID)
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate, private")
	h.Set("Content-Type", "application/x-amz-json-1.1")
	h.Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(status)
}
