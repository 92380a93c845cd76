package byok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/byok-go/byok"
)

// table is a Source in memory, with what can go wrong with one.
type table struct {
	mu       sync.Mutex
	rows     map[string]*row
	reads    int
	broken   func() error                     // before each call
	torn     bool                             // Replace does half of it, and fails
	between  func()                           // after Records has read
	replaced func(key string, was, is []byte) // of each row
}

type row struct {
	byok.Record
	writes int // by Replace
}

var errTable = errors.New("the table does not answer")

func newTable() *table { return &table{rows: map[string]*row{}} }

func (s *table) fail() error {
	s.reads++
	if s.broken != nil {
		return s.broken()
	}
	return nil
}

func (s *table) Records(_ context.Context, after, last string, limit int) ([]byok.Record, error) {
	s.mu.Lock()
	if err := s.fail(); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	var out []byok.Record
	for _, k := range slices.Sorted(maps.Keys(s.rows)) {
		if k > after && (last == "" || k <= last) && len(out) < limit {
			r := s.rows[k].Record
			r.Value = bytes.Clone(r.Value)
			out = append(out, r)
		}
	}
	s.mu.Unlock()
	if s.between != nil {
		s.between()
	}
	return out, nil
}

func (s *table) Replace(_ context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fail(); err != nil {
		return nil, err
	}
	done := make([]bool, len(records))
	for i, r := range records {
		if s.torn && i >= len(records)/2 {
			return nil, errTable
		}
		have := s.rows[r.Key]
		if done[i] = have != nil && bytes.Equal(have.Value, r.Value) && have.Clear == r.Clear; done[i] {
			if s.replaced != nil {
				s.replaced(r.Key, have.Value, sealed[i])
			}
			have.Value, have.Clear = bytes.Clone(sealed[i]), false
			have.writes++
		}
	}
	return done, nil
}

func (s *table) Split(_ context.Context, n int) (lasts []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.Sorted(maps.Keys(s.rows))
	for i := 1; i < n && len(keys) >= n; i++ {
		lasts = append(lasts, keys[i*len(keys)/n])
	}
	return lasts, nil
}

func (s *table) Count(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.rows)), nil
}

// write is the platform's: it puts a value there whatever was.
func (s *table) write(key string, value []byte, clear bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[key]
	if r == nil {
		r = &row{Record: byok.Record{Key: key, Purpose: "invoices", AAD: []byte("invoice/" + key)}}
		s.rows[key] = r
	}
	r.Value, r.Clear = bytes.Clone(value), clear
}

func (s *table) read(key string) byok.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[key].Record
	r.Value = bytes.Clone(r.Value)
	return r
}

func (s *table) writes(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[key].writes
}

func recordKey(i int) string { return fmt.Sprintf("%06d", i) }

var invoices = byok.Scope{Tenant: "acme", Purpose: "invoices"}
