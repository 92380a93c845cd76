package byok

import (
	"context"
	"io"

	"github.com/byok-go/byok/internal/format"
)

// What tests of package byok_test may do that nobody else may.

// SetCacheSize replaces the bound of the data-key cache, before its first use.
func (k *Keeper) SetCacheSize(n int) { k.lru.max = n }

// LaneCount is how many operations of one tenant can lock for reading without each other.
const LaneCount = laneCount

// MaxLeasesPerTenant is the bound of one tenant.
const MaxLeasesPerTenant = maxLeasesPerTenant

// RememberedBlobs returns how many bad wrapped keys of a tenant are remembered.
func (k *Keeper) RememberedBlobs(tenant string) int {
	b := &k.cache(tenant).blobs
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.known)
}

// SetLimits replaces what one data key may seal, and the block that a process
// reserves of it, before the first use.
func (k *Keeper) SetLimits(messages, bytes, blockMessages, blockBytes int64) {
	k.limits = sealLimits{messages: messages, bytes: bytes, blockMessages: blockMessages, blockBytes: blockBytes}
}

// Reserved returns what is reserved of a data key, according to the Store.
func (k *Keeper) Reserved(ctx context.Context, tenant string, id DataKeyID) (messages, bytes int64, err error) {
	var u usageItem
	_, err = k.getJSON(ctx, refUsage(tenant, id), &u)
	return u.Messages, u.Bytes, err
}

// Hold is a long operation: sealing if sealed is nil, else opening it.
type Hold struct{ h *hold }

func (k *Keeper) Hold(ctx context.Context, s Scope, sealed []byte) (*Hold, error) {
	t := k.cache(s.Tenant)
	if sealed == nil {
		h, err := t.holdSeal(ctx, s.Purpose)
		return &Hold{h}, err
	}
	f, _, _, err := format.Parse(sealed)
	if err != nil {
		return nil, err
	}
	h, err := t.holdOpen(ctx, s.Purpose, f)
	return &Hold{h}, err
}

func (h *Hold) Step(ctx context.Context, size int64, f func(raw []byte) error) error {
	return h.h.step(ctx, size, userFunc(f))
}

func (h *Hold) End(ctx context.Context, err error) error { return h.h.end(ctx, err) }

// SealFileThen is SealFile with something that happens before the file gets its name.
func (k *Keeper) SealFileThen(ctx context.Context, dst, src string, s Scope, then func()) error {
	return intoFile(dst, src, func(dst io.Writer, src io.Reader) (*permit, error) {
		w, err := k.SealWriter(ctx, dst, s, nil)
		if err != nil {
			return nil, err
		}
		if _, err := w.ReadFrom(src); err != nil {
			return nil, err
		}
		defer then()
		return w.permit, w.Close()
	})
}
