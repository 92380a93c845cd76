package floe

import (
	"bytes"
	"io"
	"sync"
)

// fixed is a permit that always lends the same key. It notes how the message ended.
type fixed struct {
	key  []byte
	mu   sync.Mutex
	kept Keyed
	done []error
}

func (p *fixed) Lend(_ int64, f func([]byte, *Keyed) error) error {
	own := bytes.Clone(p.key)
	defer clear(own) // lent, not given
	return f(own, &p.kept)
}

func (p *fixed) Still() error { return nil }

func (p *fixed) Done(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, err)
	return err
}

// Streams of one worker, as most tests want them.
func newWriter(dst io.Writer, key []byte, p params, aad []byte) (*Writer, error) {
	return startWriter(dst, nil, &fixed{key: key}, p, aad, 1)
}

func newReader(src io.Reader, key, aad []byte, allowed func([]byte) (params, error)) (*Reader, error) {
	h, err := readHeader(src, allowed)
	if err != nil {
		return nil, err
	}
	return NewReader(src, h, &fixed{key: key}, aad, 1)
}

// headerError is what a stream says to a header alone.
func headerError(key, aad, header []byte, allowed func([]byte) (params, error)) error {
	_, err := newReader(bytes.NewReader(header), key, aad, allowed)
	return err
}
