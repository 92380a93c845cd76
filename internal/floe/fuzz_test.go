package floe

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// FuzzOpen looks for panics, for two ways of opening that disagree, and for a message
// that opens though nobody sealed it. Its seeds are the 78 cases, since the set of
// messages that may open must be the same in every process of the fuzzer.
func FuzzOpen(f *testing.F) {
	cases := floeCases(f)
	key, aad := fromHex(f, cases[0].Key), fromHex(f, cases[0].AAD)
	sealed := map[string]bool{}
	for _, c := range cases {
		f.Add(fromHex(f, c.CT))
		// Some cases are invalid only because of their own key, aad or segment size.
		sealed[string(fromHex(f, c.CT))] = c.AAD == cases[0].AAD && c.Key == cases[0].Key && c.Result == "valid" ||
			c.Flags[0] == "WrongKey" || c.Flags[0] == "WrongContext" || c.Flags[0] == "Downgrade"
	}
	if len(sealed) < 70 {
		f.Fatalf("only %d different seeds", len(sealed))
	}
	f.Fuzz(func(t *testing.T, ct []byte) {
		opened := false
		for _, allowed := range []func([]byte) (params, error){accept, pinned(tiny)} {
			pt, err := open(nil, key, aad, ct, allowed)
			opened = opened || err == nil
			if err != nil && (pt != nil || err != ErrAuth && err != ErrMalformed) {
				t.Fatalf("%d bytes with error %v", len(pt), err)
			}
			got, streamErr := stream(ct, key, aad, allowed)
			if err == nil && (streamErr != io.EOF || !bytes.Equal(got, pt)) || err != nil && streamErr != err {
				t.Fatalf("Open: %v, Reader: %v", err, streamErr)
			}
		}
		if opened != sealed[string(ct)] {
			t.Fatalf("opens: %v, sealed: %v", opened, sealed[string(ct)])
		}
	})
}

// FuzzStream looks for a difference between opening at once, as a stream in pieces of any
// size, by several goroutines, and by random access.
func FuzzStream(f *testing.F) {
	cases := floeCases(f)
	key, aad := fromHex(f, cases[0].Key), fromHex(f, cases[0].AAD)
	for i, c := range cases {
		f.Add(fromHex(f, c.CT), uint8(i*7), uint8(i))
	}
	f.Fuzz(func(t *testing.T, ct []byte, piece, workers uint8) {
		for _, allowed := range []func([]byte) (params, error){accept, pinned(tiny)} {
			want, wantErr := open(nil, key, aad, ct, allowed)
			src := &pieces{bytes.NewReader(ct), 1 + int(piece)}
			h, err := readHeader(src, allowed)
			if err != nil {
				if wantErr == nil {
					t.Fatalf("ReadHeader: %v", err)
				}
				continue
			}
			permit := &fixed{key: key}
			r, err := NewReader(src, h, permit, aad, 1+int(workers)%5)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
			}
			if err != wantErr || err == nil && !bytes.Equal(got, want) {
				t.Fatalf("Reader: %d bytes, %v; Open: %v", len(got), err, wantErr)
			}
			at, err := NewReaderAt(bytes.NewReader(ct), int64(len(ct)), h, permit, aad, 1+int(workers)%5)
			if err == nil {
				got = make([]byte, at.Size())
				_, err = at.ReadAt(got, 0)
			}
			if err != wantErr || err == nil && !bytes.Equal(got, want) {
				t.Fatalf("ReaderAt: %v, Open: %v", err, wantErr)
			}
		}
	})
}

type pieces struct {
	src io.Reader
	n   int
}

func (p *pieces) Read(b []byte) (int, error) { return p.src.Read(b[:min(len(b), p.n)]) }

// FuzzRange reads a range of a message in which perhaps a bit is wrong: what comes out is a part
// of the message, or an error.
func FuzzRange(f *testing.F) {
	for _, n := range []uint16{0, 1, 31, 32, 33, 63, 64, 65, 327} {
		for i, off := range []uint16{0, 1, n / 2, n, n + 1} {
			f.Add(n, off, uint16(i*20), uint16(0))
			f.Add(n, off, n, 8*HeaderSize+uint16(i)*100)
		}
	}
	f.Fuzz(func(t *testing.T, size, off, n, flip uint16) {
		msg := make([]byte, int(size)%2000)
		for i := range msg {
			msg[i] = byte(i ^ i>>5)
		}
		ct := mustSeal(t, tiny, msg)
		if flip != 0 {
			ct[int(flip)/8%len(ct)] ^= 1 << (flip % 8)
		}
		var r *ReaderAt
		h, err := readHeader(bytes.NewReader(ct), pinned(tiny))
		if err == nil {
			r, err = NewReaderAt(bytes.NewReader(ct), int64(len(ct)), h, &fixed{key: testKey}, testAAD, 2)
		}
		if err != nil {
			if flip == 0 || err != ErrAuth && err != ErrMalformed {
				t.Fatal(err)
			}
			return
		}
		buf := make([]byte, n)
		k, err := r.ReadAt(buf, int64(off))
		want := msg[min(int(off), len(msg)):min(int(off)+int(n), len(msg))]
		if err != nil && err != io.EOF {
			if flip == 0 || err != ErrAuth || k != 0 {
				t.Fatal(k, err)
			}
			return
		}
		if r.Size() != int64(len(msg)) || !bytes.Equal(buf[:k], want) || (err == io.EOF) != (len(want) < int(n)) {
			t.Fatalf("%d bytes at %d of %d, bit %d: %d, %v", n, off, len(msg), flip, k, err)
		}
	})
}

var benchSizes = []int{64, 1 << 10, 64 << 10, 1 << 20}

func BenchmarkSeal(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			msg, dst := make([]byte, n), make([]byte, 0, SealedSize(Params{}, n))
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Seal(dst, testKey, Params{}, testAAD, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ct, err := Seal(nil, testKey, Params{}, testAAD, make([]byte, n))
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(dst, testKey, testAAD, ct); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An allocation more on the hot path is a decision, not an accident.
func TestAllocations(t *testing.T) {
	msg := make([]byte, 64)
	dst := make([]byte, 0, 1000)
	ct, err := Seal(nil, testKey, Params{}, testAAD, msg)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 24 // 15 as measured by the benchmarks; FIPS mode adds 2, the race detector up to 4
	if n := testing.AllocsPerRun(100, func() { Seal(dst, testKey, Params{}, testAAD, msg) }); n > limit {
		t.Errorf("Seal allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { Open(dst, testKey, testAAD, ct) }); n > limit {
		t.Errorf("Open allocates %v times", n)
	}
}
