package kmsfake

import (
	"net"
	"net/http"
	"time"
)

// write sends an answer, with the faults that only a connection can have.
func (a *answer) write(w http.ResponseWriter, req *http.Request, status int, body []byte) {
	switch {
	case a.truncated:
		if len(body) == 0 {
			reset(w) // there is nothing to cut in two
		}
		begin(w, a.requestID, status, len(body))
		w.Write(body[:len(body)/2])
		flush(w)
		panic(http.ErrAbortHandler)
	case a.body > 0:
		// Not at once: a client whose answer begins while it is still writing the
		// request gives the connection up.
		if wait(req.Context(), a.body/8) != nil {
			panic(http.ErrAbortHandler)
		}
		begin(w, a.requestID, status, len(body))
		trickle(w, req, body, a.body-a.body/8)
	default:
		respond(w, a.requestID, status, body)
	}
}

// trickle writes a body byte by byte, over a time. For a fast one it writes
// several bytes at once, rather than fall behind.
func trickle(w http.ResponseWriter, req *http.Request, body []byte, over time.Duration) {
	const tick = time.Millisecond
	flush(w)
	if len(body) == 0 {
		wait(req.Context(), over)
		return
	}
	step := 1
	if pause := over / time.Duration(len(body)); pause < tick {
		step = min(len(body), int(tick/max(pause, 1))+1)
	}
	pause := over * time.Duration(step) / time.Duration(len(body))
	for len(body) > 0 {
		if wait(req.Context(), pause) != nil {
			panic(http.ErrAbortHandler)
		}
		n := min(step, len(body))
		w.Write(body[:n])
		flush(w)
		body = body[n:]
	}
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// reset ends the connection with a reset instead of an answer. It does not return.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) // what is not sent is dropped, and the other side told so
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}
