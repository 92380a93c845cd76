package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// group is one process with some of the benchmarks, which is started anew in each round: so
// noise on the machine hits all peers alike, and none inherits the heap of too many others.
type group struct {
	bench, time, cpu string // cpu is GOMAXPROCS; "1,2" needs a benchmark of b.N: see repeat in bench_test.go
	every            int    // in which rounds: 1 all, 2 every other
	args             []string
	fips             bool // with and without FIPS mode, three times in turns: the difference is small
}

var groups = []group{
	{bench: "^BenchmarkMessage$", time: "40ms", cpu: "1", every: 1},
	{bench: "^BenchmarkMessage$/^64B$/^(Seal|Open)$/^byok$", time: "40ms", cpu: "1", every: 1, fips: true},
	{bench: "^BenchmarkParallel$", time: "40ms", cpu: "1,2", every: 1},
	{bench: "^BenchmarkStream$", time: "200ms", cpu: "1", every: 2},
	{bench: "^BenchmarkStream$", time: "200ms", cpu: "2", every: 2},
	{bench: "^BenchmarkReadAt$", time: "200ms", cpu: "1", every: 2},
	{bench: "^BenchmarkReadAt$", time: "200ms", cpu: "1", every: 3, args: []string{"-object", "1073741824"}},
	{bench: "^Benchmark(Cold|Tenants)$", time: "50ms", cpu: "1", every: 3},
}

// memory takes long and has no noise, so each run measures it once.
var memory = group{bench: "^BenchmarkMemory$", time: "1x", cpu: "2", args: []string{"-long", "10737418240"}}

// measure writes the log. Lines "name: value" are those of Go's benchmark format.
func measure(out io.Writer, runs, rounds int, brief bool) error {
	dir, err := os.MkdirTemp("", "byok-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log.Print("compiling: minutes, if it is the first time")
	bin := filepath.Join(dir, "bench.test")
	if err := command(os.Stderr, "go", "test", "-c", "-o", bin, "."); err != nil {
		return err
	}
	if err := weigh(out, dir, brief); err != nil {
		return err
	}
	if err := command(out, bin, "-test.run", "^TestDenied$", "-test.v"); err != nil {
		return err
	}
	if err := onlyFIPS(out, bin); err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(out, "began: %s\nload-before: %s\n", began.Format("2006-01-02 15:04"), load())
	fmt.Fprintf(out, "go: %s\ncores: %d\nrounds: %d\n", runtime.Version(), runtime.NumCPU(), rounds)
	for run := range runs {
		fmt.Fprintf(out, "run: %d\n", run+1)
		for round := range rounds {
			fmt.Fprintf(out, "round: %d\n", round+1)
			log.Printf("%s: run %d of %d, round %d of %d", time.Now().Format(time.TimeOnly), run+1, runs, round+1, rounds)
			for _, g := range groups {
				if brief {
					g.time = "2x" // 1x would be the first run alone, with another -cpu: see repeat in bench_test.go
				}
				if round%g.every != 0 {
					continue
				}
				if err := g.run(out, bin, round); err != nil {
					return err
				}
			}
		}
		g := memory
		if brief {
			g.args = nil
		}
		if err := g.run(out, bin, 0); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "took: %s\nload-after: %s\n", time.Since(began).Round(time.Second), load())
	return nil
}

// run is a group's process in a round, in which peer number turn begins.
func (g group) run(out io.Writer, bin string, turn int) error {
	args := []string{bin, "-test.run", "^$", "-test.bench", g.bench, "-test.benchtime", g.time, "-test.cpu", g.cpu, "-turn", strconv.Itoa(turn)}
	args = append(args, g.args...)
	if !strings.Contains(g.cpu, ",") {
		args = append([]string{"GOMAXPROCS=" + g.cpu}, args...)
	}
	if !g.fips {
		return command(out, "env", args...)
	}
	for range 3 {
		for _, mode := range []string{"off", "only"} {
			fmt.Fprintln(out, "fips: "+mode)
			if err := command(out, "env", append([]string{"GODEBUG=fips140=" + mode}, args...)...); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(out, "fips: off")
	return nil
}

func command(out io.Writer, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return nil
}

// onlyFIPS runs the test of each peer in FIPS 140-3 only mode. Some do not survive it.
func onlyFIPS(out io.Writer, bin string) error {
	names, err := exec.Command(bin, "-test.run", "^TestPeers$", "-test.v").Output()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(names)) {
		name, ok := strings.CutPrefix(line, "=== RUN   TestPeers/")
		if !ok {
			continue
		}
		name, works := strings.TrimSpace(name), 1
		if command(io.Discard, "env", "GODEBUG=fips140=only", bin, "-test.run", "^TestPeers$/^"+name+"$") != nil {
			works = 0
		}
		fmt.Fprintf(out, "BenchmarkFIPS/%s 1 %d works\n", name, works)
	}
	return nil
}

// weigh builds what imports one library and little else: how many modules are in it, and
// how large it is without its symbols. rare are those that not even byok's root has. It is built as for a container, so that
// neither a C compiler, with which Go would link C's resolver, nor the directory's name makes a difference; but not if brief,
// since that compiles all peers anew.
func weigh(out io.Writer, dir string, brief bool) error {
	build := []string{"CGO_ENABLED=0", "go", "build", "-trimpath"}
	if brief {
		build = []string{"go", "build"}
	}
	mains, err := filepath.Glob("link/*")
	if err != nil || len(mains) == 0 {
		return fmt.Errorf("no programs in link: %w", err)
	}
	for _, main := range mains {
		bin := filepath.Join(dir, filepath.Base(main))
		if err := command(os.Stderr, "env", append(build, "-ldflags", "-s -w", "-o", bin, "./"+main)...); err != nil {
			return err
		}
		info, err := buildinfo.ReadFile(bin)
		if err != nil {
			return err
		}
		size, err := os.Stat(bin)
		if err != nil {
			return err
		}
		modules, rare := 0, 0
		for _, m := range info.Deps {
			if m.Path != "github.com/byok-go/byok" {
				modules++
				if m.Path != "golang.org/x/crypto" {
					rare++
				}
			}
		}
		fmt.Fprintf(out, "BenchmarkLink/%s 1 %d modules %d rare %d bytes\n", filepath.Base(main), modules, rare, size.Size())
		if err := os.Remove(bin); err != nil {
			return err
		}
	}
	return nil
}

// load is the load average of the last minute, where the kernel tells.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}
