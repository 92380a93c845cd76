package floe

import (
	"bytes"
	"crypto/sha512"
	"encoding"
	"reflect"
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
	inBothModes(t, testKeyedIsStateless)
}

func testKeyedIsStateless(t *testing.T) {
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

// Between messages nothing of a message is kept, and after Drop nothing of the key.
func TestI_3_KeyedKeepsNoMessage(t *testing.T) {
	inBothModes(t, func(t *testing.T) {
		var k Keyed
		m, err := k.startSealing(testKey, tiny, testAAD)
		if err != nil {
			t.Fatal(err)
		}
		ct, err := m.sealSegment(m.header[:], nil, 0, true)
		k.give(m)
		if err != nil {
			t.Fatal(err)
		}
		if m, err = k.startOpening(testKey, tiny, testAAD, ct[:HeaderSize]); err != nil {
			t.Fatal(err)
		}
		copy(m.hasher.inner[:], testKey) // as in FIPS mode, where it stays unused
		ct[len(ct)-1] ^= 1               // the keys are derived, and then the segment is refused
		if _, err := m.openSegment(nil, ct[HeaderSize:], 0, true); err != ErrAuth {
			t.Fatal(err)
		}
		info := m.info
		k.give(m)
		var empty [1000]byte
		if !m.wiped || m.aead != nil || m.mac != nil || m.padded != nil || m.key != [48]byte{} || m.okm != [48]byte{} ||
			m.tag != [32]byte{} || m.aesKey != [32]byte{} || m.hasher.inner != [48]byte{} || m.hasher.block != [128]byte{} ||
			!bytes.Equal(info, empty[:len(info)]) {
			t.Error("something is left of a message")
		}
		fresh, _ := sha512.New384().(encoding.BinaryMarshaler).MarshalBinary()
		for i, d := range m.hasher.digests {
			if got, err := d.(encoding.BinaryMarshaler).MarshalBinary(); err != nil || !bytes.Equal(got, fresh) {
				t.Error("the state of an HMAC is left", i)
			}
			// The end of its input too, which no method shows.
			x := reflect.ValueOf(d).Elem().FieldByName("x")
			for i := range x.Len() {
				if x.Index(i).Uint() != 0 && (i != 0 || x.Index(i).Uint() != 0x80) {
					t.Error("the input of an HMAC is left")
					break
				}
			}
		}
		kept := k.padded.Load()
		if validated != (kept == nil) || validated != (k.macs.Load() != nil) {
			t.Fatal("the HMAC is not kept, or in the other mode's way")
		}
		k.Drop()
		if k.padded.Load() != nil || k.macs.Load() != nil {
			t.Error("kept after Drop")
		}
		if !validated && !bytes.Equal(append(kept.inner, kept.outer...), empty[:len(kept.inner)+len(kept.outer)]) {
			t.Error("the key's pads are not cleared")
		}
	})
}

// Goroutines never share what is not for sharing.
func TestKeyedConcurrent(t *testing.T) {
	inBothModes(t, func(t *testing.T) {
		for range 20 {
			var k Keyed
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					msg := bytes.Repeat([]byte{byte(i)}, 100)
					for range 10 {
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
	})
}

// What a message allocates beyond its result: two objects that AES needs, and in FIPS mode three
// of an HMAC with a key of its own.
func TestKeyedAllocations(t *testing.T) {
	limit := 2.0
	if validated {
		limit = 5
	}
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
		}); n > limit && !raceDetector {
			t.Errorf("%s makes %v allocations", name, n)
		}
	}
}
