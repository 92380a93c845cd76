package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/byok-go/byok"
)

// careful is a Store on top of one that fails: it does what every user of a Store
// has to do after an error, and so shows no errors itself. The cases of TestStore
// must hold for it as they do for the Store alone, which they do only if what an error
// left behind is all or nothing, and can be found out.
//
// Faults are made before and after the Store, and in the middle of it, by a ctx that
// ends at a random moment: the Store then shows errors of its own.
type careful struct {
	faults *Faults

	mu   sync.Mutex
	rng  *rand.Rand
	made atomic.Int64 // faults
	tags atomic.Int64
}

// tagPartition holds an item for each Apply, which tells whether it took place.
const tagPartition = "storetest/tags"

// One operation in faultRate has a fault, so that maxTries in a row are none's bad luck.
const (
	faultRate = 6
	maxTries  = 50
)

func newCareful(t tb, s byok.Store) *careful {
	return &careful{
		faults: NewFaults(s, nil), // it is told each fault
		rng:    rand.New(rand.NewPCG(1, uint64(len(t.Name())))),
	}
}

// attempt does one operation, perhaps with a fault.
func (c *careful) attempt(ctx context.Context, do func(ctx context.Context, f Fault) error) error {
	c.mu.Lock()
	kind, cut := c.rng.IntN(4*faultRate), time.Duration(c.rng.Int64N(int64(time.Millisecond)))
	c.mu.Unlock()
	if kind >= 4 {
		return do(ctx, NoFault)
	}
	c.made.Add(1)
	fault := []Fault{FailBefore, FailAfter, Hang, NoFault}[kind]
	if kind >= 2 { // what hangs needs an end; and the last one has no fault but that
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cut)
		defer cancel()
	}
	return do(ctx, fault)
}

// again repeats an operation until its outcome is certain, or ctx is done.
func (c *careful) again(ctx context.Context, do func(ctx context.Context, f Fault) error) error {
	for {
		err := c.attempt(ctx, do)
		switch {
		case err == nil || certain(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, ErrFault) && !errors.Is(err, context.DeadlineExceeded):
			return err // nobody asked for this one
		}
	}
}

func certain(err error) bool {
	return errors.Is(err, byok.ErrConflict) || errors.Is(err, byok.ErrNotFound) || errors.Is(err, byok.ErrArgument)
}

func (c *careful) Get(ctx context.Context, r byok.Ref) (item byok.Item, err error) {
	err = c.again(ctx, func(ctx context.Context, f Fault) (err error) {
		item, err = c.faults.get(ctx, f, r)
		return err
	})
	return item, err
}

func (c *careful) List(ctx context.Context, partition, after string, limit int) (items []byok.Item, err error) {
	err = c.again(ctx, func(ctx context.Context, f Fault) (err error) {
		items, err = c.faults.list(ctx, f, partition, after, limit)
		return err
	})
	return items, err
}

// Apply adds an item of its own to the writes, since another writer may have
// written the same values at the same revisions.
func (c *careful) Apply(ctx context.Context, writes ...byok.Item) error {
	tag := item(tagPartition, fmt.Sprint(c.tags.Add(1)), 0, "x")
	tagged := writes
	if len(writes) > 0 && len(writes) < byok.MaxApplyWrites {
		tagged = append(writes[:len(writes):len(writes)], tag)
	}
	for try := range maxTries {
		err := c.attempt(ctx, func(ctx context.Context, f Fault) error { return c.faults.apply(ctx, f, tagged) })
		// A conflict may be with an attempt of before, also with one that took place only
		// after its error was told.
		if err == nil || certain(err) && !(try > 0 && errors.Is(err, byok.ErrConflict)) {
			return err
		}
		done, gerr := c.took(ctx, tagged)
		switch {
		case gerr != nil:
			return gerr
		case done:
			return nil
		case certain(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	return errors.New("storetest: an Apply that fails again and again, though nothing is wrong any more")
}

// took finds out whether an Apply took place.
func (c *careful) took(ctx context.Context, writes []byok.Item) (bool, error) {
	last := writes[len(writes)-1]
	got, err := c.Get(ctx, last.Ref)
	if errors.Is(err, byok.ErrNotFound) {
		return false, nil
	}
	return err == nil && got.Revision == last.Revision+1 && bytes.Equal(got.Value, last.Value), err
}
