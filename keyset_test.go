package byok_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

// Tenants with several CMKs, each in an account and a Region of its own.

var keyRegions = []string{"us-east-1", "eu-west-1", "ap-southeast-2", "sa-east-1", "us-west-2", "eu-north-1", "ca-central-1", "ap-south-1"}

func keyAccount(i int) string { return fmt.Sprintf("%012d", 111122223333+int64(i)) }

// regional is a Keyring on the clients of all Regions, in process.
type regional map[string]*awskms.Keyring

func newRegional(t testing.TB, fake *kmsfake.KMS) regional {
	r := regional{}
	for _, name := range keyRegions {
		keys, err := awskms.NewFromClient(fake.Client(byoktest.PlatformRole).Region(name), &awskms.Options{AllowMultiRegion: true})
		if err != nil {
			t.Fatal(err)
		}
		r[name] = keys
	}
	return r
}

func (r regional) of(key byok.KeyID) *awskms.Keyring {
	if part := strings.Split(key.ID, ":"); len(part) > 3 && r[part[3]] != nil {
		return r[part[3]]
	}
	return r[keyRegions[0]] // which refuses it
}

func (r regional) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	return r.of(key).GenerateDataKey(ctx, key, ec)
}

func (r regional) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	return r.of(key).WrapDataKey(ctx, key, dek, ec)
}

func (r regional) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	return r.of(key).UnwrapDataKey(ctx, key, wrapped, ec)
}

func (r regional) DescribeKey(ctx context.Context, key byok.KeyID) (byok.KeyInfo, error) {
	return r.of(key).DescribeKey(ctx, key)
}

// several is a tenant with several CMKs.
type several struct {
	*byoktest.Env
	t    *testing.T
	opts byok.Options
	k    *byok.Keeper
	acme *byok.Tenant
	cmks []*kmsfake.Key
	ends []func() // of the outage of each
}

// newSeveral returns a tenant that has not registered its n CMKs yet.
func newSeveral(t *testing.T, n int, opts *byok.Options) *several {
	t.Helper()
	s := &several{Env: byoktest.New(t, nil), t: t}
	if opts != nil {
		s.opts = *opts
	}
	s.k = s.process()
	s.acme = s.k.Tenant("acme")
	for i := range n {
		s.cmks = append(s.cmks, s.key(i, "acme"))
	}
	s.ends = make([]func(), n)
	return s
}

// key makes the ith CMK of a tenant.
func (s *several) key(i int, tenant string) *kmsfake.Key {
	policy := awskms.KeyPolicy(keyAccount(i), byoktest.PlatformRole, s.k.Tenant(tenant).EncryptionContext())
	return s.Fake.Account(keyAccount(i)).Region(keyRegions[i]).CreateKey(policy.JSON())
}

// process is another Keeper on the same Store.
func (s *several) process() *byok.Keeper {
	k, err := byok.New(byoktest.Service, newRegional(s.t, s.Fake), s.Store, s.Audit, &s.opts)
	want(s.t, "New", err, nil)
	s.t.Cleanup(func() { _ = k.Close() })
	return k
}

func (s *several) ids() (all []byok.KeyID) {
	for _, c := range s.cmks {
		all = append(all, awskms.Key(c.ARN()))
	}
	return all
}

func (s *several) registration(p byok.Policy) byok.Registration {
	return byok.Registration{Key: s.ids()[0], Others: s.ids()[1:], Policy: p}
}

func (s *several) register(r byok.Registration) {
	s.t.Helper()
	_, err := s.acme.Register(s.t.Context(), r)
	want(s.t, "Register", err, nil)
	_, err = s.acme.AcknowledgeWaiver(s.t.Context(), accepted)
	want(s.t, "AcknowledgeWaiver", err, nil)
}

// tenantOf is a tenant with n CMKs and a policy.
func tenantOf(t *testing.T, n int, p byok.Policy, opts *byok.Options) *several {
	t.Helper()
	if opts == nil {
		opts = &byok.Options{}
	}
	opts.AllowAnyKeyToOpenAlone = p == byok.PolicyAny
	s := newSeveral(t, n, opts)
	s.register(s.registration(p))
	return s
}

// What a CMK can be to the platform.
const (
	up = iota
	down
	denying
)

var stateNames = []string{"up", "down", "denying"}

// set makes the ith CMK what it should be.
func (s *several) set(i, state int) {
	if s.ends[i] != nil {
		s.ends[i]()
		s.ends[i] = nil
	}
	if s.cmks[i].Enable(); state == denying {
		s.cmks[i].Disable()
	}
	if state == down {
		s.ends[i] = s.Fake.Inject(kmsfake.Fault{Region: keyRegions[i], Effect: kmsfake.ConnectionReset})
	}
}

func inBubble(f func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

// Whatever seals for a tenant with several keys, whatever opens it: the envelopes that carry their
// data key have a recipient for each key and the tenant's policy, and each KMS request stands in one event.
func TestSeveralKeys(t *testing.T) {
	for _, p := range []byok.Policy{byok.PolicyAny, byok.PolicyAll} {
		for n := 2; n <= 8; n += 3 {
			for _, alone := range []bool{false, true} {
				t.Run(fmt.Sprint(p, n, alone), inBubble(func(t *testing.T) {
					s := tenantOf(t, n, p, &byok.Options{PerOperation: alone})
					sealed := [][]byte{seal(t, s.k, "acme", "hello", ""), sealStream(t, s.k, []byte("hello"), "")}
					dir := t.TempDir()
					in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
					write(t, in, []byte("hello"))
					want(t, "SealFile", s.k.SealFile(t.Context(), out, in, acmeScope, nil), nil)
					b, err := os.ReadFile(out)
					want(t, "ReadFile", err, nil)
					sealed = append(sealed, b)
					for i, e := range sealed {
						h, err := byok.Inspect(e)
						want(t, "Inspect", err, nil)
						var got []byok.KeyID
						for _, r := range h.Recipients {
							got = append(got, r.Key)
						}
						wanted, policy := s.ids(), map[byok.Policy]uint8{byok.PolicyAny: 1, byok.PolicyAll: 2}[p]
						slices.SortFunc(wanted, func(a, b byok.KeyID) int { return strings.Compare(a.ID, b.ID) })
						if i == 0 && !alone {
							wanted, policy = nil, 0
						}
						if !slices.Equal(got, wanted) || h.Policy != policy {
							t.Errorf("envelope %d: policy %d, recipients %v", i, h.Policy, got)
						}
					}
					for _, k := range []*byok.Keeper{s.k, s.process()} {
						for _, e := range sealed {
							mustOpen(t, k, "acme", e, "", "hello")
							got, err := openStream(t, k, e, "")
							if want(t, "OpenReader", err, nil); string(got) != "hello" {
								t.Errorf("got %q", got)
							}
							write(t, in, e)
							want(t, "OpenFile", k.OpenFile(t.Context(), out, in, acmeScope, nil), nil)
							again, err := k.Rewrap(t.Context(), acmeScope, e)
							want(t, "Rewrap", err, nil)
							mustOpen(t, k, "acme", again, "", "hello")
						}
					}
					time.Sleep(2 * time.Second) // the budget of commands
					_, err = s.acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
					want(t, "Rotate", err, nil)
					mustOpen(t, s.k, "acme", seal(t, s.k, "acme", "new", ""), "", "new")
					time.Sleep(2 * time.Second)
					_, err = s.acme.Recheck(t.Context())
					want(t, "Recheck", err, nil)
					time.Sleep(2 * time.Second)
					h, err := s.acme.Health(t.Context())
					want(t, "Health", err, nil)
					if h.Status != byok.Healthy || !h.CMKAccessible || len(h.KeyStatus.Keys) != n || h.KeyStatus.Policy != p {
						t.Errorf("%+v", h)
					}
					matchCalls(t, s.Env, s.Audit.All())
				}))
			}
		}
	}
}

// What two keys can be, under either policy, and what then is served: with the leases that there
// are, when they have ended, and when everything is well again. A denial stops, whoever denies, and whatever the
// other one does.
func TestSeveralKeysTable(t *testing.T) {
	for _, p := range []byok.Policy{byok.PolicyAny, byok.PolicyAll} {
		for a := up; a <= denying; a++ {
			for b := up; b <= denying; b++ {
				for _, alone := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s %s %s %v", p, stateNames[a], stateNames[b], alone), inBubble(func(t *testing.T) {
						s := tenantOf(t, 2, p, &byok.Options{PerOperation: alone})
						sealed := [][]byte{seal(t, s.k, "acme", "x", ""), sealStream(t, s.k, []byte("x"), "")}
						s.set(0, a)
						s.set(1, b)
						var wanted error
						switch {
						case p == byok.PolicyAll && a == down: // nobody asks any further
							wanted = byok.ErrKeyUnavailable
						case a == denying || b == denying:
							wanted = byok.ErrKeyDenied
						case a == down && b == down, p == byok.PolicyAll && b == down:
							wanted = byok.ErrKeyUnavailable
						}
						for _, e := range sealed {
							now := wanted
							if !alone { // under a lease nobody has heard of it
								now = nil
							}
							_, err := open(t, s.k, "acme", e, "")
							want(t, "Open, at once", err, now)
						}
						for _, k := range []*byok.Keeper{s.process(), s.k} {
							time.Sleep(byok.DefaultMaxAge)
							serves(t, k, sealed, wanted)
						}
						h, err := s.acme.Health(t.Context())
						want(t, "Health", err, nil)
						if may := wanted == nil; h.CMKAccessible != may || (h.Status == byok.Healthy) != (a == up && b == up) {
							t.Errorf("%+v", h)
						}
						s.set(0, up)
						s.set(1, up)
						time.Sleep(30 * time.Second)
						serves(t, s.k, sealed, nil)
					}))
				}
			}
		}
	}
}

// serves fails unless all that seals and opens ends like this.
func serves(t *testing.T, k *byok.Keeper, sealed [][]byte, wanted error) {
	t.Helper()
	for i, e := range sealed {
		_, err := open(t, k, "acme", e, "")
		want(t, fmt.Sprint("Open ", i), err, wanted)
		_, err = openStream(t, k, e, "")
		want(t, fmt.Sprint("OpenReader ", i), err, wanted)
	}
	_, err := k.Seal(t.Context(), acmeScope, []byte("x"), nil)
	want(t, "Seal", err, wanted)
	_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", time.Now().UnixNano())}, []byte("x"), nil)
	want(t, "Seal for a new purpose", err, wanted)
}

// I1, I8, I10: one process hears a denial by any one key, and from then on no data key of the tenant
// serves, whichever keys wrapped it. Access returns when all that was denied has succeeded.
func TestI10_DenialByAnyKeyStopsAll(t *testing.T) {
	for _, p := range []byok.Policy{byok.PolicyAny, byok.PolicyAll} {
		for i := range 3 {
			t.Run(fmt.Sprint(p, i), inBubble(func(t *testing.T) {
				s := tenantOf(t, 3, p, nil)
				sealed := [][]byte{seal(t, s.k, "acme", "x", ""), sealStream(t, s.k, []byte("x"), "")}
				serves(t, s.k, sealed, nil)
				s.set(i, denying)
				h, err := s.acme.Health(t.Context())
				want(t, "Health", err, nil)
				st := h.KeyStatus
				if h.Status != byok.Unhealthy || h.CMKAccessible || st.Status != byok.StatusDisabled || st.Access != byok.AccessBlocked {
					t.Errorf("%+v", h)
				}
				for n, a := range st.Keys {
					if (a.Access == byok.AccessBlocked) != (n == i) || a.Key != s.ids()[n] {
						t.Errorf("key %d: %+v", n, a)
					}
				}
				calls := len(s.Fake.Calls())
				for range 5 { // no back-off step has passed
					serves(t, s.k, sealed, byok.ErrKeyDenied)
				}
				if n := len(s.Fake.Calls()) - calls; n != 0 {
					t.Errorf("%d KMS calls", n)
				}
				s.set(i, up)
				time.Sleep(30 * time.Second)
				serves(t, s.k, sealed, nil)
				restored := 0
				for _, e := range s.Audit.All() {
					if e.Op == byok.OpRestore && e.Key == s.ids()[i] {
						restored++
					}
				}
				if restored != 1 {
					t.Errorf("%d restore events", restored)
				}
				matchCalls(t, s.Env, s.Audit.All())
			}))
		}
	}
}

// Under PolicyAny an outage of one key is passed over, and nothing else is: what is no outage is final, whether
// another key would open or not (MUST-16).
func TestAnyPassesOverOutagesOnly(t *testing.T) {
	for code, wanted := range map[string]error{
		"ThrottlingException": nil, "KMSInternalException": nil, "KeyUnavailableException": nil,
		"ExpiredTokenException": byok.ErrPlatform, "AccessDeniedException": byok.ErrKeyDenied, "NotFoundException": byok.ErrKeyDenied,
		"InvalidCiphertextException": byok.ErrOpen, "ValidationException": byok.ErrInternal,
	} {
		for i := range 2 {
			t.Run(fmt.Sprint(code, i), inBubble(func(t *testing.T) {
				s := tenantOf(t, 2, byok.PolicyAny, nil)
				sealed := seal(t, s.k, "acme", "x", "")
				s.Fake.Inject(kmsfake.Fault{Region: keyRegions[i], Code: code})
				_, err := open(t, s.process(), "acme", sealed, "")
				want(t, "Open", err, wanted)
			}))
		}
	}
}

// Under PolicyAll renewals that fail because of one key wait as renewals of one key alone do, and do not
// ask the others again and again.
func TestRenewalsOfAllBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tenantOf(t, 2, byok.PolicyAll, nil)
		sealed := seal(t, s.k, "acme", "x", "")
		k := s.process()
		mustOpen(t, k, "acme", sealed, "", "x") // a lease on a data key that was unwrapped, not made
		time.Sleep(25 * time.Second)
		s.set(1, down)
		before := len(s.Fake.Calls())
		for range 340 {
			mustOpen(t, k, "acme", sealed, "", "x")
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(s.Fake.Calls()) - before; n < 3 || n > 60 {
			t.Errorf("%d KMS calls in 34 s", n)
		}
	})
}
