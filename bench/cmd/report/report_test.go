package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sample = `BenchmarkLink/byok 1 2 modules 0 rare 3000000 bytes
=== ATTR  TestDenied/byok denied {"Peer":"byok","OpenFor":34000000000,"SealFor":0,"Restart":"refuses","Told":"so"}
=== ATTR  TestDenied/tink denied {"Peer":"tink","OpenFor":7200000000000,"SealFor":610000000000,"Restart":"refuses","Told":"so"}
BenchmarkFIPS/byok 1 1 works
load-before: 0.10
go: go1.26
rounds: 3
run: 1
round: 1
cpu: Some CPU
BenchmarkMessage/64B/Seal/byok   	 100	 9000 ns/op	 0.1 MB/s	 1000 cpu-ns/op	 1 procs
fips: only
BenchmarkMessage/64B/Seal/byok   	 100	 9000 ns/op	 0.1 MB/s	 5000 cpu-ns/op	 1 procs
fips: off
BenchmarkParallel/64B/Seal/byok  	 100	 400 ns/op
BenchmarkParallel/64B/Seal/byok-2	 100	 200 ns/op
BenchmarkParallel/64B/Seal/plain-fresh  	 100	 300 ns/op
BenchmarkParallel/64B/Seal/plain-fresh-2	 100	 200 ns/op
round: 2
BenchmarkMessage/64B/Seal/byok   	 100	 9000 ns/op	 0.1 MB/s	 9000 cpu-ns/op
BenchmarkParallel/64B/Seal/byok  	 100	 8000 ns/op
BenchmarkParallel/64B/Seal/byok-2	 100	 4000 ns/op	 2 procs
round: 3
BenchmarkMessage/64B/Seal/byok   	 100	 9000 ns/op	 0.1 MB/s	 2000 cpu-ns/op
BenchmarkParallel/64B/Seal/byok  	 100	 400 ns/op
BenchmarkParallel/64B/Seal/byok-2	 100	 8000 ns/op
run: 2
round: 1
BenchmarkMessage/64B/Seal/byok   	 100	 9000 ns/op	 0.1 MB/s	 4000 cpu-ns/op
BenchmarkMessage/64B/Seal/tink   	 100	 9000 ns/op	 0.1 MB/s	 400000 cpu-ns/op
BenchmarkParallel/64B/Seal/byok  	 100	 300 ns/op
BenchmarkParallel/64B/Seal/byok-2	 100	 100 ns/op
BenchmarkParallel/64B/Seal/plain-fresh  	 100	 300 ns/op
BenchmarkParallel/64B/Seal/plain-fresh-2	 100	 200 ns/op
took: 1m0s
`

func parsed(t *testing.T) *results {
	r, err := parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Rounds become a run's median, runs the figures that are told; cores and FIPS mode are
// points of their own, and a ratio is that of one round. (Those of the medians would be 0.1 in run 1.)
func TestFigures(t *testing.T) {
	r := parsed(t)
	if got, want := r.at(point{name: "Message/64B/Seal/byok", unit: "cpu-ns/op"}), (stat{3000, 2000, 4000}); got != want {
		t.Errorf("Seal: %v, want %v", got, want)
	}
	faster := r.over(func(v figures) float64 {
		name := point{name: "Parallel/64B/Seal/byok", unit: "ns/op"}
		two := name
		two.cores = 2
		return v(name) / v(two)
	})
	if want := (stat{2.5, 2, 3}); faster != want {
		t.Errorf("two cores: %v, want %v", faster, want)
	}
	if got := r.fact("Link/byok", "bytes"); got != 3e6 {
		t.Errorf("size: %v", got)
	}
	if got := r.at(point{name: "Message/64B/Open/byok", unit: "cpu-ns/op"}).median; !math.IsNaN(got) {
		t.Errorf("what was not measured is %v", got)
	}
	for what, bad := range map[string]string{
		"half a log":                         strings.ReplaceAll(sample, "took:", ""),
		"what was measured on other cores":   strings.Replace(sample, "1 procs", "2 procs", 1),
		"what was measured before any round": strings.ReplaceAll(sample, "round:", ""),
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func TestTables(t *testing.T) {
	r := parsed(t)
	parts := tables(r)
	for name, want := range map[string]string{
		"goals":   "| `Seal`, 64 B | CPU µs | ≤ 3 | 3 | 2 to 4 | met |\n| `Open`, 64 B | CPU µs | ≤ 2.80 | – | NaN to NaN | **not measured** |\n",
		"cpu":     "| byok | 3 ~ | – |", // 2 to 4
		"wall":    "| byok | 9 | – |",
		"denied":  "| byok | for 34 s | stops at once | refuses | so | works |\n| tink | goes on all the time | for 10 min 10 s |",
		"machine": "**Preliminary**",
		"link":    "| byok | 2 | 3 |\n",
		// 2 / 1.5 in run 1, in the only round that has both, and 3 / 1.5 in run 2
		"parallel": "| byok / plain-fresh | 1.67 |",
	} {
		if !strings.Contains(parts[name], strings.ReplaceAll(want, "NaN", none)) {
			t.Errorf("%s:\n%s\nwant in it:\n%s", name, parts[name], want)
		}
	}
	if strings.Contains(parts["stream"], "byok") {
		t.Error("a row of nothing in the table of streams")
	}
	if until(time.Second) != "for 1 s" || !busy("0.9") || busy("0.5") || !busy("unknown") {
		t.Error("until or busy")
	}
}

func TestGoal(t *testing.T) {
	for _, c := range []struct {
		g    goal
		want bool
	}{
		{goal{limit: 3, is: stat{median: 3}}, true},
		{goal{limit: 3, is: stat{median: 3.01}}, false},
		{goal{limit: 3, atLeast: true, is: stat{median: 3}}, true},
		{goal{limit: 3, atLeast: true, is: stat{median: 2.99}}, false},
		{goal{limit: 3, is: stat{median: math.NaN()}}, false},
		{goal{limit: 3, atLeast: true, is: stat{median: math.NaN()}}, false},
	} {
		if got := c.g.met(); got != c.want {
			t.Errorf("%+v: %v", c.g, got)
		}
	}
}

// A chart is XML, has a bar for each figure and none for what was not measured, and is
// logarithmic only if it must.
func TestChart(t *testing.T) {
	c := chart{title: "a < b", unit: "µs", series: []string{"one", "two"}, rows: []string{"x", "none", "y"}, more: func(string) string { return " + KMS" },
		value: func(row string, i int) float64 { return map[string]float64{"x": 1, "y": 100, "none": math.NaN()}[row] }}
	svg := c.svg()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
	}
	if got := strings.Count(svg, "+ KMS"); got != 4 || !strings.Contains(svg, "logarithmic") || strings.Contains(svg, "NaN") {
		t.Errorf("%d bars:\n%s", got, svg)
	}
	c.rows = []string{"x"}
	if strings.Contains(c.svg(), "logarithmic") {
		t.Error("logarithmic without need")
	}
}

// Every part has its place in the document, and nothing else is touched.
func TestFill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
	for range 2 {
		if err := fill(path, map[string]string{"a": "new\n"}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "before\n<!-- a -->\nnew\n<!-- /a -->\nafter\n" {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "<!-- a -->\n", "<!-- /a -->", "<!-- a -->\n<!-- /a -->\n<!-- a -->\n"} {
		if write(bad); fill(path, map[string]string{"a": "new\n"}) == nil {
			t.Errorf("%q was filled", bad)
		}
	}
	// The document itself has them all.
	doc, err := os.ReadFile("../../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	write(string(doc))
	if err := fill(path, tables(parsed(t))); err != nil {
		t.Error(err)
	}
	for name := range charts(parsed(t)) {
		if !strings.Contains(string(doc), fmt.Sprintf("(performance-%s.svg)", name)) {
			t.Errorf("the document does not show %s", name)
		}
	}
}
