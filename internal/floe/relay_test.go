package floe

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newChunks(n int) []*chunk { return (&frame{workers: n}).chunks() }

// Whatever order the work ends in, chunks are taken and given in the order of the stream, by one at a
// time, and nobody waits who could work.
func TestRelayKeepsTheOrder(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 8} {
		for total := range 20 {
			synctest.Test(t, func(t *testing.T) {
				var taken, given int
				var in sync.Mutex // only tried
				begun := time.Now()
				relay(newChunks(workers), func(c *chunk) bool {
					if !in.TryLock() {
						t.Error("two take at once")
					}
					defer in.Unlock()
					if taken == total {
						return false
					}
					c.pos = uint64(taken)
					taken++
					return true
				}, func(c *chunk) {
					time.Sleep(time.Duration(10+c.pos*7%5) * time.Second)
				}, func(c *chunk) bool {
					if c.pos != uint64(given) {
						t.Errorf("chunk %d is given as number %d", c.pos, given)
					}
					given++
					return true
				})
				if given != total {
					t.Errorf("%d of %d given", given, total)
				}
				// No chunk takes longer than 14 s, nor less than 10.
				rounds := (total + workers - 1) / workers
				if d := time.Since(begun); d > time.Duration(rounds*14)*time.Second || total == workers && d > 14*time.Second {
					t.Errorf("%d chunks took %d workers %v", total, workers, d)
				}
			})
		}
	}
}

// After give or take has said so nothing more is taken, but what was taken is given.
func TestRelayStops(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		for stop := range 12 {
			var taken, given int
			relay(newChunks(workers), func(c *chunk) bool { taken++; return true }, func(*chunk) {}, func(*chunk) bool {
				given++
				return given <= stop
			})
			if given != taken || given <= stop || given > stop+workers {
				t.Errorf("%d workers, stopped after %d: %d taken, %d given", workers, stop, taken, given)
			}
		}
	}
}

// A panic, and a Goexit, of take, work or give is the caller's, and nothing is given behind it. No
// goroutine is left, or the bubble would not end.
func TestRelayPanics(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		for _, where := range []string{"take", "work", "give"} {
			for at := range uint64(12) {
				for _, exit := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						trip := func(here string, c *chunk) {
							if here == where && c.pos == at {
								time.Sleep(time.Nanosecond) // until the others can do nothing more, but give what comes behind
								if exit {
									runtime.Goexit()
								}
								panic(errMoody)
							}
						}
						var taken uint64
						var given []uint64
						ended, returned := make(chan any, 1), false
						go func() {
							defer func() { ended <- recover() }()
							relay(newChunks(workers), func(c *chunk) bool {
								c.pos = taken
								trip("take", c)
								taken++
								return true
							}, func(c *chunk) { trip("work", c) }, func(c *chunk) bool {
								trip("give", c)
								given = append(given, c.pos)
								return true
							})
							returned = true
						}()
						got := <-ended
						if returned || exit && got != nil || !exit && got != errMoody {
							t.Errorf("%d workers, %s %d: returned %v, %v", workers, where, at, returned, got)
						}
						for i, pos := range given {
							if pos != uint64(i) || pos >= at {
								t.Errorf("%d workers, %s %d: given %v", workers, where, at, given)
							}
						}
					})
				}
			}
		}
	}
}

// breaks panics at the nth call, or has an error.
type breaks struct {
	n     int
	panic bool
	r     io.Reader
	w     io.Writer
}

func (b *breaks) trip() error {
	if b.n--; b.n == 0 {
		if b.panic {
			panic(errMoody)
		}
		return errMoody
	}
	return nil
}

func (b *breaks) Read(p []byte) (int, error) {
	if err := b.trip(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

func (b *breaks) Write(p []byte) (int, error) {
	if err := b.trip(); err != nil {
		return 0, err
	}
	return b.w.Write(p)
}

// caught is the error that f returns, or panics with.
func caught(f func() error) (err error, panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			err, panicked = p.(error), true
		}
	}()
	return f(), false
}

// A source or destination that fails or panics somewhere ends a Writer for good: what is at the
// destination never opens, and nothing follows a hole. The panic is the caller's.
func TestWriterInterrupted(t *testing.T) {
	p := params{4096, rotationBits}
	msg := randomBytes(500*p.plain() + 3)
	for _, workers := range []int{1, 3} {
		for _, panics := range []bool{false, true} {
			for n := 1; n < 15; n++ {
				for _, side := range []string{"source", "destination"} {
					var dst bytes.Buffer
					src, out := &breaks{r: bytes.NewReader(msg)}, &breaks{w: &dst}
					w, err := NewWriter(out, nil, &fixed{key: testKey}, Params{4096}, testAAD, workers)
					if err != nil {
						t.Fatal(err)
					}
					if src.n, src.panic = n, panics; side == "destination" {
						src.n, out.n, out.panic = 0, n, panics
					}
					err, panicked := caught(func() error { _, err := w.ReadFrom(src); return err })
					if err == nil {
						err, panicked = caught(w.Close)
					}
					if n < 9 && (err != errMoody || panicked != panics) {
						t.Fatalf("%d workers, %s %d: %v, panicked: %v", workers, side, n, err, panicked)
					}
					if err == nil {
						continue
					}
					size := dst.Len()
					if _, again := w.Write(msg); again == nil || w.Close() == nil || dst.Len() != size {
						t.Errorf("%d workers, %s %d: it goes on: %v", workers, side, n, again)
					}
					if _, err := Open(nil, testKey, testAAD, dst.Bytes()); err != ErrAuth {
						t.Errorf("%d workers, %s %d: it opens: %v", workers, side, n, err)
					}
					if out.n < 0 && side == "destination" {
						t.Errorf("%d workers: %d writes behind the one that failed, %d", workers, -out.n, n)
					}
					if w.buf != nil || slices.ContainsFunc(w.chunks, func(c *chunk) bool { return c.room != nil }) {
						t.Errorf("%d workers, %s %d: plaintext is kept", workers, side, n)
					}
				}
			}
		}
	}
}

// A destination that fails does not spoil a Reader: whatever its workers had on their way comes
// out of it later, once. After a panic nothing does.
func TestReaderInterrupted(t *testing.T) {
	p := params{4096, rotationBits}
	msg := randomBytes(500*p.plain() + 3)
	ct := mustSeal(t, p, msg)
	for _, workers := range []int{1, 3} {
		for _, panics := range []bool{false, true} {
			for n := 1; n < 15; n++ { // all writes, and beyond
				var dst bytes.Buffer
				r, err := openStream(bytes.NewReader(ct), workers)
				if err != nil {
					t.Fatal(err)
				}
				err, panicked := caught(func() error {
					_, err := r.WriteTo(&breaks{n: n, panic: panics, w: &dst})
					return err
				})
				if panicked != (err != nil && panics) || err != nil && err != errMoody || n < 9 && err == nil {
					t.Fatalf("%d workers, write %d: %v, panicked: %v", workers, n, err, panicked)
				}
				rest, again := io.ReadAll(r)
				switch got := append(dst.Bytes(), rest...); {
				case panicked:
					if again != ErrClosed || !bytes.HasPrefix(msg, got) || r.chunks[0].result != nil {
						t.Errorf("%d workers, panic in write %d: %d bytes, %v", workers, n, len(got), again)
					}
				case again != nil || !bytes.Equal(got, msg):
					t.Errorf("%d workers, write %d: %d bytes of %d, %v", workers, n, len(got), len(msg), again)
				}
			}
		}
	}
}

// second refuses what was lent before, from the nth time on.
type second struct {
	fixed
	n int
}

func (p *second) Still() error {
	if p.n--; p.n < 0 {
		return errMoody
	}
	return nil
}

// What was sealed or opened may have waited for those before it, so the permit is asked once more
// before each chunk leaves, and what it refuses stays here, as all that follows.
func TestStreamsAskBeforeTheyRelease(t *testing.T) {
	p := params{4096, rotationBits}
	msg := randomBytes(200*p.plain() + 3)
	ct := mustSeal(t, p, msg)
	for _, workers := range []int{1, 3} {
		var size, got int
		for n := range 6 {
			var dst, out bytes.Buffer
			w, err := NewWriter(&dst, nil, &second{fixed{key: testKey}, n}, Params{4096}, testAAD, workers)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(msg); err != errMoody || w.Close() != errMoody {
				t.Errorf("%d workers: Write, refused after %d: %v", workers, n, err)
			}
			h, err := ReadHeader(bytes.NewReader(ct))
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(bytes.NewReader(ct[HeaderSize:]), h, &second{fixed{key: testKey}, n}, testAAD, workers)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.WriteTo(&out); err != errMoody || r.chunks[0].result != nil {
				t.Errorf("%d workers: WriteTo, refused after %d: %v", workers, n, err)
			}
			if n == 0 && (dst.Len() != HeaderSize || out.Len() != 0) || n > 0 && (dst.Len() <= size || out.Len() <= got) {
				t.Errorf("%d workers, refused after %d: %d and %d bytes", workers, n, dst.Len(), out.Len())
			}
			size, got = dst.Len(), out.Len()
		}
	}
}

// counting says how many bytes a source has delivered.
type counting struct {
	r io.Reader
	n atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// The end of the message is what the permit is told, whoever of the workers finds it; and after a bad
// segment a source is read no further than the chunks that were on their way.
func TestReaderReadsNoFurther(t *testing.T) {
	p := params{4096, rotationBits}
	ct := mustSeal(t, p, randomBytes(1000*p.plain()))
	ct[HeaderSize+200*4096+99] ^= 1
	for _, workers := range []int{1, 2, 5} {
		src, permit := &counting{r: bytes.NewReader(ct)}, &fixed{key: testKey}
		h, err := ReadHeader(src)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(src, h, permit, testAAD, workers)
		if err != nil {
			t.Fatal(err)
		}
		n, err := r.WriteTo(io.Discard)
		if n != int64(200*p.plain()) || err != ErrAuth || !slices.Equal(permit.done, []error{ErrAuth}) {
			t.Errorf("%d workers: %d bytes, %v; the permit was told %v", workers, n, err, permit.done)
		}
		most := int64(HeaderSize + (201+(workers+1)*r.f.most())*4096)
		if read := src.n.Load(); read > most {
			t.Errorf("%d workers: %d bytes read, more than %d", workers, read, most)
		}
		before := src.n.Load()
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrAuth) || src.n.Load() != before {
			t.Errorf("%d workers: read on: %v", workers, err)
		}
	}
}
