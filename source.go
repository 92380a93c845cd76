package byok

import (
	"context"
	"fmt"
	"io"

	"github.com/byok-go/byok/internal/storecheck"
)

// Source is the platform's records of one tenant, as a [Resealer] reads and replaces them. It stands for one place of one
// tenant: a table, a prefix of a bucket. Records that are too large for memory are [Objects] instead.
//
// Every record has a key, that never changes, and the Source has an order of its keys, that never changes either: the bytes'
// order, or that of numbers, as it likes. Keys are 1 to MaxRecordKey bytes of UTF-8 without control characters. They stand in
// the Store, in logs and in what is printed: so they are no secrets. A record with another key is named as a bad one, and passed by.
//
// Methods return soon after ctx is done. They may be called by several goroutines at once, and by several processes. An
// error stops the step and is tried again later, so an error is for what stops all: a record that is bad is the
// Resealer's to find, and one that cannot be read or written is [ErrRecordRefused].
type Source interface {
	// Records returns at most limit records in the order of their keys: of those after the key after ("": from the first
	// on), up to and including the key last ("": up to the last). None is the end. It must see what was written before it was
	// called: a replica that lags will not do.
	//
	// Records that are written meanwhile may be in it, or not; one that was there before, and still is, must be.
	Records(ctx context.Context, after, last string, limit int) ([]Record, error)

	// Replace makes sealed[i] the value of records[i], of each that still is as Records returned it: it compares and writes in
	// one step, so that it never undoes a write of the platform's. done[i] says whether it did. It is durable before it
	// returns. If err is not nil, any of them may have been replaced, or none. If it is [ErrRecordRefused], one of them is refused whatever is
	// done: the Resealer gives it fewer and fewer, and names the one that is.
	//
	// Of a record in clear, the same step marks it as sealed, and leaves no clear value behind.
	Replace(ctx context.Context, records []Record, sealed [][]byte) (done []bool, err error)
}

// Record is one value of a Source.
type Record struct {
	Key     string
	Purpose string // as Scope.Purpose
	AAD     []byte // that it is sealed with, or is to be
	Value   []byte // an envelope; or what is to be sealed, if Clear

	// Clear: Value is not sealed yet. The platform says so, by a column or a place of their own, say. It is never guessed from
	// Value: whoever could write an envelope there could have it sealed, and whoever could mark a record so could have it
	// vouched for. See Resealing.Adopt.
	Clear bool

	// Version is the Source's own, to know in Replace whether the record is as it was. A Source that compares Value needs none.
	Version string
}

// ErrRecordRefused is what a Source's Replace, and Open and Replace of Objects, wrap if one record can never be done, and others can: a constraint of
// the table is against it, or its file is somebody else's. Its text says why, with no value in it: the record is named with that, as a bad one is, and stepped over.
var ErrRecordRefused = newError(ErrArgument, "the source refuses the record")

// MaxRecordKey is the longest key of a record, in bytes.
const MaxRecordKey = storecheck.MaxRecordKey

// Splitter is a Source, or Objects, whose keys can be shared out among workers.
type Splitter interface {
	// Split returns the last keys of all shards but the last, in order, for at most n shards of about the same size. No shard ends with
	// what cannot be a key.
	Split(ctx context.Context, n int) (lasts []string, err error)
}

// Counter is a Source, or Objects, that knows about how many records there are, for people to see how far a job is.
type Counter interface {
	Count(ctx context.Context) (int64, error)
}

// Objects are a Source of records that are streams: files, or objects of a bucket. What Source says holds for them.
type Objects interface {
	// Objects is as Source.Records.
	Objects(ctx context.Context, after, last string, limit int) ([]Object, error)

	// Open returns what the object holds, an envelope or, if o is Clear, what is to be sealed. It ends with an error
	// if it is not what o says any more. An object that is gone is an error that is [ErrNotFound]; one that may not be read,
	// [ErrRecordRefused].
	Open(ctx context.Context, o Object) (io.ReadCloser, error)

	// Replace makes what write writes the object, if write returns nil and the object still is what Objects said: all at
	// once, and durably, so that every reader sees the old or the new, whole. done says whether it did. What write returns is
	// what Replace returns, with nothing changed. If this object cannot be replaced whatever is done, the error is [ErrRecordRefused].
	Replace(ctx context.Context, o Object, write func(w io.Writer) error) (done bool, err error)
}

// Object is one of Objects. Its fields are those of Record.
type Object struct {
	Key     string
	Purpose string
	AAD     []byte
	Clear   bool
	Version string // an ETag, say: Replace compares it
}

func checkRecordKey(key string) error {
	if !storecheck.RecordKey(key) {
		return fmt.Errorf("%w: a record's key is 1 to %d bytes of UTF-8 without control characters", ErrArgument, MaxRecordKey)
	}
	return nil
}
