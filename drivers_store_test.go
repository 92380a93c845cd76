package byok_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/storetest"
)

// The Store and the AuditSink of docs/drivers.md: as little as the contracts allow.

// mapStore is a Store for one process, which it ends with.
type mapStore struct {
	mu    sync.Mutex
	items map[byok.Ref]byok.Item
}

func (s *mapStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	if !validPart(r.Partition) || !validPart(r.ID) {
		return byok.Item{}, byok.ErrArgument
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	item, ok := s.items[r]
	if !ok {
		return byok.Item{}, byok.ErrNotFound
	}
	item.Value = bytes.Clone(item.Value) // the map's own copy stays its own
	return item, ctx.Err()
}

func (s *mapStore) List(ctx context.Context, partition, after string, limit int) ([]byok.Item, error) {
	if !validPart(partition) || after != "" && !validPart(after) || limit < 1 || limit > byok.MaxListLimit {
		return nil, byok.ErrArgument
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []byok.Item
	for _, item := range s.items {
		if item.Partition == partition && item.ID > after { // Go compares strings by bytes, as List must
			item.Value = bytes.Clone(item.Value)
			page = append(page, item)
		}
	}
	slices.SortFunc(page, func(a, b byok.Item) int { return strings.Compare(a.ID, b.ID) })
	return page[:min(limit, len(page))], ctx.Err()
}

func (s *mapStore) Apply(ctx context.Context, writes ...byok.Item) error {
	if len(writes) < 1 || len(writes) > byok.MaxApplyWrites {
		return byok.ErrArgument
	}
	seen := map[byok.Ref]bool{}
	for _, w := range writes {
		if !validPart(w.Partition) || !validPart(w.ID) || len(w.Value) < 1 || len(w.Value) > byok.MaxItemValue || seen[w.Ref] {
			return byok.ErrArgument
		}
		seen[w.Ref] = true
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock() // from here to the end nobody else reads or writes: that is what makes it atomic
	defer s.mu.Unlock()
	for _, w := range writes {
		if s.items[w.Ref].Revision != w.Revision { // 0 is a missing item's, and expects one
			return byok.ErrConflict
		}
	}
	for _, w := range writes {
		s.items[w.Ref] = byok.Item{Ref: w.Ref, Revision: w.Revision + 1, Value: bytes.Clone(w.Value)}
	}
	return nil // a Store for data that matters has called fsync before this line
}

func validPart(s string) bool {
	return len(s) >= 1 && len(s) <= byok.MaxRefPart && strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e }) < 0
}

// listSink keeps events in the order of arrival.
type listSink struct {
	mu     sync.Mutex
	known  map[string]bool
	events []byok.Event
}

func (s *listSink) Record(ctx context.Context, e byok.Event) error {
	if !validPart(e.ID) {
		return byok.ErrArgument
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[e.ID] { // deliveries repeat, and the first one stays
		return nil
	}
	s.known[e.ID] = true
	e.Calls = slices.Clone(e.Calls)
	s.events = append(s.events, e)
	return nil // a sink for logs that matter has called fsync before this line
}

func TestExampleStore(t *testing.T) {
	storetest.TestStore(t, func(*testing.T) byok.Store { return &mapStore{items: map[byok.Ref]byok.Item{}} })
	storetest.TestAudit(t, func(*testing.T) byok.AuditSink { return &listSink{known: map[string]bool{}} })
}

// TestDriversCode: every piece of Go in docs/drivers.md and docs/resealing.md stands, line for line, in a file
// that is compiled, and almost all of them in one that a suite runs.
func TestDriversCode(t *testing.T) {
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		files = append(files, unindent(string(b)))
		return err
	})
	want(t, "WalkDir", err, nil)
	for name, least := range map[string]int{"docs/drivers.md": 6, "docs/resealing.md": 4} {
		doc, err := os.ReadFile(name)
		want(t, "ReadFile", err, nil)
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
		if len(blocks) < least {
			t.Fatalf("only %d pieces of code in %s: this test could pass on nothing", len(blocks), name)
		}
		for _, b := range blocks {
			code := "\n" + unindent(b[1])
			if !slices.ContainsFunc(files, func(f string) bool { return strings.Contains(f, code) }) {
				t.Errorf("nothing compiles this piece of %s:\n%s", name, b[1])
			}
		}
	}
}

// unindent is text whose lines begin at the margin.
func unindent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintln(&b, strings.TrimSpace(line))
	}
	return b.String()
}
