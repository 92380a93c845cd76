package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/byok-go/byok"
)

var update = flag.Bool("update", false, "write testdata/progress.golden anew")

// What people see, for all states and widths, stands in a file.
func TestProgressGolden(t *testing.T) {
	half := byok.Job{Type: byok.JobReseal, State: byok.JobRunning, Done: 523_000, Failed: 3, Left: 476_997, Total: 1_000_000, Rate: 12_345.6, ETA: 38 * time.Second}
	with := func(change func(*byok.Job)) byok.Job { j := half; change(&j); return j }
	jobs := []struct {
		what string
		j    byok.Job
	}{
		{"half", half},
		{"begun", with(func(j *byok.Job) { j.Done, j.Failed, j.Left, j.Rate, j.ETA = 0, 0, 1_000_000, 0, 0 })},
		{"nearly done", with(func(j *byok.Job) { j.Done, j.Left, j.ETA = 999_996, 1, time.Second })},
		{"how many is not known", with(func(j *byok.Job) { j.Total, j.Left, j.Done, j.Failed, j.ETA = 0, 0, 0, 0, 0 })},
		{"paused", with(func(j *byok.Job) { j.State, j.Why, j.Rate, j.ETA = byok.JobPaused, "BYOK_002", 0, 0 })},
		{"paused for another reason", with(func(j *byok.Job) { j.State, j.Why, j.Rate, j.ETA = byok.JobPaused, "BYOK_007", 0, 0 })},
		{"verifying", with(func(j *byok.Job) {
			j.State, j.Verified, j.Done, j.Left, j.ETA = byok.JobVerifying, 400_000, 999_997, 600_000, 49*time.Hour
		})},
		{"verifying again", with(func(j *byok.Job) {
			j.State, j.Verified, j.Done, j.Left, j.ETA, j.Pass, j.Again = byok.JobVerifying, 400_000, 999_997, 600_000, time.Hour, 12, 1234
		})},
		{"done", with(func(j *byok.Job) { j.State, j.Done, j.Left, j.Rate = byok.JobDone, 999_997, 0, 0 })},
		{"cancelled", with(func(j *byok.Job) { j.State, j.Rate = byok.JobCancelled, 0 })},
		{"a move", byok.Job{Type: byok.JobMove, State: byok.JobRunning, Done: 12, Left: 30}},
		{"a move that has switched", byok.Job{Type: byok.JobMove, State: byok.JobSwitching, Done: 42}},
	}
	var b strings.Builder
	for _, c := range jobs {
		fmt.Fprintf(&b, "-- %s\n", c.what)
		for _, width := range []int{120, 79, 50, 30, 10} {
			fmt.Fprintf(&b, "%3d |%s|\n", width, line(c.j, width, style{}))
		}
		fmt.Fprintf(&b, " 79 |%s|\n", line(c.j, 79, style{ascii: true}))
		fmt.Fprintf(&b, " 79 |%q|\n", line(c.j, 79, style{color: true}))
	}
	const file = "testdata/progress.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("-update writes it anew:\n%s", b.String())
	}
}

// Whatever a job's numbers are, and the width, the line fits, ASCII is ASCII, and nothing says 100 % before the end.
func TestProgressFits(t *testing.T) {
	escapes := regexp.MustCompile("\x1b\\[[0-9]*m")
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string) int64 {
			return rapid.Int64Range(0, 1<<62/4).Draw(t, name) >> rapid.IntRange(0, 60).Draw(t, "small")
		}
		j := byok.Job{Type: rapid.SampledFrom([]string{byok.JobReseal, byok.JobMove, byok.RotateFull}).Draw(t, "type"),
			State: rapid.SampledFrom([]byok.JobState{byok.JobRunning, byok.JobPaused, byok.JobSwitching, byok.JobVerifying, byok.JobDone, byok.JobCancelled}).Draw(t, "state"),
			Why:   rapid.SampledFrom([]string{"", "BYOK_002", "BYOK_099"}).Draw(t, "why"), Done: n("done"), Failed: n("failed"), Left: n("left"), Total: n("total"),
			Verified: n("verified"), Pass: int(n("pass")), Again: n("again"), Rate: float64(n("rate")), ETA: time.Duration(n("eta"))}
		width := rapid.IntRange(0, 200).Draw(t, "width")
		s := style{ascii: rapid.Bool().Draw(t, "ascii"), color: rapid.Bool().Draw(t, "color")}
		got := escapes.ReplaceAllString(line(j, width, s), "")
		if utf8.RuneCountInString(got) > width {
			t.Fatalf("%q is wider than %d", got, width)
		}
		for _, r := range got {
			if s.ascii && (r < 0x20 || r > 0x7e) || r == '\n' || r == '\r' || r == '\t' {
				t.Fatalf("%q has %q", got, r)
			}
		}
		if done, total := counts(j); done < total && strings.Contains(got, "100.0%") {
			t.Fatalf("%q, and %d of %d are done", got, done, total)
		}
	})
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0 s", 59_400 * time.Millisecond: "59 s", 59_600 * time.Millisecond: "1 min 00 s", time.Hour - time.Second: "59 min 59 s",
		time.Hour: "1 h 00 min", 47*time.Hour + 59*time.Minute: "47 h 59 min", 49 * time.Hour: "2 d 1 h"} {
		if got := duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// Where a job knows no rate, what is seen of it is one. What waits has none, and begins anew.
func TestPace(t *testing.T) {
	now := time.Unix(1, 0)
	d := &display{now: func() time.Time { return now }}
	j := byok.Job{Type: byok.JobMove, State: byok.JobRunning, Done: 100, Left: 900}
	for _, step := range []struct {
		after time.Duration
		done  int64
		state byok.JobState
		rate  float64
		eta   time.Duration
	}{
		{0, 100, byok.JobRunning, 0, 0},
		{500 * time.Millisecond, 110, byok.JobRunning, 0, 0},
		{1500 * time.Millisecond, 120, byok.JobRunning, 10, 88 * time.Second},
		{8 * time.Second, 200, byok.JobRunning, 10, 80 * time.Second},
		{time.Minute, 200, byok.JobPaused, 0, 0},
		{time.Second, 200, byok.JobRunning, 0, 0},
		{2 * time.Second, 300, byok.JobRunning, 100.0 / 3, 21 * time.Second},
	} {
		now = now.Add(step.after)
		j.Done, j.Left, j.State = step.done, 1000-step.done, step.state
		if got := d.pace(j); got.Rate-step.rate > 0.01 || step.rate-got.Rate > 0.01 || got.ETA != step.eta {
			t.Errorf("%+v: %v/s, ETA %v", step, got.Rate, got.ETA)
		}
	}
}
