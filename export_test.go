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
