package byok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"pgregory.net/rapid"
)

// span is a part of an array.
type span struct{ from, to int }

func (s span) of(array []byte) []byte { return array[s.from:s.to] }

func (s span) meets(o span) bool { return max(s.from, o.from) < min(s.to, o.to) }

// checkAppend calls f with parts of one array, for dst with room up to the array's
// index limit, and says what went wrong (threat I-8): inputs that have changed,
// bytes that are nobody's to write, a copy where there was no need for one.
func checkAppend(array []byte, dst span, limit, size int, inputs []span, f func(dst []byte) ([]byte, error)) ([]byte, error) {
	before := bytes.Clone(array)
	room := span{dst.to, min(limit, dst.to+size)}
	fits := limit-dst.to >= size
	for _, in := range inputs {
		fits = fits && !in.meets(room)
	}
	out, err := f(array[dst.from:dst.to:limit])
	if !fits {
		room.to = room.from
	}
	if !bytes.Equal(array[:room.from], before[:room.from]) || !bytes.Equal(array[room.to:], before[room.to:]) {
		return nil, fmt.Errorf("written where nobody allowed it: dst %v of %d, inputs %v, %d bytes", dst, limit, inputs, size)
	}
	if err != nil {
		if out != nil {
			return nil, errors.New("a result beside an error")
		}
		return nil, err
	}
	if len(out) != dst.to-dst.from+size || !bytes.HasPrefix(out, dst.of(before)) {
		return nil, fmt.Errorf("%d bytes behind %d, want %d", len(out), dst.to-dst.from, size)
	}
	if fits && size > 0 && &out[:1][0] != &array[dst.from] {
		return nil, fmt.Errorf("copied without need: dst %v of %d, inputs %v, %d bytes", dst, limit, inputs, size)
	}
	return bytes.Clone(out[dst.to-dst.from:]), nil
}

// checkAppendForms seals and opens with buffers that lie in one array in any way, and
// opens with a bit wrong at flip.
func checkAppendForms(ctx context.Context, k *byok.Keeper, array []byte, plain, aad, dst span, limit, sealedAt, flip int) error {
	s := byok.Scope{Tenant: "acme"}
	wantPlain, wantAAD := bytes.Clone(plain.of(array)), bytes.Clone(aad.of(array))
	sealed, err := checkAppend(array, dst, limit, byok.SealedSize("acme", len(wantPlain)), []span{plain, aad}, func(dst []byte) ([]byte, error) {
		return k.AppendSeal(ctx, dst, s, plain.of(array), aad.of(array))
	})
	if err != nil {
		return fmt.Errorf("AppendSeal: %w", err)
	}
	in := span{sealedAt, sealedAt + len(sealed)}
	if in.to > len(array) {
		return nil
	}
	if in.meets(aad) { // else the aad would be another one
		wantAAD, aad = nil, span{}
		if sealed, err = k.Seal(ctx, s, wantPlain, nil); err != nil {
			return err
		}
	}
	copy(in.of(array), sealed)
	open := func(dst []byte) ([]byte, error) { return k.AppendOpen(ctx, dst, s, in.of(array), aad.of(array)) }
	size := byok.OpenedSize(sealed)
	if size != len(wantPlain) {
		return fmt.Errorf("OpenedSize is %d, want %d", size, len(wantPlain))
	}
	opened, err := checkAppend(array, dst, limit, size, []span{in, aad}, open)
	if err != nil || !bytes.Equal(opened, wantPlain) {
		return fmt.Errorf("AppendOpen: %q, %w", opened, err)
	}
	sealed[flip%len(sealed)] ^= 1
	clear(array)
	copy(aad.of(array), wantAAD)
	copy(in.of(array), sealed)
	_, err = checkAppend(array, dst, limit, size, []span{in, aad}, open)
	if !errors.Is(err, byok.ErrOpen) {
		return fmt.Errorf("one bit is wrong: %w", err)
	}
	clear(aad.of(array))
	clear(in.of(array))
	if len(bytes.Trim(array, "\x00")) > 0 {
		return errors.New("something is left behind by what failed")
	}
	return nil
}

// Wherever the buffers lie, the append forms give whole results, write only where
// dst has room, and leave their inputs as they are.
func TestI_8_AppendForms(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	rapid.Check(t, func(rt *rapid.T) {
		array := rapid.SliceOfN(rapid.Byte(), 1200, 1200).Draw(rt, "array")
		part := func(name string) span {
			from := rapid.IntRange(0, 900).Draw(rt, name)
			return span{from, from + rapid.IntRange(0, 150).Draw(rt, name)}
		}
		dst := part("dst")
		limit := min(len(array), dst.to+rapid.SampledFrom([]int{0, 10, 160, 400}).Draw(rt, "room"))
		err := checkAppendForms(t.Context(), env.Keeper, array, part("plaintext"), part("aad"), dst, limit,
			rapid.IntRange(0, 900).Draw(rt, "sealed"), rapid.IntRange(0, 1000).Draw(rt, "flip"))
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func FuzzI_8_AppendOpen(f *testing.F) {
	f.Add([]byte("in its own place"), uint16(0), uint16(0), uint16(0), uint16(0), uint16(200))
	f.Add([]byte("behind its own plaintext"), uint16(0), uint16(50), uint16(20), uint16(24), uint16(3))
	f.Add([]byte("apart"), uint16(0), uint16(300), uint16(600), uint16(600), uint16(29))
	f.Add([]byte(""), uint16(7), uint16(7), uint16(7), uint16(7), uint16(7))
	f.Add(bytes.Repeat([]byte("long"), 100), uint16(100), uint16(0), uint16(10), uint16(100), uint16(9))
	env := byoktest.New(f, nil)
	env.Tenant("acme")
	f.Fuzz(func(t *testing.T, plain []byte, plainAt, sealedAt, dstFrom, dstTo, flip uint16) {
		array := make([]byte, 4096)
		p := span{int(plainAt) % 1000, int(plainAt)%1000 + len(plain)}
		if len(plain) > 2000 {
			return
		}
		copy(p.of(array), plain)
		dst := span{int(dstFrom) % 2000, 0}
		dst.to = dst.from + int(dstTo)%500
		err := checkAppendForms(t.Context(), env.Keeper, array, p, span{p.from, p.from + len(plain)/2}, dst, len(array), int(sealedAt)%2000, int(flip))
		if err != nil {
			t.Fatal(err)
		}
	})
}

// A denial while the success is being recorded: of what was opened into the caller's
// buffer nothing is left, and what else is in it stays (I8).
func TestI_8_WithheldLeavesNothing(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	env := byoktest.New(t, &byoktest.Options{Sink: sink})
	acme, _ := env.Tenant("acme")
	s := byok.Scope{Tenant: "acme"}
	plain := bytes.Repeat([]byte("PLAINTEXT"), 9000) // two segments
	sealed := seal(t, env.Keeper, "acme", string(plain), "")
	for _, op := range []byok.Op{byok.OpOpen, byok.OpSeal} {
		buf := append(make([]byte, 0, 100_000), "kept"...)
		sink.before(func(e byok.Event) {
			if e.Op == op && e.Outcome == byok.OutcomeSuccess {
				if n := bytes.Count(buf[:cap(buf)], []byte{0}); n > 20_000 {
					t.Errorf("the result is not in the buffer, so that this test tells nothing: %d bytes are 0", n)
				}
				_, err := acme.Suspend(context.Background(), "")
				want(t, "Suspend", err, nil)
			}
		})
		var out []byte
		var err error
		if op == byok.OpOpen {
			out, err = env.Keeper.AppendOpen(t.Context(), buf, s, sealed, nil)
		} else {
			out, err = env.Keeper.AppendSeal(t.Context(), buf, s, plain, nil)
		}
		if want(t, string(op), err, byok.ErrSuspended); out != nil {
			t.Error("a result beside an error")
		}
		if all := buf[:cap(buf)]; string(buf) != "kept" || bytes.Count(all, []byte{0}) != len(all)-len("kept") {
			t.Errorf("%s left %d bytes", op, len(all)-bytes.Count(all, []byte{0}))
		}
		sink.before(nil)
		_, err = acme.Resume(t.Context(), "")
		want(t, "Resume", err, nil)
	}
}

// Denials, restored access and dropped leases in the middle of append calls that share
// buffers with their own past: whatever they sealed opens, as what it was, and not under a key of zeros.
func TestI8_AppendWhileAccessChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		s := byok.Scope{Tenant: "acme"}
		type record struct{ sealed, plain []byte }
		records := make([][]record, 4) // by worker
		var refused atomic.Int64
		var wg sync.WaitGroup
		var stop atomic.Bool
		for w := range records {
			wg.Go(func() {
				buf, back := make([]byte, 0, 300), make([]byte, 0, 100)
				for i := 0; !stop.Load(); i++ {
					if i%20 == 19 {
						time.Sleep(200 * time.Millisecond)
					}
					plain := fmt.Appendf(nil, "record %d of %d", i, w)
					sealed, err := env.Keeper.AppendSeal(t.Context(), buf, s, plain, plain[:3])
					if err == nil {
						records[w] = append(records[w], record{bytes.Clone(sealed), plain})
						var got []byte
						if got, err = env.Keeper.AppendOpen(t.Context(), back, s, sealed, plain[:3]); err == nil && !bytes.Equal(got, plain) {
							t.Errorf("%q opened as %q", plain, got)
						}
					}
					switch {
					case err == nil:
					case errors.Is(err, byok.ErrKeyDenied), errors.Is(err, byok.ErrKeyUnavailable):
						refused.Add(1)
					default:
						t.Errorf("%v", err)
						return
					}
				}
			})
		}
		for range 5 {
			time.Sleep(500 * time.Millisecond)
			_, err := acme.Recheck(t.Context()) // drops all leases
			want(t, "Recheck", err, nil)
			time.Sleep(500 * time.Millisecond)
			cmk.Disable()
			_, _ = acme.Health(t.Context()) // sees it: the data keys are wiped
			time.Sleep(500 * time.Millisecond)
			cmk.Enable()
			time.Sleep(5 * time.Second)
			_, err = acme.Recheck(t.Context())
			want(t, "Recheck", err, nil)
		}
		stop.Store(true)
		wg.Wait()
		k := env.NewKeeper()
		n := 0
		for _, r := range slices.Concat(records...) {
			n++
			got, err := k.Open(t.Context(), s, r.sealed, r.plain[:3])
			if err != nil || !bytes.Equal(got, r.plain) {
				t.Fatalf("%q opens as %q, %v", r.plain, got, err)
			}
			_, core, payload, err := format.Parse(r.sealed)
			want(t, "Parse", err, nil)
			if _, err := floe.Open(nil, make([]byte, 32), format.PayloadAAD(core, "default", r.plain[:3]), payload); err == nil {
				t.Fatal("sealed under a key of zeros")
			}
		}
		t.Logf("%d sealed, %d refused", n, refused.Load())
		if n < 500 || refused.Load() == 0 {
			t.Error("too few to tell anything")
		}
	})
}

// The sizes are exact, at every boundary; what has none is -1.
func TestSizesAreKnownBeforehand(t *testing.T) {
	env := byoktest.New(t, nil)
	for _, tenant := range []string{"a", "acme"} {
		env.Tenant(tenant)
		for _, n := range []int{0, 1, 64, 4096, 65503, 65504, 65505, 131008, 131009, 1 << 20} {
			sealed := seal(t, env.Keeper, tenant, string(make([]byte, n)), "aad")
			if got := byok.SealedSize(tenant, n); got != len(sealed) {
				t.Errorf("SealedSize(%q, %d) = %d, want %d", tenant, n, got, len(sealed))
			}
			if got := byok.OpenedSize(sealed); got != n {
				t.Errorf("OpenedSize of %d bytes = %d, want %d", len(sealed), got, n)
			}
			if n == 64 {
				for i := range sealed {
					if got := byok.OpenedSize(sealed[:i]); got >= n {
						t.Errorf("OpenedSize of a prefix of %d bytes = %d", i, got)
					}
				}
			}
		}
	}
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	if got := byok.OpenedSize(seal(t, alone, "acme", "four", "")); got != 4 {
		t.Errorf("OpenedSize of an envelope with the key inside = %d", got)
	}
	for _, got := range []int{byok.SealedSize("", 1), byok.SealedSize("a b", 1), byok.SealedSize("acme", -1),
		byok.SealedSize("acme", int(^uint(0)>>1)), byok.OpenedSize(nil), byok.OpenedSize(make([]byte, 200))} {
		if got != -1 {
			t.Errorf("%d, want -1", got)
		}
	}
}
