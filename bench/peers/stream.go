package peers

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// Applications copy with io.Copy, and here too: a library may take the source and give to the
// destination in its own way. But both are nothing more than a Reader and a Writer, since
// sockets, pipes and hashes are not, like bytes.Reader, the whole message in one piece.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// buffers are of 64 KiB, for libraries that bring none.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// sealTo writes src to w and closes it. err is that of the constructor, if it failed.
func sealTo(w io.WriteCloser, src io.Reader, err error) error {
	if err != nil {
		return err
	}
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	if _, err := io.CopyBuffer(w, onlyReader{src}, buf[:]); err != nil {
		return err
	}
	return w.Close()
}

func openFrom(dst io.Writer, r io.Reader, err error) error {
	if err != nil {
		return err
	}
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	_, err = io.CopyBuffer(onlyWriter{dst}, r, buf[:])
	return err
}

// messages makes a Library of a Streamer.
type messages struct{ Streamer }

func (m messages) Seal(ctx context.Context, tenant string, plain, aad []byte) ([]byte, error) {
	var out bytes.Buffer
	err := m.SealStream(ctx, &out, bytes.NewReader(plain), tenant, aad)
	return out.Bytes(), err
}

func (m messages) Open(ctx context.Context, tenant string, sealed, aad []byte) ([]byte, error) {
	var out bytes.Buffer
	err := m.OpenStream(ctx, &out, bytes.NewReader(sealed), tenant, aad)
	return out.Bytes(), err
}

func (m messages) Close() error { return nil }

// ranged is messages whose Streamer is a Ranger.
type ranged struct {
	messages
	Ranger
}
