package budget_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/fipstest"
)

func TestMain(m *testing.M) { fipstest.Main(m) }

// discard is an AuditSink that keeps nothing.
type discard struct{}

func (discard) Record(context.Context, byok.Event) error { return nil }

// sick is a Keyring whose KMS is slow for one tenant, and throttles every other request.
type sick struct {
	byok.Keyring
	on atomic.Bool
	n  atomic.Int64
}

func (s *sick) before(ctx context.Context, key byok.KeyID) error {
	time.Sleep(20 * time.Millisecond) // a healthy KMS
	if !s.on.Load() || byok.TenantFromContext(ctx) != "hot" {
		return nil
	}
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return &byok.KeyError{Op: "test", Key: key, Class: byok.ClassOutage, Err: ctx.Err()}
	}
	if s.n.Add(1)%2 == 0 {
		return &byok.KeyError{Op: "test", Key: key, Code: "ThrottlingException", Class: byok.ClassThrottled}
	}
	return nil
}

func (s *sick) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	if err := s.before(ctx, key); err != nil {
		return nil, byok.Wrapped{}, err
	}
	return s.Keyring.GenerateDataKey(ctx, key, ec)
}

func (s *sick) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	if err := s.before(ctx, key); err != nil {
		return nil, byok.Receipt{}, err
	}
	return s.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
}

// neighbours runs one hot tenant at 200 operations a second over many purposes, and 99
// quiet ones, for as long as d, and returns how long the quiet ones took, sorted, and how many
// operations of each kind there were.
func neighbours(t *testing.T, ill bool, maxAge, d time.Duration) (took []time.Duration, hot int64) {
	env := byoktest.New(t, &byoktest.Options{Sink: discard{}})
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprint("quiet", i)
	}
	names[0] = "hot"
	for _, n := range names {
		env.Tenant(n)
	}
	keys := &sick{Keyring: env.Keys}
	k, err := byok.New(byoktest.Service, keys, env.Store, discard{}, &byok.Options{MaxAge: maxAge})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	keys.on.Store(ill)
	var wg sync.WaitGroup
	var mu sync.Mutex
	begun := time.Now()
	wg.Go(func() {
		for i := 0; time.Since(begun) < d; i++ {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, _ = k.Seal(ctx, byok.Scope{Tenant: "hot", Purpose: fmt.Sprint("p", i%400)}, make([]byte, 1000), nil)
			})
			atomic.AddInt64(&hot, 1)
			time.Sleep(time.Second / 200)
		}
	})
	for i, name := range names[1:] {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			for n := 0; time.Since(begun) < d; n++ {
				start := time.Now()
				// Every twentieth is of a purpose that is not under lease any more.
				s := byok.Scope{Tenant: name, Purpose: "often"}
				if n%20 == 0 {
					s.Purpose = fmt.Sprint("seldom", n)
				}
				if _, err := k.Seal(t.Context(), s, make([]byte, 1000), nil); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
				time.Sleep(250 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took, hot
}

func p99(took []time.Duration) time.Duration { return took[len(took)*99/100] }

// One tenant's KMS is slow and throttled, and that tenant is hot: the 99 others do not
// wait for it, in no queue and for no lock. In simulated time a wait of any kind that
// the healthy run does not have would show as it is.
func TestIsolation(t *testing.T) {
	var healthy, ill []time.Duration
	for _, run := range []struct {
		ill  bool
		took *[]time.Duration
	}{{false, &healthy}, {true, &ill}} {
		synctest.Test(t, func(t *testing.T) {
			took, hot := neighbours(t, run.ill, 5*time.Second, 30*time.Second)
			if *run.took = took; hot < 5900 || len(took) < 99*100 {
				t.Errorf("%d operations of the hot tenant in 30 s, %d of the quiet ones", hot, len(took))
			}
		})
	}
	t.Logf("quiet tenants, in simulated time: p99 %v, longest %v; with a sick neighbour: p99 %v, longest %v",
		p99(healthy), healthy[len(healthy)-1], p99(ill), ill[len(ill)-1])
	if p99(healthy) == 0 {
		t.Error("no operation of the healthy run has waited for KMS: this compares nothing")
	}
	if p99(ill) > 2*p99(healthy) || ill[len(ill)-1] > 2*healthy[len(healthy)-1] {
		t.Error("the quiet tenants wait for the sick one")
	}
}

// The same on the real clock, where locks and processor time count too. A busy
// machine disturbs both runs, so of several pairs one must do.
func TestIsolationOnTheClock(t *testing.T) {
	var last string
	for range 5 {
		healthy, _ := neighbours(t, false, time.Second, 1500*time.Millisecond)
		ill, hot := neighbours(t, true, time.Second, 1500*time.Millisecond)
		last = fmt.Sprintf("quiet tenants: p99 %v; with a sick neighbour at %d operations in 1.5 s: p99 %v", p99(healthy), hot, p99(ill))
		t.Log(last)
		if p99(ill) <= 2*p99(healthy) {
			return
		}
	}
	t.Error(last)
}
