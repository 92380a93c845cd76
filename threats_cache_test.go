package byok_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/format"
)

// lateKeyring holds the first answer to unwrapping one purpose's data key back,
// after KMS has given it.
type lateKeyring struct {
	byok.Keyring
	purpose       string
	held, release chan struct{}
	once          sync.Once
}

func (l *lateKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	d, r, err := l.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
	if ec[byok.ContextPurpose] == l.purpose {
		l.once.Do(func() { close(l.held); <-l.release })
	}
	return d, r, err
}

// KMS says yes to A, then no to B, and the yes arrives last: it is worth nothing.
func TestE5_SuccessOvertakenByDenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		scope := func(p string) byok.Scope { return byok.Scope{Tenant: "acme", Purpose: p} }
		sealed := map[string][]byte{}
		for _, p := range []string{"a", "b"} {
			s, err := env.Keeper.Seal(t.Context(), scope(p), []byte("x"), nil)
			want(t, "Seal", err, nil)
			sealed[p] = s
		}
		late := &lateKeyring{Keyring: env.Keys, purpose: "a", held: make(chan struct{}), release: make(chan struct{})}
		k, err := byok.New(byoktest.Service, late, env.Store, env.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		a := make(chan error)
		go func() {
			_, err := k.Open(t.Context(), scope("a"), sealed["a"], nil)
			a <- err
		}()
		<-late.held // KMS has said yes
		cmk.Disable()
		_, err = k.Open(t.Context(), scope("b"), sealed["b"], nil)
		want(t, "B", err, byok.ErrKeyDenied)
		close(late.release)
		want(t, "A", <-a, byok.ErrKeyDenied)
		if n := k.Stats().Leases; n != 0 {
			t.Errorf("%d leases: the overtaken success was kept", n)
		}
		st, err := k.Tenant("acme").Status(t.Context())
		if want(t, "Status", err, nil); st.Status != byok.StatusDisabled {
			t.Errorf("%+v", st)
		}
	})
}

// straggling delivers what KMS has said one after the other.
type straggling struct {
	byok.Keyring
	n atomic.Int64
}

func (s *straggling) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	d, r, err := s.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
	if err == nil {
		time.Sleep(time.Duration(s.n.Add(1)) * 20 * time.Millisecond)
	}
	return d, r, err
}

// The same with a crowd: the denial is one step of the back-off, and no question more,
// however many answers of before come after it.
func TestE5_CrowdOvertakenByDenial(t *testing.T) {
	for name, opts := range map[string]*byok.Options{"leased": nil, "per operation": {PerOperation: true}} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			_, cmk := env.Tenant("acme")
			k, err := byok.New(byoktest.Service, &straggling{Keyring: env.Keys}, env.Store, env.Audit, opts)
			want(t, "New", err, nil)
			defer k.Close()
			alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
			want(t, "New", err, nil)
			defer alone.Close()
			scope := func(i int) byok.Scope { return byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)} }
			var sealed [][]byte
			for i := range 20 {
				by := []*byok.Keeper{env.Keeper, alone}[i%2] // data keys of the Store, and of envelopes
				s, err := by.Seal(t.Context(), scope(i), []byte("x"), nil)
				want(t, "Seal", err, nil)
				sealed = append(sealed, s)
			}
			var wg sync.WaitGroup
			for i, s := range sealed {
				wg.Go(func() {
					if _, err := k.Open(t.Context(), scope(i), s, nil); !errors.Is(err, byok.ErrKeyDenied) {
						t.Errorf("%s: Open of an answer that was overtaken: %v", name, err)
					}
				})
			}
			time.Sleep(time.Millisecond) // KMS has said yes to all of them
			cmk.Disable()
			env.Fake.ResetCalls()
			_, err = k.Tenant("acme").Health(t.Context()) // sees it
			want(t, "Health", err, nil)
			denied := time.Now()
			wg.Wait()
			if n := len(env.Fake.Calls()); n != 1 {
				t.Errorf("%s: %d questions after the denial", name, n)
			}
			cmk.Enable()
			time.Sleep(time.Until(denied.Add(time.Second)))
			_, err = k.Open(t.Context(), scope(0), sealed[0], nil)
			want(t, name+": Open after the first step of the back-off", err, nil)
		})
	}
}

// No configuration is a lease without an end.
func TestE8_NoEndlessLease(t *testing.T) {
	env := byoktest.New(t, nil)
	for _, d := range []time.Duration{-1, -time.Hour, -1 << 63, 1, time.Second - 1, byok.MaxMaxAge + 1, time.Hour, 24 * time.Hour, 1<<63 - 1} {
		_, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{MaxAge: d})
		want(t, d.String(), err, byok.ErrArgument)
	}
	if byok.MaxMaxAge != 5*time.Minute {
		t.Errorf("the hard end is %v", byok.MaxMaxAge)
	}
	// 0 is the default, and not "never".
	for d, end := range map[time.Duration]time.Duration{0: time.Minute, byok.MinMaxAge: byok.MinMaxAge, byok.MaxMaxAge: byok.MaxMaxAge} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{MaxAge: d}})
			env.Tenant("acme")
			sealed := seal(t, env.Keeper, "acme", "x", "")
			defer env.Fake.Outage()()
			time.Sleep(end - 1)
			mustOpen(t, env.Keeper, "acme", sealed, "", "x")
			time.Sleep(time.Nanosecond)
			_, err := open(t, env.Keeper, "acme", sealed, "")
			want(t, fmt.Sprintf("MaxAge %v, at its end", d), err, byok.ErrKeyUnavailable)
		})
	}
}

// Two data keys of one id: the cache knows them apart by what wraps them, so each
// envelope opens under its own.
func TestE10_SameIDOtherBytes(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	id := byok.DataKeyID{10}
	dek1, r1 := wrappedBy(t, env, cmk.ARN(), "acme", id)
	dek2, r2 := wrappedBy(t, env, cmk.ARN(), "acme", id)
	one, two := forge(t, inside(id, r1), dek1, "default", "one"), forge(t, inside(id, r2), dek2, "default", "two")
	mixed := forge(t, inside(id, r2), dek1, "default", "mixed") // says the second, is the first's
	for range 3 {                                               // cold and cached
		mustOpen(t, env.Keeper, "acme", one, "", "one")
		mustOpen(t, env.Keeper, "acme", two, "", "two")
		_, err := open(t, env.Keeper, "acme", mixed, "")
		want(t, "the wrapped key of one, the payload of the other", err, byok.ErrOpen)
	}
}

// The same in the Store: somebody writes another wrapped key under an id that is
// cached. What is cached serves to the end of its lease, and then the new one does.
func TestE10_StoreRecreatesADataKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "old", "")
		h, err := byok.Inspect(sealed)
		want(t, "Inspect", err, nil)
		dek, r := wrappedBy(t, env, cmk.ARN(), "acme", h.DataKey)
		head := inside(h.DataKey, r)
		stored, err := head.Append(nil)
		want(t, "Append", err, nil)
		item, err := env.Store.Get(t.Context(), byok.Ref{Partition: "tenant:acme", ID: "dek:" + h.DataKey.String()})
		want(t, "Get", err, nil)
		before, rest, _ := strings.Cut(string(item.Value), `"header":"`)
		_, after, _ := strings.Cut(rest, `"`)
		item.Value = []byte(before + `"header":"` + base64.StdEncoding.EncodeToString(stored) + `"` + after)
		want(t, "Apply", env.Store.Apply(t.Context(), item), nil)
		renewed := forge(t, format.Header{Suite: format.SuiteFLOE, Policy: format.PolicyREF, DataKey: h.DataKey, Tenant: "acme"}, dek, "default", "new")

		mustOpen(t, env.Keeper, "acme", sealed, "", "old") // under lease
		mustOpen(t, env.NewKeeper(), "acme", renewed, "", "new")
		time.Sleep(byok.DefaultMaxAge)
		mustOpen(t, env.Keeper, "acme", renewed, "", "new")
		_, err = open(t, env.Keeper, "acme", sealed, "") // its key is gone from the Store
		want(t, "Open", err, byok.ErrOpen)
		if n := env.Keeper.Stats().Leases; n != 1 {
			t.Errorf("%d leases of one id", n)
		}
	})
}

// A denial leaves no index behind in which a data key could still be found: not
// that of what seals now, not those of the Store and of envelopes, not through
// another tenant that holds the same wrapped bytes.
func TestE11_NoSecondIndex(t *testing.T) {
	env := byoktest.New(t, nil)
	keys := &spoilKeyring{Keyring: env.Keys}
	k, err := byok.New(byoktest.Service, keys, env.Store, env.Audit, nil)
	want(t, "New", err, nil)
	defer k.Close()
	_, cmk := env.Tenant("acme")
	_, theirs := env.Tenant("umbrella")
	id := byok.DataKeyID{11}
	dek, r := wrappedBy(t, env, cmk.ARN(), "acme", id)
	within := forge(t, inside(id, r), dek, "default", "within")
	stored := seal(t, k, "acme", "stored", "") // and what seals now
	mustOpen(t, k, "acme", within, "", "within")
	// umbrella holds the same wrapped bytes, under acme's CMK and under its own.
	foreign := inside(id, r)
	foreign.Tenant = "umbrella"
	byTheirs := r
	byTheirs.Key = theirs.ARN()
	claimed := inside(id, byTheirs)
	claimed.Tenant = "umbrella"
	stolen := [][]byte{forge(t, foreign, dek, "default", "x"), forge(t, claimed, dek, "default", "x")}
	quiet := seal(t, k, "umbrella", "y", "")

	cmk.Disable()
	_, err = k.Tenant("acme").Health(t.Context()) // sees it
	want(t, "Health", err, nil)
	env.Fake.ResetCalls()
	for range 3 {
		for _, s := range stolen {
			_, err := open(t, k, "umbrella", s, "")
			want(t, "Open by another tenant", err, byok.ErrOpen)
			_, err = open(t, k, "acme", s, "")
			want(t, "Open of another tenant's envelope", err, byok.ErrOpen)
		}
		for _, s := range [][]byte{stored, within} {
			_, err := open(t, k, "acme", s, "")
			want(t, "Open after the denial", err, byok.ErrKeyDenied)
		}
		_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
		want(t, "Seal after the denial", err, byok.ErrKeyDenied)
		mustOpen(t, k, "umbrella", quiet, "", "y")
	}
	if n := k.Stats().Leases; n != 1 {
		t.Errorf("%d leases, want umbrella's", n)
	}
	for _, c := range env.Fake.Calls() {
		if c.KeyARN == cmk.ARN() {
			t.Errorf("KMS was asked about the denied key: %+v", c)
		}
	}
	alive := 0
	for _, d := range keys.given {
		if d.Use(func([]byte) error { return nil }) == nil {
			alive++
		}
	}
	if alive != 1 {
		t.Errorf("%d data keys are not wiped, want umbrella's alone", alive)
	}
}

// A driver that panics, or ends its goroutine, while a crowd waits for it:
// everybody gets an error, nobody hangs, and the next call is made anew.
func TestE15_LoaderPanicsWithACrowd(t *testing.T) {
	for name, die := range map[string]func(){
		"panic":  func() { panic(errors.New("secret detail")) },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{})})
				env.Tenant("acme")
				sealed := seal(t, env.Keeper, "acme", "x", "")
				k, h := hooked(t, env)
				calls := atomic.Int64{}
				h.before(func(context.Context, string) error {
					calls.Add(1)
					time.Sleep(time.Second) // so that all meet in it
					die()
					return nil
				})
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						_, err := open(t, k, "acme", sealed, "")
						if !errors.Is(err, byok.ErrInternal) || strings.Contains(fmt.Sprint(err), "secret") {
							t.Errorf("Open: %v", err)
						}
					})
				}
				wg.Wait()
				if n := calls.Load(); n != 1 {
					t.Errorf("%d calls", n)
				}
				h.before(nil)
				mustOpen(t, k, "acme", sealed, "", "x")
			})
		})
	}
}

// Data keys are evicted, dropped and collected all the time while others seal with
// them. Whatever was sealed opens: nothing was sealed under the zeros of a key
// that was wiped on the way.
func TestE18_NothingIsSealedUnderZeros(t *testing.T) {
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
	env.Tenant("acme")
	k := env.NewKeeper()
	k.SetCacheSize(2)
	acme := k.Tenant("acme")
	var mu sync.Mutex
	sealed := map[string][]byte{}
	stop := make(chan struct{})
	start := time.Now()
	var dropper, wg sync.WaitGroup
	dropper.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_, _ = acme.Recheck(t.Context()) // drops every lease, and wipes
			}
		}
	})
	for w := range 8 {
		wg.Go(func() {
			scope := byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", w%4)}
			for i := 0; k.Stats().Misses < 60 && time.Since(start) < 30*time.Second; i++ {
				id := fmt.Sprintf("%d/%d", w, i)
				s, err := k.Seal(t.Context(), scope, []byte(id), []byte(id))
				if errors.Is(err, byok.ErrKeyUnavailable) {
					continue // evicted three times in a row, or over the tenant's budget
				}
				if err != nil {
					t.Errorf("Seal: %v", err)
					return
				}
				if i%10 == 0 || i < 100 { // enough to look at
					mu.Lock()
					sealed[id] = s
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	dropper.Wait()
	fresh := env.NewKeeper()
	for id, s := range sealed {
		var w int
		_, _ = fmt.Sscanf(id, "%d/", &w)
		plain, err := fresh.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", w%4)}, s, []byte(id))
		if want(t, "Open", err, nil); string(plain) != id {
			t.Errorf("%s opens as something else", id)
		}
	}
	if loads := k.Stats().Misses; len(sealed) < 100 || loads < 60 {
		t.Errorf("%d were sealed over %d loads: this test could pass on nothing", len(sealed), loads)
	}
}

// A process starts with no lease, whatever the Store holds and however young it
// is: the first use asks KMS, and if KMS cannot be asked there is none.
func TestF4_I14_ColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		restore := env.Fake.Outage()
		mustOpen(t, env.Keeper, "acme", sealed, "", "x") // proved a moment ago, here
		k := env.NewKeeper()
		_, err := open(t, k, "acme", sealed, "")
		want(t, "Open in a process that has just started", err, byok.ErrKeyUnavailable)
		restore()
		time.Sleep(10 * time.Second)
		env.Fake.ResetCalls()
		mustOpen(t, k, "acme", sealed, "", "x")
		if n := len(env.Fake.Calls()); n != 1 {
			t.Errorf("%d KMS calls, want 1", n)
		}
	})
}
