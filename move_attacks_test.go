package byok_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// toSwitch works at a job until all n data keys are wrapped, and it has not switched.
func toSwitch(t *testing.T, acme *byok.Tenant, id string, n int64) {
	t.Helper()
	for j, err := range acme.RunJob(t.Context(), id) {
		want(t, "RunJob", err, nil)
		if j.Done == n {
			if j.State != byok.JobRunning {
				t.Fatalf("%+v", j)
			}
			return
		}
	}
}

// A denial of a CMK that the tenant has and keeps is one whoever hears it: the job that asks once more before it switches too,
// and the move that validates it.
func TestI1_MoveHearsTheDenialOfAKeyThatStays(t *testing.T) {
	for _, m := range []struct{ from, to cmkSet }{{oneA, allAB}, {oneA, anyAB}, {allAB, allAC}} {
		t.Run(fmt.Sprint(m.from, " to ", m.to), inBubble(func(t *testing.T) {
			s, all := movers(t, m.from, 7)
			job, err := s.acme.MoveTo(t.Context(), s.move(m.from, m.to))
			want(t, "MoveTo", err, nil)
			toSwitch(t, s.acme, job.ID, 7)
			all.open(t, s.k) // leases
			s.set(0, denying)
			_, err = runJob(t.Context(), s.acme, job.ID)
			want(t, "RunJob", err, byok.ErrKeyDenied)
			_, err = s.k.Open(t.Context(), all[0].scope, all[0].sealed, nil)
			want(t, "Open after the denial", err, byok.ErrKeyDenied)
			s.set(0, up)
			time.Sleep(2 * time.Minute)
			finish(t, s.acme, job.ID)
			all.open(t, s.k)
		}))
	}
	t.Run("begin", inBubble(func(t *testing.T) {
		s, all := movers(t, oneA, 3)
		all.open(t, s.k)
		s.cmks[0].SetPolicy(strings.Replace(s.cmks[0].Policy(), "kms:Encrypt", "kms:ListGrants", 1))
		_, err := s.acme.MoveTo(t.Context(), s.move(oneA, allAB))
		want(t, "MoveTo", err, byok.ErrKeyDenied)
		_, err = s.k.Open(t.Context(), all[0].scope, all[0].sealed, nil)
		want(t, "Open after the denial", err, byok.ErrKeyDenied)
	}))
}

// Between the switch and the end of a move to dual control, a data key has two wrappings. That the old one is still there
// gives nobody a way around the others: what Register looks at is what stays.
func TestRegisterWhileAMoveIsCleanedUp(t *testing.T) {
	inBubble(func(t *testing.T) {
		s, _ := movers(t, oneA, 7)
		job, err := s.acme.MoveTo(t.Context(), s.move(oneA, allAB))
		want(t, "MoveTo", err, nil)
		for j, err := range s.acme.RunJob(t.Context(), job.ID) {
			want(t, "RunJob", err, nil)
			if j.State == byok.JobSwitching {
				break
			}
		}
		_, err = s.acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		r := s.move(allAB, oneA)
		_, err = s.acme.Register(t.Context(), byok.Registration{Key: r.Key})
		want(t, "Register one of two", err, byok.ErrMoveRequired)
		finish(t, s.acme, job.ID)
		s.underSet(allAB)
	})(t)
}

// Dual control does not end without being said so, whatever is registered in between: data keys that were made for it say so.
func TestFewerConsentsOfWhatWasSealed(t *testing.T) {
	inBubble(func(t *testing.T) {
		s, _ := movers(t, allAB, 3)
		_, err := s.acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		r := s.move(allAB, anyAB)
		_, err = s.acme.Register(t.Context(), byok.Registration{Key: r.Key, Others: r.Others, Policy: r.Policy})
		want(t, "Register any of the two", err, nil)
		time.Sleep(5 * time.Second)
		m := s.move(anyAB, oneA)
		_, err = s.acme.MoveTo(t.Context(), m)
		want(t, "MoveTo one", err, byok.ErrArgument)
		m.FewerConsents = true
		job, err := s.acme.MoveTo(t.Context(), m)
		want(t, "MoveTo one, said", err, nil)
		finish(t, s.acme, job.ID)
	})(t)
}

// A Keeper that may not make what each of several keys opens alone does not do so in Rewrap either.
func TestMUST13_RewrapIntoAny(t *testing.T) {
	inBubble(func(t *testing.T) {
		s := newSeveral(t, 4, &byok.Options{AllowAnyKeyToOpenAlone: true, PerOperation: true})
		s.register(byok.Registration{Key: s.ids()[2]})
		sealed := seal(t, s.k, "acme", "x", "")
		job, err := s.acme.MoveTo(t.Context(), s.move(oneC, anyAB))
		want(t, "MoveTo", err, nil)
		finish(t, s.acme, job.ID)
		s.opts.AllowAnyKeyToOpenAlone = false
		_, err = s.process().Rewrap(t.Context(), acmeScope, sealed)
		want(t, "Rewrap", err, byok.ErrArgument)
		s.opts.AllowAnyKeyToOpenAlone = true
		again, err := s.process().Rewrap(t.Context(), acmeScope, sealed)
		want(t, "Rewrap", err, nil)
		mustOpen(t, s.process(), "acme", again, "", "x")
	})(t)
}

// deaf is a Keyring that never answers about some keys.
type deaf struct {
	byok.Keyring
	keys map[string]bool
}

func (d *deaf) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	if d.keys[key.ID] {
		<-ctx.Done()
		return nil, byok.Receipt{}, ctx.Err()
	}
	return d.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
}

// Jobs whose KMS never answers wait too, and the others go on.
func TestD16_DeafKeyringHoldsUpNoJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		d := &deaf{env.Keys, map[string]bool{}}
		k, err := byok.New(byoktest.Service, d, env.Store, env.Audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		var id string
		for i := range 6 {
			name := fmt.Sprint("t", i)
			_, cmk := env.Tenant(name)
			_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: name}, []byte("x"), nil)
			want(t, "Seal", err, nil)
			r, err := env.Keeper.Tenant(name).Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
			if id = r.ID; i < 5 {
				d.keys[cmk.ARN()] = true
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- k.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		if j, err := env.Keeper.Tenant("t5").Job(t.Context(), id); err != nil || j.State != byok.JobDone {
			t.Errorf("%+v, %v", j, err)
		}
		cancel()
		<-ran
	})
}

// The requests before a switch are a job's too.
func TestD9_SwitchesPayAsJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{JobRequests: 1}})
		for i := range 30 {
			tenant, _ := env.Tenant(fmt.Sprint("t", i))
			_, err := tenant.Move(t.Context(), awskms.Key(env.CMK(fmt.Sprint("t", i)).ARN()), "")
			want(t, "Move", err, nil)
		}
		before := len(env.Fake.Calls())
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- env.Keeper.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if n := len(env.Fake.Calls()) - before; n > 8+10+1 {
			t.Errorf("%d requests in 10 s", n)
		}
		time.Sleep(30 * time.Minute)
		if n := len(env.Fake.Calls()) - before; n < 60 {
			t.Errorf("%d requests in all", n)
		}
		cancel()
		<-ran
	})
}
