package floe

import (
	"crypto/sha512"
	"hash"
	"sync"
	"sync/atomic"
)

// Keyed keeps what messages under one key can share: an HMAC that is keyed with it. That is a
// third of the work for a short message. The zero Keyed is ready, and the package's functions
// do the same without one.
//
// Its owner passes the same key each time, and calls Drop when that key is wiped. It is safe for
// concurrent use, by goroutines that do not wait for each other, but Drop must not run beside the
// others.
type Keyed struct {
	padded atomic.Pointer[padded]    // shared by all, and only read
	macs   atomic.Pointer[sync.Pool] // in FIPS mode instead: each is one goroutine's at a time
}

// messages are those that have ended. They keep nothing but their memory: their keys are
// cleared. They are not any Keyed's, so that goroutines on many cores share none.
var messages = sync.Pool{New: func() any { return newMessage() }}

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

// Drop clears what depends on the key, and forgets what nobody can clear: the pads inside
// crypto/hmac, in FIPS mode.
func (k *Keyed) Drop() {
	if p := k.padded.Swap(nil); p != nil {
		p.wipe()
	}
	k.macs.Store(nil)
}

// take returns a message that nobody else has, for a key of the right length. Whoever takes
// one gives it back.
func (k *Keyed) take(key []byte) (*message, error) {
	if len(key) != KeySize {
		return nil, errKeySize
	}
	m := messages.Get().(*message)
	m.wiped = false
	if validated {
		m.mac = k.keyedMAC(key)
		return m, nil
	}
	if m.padded = k.padded.Load(); m.padded == nil {
		m.padded = m.hasher.padded(key)
		if !k.padded.CompareAndSwap(nil, m.padded) { // somebody was faster
			m.padded.wipe()
			m.padded = k.padded.Load()
		}
	}
	return m, nil
}

// keyedMAC returns an HMAC that is keyed, and that give keeps for the next.
func (k *Keyed) keyedMAC(key []byte) hash.Hash {
	p := k.macs.Load()
	if p == nil {
		k.macs.CompareAndSwap(nil, new(sync.Pool))
		p = k.macs.Load()
	}
	if mac, ok := p.Get().(hash.Hash); ok {
		return mac
	}
	return validatedMAC(sha512.New384, key)
}

// give ends a message.
func (k *Keyed) give(m *message) {
	if m.mac != nil {
		k.macs.Load().Put(m.mac)
	}
	m.wipe()
	messages.Put(m)
}
