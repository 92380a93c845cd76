package floe

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// chunk is a few neighbouring segments on their way through a stream, and the memory that a
// worker has for them. What a worker reads, it seals or opens and writes too: so it stays in
// one core's cache, and costs no transfer to another's.
type chunk struct {
	room   []byte // for what is read: plaintext that will be sealed, or sealed segments
	result []byte // for what is made of it
	used   int    // so much of result, since it was cleared; of a ReaderAt

	in    []byte // what is to be sealed or opened: in room, or the caller's
	out   []byte // what came of it
	n     int    // segments
	pos   uint64 // of the first
	final bool   // the last of them claims to be the message's last, or shall be
	good  int    // how many opened, from the first on
	cut   error  // why nothing can follow
	err   error  // why there is no out
}

// grow makes room for n segments, and for what comes of them. It starts small: most messages are.
func (c *chunk) grow(room, result int) {
	if len(c.room) < room {
		clear(c.room)
		c.room = make([]byte, room)
	}
	if len(c.result) < result {
		clear(c.result)
		c.result = make([]byte, result)
	}
}

// relay moves a stream through its workers, one goroutine for each chunk in chunks, of which
// the caller's is the first. A worker takes a chunk, works on it, and gives it out, and begins
// anew. take and give are called in the order of the stream, by one worker at a time; work beside
// them. What was taken is given, also after something else has failed: give decides what
// becomes of it. Nothing is taken any more once take or give has returned false.
//
// Workers never wait at a barrier, and all have ended when relay returns. So it waits for a take that
// is under way when a give fails, which is what io.Copy would be waiting for. A panic of
// any of them comes out of relay, and nothing is given after it.
func relay(chunks []*chunk, take func(*chunk) bool, work func(*chunk), give func(*chunk) bool) {
	r := &baton{chunks: chunks, take: take, work: work, give: give, turns: make([]turn, len(chunks))}
	for i := range r.turns {
		r.turns[i] = turn{make(chan struct{}, 1), make(chan struct{}, 1)}
	}
	r.turns[0].give <- struct{}{}
	r.begin(0)
	func() {
		defer r.others.Wait() // also when run does not return
		r.run(0)
	}()
	if r.panicked != nil {
		panic(r.panicked)
	}
	if r.broken.Load() {
		runtime.Goexit() // as take, work or give did
	}
}

type baton struct {
	chunks []*chunk
	take   func(*chunk) bool
	work   func(*chunk)
	give   func(*chunk) bool

	turns    []turn
	begun    int         // workers; of whoever has the turn to take
	over     atomic.Bool // nothing is taken any more
	broken   atomic.Bool // and nothing given
	others   sync.WaitGroup
	mu       sync.Mutex
	panicked any
}

// turn is where a worker waits until it is its turn.
type turn struct{ take, give chan struct{} }

// begin passes the turn to take to worker i, which is started if it has not been yet.
func (r *baton) begin(i int) {
	r.turns[i].take <- struct{}{}
	if i == r.begun {
		if r.begun++; i > 0 {
			r.others.Go(func() { r.run(i) })
		}
	}
}

// run is a worker.
func (r *baton) run(i int) {
	c, mine, next := r.chunks[i], r.turns[i], (i+1)%len(r.chunks)
	taking, giving, done := false, false, false
	defer func() {
		if !done {
			r.mu.Lock()
			if p := recover(); r.panicked == nil {
				r.panicked = p
			}
			r.mu.Unlock()
			r.broken.Store(true)
			r.over.Store(true)
			if !giving {
				<-mine.give
			}
			r.turns[next].give <- struct{}{}
			if !taking {
				<-mine.take
			}
		}
		// The turn goes round, so that all end; those that have not begun need not.
		if next >= r.begun {
			next = 0
		}
		r.turns[next].take <- struct{}{}
	}()
	for {
		<-mine.take
		taking = true
		if r.over.Load() || !r.take(c) {
			r.over.Store(true)
			done = true
			return
		}
		taking = false
		r.begin(next)
		r.work(c)
		<-mine.give
		giving = true
		if !r.broken.Load() && !r.give(c) {
			r.over.Store(true)
		}
		giving = false
		r.turns[next].give <- struct{}{}
	}
}
