// Command report measures byok beside its peers and writes what comes out into
// docs/performance.md: tables between the marks that are there, and charts beside it.
//
//	GOWORK=off go -C bench run ./cmd/report                    # 3 runs: some 12 minutes on 2 cores
//	GOWORK=off go -C bench run ./cmd/report -brief -docs DIR   # that it works, in a minute
//	GOWORK=off go -C bench run ./cmd/report -from LOG          # the same tables again
//
// The log of all that was measured is in the format of Go's benchmarks, so that benchstat
// reads it too.
package main

import (
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	runs := flag.Int("runs", 3, "runs; what is told is their median, and the least and the most")
	rounds := flag.Int("rounds", 7, "rounds of a run, in which all benchmarks take turns; their median counts")
	brief := flag.Bool("brief", false, "one run of one round in which each benchmark does its work once or twice: the figures mean nothing")
	from := flag.String("from", "", "a log to take, instead of measuring")
	docs := flag.String("docs", "../docs", "the directory of performance.md")
	flag.Parse()
	if flag.NArg() > 0 || *runs < 1 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *brief {
		*runs, *rounds = 1, 1
	}
	if err := report(*runs, *rounds, *brief, *from, *docs); err != nil {
		log.Fatal(err)
	}
}

func report(runs, rounds int, brief bool, from, docs string) error {
	if from == "" {
		f, err := os.CreateTemp("", "byok-bench-*.log")
		if err != nil {
			return err
		}
		from = f.Name()
		log.Printf("the log is %s", from)
		if err := measure(f, runs, rounds, brief); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	r, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if err := fill(filepath.Join(docs, "performance.md"), tables(r)); err != nil {
		return err
	}
	for name, chart := range charts(r) {
		if err := os.WriteFile(filepath.Join(docs, "performance-"+name+".svg"), []byte(chart.svg()), 0o644); err != nil {
			return err
		}
	}
	gs := goals(r)
	for _, g := range gs {
		if math.IsNaN(g.is.median) {
			return fmt.Errorf("not measured: %s, %s", g.work, g.unit)
		}
	}
	if brief {
		fmt.Printf("all %d goals were measured, and the figures mean nothing\n", len(gs))
		return nil
	}
	fmt.Print(goalTable(r))
	return nil
}
