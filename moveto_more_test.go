package byok_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// A process dies at each of its calls to the Store during a move to or from several CMKs. Everything opens at once
// afterwards, any other process brings the job to its end, or the command begins it anew, and nothing is left half done.
func TestI19_MovesOfSeveralSurviveACrash(t *testing.T) {
	for _, m := range []struct{ from, to cmkSet }{{oneA, allAB}, {allAB, anyBCD}} {
		for _, after := range []bool{false, true} {
			deaths := 0
			for n, done := int64(0), false; !done && !t.Failed(); n++ {
				inBubble(func(t *testing.T) {
					s, all := movers(t, m.from, 4)
					s.opts.Logger = slog.New(slog.DiscardHandler)
					store := &dyingStore{Store: s.Store, after: after}
					store.left.Store(n + 1)
					dying, err := byok.New(byoktest.Service, newRegional(t, s.Fake), store, s.Audit, &s.opts)
					want(t, "New", err, nil)
					job, err := dying.Tenant("acme").MoveTo(t.Context(), s.move(m.from, m.to))
					if err == nil {
						for _, err = range dying.Tenant("acme").RunJob(t.Context(), job.ID) {
						}
					}
					if done = err == nil && store.left.Load() > 0; !done {
						deaths++
					}
					want(t, "Close", dying.Close(), nil)

					all.open(t, s.process())
					more := sealMany(t, s.k, 4)
					time.Sleep(time.Minute) // until nobody holds the job any more
					id := ""
					for j, err := range s.acme.Jobs(t.Context()) {
						want(t, "Jobs", err, nil)
						id = j.ID
					}
					if id == "" {
						job, err := s.acme.MoveTo(t.Context(), s.move(m.from, m.to))
						if want(t, fmt.Sprint("MoveTo after death ", n), err, nil); err != nil {
							return
						}
						id = job.ID
					}
					if last := finish(t, s.process().Tenant("acme"), id); last.State != byok.JobDone || last.Failed != 0 || last.Left != 0 {
						t.Errorf("death %d, after %v: %+v", n, after, last)
					}
					s.only(m.to)
					all.open(t, s.process())
					more.open(t, s.process())
					if m.to.policy != byok.PolicyAll {
						s.underSet(m.to)
					}
				})(t)
			}
			if deaths < 20 {
				t.Errorf("%d deaths: this test could pass on nothing", deaths)
			}
			t.Logf("%s to %s, after %v: died %d times", m.from, m.to, after, deaths)
		}
	}
}

// Three processes work at the same move at the same time, each as if the others were not there. The result is what one alone
// would have done.
func TestTwoProcessesAtOneMoveOfSeveral(t *testing.T) {
	s, all := movers(t, allAB, 40)
	job, err := s.acme.MoveTo(t.Context(), s.move(allAB, allAC))
	want(t, "MoveTo", err, nil)
	var wg sync.WaitGroup
	for range 3 {
		k, err := byok.New(byoktest.Service, newRegional(t, s.Fake), leaseless{s.Store}, s.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		wg.Go(func() {
			for j, err := range k.Tenant("acme").RunJob(t.Context(), job.ID) {
				if err != nil {
					t.Errorf("%+v, %v", j, err)
					return
				}
			}
		})
	}
	wg.Wait()
	last, err := s.acme.Job(t.Context(), job.ID)
	if want(t, "Job", err, nil); last.State != byok.JobDone || last.Done != 40 || last.Failed != 0 {
		t.Errorf("%+v", last)
	}
	s.only(allAC)
	all.open(t, s.process())
	s.underSet(allAC)
	matchCalls(t, s.Env, s.Audit.All())
}

// Cancelled halfway, a move leaves nothing: not its wrappings, and its claims are what they were, also of a CMK that had been shared
// and would have become the tenant's own.
func TestMoveTo_CancelledAndClaims(t *testing.T) {
	inBubble(func(t *testing.T) {
		s, all := movers(t, allAB, 20)
		claimed := func() map[string]string {
			items, err := s.Store.List(t.Context(), "cmk", "", 100)
			want(t, "List", err, nil)
			out := map[string]string{}
			for _, i := range items {
				var c struct {
					Tenant string
					Key    byok.KeyID
					Shared bool
				}
				want(t, "Unmarshal", json.Unmarshal(i.Value, &c), nil)
				for n, cmk := range s.cmks {
					if c.Key.ID == cmk.ARN() && (c.Tenant != "" || c.Shared) {
						out[fmt.Sprint(n)] = fmt.Sprint(c.Tenant, c.Shared)
					}
				}
			}
			return out
		}
		expect := func(when, wanted string) {
			t.Helper()
			if got := fmt.Sprint(claimed()); got != wanted {
				t.Errorf("%s: claims %s, want %s", when, got, wanted)
			}
		}
		begin := func(from, to cmkSet) string {
			t.Helper()
			job, err := s.acme.MoveTo(t.Context(), s.move(from, to))
			want(t, "MoveTo", err, nil)
			return job.ID
		}
		expect("registered", "map[0:acmefalse 1:true]")
		id := begin(allAB, anyBCD)
		for j, err := range s.acme.RunJob(t.Context(), id) {
			if want(t, "RunJob", err, nil); j.Done > 0 {
				break
			}
		}
		expect("moving to any of B, C, D", "map[0:acmefalse 1:acmefalse 2:acmefalse 3:acmefalse]")
		_, err := s.acme.CancelJob(t.Context(), id, "")
		want(t, "CancelJob", err, nil)
		finish(t, s.acme, id)
		expect("cancelled", "map[0:acmefalse 1:true]")
		s.underSet(allAB)
		time.Sleep(2 * time.Second)
		// The primary becomes one that has a share. Until the switch it is the tenant's own all the same.
		id = begin(allAB, allCAB)
		expect("moving to all of C, A, B", "map[0:acmefalse 1:true 2:acmefalse]")
		finish(t, s.acme, id)
		expect("all of C, A, B", "map[0:true 1:true 2:acmefalse]")
		time.Sleep(2 * time.Second)
		begin(allCAB, oneA)
		_, err = s.acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		expect("revoked while moving to A", "map[1:true]")
		time.Sleep(2 * time.Second)
		// From there on, too: with the switch they are registered. What is cancelled before leaves nothing claimed.
		id = begin(allCAB, allAC)
		expect("moving from revoked to all of A, C", "map[0:acmefalse 1:true 2:true]")
		_, err = s.acme.CancelJob(t.Context(), id, "")
		want(t, "CancelJob", err, nil)
		expect("cancelled from revoked", "map[1:true 2:true]") // shared ones stay: nobody keeps a list of who does
		time.Sleep(2 * time.Second)
		id = begin(allCAB, allAC)
		finish(t, s.acme, id)
		expect("all of A, C", "map[0:acmefalse 1:true 2:true]")
		s.only(allAC)
		all.open(t, s.process())
		matchCalls(t, s.Env, s.Audit.All())
	})(t)
}

// What carries its data key, and whose data key the Store does not know: Rewrap brings it over to one CMK and to any, from one that
// answers; a denial is final. To and from all it stays as it was, and opens again after a move back.
func TestRewrapAfterMoveTo(t *testing.T) {
	for _, m := range moves {
		t.Run(fmt.Sprint(m.from, " to ", m.to), inBubble(func(t *testing.T) {
			s, _ := movers(t, m.from, 1)
			s.opts.PerOperation = true
			alone := s.process()
			sealed := seal(t, alone, "acme", "hello", "aad")
			stored := sealStream(t, s.k, []byte("stream"), "")
			job, err := s.acme.MoveTo(t.Context(), s.move(m.from, m.to))
			want(t, "MoveTo", err, nil)
			finish(t, s.acme, job.ID)
			again, err := alone.Rewrap(t.Context(), acmeScope, stored)
			want(t, "Rewrap of what the Store knows", err, nil)
			if changed := m.from.policy == byok.PolicyAll || m.to.policy == byok.PolicyAll; changed == !bytes.Equal(again, stored) {
				t.Errorf("it has another header: %v", !bytes.Equal(again, stored))
			}
			mustOpen(t, alone, "acme", again, "", "stream")
			mustOpen(t, alone, "acme", stored, "", "stream")
			fresh, err := alone.Rewrap(t.Context(), acmeScope, sealed)
			if m.from.policy == byok.PolicyAll || m.to.policy == byok.PolicyAll {
				stays := m.from.policy != byok.PolicyAll && m.to.has(m.from.cmks[0]) || m.from.consents() > 1 && subset(m.from, m.to)
				wanted := error(byok.ErrOpen)
				if stays { // the new keys open it as it is, with the consent of all
					wanted = nil
				}
				if want(t, "Rewrap", err, wanted); !stays {
					_, err = open(t, alone, "acme", sealed, "aad")
					want(t, "Open", err, byok.ErrOpen)
					time.Sleep(2 * time.Second)
					job, err := s.acme.MoveTo(t.Context(), s.move(m.to, m.from))
					want(t, "MoveTo back", err, nil)
					finish(t, s.acme, job.ID)
					mustOpen(t, alone, "acme", sealed, "aad", "hello")
				}
				return
			}
			want(t, "Rewrap", err, nil)
			s.only(m.to)
			time.Sleep(time.Minute)
			mustOpen(t, alone, "acme", fresh, "aad", "hello")
			if !slices.ContainsFunc(m.from.cmks, m.to.has) {
				if _, err := alone.Rewrap(t.Context(), acmeScope, sealed); !errors.Is(err, byok.ErrKeyDenied) {
					t.Errorf("Rewrap from denied CMKs: %v", err)
				}
			}
		}))
	}
}

func subset(a, b cmkSet) bool {
	return !slices.ContainsFunc(a.cmks, func(i int) bool { return !b.has(i) })
}

// After a move to all an export opens with all of the new CMKs and nothing else, as any export does.
func TestExport_MovedToAll(t *testing.T) {
	inBubble(func(t *testing.T) {
		s, all := movers(t, oneA, 4)
		job, err := s.acme.MoveTo(t.Context(), s.move(oneA, allAB))
		want(t, "MoveTo", err, nil)
		finish(t, s.acme, job.ID)
		var file bytes.Buffer
		e, err := s.acme.Export(t.Context(), &file)
		want(t, "Export", err, nil)
		for i, r := range all {
			want(t, "Add", e.Add(byok.ExportRecord{Name: fmt.Sprint(i), Purpose: cmpOr(r.scope.Purpose, "default")}, r.sealed), nil)
		}
		want(t, "Close", e.Close(), nil)
		for _, keys := range [][]int{{0, 1}, {0}} {
			var ids []byok.KeyID
			for _, i := range keys {
				ids = append(ids, awskms.Key(s.cmks[i].ARN()))
			}
			o := openExport(t.Context(), newRegional(t, s.Fake), bytes.NewReader(file.Bytes()), ids...)
			if len(ids) == 1 {
				if len(o.plain) != 0 || len(o.bad) != len(all) || !errors.Is(o.bad[0], byok.ErrExportUntrusted) {
					t.Errorf("with one CMK: %v, %v", o.plain, o.bad)
				}
				continue
			}
			if len(o.plain) != len(all) || len(o.bad) != 0 {
				t.Errorf("%v, %v", o.plain, o.bad)
			}
			for i, r := range all {
				if o.plain[uint64(i+1)] != r.plain {
					t.Errorf("record %d: %q", i+1, o.plain[uint64(i+1)])
				}
			}
		}
	})(t)
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// A full rotation of a tenant with several CMKs wraps each part under its CMK's new key material, of what was moved too.
func TestFullRotationOfSeveral(t *testing.T) {
	for _, m := range []struct{ from, to cmkSet }{{oneA, anyAB}, {oneA, allAB}, {allAB, allCAB}, {anyAB, anyBCD}} {
		t.Run(fmt.Sprint(m.from, " to ", m.to), inBubble(func(t *testing.T) {
			const n = 6
			s, all := movers(t, m.from, n)
			job, err := s.acme.MoveTo(t.Context(), s.move(m.from, m.to))
			want(t, "MoveTo", err, nil)
			finish(t, s.acme, job.ID)
			all = append(all, sealMany(t, s.k, 2)...)
			count := len(itemsOf(t, s.Store, "dek:"))
			for _, i := range m.to.cmks {
				s.cmks[i].Rotate()
			}
			time.Sleep(2 * time.Second)
			before := itemsOf(t, s.Store, "dek:")
			res, err := s.acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
			calls := len(s.Fake.Calls())
			last := finish(t, s.acme, res.ID)
			if got := len(s.Fake.Calls()) - calls; got != 3*count*len(m.to.cmks) || last.State != byok.JobDone || last.Done != int64(count) {
				t.Errorf("%d requests, want %d; %+v", got, 3*count*len(m.to.cmks), last)
			}
			for i, now := range itemsOf(t, s.Store, "dek:") {
				for _, h := range [][]byte{wrappedParts(t, before[i]), wrappedParts(t, now)} {
					if len(h) == 0 {
						t.Fatal("no wrapped keys")
					}
				}
				if bytes.Equal(wrappedParts(t, before[i]), wrappedParts(t, now)) {
					t.Errorf("%s is what it was", now.ID)
				}
			}
			if m.to.policy != byok.PolicyAll || m.from.policy != "" {
				s.underSet(m.to)
			}
			s.only(m.to)
			all.open(t, s.process())
			// Each CMK can stop it, and it goes on.
			for _, i := range m.to.cmks {
				time.Sleep(time.Minute)
				res, err := s.acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
				want(t, "Rotate", err, nil)
				s.set(i, denying)
				var err2 error
				for last, err2 = range s.acme.RunJob(t.Context(), res.ID) {
				}
				if !errors.Is(err2, byok.ErrKeyDenied) || last.State != byok.JobPaused {
					t.Errorf("while %d denies: %+v, %v", i, last, err2)
				}
				s.set(i, up)
				time.Sleep(2 * time.Minute)
				if last = finish(t, s.acme, res.ID); last.State != byok.JobDone {
					t.Errorf("%+v", last)
				}
			}
			all.open(t, s.process())
			matchCalls(t, s.Env, s.Audit.All())
		}))
	}
}

// wrappedParts is what the CMKs have wrapped, in the order of the recipients.
func wrappedParts(t *testing.T, i byok.Item) (out []byte) {
	t.Helper()
	var d struct{ Header []byte }
	want(t, "Unmarshal", json.Unmarshal(i.Value, &d), nil)
	h, err := byok.Inspect(d.Header)
	want(t, "Inspect", err, nil)
	for _, r := range h.Recipients {
		out = append(out, r.Wrapped...)
	}
	return out
}

// Whoever can write to the Store changes what belongs to a moved data key. Nothing opens that should not, nothing seals under it, and put back it opens.
func TestTamperedMovedDataKeys(t *testing.T) {
	for name, tamper := range map[string]func(d map[string]any){
		"another one":         func(d map[string]any) { b := d["moved"].([]byte); b[20] ^= 1 },
		"a short one":         func(d map[string]any) { d["moved"] = d["moved"].([]byte)[1:] },
		"none":                func(d map[string]any) { delete(d, "moved") },
		"an empty one":        func(d map[string]any) { d["moved"] = []byte{} },
		"made with no policy": func(d map[string]any) { delete(d, "made") },
		"made with another":   func(d map[string]any) { d["made"] = 2 },
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			s, _ := movers(t, oneA, 1)
			job, err := s.acme.MoveTo(t.Context(), s.move(oneA, allAB))
			want(t, "MoveTo", err, nil)
			sealed := [][]byte{sealStream(t, s.k, []byte("x"), ""), seal(t, s.k, "acme", "x", "")}
			finish(t, s.acme, job.ID)
			item := itemsOf(t, s.Store, "dek:")[0]
			put := func(f func(map[string]any)) {
				now, err := s.Store.Get(t.Context(), item.Ref)
				want(t, "Get", err, nil)
				v := map[string]any{}
				want(t, "Unmarshal", json.Unmarshal(item.Value, &v), nil)
				var raw struct{ Moved []byte }
				want(t, "Unmarshal", json.Unmarshal(item.Value, &raw), nil)
				v["moved"] = raw.Moved
				f(v)
				b, err := json.Marshal(v)
				want(t, "Marshal", err, nil)
				want(t, "Apply", s.Store.Apply(t.Context(), byok.Item{Ref: item.Ref, Revision: now.Revision, Value: b}), nil)
			}
			put(tamper)
			stream := strings.HasPrefix(name, "made")
			for i, e := range sealed {
				_, err := open(t, s.process(), "acme", e, "")
				if wanted := !stream || i == 0; (err != nil) != wanted || err != nil && !errors.Is(err, byok.ErrOpen) && !errors.Is(err, byok.ErrStore) {
					t.Errorf("Open %d: %v", i, err)
				}
			}
			put(func(map[string]any) {})
			for _, e := range sealed {
				mustOpen(t, s.process(), "acme", e, "", "x")
			}
			// Now it is said to be the one that seals. It says another policy than it has, so it does not.
			gen := byok.Ref{Partition: "tenant:acme", ID: fmt.Sprintf("gen:default:%020d", 2)}
			g, err := s.Store.Get(t.Context(), gen)
			if !errors.Is(err, byok.ErrNotFound) {
				want(t, "Get", err, nil)
			}
			value := fmt.Appendf(nil, `{"v":1,"data_key":%q}`, strings.TrimPrefix(item.ID, "dek:"))
			want(t, "Apply", s.Store.Apply(t.Context(), byok.Item{Ref: gen, Revision: g.Revision, Value: value}), nil)
			put(func(d map[string]any) { d["generation"] = 2 })
			for range 2 {
				k := s.process()
				mustOpen(t, k, "acme", sealed[1], "", "x")
				_, err = k.Seal(context.Background(), acmeScope, []byte("y"), nil)
				want(t, "Seal", err, byok.ErrStore)
			}
		}))
	}
}

// meanwhileKeys is a Keyring at which something happens, once, after a data key was wrapped.
type meanwhileKeys struct {
	regional
	mu sync.Mutex
	f  func()
}

func (m *meanwhileKeys) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	w, err := m.regional.WrapDataKey(ctx, key, dek, ec)
	m.mu.Lock()
	f := m.f
	m.f = nil
	m.mu.Unlock()
	if f != nil {
		f()
	}
	return w, err
}

// An old CMK denies after it opened a data key and before that is wrapped anew: what is wrapped by then does not count.
func TestMoveTo_MeanwhileDenied(t *testing.T) {
	for i := range 2 {
		inBubble(func(t *testing.T) {
			s, all := movers(t, allAB, 3)
			keys := &meanwhileKeys{regional: newRegional(t, s.Fake)}
			k, err := byok.New(byoktest.Service, keys, s.Store, s.Audit, &s.opts)
			want(t, "New", err, nil)
			defer k.Close()
			acme := k.Tenant("acme")
			job, err := acme.MoveTo(t.Context(), s.move(allAB, oneC))
			want(t, "MoveTo", err, nil)
			keys.f = func() {
				s.set(i, denying)
				st, err := acme.Recheck(t.Context())
				if want(t, "Recheck", err, nil); st.Access != byok.AccessBlocked {
					t.Errorf("%+v", st)
				}
			}
			var last byok.Job
			for last, err = range acme.RunJob(t.Context(), job.ID) {
			}
			if !errors.Is(err, byok.ErrKeyDenied) || last.State != byok.JobPaused || last.Done != 0 {
				t.Errorf("%+v, %v", last, err)
			}
			s.set(i, up)
			time.Sleep(time.Minute)
			if last = finish(t, acme, job.ID); last.State != byok.JobDone || last.Done != 3 {
				t.Errorf("%+v", last)
			}
			s.only(oneC)
			all.open(t, s.process())
			matchCalls(t, s.Env, s.Audit.All())
		})(t)
	}
}

// The largest move that there is: from eight CMKs to eight others. The budget of commands lets it begin.
func TestMoveTo_Eight(t *testing.T) {
	inBubble(func(t *testing.T) {
		s := newSeveral(t, 8, nil)
		s.register(s.registration(byok.PolicyAll))
		sealed := seal(t, s.k, "acme", "x", "")
		time.Sleep(2 * time.Second)
		m := byok.Move{Policy: byok.PolicyAll}
		for i := range 8 {
			c := s.Fake.Account(keyAccount(8 + i)).Region(keyRegions[i]).CreateKey(awskms.KeyPolicy(keyAccount(8+i), byoktest.PlatformRole, s.acme.EncryptionContext()).JSON())
			if id := awskms.Key(c.ARN()); i == 0 {
				m.Key = id
			} else {
				m.Others = append(m.Others, id)
			}
		}
		job, err := s.acme.MoveTo(t.Context(), m)
		want(t, "MoveTo", err, nil)
		if last := finish(t, s.acme, job.ID); last.State != byok.JobDone {
			t.Errorf("%+v", last)
		}
		for _, c := range s.cmks {
			c.Disable()
		}
		mustOpen(t, s.process(), "acme", sealed, "", "x")
	})(t)
}
