package floe

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
)

// A19: what was never closed never opens, whatever was written before.
func TestWriterWithoutCloseNeverOpens(t *testing.T) {
	for _, n := range []int{0, 1, 32, 33, 64, 100} {
		var sink bytes.Buffer
		w, err := newWriter(&sink, testKey, tiny, testAAD)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, n))
		if n == 100 {
			w.Abort()
		}
		if _, err := open(nil, testKey, testAAD, sink.Bytes(), pinned(tiny)); err != ErrAuth {
			t.Errorf("%d bytes without Close: %v", n, err)
		}
	}
}

func TestWriterAfterTheEnd(t *testing.T) {
	var sink bytes.Buffer
	w, _ := newWriter(&sink, testKey, tiny, testAAD)
	w.Write([]byte("all"))
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	w.Abort() // deferred, too late to matter
	size := sink.Len()
	for _, p := range [][]byte{nil, []byte("more")} {
		if n, err := w.Write(p); n != 0 || err != ErrClosed {
			t.Errorf("write after Close: %d, %v", n, err)
		}
	}
	if err := w.Close(); err != nil || sink.Len() != size {
		t.Errorf("something was written after the end: %v", err)
	}
	got, err := open(nil, testKey, testAAD, sink.Bytes(), pinned(tiny))
	if err != nil || string(got) != "all" {
		t.Errorf("%q, %v", got, err)
	}
	w, _ = newWriter(&sink, testKey, tiny, testAAD)
	w.Abort()
	if _, err := w.Write([]byte("x")); err != ErrClosed || w.Close() != ErrClosed {
		t.Errorf("after Abort: %v", err)
	}
}

var errSink = errors.New("sink full")

// narrow takes room bytes, then fails, or just takes less without a word.
type narrow struct {
	got   []byte
	room  int
	quiet bool
}

func (s *narrow) Write(p []byte) (int, error) {
	n := min(len(p), s.room)
	s.got, s.room = append(s.got, p[:n]...), s.room-n
	if n < len(p) && !s.quiet {
		return n, errSink
	}
	return n, nil
}

// A19: a failed sink is noticed, the error stays, and even when the sink gets room
// again nothing more is written: the hole must not be papered over.
func TestWriterErrorIsSticky(t *testing.T) {
	msg := randomBytes(100)
	full := tiny.sealedSize(len(msg))
	for room := range full {
		for _, quiet := range []bool{false, true} {
			want := errSink
			if quiet {
				want = io.ErrShortWrite
			}
			sink := &narrow{room: room, quiet: quiet}
			w, err := newWriter(sink, testKey, tiny, testAAD)
			if err == nil {
				if _, err = w.Write(msg); err == nil {
					err = w.Close()
				}
				sink.room = 1000
				if n, again := w.Write(msg); n != 0 || again != want {
					t.Errorf("room %d, write again: %d, %v", room, n, again)
				}
				if again := w.Close(); again != want {
					t.Errorf("room %d, close: %v", room, again)
				}
			}
			if err != want || len(sink.got) != room {
				t.Errorf("room %d: %d bytes, %v", room, len(sink.got), err)
			}
			if _, err := open(nil, testKey, testAAD, sink.got, pinned(tiny)); err != ErrAuth {
				t.Errorf("room %d: what was written opens: %v", room, err)
			}
		}
	}
}

func TestNewWriterMistakes(t *testing.T) {
	if _, err := newWriter(io.Discard, testKey[:5], tiny, nil); err != errKeySize {
		t.Error(err)
	}
	if _, err := NewWriter(io.Discard, nil, &fixed{key: testKey}, Params{64}, nil, 1); err != errParams {
		t.Error(err)
	}
	if _, err := newReader(bytes.NewReader(mustSeal(t, params{4096, 20}, nil)), nil, testAAD, accept); err != errKeySize {
		t.Error(err)
	}
}

// A20: one Writer or Reader used by many. Which bytes go where is undefined, but
// every byte arrives once, and the race detector is content.
func TestConcurrentStreams(t *testing.T) {
	var sink bytes.Buffer
	w, err := NewWriter(&sink, nil, &fixed{key: testKey}, Params{4096}, testAAD, 2)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, 100)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := openStream(&sink, 2)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var count [256]int
	for range 8 {
		wg.Go(func() {
			got, err := released(r, 77)
			mu.Lock()
			defer mu.Unlock()
			for _, b := range got {
				count[b]++
			}
			if err != io.EOF {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		if count[i] != 10000 {
			t.Errorf("goroutine %d wrote 10000 bytes, %d arrived", i, count[i])
		}
	}
}
