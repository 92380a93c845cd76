package byok

import "context"

// Store keeps what a Keeper must not forget: registrations, acknowledged
// waivers, wrapped data keys, and events that wait for delivery. None of it is
// secret, since data keys are wrapped by the tenant's CMK; but whoever can write
// to it can deny service, and losing an item can lose a customer's data. Keep it
// where the platform keeps its most precious rows, and back it up.
//
// A Store is a map from Ref to a value with a revision. What follows is all that a
// Keeper relies on. Package storetest proves it; MemStore, and the nested modules
// sqlstore and dynamostore, implement it.
//
// # Revisions
//
// Items are never deleted. A revision starts at 1 and goes up by exactly one with
// each write of the item, whether or not the value is another one. Of all writers
// who expect the same revision of an item one succeeds; that is how two processes
// do not make two data keys.
//
// # Apply is atomic
//
// Apply writes all items or none, and compares all revisions and writes in one
// step: no other Apply comes in between, and no reader, in any process, sees a part
// of it once it has seen another part. ErrConflict says that an expectation did
// not hold, and that nothing was written; it must be certain, and is never the answer
// to anything else, such as a busy database or a deadlock. There is no order
// among the writes of one Apply.
//
// # Durable before nil
//
// When Apply returns nil the writes survive the end of the process, of the machine,
// and a power cut, as after fsync. A commit that comes back from the dead as an older
// one can bring back a revocation, or lose the only copy of a data key. Where
// commits can be lost in a failover, the Keeper treats it as a Store that was
// rolled back.
//
// # Reads are consistent
//
// Get and List see every Apply that returned before they were called, in any
// process (strict serializability, for each item and for each Apply). A replica that lags
// must not answer, and a Store caches nothing: not values, not that there is
// none, not for a moment. The Keeper caches what may be cached, for as long as
// it may be.
//
// List is ordered by the bytes of IDs, without any collation, and by the position
// after: an item that was there before the first page was asked for, and IDs are
// never removed, is on exactly one page, whatever is written meanwhile. A page is
// shorter than limit only if it is the last. A page need not be of one instant,
// but each of its items is as consistent as Get's.
//
// # Errors
//
// An error other than ErrConflict, ErrNotFound and ErrArgument says nothing about
// what took place. The writes of an Apply may have been made, or not, or may still
// be made after it returned, if a server goes on with what it was sent; but all or
// none, and once. The Keeper reads again and finds out, and its next Apply on the
// same revision settles it. A read that failed returns no items: what was
// torn, or cut short, is an error and never a shorter answer. Errors hold no values.
//
// A Store may repeat by itself what certainly did nothing, and must not
// repeat what may have: it cannot tell its own first write from somebody else's. (Unless
// the database can, by a token that goes with the write.)
//
// # Time
//
// All methods return soon after ctx is done (100 ms, say; not after a time-out of
// the database), and wait no longer than that for locks, connections or a server that
// does not answer. They have no other time-outs: how long is too long is the caller's to say.
// A Store's clock means nothing. It orders nothing, and nothing ends by it; times in
// values are the Keeper's, whose processes may have clocks that disagree.
//
// # Names and values
//
// Partitions and IDs are 1 to MaxRefPart bytes of 0x21..0x7e, and case matters.
// Values are opaque, not empty, and at most MaxItemValue bytes. What is beyond that, and
// beyond the limits of List and Apply, is ErrArgument, and nothing is written. Values
// are copied in and out: neither side sees a later change to the other's slice.
//
// All methods are safe for concurrent use, by any number of goroutines and, unless
// the Store says otherwise, of processes.
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
