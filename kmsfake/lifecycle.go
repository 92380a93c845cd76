package kmsfake

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// live is the key as of now: a deletion window that has passed, material that
// has expired, a rotation that is due take effect when somebody looks. There is
// no background goroutine.
func (f *KMS) live(arn string) *keyState {
	k := f.st.Keys[arn]
	if k == nil {
		return nil
	}
	now := f.now()
	if f.st.advance(k, now) {
		f.dirty = true
		if k = f.st.Keys[arn]; k == nil {
			return nil
		}
	}
	k.settle(now)
	return k
}

// advance brings a key to the present, and with it the other members of its
// multi-Region key, since what happens to one has effects on the others.
func (st *state) advance(k *keyState, now time.Time) (changed bool) {
	if k.Primary == "" {
		return st.advanceOne(k, now)
	}
	related := st.related(k)
	// The primary last: its own deletion may wait for a replica's.
	slices.SortStableFunc(related, func(a, b *keyState) int { return rank(a) - rank(b) })
	for _, k := range related {
		changed = st.advanceOne(k, now) || changed
	}
	return changed
}

func rank(k *keyState) int {
	if k.isPrimary() {
		return 1
	}
	return 0
}

func (st *state) advanceOne(k *keyState, now time.Time) (changed bool) {
	before := k.State
	defer func() {
		if k.State != before {
			k.seen.state = k.State // time does not propagate
		}
	}()
	if k.State == types.KeyStatePendingDeletion && !now.Before(k.DeletionDate) {
		st.remove(k, k.DeletionDate)
		return true
	}
	if !k.Settles.IsZero() && !now.Before(k.Settles) {
		k.become(k.Then)
		changed = true
	}
	if k.imported() {
		changed = k.expire(now) || changed
	}
	if k.Rotation.Enabled && k.State == types.KeyStateEnabled && !now.Before(k.Rotation.Next) && !k.isReplica() {
		// However long nobody looked, one new material serves as well as ten.
		k.rotate(k.Rotation.Next, types.RotationTypeAutomatic)
		period := time.Duration(k.Rotation.Days) * day
		behind := now.Sub(k.Rotation.Next) / period
		k.Rotation.Next = k.Rotation.Next.Add((behind + 1) * period)
		st.share(k)
		changed = true
	}
	return changed
}

// become ends Creating or Updating, or whatever else s follows.
func (k *keyState) become(s types.KeyState) {
	k.State, k.Settles, k.Then = s, time.Time{}, ""
}

// expire deletes imported material whose time is over.
func (k *keyState) expire(now time.Time) (changed bool) {
	for i := range k.Materials {
		m := &k.Materials[i]
		if m.Key != nil && !m.Expires.IsZero() && !now.Before(m.Expires) {
			m.drop()
			changed = true
		}
	}
	if changed {
		k.afterLoss()
	}
	return changed
}

// drop forgets imported material, but not which one it was: only the same may
// take its place.
func (m *material) drop() {
	clear(m.Key)
	m.Key, m.private, m.Expires = nil, nil, time.Time{}
}

// afterLoss is what becomes of a key that has lost material. One that is to be
// deleted, or that is still being made, stays so; a disabled one does not.
func (k *keyState) afterLoss() {
	switch k.State {
	case types.KeyStateEnabled, types.KeyStateDisabled:
		k.State = k.wholeState(k.State)
	case types.KeyStateCreating, types.KeyStateUpdating:
		k.Then = k.wholeState(k.Then)
	}
}

// remove deletes a key as AWS does at the end of the window: the material is
// gone, and so are the aliases. at is when that happened, though nobody looked.
func (st *state) remove(k *keyState, at time.Time) {
	for i := range k.Materials {
		clear(k.Materials[i].Key)
	}
	delete(st.Keys, k.ARN())
	for arn, a := range st.Aliases {
		if a.Account == k.Account && a.Region == k.Region && a.Target == k.ID {
			delete(st.Aliases, arn)
		}
	}
	st.leave(k, at)
}
