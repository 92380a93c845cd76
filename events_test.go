package byok_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// matchCalls fails unless the KMS calls in the events are exactly those that the
// KMS itself logged: what a customer does with its CloudTrail.
func matchCalls(t *testing.T, env *byoktest.Env, events []byok.Event) {
	t.Helper()
	kms := map[string]string{}
	for _, c := range env.Fake.Calls() {
		kms[c.RequestID] = c.Operation
	}
	seen := map[string]string{}
	for _, e := range events {
		for _, c := range e.Calls {
			if c.RequestID == "" && c.Class == byok.ClassOutage {
				continue // no answer, so no id
			}
			if was, dup := seen[c.RequestID]; dup {
				t.Errorf("request %s stands in events %s and %s", c.RequestID, was, e.ID)
			}
			seen[c.RequestID] = e.ID
			if kms[c.RequestID] != c.Op {
				t.Errorf("event %s (%s) has a %s with request id %q that KMS knows as %q", e.ID, e.Op, c.Op, c.RequestID, kms[c.RequestID])
			}
		}
		if e.Outcome == byok.OutcomeSuccess && (e.Op == byok.OpSeal || e.Op == byok.OpOpen) && kms[e.Proof] == "" {
			t.Errorf("%s event %s rests on request %q, which KMS does not know", e.Op, e.ID, e.Proof)
		}
	}
	if len(seen) == 0 {
		t.Error("no KMS calls in the events: this test could pass on nothing")
	}
	for id, op := range kms {
		if seen[id] == "" {
			t.Errorf("KMS call %s %s stands in no event", op, id)
		}
	}
}

// Everything a tenant can do, with every outcome: each operation has exactly one
// outcome event, and each KMS call stands in exactly one event.
func TestI18_EveryOperationAndCallOnce(t *testing.T) {
	for _, perOperation := range []bool{false, true} {
		t.Run(fmt.Sprintf("PerOperation=%v", perOperation), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: perOperation}})
				ctx := byok.WithActor(t.Context(), "ana")
				ops := map[byok.Op]int{}
				acme, k := env.Keeper.Tenant("acme"), env.Keeper
				_, err := k.Seal(ctx, byok.Scope{Tenant: "acme"}, nil, nil)
				want(t, "Seal", err, byok.ErrNotRegistered)
				ops[byok.OpSeal]++

				stranger := env.CMK("somebody")
				_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(stranger.ARN())})
				want(t, "Register a CMK that is bound to somebody else", err, byok.ErrKeyDenied)
				cmk := env.CMK("acme")
				_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())})
				want(t, "Register", err, nil)
				_, err = acme.Register(ctx, byok.Registration{Key: awskms.Key(cmk.ARN())})
				want(t, "Register", err, byok.ErrKeyTaken)
				ops[byok.OpRegister] += 3
				_, err = acme.AcknowledgeWaiver(ctx, byok.Acknowledgement{})
				want(t, "AcknowledgeWaiver", err, byok.ErrWaiverRequired)
				_, err = acme.AcknowledgeWaiver(ctx, accepted)
				want(t, "AcknowledgeWaiver", err, nil)
				_, err = acme.AcknowledgeWaiver(ctx, accepted)
				want(t, "AcknowledgeWaiver", err, nil)
				ops[byok.OpWaiver] += 3
				ops[byok.OpActivate]++

				var sealed []byte
				for range 3 {
					sealed = seal(t, k, "acme", "x", "")
					mustOpen(t, k, "acme", sealed, "", "x")
					ops[byok.OpSeal]++
					ops[byok.OpOpen]++
				}
				_, err = open(t, k, "acme", sealed, "wrong")
				want(t, "Open", err, byok.ErrOpen)
				_, err = open(t, k, "acme", []byte("junk"), "")
				want(t, "Open", err, byok.ErrMalformed)
				ops[byok.OpOpen] += 2
				_, err = acme.Rotate(ctx, byok.Rotation{Type: byok.RotateDEK, Reason: "yearly"})
				want(t, "Rotate", err, nil)
				ops[byok.OpRotate]++
				_, err = acme.Health(ctx)
				want(t, "Health", err, nil)
				_, err = acme.Recheck(ctx)
				want(t, "Recheck", err, nil)
				ops[byok.OpHealth]++
				ops[byok.OpRecheck]++

				env.Fake.Fail("Decrypt", "ThrottlingException", 2) // retried: each attempt is a call
				mustOpen(t, k, "acme", sealed, "", "x")
				ops[byok.OpOpen]++
				time.Sleep(byok.DefaultMaxAge * 2 / 3) // so that an operation starts a renewal
				mustOpen(t, k, "acme", sealed, "", "x")
				ops[byok.OpOpen]++
				time.Sleep(10 * time.Second)

				cmk.Disable()
				time.Sleep(byok.DefaultMaxAge)
				for range 3 {
					_, err = open(t, k, "acme", sealed, "")
					want(t, "Open", err, byok.ErrKeyDenied)
					ops[byok.OpOpen]++
				}
				_, err = acme.Health(ctx)
				want(t, "Health", err, nil)
				ops[byok.OpHealth]++
				cmk.Enable()
				time.Sleep(time.Minute)
				mustOpen(t, k, "acme", sealed, "", "x")
				ops[byok.OpOpen]++
				ops[byok.OpDeny]++
				ops[byok.OpRestore]++
				_, err = acme.Suspend(ctx, "")
				want(t, "Suspend", err, nil)
				_, err = acme.Resume(ctx, "")
				want(t, "Resume", err, nil)
				_, err = acme.Revoke(ctx, "")
				want(t, "Revoke", err, nil)
				_, err = acme.Revoke(ctx, "")
				want(t, "Revoke", err, nil)
				ops[byok.OpSuspend]++
				ops[byok.OpResume]++
				ops[byok.OpRevoke] += 2
				synctest.Wait()

				events := env.Audit.All()
				matchCalls(t, env, events)
				got, ids := map[byok.Op]int{}, map[string]bool{}
				for _, e := range events {
					if got[e.Op]++; ids[e.ID] || e.ID == "" {
						t.Errorf("id %q twice or empty", e.ID)
					}
					ids[e.ID] = true
					if e.Scope.Tenant != "acme" || e.Time.IsZero() || e.Outcome == "" {
						t.Errorf("incomplete event: %+v", e)
					}
					if (e.Outcome != byok.OutcomeSuccess) != (e.Code != "") && e.Op != byok.OpHealth {
						t.Errorf("outcome and code do not fit: %+v", e)
					}
				}
				delete(got, byok.OpLease)
				delete(got, byok.OpRenew)
				for op := range ops {
					if got[op] != ops[op] {
						t.Errorf("%d %s events for %d operations", got[op], op, ops[op])
					}
				}
				for op := range got {
					if ops[op] == 0 {
						t.Errorf("unexpected %s event", op)
					}
				}
			})
		})
	}
}

// The sink fails: what serves data stops, and what stops data works.
func TestH5_SinkFails(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	failures := 0
	env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: &byok.Options{
		Observer: &byok.Observer{AuditFailure: func(error) { failures++ }},
		Logger:   slog.New(slog.DiscardHandler),
	}})
	acme, cmk := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	sink.failing(errors.New("disk full: /var/log/secret"))

	_, err := open(t, env.Keeper, "acme", sealed, "")
	want(t, "Open", err, byok.ErrAudit)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the sink's text leaks: %v", err)
	}
	cold := env.NewKeeper()
	_, err = open(t, cold, "acme", sealed, "")
	if want(t, "Open with a cold data key", err, byok.ErrAudit); cold.Stats().Leases != 0 {
		t.Error("a lease whose event is not recorded")
	}
	_, err = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme"}, nil, nil)
	want(t, "Seal", err, byok.ErrAudit)
	_, err = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "new"}, nil, nil)
	want(t, "Seal that makes a data key", err, byok.ErrAudit)
	_, err = acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(t, "Rotate, while the data key's event is pending", err, byok.ErrAudit)
	st, err := acme.Suspend(t.Context(), "stop")
	if want(t, "Suspend", err, byok.ErrNotAudited); st.Status != byok.StatusDisabled {
		t.Fatalf("%+v", st)
	}
	st, err = acme.Revoke(t.Context(), "stop")
	if want(t, "Revoke", err, byok.ErrNotAudited); st.Status != byok.StatusRevoked {
		t.Fatalf("%+v", st)
	}
	_, err = open(t, env.NewKeeper(), "acme", sealed, "")
	want(t, "Open after Revoke", err, byok.ErrKeyRemoved)
	if failures == 0 {
		t.Error("AuditFailure was not called")
	}

	sink.failing(nil)
	_, err = acme.Resume(t.Context(), "") // the next change delivers what is pending, in order
	want(t, "Resume", err, nil)
	_, err = acme.Register(t.Context(), byok.Registration{Key: awskms.Key(cmk.ARN())})
	want(t, "Register", err, nil)
	mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	var order []byok.Op
	for _, e := range sink.All() {
		switch {
		case e.Op == byok.OpLease && e.Scope.Purpose == "new",
			e.Op == byok.OpSuspend, e.Op == byok.OpRevoke, e.Op == byok.OpResume:
			order = append(order, e.Op)
		}
	}
	if got := fmt.Sprint(order); got != "[lease suspend revoke resume]" {
		t.Errorf("delivered %v", got)
	}

	// A panic and a hang are failures too.
	sink.before(func(byok.Event) { panic("marker") })
	_, err = open(t, env.Keeper, "acme", sealed, "")
	want(t, "Open with a sink that panics", err, byok.ErrAudit)
	sink.before(nil)
}

// An event in the outbox when the process dies is delivered by the next one.
func TestI18_OutboxSurvivesACrash(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
	acme, _ := env.Tenant("acme")
	sink.failing(errors.New("down"))
	_, err := acme.Revoke(t.Context(), "why")
	want(t, "Revoke", err, byok.ErrNotAudited)
	sink.failing(nil)
	page, err := env.NewKeeper().Tenant("acme").Audit(t.Context(), byok.AuditQuery{})
	want(t, "Audit", err, nil)
	if e := page.Events[0]; e.Op != byok.OpRevoke || e.Reason != "why" {
		t.Errorf("the newest event is %+v", e)
	}
}

// Neither plaintext nor keys nor what callers pass show up in events, errors or
// logs (threats H6, I-1).
func TestH6_NoSecretsAnywhere(t *testing.T) {
	const plaintext, aad = "MARKER-PLAINTEXT-0123456789abcdef", "MARKER-AAD-0123456789abcdef"
	var log bytes.Buffer
	var mu sync.Mutex
	var keys [][]byte
	var text strings.Builder
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{
		Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observer: &byok.Observer{
			KMSCall: func(tenant string, c byok.KMSCall) {
				mu.Lock()
				fmt.Fprintf(&text, "%s %#v %v\n", tenant, c, c)
				mu.Unlock()
			},
			StateChange: func(old, now byok.KeyStatus) { mu.Lock(); fmt.Fprintf(&text, "%#v %v\n", old, now); mu.Unlock() },
		}}})
	env.Fake.Tamper(func(_ string, out any) { // listens only
		if p := plaintextOf(out); p != nil {
			mu.Lock()
			keys = append(keys, bytes.Clone(p))
			mu.Unlock()
		}
	})
	_, cmk := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", plaintext, aad)
	mustOpen(t, env.Keeper, "acme", sealed, aad, plaintext)
	mustOpen(t, env.NewKeeper(), "acme", sealed, aad, plaintext)
	sealed[len(sealed)-1] ^= 1
	_, err := open(t, env.Keeper, "acme", sealed, aad)
	fmt.Fprintf(&text, "%v %+v %#v\n", err, err, err)
	cmk.Disable()
	_, err = open(t, env.NewKeeper(), "acme", sealed, aad)
	fmt.Fprintf(&text, "%v %+v %#v %q\n", err, err, err, fmt.Sprint(errors.Unwrap(err)))
	_, err = env.Keeper.Tenant("acme").Health(t.Context())
	want(t, "Health", err, nil)

	events, err := json.Marshal(env.Audit.All())
	want(t, "Marshal", err, nil)
	items, err := env.Store.List(t.Context(), "tenant:acme", "", 1000)
	want(t, "List", err, nil)
	hay := text.String() + log.String() + string(events) + fmt.Sprintf("%#v", env.Audit.All())
	for _, i := range items {
		hay += string(i.Value)
	}
	if len(keys) < 5 || len(items) < 3 {
		t.Fatalf("%d keys and %d items: this test could pass on nothing", len(keys), len(items))
	}
	for _, needle := range append(keys, []byte(plaintext), []byte(aad)) {
		for _, n := range []string{string(needle), hex.EncodeToString(needle), strings.ToUpper(hex.EncodeToString(needle))} {
			if strings.Contains(hay, n) {
				t.Errorf("found a secret: %q", n)
			}
		}
		for shift := range 3 { // base64 at any phase
			enc := base64.StdEncoding.EncodeToString(append(make([]byte, shift), needle...))
			for _, n := range []string{enc[4 : len(enc)-4], strings.NewReplacer("+", "-", "/", "_").Replace(enc[4 : len(enc)-4])} {
				if strings.Contains(hay, n) {
					t.Errorf("found a secret in base64: %q", n)
				}
			}
		}
	}
}

// A caller that leaves while its success is being recorded has still exactly
// one outcome, and the log says that nothing was released.
func TestI18_CallerLeavesWhileRecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &slowSink{hookSink: hookSink{MemAudit: new(byok.MemAudit)}}
		env := byoktest.New(t, &byoktest.Options{Sink: sink, Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		sink.delay = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := env.Keeper.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil)
		want(t, "Open", err, byok.ErrAudit)
		want(t, "Close", env.Keeper.Close(), nil) // joins the goroutine that settles it
		var got []byok.Outcome
		for _, e := range sink.All() {
			if e.Op == byok.OpOpen {
				if got = append(got, e.Outcome); e.Outcome == byok.OutcomeWithheld && e.Code != "BYOK_012" {
					t.Errorf("code %q", e.Code)
				}
			}
		}
		if fmt.Sprint(got) != "[success withheld]" {
			t.Errorf("outcomes: %v", got)
		}
	})
}

type slowSink struct {
	hookSink
	delay time.Duration
}

func (s *slowSink) Record(ctx context.Context, e byok.Event) error {
	select {
	case <-time.After(s.delay):
		return s.hookSink.Record(ctx, e)
	case <-ctx.Done():
		return ctx.Err()
	}
}
