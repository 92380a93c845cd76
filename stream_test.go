package byok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

const segment, plainSegment = 65536, 65504 // a sealed segment of a stream, and its plaintext

var acmeScope = byok.Scope{Tenant: "acme"}

// pattern is n bytes that say where they are.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>16) ^ byte(i>>8)*3 ^ byte(i)*7
	}
	return p
}

func sealStream(t testing.TB, k *byok.Keeper, plain []byte, aad string) []byte {
	t.Helper()
	var dst bytes.Buffer
	w, err := k.SealWriter(t.Context(), &dst, acmeScope, []byte(aad))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dst.Bytes()
}

func openStream(t testing.TB, k *byok.Keeper, sealed []byte, aad string) ([]byte, error) {
	t.Helper()
	r, err := k.OpenReader(t.Context(), bytes.NewReader(sealed), acmeScope, []byte(aad))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func openAt(t testing.TB, k *byok.Keeper, sealed []byte, aad string) ([]byte, error) {
	t.Helper()
	r, err := k.OpenReaderAt(t.Context(), bytes.NewReader(sealed), int64(len(sealed)), acmeScope, []byte(aad))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
}

// With PerOperation each stream asks KMS as it begins, also while another one, of the same envelope even, has a lease.
func TestE1_StreamsPerOperation(t *testing.T) {
	for name, opts := range map[string]*byok.Options{"a data key of the envelope": {PerOperation: true}, "one of the Store": nil} {
		t.Run(name, func(t *testing.T) {
			env := byoktest.New(t, nil)
			_, cmk := env.Tenant("acme")
			sealed, err := keeperWith(t, env, opts).Seal(t.Context(), acmeScope, pattern(20*plainSegment), nil)
			want(t, "Seal", err, nil)
			k := keeperWith(t, env, &byok.Options{PerOperation: true})
			open := func() (io.ReadCloser, error) {
				return k.OpenReader(t.Context(), bytes.NewReader(sealed), acmeScope, nil)
			}
			first, err := open()
			want(t, "OpenReader", err, nil)
			_, err = io.ReadFull(first, make([]byte, 10))
			want(t, "Read", err, nil)
			cmk.Disable()
			_, err = open()
			want(t, "OpenReader after the CMK was disabled", err, byok.ErrKeyDenied)
			_, err = k.OpenReaderAt(t.Context(), bytes.NewReader(sealed), int64(len(sealed)), acmeScope, nil)
			want(t, "OpenReaderAt after that", err, byok.ErrKeyDenied)
			_, err = io.Copy(io.Discard, first)
			want(t, "the stream that was under way", err, byok.ErrKeyDenied)
		})
	}
}

// parallel runs f without goroutines and with them.
func parallel(t *testing.T, f func(t *testing.T, env *byoktest.Env)) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{Parallelism: n}})
			env.Tenant("acme")
			f(t, env)
		})
	}
}

// A21: every way in opens what every way out has made, at each boundary, in the one encoding
// that there is for each length.
func TestStreams_A21_Boundaries(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		k := env.Keeper
		const p = plainSegment
		for _, n := range []int{0, 1, p - 1, p, p + 1, 2*p - 1, 2 * p, 2*p + 1, 10*p + 7, 40 * p} {
			plain := pattern(n)
			one, err := k.Seal(t.Context(), acmeScope, plain, []byte("a"))
			want(t, "Seal", err, nil)
			stream := sealStream(t, k, plain, "a")
			h, err := byok.Inspect(stream)
			if want(t, "Inspect", err, nil); h.Policy != 1 || len(h.Recipients) != 1 {
				t.Fatalf("a stream's header: %+v", h)
			}
			for what, sealed := range map[string][]byte{"Seal": one, "SealWriter": stream} {
				if segments := max(1, (n+p-1)/p); len(sealed) < n+74+32*segments || len(sealed) > n+74+32*segments+400 {
					t.Errorf("%s of %d bytes: %d bytes", what, n, len(sealed))
				}
				for how, open := range map[string]func() ([]byte, error){
					"Open":         func() ([]byte, error) { return k.Open(t.Context(), acmeScope, sealed, []byte("a")) },
					"OpenReader":   func() ([]byte, error) { return openStream(t, k, sealed, "a") },
					"OpenReaderAt": func() ([]byte, error) { return openAt(t, k, sealed, "a") },
				} {
					if got, err := open(); err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("%s of %s, %d bytes: %d bytes, %v", how, what, n, len(got), err)
					}
				}
				if got, err := openStream(t, k, sealed, "b"); err != byok.ErrOpen || got != nil {
					t.Fatalf("another aad: %v", err)
				}
				if _, err := openAt(t, k, sealed, "b"); err != byok.ErrOpen {
					t.Fatalf("another aad, ReaderAt: %v", err)
				}
			}
		}
	})
}

// However the writes and reads are cut, the same bytes come out.
func TestStreamsInPieces(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		plain := pattern(9*plainSegment + 5)
		for _, size := range []int{1000, plainSegment, plainSegment + 1, 300_000, len(plain)} {
			var dst bytes.Buffer
			w, err := env.Keeper.SealWriter(t.Context(), &dst, acmeScope, nil)
			want(t, "SealWriter", err, nil)
			for rest := plain; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				n, err := w.Write(rest[:min(size, len(rest))])
				if want(t, "Write", err, nil); n != min(size, len(rest)) {
					t.Fatalf("Write = %d", n)
				}
			}
			want(t, "Close", w.Close(), nil)
			want(t, "Close again", w.Close(), nil)
			w.Abort()
			n, err := w.Write([]byte("x"))
			if want(t, "Write after Close", err, byok.ErrClosed); n != 0 {
				t.Error("it took something")
			}
			r, err := env.Keeper.OpenReader(t.Context(), iotest.HalfReader(&dst), acmeScope, nil)
			want(t, "OpenReader", err, nil)
			got := make([]byte, len(plain)+1)
			k, err := io.ReadFull(readerOnly{r}, got[:min(size, len(got))])
			want(t, "Read", err, nil)
			var rest bytes.Buffer
			_, err = io.Copy(&rest, r)
			want(t, "WriteTo", err, nil)
			if !bytes.Equal(append(got[:k], rest.Bytes()...), plain) {
				t.Fatal("other bytes")
			}
			if _, err := r.Read(got); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
			want(t, "Close", r.Close(), nil)
			_, err = r.Read(got)
			want(t, "Read after Close", err, byok.ErrClosed)
		}
		var dst bytes.Buffer
		w, err := env.Keeper.SealWriter(t.Context(), &dst, acmeScope, nil)
		want(t, "SealWriter", err, nil)
		for _, part := range [][]byte{plain[:5], plain[5:plainSegment], plain[plainSegment : 2*plainSegment], plain[2*plainSegment:]} {
			n, err := w.ReadFrom(iotest.OneByteReader(bytes.NewReader(part)))
			if want(t, "ReadFrom", err, nil); n != int64(len(part)) {
				t.Fatalf("ReadFrom = %d", n)
			}
		}
		want(t, "Close", w.Close(), nil)
		if got, err := openStream(t, env.Keeper, dst.Bytes(), ""); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("other bytes, %v", err)
		}
	})
}

// readerOnly hides the other methods.
type readerOnly struct{ io.Reader }

// A13, A14, A2, A3, A4: exactly the segments before the first bad one come out, byte by byte, and
// then the same error for ever, never io.EOF.
func TestStreams_A13_A14_OnlyAuthenticSegments(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		plain := pattern(5*plainSegment + 9)
		good := sealStream(t, env.Keeper, plain, "")
		head := len(good) - (74 + len(plain) + 6*32) + 74
		flip := func(at int) []byte {
			b := bytes.Clone(good)
			b[at] ^= 1
			return b
		}
		for name, c := range map[string]struct {
			sealed   []byte
			released int // segments
		}{
			"first":                   {flip(head + 100), 0},
			"third":                   {flip(head + 2*segment + 100), 2},
			"last":                    {flip(len(good) - 1), 5},
			"cut in a segment":        {good[:head+3*segment+77], 3},
			"cut between segments":    {good[:head+4*segment], 4},
			"cut in the last":         {good[:len(good)-1], 5},
			"something follows":       {append(bytes.Clone(good), 0), 5},
			"the last segment twice":  {append(bytes.Clone(good), good[head+5*segment:]...), 5},
			"a length says the end":   {append(bytes.Clone(good[:head+segment]), append([]byte{0, 1, 0, 0}, good[head+segment+4:]...)...), 1},
			"segments 2 and 3 change": {bytes.Join([][]byte{good[:head+2*segment], good[head+3*segment : head+4*segment], good[head+2*segment : head+3*segment], good[head+4*segment:]}, nil), 2},
		} {
			before := outcomes(env)
			r, err := env.Keeper.OpenReader(t.Context(), bytes.NewReader(c.sealed), acmeScope, nil)
			want(t, "OpenReader", err, nil)
			var got []byte
			one := make([]byte, 1)
			for err == nil {
				var n int
				n, err = r.Read(one)
				got = append(got, one[:n]...)
			}
			if err != byok.ErrOpen || !bytes.Equal(got, plain[:c.released*plainSegment]) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			for range 3 {
				if n, err := r.Read(one); n != 0 || err != byok.ErrOpen {
					t.Errorf("%s, read on: %d, %v", name, n, err)
				}
			}
			want(t, "Close", r.Close(), nil)
			if now := outcomes(env); now[byok.OutcomeFailure] != before[byok.OutcomeFailure]+1 || len(now) > len(before)+1 {
				t.Errorf("%s: events %v, before %v", name, now, before)
			}
			if plain, err := openAt(t, env.Keeper, c.sealed, ""); err != byok.ErrOpen {
				t.Errorf("%s, ReaderAt: %d bytes, %v", name, len(plain), err)
			}
			if _, err := env.Keeper.Open(t.Context(), acmeScope, c.sealed, nil); err != byok.ErrOpen {
				t.Errorf("%s, Open: %v", name, err)
			}
		}
	})
}

// brokenAt cannot be read from an offset on.
type brokenAt struct {
	io.ReaderAt
	from int64
}

var errBrokenAt = errors.New("the disk is broken")

func (b brokenAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= b.from {
		return 0, errBrokenAt
	}
	return b.ReaderAt.ReadAt(p, off)
}

// A16: reads at and beyond every edge; nothing of a message whose end is not authentic.
func TestStreams_A16_RandomAccess(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		plain := pattern(4*plainSegment + 100)
		sealed := sealStream(t, env.Keeper, plain, "")
		r, err := env.Keeper.OpenReaderAt(t.Context(), bytes.NewReader(sealed), int64(len(sealed)), acmeScope, nil)
		want(t, "OpenReaderAt", err, nil)
		if r.Size() != int64(len(plain)) {
			t.Fatalf("Size = %d", r.Size())
		}
		for _, off := range []int{0, 1, plainSegment - 1, plainSegment, 2*plainSegment - 5, 4 * plainSegment, len(plain) - 1, len(plain), len(plain) + 1, math.MaxInt} {
			for _, n := range []int{0, 1, 10, plainSegment, 3 * plainSegment, len(plain) + 1} {
				p := make([]byte, n)
				got, err := r.ReadAt(p, int64(off))
				there := max(0, min(n, len(plain)-off))
				if end := there < n; got != there || end != (err == io.EOF) || !end && err != nil {
					t.Fatalf("%d bytes at %d: %d, %v", n, off, got, err)
				}
				if got > 0 && !bytes.Equal(p[:got], plain[off:off+got]) {
					t.Fatalf("%d bytes at %d: other bytes", n, off)
				}
			}
		}
		if _, err := r.ReadAt(make([]byte, 1), -1); !errors.Is(err, byok.ErrArgument) {
			t.Errorf("at -1: %v", err)
		}
		want(t, "Close", r.Close(), nil)
		_, err = r.ReadAt(make([]byte, 1), 0)
		want(t, "ReadAt after Close", err, byok.ErrClosed)

		few := sealStream(t, env.Keeper, plain[:700], "")
		r, err = env.Keeper.OpenReaderAt(t.Context(), bytes.NewReader(few), int64(len(few)), acmeScope, nil)
		want(t, "OpenReaderAt", err, nil)
		want(t, "iotest", iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), plain[:700]), nil)

		// Cut to whole segments, relabelled, longer, shorter: no size is told.
		head := len(sealed) - (74 + len(plain) + 5*32) + 74
		relabelled := bytes.Clone(sealed[:head+2*segment])
		copy(relabelled[head+segment:], []byte{0, 1, 0, 0})
		for name, b := range map[string][]byte{
			"cut to whole segments": sealed[:head+2*segment],
			"a middle one is last":  relabelled,
			"longer":                append(bytes.Clone(sealed), 0),
			"shorter":               sealed[:len(sealed)-1],
			"the header only":       sealed[:head],
			"half of a header":      sealed[:head-40],
		} {
			_, err := env.Keeper.OpenReaderAt(t.Context(), bytes.NewReader(b), int64(len(b)), acmeScope, nil)
			if want(t, name, err, byok.ErrOpen); errors.Is(err, io.EOF) {
				t.Errorf("%s: %v", name, err)
			}
		}

		for _, size := range []int64{-1, math.MinInt64} {
			_, err := env.Keeper.OpenReaderAt(t.Context(), bytes.NewReader(sealed), size, acmeScope, nil)
			want(t, "a negative size", err, byok.ErrArgument)
		}

		// The last segment cannot be read just now: that is an error of the source, and not told as tampering.
		before := outcomes(env)
		_, err = env.Keeper.OpenReaderAt(t.Context(), brokenAt{bytes.NewReader(sealed), int64(head)}, int64(len(sealed)), acmeScope, nil)
		want(t, "OpenReaderAt of a broken disk", err, errBrokenAt)
		if now := outcomes(env); now[byok.OutcomeFailure] != before[byok.OutcomeFailure] || now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess] {
			t.Errorf("events %v, before %v", now, before)
		}

		// A segment in the middle is bad: what does not touch it opens, until it is met.
		bad := bytes.Clone(sealed)
		bad[head+segment+100] ^= 1
		before = outcomes(env)
		r, err = env.Keeper.OpenReaderAt(t.Context(), bytes.NewReader(bad), int64(len(bad)), acmeScope, nil)
		want(t, "OpenReaderAt", err, nil)
		p := make([]byte, 100)
		_, err = r.ReadAt(p, 3*plainSegment)
		want(t, "ReadAt", err, nil)
		p = bytes.Repeat([]byte{0xaa}, len(plain))
		n, err := r.ReadAt(p, 0)
		if n != 0 || err != byok.ErrOpen || bytes.Contains(p, plain[:16]) {
			t.Errorf("a bad segment: %d, %v", n, err)
		}
		_, err = r.ReadAt(p[:10], 3*plainSegment)
		want(t, "ReadAt after that", err, byok.ErrOpen)
		if now := outcomes(env); now[byok.OutcomeWithheld] != before[byok.OutcomeWithheld]+1 || now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess]+1 {
			t.Errorf("events %v, before %v", now, before)
		}
	})
}

// A19: a destination that fails is noticed, and what reached it never opens; nor does what was
// not closed, or given up.
func TestStreams_A19_FailingDestination(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		full := errors.New("disk full")
		plain := pattern(3*plainSegment + 9)
		size := len(sealStream(t, env.Keeper, plain, ""))
		for _, room := range []int{0, 10, 200, 400, segment, 2*segment + 1, size - segment, size - 1} {
			dst := &small{room: room, err: full}
			w, err := env.Keeper.SealWriter(t.Context(), dst, acmeScope, nil)
			if err == nil {
				_, err = io.Copy(w, readerOnly{bytes.NewReader(plain)})
				if cerr := w.Close(); err == nil {
					err = cerr
				}
				want(t, "Close again", w.Close(), full)
			}
			want(t, fmt.Sprintf("room for %d", room), err, full)
			if _, err := env.Keeper.Open(t.Context(), acmeScope, dst.got, nil); !errors.Is(err, byok.ErrOpen) {
				t.Errorf("room for %d: what was written opens: %v", room, err)
			}
		}
		broken := errors.New("the upload was cut")
		for name, f := range map[string]func(w *byok.Writer) error{
			"aborted":     func(w *byok.Writer) error { w.Abort(); w.Abort(); return w.Close() },
			"not closed":  func(*byok.Writer) error { return byok.ErrClosed },
			"source fail": func(w *byok.Writer) error { _, _ = io.Copy(w, iotest.ErrReader(broken)); return w.Close() },
			"source ends": func(w *byok.Writer) error {
				_, _ = io.Copy(w, iotest.ErrReader(io.ErrUnexpectedEOF))
				return w.Close()
			},
		} {
			for _, n := range []int{0, 10, len(plain)} {
				var dst bytes.Buffer
				before := outcomes(env)
				w, err := env.Keeper.SealWriter(t.Context(), &dst, acmeScope, nil)
				want(t, "SealWriter", err, nil)
				_, err = w.Write(plain[:n])
				want(t, "Write", err, nil)
				if err = f(w); !errors.Is(err, byok.ErrClosed) && err != broken && err != io.ErrUnexpectedEOF {
					t.Errorf("%s: %v", name, err)
				}
				if _, err := env.Keeper.Open(t.Context(), acmeScope, dst.Bytes(), nil); !errors.Is(err, byok.ErrOpen) {
					t.Errorf("%s: it opens: %v", name, err)
				}
				if now := outcomes(env); name != "not closed" && now[byok.OutcomeAborted] != before[byok.OutcomeAborted]+1 || now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess] {
					t.Errorf("%s: events %v, before %v", name, now, before)
				}
			}
		}
	})
}

// small has room for so many bytes, and then fails.
type small struct {
	got  []byte
	room int
	err  error
}

func (s *small) Write(p []byte) (int, error) {
	n := min(len(p), s.room-len(s.got))
	s.got = append(s.got, p[:n]...)
	if n < len(p) {
		return n, s.err
	}
	return n, nil
}

// A20: eight goroutines at one Writer, one Reader, one ReaderAt.
func TestStreams_A20_Concurrent(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		const each = 50_000
		var dst bytes.Buffer
		w, err := env.Keeper.SealWriter(t.Context(), &dst, acmeScope, nil)
		want(t, "SealWriter", err, nil)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range each / 1000 {
					if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, 1000)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		want(t, "Close", w.Close(), nil)
		r, err := env.Keeper.OpenReader(t.Context(), bytes.NewReader(dst.Bytes()), acmeScope, nil)
		want(t, "OpenReader", err, nil)
		ra, err := env.Keeper.OpenReaderAt(t.Context(), bytes.NewReader(dst.Bytes()), int64(dst.Len()), acmeScope, nil)
		want(t, "OpenReaderAt", err, nil)
		var mu sync.Mutex
		var count, countAt [8]int
		for i := range 8 {
			wg.Go(func() {
				var got, at [8]int
				p := make([]byte, 5000)
				for {
					n, err := r.Read(p)
					for _, b := range p[:n] {
						got[b]++
					}
					if err != nil {
						if err != io.EOF {
							t.Error(err)
						}
						break
					}
				}
				for off := i * each; off < (i+1)*each; off += len(p) {
					n, err := ra.ReadAt(p, int64(off))
					if n != len(p) || err != nil {
						t.Error(n, err)
					}
					for _, b := range p {
						at[b]++
					}
				}
				mu.Lock()
				defer mu.Unlock()
				for b := range got {
					count[b] += got[b]
					countAt[b] += at[b]
				}
			})
		}
		wg.Wait()
		for b := range count {
			if count[b] != each || countAt[b] != each {
				t.Errorf("byte %d: %d, %d", b, count[b], countAt[b])
			}
		}
	})
}

// streams is a Writer, a Reader and a ReaderAt in the middle of what they do.
type streams struct {
	t   *testing.T
	dst bytes.Buffer
	w   *byok.Writer
	r   *byok.Reader
	at  *byok.ReaderAt
}

func beginStreams(ctx context.Context, t *testing.T, k *byok.Keeper, sealed []byte) *streams {
	t.Helper()
	s := &streams{t: t}
	var err error
	s.w, err = k.SealWriter(ctx, &s.dst, acmeScope, nil)
	want(t, "SealWriter", err, nil)
	s.r, err = k.OpenReader(ctx, bytes.NewReader(sealed), acmeScope, nil)
	want(t, "OpenReader", err, nil)
	s.at, err = k.OpenReaderAt(ctx, bytes.NewReader(sealed), int64(len(sealed)), acmeScope, nil)
	want(t, "OpenReaderAt", err, nil)
	for what, err := range s.step() {
		want(t, what, err, nil)
	}
	return s
}

// step does a little more with each. What the Reader hands out comes from a segment that was
// opened before.
func (s *streams) step() map[string]error {
	one := make([]byte, 1)
	_, werr := s.w.Write(make([]byte, 20*plainSegment))
	_, rerr := s.r.Read(one)
	_, aerr := s.at.ReadAt(one, 7)
	return map[string]error{"Write": werr, "Read": rerr, "ReadAt": aerr}
}

// all wants each to fail with target, now and later, and the Writer to leave nothing that opens.
func (s *streams) all(target error) {
	s.t.Helper()
	size := s.dst.Len()
	for range 3 {
		for what, err := range s.step() {
			want(s.t, what, err, target)
		}
	}
	want(s.t, "Close", s.w.Close(), target)
	if s.dst.Len() != size {
		s.t.Error("something was written after that")
	}
	want(s.t, "Close", s.r.Close(), nil)
	want(s.t, "Close", s.at.Close(), nil)
}

// streamEnv is an Env with a sink that can fail.
type streamEnv struct {
	*byoktest.Env
	sink *hookSink
}

func forStreams(t *testing.T, f func(t *testing.T, env streamEnv, acme *byok.Tenant, cmk *kmsfake.Key, sealed []byte)) {
	for name, opts := range map[string]*byok.Options{"alone": {Parallelism: 1}, "parallel": {Parallelism: 3}, "per operation": {PerOperation: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
				env := streamEnv{sink: &hookSink{MemAudit: new(byok.MemAudit)}}
				opts.Logger = slog.New(slog.DiscardHandler)
				env.Env = byoktest.New(t, &byoktest.Options{Keeper: opts, Sink: env.sink})
				env.Audit = env.sink.MemAudit
				acme, cmk := env.Tenant("acme")
				f(t, env, acme, cmk, sealStream(t, env.Keeper, pattern(10*plainSegment), ""))
			})
		})
	}
}

// The customer says stop in the middle of each. Once it is seen, by anything in this process,
// nothing more leaves, not even what had been opened before; unseen it ends within MaxAge.
func TestI8_StreamsAreDenied(t *testing.T) {
	forStreams(t, func(t *testing.T, env streamEnv, acme *byok.Tenant, cmk *kmsfake.Key, sealed []byte) {
		s := beginStreams(t.Context(), t, env.Keeper, sealed)
		before := outcomes(env.Env)
		cmk.Disable()
		_, err := acme.Health(t.Context())
		want(t, "Health", err, nil)
		s.all(byok.ErrKeyDenied)
		now := outcomes(env.Env)
		// The ReaderAt's success had been recorded: it is taken back.
		if now[byok.OutcomeDenied] != before[byok.OutcomeDenied]+2 || now[byok.OutcomeWithheld] != before[byok.OutcomeWithheld]+1 || now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess] {
			t.Errorf("events %v, before %v", now, before)
		}

		cmk.Enable()
		time.Sleep(time.Minute)
		s = beginStreams(t.Context(), t, env.Keeper, sealed)
		cmk.Disable()
		start := time.Now()
		for {
			time.Sleep(time.Second)
			stopped := 0
			for what, err := range s.step() {
				if err != nil {
					want(t, what, err, byok.ErrKeyDenied)
					stopped++
				}
			}
			if stopped == 3 {
				break
			}
			if time.Since(start) >= byok.DefaultMaxAge {
				t.Fatalf("%d of 3 stopped", stopped)
			}
		}
		s.all(byok.ErrKeyDenied)
	})
}

// For ten times MaxAge streams go on, with access proved all along and no false refusal.
func TestI7_StreamsGoOn(t *testing.T) {
	forStreams(t, func(t *testing.T, env streamEnv, acme *byok.Tenant, _ *kmsfake.Key, sealed []byte) {
		s := beginStreams(t.Context(), t, env.Keeper, sealed)
		before := outcomes(env.Env)
		env.Fake.ResetCalls()
		for i := range 100 {
			time.Sleep(6 * time.Second)
			if i == 50 {
				_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
				want(t, "Rotate", err, nil)
			}
			one := make([]byte, 1)
			_, err := s.w.Write(make([]byte, plainSegment))
			want(t, "Write", err, nil)
			_, err = s.r.Read(one)
			want(t, "Read", err, nil)
			_, err = s.at.ReadAt(one, int64(i*6000))
			want(t, "ReadAt", err, nil)
		}
		if n := len(env.Fake.Calls()); n < 15 || n > 80 {
			t.Errorf("%d KMS calls", n)
		}
		want(t, "Close", s.w.Close(), nil)
		_, err := io.Copy(io.Discard, s.r)
		want(t, "the rest", err, nil)
		if got, err := openStream(t, env.Keeper, s.dst.Bytes(), ""); err != nil || len(got) != 120*plainSegment {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if now := outcomes(env.Env); now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess]+3 {
			t.Errorf("events %v, before %v", now, before)
		}
	})
}

func TestI8_StreamsAreSuspended(t *testing.T) {
	forStreams(t, func(t *testing.T, env streamEnv, acme *byok.Tenant, _ *kmsfake.Key, sealed []byte) {
		s := beginStreams(t.Context(), t, env.Keeper, sealed)
		_, err := acme.Suspend(t.Context(), "")
		want(t, "Suspend", err, nil)
		s.all(byok.ErrSuspended)
		_, err = acme.Resume(t.Context(), "")
		want(t, "Resume", err, nil)
		want(t, "Write after that", s.step()["Write"], byok.ErrSuspended) // begin anew
		beginStreams(t.Context(), t, env.Keeper, sealed)
	})
}

// An outage is ridden out to MaxAge.
func TestI4_StreamsInAnOutage(t *testing.T) {
	forStreams(t, func(t *testing.T, env streamEnv, _ *byok.Tenant, _ *kmsfake.Key, sealed []byte) {
		s := beginStreams(t.Context(), t, env.Keeper, sealed)
		restore := env.Fake.Outage()
		defer restore()
		time.Sleep(20 * time.Second)
		for what, err := range s.step() {
			want(t, what, err, nil)
		}
		time.Sleep(byok.DefaultMaxAge)
		s.all(byok.ErrKeyUnavailable)
	})
}

// Close of the Keeper ends them, and waits for none.
func TestI20_StreamsAreClosed(t *testing.T) {
	forStreams(t, func(t *testing.T, env streamEnv, _ *byok.Tenant, _ *kmsfake.Key, sealed []byte) {
		s := beginStreams(t.Context(), t, env.Keeper, sealed)
		want(t, "Close", env.Keeper.Close(), nil)
		s.all(byok.ErrClosed)
		_, err := env.Keeper.SealWriter(t.Context(), io.Discard, acmeScope, nil)
		want(t, "SealWriter", err, byok.ErrClosed)
	})
}

// So does their ctx.
func TestStreamsAndTheirContext(t *testing.T) {
	forStreams(t, func(t *testing.T, env streamEnv, _ *byok.Tenant, _ *kmsfake.Key, sealed []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		s := beginStreams(ctx, t, env.Keeper, sealed)
		before := outcomes(env.Env)
		cancel()
		s.all(context.Canceled)
		synctest.Wait()
		if now := outcomes(env.Env); now[byok.OutcomeAborted] != before[byok.OutcomeAborted]+2 || now[byok.OutcomeWithheld] != 0 {
			t.Errorf("events %v, before %v", now, before)
		}
		w, err := env.Keeper.SealWriter(t.Context(), &s.dst, acmeScope, nil)
		want(t, "SealWriter", err, nil)
		w.Abort()
	})
}

// One outcome event a stream, before it is a success; without it there is none.
func TestI18_StreamsAndTheSink(t *testing.T) {
	forStreams(t, func(t *testing.T, env streamEnv, _ *byok.Tenant, _ *kmsfake.Key, sealed []byte) {
		s := beginStreams(t.Context(), t, env.Keeper, sealed)
		size := s.dst.Len()
		env.sink.failing(errors.New("disk full"))
		want(t, "Close of a Writer", s.w.Close(), byok.ErrAudit)
		if s.dst.Len() != size {
			t.Error("the end was written without an event")
		}
		got, err := io.ReadAll(s.r)
		if want(t, "Read", err, byok.ErrAudit); len(got) >= 10*plainSegment-1 {
			t.Error("the end was released without an event")
		}
		_, err = env.Keeper.OpenReaderAt(t.Context(), bytes.NewReader(sealed), int64(len(sealed)), acmeScope, nil)
		want(t, "OpenReaderAt", err, byok.ErrAudit)
		env.sink.failing(nil)
		before := outcomes(env.Env)
		r, err := env.Keeper.OpenReader(t.Context(), bytes.NewReader(sealed), acmeScope, nil)
		want(t, "OpenReader", err, nil)
		_, err = r.Read(make([]byte, 10))
		want(t, "Read", err, nil)
		want(t, "Close", r.Close(), nil)
		want(t, "Close again", r.Close(), nil)
		if now := outcomes(env.Env); now[byok.OutcomeAborted] != before[byok.OutcomeAborted]+1 || now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess] {
			t.Errorf("a Reader that was closed early: events %v, before %v", now, before)
		}
	})
}

// A stream carries its data key: it opens where the Store never heard of it, and the Store that
// knows it has the word. A Store that fails is not one that does not know.
func TestStreamsOutliveTheStore(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	plain := pattern(2*plainSegment + 1)
	sealed := sealStream(t, env.Keeper, plain, "")
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	for name, b := range map[string][]byte{"leased": sealed, "per operation": sealStream(t, alone, plain, "")} {
		for _, k := range []*byok.Keeper{env.Keeper, alone} {
			if got, err := openStream(t, k, b, ""); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			if got, err := k.Open(t.Context(), acmeScope, b, nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, Open: %d bytes, %v", name, len(got), err)
			}
		}
	}
	blind, err := byok.New(byoktest.Service, env.Keys, blindStore{env.Store}, env.Audit, nil)
	want(t, "New", err, nil)
	defer blind.Close()
	_, err = openStream(t, blind, sealed, "")
	want(t, "OpenReader on a Store that fails", err, byok.ErrStore)

	other, err := byok.New(byoktest.Service, env.Keys, new(byok.MemStore), env.Audit, nil)
	want(t, "New", err, nil)
	defer other.Close()
	_, err = openStream(t, other, sealed, "")
	want(t, "OpenReader before the key is registered", err, byok.ErrNotRegistered)
	acme := other.Tenant("acme")
	_, err = acme.Register(t.Context(), byok.Registration{Key: awskms.Key(cmk.ARN())})
	want(t, "Register", err, nil)
	_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
	want(t, "AcknowledgeWaiver", err, nil)
	if got, err := openStream(t, other, sealed, ""); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("with another Store: %d bytes, %v", len(got), err)
	}
	one := seal(t, env.Keeper, "acme", "x", "") // REF: the data key is in the first Store only
	_, err = openStream(t, other, one, "")
	want(t, "OpenReader of a REF envelope", err, byok.ErrOpen)

	// Nothing is asked for what cannot open anyway (A11).
	env.Fake.ResetCalls()
	head := len(sealed) - (74 + len(plain) + 3*32)
	for name, b := range map[string][]byte{
		"another tenant's": bytes.Replace(sealed, []byte("acme"), []byte("acne"), 1),
		"no payload":       sealed[:head],
		"odd parameters":   append(append(bytes.Clone(sealed[:head]), 0, 0, 0xff, 0xff), sealed[head+4:]...),
		"no envelope":      plain,
		"nothing":          nil,
	} {
		for what, open := range map[string]func(testing.TB, *byok.Keeper, []byte, string) ([]byte, error){"OpenReader": openStream, "OpenReaderAt": openAt} {
			if _, err := open(t, env.NewKeeper(), b, ""); !errors.Is(err, byok.ErrOpen) {
				t.Errorf("%s, %s: %v", what, name, err)
			}
		}
	}
	if n := len(env.Fake.Calls()); n != 0 {
		t.Errorf("%d KMS calls", n)
	}
}
