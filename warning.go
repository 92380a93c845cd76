package byok

import "time"

// Warning tells an operator of something that has not stopped anything yet. It
// holds facts and no text: what to do is in docs/operations.md.
type Warning struct {
	Kind string // one of the Warn constants
	Key  KeyID  // the CMK; zero for WarnStoreRolledBack

	// WarnPendingDeletion.
	DeletionAt time.Time
	Left       time.Duration // until DeletionAt; negative if that has passed
}

// WarnStoreRolledBack: the Store lost changes that this process had seen; see
// docs/operations.md.
const WarnStoreRolledBack = "store_rolled_back"

// warn tells the observer, outside of all locks.
func (k *Keeper) warn(tenant string, w Warning) {
	if hook := k.observer.Warning; hook != nil {
		hook(tenant, w)
	}
}
