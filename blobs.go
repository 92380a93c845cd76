package byok

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// How a wrapped key that KMS calls invalid is remembered. A few tries, since KMS can
// be wrong for once; briefly, since a CMK's key material can come back; and in
// bounded memory, about 60 KB for a tenant under attack.
const (
	blobTries  = 3
	blobMemory = time.Minute
	maxBlobs   = 256 // per tenant; the oldest is forgotten, and what asks again pays from the budget
)

// badBlobs remembers what KMS has refused as a wrapped key. It is by all that KMS
// looks at, the encryption context included: the right bytes under a wrong purpose
// must not spoil them for the right one.
type badBlobs struct {
	mu  sync.Mutex
	lru *simplelru.LRU[entryID, badBlob]
}

type badBlob struct {
	tries int
	until time.Duration // on the monotonic clock; set by KMS's answer and by nothing else
}

// refuses reports whether id has had its tries.
func (b *badBlobs) refuses(id entryID, now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lru == nil {
		return false
	}
	bad, ok := b.lru.Peek(id)
	return ok && bad.tries >= blobTries && now < bad.until
}

// note takes KMS's answer about id.
func (b *badBlobs) note(id entryID, now time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case ok && b.lru == nil: // nearly always
		return
	case ok:
		b.lru.Remove(id)
		return
	case b.lru == nil:
		b.lru, _ = simplelru.NewLRU[entryID, badBlob](maxBlobs, nil) // fails for sizes below 1 only
	}
	bad, known := b.lru.Get(id)
	if known && now >= bad.until {
		bad.tries = 0
	}
	b.lru.Add(id, badBlob{bad.tries + 1, now + blobMemory})
}
