package floe

import "sync/atomic"

// Keyed keeps what messages under one key can share: an HMAC that is keyed with it, whose
// pads have been hashed, and the memory of a message that has ended. That is a third of
// the work for a short message. The zero Keyed is ready, and the package's functions do
// the same without one.
//
// Its owner passes the same key each time, and calls Drop when that key is wiped: what
// is idle holds pads of the key, which nobody can clear inside crypto/hmac. It is safe for concurrent
// use, but Drop must not run beside the others.
type Keyed struct {
	idle [maxIdle]atomic.Pointer[message]
}

// maxIdle bounds how much is kept for each key, 1.5 KiB each: as many goroutines can use one
// key at once without setting up an HMAC. More of them do set it up.
const maxIdle = 4

// Seal is the function of that name.
func (k *Keyed) Seal(dst, key []byte, p Params, aad, plaintext []byte) ([]byte, error) {
	pp, err := p.resolve()
	if err != nil {
		return nil, err
	}
	return k.seal(dst, key, pp, aad, plaintext)
}

// Open is the function of that name.
func (k *Keyed) Open(dst, key, aad, ciphertext []byte) ([]byte, error) {
	return k.open(dst, key, aad, ciphertext, accept)
}

// Drop forgets everything that depends on the key.
func (k *Keyed) Drop() {
	for i := range k.idle {
		k.idle[i].Store(nil)
	}
}

// take returns a message that nobody else has.
func (k *Keyed) take(key []byte) (*message, error) {
	if len(key) != KeySize {
		return nil, errKeySize
	}
	for i := range k.idle {
		if m := k.idle[i].Load(); m != nil && k.idle[i].CompareAndSwap(m, nil) {
			m.wiped = false
			return m, nil
		}
	}
	return newMessage(key)
}

// give ends a message and keeps it for the next, if there is room. Nothing of the message
// itself stays: its keys are cleared, and the HMAC is back where its key has left it.
func (k *Keyed) give(m *message) {
	m.wipe()
	m.mac.Reset()
	for i := range k.idle {
		if k.idle[i].CompareAndSwap(nil, m) {
			return
		}
	}
}
