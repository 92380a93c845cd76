package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// results are what a log says.
type results struct {
	about  map[string]string // "name: value"
	runs   [][]round
	facts  map[point]float64 // measured before the first run
	denied []denied
	peers  []string // in the order of the log
}

// round is what was measured in one round. What was measured several times counts by its median.
type round map[point][]float64

// point is one metric of one benchmark: "Message/64B/Seal/byok", in "ns/op", on so many cores.
type point struct {
	name, unit string
	cores      int
	fips       bool
}

// denied is what TestDenied says of a peer.
type denied struct {
	Peer, Restart, Told string
	OpenFor, SealFor    time.Duration
}

var coreSuffix = regexp.MustCompile(`-(\d+)$`)

func parse(text string) (*results, error) {
	r := &results{about: map[string]string{}, facts: map[point]float64{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "=== ATTR") && len(f) > 4 && f[3] == "denied":
			var d denied
			if err := json.Unmarshal([]byte(line[strings.Index(line, "{"):]), &d); err != nil {
				return nil, err
			}
			r.denied = append(r.denied, d)
		case strings.HasPrefix(line, "run: "):
			r.runs = append(r.runs, nil)
		case strings.HasPrefix(line, "round: ") && len(r.runs) > 0:
			last := &r.runs[len(r.runs)-1]
			*last = append(*last, round{})
		case strings.HasPrefix(line, "Benchmark") && len(f) >= 4:
			if err := r.line(f); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
		default:
			if name, value, ok := strings.Cut(line, ": "); ok && !strings.Contains(name, " ") {
				r.about[name] = value
			}
		}
	}
	if len(r.runs) == 0 || len(r.denied) == 0 || r.about["took"] == "" {
		return nil, errors.New("not a whole log")
	}
	for _, d := range r.denied {
		r.peers = append(r.peers, d.Peer)
	}
	return r, nil
}

func (r *results) line(f []string) error {
	p := point{name: strings.TrimPrefix(f[0], "Benchmark"), cores: 1, fips: r.about["fips"] == "only"}
	if m := coreSuffix.FindStringSubmatch(p.name); m != nil {
		p.cores, _ = strconv.Atoi(m[1])
		p.name = strings.TrimSuffix(p.name, m[0])
	}
	for i := 2; i+1 < len(f); i += 2 {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return err
		}
		if p.unit = f[i+1]; len(r.runs) == 0 {
			r.facts[p] = v
			continue
		}
		rounds := r.runs[len(r.runs)-1]
		if len(rounds) == 0 {
			return errors.New("before the first round")
		}
		if p.unit == "procs" && v != float64(p.cores) {
			return fmt.Errorf("measured with %v cores, not %d", v, p.cores)
		}
		last := rounds[len(rounds)-1]
		last[p] = append(last[p], v)
	}
	return nil
}

// stat is a figure of each run, summed up. If it was not measured, all are NaN.
type stat struct{ median, least, most float64 }

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// figures returns what was measured in a round, and NaN for what was not.
type figures func(p point) float64

// over sums up what f makes of the rounds, each by itself: ratios are those of one round, in which
// the machine was as fast for one as for the other. A run is the median of its rounds.
func (r *results) over(f func(figures) float64) stat {
	var runs []float64
	for _, rounds := range r.runs {
		var all []float64
		for _, m := range rounds {
			v := f(func(p point) float64 {
				p.cores = max(p.cores, 1)
				return median(m[p])
			})
			if !math.IsNaN(v) {
				all = append(all, v)
			}
		}
		runs = append(runs, median(all))
	}
	return stat{median(runs), slices.Min(runs), slices.Max(runs)}
}

func (r *results) at(p point) stat { return r.over(func(v figures) float64 { return v(p) }) }

func (r *results) fact(name, unit string) float64 {
	if v, ok := r.facts[point{name: name, unit: unit, cores: 1}]; ok {
		return v
	}
	return math.NaN()
}
