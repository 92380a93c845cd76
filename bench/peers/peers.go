// Package peers puts libraries that seal data under a key in a KMS behind one interface: byok
// and those that one would use in its place, each set up as its own documents advise for a
// server. All speak to one [kms.Fake].
package peers

import (
	"context"
	"io"

	"github.com/byok-go/byok/bench/kms"
)

// World is what outlives a process: the KMS, and what a peer has stored.
type World struct {
	KMS     *kms.Fake
	Tenants []string
	disk    any // each peer has a World of its own
}

// NewWorld returns a World in which nothing has happened yet.
func NewWorld(tenants ...string) *World { return &World{KMS: kms.New(), Tenants: tenants} }

// Peer is one way to seal. Start is what a process does before its first operation; the
// second Start in a World is a restart.
type Peer struct {
	Name  string
	Start func(context.Context, *World) (Library, error)

	MaxSize int  // of a message; 0: none that matters here
	NoAAD   bool // it cannot bind a message to what it is about
	NoEmpty bool // it does not open an empty message that it has sealed
}

// Library seals and opens messages that lie in memory. It is safe for concurrent use. What it
// seals is all that an application would have to store.
type Library interface {
	Seal(ctx context.Context, tenant string, plain, aad []byte) ([]byte, error)
	Open(ctx context.Context, tenant string, sealed, aad []byte) ([]byte, error)
	Close() error
}

// Appender is a Library that can write to a buffer of the caller's.
type Appender interface {
	AppendSeal(ctx context.Context, dst []byte, tenant string, plain, aad []byte) ([]byte, error)
	AppendOpen(ctx context.Context, dst []byte, tenant string, sealed, aad []byte) ([]byte, error)
}

// Streamer is a Library that can seal what does not fit into memory.
type Streamer interface {
	SealStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, aad []byte) error
	OpenStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, aad []byte) error
}

// Ranger is a Streamer whose streams can be opened in the middle.
type Ranger interface {
	OpenReaderAt(ctx context.Context, src io.ReaderAt, size int64, tenant string, aad []byte) (io.ReaderAt, error)
}

// All are the peers, after byok, and before the yardsticks.
func All() []Peer {
	return []Peer{
		{Name: "byok", Start: startBYOK},
		{Name: "byok-direct", Start: startDirect},
		{Name: "tink-envelope", Start: startTinkEnvelope},
		{Name: "tink-stream", Start: startTinkStream},
		{Name: "awsesdk-kms", Start: startESDK},
		{Name: "awsesdk-hierarchical", Start: startESDKHierarchical},
		{Name: "asherah", Start: startAsherah, NoAAD: true},
		{Name: "kms-wrapping", Start: startWrapping},
		{Name: "gocloud", Start: startGoCloud, NoAAD: true, MaxSize: 4096},
		{Name: "sio", Start: startSIO, NoAAD: true, NoEmpty: true},
		{Name: "age", Start: startAge, NoAAD: true},
		{Name: "plain-fresh", Start: startPlainFresh},
		{Name: "plain-reused", Start: startPlainReused},
	}
}
