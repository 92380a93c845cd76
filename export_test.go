package byok

// What tests of package byok_test may do that nobody else may.

// SetCacheSize replaces the bound of the data-key cache, before its first use.
func (k *Keeper) SetCacheSize(n int) {
	if err := k.lru.init(n); err != nil {
		panic(err)
	}
}

// MaxLeasesPerTenant is the bound of one tenant.
const MaxLeasesPerTenant = maxLeasesPerTenant

// RememberedBlobs returns how many bad wrapped keys of a tenant are remembered.
func (k *Keeper) RememberedBlobs(tenant string) int {
	b := &k.cache(tenant).blobs
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lru == nil {
		return 0
	}
	return b.lru.Len()
}
