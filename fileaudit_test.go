package byok_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/storetest"
)

func openFile(t testing.TB, path string) *byok.FileAudit {
	t.Helper()
	a, err := byok.OpenFileAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// lines reads a file as the doc comment of FileAudit tells its readers to: ids
// in order, and how many lines were no events.
func lines(t testing.TB, path string) (ids []string, torn int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for line := range bytes.Lines(b) {
		var e byok.Event
		if json.Unmarshal(line, &e) != nil {
			torn++
			continue
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			ids = append(ids, e.ID)
		}
	}
	return ids, torn
}

func TestFileAuditContract(t *testing.T) {
	storetest.TestAudit(t, func(t *testing.T) byok.AuditSink {
		return openFile(t, filepath.Join(t.TempDir(), "audit.jsonl"))
	})
}

func TestFileAuditLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	a := openFile(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	odd := byok.Event{ID: "odd", Reason: "a\n{\"id\":\"forged\"}\r\u2028", Scope: byok.Scope{Tenant: "t\n{}"}}
	for _, e := range []byok.Event{{ID: "a"}, odd, {ID: "b"}, {ID: "a"}} {
		if err := a.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Record(t.Context(), byok.Event{ID: "no\nid"}); !errors.Is(err, byok.ErrArgument) {
		t.Errorf("an id with a line break: %v", err)
	}
	if ids, torn := lines(t, path); strings.Join(ids, " ") != "a odd b" || torn != 0 {
		t.Errorf("ids %q and %d torn lines", ids, torn)
	}
}

// TestFileAuditTornLine: what a crash cut off swallows no event.
func TestFileAuditTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	whole := `{"id":"whole"}` + "\n"
	for cut := range len(whole) {
		if err := os.WriteFile(path, []byte(whole+whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		a := openFile(t, path)
		if err := a.Record(t.Context(), byok.Event{ID: "next"}); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if ids, _ := lines(t, path); strings.Join(ids, " ") != "whole next" {
			t.Errorf("cut at %d: %q", cut, ids)
		}
	}
}

func TestFileAuditRefusesWhatIsNoFile(t *testing.T) {
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing", "x"), os.DevNull, ""} {
		if a, err := byok.OpenFileAudit(path); err == nil {
			_ = a.Close()
			t.Errorf("opened %q", path)
		}
	}
}

const crashEnv = "BYOK_TEST_FILEAUDIT"

// TestFileAuditCrash kills a process that records from eight goroutines, again
// and again on the same file: every event that it said was recorded is there.
func TestFileAuditCrash(t *testing.T) {
	if path := os.Getenv(crashEnv); path != "" {
		recordForEver(t, path)
	}
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	acknowledged := make(map[string]bool)
	const kills = 30
	for round := range kills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFileAuditCrash$")
		cmd.Env = append(os.Environ(), crashEnv+"="+path, fmt.Sprint("BYOK_TEST_ROUND=", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(out)
		n := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil { // the last line, if any, was cut short by the kill: not an answer
				break
			}
			id, ok := strings.CutPrefix(line, "recorded ")
			if !ok {
				_, _ = io.Copy(io.Discard, r)
				t.Fatalf("the child says: %s", line)
			}
			acknowledged[strings.TrimSpace(id)] = true
			if n++; n == 1 {
				time.AfterFunc(rand.N(20*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || n == 0 {
			t.Fatalf("the child was to be killed at work: %v, after %d events", err, n)
		}
	}
	ids, torn := lines(t, path)
	there := make(map[string]bool)
	for _, id := range ids {
		there[id] = true
	}
	for id := range acknowledged {
		if !there[id] {
			t.Errorf("%s was acknowledged and is not in the file", id)
		}
	}
	t.Logf("%d kills, %d events acknowledged, %d in the file, %d torn lines", kills, len(acknowledged), len(ids), torn)
}

// recordForEver is the child. It does not return.
func recordForEver(t *testing.T, path string) {
	a, err := byok.OpenFileAudit(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var out sync.Mutex
	for g := range 8 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("r%s-g%d-%d", os.Getenv("BYOK_TEST_ROUND"), g, n)
				err := a.Record(t.Context(), byok.Event{ID: id, Reason: strings.Repeat("x", 1+n%5000)})
				out.Lock()
				if err != nil {
					fmt.Println(err)
				} else {
					fmt.Println("recorded", id)
				}
				out.Unlock()
			}
		}()
	}
	time.Sleep(time.Minute) // the parent is long done
	os.Exit(2)
}
