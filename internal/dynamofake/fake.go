package dynamofake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Options of a DB.
type Options struct {
	// Choose, if not nil, says what goes wrong with a request; op is "Query", and so on.
	Choose func(op string, body []byte) Fault
	// Watch, if not nil, sees each request before anything is done.
	Watch func(op string, body []byte)
	// PageSize is how many bytes end an answer. Defaults to 1 MiB.
	PageSize int
}

// DB is a DynamoDB. It is safe for concurrent use if its Options are.
type DB struct {
	opts     Options
	requests atomic.Int64
	late     sync.WaitGroup // writes that are made after their request failed

	mu     sync.Mutex
	tables map[string]*table
	tokens map[string]*token
}

// New returns an empty one. o may be nil.
func New(o *Options) *DB {
	db := &DB{tables: map[string]*table{}, tokens: map[string]*token{}}
	if o != nil {
		db.opts = *o
	}
	if db.opts.PageSize == 0 {
		db.opts.PageSize = 1 << 20
	}
	return db
}

// Settle waits for the writes that are still to be made of requests that failed.
func (db *DB) Settle() { db.late.Wait() }

// apiError is an error answer.
type apiError struct {
	status  int
	code    string
	message string
	reasons []reason
}

type reason struct {
	Code    string
	Message string `json:",omitempty"`
}

func (e *apiError) Error() string { return e.code }

func (e *apiError) body() []byte {
	body := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + e.code}
	if e.reasons != nil {
		body["Message"], body["CancellationReasons"] = e.message, e.reasons
	} else {
		body["message"] = e.message
	}
	b, _ := json.Marshal(body)
	return b
}

func validation(format string, args ...any) *apiError {
	return &apiError{status: 400, code: "ValidationException", message: fmt.Sprintf(format, args...)}
}

// unsupported is what DynamoDB can do and this cannot.
func unsupported(what string) *apiError {
	return &apiError{status: 501, code: "NotInDynamofake", message: what}
}

const target = "DynamoDB_20120810."

// RoundTrip implements http.RoundTripper.
func (db *DB) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return nil, err
	}
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	if !ok || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-amz-json-1.0" {
		return nil, errors.New("dynamofake: not a request of its protocol")
	}
	if db.opts.Watch != nil {
		db.opts.Watch(op, body)
	}
	fault := NoFault
	if db.opts.Choose != nil {
		fault = db.opts.Choose(op, body)
	}
	return db.faulty(r, op, body, fault)
}

// answer does a request and returns its answer.
func (db *DB) answer(r *http.Request, op string, body []byte) *http.Response {
	status, out := http.StatusOK, []byte(nil)
	result, err := db.do(op, body)
	if err != nil {
		status, out = err.status, err.body()
	} else {
		out, _ = json.Marshal(result)
	}
	return db.response(r, status, out)
}

func (db *DB) response(r *http.Request, status int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{
			"Content-Type":     {"application/x-amz-json-1.0"},
			"X-Amzn-Requestid": {fmt.Sprintf("FAKE%d", db.requests.Add(1))},
			"X-Amz-Crc32":      {strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10)},
		},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
}

func (db *DB) do(op string, body []byte) (any, *apiError) {
	switch op {
	case "CreateTable":
		return run(body, db.createTable)
	case "DescribeTable":
		return run(body, db.describeTable)
	case "TransactWriteItems":
		return run(body, db.transactWrite)
	case "TransactGetItems":
		return run(body, db.transactGet)
	case "Query":
		return run(body, db.query)
	case "BatchGetItem":
		return run(body, db.batchGet)
	}
	return nil, unsupported("the operation " + op)
}

// run decodes a request. Members that it does not know are refused: to ignore
// one would be to do something else than was asked.
func run[In any](body []byte, f func(*In) (any, *apiError)) (any, *apiError) {
	in := new(In)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return nil, unsupported(err.Error())
	}
	return f(in)
}

// wait returns when ctx is done.
func wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// ServeHTTP implements http.Handler, for tests that want a network between.
// What breaks the connection of a RoundTrip breaks this one.
func (db *DB) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp, err := db.RoundTrip(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}
