package byok_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/storetest"
)

var (
	outages = []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.Hang, storetest.HangAfter}
	// What no Store may answer, and some do: replicas that lag, proxies that cut, caches.
	lies = []storetest.Fault{storetest.Stale, storetest.Missing, storetest.Torn, storetest.Unordered, storetest.Foreign}
)

// faultHistory is what two processes, whose clocks disagree, do on one Store that
// fails or lies now and then.
type faultHistory struct {
	t       *testing.T
	env     *byoktest.Env
	keepers []*byok.Keeper
	skews   []time.Duration
	stopped []bool // by process: it has suspended the tenant, and nobody has resumed it
	records []record

	mu     sync.Mutex // of what follows
	r      *rand.Rand
	faults []storetest.Fault
	rate   float64
	made   int
}

func (h *faultHistory) choose(string, string) storetest.Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.r.Float64() >= h.rate {
		return storetest.NoFault
	}
	h.made++
	return h.faults[h.r.IntN(len(h.faults))]
}

func (h *faultHistory) draw(n int) int { h.mu.Lock(); defer h.mu.Unlock(); return h.r.IntN(n) }

func (h *faultHistory) boot(i int) {
	k := h.env.NewKeeper()
	k.SkewClock(h.skews[i])
	h.keepers[i], h.stopped[i] = k, false // a new process has seen nothing
}

func (h *faultHistory) step() {
	i := h.draw(len(h.keepers))
	k := h.keepers[i]
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	switch h.draw(14) {
	case 0, 1, 2, 3:
		rec := record{purpose: fmt.Sprint("p", h.draw(3)), plain: fmt.Sprint("record ", len(h.records))}
		var err error
		if rec.sealed, err = k.Seal(ctx, byok.Scope{Tenant: "acme", Purpose: rec.purpose}, []byte(rec.plain), nil); err == nil {
			h.records = append(h.records, rec)
		}
		h.judge(i, "Seal", err)
	case 4, 5, 6:
		if len(h.records) > 0 {
			rec := h.records[h.draw(len(h.records))]
			plain, err := k.Open(ctx, byok.Scope{Tenant: "acme", Purpose: rec.purpose}, rec.sealed, nil)
			if err == nil && string(plain) != rec.plain {
				h.t.Errorf("opened %q, sealed %q", plain, rec.plain)
			}
			h.judge(i, "Open", err)
		}
	case 7:
		_, _ = k.Tenant("acme").Rotate(ctx, byok.Rotation{Type: byok.RotateDEK})
	case 8:
		if _, err := k.Tenant("acme").Suspend(ctx, ""); err == nil || errors.Is(err, byok.ErrNotAudited) {
			h.stopped[i] = true
		}
	case 9, 12, 13:
		_, _ = k.Tenant("acme").Resume(ctx, "") // perhaps it took effect
		clear(h.stopped)
	case 10:
		_ = k.Close()
		h.boot(i)
	case 11:
		h.mu.Lock()
		pause := h.r.Int64N(int64(2 * time.Minute)) // more than an int has where it has 32 bits
		h.mu.Unlock()
		time.Sleep(time.Duration(pause))
	}
}

func (h *faultHistory) judge(i int, what string, err error) {
	if err == nil && h.stopped[i] {
		h.t.Errorf("%s in a process that has suspended the tenant", what)
	}
}

// Outages and lies of the Store, between processes whose clocks disagree: some
// operations fail, and nothing that was acknowledged is lost. No two data keys are made
// where one is to be, nothing opens as something else, and a stop that was acknowledged
// holds in its process, whatever the Store says.
func TestG5_G7_KeeperOnAFaultyStore(t *testing.T) {
	const histories = 120
	sealed, made := 0, 0
	for seed := range uint64(histories) {
		synctest.Test(t, func(t *testing.T) {
			h := &faultHistory{t: t, r: rand.New(rand.NewPCG(seed, 7)), skews: []time.Duration{-2 * time.Hour, 3 * time.Hour}}
			store := new(byok.MemStore)
			o := *simOptions
			h.env = byoktest.New(t, &byoktest.Options{Store: storetest.NewFaults(store, h.choose), Keeper: &o})
			h.env.Tenant("acme")
			h.keepers, h.stopped = make([]*byok.Keeper, 2), make([]bool, 2)
			h.boot(0)
			h.boot(1)
			h.mu.Lock()
			h.faults, h.rate = outages, 0.05+0.3*h.r.Float64()
			if seed%2 == 1 {
				h.faults = append(h.faults[:len(h.faults):len(h.faults)], lies...)
			}
			h.mu.Unlock()
			for range 120 {
				h.step()
			}
			h.mu.Lock()
			h.rate = 0
			h.mu.Unlock()
			k := h.env.NewKeeper()
			_, err := k.Tenant("acme").Resume(t.Context(), "")
			want(t, "Resume", err, nil)
			time.Sleep(time.Minute)
			for _, rec := range h.records {
				plain, err := k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: rec.purpose}, rec.sealed, nil)
				if want(t, "Open, once the Store is well", err, nil); string(plain) != rec.plain {
					t.Errorf("opened %q, sealed %q", plain, rec.plain)
				}
			}
			_, err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("x"), nil)
			want(t, "Seal, once the Store is well", err, nil)
			dataKeys(t, h.env, "acme")
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
			sealed, made = sealed+len(h.records), made+h.made
		})
		if t.Failed() {
			return
		}
	}
	if sealed < 10*histories || made < 10*histories {
		t.Errorf("%d records and %d faults: too little happened", sealed, made)
	}
	t.Logf("%d histories, %d faults, %d records open", histories, made, sealed)
}
