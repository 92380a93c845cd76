package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
)

// memory is a simple Source, and Objects, right unless a field makes it wrong.
type memory struct {
	mu      sync.Mutex
	records map[string]memRecord
	writes  int
	broken  bool

	less    func(a, b string) int
	page    func(page []byok.Record, limit int) []byok.Record
	matches func(have memRecord, r byok.Record) bool
	done    func(did bool) bool
	store   func(have memRecord, sealed []byte) memRecord
	gap     bool // others may come between the comparison and the write
	share   bool // slices are not copied
	split   func(lasts []string) []string
	count   func(n int64) int64
	say     func(err error, values ...[]byte) error
	ignore  bool // of ctx
	partial bool // an object is replaced as it is written
	stale   bool // Open reads what is there now
	ghosts  bool // replacing makes what is gone
}

type memRecord struct {
	value   []byte
	clear   bool
	version int
}

func newMemory(fault func(*memory)) *memory {
	m := &memory{records: map[string]memRecord{},
		less: strings.Compare,
		page: func(page []byok.Record, limit int) []byok.Record { return page[:min(limit, len(page))] },
		matches: func(have memRecord, r byok.Record) bool {
			return bytes.Equal(have.value, r.Value) && have.clear == r.Clear
		},
		done:  func(did bool) bool { return did },
		store: func(_ memRecord, sealed []byte) memRecord { return memRecord{value: sealed} },
		split: func(lasts []string) []string { return lasts },
		count: func(n int64) int64 { return n },
		say:   func(err error, _ ...[]byte) error { return err },
	}
	fault(m)
	return m
}

func (m *memory) clone(b []byte) []byte {
	if m.share {
		return b
	}
	return bytes.Clone(b)
}

var errOutage = errors.New("an outage")

func (m *memory) ready(ctx context.Context, values ...[]byte) error {
	if m.broken {
		return m.say(errOutage, values...)
	}
	if err := ctx.Err(); err != nil && !m.ignore {
		return m.say(err, values...)
	}
	return nil
}

func (m *memory) Records(ctx context.Context, after, last string, limit int) ([]byok.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var page []byok.Record
	for key, r := range m.records {
		if (after == "" || m.less(key, after) > 0) && (last == "" || m.less(key, last) <= 0) {
			page = append(page, byok.Record{Key: key, Purpose: "p", AAD: []byte("aad of " + key), Value: m.clone(r.value), Clear: r.clear, Version: fmt.Sprint(r.version)})
		}
	}
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(page, func(a, b byok.Record) int { return m.less(a.Key, b.Key) })
	return m.page(page, limit), nil
}

func (m *memory) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	done := make([]bool, len(records))
	for i, r := range records {
		if err := m.ready(ctx, r.Value, sealed[i]); err != nil {
			return nil, err
		}
		have, ok := m.records[r.Key]
		did := (ok || m.ghosts) && m.matches(have, r)
		if m.gap {
			for was, n := m.writes, 0; m.writes == was && n < 20; n++ { // until somebody has, or nobody is there
				m.mu.Unlock()
				time.Sleep(50 * time.Microsecond)
				m.mu.Lock()
			}
		}
		if did {
			m.writes++
			n := m.store(have, m.clone(sealed[i]))
			n.version = m.writes
			m.records[r.Key] = n
		}
		done[i] = m.done(did)
	}
	return done, nil
}

func (m *memory) Split(ctx context.Context, n int) ([]string, error) {
	all, err := m.Records(ctx, "", "", 1<<30)
	var lasts []string
	for i := 1; i < n && len(all) >= n; i++ {
		lasts = append(lasts, all[i*len(all)/n].Key)
	}
	return m.split(lasts), err
}

func (m *memory) Count(ctx context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count(int64(len(m.records))), m.ready(ctx)
}

func (m *memory) place() Place {
	return Place{
		Source: m,
		Put: func(key string, value []byte, inClear bool) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.writes++
			m.records[key] = memRecord{bytes.Clone(value), inClear, m.writes}
			return nil
		},
		Get: func(key string) ([]byte, bool, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			r, ok := m.records[key]
			if !ok {
				return nil, false, byok.ErrNotFound
			}
			return bytes.Clone(r.value), r.clear, nil
		},
		Delete: func(key string) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.records, key)
			return nil
		},
		Same:  func(key string) (string, []byte) { return "p", []byte("aad of " + key) },
		Break: func() { m.mu.Lock(); m.broken = true; m.mu.Unlock() },
	}
}

// streams is memory as Objects.
type streams struct{ m *memory }

func (s streams) Objects(ctx context.Context, after, last string, limit int) (out []byok.Object, err error) {
	records, err := s.m.Records(ctx, after, last, limit)
	for _, r := range records {
		out = append(out, byok.Object{Key: r.Key, Purpose: r.Purpose, AAD: r.AAD, Clear: r.Clear, Version: r.Version})
	}
	return out, err
}

func (s streams) Split(ctx context.Context, n int) ([]string, error) { return s.m.Split(ctx, n) }
func (s streams) Count(ctx context.Context) (int64, error)           { return s.m.Count(ctx) }

func (s streams) Open(ctx context.Context, o byok.Object) (io.ReadCloser, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	r, ok := s.m.records[o.Key]
	if err := s.m.ready(ctx); err != nil {
		return nil, err
	}
	if s.m.stale {
		return io.NopCloser(bytes.NewReader(r.value)), nil
	}
	if !ok {
		return nil, byok.ErrNotFound
	}
	if fmt.Sprint(r.version) != o.Version {
		return nil, errors.New("it has changed")
	}
	return io.NopCloser(bytes.NewReader(bytes.Clone(r.value))), nil
}

func (s streams) Replace(ctx context.Context, o byok.Object, write func(io.Writer) error) (bool, error) {
	var b bytes.Buffer
	err := write(&b)
	if err != nil && !s.m.partial {
		return false, err
	}
	s.m.mu.Lock()
	have := s.m.records[o.Key]
	s.m.mu.Unlock()
	if fmt.Sprint(have.version) != o.Version {
		return false, s.m.ready(ctx)
	}
	done, rerr := s.m.Replace(ctx, []byok.Record{{Key: o.Key, Value: have.value, Clear: have.clear}}, [][]byte{b.Bytes()})
	return rerr == nil && done[0], errors.Join(err, rerr)
}

func (m *memory) objects() Place {
	p := m.place()
	p.Source, p.Objects = nil, streams{m}
	return p
}

func TestSuiteAcceptsMemory(t *testing.T) {
	Test(t, func(*testing.T) Place { return newMemory(func(*memory) {}).place() })
	Test(t, func(*testing.T) Place { return newMemory(func(*memory) {}).objects() })
}

func TestSuiteDetectsFaults(t *testing.T) {
	faults := []struct {
		name, by string
		fault    func(m *memory)
	}{
		{"a page too long", "paging", func(m *memory) { m.page = func(p []byok.Record, _ int) []byok.Record { return p } }},
		{"a page without its last", "paging", func(m *memory) {
			m.page = func(p []byok.Record, n int) []byok.Record { return p[:max(0, min(n, len(p))-1)] }
		}},
		{"an order that depends on the page", "paging", func(m *memory) {
			m.page = func(p []byok.Record, n int) []byok.Record {
				if p = p[:min(n, len(p))]; n > 20 {
					slices.Reverse(p)
				}
				return p
			}
		}},
		{"shards of another order", "shards", func(m *memory) {
			m.split = func(l []string) []string { slices.Reverse(l); return l }
		}},
		{"shards of no records", "shards", func(m *memory) {
			m.split = func(l []string) []string {
				for i := range l {
					l[i] = fmt.Sprint("zzz", i)
				}
				return l
			}
		}},
		{"a wrong count", "count", func(m *memory) { m.count = func(n int64) int64 { return 10 * n } }},
		{"a write is undone", "a write of the platform's stays", func(m *memory) { m.matches = func(memRecord, byok.Record) bool { return true } }},
		{"what was deleted comes back", "a write of the platform's stays", func(m *memory) {
			m.ghosts = true
			m.matches = func(have memRecord, r byok.Record) bool {
				return have.value == nil || bytes.Equal(have.value, r.Value)
			}
		}},
		{"a beginning that is the same", "a write of the platform's stays", func(m *memory) {
			m.matches = func(have memRecord, r byok.Record) bool { return bytes.HasPrefix(have.value, r.Value) }
		}},
		{"says that it did", "replaced", func(m *memory) { m.done = func(bool) bool { return true } }},
		{"says that it did not", "replaced", func(m *memory) { m.done = func(bool) bool { return false } }},
		{"a gap between comparing and writing", "live writers", func(m *memory) { m.gap = true }},
		{"two win", "two at once", func(m *memory) { m.gap = true }},
		{"it shares slices", "what is given stays the caller's", func(m *memory) { m.share = true }},
		{"the mark stays", "adopted", func(m *memory) {
			m.store = func(have memRecord, sealed []byte) memRecord { return memRecord{value: sealed, clear: have.clear} }
		}},
		{"the mark is not compared", "adopted meanwhile", func(m *memory) {
			m.matches = func(have memRecord, r byok.Record) bool { return bytes.Equal(have.value, r.Value) }
		}},
		{"the values are in its errors", "an outage", func(m *memory) {
			m.say = func(err error, v ...[]byte) error { return fmt.Errorf("%w: %q", err, v) }
		}},
		{"the values are in errors as numbers", "an outage", func(m *memory) {
			m.say = func(err error, v ...[]byte) error { return fmt.Errorf("wrapped: %w", fmt.Errorf("%w: %#v", err, v)) }
		}},
		{"it does not look at ctx", "ctx is done", func(m *memory) { m.ignore = true }},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { detects(t, f.by, func() Place { return newMemory(f.fault).place() }) })
	}
	ofObjects := []struct {
		name, by string
		fault    func(m *memory)
	}{
		{"half an object", "objects whole or not at all", func(m *memory) { m.partial = true }},
		{"another object is read", "objects whole or not at all", func(m *memory) { m.stale = true }},
		{"a gap between comparing and writing", "live writers", func(m *memory) { m.gap = true }},
	}
	for _, f := range ofObjects {
		t.Run("objects: "+f.name, func(t *testing.T) { detects(t, f.by, func() Place { return newMemory(f.fault).objects() }) })
	}
}

// detects checks that a fault fails the case that is there for it.
func detects(t *testing.T, by string, open func() Place) {
	t.Helper()
	i := slices.IndexFunc(cases, func(c testCase) bool { return c.name == by })
	if i < 0 {
		t.Fatalf("no case %q", by)
	}
	said := ""
	for range 20 { // what depends on chance gets some
		if said = failure(t, func(f tb) { cases[i].run(newPlace(f, open())) }); said != "" {
			t.Logf("%q says: %s", by, strings.SplitN(said, "\n", 2)[0])
			return
		}
	}
	t.Fatalf("the case %q passes", by)
}

// fakeTB is a test that may fail.
type fakeTB struct {
	testing.TB
	mu    sync.Mutex
	first string
}

func (f *fakeTB) Helper()             {}
func (f *fakeTB) Logf(string, ...any) {}

func (f *fakeTB) Errorf(s string, a ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == "" {
		f.first = fmt.Sprintf(s, a...)
	}
}

func (f *fakeTB) Fatalf(s string, a ...any) { f.Errorf(s, a...); runtime.Goexit() }

// failure runs a case and returns the message with which it failed, "" if it passed.
func failure(t *testing.T, run func(f tb)) string {
	f := &fakeTB{TB: t}
	done := make(chan struct{})
	go func() { defer close(done); run(f) }()
	<-done
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first
}
