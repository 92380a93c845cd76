package byokriver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// memSource is a platform's table.
type memSource struct {
	mu       sync.Mutex
	rows     []byok.Record
	replaced map[string]int
}

func (s *memSource) Records(_ context.Context, after, last string, limit int) (page []byok.Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		if r.Key > after && (last == "" || r.Key <= last) && len(page) < limit {
			r.Value = bytes.Clone(r.Value)
			page = append(page, r)
		}
	}
	return page, nil
}

func (s *memSource) Replace(_ context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make([]bool, len(records))
	for i, r := range records {
		for n := range s.rows {
			if now := &s.rows[n]; now.Key == r.Key && bytes.Equal(now.Value, r.Value) && now.Clear == r.Clear {
				now.Value, now.Clear, done[i] = bytes.Clone(sealed[i]), false, true
				s.replaced[r.Key]++
			}
		}
	}
	return done, nil
}

// The whole way: a job of byok's through River, with bad records, which are named and fail nothing there, and the CMK disabled in the
// middle. Each record is replaced once.
func TestRiverReseals(t *testing.T) {
	t.Parallel()
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{MaxAge: time.Second}})
	tenant, cmk := env.Tenant("acme")
	scope := byok.Scope{Tenant: "acme", Purpose: "notes"}
	src := &memSource{replaced: map[string]int{}}
	var bad []string
	for i := range 300 {
		key := fmt.Sprintf("%04d", i)
		r := byok.Record{Key: key, Purpose: scope.Purpose, AAD: []byte(key)}
		var err error
		if r.Value, err = env.Keeper.Seal(t.Context(), scope, []byte("note "+key), r.AAD); err != nil {
			t.Fatal(err)
		}
		if i%60 == 7 {
			bad = append(bad, key)
			r.Value[len(r.Value)-1] ^= 1
		}
		src.rows = append(src.rows, r)
	}
	job, err := tenant.Reseal(t.Context(), byok.Resealing{Source: "notes", Shards: []string{"0100", "0200"}, Total: 300, Reason: byok.ReasonCompromise})
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, func(ctx context.Context, tenant, id string) (resealer, error) {
		return env.Keeper.Tenant(tenant).Resealer(ctx, id, src, &byok.ResealOptions{Page: 20})
	})
	cmk.Disable()
	inserted, err := Insert(t.Context(), q.Client, "acme", job.ID, 3)
	if err != nil {
		t.Fatal(err)
	}
	q.start()
	q.until(inserted[0].Job.ID, "paused", func(j *rivertype.JobRow) bool { return cursor(t, j).Pauses > 0 })
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) { // so says the job, when none goes on any more
		j, err := tenant.Job(t.Context(), job.ID)
		if err == nil && j.State == byok.JobPaused && j.Why == byok.Code(byok.ErrKeyDenied) {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("the job is not paused: %+v, %v", j, err)
		}
	}
	cmk.Enable()
	for _, i := range inserted {
		if j := q.until(i.Job.ID, "completed", is(rivertype.JobStateCompleted)); j.Attempt != 1 || len(j.Errors) != 0 {
			t.Errorf("attempt %d, %+v", j.Attempt, j.Errors)
		}
	}
	var named []string
	if job, err = tenant.Job(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	for _, f := range job.Failures {
		named = append(named, f.Key)
	}
	slices.Sort(named)
	if job.State != byok.JobDone || job.Done != 295 || job.Failed != 5 || !slices.Equal(named, bad) {
		t.Errorf("%+v; want these named: %v", job, bad)
	}
	for _, r := range src.rows {
		is := slices.Contains(bad, r.Key)
		plain, err := env.Keeper.Open(t.Context(), scope, r.Value, r.AAD)
		if n := src.replaced[r.Key]; is && (n != 0 || !errors.Is(err, byok.ErrOpen)) || !is && (n != 1 || string(plain) != "note "+r.Key) {
			t.Errorf("record %s: replaced %d times, %q, %v", r.Key, n, plain, err)
		}
	}
}

// A job that is cancelled while River has it ends there too.
func TestRiverCancelledJob(t *testing.T) {
	t.Parallel()
	env := byoktest.New(t, nil)
	tenant, _ := env.Tenant("acme")
	job, err := tenant.Reseal(t.Context(), byok.Resealing{Source: "notes"})
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, func(ctx context.Context, tenant, id string) (resealer, error) {
		return env.Keeper.Tenant(tenant).Resealer(ctx, id, &memSource{}, nil)
	})
	r, err := Insert(t.Context(), q.Client, "acme", job.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	q.start()
	q.until(r[0].Job.ID, "running", func(j *rivertype.JobRow) bool { return j.State == rivertype.JobStateRunning })
	if _, err := tenant.CancelJob(t.Context(), job.ID, "not needed"); err != nil {
		t.Fatal(err)
	}
	q.until(r[0].Job.ID, "cancelled", is(rivertype.JobStateCancelled))
}
