// Command mutate breaks the code on purpose, one named way at a time, and fails
// when the tests do not notice. It works in copies of the tree; run it from the
// root of the repository as .ci/mutate.
//
// A mutation that cannot be applied any more, that does not compile, or whose
// tests do not pass without it is an error and not a success, so that
// this cannot rot in silence.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// mutation replaces old, which must be in file exactly once, with new. One of
// the tests (a pattern for go test -run) of the package in dir must then fail.
type mutation struct {
	name     string
	file     string
	old, new string
	tests    string
	dir      string // "" is the directory of file
}

func (m *mutation) pkg() string {
	if m.dir != "" {
		return "./" + m.dir
	}
	return "./" + filepath.Dir(m.file)
}

// core names the mutations that every run makes: of the lease machine.
var core = regexp.MustCompile(`^lease-`)

// A mutation that makes tests hang is noticed by this. It is longer than the tests of the root
// package take while another mutation is tested beside them.
const timeout = 150 * time.Second

func main() {
	jobs := flag.Int("j", 2, "mutations at a time")
	only := flag.String("run", "", "only mutations whose name matches this pattern")
	part := flag.Int("part", -1, "0 to 31: of what is not at the core only that part of 32")
	list := flag.Bool("list", false, "print the names, and whether they can be applied; run nothing")
	flag.Parse()
	filter, err := regexp.Compile(*only)
	if err != nil {
		fail(err)
	}
	var todo []mutation
	rest, seen := 0, map[string]bool{}
	for _, m := range mutations {
		if seen[m.name] {
			fail(fmt.Errorf("two mutations have the name %s", m.name))
		}
		if seen[m.name] = true; !filter.MatchString(m.name) {
			continue
		}
		if !core.MatchString(m.name) {
			if rest++; *part >= 0 && rest%32 != *part {
				continue
			}
		}
		todo = append(todo, m)
	}
	if *list {
		bad := 0
		for _, m := range todo {
			fmt.Printf("%-34s %s\n", m.name, m.file)
			if b, err := os.ReadFile(m.file); err != nil || bytes.Count(b, []byte(m.old)) != 1 {
				fmt.Println("    cannot be applied any more")
				bad++
			}
		}
		if bad != 0 {
			fail(fmt.Errorf("%d of %d cannot be applied", bad, len(todo)))
		}
		return
	}
	if len(todo) == 0 {
		fail(errors.New("no mutation matches"))
	}
	ok, err := run(todo, *jobs)
	if err != nil {
		fail(err)
	}
	if !ok {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mutate:", err)
	os.Exit(1)
}

func run(todo []mutation, jobs int) (ok bool, err error) {
	root, err := os.Getwd()
	if err != nil {
		return false, err
	}
	trees := make(chan string, jobs)
	for range jobs {
		dir, err := os.MkdirTemp("", "byok-mutate-")
		if err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
		if err := copyTree(dir, root); err != nil {
			return false, err
		}
		trees <- dir
	}

	// Without a mutation everything passes, and each pattern finds a test.
	type key struct{ pkg, tests string }
	var pairs []key
	seen := map[key]bool{}
	for _, m := range todo {
		if k := (key{m.pkg(), m.tests}); !seen[k] {
			seen[k] = true
			pairs = append(pairs, k)
		}
	}
	var mu sync.Mutex
	var bad []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		bad = append(bad, fmt.Sprintf(format, args...))
	}
	start := time.Now()
	each(len(pairs), func(i int) {
		dir := <-trees
		defer func() { trees <- dir }()
		k := pairs[i]
		out, err := goTest(dir, k.pkg, k.tests)
		switch {
		case err != nil:
			note("%s -run '%s' fails without any mutation:\n%s", k.pkg, k.tests, tail(out))
		case bytes.Contains(out, []byte("no tests to run")), !bytes.Contains(out, []byte("ok  \t")):
			note("%s -run '%s' finds no test", k.pkg, k.tests)
		}
	})
	if bad != nil {
		return false, errors.New(strings.Join(bad, "\n"))
	}
	fmt.Printf("%d sets of tests pass without a mutation (%.0f s)\n", len(pairs), time.Since(start).Seconds())

	each(len(todo), func(i int) {
		dir := <-trees
		defer func() { trees <- dir }()
		m, begun := todo[i], time.Now()
		verdict, err := try(dir, m)
		switch {
		case err != nil:
			note("%s: %v", m.name, err)
			verdict = "ERROR"
		case verdict == "SURVIVED":
			note("%s survived in %s: %s -run '%s' does not see it", m.name, m.file, m.pkg(), m.tests)
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%-9s %-34s %-24s %5.1f s\n", verdict, m.name, m.file, time.Since(begun).Seconds())
	})
	for _, b := range bad {
		fmt.Println("\n" + b)
	}
	fmt.Printf("\n%d mutations, %d of them not killed (%.0f s)\n", len(todo), len(bad), time.Since(start).Seconds())
	return bad == nil, nil
}

// each calls f for 0 to n-1, concurrently; f waits for a tree.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// try applies one mutation, runs its tests and takes the mutation back.
func try(dir string, m mutation) (verdict string, err error) {
	file := filepath.Join(dir, m.file)
	before, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(before, []byte(m.old)); n != 1 {
		return "", fmt.Errorf("its text is in %s %d times, not once:\n%s", m.file, n, m.old)
	}
	after := bytes.Replace(before, []byte(m.old), []byte(m.new), 1)
	if bytes.Equal(before, after) {
		return "", errors.New("changes nothing")
	}
	if err := os.WriteFile(file, after, 0o600); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.WriteFile(file, before, 0o600)) }()
	out, terr := goTest(dir, m.pkg(), m.tests)
	switch {
	case terr == nil:
		return "SURVIVED", nil
	case bytes.Contains(out, []byte("build failed]")), bytes.Contains(out, []byte("setup failed]")):
		return "", fmt.Errorf("does not compile:\n%s", tail(out))
	case errors.Is(terr, context.DeadlineExceeded), bytes.Contains(out, []byte("panic: test timed out")):
		return "timed out", nil // a hang is noticed too
	case bytes.Contains(out, []byte("--- FAIL: ")), bytes.Contains(out, []byte("panic: ")), bytes.Contains(out, []byte("fatal error: ")):
		return "killed", nil
	}
	return "", fmt.Errorf("%w, but no test failed:\n%s", terr, tail(out))
}

func goTest(dir, pkg, tests string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout+2*time.Minute) // and time to compile
	defer cancel()
	// -trimpath, so that the copies share compiled packages. No vet: not every
	// mutation is good style.
	cmd := exec.CommandContext(ctx, "go", "test", "-trimpath", "-vet=off", "-count=1", "-failfast",
		"-timeout", timeout.String(), "-run", tests, pkg)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out, err
}

func tail(out []byte) string {
	const most = 2000
	if len(out) > most {
		out = append([]byte("...\n"), out[len(out)-most:]...)
	}
	return strings.TrimSpace(string(out))
}

// copyTree copies what the tests need: everything but git's own and what a demo
// has left behind. (.ci goes along: README.md links to it, and a test follows.)
func copyTree(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && (name == ".git" || name == "byok-data") {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(dst, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dst, rel), b, 0o644)
	})
}
