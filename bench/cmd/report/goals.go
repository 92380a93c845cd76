package main

import (
	"fmt"
	"math"
	"strings"
)

// goal is a figure that byok set out to reach.
type goal struct {
	work, unit string
	limit      float64
	atLeast    bool // the limit is a lower one
	is         stat
}

func (g goal) met() bool {
	if g.atLeast {
		return g.is.median >= g.limit
	}
	return g.is.median <= g.limit
}

// goals are those of the project's plan. What has a round number and no yardstick depends on
// the machine; the others are ratios of what the same round measured.
func goals(r *results) []goal {
	us := func(name string) func(figures) float64 {
		return func(v figures) float64 { return v(point{name: name, unit: "cpu-ns/op"}) / 1e3 }
	}
	of := func(name, unit string) func(figures) float64 {
		return func(v figures) float64 { return v(point{name: name, unit: unit}) }
	}
	ratio := func(a, b func(figures) float64) func(figures) float64 {
		return func(v figures) float64 { return a(v) / b(v) }
	}
	wall := func(name string, cores int) func(figures) float64 {
		return func(v figures) float64 { return v(point{name: name, unit: "ns/op", cores: cores}) }
	}
	var all []goal
	add := func(work, unit string, limit float64, atLeast bool, f func(figures) float64) {
		all = append(all, goal{work, unit, limit, atLeast, r.over(f)})
	}
	most := func(work, unit string, limit float64, f func(figures) float64) { add(work, unit, limit, false, f) }
	least := func(work, unit string, limit float64, f func(figures) float64) { add(work, unit, limit, true, f) }
	appends := func(size string, limit float64) {
		for _, op := range []string{"AppendSeal", "AppendOpen"} {
			most("`"+op+"`, "+spaced(size), "x plain AES-GCM", limit,
				ratio(us("Message/"+size+"/"+op+"/byok"), us("Message/"+size+"/"+op+"/plain-reused")))
		}
	}

	most("`Seal`, 64 B", "CPU µs", 3.0, us("Message/64B/Seal/byok"))
	most("`Open`, 64 B", "CPU µs", 2.8, us("Message/64B/Open/byok"))
	most("`Seal`, 64 B", "allocations", 6, of("Message/64B/Seal/byok", "allocs/op"))
	most("`Open`, 64 B", "allocations", 6, of("Message/64B/Open/byok", "allocs/op"))
	most("`AppendSeal`, 64 B", "allocations", 4, of("Message/64B/AppendSeal/byok", "allocs/op"))
	most("`AppendOpen`, 64 B", "allocations", 4, of("Message/64B/AppendOpen/byok", "allocs/op"))
	most("`Seal` and `Open`, 64 B", "KMS requests", 0, func(v figures) float64 {
		return of("Message/64B/Seal/byok", "kms/op")(v) + of("Message/64B/Open/byok", "kms/op")(v)
	})
	most("`Seal`, 1 KiB", "CPU µs", 3.2, us("Message/1KiB/Seal/byok"))
	most("`Open`, 1 KiB", "CPU µs", 3.0, us("Message/1KiB/Open/byok"))
	appends("64KiB", 1.35)
	appends("1MiB", 1.08)
	for _, op := range []string{"Seal", "Open"} {
		least("stream of 64 MiB, "+strings.ToLower(op)+", one core", "x sio's rate", 1, ratio(us("Stream/"+op+"/sio"), us("Stream/"+op+"/byok")))
		least("stream of 64 MiB, "+strings.ToLower(op)+", two cores", "x sio's rate", 1.6, ratio(wall("Stream/"+op+"/sio", 2), wall("Stream/"+op+"/byok", 2)))
	}
	most("4 KiB at random of 1 GiB", "CPU µs", 20, us("ReadAt/1GiB/byok"))
	most("4 KiB at random, B/op", "x those of 64 MiB", 1.1, ratio(of("ReadAt/1GiB/byok", "B/op"), of("ReadAt/64MiB/byok", "B/op")))
	for _, size := range []string{"64B", "1KiB"} {
		for _, op := range []string{"Seal", "Open"} {
			name := "Parallel/" + size + "/" + op + "/byok"
			least("`"+op+"`, "+spaced(size)+", two cores", "x one", 1.85, ratio(wall(name, 1), wall(name, 2)))
		}
	}
	most("memory for a stream of 10 GiB, sealed and opened", "MiB", 16, func(v figures) float64 {
		return v(point{name: "Memory/byok", unit: "peak-MiB", cores: 2})
	})
	most("stored beyond message and tenant's name", "bytes", 131, func(v figures) float64 { return of("Message/64B/Seal/byok", "more-B/op")(v) - 4 })
	most("`Seal`, 64 B, `fips140=only`", "µs more", 0.7, func(v figures) float64 {
		return v(point{name: "Message/64B/Seal/byok", unit: "cpu-ns/op", fips: true})/1e3 - us("Message/64B/Seal/byok")(v)
	})
	weight := func(work, unit string, limit, v float64) {
		all = append(all, goal{work, unit, limit, false, stat{v, v, v}})
	}
	weight("linked by the root package, but x/crypto", "modules", 0, r.fact("Link/byok", "rare"))
	weight("linked with `awskms`", "modules", 6, r.fact("Link/byok-awskms", "modules"))
	weight("program with `awskms`, stripped", "MB", 8.5, r.fact("Link/byok-awskms", "bytes")/1e6)
	return all
}

func goalTable(r *results) string {
	var b strings.Builder
	met, gs := 0, goals(r)
	b.WriteString("| work | | goal | reached | the runs | |\n|---|---|--:|--:|--:|---|\n")
	for _, g := range gs {
		verdict, sign := "**missed**", "≤ "
		if g.atLeast {
			sign = "≥ "
		}
		if g.met() {
			verdict = "met"
			met++
		} else if math.IsNaN(g.is.median) {
			verdict = "**not measured**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s%s | %s | %s to %s | %s |\n", g.work, g.unit, sign, number(g.limit), number(g.is.median), number(g.is.least), number(g.is.most), verdict)
	}
	fmt.Fprintf(&b, "\n%d of %d met.\n", met, len(gs))
	return b.String()
}
