package byok

import (
	"encoding/binary"
	"testing"
	"time"
)

// D9: what is remembered of bad wrapped keys is bounded, in number and time. The oldest is forgotten
// first, and what KMS accepts at once.
func TestD9_BadBlobs(t *testing.T) {
	id := func(n int) (id entryID) {
		binary.BigEndian.PutUint64(id.wrapped[:], uint64(n)+1)
		return id
	}
	var b badBlobs
	now := time.Hour
	refuse := func(n, times int) {
		for range times {
			now += time.Millisecond
			b.note(id(n), now, false)
		}
	}
	b.note(id(0), now, true)
	for n := range maxBlobs {
		refuse(n, blobTries)
	}
	refuse(0, 1) // so 1 is the oldest
	for n := range maxBlobs {
		if !b.refuses(id(n), now) {
			t.Fatalf("blob %d is tried anew", n)
		}
	}
	for n := maxBlobs; n < maxBlobs+10; n++ {
		refuse(n, blobTries)
		if len(b.known) != maxBlobs || !b.refuses(id(n), now) {
			t.Fatalf("%d are remembered; the newest: %v", len(b.known), b.refuses(id(n), now))
		}
	}
	for n := range maxBlobs + 10 {
		if got, want := b.refuses(id(n), now), n == 0 || n > 10; got != want {
			t.Errorf("blob %d: refused %v, want %v", n, got, want)
		}
	}
	b.note(id(0), now, true)
	refuse(0, blobTries-1)
	if b.refuses(id(0), now) {
		t.Error("tries from before KMS accepted it count")
	}
	if now += blobMemory; b.refuses(id(20), now) {
		t.Error("refused for ever")
	}
	if refuse(20, 1); b.refuses(id(20), now) {
		t.Error("tries of a minute ago count")
	}
}
