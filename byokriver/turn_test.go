package byokriver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riverqueue/river"

	"github.com/byok-go/byok"
)

// fakeResealer has shards of as many steps as it says, each of which takes a while.
type fakeResealer struct {
	steps int
	takes time.Duration
	fail  func(step int) error // nil: never; beside an error, the step is done all the same

	mu     sync.Mutex
	taken  []int // steps in the order in which they were done
	kept   map[int]string
	unkept error
	paused error // by Pause, the last time
}

func (f *fakeResealer) Pause(_ context.Context, _ int, why error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = why
	return nil
}

func (f *fakeResealer) Step(ctx context.Context, shard int, cursor string) (string, bool, error) {
	n := 0
	if cursor != "" {
		var err error
		if n, err = strconv.Atoi(cursor); err != nil {
			return "", false, err
		}
	}
	if n == f.steps { // it is done already
		return cursor, true, nil
	}
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		return cursor, false, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(n); err != nil {
			return cursor, false, err
		}
	}
	f.taken = append(f.taken, n)
	return strconv.Itoa(n + 1), n+1 == f.steps, nil
}

func (f *fakeResealer) Cursor(_ context.Context, shard int) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept[shard], nil
}

func (f *fakeResealer) Checkpoint(ctx context.Context, shard int, cursor string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unkept != nil {
		return f.unkept
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if f.kept == nil {
		f.kept = make(map[int]string)
	}
	f.kept[shard] = cursor
	return nil
}

// A turn ends after its slice, and a kill at any moment costs no more than what was done since the last time that it was written
// down, a few seconds at most.
func TestSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeResealer{steps: 1000, takes: 300 * time.Millisecond}
		last, times := time.Now(), 0
		tr := turn{r: f, save: func(_ context.Context, at position) error {
			if d := time.Since(last); d > often+f.takes {
				t.Errorf("%v between two times that it was written down", d)
			}
			last = time.Now()
			times++
			if at.Cursor != strconv.Itoa(len(f.taken)) {
				t.Errorf("after %d steps, %q is written down", len(f.taken), at.Cursor)
			}
			return nil
		}}
		begun := time.Now()
		if err := tr.run(t.Context()); err != errSliceOver {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < slice || d > slice+f.takes {
			t.Errorf("a slice of %v", d)
		}
		if want := strconv.Itoa(len(f.taken)); tr.at.Cursor != want || f.kept[0] != want || len(f.taken) != 100 || times < 14 || times > 20 {
			t.Errorf("after %d steps it is at %q; the Store says %q; written down %d times", len(f.taken), tr.at.Cursor, f.kept[0], times)
		}
		if total := (*worker[any])(nil).Timeout(nil); total < slice+10*time.Second || total > 10*time.Minute {
			t.Errorf("a timeout of %v", total)
		}
	})
}

// River's job may be new where the shard is not: then it goes on from what the Store says.
func TestGoesOnFromTheStore(t *testing.T) {
	for _, at := range []position{{}, {Cursor: "5"}} {
		f := &fakeResealer{steps: 7, kept: map[int]string{3: "4"}}
		tr := turn{r: f, shard: 3, at: at, save: func(context.Context, position) error { return nil }}
		if err := tr.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := "[4 5 6]"
		if at.Cursor != "" {
			want = "[5 6]"
		}
		if got := fmt.Sprint(f.taken); got != want || f.kept[3] != "7" {
			t.Errorf("from %q: steps %s, want %s; the Store says %v", at.Cursor, got, want, f.kept)
		}
	}
}

// What was done is written down whatever stops it, also the end of the process; and no shard is done that could not be said to be.
func TestKept(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		fail, save, unkept error
		cancelled          bool
		want               error
	}{
		"denied":                    {fail: byok.ErrKeyDenied, want: byok.ErrKeyDenied},
		"the process ends":          {cancelled: true, want: context.Canceled},
		"River's database fails":    {save: broken, want: broken},
		"the Store fails":           {unkept: byok.ErrStore, want: byok.ErrStore},
		"denied, and no database":   {fail: byok.ErrKeyDenied, save: broken, want: byok.ErrKeyDenied},
		"nothing":                   {},
		"the job is cancelled":      {fail: byok.ErrJobCancelled, want: byok.ErrJobCancelled},
		"cancelled when it is done": {unkept: byok.ErrJobCancelled, want: byok.ErrJobCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f := &fakeResealer{steps: 4, unkept: c.unkept, fail: func(step int) error {
				if step < 3 {
					return nil
				}
				if c.cancelled {
					cancel()
					return ctx.Err()
				}
				return c.fail
			}}
			saved := ""
			tr := turn{r: f, save: func(ctx context.Context, at position) error {
				if c.save == nil && ctx.Err() == nil {
					saved = at.Cursor
				}
				return c.save
			}}
			if err := tr.run(ctx); err != c.want {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if pauses := f.paused != nil; pauses != (name == "denied") {
				t.Errorf("the Store is told that it is paused: %v", f.paused)
			}
			if want := strconv.Itoa(len(f.taken)); tr.at.Cursor != want || c.save == nil && saved != want || c.save == nil && c.unkept == nil && f.kept[0] != want {
				t.Errorf("%s steps; it is at %q, River is at %q, the Store at %v", want, tr.at.Cursor, saved, f.kept)
			}
		})
	}
}

// What can end by itself is a pause, which doubles up to a minute; what cannot is not.
func TestOutcome(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want string
	}{
		{t.Context(), nil, "nothing"},
		{t.Context(), byok.ErrKeyDenied, "pause"},
		{t.Context(), byok.ErrSuspended, "pause"},
		{t.Context(), byok.ErrThrottled, "pause"},
		{t.Context(), byok.ErrKeyUnavailable, "pause"},
		{t.Context(), byok.ErrStore, "pause"},
		{t.Context(), byok.ErrAudit, "pause"},
		{t.Context(), byok.ErrClosed, "pause"}, // and no loop, if only the Keeper is closed
		{t.Context(), errors.New("of a source"), "pause"},
		{t.Context(), context.DeadlineExceeded, "pause"}, // a source's own
		{t.Context(), fmt.Errorf("wrapped: %w", byok.ErrJobCancelled), "cancel"},
		{t.Context(), fmt.Errorf("wrapped: %w", byok.ErrArgument), "fail"},
		{t.Context(), byok.ErrJobNotFound, "fail"},
		{t.Context(), errSliceOver, "at once"},
		{ended, context.Canceled, "at once"},
		{ended, byok.ErrStore, "at once"},
		{ended, byok.ErrJobCancelled, "cancel"},
	} {
		at := position{Pauses: 2}
		err := outcome(c.ctx, &at, c.err)
		var snooze *river.JobSnoozeError
		var cancelled *river.JobCancelError
		got := "fail"
		switch {
		case err == nil:
			got = "nothing"
		case errors.As(err, &snooze) && snooze.Duration == 0:
			got = "at once"
		case errors.As(err, &snooze) && snooze.Duration >= 2*time.Second && snooze.Duration <= 4*time.Second && at.Pauses == 3:
			got = "pause"
		case errors.As(err, &cancelled):
			got = "cancel"
		}
		if got != c.want || got != "pause" && at.Pauses != 2 {
			t.Errorf("%v: %s, want %s (%v, %+v)", c.err, got, c.want, err, at)
		}
	}
}

func TestBackOff(t *testing.T) {
	for n := -2; n < 100; n++ {
		most := min(time.Second<<min(max(n, 0), 10), time.Minute)
		seen := map[time.Duration]bool{}
		for range 20 {
			d := backOff(n)
			if seen[d] = true; d < most/2 || d > most {
				t.Errorf("after %d pauses, %v", n, d)
			}
		}
		if len(seen) < 10 {
			t.Errorf("after %d pauses, the next are of %d lengths", n, len(seen))
		}
	}
}

// All shards of a job share one Resealer, and so its limits; when none is worked at, it is forgotten.
func TestShared(t *testing.T) {
	made, fails := 0, errors.New("no source")
	var fail error
	s := shared{known: map[jobKey]*sharedJob{}, open: func(context.Context, string, string) (resealer, error) {
		if fail == nil {
			made++
		}
		return &fakeResealer{}, fail
	}}
	one, releaseOne, err1 := s.get(t.Context(), jobKey{"acme", "j"})
	two, releaseTwo, err2 := s.get(t.Context(), jobKey{"acme", "j"})
	other, releaseOther, err3 := s.get(t.Context(), jobKey{"acme", "k"})
	if err := errors.Join(err1, err2, err3); err != nil || one != two || one == other || made != 2 {
		t.Errorf("%v; the same: %v; another job's: %v; %d made", err, one == two, one == other, made)
	}
	releaseOne()
	if three, release, err := s.get(t.Context(), jobKey{"acme", "j"}); err != nil || three != two {
		t.Errorf("%v, another one while it is in use: %v", err, three != two)
	} else {
		release()
	}
	releaseTwo()
	releaseOther()
	if len(s.known) != 0 {
		t.Errorf("%d are never forgotten", len(s.known))
	}
	fail = fails
	if _, _, err := s.get(t.Context(), jobKey{"acme", "j"}); err != fails || len(s.known) != 0 {
		t.Errorf("%v, %d", err, len(s.known))
	}
}
