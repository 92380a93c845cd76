package floe

import (
	"bytes"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// seal and open are what Seal and Open do, with parameters that they do not take.
func seal(dst, key []byte, p params, aad, plaintext []byte) ([]byte, error) {
	return new(Keyed).seal(dst, key, p, aad, plaintext)
}

func open(dst, key, aad, ciphertext []byte, allowed func([]byte) (params, error)) ([]byte, error) {
	return new(Keyed).open(dst, key, aad, ciphertext, allowed)
}

// Whatever came before it under the same key, a message is the one that it would have
// been alone: what Keyed seals a fresh state opens, the other way round, and what is
// refused once is refused always.
func TestKeyedIsStateless(t *testing.T) {
	var shared Keyed
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]params{tiny, {64, 0}, {4096, rotationBits}}).Draw(t, "params")
		msg := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "message")
		aad := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "aad")
		ct, err := shared.seal(nil, testKey, p, aad, msg)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := open(nil, testKey, aad, ct, pinned(p)); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("sealed with shared state: %v", err)
		}
		if ct, err = seal(nil, testKey, p, aad, msg); err != nil {
			t.Fatal(err)
		}
		if got, err := shared.open(nil, testKey, aad, ct, pinned(p)); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("opened with shared state: %v", err)
		}
		ct[rapid.IntRange(0, len(ct)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := shared.open(nil, testKey, aad, ct, pinned(p)); err == nil || got != nil {
			t.Fatal("one bit is wrong, and it opens")
		}
	})
}

// Between messages nothing of a message is kept, and after Drop nothing at all.
func TestI_3_KeyedKeepsNoMessage(t *testing.T) {
	var k Keyed
	ct, err := k.Seal(nil, testKey, Params{}, testAAD, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	ct[len(ct)-1] ^= 1 // the keys are derived, and then the segment is refused
	if _, err := k.Open(nil, testKey, testAAD, ct); err != ErrAuth {
		t.Fatal(err)
	}
	ct[HeaderSize-1] ^= 1
	if _, err := k.Open(nil, testKey, testAAD, ct); err != ErrAuth {
		t.Fatal(err)
	}
	m := k.idle[0].Load()
	if m == nil || k.idle[1].Load() != nil {
		t.Fatal("one after the other, they need one state")
	}
	empty := make([]byte, len(m.key))
	if !m.wiped || m.aead != nil || m.aad != nil || !bytes.Equal(m.key[:], empty) || !bytes.Equal(m.okm[:], empty) ||
		!bytes.Equal(m.tag[:], empty[:tagSize]) || !bytes.Equal(m.aesKey[:], empty[:KeySize]) {
		t.Errorf("something is left of a message: %v", m.wiped)
	}
	for _, d := range m.digests {
		if got, want := d.Sum(nil), m.nextDigest().Sum(nil); !bytes.Equal(got, want) {
			t.Error("the state of an HMAC is left")
		}
	}
	k.Drop()
	for i := range k.idle {
		if k.idle[i].Load() != nil {
			t.Error("kept after Drop")
		}
	}
}

// Two at once never share a state, and no more than maxIdle are kept.
func TestKeyedConcurrent(t *testing.T) {
	var k Keyed
	var wg sync.WaitGroup
	for i := range 3 * maxIdle {
		wg.Go(func() {
			msg := bytes.Repeat([]byte{byte(i)}, 100)
			for range 50 {
				ct, err := k.Seal(nil, testKey, Params{}, testAAD, msg)
				if err != nil {
					t.Error(err)
				}
				if got, err := k.Open(nil, testKey, testAAD, ct); err != nil || !bytes.Equal(got, msg) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := k.Seal(nil, testKey[:31], Params{}, nil, nil); err != errKeySize {
		t.Errorf("a short key, with states at hand: %v", err)
	}
}

// What a message allocates beyond its result: two objects that AES needs, and three of
// an HMAC with a key of its own.
func TestKeyedAllocations(t *testing.T) {
	var k Keyed
	buf := make([]byte, 0, 1000)
	ct, err := k.Seal(nil, testKey, Params{}, testAAD, buf[:64])
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"Seal": func() error { _, err := k.Seal(buf, testKey, Params{}, testAAD, testKey); return err },
		"Open": func() error { _, err := k.Open(buf, testKey, testAAD, ct); return err },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		}); n > 5 {
			t.Errorf("%s makes %v allocations", name, n)
		}
	}
}
