package byok_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// flakyStore fails now and then, before the write or after it.
type flakyStore struct {
	byok.Store
	mu  sync.Mutex
	rng *rand.Rand
	p   float64
}

var errFlaky = errors.New("connection reset by peer")

func (s *flakyStore) hit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64() < s.p
}

func (s *flakyStore) set(p float64) { s.mu.Lock(); s.p = p; s.mu.Unlock() }

func (s *flakyStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if s.hit() {
		return byok.Item{}, errFlaky
	}
	return s.Store.Get(ctx, r)
}

func (s *flakyStore) List(ctx context.Context, p, after string, n int) ([]byok.Item, error) {
	if s.hit() {
		return nil, errFlaky
	}
	return s.Store.List(ctx, p, after, n)
}

func (s *flakyStore) Apply(ctx context.Context, w ...byok.Item) error {
	if s.hit() {
		return errFlaky // nothing was written
	}
	if err := s.Store.Apply(ctx, w...); err != nil {
		return err
	}
	if s.hit() {
		return errFlaky // it was, but who knows
	}
	return nil
}

// A Store that loses answers: nothing acknowledged is lost, no data key doubled,
// no command takes effect twice (threat G7).
func TestG7_StoreLosesAnswers(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			store := &flakyStore{Store: new(byok.MemStore), rng: rand.New(rand.NewPCG(seed, 1))}
			env := byoktest.New(t, &byoktest.Options{Store: store, Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
			acme, cmk := env.Tenant("acme")
			store.set(0.15)
			records := map[string][]byte{}
			var rotated, known uint64 = 1, 0
			for i := range 60 {
				id := fmt.Sprint(i)
				purpose := byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i%5)}
				if s, err := env.Keeper.Seal(t.Context(), purpose, []byte(id), nil); err == nil {
					records[id] = s
				} else {
					want(t, "Seal", err, byok.ErrStore)
				}
				if i%7 == 0 {
					r, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
					if err == nil || errors.Is(err, byok.ErrNotAudited) {
						if rotated, known = r.NewVersion, known+1; err == nil && r.NewVersion != r.PreviousVersion+1 {
							t.Errorf("%+v", r)
						}
					}
				}
				if i%11 == 0 {
					_ = env.Keeper.Close()
					env.Keeper = env.NewKeeper()
					acme = env.Keeper.Tenant("acme")
				}
			}
			store.set(0)
			if len(records) == 0 || known == 0 {
				t.Fatal("this test could pass on nothing")
			}
			k := env.NewKeeper()
			for id, s := range records {
				var n int
				_, _ = fmt.Sscan(id, &n)
				plain, err := k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", n%5)}, s, nil)
				if want(t, "Open", err, nil); string(plain) != id {
					t.Errorf("%q", plain)
				}
			}
			dataKeys(t, env, "acme")
			st, err := k.Tenant("acme").Status(t.Context())
			want(t, "Status", err, nil)
			if st.DEKVersion < rotated {
				t.Errorf("version %d after an acknowledged rotation to %d", st.DEKVersion, rotated)
			}
			_, err = k.Tenant("acme").Audit(t.Context(), byok.AuditQuery{}) // delivers the rest
			want(t, "Audit", err, nil)
			rotations := uint64(0)
			for _, e := range env.Audit.All() {
				if e.Op == byok.OpRotate && e.Outcome == byok.OutcomeSuccess {
					rotations++
				}
			}
			if rotations != st.DEKVersion-1 {
				t.Errorf("%d rotation events for version %d", rotations, st.DEKVersion)
			}
			matchCalls(t, env, env.Audit.All())
			_ = cmk
		})
	}
}

// swapStore can be put back to an earlier state, as by a restored backup.
type swapStore struct {
	mu    sync.Mutex
	store byok.Store
}

func (s *swapStore) now() byok.Store      { s.mu.Lock(); defer s.mu.Unlock(); return s.store }
func (s *swapStore) swap(with byok.Store) { s.mu.Lock(); defer s.mu.Unlock(); s.store = with }

func (s *swapStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	return s.now().Get(ctx, r)
}

func (s *swapStore) List(ctx context.Context, partition, after string, limit int) ([]byok.Item, error) {
	return s.now().List(ctx, partition, after, limit)
}

func (s *swapStore) Apply(ctx context.Context, w ...byok.Item) error {
	return s.now().Apply(ctx, w...)
}

// A Store that went back behind what a live process has seen is noticed, and
// nothing is served from it (I17, threat G6).
func TestI17_G6_RolledBackStore(t *testing.T) {
	store := &swapStore{store: new(byok.MemStore)}
	env := byoktest.New(t, &byoktest.Options{Store: store})
	acme, _ := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	backup := copyStore(t, store.now(), "tenant:acme", "tenants", "cmk")
	_, err := acme.Suspend(t.Context(), "stop")
	want(t, "Suspend", err, nil)
	store.swap(backup)
	_, err = open(t, env.Keeper, "acme", sealed, "")
	if err == nil {
		t.Fatal("a rolled back Store ended a suspension in a live process")
	}
	_, err = acme.Status(t.Context())
	want(t, "Status", err, byok.ErrStore)
	// A new process cannot know: docs say so.
	mustOpen(t, env.NewKeeper(), "acme", sealed, "", "x")
}

// An answer of the Store that a newer one overtook is not a rolled-back Store.
func TestI7_OvertakenReadIsNoRollback(t *testing.T) {
	store := &heldStore{Store: new(byok.MemStore)}
	env := byoktest.New(t, &byoktest.Options{Store: store})
	acme, _ := env.Tenant("acme")
	backup := copyStore(t, store.Store, "tenant:acme", "tenants", "cmk")
	held := store.hold() // an answer is read now, and arrives later
	done := make(chan error)
	go func() {
		_, err := acme.Status(context.Background())
		done <- err
	}()
	<-held
	_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(t, "Rotate", err, nil)
	close(store.release)
	want(t, "Status", <-done, nil)
	// ... and leaves no trace: the newest state seen is still the mark for a real one.
	store.mu.Lock()
	store.Store = backup
	store.mu.Unlock()
	_, err = acme.Status(t.Context())
	want(t, "Status of a rolled back Store", err, byok.ErrStore)
}

// A wrapped key inside an envelope is used when the Store says that it does not
// know the data key, not when it says nothing.
func TestNoFallbackOnAStoreThatFails(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	inside, err := alone.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("x"), nil)
	want(t, "Seal", err, nil)
	for _, o := range []*byok.Options{nil, {PerOperation: true}} {
		k, err := byok.New(byoktest.Service, env.Keys, blindStore{env.Store}, env.Audit, o)
		want(t, "New", err, nil)
		defer k.Close()
		_, err = open(t, k, "acme", inside, "")
		want(t, "Open", err, byok.ErrStore)
	}
}

// blindStore cannot read data keys.
type blindStore struct{ byok.Store }

func (s blindStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if strings.HasPrefix(r.ID, "dek:") {
		return byok.Item{}, errFlaky
	}
	return s.Store.Get(ctx, r)
}

// heldStore holds one answer to a Get of a state.
type heldStore struct {
	byok.Store
	mu            sync.Mutex
	held, release chan struct{}
}

func (s *heldStore) hold() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.release = make(chan struct{}), make(chan struct{})
	return s.held
}

func (s *heldStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	s.mu.Lock()
	store := s.Store
	s.mu.Unlock()
	i, err := store.Get(ctx, r)
	s.mu.Lock()
	held, release := s.held, s.release
	if r.ID == "state" {
		s.held = nil
	}
	s.mu.Unlock()
	if held != nil && r.ID == "state" {
		close(held)
		<-release
	}
	return i, err
}

func copyStore(t *testing.T, from byok.Store, partitions ...string) byok.Store {
	to := new(byok.MemStore)
	for _, p := range partitions {
		items, err := from.List(t.Context(), p, "", 1000)
		want(t, "List", err, nil)
		for _, i := range items {
			for rev := range i.Revision {
				i.Revision = rev
				want(t, "Apply", to.Apply(t.Context(), i), nil)
			}
		}
	}
	return to
}

// Whoever can write to the Store can deny service, but not make one tenant's or
// purpose's data open as another's (threat G5).
func TestG5_StoreAnswersWrongly(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(id, value string) string
		err  error
	}{
		{"state of the future", func(id, v string) string {
			if id == "state" {
				return strings.Replace(v, `"v":1`, `"v":2`, 1)
			}
			return v
		}, byok.ErrStore},
		{"truncated data key", func(id, v string) string {
			if strings.HasPrefix(id, "dek:") {
				return v[:len(v)/2]
			}
			return v
		}, byok.ErrStore},
		{"data key of another purpose", func(id, v string) string {
			if strings.HasPrefix(id, "dek:") {
				return strings.Replace(v, `"purpose":"default"`, `"purpose":"mail"`, 1)
			}
			return v
		}, byok.ErrOpen},
		{"header that is none", func(id, v string) string {
			if strings.HasPrefix(id, "dek:") {
				return strings.Replace(v, `"header":"Ynlv`, `"header":"AAAA`, 1)
			}
			return v
		}, byok.ErrStore},
		{"unknown lifecycle", func(id, v string) string {
			if id == "state" {
				return strings.Replace(v, `"lifecycle":"active"`, `"lifecycle":"ACTIVE"`, 1)
			}
			return v
		}, byok.ErrStore},
	} {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		k, err := byok.New(byoktest.Service, env.Keys, editStore{env.Store, c.edit}, env.Audit, nil)
		want(t, "New", err, nil)
		_, err = open(t, k, "acme", sealed, "")
		want(t, c.name, err, c.err)
		want(t, "Close", k.Close(), nil)
	}
}

type editStore struct {
	byok.Store
	edit func(id, value string) string
}

func (s editStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	i, err := s.Store.Get(ctx, r)
	i.Value = []byte(s.edit(r.ID, string(i.Value)))
	return i, err
}

// The other half of G6. A process that has just started cannot tell a restored
// backup from the truth: there is nothing in it to compare with. What can is kept
// elsewhere: the audit log, which has the command that the Store forgot, and KMS,
// where a denial does not depend on our Store. SECURITY.md says so.
func TestG6_RestartCannotTell(t *testing.T) {
	store := &swapStore{store: new(byok.MemStore)}
	env := byoktest.New(t, &byoktest.Options{Store: store})
	acme, cmk := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	backup := copyStore(t, store.now(), "tenant:acme", "tenants", "cmk")
	_, err := acme.Suspend(t.Context(), "stop")
	want(t, "Suspend", err, nil)
	want(t, "Close", env.Keeper.Close(), nil) // everything is stopped, and a backup restored
	store.swap(backup)
	k := env.NewKeeper()
	mustOpen(t, k, "acme", sealed, "", "x") // the suspension is forgotten
	st, err := k.Tenant("acme").Status(t.Context())
	if want(t, "Status", err, nil); st.Status != byok.StatusActive {
		t.Errorf("%+v: a restart notices; say so in SECURITY.md", st)
	}
	// The audit log is not in the backup: its newest command is not the Store's.
	page, err := env.Audit.Events(t.Context(), "acme", byok.AuditQuery{Op: byok.OpSuspend})
	if want(t, "Events", err, nil); len(page.Events) != 1 || !page.Events[0].Time.After(st.LastValidatedAt) {
		t.Errorf("the log does not tell: %+v, state of %v", page.Events, st.LastValidatedAt)
	}
	// And no backup undoes what the customer did at KMS.
	cmk.Disable()
	_, err = open(t, env.NewKeeper(), "acme", sealed, "")
	want(t, "Open", err, byok.ErrKeyDenied)
}

// A stop stops also when the Store was rolled back, whoever has noticed: this
// process refuses anyway, but those that are started on the restored Store must find
// the command in it.
func TestI17_G6_StopOnARolledBackStore(t *testing.T) {
	for name, stop := range map[string]func(*byok.Tenant, context.Context, string) (byok.KeyStatus, error){
		"Suspend": (*byok.Tenant).Suspend, "Revoke": (*byok.Tenant).Revoke} {
		for _, follows := range []bool{false, true} { // whether the change log has told that the Store is an old one
			synctest.Test(t, func(t *testing.T) {
				store := &swapStore{store: new(byok.MemStore)}
				env := byoktest.New(t, &byoktest.Options{Store: store, Keeper: quietly(byok.Options{})})
				acme, _ := env.Tenant("acme")
				sealed := seal(t, env.Keeper, "acme", "x", "")
				if follows {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					go func() { _ = env.Keeper.Run(ctx) }()
					time.Sleep(3 * time.Second)
				}
				backup := copyStore(t, store.now(), "tenant:acme", "tenants", "cmk", "changes")
				for range 3 {
					_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
					want(t, "Rotate", err, nil)
				}
				store.swap(backup)
				if follows {
					time.Sleep(3 * time.Second)
				}
				_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
				want(t, "Rotate, which is no stop", err, byok.ErrStore)
				st, err := stop(acme, t.Context(), "stop")
				if want(t, name, err, nil); st.Status == byok.StatusActive {
					t.Errorf("%s: %+v", name, st)
				}
				if n := env.Keeper.Stats().Leases; n != 0 {
					t.Errorf("%s: %d leases", name, n)
				}
				_, err = open(t, env.Keeper, "acme", sealed, "")
				want(t, "Open here", err, byok.ErrStore)
				_, err = open(t, env.NewKeeper(), "acme", sealed, "")
				want(t, "Open in a process that was started then", err, byok.ErrKeyRevoked)
				page, err := env.Audit.Events(t.Context(), "acme", byok.AuditQuery{Limit: 10})
				want(t, "Events", err, nil)
				recorded := 0
				for _, e := range page.Events {
					if e.Reason == "stop" && e.Outcome == byok.OutcomeSuccess {
						recorded++
					}
				}
				if recorded != 1 {
					t.Errorf("%s: %d events of the stop", name, recorded)
				}
			})
		}
	}
}
