package integration

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

// oddTenants are every byte that a tenant's name can have, names of 128 bytes, and names
// that are something else to SQL, patterns, paths and shells.
func oddTenants() (all []string) {
	var every strings.Builder
	for c := byte(0x21); c <= 0x7e; c++ {
		every.WriteByte(c)
		if c < 'a' || c > 'y' { // z is enough of them
			all = append(all, string(c))
		}
	}
	return append(all, every.String()+strings.Repeat("x", 128-every.Len()), strings.Repeat("'", 128), strings.Repeat(`\`, 127)+"'",
		`';DROP/**/TABLE/**/byok_items;--`, `');DELETE/**/FROM/**/byok_items;--`, `x'/**/OR/**/'1'='1`, `$1`, `$$`, `?1`, `:id`, `E'\x41'`,
		`"byok_items"`, `/*`, `*/`, `--`, `\.`, `..`, `../../etc/passwd`, `%00`, `%27`, `NULL`, `01`, `1e0`, `tenant:a`, `state`, `a#b`, `{}`, `$(id)`)
}

// A life of each tenant on each Store: it is only a name, and nobody else's.
func TestG9_OddTenantsOnEveryStore(t *testing.T) {
	p := newPostgres(t)
	for name, store := range map[string]interface {
		byok.Store
		byok.AuditSink
	}{
		"MemStore": struct {
			*byok.MemStore
			*byok.MemAudit
		}{new(byok.MemStore), new(byok.MemAudit)},
		"sqlite":   func() *sqlstore.Store { _, s := openStore(t, filepath.Join(t.TempDir(), "byok.db")); return s }(),
		"postgres": p.store(t, ""),
	} {
		t.Run(name, func(t *testing.T) {
			fake := kmsfake.New(&kmsfake.Options{TB: t})
			keys, err := awskms.NewFromClient(fake.Client(platformRole), nil)
			if err != nil {
				t.Fatal(err)
			}
			k, err := byok.New("odd", keys, store, store, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			tenants := oddTenants()
			sealed := map[string][]byte{}
			for _, id := range tenants {
				tenant := k.Tenant(id)
				cmk := fake.Account(acmeAccount).CreateKey(awskms.KeyPolicy(acmeAccount, platformRole, tenant.EncryptionContext()).JSON())
				if err := register(t.Context(), tenant, cmk.ARN(), func(string) {}); err != nil {
					t.Fatalf("%q: %v", id, err)
				}
				if sealed[id], err = k.Seal(t.Context(), byok.Scope{Tenant: id}, []byte(id), []byte(id)); err != nil {
					t.Fatalf("%q: %v", id, err)
				}
			}
			for i, id := range tenants {
				plain, err := k.Open(t.Context(), byok.Scope{Tenant: id}, sealed[id], []byte(id))
				if err != nil || string(plain) != id {
					t.Errorf("%q opens as %q, %v", id, plain, err)
				}
				other := tenants[(i+1)%len(tenants)]
				if plain, err := k.Open(t.Context(), byok.Scope{Tenant: other}, sealed[id], []byte(id)); err == nil {
					t.Errorf("%q opens as another tenant's: %q", id, plain)
				}
			}
			for _, id := range tenants {
				for op, want := range map[byok.Op]int{byok.OpRegister: 1, byok.OpSeal: 1, byok.OpOpen: 2} { // its own, and the next one's
					page, err := k.Tenant(id).Audit(t.Context(), byok.AuditQuery{Op: op})
					if err != nil || page.Total != want || len(page.Events) != want {
						t.Errorf("%q has %d events of %s, %v", id, page.Total, op, err)
					}
					for _, e := range page.Events {
						if e.Scope.Tenant != id {
							t.Errorf("%q has an event of %q", id, e.Scope.Tenant)
						}
					}
				}
			}
			for _, bad := range []string{"", "a b", "a\x00b", "a\nb", "\x7f", "é", strings.Repeat("x", 129), strings.Repeat("x", 64<<10)} {
				if _, err := k.Seal(t.Context(), byok.Scope{Tenant: bad}, nil, nil); byok.Code(err) != byok.Code(byok.ErrArgument) {
					t.Errorf("a tenant of %d bytes, %.10q: %v", len(bad), bad, err)
				}
			}
			n := 0
			for id, err := range k.Tenants(t.Context()) {
				if err != nil || sealed[id] == nil {
					t.Errorf("Tenants lists %q, %v", id, err)
				}
				n++
			}
			if n != len(tenants) || n != len(sealed) {
				t.Errorf("%d tenants of %d are listed", n, len(tenants))
			}
			t.Logf("%d tenants", n)
		})
	}
}
