package drill

import (
	"strings"
	"testing"
	"time"
)

// The edges of what is counted. Everything happens at seconds: the stop at 10,
// MaxAge 5, access asked for at 20 and back at 21.
func TestJudgeEdges(t *testing.T) {
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return base.Add(time.Duration(s * 1e9)) }
	op := func(name string, issued, completed float64, r Result) Sample {
		return Sample{Op: name, Issued: at(issued), Completed: at(completed), Result: r}
	}
	// What a good worker's samples are, beside the ones of a case.
	good := []Sample{
		op("seal", 9, 9.1, Served), op("open", 9, 9.1, Served), op("kms", 12, 12.1, Denied), op("open", 12, 12.2, Denied),
		op("seal", 16, 16, Denied), op("kms", 20.5, 20.6, Denied), // the second one: 2 s of back-off
		op("kms", 22.6, 22.7, Served), op("seal", 22.6, 22.8, Served), op("open", 22.8, 22.9, Served),
	}
	for _, c := range []struct {
		name   string
		more   []Sample
		change func(m *measured)
		want   Verdict
		find   string
	}{
		{name: "good", want: Pass},
		{name: "success begun with the denial's end", more: []Sample{op("open", 12.2, 12.3, Served)}, want: Pass},
		{name: "success begun right after the denial", more: []Sample{op("open", 12.2000001, 12.3, Served)}, want: Fail, find: "1 operations succeeded after its first denial"},
		{name: "under way at the denial", more: []Sample{op("open", 12.1, 14, Served)}, want: Pass},
		{name: "success begun right before the bound", more: []Sample{op("open", 12.1, 14, Served), op("open", 12.19, 15.5, Served)}, want: Pass},
		{name: "success begun at the bound", more: []Sample{op("open", 15, 15.1, Served)}, want: Fail, find: "begun after the bound"},
		{name: "success ended before access was asked for", more: []Sample{op("seal", 19.8, 19.9, Served)}, want: Fail, find: "begun after the bound"},
		{name: "success ended as access was asked for", more: []Sample{op("seal", 19.8, 20, Served)}, want: Pass},
		{name: "wrong canary before the stop", more: []Sample{op("open", 8, 8.1, Wrong)}, want: Fail, find: "something else"},
		{name: "wrong canary counts as a success", more: []Sample{op("open", 15, 15.1, Wrong)}, want: Fail, find: "begun after the bound"},
		{name: "KMS permits after the stop", more: []Sample{op("kms", 11, 11.1, Served), op("open", 15.5, 15.6, Denied), op("seal", 16.1, 16.2, Denied)}, want: Pass},
		{name: "KMS permits before the stop, and answers after it", more: []Sample{op("kms", 9.9, 12, Served), op("seal", 15, 15.1, Served)}, want: Fail, find: "begun after the bound"},
		{name: "such an answer overrules no denial", more: []Sample{op("kms", 9.9, 12.1, Served), op("open", 12.5, 12.6, Served)}, want: Fail, find: "after its first denial"},
		{name: "KMS permits as access is asked for", more: []Sample{op("kms", 19.5, 20, Served), op("seal", 15, 15.1, Served)}, want: Fail, find: "begun after the bound"},
		{name: "KMS permits after the stop", more: []Sample{op("kms", 10.9, 11, Served), op("open", 13, 13, Served)}, want: Fail, find: "after its first denial"},
		{name: "the bound moves with the KMS", more: []Sample{op("kms", 11.5, 11.6, Served), op("seal", 16.4, 16.45, Denied), op("seal", 16.6, 16.6, Denied)}, want: Pass},
		{name: "a success after the bound that moved", more: []Sample{op("kms", 11.5, 11.6, Served), op("seal", 16.5, 16.6, Served)}, want: Fail, find: "begun after the bound"},
		{name: "a KMS that permits again overrules a denial", more: []Sample{op("kms", 13, 13.1, Served), op("open", 13.2, 13.3, Served), op("open", 14, 14, Denied), op("seal", 18.5, 18.5, Denied)}, want: Pass},
		{name: "a KMS that permitted before it does not", more: []Sample{op("kms", 11, 11.1, Served), op("open", 13.2, 13.3, Served)}, want: Fail, find: "after its first denial"},
		{name: "nothing tried after the bound", change: func(m *measured) { m.samples[0] = append(m.samples[0][:4:4], m.samples[0][5:]...) }, want: Inconclusive, find: "tried nothing after the bound"},
		{name: "recovery at its limit", change: func(m *measured) { shift(m.samples[0][8:], 1.4) }, want: Pass}, // 20.6 + 2, a call of 0.1, 1, and 3 times 0.2
		{name: "recovery too late", change: func(m *measured) { shift(m.samples[0][8:], 1.41) }, want: Fail, find: "back-off plus one call"},
		{name: "seals again, and does not open", change: func(m *measured) { m.samples[0] = m.samples[0][:8] }, want: Fail, find: "did not recover"},
		{name: "a wall clock that moved", change: func(m *measured) { m.ClockStrayed = Millis(251 * time.Millisecond) }, want: Inconclusive, find: "moved by"},
		{name: "a wall clock that moved back", change: func(m *measured) { m.ClockStrayed = Millis(-251 * time.Millisecond) }, want: Inconclusive, find: "moved by"},
		{name: "a clock that is slewed", change: func(m *measured) { m.ClockStrayed = Millis(249 * time.Millisecond) }, want: Pass},
		{name: "a worker whose clock is behind", change: func(m *measured) { m.lags[0] = time.Second }, want: Inconclusive, find: "apart"},
		{name: "a worker whose clock is ahead", change: func(m *measured) { m.lags[0] = -time.Second }, want: Inconclusive, find: "apart"},
		{name: "broken off", change: func(m *measured) { m.aborted = "x" }, want: Inconclusive, find: "broken off: x"},
		{name: "broken off, but not before a promise was", more: []Sample{op("open", 15, 15.1, Served)}, change: func(m *measured) { m.aborted = "x" }, want: Fail, find: "after the bound"},
		{name: "a worker that hangs at the end", change: func(m *measured) { m.hangs = "x" }, want: Inconclusive, find: "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &measured{
				Report: Report{MaxAge: Millis(5 * time.Second), Began: at(0), StopAsked: at(9.9), Stop: at(10),
					RestoreAsked: at(20), Restore: at(21), Ended: at(60)},
				samples: [][]Sample{append(append([]Sample{}, good...), c.more...)},
				lags:    []time.Duration{0},
			}
			if c.change != nil {
				c.change(m)
			}
			r := m.judge()
			if r.Verdict != c.want || c.want == Pass && len(r.Findings) != 0 || !strings.Contains(strings.Join(r.Findings, "\n"), c.find) {
				t.Errorf("%s %q, want %s with %q", r.Verdict, r.Findings, c.want, c.find)
			}
		})
	}
}

func shift(samples []Sample, s float64) {
	for i := range samples {
		samples[i].Completed = samples[i].Completed.Add(time.Duration(s * 1e9))
	}
}

// The schedule that a Keeper has for its questions to a KMS that denies.
func TestBackoffIsTheKeepers(t *testing.T) {
	for n, want := range []time.Duration{1, 1, 2, 4, 8, 16, 30, 30, 30} {
		if got := backoff(n); got != want*time.Second {
			t.Errorf("after %d denials: %v, want %v s", n, got, want)
		}
	}
}
