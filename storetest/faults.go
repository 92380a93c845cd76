package storetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/byok-go/byok"
)

// Fault is something that goes wrong in one operation of a Faults.
type Fault uint8

// The faults. The first ones any Store can show: it is on the other side of a
// network, or of a crash.
const (
	NoFault    Fault = iota
	FailBefore       // an error, and nothing was done
	FailAfter        // it was done, and then an error
	Hang             // nothing is done, and no answer comes before ctx is done
	HangAfter        // it was done, and no answer comes before ctx is done
	KillBefore       // the process is killed, and nothing was done
	KillAfter        // it was done, and the process is killed before the answer

	// No Store may show these. A Keeper that reads such answers must fail, and lose nothing.

	Stale     // Get, List: what was there before the last write of each item
	Missing   // Get: ErrNotFound; List: one item is left out
	Torn      // Get, List: values that are cut short
	Unordered // List: backwards
	Foreign   // Get, List: another item's value
)

// ErrFault is the error of FailBefore and FailAfter.
var ErrFault = errors.New("storetest: the connection was lost")

// Faults is a Store that goes wrong as Choose wants it. It is safe for concurrent
// use if Choose is; make it with NewFaults.
type Faults struct {
	store  byok.Store
	choose func(method string, partition string) Fault

	mu   sync.Mutex
	seen map[byok.Ref][2]byok.Item // the newest revision that went by, and the one before it
}

// NewFaults wraps a Store. choose is called once for each operation, with "Get",
// "List" or "Apply" and the partition, which is that of the first item of an Apply. A fault that
// the method cannot show is none.
func NewFaults(s byok.Store, choose func(method, partition string) Fault) *Faults {
	return &Faults{store: s, choose: choose, seen: make(map[byok.Ref][2]byok.Item)}
}

// Get implements byok.Store.
func (f *Faults) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	return f.get(ctx, f.choose("Get", r.Partition), r)
}

// List implements byok.Store.
func (f *Faults) List(ctx context.Context, partition, after string, limit int) ([]byok.Item, error) {
	return f.list(ctx, f.choose("List", partition), partition, after, limit)
}

// Apply implements byok.Store.
func (f *Faults) Apply(ctx context.Context, writes ...byok.Item) error {
	partition := ""
	if len(writes) > 0 {
		partition = writes[0].Partition
	}
	return f.apply(ctx, f.choose("Apply", partition), writes)
}

func (f *Faults) get(ctx context.Context, fault Fault, r byok.Ref) (item byok.Item, err error) {
	ferr := around(ctx, fault, func() { item, err = f.store.Get(ctx, r) })
	if ferr != nil {
		return byok.Item{}, ferr
	}
	if err != nil {
		return item, err
	}
	f.went(item)
	switch fault {
	case Stale:
		if item = f.before(item); item.Revision == 0 {
			return byok.Item{}, byok.ErrNotFound
		}
	case Missing:
		return byok.Item{}, byok.ErrNotFound
	case Torn:
		item.Value = item.Value[:len(item.Value)/2]
	case Foreign:
		item.Value = f.foreign(item)
	}
	return item, nil
}

func (f *Faults) list(ctx context.Context, fault Fault, partition, after string, limit int) (items []byok.Item, err error) {
	ferr := around(ctx, fault, func() { items, err = f.store.List(ctx, partition, after, limit) })
	if ferr != nil {
		return nil, ferr
	}
	f.went(items...)
	if len(items) == 0 {
		return items, err
	}
	switch fault {
	case Stale:
		for i := range items {
			items[i] = f.before(items[i])
		}
		items = slices.DeleteFunc(items, func(i byok.Item) bool { return i.Revision == 0 })
	case Missing:
		items = slices.Delete(items, len(items)/2, len(items)/2+1)
	case Torn:
		for i := range items {
			items[i].Value = items[i].Value[:len(items[i].Value)/2]
		}
	case Unordered:
		slices.Reverse(items)
	case Foreign:
		items[0].Value = f.foreign(items[0])
	}
	return items, err
}

func (f *Faults) apply(ctx context.Context, fault Fault, writes []byok.Item) (err error) {
	ferr := around(ctx, fault, func() {
		if err = f.store.Apply(ctx, writes...); err == nil {
			for _, w := range writes {
				w.Revision++
				f.went(w)
			}
		}
	})
	if ferr != nil {
		return ferr
	}
	return err
}

// around does an operation with what can happen to all of them.
func around(ctx context.Context, fault Fault, do func()) error {
	switch fault {
	case FailBefore:
		return ErrFault
	case Hang:
		<-ctx.Done()
		return ctx.Err()
	case KillBefore:
		kill()
	}
	do()
	switch fault {
	case FailAfter:
		return ErrFault
	case HangAfter:
		<-ctx.Done()
		return ctx.Err()
	case KillAfter:
		kill()
	}
	return nil
}

// kill ends this process as kill -9 does.
func kill() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // until it takes effect
}

// went notes what is to be the past.
func (f *Faults) went(items ...byok.Item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range items {
		if s := f.seen[i.Ref]; i.Revision > s[0].Revision {
			i.Value = bytes.Clone(i.Value)
			f.seen[i.Ref] = [2]byok.Item{i, s[0]}
		}
	}
}

// before returns an item as it was before; of revision 0 if it was not there.
func (f *Faults) before(now byok.Item) byok.Item {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.seen[now.Ref][1]
	if was.Revision == 0 && now.Revision > 1 {
		return now // its past was not seen here
	}
	was.Value = bytes.Clone(was.Value)
	return was
}

func (f *Faults) foreign(i byok.Item) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r, s := range f.seen {
		if r != i.Ref {
			return bytes.Clone(s[0].Value)
		}
	}
	return i.Value
}
