//go:build !fips140v1.0

package byok_test

import (
	"bytes"
	"testing"
	"testing/cryptotest"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/floe"
)

// SetGlobalRandom does not work with the module v1.0.0 of Go's FIPS cryptography,
// hence the build tag.

// What is lost when two machines draw the same random bytes: a virtual machine
// that was copied while it ran and whose kernel was not told, say. Two messages
// under the same data key, with the same IV, the same nonce and the same aad, are
// sealed with one key stream: who has both knows how their plaintexts differ. No
// code can prevent it, since every bit that the two could tell each other apart by
// would have to be random. docs/design.md says what limits it; this shows it (J2).
func TestJ2_SameSeedTwice(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	one, two := env.Keeper, env.NewKeeper()
	for _, k := range []*byok.Keeper{one, two} { // both have the data key already
		seal(t, k, "acme", "", "")
	}
	p1, p2 := []byte("attack at dawn, all of you"), []byte("retreat at dusk, I beg you")
	sealWith := func(k *byok.Keeper, p []byte, aad string) ([]byte, drawn) {
		t.Helper()
		cryptotest.SetGlobalRandom(t, 42)
		sealed, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, p, []byte(aad))
		want(t, "Seal", err, nil)
		d, err := drawnOf(sealed, len(p))
		want(t, "Inspect", err, nil)
		return sealed[len(sealed)-floe.SealedSize(floe.Params{}, len(p))+floe.HeaderSize+16:], d
	}
	xor := func(a, b []byte) []byte {
		c := make([]byte, len(p1))
		for i := range c {
			c[i] = a[i] ^ b[i]
		}
		return c
	}
	c1, d1 := sealWith(one, p1, "row 1")
	c2, d2 := sealWith(two, p2, "row 1")
	if !bytes.Equal(d1.IV, d2.IV) || !bytes.Equal(d1.Nonce, d2.Nonce) {
		t.Fatalf("the seed does not decide what is drawn: %x and %x; this test shows nothing", d1.IV, d2.IV)
	}
	if !bytes.Equal(xor(c1, c2), xor(p1, p2)) {
		t.Error("the same random bytes do no damage any more: docs/design.md says that they do")
	}
	// Another aad is another key, so records that have names of their own are not
	// hit: an aad is good for this too.
	c3, d3 := sealWith(two, p2, "row 2")
	if !bytes.Equal(d1.IV, d3.IV) || bytes.Equal(xor(c1, c3), xor(p1, p2)) {
		t.Error("another aad does not help")
	}
	// And so is another data key, which is KMS's to draw and not the clone's.
	_, err := env.Keeper.Tenant("acme").Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(t, "Rotate", err, nil)
	seal(t, one, "acme", "", "")
	c4, d4 := sealWith(one, p2, "row 1")
	if !bytes.Equal(d1.IV, d4.IV) || bytes.Equal(xor(c1, c4), xor(p1, p2)) {
		t.Error("another data key does not help")
	}
}
