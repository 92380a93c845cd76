package dynamofake

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"
)

// Fault is what goes wrong with one request.
type Fault uint8

// The faults. What "before" and "after" say is whether the request was done.
const (
	NoFault    Fault = iota
	Throughput       // ProvisionedThroughputExceededException
	Throttled        // ThrottlingException
	Limited          // RequestLimitExceeded
	Conflict         // a transaction is cancelled for TransactionConflict; else as Throttled
	Squeezed         // a transaction is cancelled for ThrottlingError; else as Throttled
	FailBefore       // 500 InternalServerError
	FailAfter
	Unavailable // 503, before
	LoseBefore  // no answer: the connection breaks
	LoseAfter
	Late    // the connection breaks, and then the request is done
	Torn    // done, and half of the answer arrives
	Damaged // done, and the answer has another checksum
	Partial // of what was asked for one part is answered, and the rest left out; else none
	Hang    // nothing, until ctx is done
	HangAfter
	faultsEnd
)

// Faults is how many there are, NoFault included.
const Faults = int(faultsEnd)

// errBroken is what a transport says.
var errBroken = errors.New("dynamofake: connection reset by peer")

func (db *DB) faulty(r *http.Request, op string, body []byte, f Fault) (*http.Response, error) {
	refuse := func(status int, code string, reasons ...reason) (*http.Response, error) {
		e := &apiError{status: status, code: code, message: "not now", reasons: reasons}
		return db.response(r, status, e.body()), nil
	}
	transaction := op == "TransactWriteItems" || op == "TransactGetItems"
	switch f {
	case Throughput:
		return refuse(400, "ProvisionedThroughputExceededException")
	case Conflict, Squeezed:
		if transaction {
			code := "TransactionConflict"
			if f == Squeezed {
				code = "ThrottlingError"
			}
			return refuse(400, "TransactionCanceledException", reason{Code: "None"}, reason{Code: code, Message: "not now"})
		}
		return refuse(400, "ThrottlingException")
	case Throttled:
		return refuse(400, "ThrottlingException")
	case Limited:
		return refuse(400, "RequestLimitExceeded")
	case FailBefore:
		return refuse(500, "InternalServerError")
	case Unavailable:
		return refuse(503, "ServiceUnavailable")
	case LoseBefore:
		return nil, errBroken
	case Hang:
		return nil, wait(r.Context())
	case Late:
		db.late.Add(1)
		go func() {
			defer db.late.Done()
			time.Sleep(2 * time.Millisecond)
			_, _ = db.do(op, body)
		}()
		return nil, errBroken
	case Partial:
		body = bytes.Replace(body, []byte(`"RequestItems":`), []byte(`"dynamofake":true,"RequestItems":`), 1)
	}
	resp := db.answer(r, op, body)
	switch f {
	case FailAfter:
		return refuse(500, "InternalServerError")
	case LoseAfter:
		return nil, errBroken
	case HangAfter:
		return nil, wait(r.Context())
	case Torn:
		whole, _ := io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), broken{}))
	case Damaged:
		resp.Header.Set("X-Amz-Crc32", "1")
	}
	return resp, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
