package byok

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/byok-go/byok/internal/erase"
	"github.com/byok-go/byok/internal/floe"
)

// dekSize is the size of every data key: FLOE with AES-256 takes no other.
const dekSize = 32

// errWiped never leaves the package by itself: an operation that meets it asks
// the lease why the key went away.
var errWiped = errors.New("byok: data key is wiped")

const redacted = "byok.DEK(redacted)"

// DEK is a plaintext data key that is lent, never given.
//
// The key lives in a closure, the one place that no formatting verb, encoder or
// logger of Go can look into. What a DEK cannot promise is said in SECURITY.md:
// copies that the Go runtime, the AES key schedule or an SDK made on the way
// here are out of its reach.
type DEK struct {
	// use lends the key to u; a nil u wipes it. One closure for both keeps the
	// bytes out of every struct.
	use func(u user, lane int) error
}

// user works with a data key that is lent to it, and with what messages under that key
// share, which may not outlive it.
type user interface {
	withKey(raw []byte, shared *floe.Keyed) error
}

// userFunc is a user of the bytes alone.
type userFunc func(raw []byte) error

func (f userFunc) withKey(raw []byte, _ *floe.Keyed) error { return f(raw) }

// stepFunc is a user of both.
type stepFunc func(raw []byte, shared *floe.Keyed) error

func (f stepFunc) withKey(raw []byte, shared *floe.Keyed) error { return f(raw, shared) }

// NewDEK takes over raw, which must be exactly 32 bytes long, and clears it,
// also when it returns an error.
func NewDEK(raw []byte) (*DEK, error) {
	defer clear(raw)
	if len(raw) != dekSize {
		return nil, fmt.Errorf("%w: a data key is %d bytes long, got %d", ErrInternal, dekSize, len(raw))
	}
	var (
		mu     lanes
		key    []byte
		shared floe.Keyed
		wiped  bool
	)
	erase.Do(func() { key = append(key, raw...) })
	return &DEK{use: func(u user, lane int) error {
		if u == nil {
			mu.Lock()
			defer mu.Unlock()
			clear(key)
			shared.Drop()
			wiped = true
			return nil
		}
		mu[lane].RLock()
		defer mu[lane].RUnlock()
		if wiped {
			// Lending 32 zero bytes would let a race seal under a known key.
			return errWiped
		}
		var err error
		erase.Do(func() { err = u.withKey(key, &shared) })
		return err
	}}, nil
}

// Use lends the 32 bytes to f, which must not change or keep them, nor call
// Wipe. It returns f's error, and an error of its own without calling f when
// the key has been wiped. Concurrent calls do not wait for each other.
func (d *DEK) Use(f func(raw []byte) error) error {
	if f == nil {
		return errWiped
	}
	return d.lend(userFunc(f), 0)
}

// lend is Use for a user, which is not nil, in a lane. It allocates nothing.
func (d *DEK) lend(u user, lane int) error {
	if d == nil || d.use == nil {
		return errWiped
	}
	return d.use(u, lane)
}

// Wipe zeroes the key after the calls of Use that are under way have returned.
// It may be called any number of times.
func (d *DEK) Wipe() {
	if d != nil && d.use != nil {
		_ = d.use(nil, 0)
	}
}

// Format implements fmt.Formatter for every verb.
func (d *DEK) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue implements slog.LogValuer.
func (d *DEK) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for encoders that would look inside.
func (d *DEK) MarshalText() ([]byte, error) { return []byte(redacted), nil }
