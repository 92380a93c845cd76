package byok_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// stubborn is a table in which some rows are in use all the time: what is replaced there is not, as of a row that somebody has locked.
type stubborn struct {
	*table
	inUse func(key string) bool
}

func (s *stubborn) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	var free []byok.Record
	var values [][]byte
	done, at := make([]bool, len(records)), []int(nil)
	for i, r := range records {
		if !s.inUse(r.Key) {
			free, values, at = append(free, r), append(values, sealed[i]), append(at, i)
		}
	}
	is, err := s.table.Replace(ctx, free, values)
	for i, d := range is {
		done[at[i]] = d
	}
	return done, err
}

// A record that is in use for hours makes pass after pass: less and less often, since each is an event in the audit log and
// a read of the whole table, and the job tells why it does not end. When it is free the job ends.
func TestG19_ResealInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		var held atomic.Bool
		held.Store(true)
		s := &stubborn{newTable(), func(key string) bool { return held.Load() && key == recordKey(7) }}
		fill(t, env.Keeper, s.table, 0, 50)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		job, err := acme.Reseal(t.Context(), byok.Resealing{Source: "invoices", Shards: []string{recordKey(20)}})
		want(t, "Reseal", err, nil)
		r, err := acme.Resealer(t.Context(), job.ID, s, &byok.ResealOptions{PerSecond: 20})
		want(t, "Resealer", err, nil)
		ran := make(chan error, 1)
		go func() { ran <- r.Run(t.Context()) }()
		events := func() (n int) {
			for _, e := range env.Audit.All() {
				if e.Op == byok.OpReseal {
					n++
				}
			}
			return n
		}
		time.Sleep(30 * time.Second) // the pass that proves has not begun
		if j, err := acme.Job(t.Context(), job.ID); err != nil || j.State != byok.JobVerifying || j.Pass != 2 || j.Again != 0 {
			t.Errorf("%+v, %v", j, err)
		}
		time.Sleep(5 * time.Minute)
		early := events()
		time.Sleep(10 * time.Minute)
		if n := events() - early; n < 5 || n > 20 {
			t.Errorf("%d events of re-sealing in ten minutes in which nothing could be done", n)
		}
		if j, err := acme.Job(t.Context(), job.ID); err != nil || j.State != byok.JobVerifying || j.Why != "" || j.Pass < 10 || j.Again != 1 || j.Done != 50 {
			t.Errorf("%+v, %v", j, err)
		}
		held.Store(false)
		begun := time.Now()
		want(t, "Run", <-ran, nil)
		if d := time.Since(begun); d > 3*time.Minute {
			t.Errorf("it ended %v after the record was free", d)
		}
		if j, err := acme.Job(t.Context(), job.ID); err != nil || j.State != byok.JobDone || j.Done != 50 || j.Again != 0 || s.writes(recordKey(7)) != 1 {
			t.Errorf("%+v, %v", j, err)
		}
	})
}

// Whose clock was far ahead when a shard began to rest keeps nobody from it for longer than a rest.
func TestG19_ResealRestsAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 10)
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		time.Sleep(2 * time.Minute)
		at := func(rest time.Duration) string {
			return fmt.Sprintf(`{"v":1,"job":%q,"shard":0,"pass":3,"again":1,"size":10,"rest":%q}`, job.ID, time.Now().Add(rest).Format(time.RFC3339Nano))
		}
		for rest, waits := range map[time.Duration]bool{-time.Second: false, 30 * time.Second: true, time.Minute: true, time.Hour: false} {
			next, done, err := r.Step(t.Context(), 0, at(rest))
			if want(t, "Step", err, nil); done || strings.Contains(next, `"begun"`) == waits {
				t.Errorf("a rest of %v: %s, done %t", rest, next, done)
			}
		}
	})
}

// What would take longer than can be told has no ETA, and none that is negative.
func TestResealTakesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 30)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		for _, total := range []int64{1000, math.MaxInt64} {
			job, r := beginReseal(t, env.Keeper, s, byok.Resealing{Total: total}, &byok.ResealOptions{Page: 10})
			for cursor := ""; len(cursor) == 0 || !strings.Contains(cursor, `"looked":30`); {
				cursor, _, err = r.Step(t.Context(), 0, cursor)
				want(t, "Step", err, nil)
				want(t, "Checkpoint", r.Checkpoint(t.Context(), 0, cursor), nil)
				time.Sleep(time.Second)
			}
			j, err := acme.Job(t.Context(), job.ID)
			if err != nil || j.Rate < 5 || j.Left != total-30 || (j.ETA > 0) != (total == 1000) || j.ETA < 0 {
				t.Errorf("%d records: %+v, %v", total, j, err)
			}
		}
	})
}
