package byok_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/kmsfake"
)

var platformRuns = flag.Int("platform.runs", 60, "histories of TestPlatformModel")
var platformSeed = flag.Uint64("platform.seed", 1, "seed of the first one; each further one is its successor")

// platformState is what the Store says of acme.
type platformState struct {
	Lifecycle  string
	Platform   bool
	Key        byok.KeyID
	Generation uint64
	Elsewhere  *struct {
		DataKeys   uint64 `json:"data_keys"`
		Generation uint64
	}
}

// platformWorld is a history of one tenant that begins with nothing, in two processes that may die: one of them knows the
// platform's newer CMK first, and the other one not at all.
type platformWorld struct {
	t         *testing.T
	r         *rand.Rand
	env       *byoktest.Env
	platforms []*kmsfake.Key
	own       []*kmsfake.Key
	stores    []*dyingStore
	keepers   []*byok.Keeper
	records   records
	was       platformState
	mark      int // of the calls that have been looked at
	seen      map[string]int
}

const immortal = 1 << 40

func (w *platformWorld) boot(i int) {
	w.stores[i] = &dyingStore{Store: w.env.Store, after: w.r.IntN(2) == 0}
	w.stores[i].left.Store(immortal)
	given := [][]byok.KeyID{{awskms.Key(w.platforms[0].ARN())}, {awskms.Key(w.platforms[1].ARN()), awskms.Key(w.platforms[0].ARN())}}
	k, err := byok.New(byoktest.Service, w.env.Keys, w.stores[i], w.env.Audit, &byok.Options{PlatformKeys: given[i], Logger: slog.New(slog.DiscardHandler)})
	want(w.t, "New", err, nil)
	w.keepers[i] = k
}

// step is one thing that somebody does. It returns what, and whether that is the business of data, of which a tenant that
// is stopped has none.
func (w *platformWorld) step(k *byok.Keeper) (what string, data bool) {
	ctx, acme := w.t.Context(), k.Tenant("acme")
	job := func() string {
		s, err := acme.Status(ctx)
		if err != nil {
			return ""
		}
		return s.Job
	}
	own := w.own[w.r.IntN(len(w.own))]
	switch n := w.r.IntN(46); {
	case n < 10:
		rec := sealedRecord{scope: byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", w.r.IntN(6))}, plain: fmt.Sprint(w.r.Uint64())}
		var err error
		if rec.sealed, err = k.Seal(ctx, rec.scope, []byte(rec.plain), nil); err == nil {
			w.records = append(w.records, rec)
			return "seal done", true
		}
		return "seal", true
	case n < 16:
		if len(w.records) == 0 {
			return "", true
		}
		rec := w.records[w.r.IntN(len(w.records))]
		if got, err := k.Open(ctx, rec.scope, rec.sealed, nil); err == nil && string(got) != rec.plain || errors.Is(err, byok.ErrOpen) {
			w.t.Errorf("Open: %q, %v", got, err)
		}
		return "open", true
	case n < 20:
		_, err := acme.Register(ctx, registration(own))
		return fmt.Sprint("register ", byok.Code(err)), false
	case n < 21:
		_, err := acme.Register(ctx, registration(w.known(k)))
		if err == nil {
			w.t.Error("registered the platform's key")
		}
		return "register the platform's", false
	case n < 22:
		if w.r.IntN(4) > 0 {
			return "", true
		}
		r := registration(own)
		if r.AbandonExistingData = w.was.Platform; w.was.Platform {
			_, _ = acme.Revoke(ctx, "")
			time.Sleep(byok.DefaultMaxAge) // what is sealed meanwhile would be given up too
		}
		_, err := acme.Register(ctx, r)
		return fmt.Sprint("abandon ", byok.Code(err)), false
	case n < 30:
		id := job()
		for steps := 1 + w.r.IntN(4); id != "" && steps > 0; steps-- {
			for _, err := range acme.RunJob(ctx, id) {
				if err != nil {
					id = ""
				}
				break
			}
		}
		return "work", false
	case n < 31:
		if id := job(); id != "" {
			_, _ = acme.CancelJob(ctx, id, "")
		}
		return "cancel", false
	case n < 32:
		if w.r.IntN(3) > 0 {
			return "", true
		}
		_, _ = acme.Revoke(ctx, "")
		return "revoke", false
	case n < 33:
		_, _ = acme.Suspend(ctx, "")
		return "suspend", false
	case n < 36:
		_, _ = acme.Resume(ctx, "")
		return "resume", false
	case n < 38:
		_, _ = acme.Rotate(ctx, byok.Rotation{Type: []string{byok.RotateDEK, byok.RotateFull}[w.r.IntN(2)]})
		return "rotate", true
	case n < 39:
		_, err := acme.Move(ctx, awskms.Key(w.known(k).ARN()), "")
		return fmt.Sprint("move to the platform's ", byok.Code(err)), false
	case n < 40:
		_, _ = acme.Move(ctx, awskms.Key(own.ARN()), "")
		return "move", false
	case n < 42:
		_, _ = acme.AcknowledgeWaiver(ctx, accepted)
		return "acknowledge", true
	case n < 43:
		_, _ = acme.Health(ctx)
		_, _ = acme.Recheck(ctx)
		return "health", true
	default:
		all := append(w.platforms[:2:2], w.own...)
		if c := all[w.r.IntN(len(all))]; w.r.IntN(4) == 0 {
			c.Disable()
		} else {
			c.Enable()
		}
		return "policy", true
	}
}

// known is one of the platform's CMKs that k was given.
func (w *platformWorld) known(k *byok.Keeper) *kmsfake.Key {
	if k == w.keepers[0] {
		return w.platforms[0]
	}
	return w.platforms[w.r.IntN(2)]
}

func (w *platformWorld) state() (s platformState) {
	item, err := w.env.Store.Get(context.Background(), byok.Ref{Partition: "tenant:acme", ID: "state"})
	if err == nil {
		err = json.Unmarshal(item.Value, &s)
	}
	if err != nil && !errors.Is(err, byok.ErrNotFound) {
		w.t.Fatal(err)
	}
	return s
}

// check looks at what a step has come to.
func (w *platformWorld) check(what string, data bool) {
	now, was := w.state(), w.was
	asked := keysOf(w.env.Fake, "acme", w.mark)
	platform := asked[w.platforms[0].ARN()] + asked[w.platforms[1].ARN()]
	w.was, w.mark = now, len(w.env.Fake.Calls())
	registered := was.Lifecycle != "" && !was.Platform
	isPlatforms := now.Key.ID == w.platforms[0].ARN() || now.Key.ID == w.platforms[1].ARN()
	switch {
	case now.Lifecycle == "platform" && was.Lifecycle != "" && was.Lifecycle != "platform":
		w.t.Errorf("%s: from %s to platform", what, was.Lifecycle)
	case registered && (now.Platform || isPlatforms || now.Lifecycle == ""):
		w.t.Errorf("%s: a registered tenant fell back: %+v", what, now)
	case registered && platform > 0:
		w.t.Errorf("%s: KMS was asked about the platform's CMK %d times, after %+v", what, platform, was)
	case was.Platform && was.Lifecycle == "revoked" && data && platform > 0:
		w.t.Errorf("%s: of a tenant that is revoked, KMS was asked about the platform's CMK", what)
	case now.Platform != isPlatforms:
		w.t.Errorf("%s: %+v", what, now)
	case was.Elsewhere != nil && (now.Elsewhere == nil || *now.Elsewhere != *was.Elsewhere):
		w.t.Errorf("%s: the count was %+v and is %+v", what, was.Elsewhere, now.Elsewhere)
	case now.Elsewhere != nil && was.Elsewhere == nil:
		n := uint64(0)
		for _, i := range itemsOf(w.t, w.env.Store, "dek:") {
			var d struct{ Generation uint64 }
			want(w.t, "Unmarshal", json.Unmarshal(i.Value, &d), nil)
			if d.Generation <= now.Elsewhere.Generation {
				n++
			}
		}
		if now.Elsewhere.DataKeys != n || n == 0 || now.Generation <= now.Elsewhere.Generation {
			w.t.Errorf("%s: %d data keys, counted %+v, generation %d", what, n, now.Elsewhere, now.Generation)
		}
	}
	if was.Platform && !now.Platform {
		if what = "left " + what; len(what) > 12 && what[:12] == "left abandon" {
			w.records = nil
		}
	}
	w.seen[what]++
}

func (w *platformWorld) run() {
	for range 120 {
		i := w.r.IntN(2)
		if w.r.IntN(6) == 0 {
			w.stores[i].left.Store(1 + w.r.Int64N(40))
		}
		what, data := w.step(w.keepers[i])
		if w.stores[i].left.Load() <= 0 {
			_ = w.keepers[i].Close()
			w.boot(i)
			w.seen["death"]++
		}
		w.stores[i].left.Store(immortal)
		synctest.Wait() // for what goes on behind it
		w.check(what, data)
		if w.r.IntN(5) == 0 {
			time.Sleep(time.Duration(w.r.Int64N(int64(2 * time.Minute))))
			synctest.Wait()
			w.check("time", true)
		}
	}
}

// settle makes everything well, and the tenant a registered one. Whatever was acknowledged, and not given up, opens then.
func (w *platformWorld) settle() {
	for _, c := range append(w.platforms[:2:2], w.own...) {
		c.Enable()
	}
	time.Sleep(2 * time.Minute)
	ctx, acme := w.t.Context(), w.keepers[1].Tenant("acme")
	_, err := acme.Resume(ctx, "")
	if errors.Is(err, byok.ErrNotRegistered) {
		return // nothing was ever sealed
	}
	want(w.t, "Resume", err, nil)
	_, err = acme.AcknowledgeWaiver(ctx, accepted)
	want(w.t, "AcknowledgeWaiver", err, nil)
	for j, err := range acme.Jobs(ctx) {
		want(w.t, "Jobs", err, nil)
		finish(w.t, acme, j.ID)
	}
	s, err := acme.Status(ctx)
	want(w.t, "Status", err, nil)
	switch {
	case s.PlatformKey:
		s, err = acme.Register(ctx, registration(w.own[0]))
		if want(w.t, "Register", err, nil); s.Job != "" {
			finish(w.t, acme, s.Job)
		}
	case s.Status == byok.StatusRevoked:
		_, err = acme.Register(ctx, byok.Registration{Key: s.Key})
		want(w.t, "Register", err, nil)
	}
	for _, p := range w.platforms {
		p.Disable()
	}
	synctest.Wait()
	w.check("settle", false)
	for _, k := range []*byok.Keeper{w.keepers[0], w.keepers[1], w.env.NewKeeper()} {
		time.Sleep(time.Minute)
		seal(w.t, k, "acme", "x", "")
		w.records.open(w.t, k)
	}
	if s, err = acme.Status(ctx); err != nil || s.Status != byok.StatusActive {
		w.t.Errorf("%+v, %v", s, err)
	}
	if got, err := acme.DataKeys(ctx); err != nil || got.Damaged > 0 {
		w.t.Errorf("%+v, %v", got, err)
	}
	synctest.Wait()
	w.check("the end", true)
	matchCalls(w.t, w.env, w.env.Audit.All())
}

// Whatever a tenant and its platform do in whatever order, with CMKs that deny and processes that die: nothing leads back to the
// platform's CMK. After a registration no request names it, the count of what it had wrapped is exact and stands, and
// what was sealed opens.
func TestPlatformModel(t *testing.T) {
	seen, sealed := map[string]int{}, 0
	for n := range *platformRuns {
		seed := *platformSeed + uint64(n)
		synctest.Test(t, func(t *testing.T) {
			w := &platformWorld{t: t, r: rand.New(rand.NewPCG(seed, 5)), seen: seen, stores: make([]*dyingStore, 2), keepers: make([]*byok.Keeper, 2),
				env: byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})}
			w.platforms = []*kmsfake.Key{w.env.NewPlatformCMK(), w.env.NewPlatformCMK()}
			w.own = []*kmsfake.Key{w.env.CMK("acme"), w.env.CMK("acme")}
			if n%2 == 0 {
				mayReEncrypt(append(w.platforms[:2:2], w.own...)...)
			}
			for i := range w.keepers {
				w.boot(i)
			}
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			w.run()
			w.settle()
			sealed += len(w.records)
			for _, k := range w.keepers {
				_ = k.Close()
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d histories, %d records, %v", *platformRuns, sealed, seen)
	for _, what := range []string{"left work", "left register ", "left settle", "left abandon ", "death", "revoke", "move to the platform's ", "move to the platform's BYOK_003"} {
		if seen[what] == 0 && *platformRuns >= 60 {
			t.Errorf("nothing %q happened", what)
		}
	}
}
