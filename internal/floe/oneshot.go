package floe

import (
	"math"
	"unsafe"
)

// Seal appends the sealed form of plaintext to dst and returns the longer slice.
// Every call draws a fresh IV, so equal messages do not look equal. There is one
// encoding for each length of plaintext, [SealedSize] bytes long.
//
// It fails only for a key that is not [KeySize] long, for parameters that are not
// among the three, and for a message too long for the machine. It may be called
// from many goroutines at once, also with the same key.
func Seal(dst, key []byte, p Params, aad, plaintext []byte) ([]byte, error) {
	var k Keyed
	defer k.Drop()
	return k.Seal(dst, key, p, aad, plaintext)
}

func (k *Keyed) seal(dst, key []byte, p params, aad, plaintext []byte) ([]byte, error) {
	size := p.sealedSize(len(plaintext))
	if size < 0 || size > math.MaxInt-len(dst) {
		return nil, errTooLong
	}
	m, err := k.startSealing(key, p, aad)
	if err != nil {
		return nil, err
	}
	defer k.give(m)
	dst = Reserve(dst, size, plaintext, aad)
	dst = append(dst, m.header[:]...)
	for pos := uint64(0); ; pos++ {
		// "Longer than a segment", not "at least as long": a message that ends
		// with a full segment has no empty one after it.
		final := len(plaintext) <= p.plain()
		n := min(len(plaintext), p.plain())
		if dst, err = m.sealSegment(dst, plaintext[:n], pos, final); err != nil || final {
			return dst, err
		}
		plaintext = plaintext[n:]
	}
}

// Open appends the plaintext of ciphertext to dst and returns the longer slice.
// The segment size is the header's, if it is one of the three.
//
// The error is [ErrMalformed], [ErrAuth], or about the length of the key. With
// an error nothing is returned, and what was already decrypted has been cleared
// again from dst's spare capacity. The result is never nil without an error, not
// even that of an empty message. Safe for concurrent use, as Seal is.
func Open(dst, key, aad, ciphertext []byte) ([]byte, error) {
	var k Keyed
	defer k.Drop()
	return k.Open(dst, key, aad, ciphertext)
}

// Check looks at what is public of a ciphertext, its parameters and its length,
// and returns the error that Open would return for them under any key. It costs
// nothing, and saves the question for a key to something that cannot open.
func Check(ciphertext []byte) error {
	_, err := PlaintextSize(ciphertext)
	return err
}

// PlaintextSize is Check, and returns how many bytes of plaintext ciphertext holds if it
// is authentic: good for sizing a buffer, but not for telling anyone.
func PlaintextSize(ciphertext []byte) (int, error) {
	if len(ciphertext) < HeaderSize {
		return 0, ErrAuth
	}
	p, err := accept(ciphertext[:HeaderSize])
	if err != nil {
		return 0, err
	}
	if want := p.encode(); string(ciphertext[:paramsSize]) != string(want[:]) {
		return 0, ErrMalformed
	}
	n := p.openedSize(len(ciphertext))
	if n < 0 {
		return 0, ErrAuth
	}
	return n, nil
}

func (k *Keyed) open(dst, key, aad, ciphertext []byte, allowed func([]byte) (params, error)) ([]byte, error) {
	if len(ciphertext) < HeaderSize {
		return nil, ErrAuth
	}
	header, body := ciphertext[:HeaderSize], ciphertext[HeaderSize:]
	p, err := allowed(header)
	if err != nil {
		return nil, err
	}
	m, err := k.startOpening(key, p, aad, header)
	if err != nil {
		return nil, err
	}
	defer k.give(m)
	// The size follows from the length of what is here, not from any field.
	size := p.openedSize(len(ciphertext))
	if size < 0 || size > math.MaxInt-len(dst) {
		return nil, ErrAuth
	}
	out := Reserve(dst, size, ciphertext, aad)
	start := len(out)
	for pos := uint64(0); ; pos++ {
		final := len(body) <= p.segment
		n := min(len(body), p.segment)
		opened, err := m.openSegment(out, body[:n], pos, final)
		if err != nil {
			// Earlier segments were authentic, but a prefix is not the message.
			clear(out[start:])
			return nil, err
		}
		if out, body = opened, body[n:]; final {
			return out, nil
		}
	}
}

// Reserve returns dst with room for n more bytes, which do not overlap any of the
// inputs. Sealing in place would overwrite the plaintext with the header before
// it is read, and the result would authenticate: silent loss of data. So where
// the caller's buffers overlap, the result goes to a new one.
func Reserve(dst []byte, n int, inputs ...[]byte) []byte {
	if dst != nil && cap(dst)-len(dst) >= n {
		room := dst[len(dst) : len(dst)+n]
		clash := false
		for _, in := range inputs {
			clash = clash || overlap(room, in)
		}
		if !clash {
			return dst
		}
	}
	grown := make([]byte, len(dst), len(dst)+n)
	copy(grown, dst)
	return grown
}

// overlap reports whether a and b share memory. The standard library has the same
// function where other modules cannot import it; comparing addresses is all that
// unsafe is used for.
func overlap(a, b []byte) bool {
	return len(a) > 0 && len(b) > 0 &&
		uintptr(unsafe.Pointer(&a[0])) <= uintptr(unsafe.Pointer(&b[len(b)-1])) &&
		uintptr(unsafe.Pointer(&b[0])) <= uintptr(unsafe.Pointer(&a[len(a)-1]))
}
