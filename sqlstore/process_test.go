package sqlstore_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/internal/fipstest"
	"github.com/byok-go/byok/sqlstore"
)

// The tests in this file start this test binary again as other processes.
const (
	childEnv = "BYOK_TEST_CHILD" // what to do
	fileEnv  = "BYOK_TEST_FILE"
	nameEnv  = "BYOK_TEST_NAME"
)

func TestMain(m *testing.M) {
	var child func(ctx context.Context, s *sqlstore.Store) error
	switch os.Getenv(childEnv) {
	case "":
		fipstest.Main(m)
	case "work":
		child = workForEver
	case "count":
		child = countTogether
	case "follow":
		child = followAndOpen
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sql.Open(sqlstore.Driver, dsn(os.Getenv(fileEnv)))
	if err == nil {
		var s *sqlstore.Store
		if s, err = sqlstore.Open(ctx, db, sqlstore.SQLite); err == nil {
			err = child(ctx, s)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func child(what, path, name string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sqlstore.DriverEnv+"="+sqlstore.Driver, childEnv+"="+what, fileEnv+"="+path, nameEnv+"="+name)
	return cmd
}

const workers = 4

// workForEver writes from many goroutines and says what was acknowledged.
func workForEver(ctx context.Context, s *sqlstore.Store) error {
	var out sync.Mutex
	say := func(err error, a ...any) {
		out.Lock()
		defer out.Unlock()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(a...)
	}
	for g := range workers {
		go func() {
			a, b := byok.Ref{Partition: fmt.Sprint("w", g), ID: "a"}, byok.Ref{Partition: fmt.Sprint("w", g), ID: "b"}
			for {
				i, err := s.Get(ctx, a)
				if err != nil && !errors.Is(err, byok.ErrNotFound) {
					say(err)
				}
				value := []byte(strconv.FormatUint(i.Revision+1, 10))
				err = s.Apply(ctx, byok.Item{Ref: a, Revision: i.Revision, Value: value}, byok.Item{Ref: b, Revision: i.Revision, Value: value})
				say(err, "applied", g, i.Revision+1)
			}
		}()
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d", os.Getenv(nameEnv), g, n)
				say(s.Record(ctx, byok.Event{ID: id, Time: time.Now(), Op: byok.OpSeal, Scope: byok.Scope{Tenant: "t"}}), "recorded", id)
			}
		}()
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestCrash kills a process that applies and records, again and again on the
// same file: what it said was done is there, and no half of an Apply.
func TestCrash(t *testing.T) { sqlstore.EachDriver(t, testCrash) }

func testCrash(t *testing.T) {
	path := file(t)
	applied := make([]uint64, workers)
	recorded := make(map[string]bool)
	const kills = 30
	for round := range kills {
		cmd := child("work", path, fmt.Sprint("r", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if err != nil { // a line that was cut short is no answer
				break
			}
			f := strings.Fields(line)
			switch f[0] {
			case "applied":
				g, _ := strconv.Atoi(f[1])
				applied[g], _ = strconv.ParseUint(f[2], 10, 64)
			case "recorded":
				recorded[f[1]] = true
			default:
				_ = cmd.Process.Kill()
				t.Fatalf("the child says: %s", line)
			}
			if n++; n == 1 {
				time.AfterFunc(rand.N(60*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || n == 0 {
			t.Fatalf("the child was to be killed at work: %v, after %d answers", err, n)
		}
		checkAfterCrash(t, path, applied)
	}
	there := eventIDs(t, open(t, path).db)
	for id := range recorded {
		if !there[id] {
			t.Errorf("event %s was acknowledged and is not there", id)
		}
	}
	var sum uint64
	for _, n := range applied {
		sum += n
	}
	if sum == 0 || len(recorded) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	t.Logf("%d kills, %d applies and %d events acknowledged, %d events there", kills, sum, len(recorded), len(there))
}

func checkAfterCrash(t *testing.T, path string, applied []uint64) {
	t.Helper()
	h := open(t, path)
	defer h.Close()
	for g, acknowledged := range applied {
		items, err := h.List(t.Context(), fmt.Sprint("w", g), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) != 2 {
			if acknowledged == 0 && len(items) == 0 {
				continue
			}
			t.Fatalf("%d items of a pair, %d times acknowledged", len(items), acknowledged)
		}
		a, b := items[0], items[1]
		if a.Revision != b.Revision || string(a.Value) != string(b.Value) || string(a.Value) != strconv.FormatUint(a.Revision, 10) {
			t.Fatalf("half an Apply: revisions %d and %d, values %q and %q", a.Revision, b.Revision, a.Value, b.Value)
		}
		// One more than acknowledged: its answer was cut off by the kill.
		if a.Revision != acknowledged && a.Revision != acknowledged+1 {
			t.Fatalf("revision %d, and %d was acknowledged", a.Revision, acknowledged)
		}
		applied[g] = a.Revision
	}
}

func eventIDs(t *testing.T, db *sql.DB) map[string]bool {
	t.Helper()
	ids := make(map[string]bool)
	rows, err := db.QueryContext(t.Context(), "SELECT id FROM byok_events")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

const counts = 25

// countTogether increments one counter that other processes increment, too.
func countTogether(ctx context.Context, s *sqlstore.Store) error {
	r := byok.Ref{Partition: "p", ID: "counter"}
	for n := 0; n < counts; {
		i, err := s.Get(ctx, r)
		if err != nil && !errors.Is(err, byok.ErrNotFound) {
			return err
		}
		old, _ := strconv.Atoi(string(i.Value))
		own := byok.Item{Ref: byok.Ref{Partition: "p", ID: os.Getenv(nameEnv)}, Revision: uint64(n), Value: []byte("x")}
		switch err = s.Apply(ctx, byok.Item{Ref: r, Revision: i.Revision, Value: []byte(strconv.Itoa(old + 1))}, own); {
		case err == nil:
			n++
		case !errors.Is(err, byok.ErrConflict):
			return err
		}
		if err := s.Record(ctx, byok.Event{ID: fmt.Sprintf("%s-%d", os.Getenv(nameEnv), n), Time: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// TestProcesses starts many processes at once on a file that is not there: one
// makes the schema, none fails, and none loses a count.
func TestProcesses(t *testing.T) { sqlstore.EachDriver(t, testProcesses) }

func testProcesses(t *testing.T) {
	const processes = 8
	for range 3 {
		path := file(t)
		var wg sync.WaitGroup
		for p := range processes {
			wg.Go(func() {
				if out, err := child("count", path, fmt.Sprint("p", p)).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		wg.Wait()
		h := open(t, path)
		i, err := h.Get(t.Context(), byok.Ref{Partition: "p", ID: "counter"})
		if err != nil || string(i.Value) != strconv.Itoa(processes*counts) || i.Revision != processes*counts {
			t.Fatalf("the counter is %q at revision %d after %d counts: %v", i.Value, i.Revision, processes*counts, err)
		}
		if n := len(eventIDs(t, h.db)); n < processes*counts {
			t.Fatalf("%d events of %d", n, processes*counts)
		}
		var versions int
		if err := h.db.QueryRow("SELECT count(*) FROM byok_schema").Scan(&versions); err != nil || versions != 1 {
			t.Fatalf("%d migrations were made, %v", versions, err)
		}
	}
}
