package floe

import (
	"bytes"
	"io"
	"testing"
)

func mustSeal(t testing.TB, p params, msg []byte) []byte {
	t.Helper()
	ct, err := seal(nil, testKey, p, testAAD, msg)
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

// A17, inside the package: a segment only opens where, and as what, it was sealed.
func TestPositionAndFinalFlagAreAuthenticated(t *testing.T) {
	m, err := new(Keyed).startSealing(testKey, tiny, nil)
	if err != nil {
		t.Fatal(err)
	}
	pt := randomBytes(32) // full, so that either flag is a legal length
	for _, final := range []bool{false, true} {
		segment, err := m.sealSegment(nil, pt, 5, final)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.openSegment(nil, segment, 5, final); err != nil || !bytes.Equal(got, pt) {
			t.Fatal(err)
		}
		for _, pos := range []uint64{0, 4, 6, 5 + 1<<20, 5 + 1<<32} {
			if _, err := m.openSegment(nil, segment, pos, final); err != ErrAuth {
				t.Errorf("sealed for 5, opened at %d: %v", pos, err)
			}
		}
		// Relabelled: the length field says what the attacker wants.
		copy(segment, []byte{0xff, 0xff, 0xff, 0xff})
		if final {
			_, err = m.openSegment(nil, segment, 5, false)
		} else {
			copy(segment, []byte{0, 0, 0, 64})
			_, err = m.openSegment(nil, segment, 5, true)
		}
		if err != ErrAuth {
			t.Errorf("sealed with final %v, relabelled: %v", final, err)
		}
	}
}

// The AES key is the same within 2^20 segments and another one after them.
func TestJ4_KeyRotatesAfterTwoToTheTwenty(t *testing.T) {
	p, err := Params{}.resolve()
	if err != nil || p.rotation != 20 {
		t.Fatalf("rotation after 2^%d segments", p.rotation)
	}
	m, err := new(Keyed).startSealing(testKey, p, testAAD)
	if err != nil {
		t.Fatal(err)
	}
	ref := newReference(testKey, testAAD, m.header[paramsSize:prefixSize], p)
	const block = 1 << 20
	// Back and forth, because the key in use is remembered.
	for _, pos := range []uint64{0, block - 1, block, 2*block - 1, block - 1, 7*block + 3, maxSegments - 1, 0} {
		segment, err := m.sealSegment(nil, nil, pos, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ref.open(segment, pos, 1); err != nil {
			t.Errorf("position %d: not the key of the specification", pos)
		}
	}
	// The reference's keys, to be sure that it tells the two apart.
	sealed := ref.aead(block-1).Seal(nil, nil, nil, nil)
	if _, err := ref.aead(0).Open(nil, nil, sealed, nil); err != nil {
		t.Error("the key changes too early")
	}
	if _, err := ref.aead(block).Open(nil, nil, sealed, nil); err == nil {
		t.Error("the key at 2^20-1 is still the key at 2^20")
	}
	first, last := m.cipherFor(block-1), m.cipherFor(block)
	if _, err := last.Open(nil, nil, first.Seal(nil, nil, nil, nil), nil); err == nil {
		t.Error("ours does not change at 2^20")
	}
}

// A18: 2^40 segments and no more; the last of them can only be the final one.
func TestA18_SegmentCounterDoesNotOverflow(t *testing.T) {
	m, err := new(Keyed).startSealing(testKey, tiny, nil)
	if err != nil {
		t.Fatal(err)
	}
	full := make([]byte, 32)
	for _, c := range []struct {
		pos   uint64
		final bool
		ok    bool
	}{
		{1<<40 - 2, false, true},
		{1<<40 - 1, false, false},
		{1<<40 - 1, true, true},
		{1 << 40, true, false},
		{1 << 40, false, false},
		{1<<64 - 1, true, false},
	} {
		segment, err := m.sealSegment(nil, full, c.pos, c.final)
		if (err == nil) != c.ok {
			t.Errorf("sealing at %d, final %v: %v", c.pos, c.final, err)
		}
		if err != nil {
			ref := newReference(testKey, nil, m.header[paramsSize:prefixSize], tiny)
			flag := byte(0)
			if c.final {
				flag = 1
			}
			segment = ref.seal(full, c.pos, flag)
		}
		if _, err := m.openSegment(nil, segment, c.pos, c.final); (err == nil) != c.ok {
			t.Errorf("opening at %d, final %v: %v", c.pos, c.final, err)
		}
	}
	w, err := newWriter(io.Discard, testKey, tiny, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.pos = 1<<40 - 1
	if _, err := w.Write(append(full, 1)); err != errTooLong {
		t.Errorf("Writer: %v", err)
	}
}

// What we hold is gone after wipe, and using it again is loud: a message sealed
// under a cleared key would be readable by anyone.
func TestWipe(t *testing.T) {
	m, err := new(Keyed).startSealing(testKey, tiny, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.cipherFor(0)
	if m.key == [48]byte{} || m.okm != [48]byte{} {
		t.Fatal("no message key, or its source was left lying about")
	}
	m.wipe()
	if m.key != [48]byte{} || m.aead != nil {
		t.Error("keys are still there")
	}
	defer func() {
		if recover() == nil {
			t.Error("sealed with a wiped message")
		}
	}()
	m.sealSegment(nil, nil, 0, true)
}
