package byok_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// Jobs of tenants that deny us wait; those of the others behind them on the list do not.
func TestBlockedJobsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		full := func(name string) (*byok.Tenant, string, func()) {
			tenant, cmk := env.Tenant(name)
			_, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: name}, []byte("x"), nil)
			want(t, "Seal", err, nil)
			r, err := tenant.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
			return tenant, r.ID, func() { cmk.Disable() }
		}
		for i := range 12 {
			_, _, deny := full(fmt.Sprintf("a%02d", i))
			deny()
		}
		last, id, _ := full("zeta")
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- env.Keeper.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		job, err := last.Job(t.Context(), id)
		if err != nil || job.State != byok.JobDone {
			t.Errorf("%+v, %v", job, err)
		}
		cancel()
		<-ran
	})
}

// What is wrong in a job's item ends no process.
func TestTamperedJobPauses(t *testing.T) {
	for _, pauses := range []int{-1, math.MinInt, math.MaxInt} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, nil)
			acme, cmk := env.Tenant("acme")
			sealMany(t, env.Keeper, 2)
			r, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
			cmk.Disable()
			i, err := env.Store.Get(t.Context(), byok.Ref{Partition: "tenant:acme", ID: "job:" + r.ID})
			want(t, "Get", err, nil)
			v := map[string]any{}
			want(t, "Unmarshal", json.Unmarshal(i.Value, &v), nil)
			v["pauses"] = pauses
			i.Value, err = json.Marshal(v)
			want(t, "Marshal", err, nil)
			want(t, "Apply", env.Store.Apply(t.Context(), i), nil)
			for range 3 {
				for _, err = range acme.RunJob(t.Context(), r.ID) {
				}
				want(t, "RunJob", err, byok.ErrKeyRevoked)
			}
		})
	}
}

// A wrapping that a cancelled move left behind can be the one that opens by now: its CMK was registered, and the
// data under the old one was to be given up. What opens goes on opening, and comes along to the next CMK.
func TestI19_WhatOpensSurvivesTidying(t *testing.T) {
	for name, job := range map[string]func(*testing.T, *byoktest.Env, *byok.Tenant) string{
		"full": func(t *testing.T, _ *byoktest.Env, acme *byok.Tenant) string {
			r, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull})
			want(t, "Rotate", err, nil)
			return r.ID
		},
		"move": func(t *testing.T, env *byoktest.Env, acme *byok.Tenant) string {
			j, err := acme.Move(t.Context(), awskms.Key(env.CMK("acme").ARN()), "")
			want(t, "Move", err, nil)
			return j.ID
		},
		"tidy": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, nil)
				acme, cmk := env.Tenant("acme")
				next := movable(t, env, true, cmk)
				all := sealMany(t, env.Keeper, 20)
				j, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
				want(t, "Move", err, nil)
				for job, err := range acme.RunJob(t.Context(), j.ID) {
					want(t, "RunJob", err, nil)
					if job.Done == 20 {
						break
					}
				}
				_, err = acme.CancelJob(t.Context(), j.ID, "")
				want(t, "CancelJob", err, nil)
				_, err = acme.Revoke(t.Context(), "")
				want(t, "Revoke", err, nil)
				_, err = acme.Register(t.Context(), byok.Registration{Key: awskms.Key(next.ARN()), AbandonExistingData: true})
				want(t, "Register", err, nil)
				all.open(t, env.Keeper)
				id := j.ID
				if job != nil {
					id = job(t, env, acme)
				}
				finish(t, acme, id)
				all.open(t, env.NewKeeper())
				all.open(t, env.Keeper)
			})
		})
	}
}
