package byok

import (
	"container/list"
	"crypto/sha512"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/byok-go/byok/internal/lease"
)

// Bounds of the data-key cache. One entry is about 1.7 KiB, of which the state of an HMAC is 0.5, and
// the lanes of its lock are. In FIPS mode it is 1.1 KiB more for each goroutine that uses it at once.
const (
	maxLeases          = 10_000 // in a Keeper
	maxLeasesPerTenant = 1_000  // so that one tenant cannot push out all others
)

// entryID says exactly which data key an entry holds. It is compared field by
// field, so no two fields can run into each other (threat E9). The tenant is not
// in it: each tenant has a map of its own, and so has each Keeper.
type entryID struct {
	purpose string
	dataKey DataKeyID
	key     KeyID
	// wrapped is the hash of the wrapped key in an envelope that the Store knows
	// nothing of, and zero for a data key of the Store, of which there is one.
	wrapped [sha512.Size384]byte
}

// entry is a plaintext data key with a lease. Its mutable fields are guarded by
// the tenantCache's lock.
type entry struct {
	id         entryID
	generation uint64 // 0: not of the Store
	core       []byte // of the REF envelopes that it seals
	wrapped    wrapping
	dek        *DEK
	epoch      uint64  // of the tenantCache when it was loaded
	proofs     []proof // none: it serves nobody
	quota      *quota  // of a data key that seals; else nil
	witness

	place *list.Element // in the Keeper's leaseList, and guarded by that one's lock
}

// proof is evidence for a data key, of one of the tenant's keys: of whichever was asked, or
// of each, if each has to consent. A lease is as old as the oldest.
type proof struct {
	a *access
	lease.Proof
}

// witness is the KMS call that a lease rests on, for events.
type witness struct {
	request string
	key     KeyID
}

// tenantCache is what one process knows of one tenant. mu is never held across
// I/O, nor while waiting for a DEK.
type tenantCache struct {
	mu lanes // first, so that a lane is a cache line

	k       *Keeper
	tenant  string
	state   *state    // newest seen; nil: none
	keys    []*access // to state.keys(), in that order; see accessOf
	epoch   uint64    // goes up with each denial by one of keys, and when they become others
	entries map[entryID]*entry
	current map[string]*entry // by purpose, of the newest generation
	flights map[flightID]*flight
	hints   hintSteps
	hinted  lease.Time    // when the others were told that access has changed; zero once KMS has answered
	turn    chan struct{} // holds one while a change is being made; not a mutex, since it is held across I/O
	quotas  map[DataKeyID]*quota
	used    lastUse
	budget  tenantBudget
	blobs   badBlobs
	grants  notGranted
	sealed  atomic.Int64 // when the last Seal succeeded, to the ms, in ns since 1970; 0: never
	opened  atomic.Int64
}

// check returns what may be done with e now: what the key that permits least does. The
// caller holds mu.
func (t *tenantCache) check(e *entry) lease.State { return t.checkAt(e, t.k.clock.Now()) }

func (t *tenantCache) checkAt(e *entry, now lease.Time) lease.State {
	if e.epoch != t.epoch || len(e.proofs) == 0 {
		return lease.Expired
	}
	st := lease.Refresh
	for i := range e.proofs {
		p := &e.proofs[i]
		st = min(st, p.a.lease.Check(p.Proof, now, t.k.maxAge))
	}
	return st
}

// prove makes proofs of what an inquiry was permitted, and reports whether they are worth
// anything by now: not after a denial, by whichever key, nor under keys that are the tenant's no more.
// The caller holds mu.
func (t *tenantCache) prove(e *entry, q *inquiry, read lease.Time, jitter float64) bool {
	if q.epoch != t.epoch || len(q.evidence) == 0 {
		return false
	}
	e.epoch, e.proofs = q.epoch, make([]proof, len(q.evidence))
	for i, ev := range q.evidence {
		p, ok := ev.a.lease.Prove(ev.call, read, t.k.maxAge, jitter)
		if !ok {
			return false
		}
		e.proofs[i] = proof{ev.a, p}
	}
	return true
}

// install puts a data key that has just been proved into the cache, or its
// proof into the entry that is there. It returns that entry, and nil if the
// proof is not worth one by now: denied, or of a CMK that is no longer the
// tenant's. The DEK then is the caller's to wipe.
func (t *tenantCache) install(q *inquiry, e *entry, read lease.Time) *entry {
	t.mu.Lock()
	if !t.prove(e, q, read, rand.Float64()) || t.refusal() != nil {
		t.mu.Unlock()
		return nil
	}
	var gone []*entry
	if have := t.entries[e.id]; have != nil && sameKey(have.dek, e.dek) {
		// Operations may be using have.dek: it stays, and only the lease is new.
		if e.proofs[0].Newer(have.proofs[0].Proof) { // all of one inquiry have the same date
			have.proofs, have.witness, have.wrapped = e.proofs, e.witness, e.wrapped
		}
		gone, e = append(gone, e), have
	} else {
		if have != nil {
			gone = append(gone, have)
		}
		if len(t.entries) >= maxLeasesPerTenant && have == nil {
			gone = append(gone, t.oldest())
		}
		for _, g := range gone {
			t.drop(g)
		}
		t.entries[e.id] = e
	}
	if e.generation != 0 && e.generation == t.state.Generation && t.state.seals(e.wrapped) && t.k.maySeal(t.state.keySet) == nil {
		t.current[e.id.purpose] = e
		e.quota = t.quota(e.id.dataKey, e.generation)
	}
	t.mu.Unlock()
	t.k.wipe(gone)
	t.k.wipeApart(t.k.touch(t, e))
	return e
}

// wrappingOf returns how e's data key is wrapped, as far as is known.
func (t *tenantCache) wrappingOf(e *entry) wrapping {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return e.wrapped
}

// oldest returns the entry that was proved longest ago. The caller holds mu.
func (t *tenantCache) oldest() (old *entry) {
	for _, e := range t.entries {
		if old == nil || old.proofs[0].Newer(e.proofs[0].Proof) {
			old = e
		}
	}
	return old
}

// drop takes e out of every index. The caller holds mu for writing, and wipes e
// after it has given it up.
func (t *tenantCache) drop(e *entry) {
	if t.entries[e.id] == e {
		delete(t.entries, e.id)
	}
	if t.current[e.id.purpose] == e {
		delete(t.current, e.id.purpose)
	}
}

// purge drops the entries that f chooses. As drop.
func (t *tenantCache) purge(f func(*entry) bool) (gone []*entry) {
	for _, e := range t.entries {
		if f(e) {
			gone = append(gone, e)
		}
	}
	for _, e := range gone {
		t.drop(e)
	}
	return gone
}

// see takes a state that was read from the Store, or written to it. It reports
// false if a newer one has been seen: that one holds.
func (t *tenantCache) see(s *state) bool {
	t.mu.Lock()
	old := t.status()
	if t.state != nil && s.revision < t.state.revision {
		t.mu.Unlock()
		return false
	}
	var gone []*entry
	if t.state == nil || s.revision > t.state.revision {
		others := t.setKeys(s)
		if t.state == nil || t.state.Generation != s.Generation {
			clear(t.current)
			clear(t.quotas)
		}
		t.state = s
		gone = t.purge(func(*entry) bool { return s.usable(t.k) != nil || others })
	}
	now := t.status()
	t.mu.Unlock()
	t.k.wipe(gone)
	t.k.changed(old, now)
	return true
}

var errRolledBack = fmt.Errorf("%w: it answered with an older state than before", ErrStore)

// touch makes e the most recently proved entry of the Keeper, and returns the
// entries that had to make room, out of every index. Only loads and renewals
// come here: a hit touches nothing that tenants share.
func (k *Keeper) touch(t *tenantCache, e *entry) (gone []*entry) {
	k.lru.mu.Lock()
	k.lru.remove(e)
	t.mu.RLock()
	if t.entries[e.id] == e { // else it was purged while we came here
		e.place = k.lru.order.PushFront(&lruItem{t, e})
	}
	t.mu.RUnlock()
	var out *lruItem
	if k.lru.order.Len() > k.lru.max {
		out = k.lru.oldest()
		k.lru.remove(out.e)
	}
	k.lru.mu.Unlock()
	if out != nil {
		out.t.mu.Lock()
		out.t.drop(out.e)
		out.t.mu.Unlock()
		gone = append(gone, out.e)
	}
	return gone
}

// leaseList orders the entries of all tenants by their last proof.
type leaseList struct {
	mu    sync.Mutex
	order list.List // of *lruItem, the newest first
	max   int
}

type lruItem struct {
	t *tenantCache
	e *entry
}

// oldest is nil if there is none. The caller holds mu.
func (l *leaseList) oldest() *lruItem {
	if last := l.order.Back(); last != nil {
		return last.Value.(*lruItem)
	}
	return nil
}

// remove is for an entry that is in it or not. The caller holds mu.
func (l *leaseList) remove(e *entry) {
	if e.place != nil {
		l.order.Remove(e.place)
		e.place = nil
	}
}

// wipe zeroes data keys that are in no index any more. It waits for the
// operations that hold them, so the caller holds no lock.
func (k *Keeper) wipe(gone []*entry) {
	if len(gone) == 0 {
		return
	}
	k.lru.mu.Lock()
	for _, e := range gone {
		k.lru.remove(e)
	}
	k.lru.mu.Unlock()
	for _, e := range gone {
		e.dek.Wipe()
	}
}

// wipeApart is wipe for what may be another tenant's: nobody waits for its operations.
func (k *Keeper) wipeApart(gone []*entry) {
	if len(gone) == 0 {
		return
	}
	if !k.enter() {
		k.wipe(gone)
		return
	}
	go func() {
		defer k.leave()
		k.wipe(gone)
	}()
}

// sweep wipes the data keys whose lease has ended. Run calls it every second, and
// each load does, so that a process without Run keeps none for long while
// anything goes on. The list is in order of the proofs, so it looks at no more
// than what has ended, and one.
func (k *Keeper) sweep() {
	for {
		k.lru.mu.Lock()
		oldest := k.lru.oldest()
		k.lru.mu.Unlock()
		if oldest == nil {
			return
		}
		t := oldest.t
		t.mu.Lock()
		ended := t.check(oldest.e) == lease.Expired
		if ended {
			t.drop(oldest.e)
		}
		t.mu.Unlock()
		if !ended {
			return
		}
		k.wipe([]*entry{oldest.e})
	}
}

// cache returns the tenantCache of a tenant, making one if there is none.
func (k *Keeper) cache(tenant string) *tenantCache {
	if t, ok := k.tenants.Load(tenant); ok {
		return t.(*tenantCache)
	}
	c := &tenantCache{
		k: k, tenant: tenant,
		entries: make(map[entryID]*entry), current: make(map[string]*entry), flights: make(map[flightID]*flight),
		quotas: make(map[DataKeyID]*quota), turn: make(chan struct{}, 1),
	}
	c.budget.init(k.perOperation)
	t, _ := k.tenants.LoadOrStore(tenant, c)
	return t.(*tenantCache)
}
