package byok

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// The change log tells the processes of a fleet of each other's changes: without
// it a Revoke reaches the others when they next renew, with it when they next look.
// It makes things faster, and nothing depends on it: what it misses is bounded by MaxAge.
//
// It is two items that are always written together, so both have the same
// revision, and that revision is the change number: the Store's contract makes it
// go up by one with each write, and never back. `head` is a few bytes and is read once a second;
// `log` holds the newest changes, and is read when the number has changed. It
// is one item and not one per change, so that whoever reads it sees all or nothing.

// maxChanges bounds the log. A tenant has at most one entry of a kind, the newest, so
// this is how many tenants can change in a second before the others have to look at
// all they have. With the longest names an entry is 340 bytes, and an item has 64 KiB.
const maxChanges = 150

// The kinds of changes.
const (
	kindState = "state" // the tenant's state is another: read it again
	kindHint  = "hint"  // access to its CMK may be: ask KMS again
)

// changeHead is the item that is read every second: its revision says it all.
type changeHead struct {
	V int `json:"v"`
}

// changeLog is the newest changes, oldest first.
type changeLog struct {
	V       int           `json:"v"`
	Dropped uint64        `json:"dropped,omitempty"` // number of the newest change that had to make room
	Changes []loggedEntry `json:"changes"`

	revision uint64
}

type loggedEntry struct {
	N      uint64 `json:"n"`
	Tenant string `json:"tenant"`
	Kind   string `json:"kind"`
	By     string `json:"by"` // the process, as in its event ids: it need not hear from itself
}

var (
	refHead = Ref{partChanges, "head"}
	refLog  = Ref{partChanges, "log"}
)

// with returns a log with entries added as change n.
func (l *changeLog) with(n uint64, entries []loggedEntry) *changeLog {
	next := &changeLog{V: layoutVersion, Dropped: l.Dropped, Changes: slices.Clone(l.Changes)}
	for _, e := range entries {
		e.N = n
		next.Changes = slices.DeleteFunc(next.Changes, func(old loggedEntry) bool {
			return old.Tenant == e.Tenant && old.Kind == e.Kind // whoever missed that one sees this one
		})
		next.Changes = append(next.Changes, e)
	}
	if over := len(next.Changes) - maxChanges; over > 0 {
		next.Dropped = next.Changes[over-1].N
		next.Changes = next.Changes[over:]
	}
	return next
}

// since returns the changes after number n, and false if some of them have been
// dropped by now.
func (l *changeLog) since(n uint64) ([]loggedEntry, bool) {
	i := slices.IndexFunc(l.Changes, func(e loggedEntry) bool { return e.N > n })
	if i < 0 {
		i = len(l.Changes)
	}
	return l.Changes[i:], l.Dropped <= n
}

// readLog returns the log; one that was never written is empty, at revision 0.
func (k *Keeper) readLog(ctx context.Context) (*changeLog, error) {
	l := new(changeLog)
	rev, err := k.getJSON(ctx, refLog, l)
	if err != nil && err != ErrNotFound {
		return nil, err
	}
	l.revision = rev
	return l, nil
}

// readHead returns the number of the newest change, and 0 if there never was one.
func (k *Keeper) readHead(ctx context.Context) (uint64, error) {
	var h changeHead
	rev, err := k.getJSON(ctx, refHead, &h)
	if err != nil && err != ErrNotFound {
		return 0, err
	}
	return rev, nil
}

// logWrites returns the writes that add entries to the log, for an Apply, and
// the number that they get there.
func (k *Keeper) logWrites(ctx context.Context, entries ...loggedEntry) ([]Item, uint64, error) {
	l, err := k.readLog(ctx)
	if err != nil {
		return nil, 0, err
	}
	n := l.revision + 1
	return []Item{
		encodeItem(refHead, l.revision, changeHead{layoutVersion}),
		encodeItem(refLog, l.revision, l.with(n, entries)),
	}, n, nil
}

// entry is what this process has to say about a tenant.
func (k *Keeper) entry(tenant, kind string) loggedEntry {
	return loggedEntry{Tenant: tenant, Kind: kind, By: k.ids.process()}
}

// appendLog writes entries into the log by themselves.
func (k *Keeper) appendLog(ctx context.Context, entries ...loggedEntry) error {
	for try := range changeTries {
		if try > 0 {
			pause(ctx, try)
		}
		writes, n, err := k.logWrites(ctx, entries...)
		if err != nil {
			return err
		}
		switch err = k.store.Apply(ctx, writes...); {
		case err == nil:
			k.fleet.raise(n)
			return nil
		case !errors.Is(err, ErrConflict):
			return storeError(err)
		}
	}
	return fmt.Errorf("%w: the change log is being written all the time", ErrStore)
}
