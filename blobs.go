package byok

import (
	"math"
	"sync"
	"time"
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
	mu    sync.Mutex
	known map[entryID]badBlob
}

type badBlob struct {
	tries int
	until time.Duration // on the monotonic clock; set by KMS's answer and by nothing else
}

// refuses reports whether id has had its tries.
func (b *badBlobs) refuses(id entryID, now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	bad, ok := b.known[id]
	return ok && bad.tries >= blobTries && now < bad.until
}

// note takes KMS's answer about id.
func (b *badBlobs) note(id entryID, now time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok { // nearly always
		delete(b.known, id)
		return
	}
	bad, known := b.known[id]
	switch {
	case !known:
		b.makeRoom()
	case now >= bad.until:
		bad.tries = 0
	}
	b.known[id] = badBlob{bad.tries + 1, now + blobMemory}
}

// makeRoom forgets what KMS refused longest ago, if all is full. It looks at everything: that is
// little beside the question to KMS that comes before each note.
func (b *badBlobs) makeRoom() {
	if b.known == nil {
		b.known = make(map[entryID]badBlob)
	}
	if len(b.known) < maxBlobs {
		return
	}
	var oldest entryID
	first := time.Duration(math.MaxInt64)
	for id, bad := range b.known {
		if bad.until < first {
			oldest, first = id, bad.until
		}
	}
	delete(b.known, oldest)
}
