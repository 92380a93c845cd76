package byok

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/byok-go/byok/internal/format"
)

// DataKeyCounts says under which CMKs a tenant's data keys are: what depends on each of them.
// Envelopes that carry a data key of their own (Direct, PerOperation) are not in it, since no Store knows them.
type DataKeyCounts struct {
	DataKeys uint64    // in the Store, of all generations
	Oldest   time.Time // when the oldest was made; zero: there are none
	Groups   []DataKeyGroup
	Damaged  uint64 // items of the Store that are no data keys any more; in no group
}

// DataKeyGroup is the data keys of one generation that the same CMKs have wrapped. Newer
// generations come first.
type DataKeyGroup struct {
	Generation     uint64
	Keys           []KeyID // in the order of KeyID.String
	Policy         Policy  // of several Keys; "" of one
	DataKeys       uint64
	Oldest, Newest time.Time // when they were made

	// LastUsed is about when something was last sealed or opened with any data key of this Generation. It is
	// known at best to MaxAge, and to a minute if another process used it; what a process has seen and Run has not
	// written is lost with it. So it is a hint that nobody needs a generation, and never a proof. Zero: not known.
	LastUsed time.Time
}

// DataKeys counts the tenant's data keys. It reads all of them from the Store, a thousand at
// a time, and asks KMS nothing. The error is ErrNotRegistered, ErrStore, ErrArgument or ErrClosed.
func (t *Tenant) DataKeys(ctx context.Context) (DataKeyCounts, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return DataKeyCounts{}, err
	}
	defer done()
	s, err := c.readState(ctx)
	if err != nil {
		return DataKeyCounts{}, err
	}
	if s.Lifecycle == lifecycleNone {
		return DataKeyCounts{}, ErrNotRegistered
	}
	var out DataKeyCounts
	groups := map[string]*DataKeyGroup{}
	err = t.k.eachDataKey(ctx, t.id, func(id DataKeyID, value []byte) error {
		item, h, err := decodeDataKey(t.id, id, value, s.keys())
		if err != nil {
			out.Damaged++
			return nil
		}
		out.add(groups, item, h)
		return nil
	})
	if err != nil {
		return DataKeyCounts{}, err
	}
	used, err := c.lastUsed(ctx)
	if err != nil {
		return DataKeyCounts{}, err
	}
	for _, g := range groups {
		g.LastUsed = used[g.Generation]
		out.Groups = append(out.Groups, *g)
	}
	slices.SortFunc(out.Groups, func(a, b DataKeyGroup) int {
		return cmp.Or(-cmp.Compare(a.Generation, b.Generation), strings.Compare(fmt.Sprint(a.Policy, a.Keys), fmt.Sprint(b.Policy, b.Keys)))
	})
	return out, nil
}

func (c *DataKeyCounts) add(groups map[string]*DataKeyGroup, item *dataKeyItem, h *format.Header) {
	name := fmt.Sprint(item.Generation, " ", h.Policy)
	for _, r := range h.Recipients {
		name += " " + keyOf(r).String() // neither has a space
	}
	g, made := groups[name], item.CreatedAt.UTC()
	if g == nil {
		g = &DataKeyGroup{Generation: item.Generation, Oldest: made, Newest: made}
		for _, r := range h.Recipients {
			g.Keys = append(g.Keys, keyOf(r))
		}
		if len(g.Keys) > 1 {
			g.Policy = map[uint8]Policy{format.PolicyANY: PolicyAny, format.PolicyALL: PolicyAll}[h.Policy]
		}
		groups[name] = g
	}
	g.DataKeys++
	if made.Before(g.Oldest) {
		g.Oldest = made
	}
	if made.After(g.Newest) {
		g.Newest = made
	}
	if c.DataKeys++; c.Oldest.IsZero() || made.Before(c.Oldest) {
		c.Oldest = made
	}
}

// eachDataKey calls f for each data key that the Store has of a tenant, in the order of their ids, and
// ends with f's error.
func (k *Keeper) eachDataKey(ctx context.Context, tenant string, f func(id DataKeyID, value []byte) error) error {
	return k.each(ctx, partTenant(tenant), prefixDataKey, func(text string, value []byte) error {
		var id DataKeyID
		if id.UnmarshalText([]byte(text)) != nil || id.String() != text {
			return fmt.Errorf("%w: its list of data keys is damaged", ErrStore)
		}
		return f(id, value)
	})
}

// each calls f for each item of a partition whose ID has a prefix, with the rest of the ID.
func (k *Keeper) each(ctx context.Context, partition, prefix string, f func(rest string, value []byte) error) error {
	for after := prefix; ; {
		items, err := k.store.List(ctx, partition, after, MaxListLimit)
		if err != nil {
			return storeError(err)
		}
		for _, item := range items {
			if item.ID <= after || item.Partition != partition {
				return fmt.Errorf("%w: its list is damaged", ErrStore)
			}
			after = item.ID
			rest, ok := strings.CutPrefix(item.ID, prefix)
			if !ok {
				return nil // the next kind of item
			}
			if err := f(rest, item.Value); err != nil {
				return err
			}
		}
		if len(items) < MaxListLimit {
			return nil
		}
	}
}

// decodeDataKey reads an item that must be the tenant's data key id, with the wrapping that opens for keys; see
// dataKeyItem.wrapping.
func decodeDataKey(tenant string, id DataKeyID, value []byte, keys []KeyID) (*dataKeyItem, *format.Header, error) {
	var item dataKeyItem
	if err := decodeItem(value, &item); err != nil {
		return nil, nil, err
	}
	if _, ok := item.settle(tenant, id, keys); !ok {
		return nil, nil, errDamaged
	}
	h, _, _, err := format.Parse(item.Header)
	if err != nil {
		return nil, nil, errDamaged
	}
	return &item, h, nil
}

// lastUse is which generations this process has used, and when: for people, and so neither
// exact nor for ever.
type lastUse struct {
	mu    sync.Mutex
	at    map[uint64]time.Time // by generation
	fresh map[uint64]bool      // not written yet
}

// touch notes a use. It is called when a lease is begun or renewed, which is once or twice
// in MaxAge for a data key in use, and not for each operation.
func (u *lastUse) touch(generation uint64, now time.Time) {
	if generation == 0 { // not of the Store
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at == nil {
		u.at, u.fresh = map[uint64]time.Time{}, map[uint64]bool{}
	}
	u.at[generation], u.fresh[generation] = now.UTC(), true
}

// usedItem says when a generation was last used.
type usedItem struct {
	V  int       `json:"v"`
	At time.Time `json:"at"`
}

const prefixUsed = "used:"

func refUsed(tenant string, generation uint64) Ref {
	return Ref{partTenant(tenant), fmt.Sprintf("%s%020d", prefixUsed, generation)}
}

// lastUsed returns what the Store knows, and this process.
func (t *tenantCache) lastUsed(ctx context.Context) (map[uint64]time.Time, error) {
	used := map[uint64]time.Time{}
	err := t.k.each(ctx, partTenant(t.tenant), prefixUsed, func(rest string, value []byte) error {
		var generation uint64
		var u usedItem
		if _, err := fmt.Sscanf(rest, "%d", &generation); err != nil || decodeItem(value, &u) != nil {
			return nil // it is a hint
		}
		used[generation] = u.At.UTC()
		return nil
	})
	t.used.mu.Lock()
	defer t.used.mu.Unlock()
	for g, at := range t.used.at {
		if at.After(used[g]) {
			used[g] = at
		}
	}
	return used, err
}

// usedPause is how old what the Store has must be before it is written anew: so that all
// processes together write a generation's once in that time, or a little more often.
const usedPause = time.Minute

// writeUsed writes what has been used since it was last called. Run calls it once a minute. What
// fails is lost: the next use comes.
func (k *Keeper) writeUsed(ctx context.Context) {
	for _, v := range k.tenants.Range {
		t := v.(*tenantCache)
		t.used.mu.Lock()
		now := make(map[uint64]time.Time, len(t.used.fresh))
		for g := range t.used.fresh {
			now[g] = t.used.at[g]
		}
		clear(t.used.fresh)
		t.used.mu.Unlock()
		for g, at := range now {
			if ctx.Err() != nil {
				return
			}
			var old usedItem
			ref := refUsed(t.tenant, g)
			rev, err := k.getJSON(ctx, ref, &old)
			if (err == nil && at.Sub(old.At) >= usedPause) || errors.Is(err, ErrNotFound) {
				_ = k.store.Apply(ctx, encodeItem(ref, rev, usedItem{layoutVersion, at}))
			}
		}
	}
}
