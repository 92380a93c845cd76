package byok

import "context"

// Store keeps what a Keeper must not forget: registrations, acknowledged
// waivers, wrapped data keys, and events that wait for delivery. None of it is
// secret, since data keys are wrapped by the tenant's CMK; but whoever can write
// to it can deny service, and losing an item can lose a customer's data. Keep it
// where the platform keeps its most precious rows, and back it up.
//
// A Store is a map from Ref to a value with a revision:
//
//   - Items are never deleted. A revision starts at 1 and goes up by exactly one
//     with each write of the item.
//   - Get and List are consistent: they see every Apply that returned before
//     they were called, in any process. A replica that lags must not answer. A
//     Store caches nothing.
//   - Apply writes all items or none, and is durable (as fsync is) before it
//     returns nil. If an error other than ErrConflict comes back the writes may
//     or may not have taken place: the Keeper reads again and finds out.
//   - Values are opaque, not empty, and at most 64 KiB. They are copied in and out:
//     neither side sees a later change to the other's slice.
//   - Partitions and IDs are 1 to 255 bytes of 0x21..0x7e. Byte order is the
//     order of List.
//   - All methods are safe for concurrent use and return soon after ctx is done.
//
// Package storetest checks this contract; MemStore, and the nested module
// sqlstore, implement it.
type Store interface {
	// Get returns one item, or an error that is ErrNotFound.
	Get(ctx context.Context, r Ref) (Item, error)

	// List returns at most limit items (1 to 1000) of a partition whose IDs are
	// greater than after, in byte order; after is "" or can be an ID. An unknown
	// partition is empty.
	List(ctx context.Context, partition, after string, limit int) ([]Item, error)

	// Apply writes 1 to 25 items with distinct Refs. Each carries the revision that
	// it expects to replace, 0 for an item that must not exist; it is stored with
	// that revision plus one. If one expectation fails nothing is written and
	// the error is ErrConflict.
	Apply(ctx context.Context, writes ...Item) error
}

// Ref names an item.
type Ref struct{ Partition, ID string }

// Item is an entry of a Store.
type Item struct {
	Ref
	Revision uint64
	Value    []byte
}

// Limits of a Store.
const (
	MaxItemValue   = 64 << 10 // bytes of Item.Value
	MaxApplyWrites = 25       // items in one Apply
	MaxListLimit   = 1000     // items that one List may ask for
	MaxRefPart     = 255      // bytes of Ref.Partition and of Ref.ID
)
