package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tables are the parts of performance.md that are measured, by the name of their mark.
func tables(r *results) map[string]string {
	cpu := func(name string, cores int) string {
		return micro(r.at(point{name: name, unit: "cpu-ns/op", cores: cores}))
	}
	wall := func(name string, cores int) string {
		return micro(r.at(point{name: name, unit: "ns/op", cores: cores}))
	}
	of := func(name, unit string) string { return number(r.at(point{name: name, unit: unit}).median) }

	message := func(cell func(string, int) string) string {
		var head, columns []string
		for _, size := range []string{"64B", "1KiB", "64KiB", "1MiB"} {
			for _, op := range []string{"Seal", "Open"} {
				head, columns = append(head, op+" "+spaced(size)), append(columns, size+"/"+op)
			}
		}
		return table(r.peers, head, func(peer string, i int) string { return cell("Message/"+columns[i]+"/"+peer, 1) })
	}
	sizes := []string{"64B", "1KiB", "64KiB", "1MiB"}
	ratio := func(size, op string) string {
		return number(r.over(func(v figures) float64 {
			at := func(peer string) float64 {
				return v(point{name: "Message/" + size + "/" + op + "/" + peer, unit: "cpu-ns/op"})
			}
			return at("byok") / at("plain-reused")
		}).median)
	}
	rate := func(name, unit string, cores int) string {
		return number(r.over(func(v figures) float64 { return (64 << 20) / v(point{name: name, unit: unit, cores: cores}) }).median)
	}
	return map[string]string{
		"machine": machine(r),
		"goals":   goalTable(r),
		"cpu":     message(cpu),
		"wall":    message(wall),
		"append": table(sizes, []string{"AppendSeal", "plain", "ratio", "AppendOpen", "plain", "ratio"}, func(size string, i int) string {
			op := []string{"AppendSeal", "AppendOpen"}[i/3]
			switch i % 3 {
			case 0:
				return cpu("Message/"+size+"/"+op+"/byok", 1)
			case 1:
				return cpu("Message/"+size+"/"+op+"/plain-reused", 1)
			}
			return ratio(size, op)
		}),
		"costs": table(r.peers, []string{"KMS/Seal", "KMS/Open", "allocs/Seal", "allocs/Open", "B/Seal", "B/Open", "stored"}, func(peer string, i int) string {
			unit := []string{"kms/op", "kms/op", "allocs/op", "allocs/op", "B/op", "B/op", "more-B/op"}[i]
			return of("Message/64B/"+[]string{"Seal", "Open"}[i%2]+"/"+peer, unit)
		}),
		"parallel": table(append(slices.Clone(r.peers), control), []string{"Seal 64 B", "Open 64 B", "Seal 1 KiB", "Open 1 KiB"}, func(peer string, i int) string {
			return number(r.over(func(v figures) float64 {
				gain := func(peer string) float64 {
					name := "Parallel/" + []string{"64B", "1KiB"}[i/2] + "/" + []string{"Seal", "Open"}[i%2] + "/" + peer
					return v(point{name: name, unit: "ns/op", cores: 1}) / v(point{name: name, unit: "ns/op", cores: 2})
				}
				if peer == control {
					return gain("byok") / gain("plain-fresh")
				}
				return gain(peer)
			}).median)
		}),
		"stream": table(r.peers, []string{"seal, one core", "open, one core", "seal, two cores", "open, two cores"}, func(peer string, i int) string {
			name := "Stream/" + []string{"Seal", "Open"}[i%2] + "/" + peer
			if i < 2 {
				return rate(name, "cpu-ns/op", 1)
			}
			return rate(name, "ns/op", 2)
		}),
		"readat": table(r.peers, []string{"CPU µs", "µs", "B/op of 64 MiB", "B/op of 1 GiB", "allocs/op"}, func(peer string, i int) string {
			name := "ReadAt/1GiB/" + peer
			return []string{cpu(name, 1), wall(name, 1), of("ReadAt/64MiB/"+peer, "B/op"), of(name, "B/op"), of(name, "allocs/op")}[i]
		}),
		"start": table(r.peers, []string{"first Open, µs", "KMS", "1 000 tenants, ms", "KMS", "Seal among 1 000, µs", "KMS"}, func(peer string, i int) string {
			cold, first, hot := "Cold/"+peer, "Tenants/First/"+peer, "Tenants/Hot/"+peer
			ms := number(r.at(point{name: first, unit: "cpu-ns/op"}).median / 1e6)
			return []string{cpu(cold, 1), of(cold, "kms/op"), ms, of(first, "kms/op"), cpu(hot, 1), of(hot, "kms/op")}[i]
		}),
		"memory": table(r.peers, []string{"message, MiB", "memory, MiB"}, func(peer string, i int) string {
			return number(r.at(point{name: "Memory/" + peer, unit: []string{"message-MiB", "peak-MiB"}[i], cores: 2}).median)
		}),
		"denied": aligned("---", r.peers, []string{"Open", "Seal", "a new process", "how a program can tell", "`fips140=only`"}, func(peer string, i int) string {
			for _, d := range r.denied {
				if d.Peer == peer {
					works := map[float64]string{0: "fails", 1: "works"}[r.fact("FIPS/"+peer, "works")]
					return []string{until(d.OpenFor), until(d.SealFor), d.Restart, d.Told, works}[i]
				}
			}
			return ""
		}),
		"link": table(linked, []string{"modules", "MB"}, func(peer string, i int) string {
			return number([]float64{r.fact("Link/"+peer, "modules"), r.fact("Link/"+peer, "bytes") / 1e6}[i])
		}),
	}
}

// control is the row that says what byok makes of a second core beside what the machine, and Go's collector, make of it.
const control = "byok / plain-fresh"

var linked = []string{"byok", "byok-awskms", "tink", "awsesdk", "asherah", "kms-wrapping", "gocloud", "sio", "age", "aws-kms"}

// table is of numbers.
func table(rows, head []string, cell func(row string, i int) string) string {
	return aligned("--:", rows, head, cell)
}

// aligned leaves out the rows in which nothing was measured.
func aligned(align string, rows, head []string, cell func(row string, i int) string) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, h := range head {
		b.WriteString(" " + h + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat(align+"|", len(head)) + "\n")
	for _, row := range rows {
		line, some := "| "+spaced(row)+" |", false
		for i := range head {
			c := cell(row, i)
			some = some || c != none
			line += " " + c + " |"
		}
		if some {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// machine says what was measured where, and warns of figures that prove little.
func machine(r *results) string {
	a := r.about
	var b strings.Builder
	if rounds, _ := strconv.Atoi(a["rounds"]); len(r.runs) < 3 || rounds < 5 || busy(a["load-before"]) {
		b.WriteString("**Preliminary**: few rounds, or a machine that had other work to do. Compare within the tables only.\n\n")
	}
	fmt.Fprintf(&b, "%s. Runs: %d, rounds of each: %s, together %s. %s, %s/%s, %s, %s cores. Load when it began: %s; at the end: %s.\n",
		a["began"], len(r.runs), a["rounds"], a["took"], strings.Replace(a["go"], "go", "Go ", 1), a["goos"], a["goarch"], a["cpu"], a["cores"], a["load-before"], a["load-after"])
	return b.String()
}

func busy(load string) bool {
	v, err := strconv.ParseFloat(load, 64)
	return err != nil || v > 0.7
}

const none = "–"

// number has about three digits.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return none
	case math.Abs(v) >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// micro is in thousands, and marked if the runs did not agree.
func micro(s stat) string {
	out := number(s.median / 1e3)
	if s.most-s.least > s.median/10 {
		out += " ~"
	}
	return out
}

// spaced sets the unit off: "64 B". Names without one stay as they are.
func spaced(name string) string {
	n := strings.TrimLeft(name, "0123456789")
	if n == name {
		return name
	}
	return strings.TrimSuffix(name, n) + " " + n
}

// patience is how long TestDenied waits.
const patience = 2 * time.Hour

func until(d time.Duration) string {
	switch {
	case d == 0:
		return "stops at once"
	case d >= patience:
		return "goes on all the time"
	case d < time.Minute:
		return fmt.Sprintf("for %.0f s", d.Seconds())
	}
	return fmt.Sprintf("for %d min %d s", d/time.Minute, d%time.Minute/time.Second)
}
