package sqlstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/byok-go/byok"
)

// The parallel benchmarks use eight goroutines, whatever the number of cores:
// they wait for the disk, not for each other's processors.
func parallel8(b *testing.B, f func(n int64) error) {
	var n atomic.Int64
	done := make(chan error, 8)
	b.ResetTimer()
	for range 8 {
		go func() {
			var err error
			for i := n.Add(1); err == nil && i <= int64(b.N); i = n.Add(1) {
				err = f(i)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func serial(b *testing.B, f func(n int64) error) {
	b.ResetTimer()
	for n := range int64(b.N) {
		if err := f(n); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func record(b *testing.B, s *Store) func(n int64) error {
	return func(n int64) error {
		return s.Record(b.Context(), byok.Event{ID: fmt.Sprintf("e%09d", n), Op: byok.OpSeal, Outcome: byok.OutcomeSuccess, Scope: byok.Scope{Tenant: "t"}})
	}
}

func apply(b *testing.B, s *Store) func(n int64) error {
	value := make([]byte, 500)
	return func(n int64) error {
		return s.Apply(b.Context(), byok.Item{Ref: byok.Ref{Partition: "p", ID: fmt.Sprintf("i%09d", n)}, Value: value})
	}
}

func BenchmarkRecord(b *testing.B) {
	b.Run("serial", func(b *testing.B) { s := openStore(b, dbFile(b), ""); serial(b, record(b, s)) })
	b.Run("parallel-8", func(b *testing.B) { s := openStore(b, dbFile(b), ""); parallel8(b, record(b, s)) })
}

func BenchmarkApply(b *testing.B) {
	b.Run("serial", func(b *testing.B) { s := openStore(b, dbFile(b), ""); serial(b, apply(b, s)) })
	b.Run("parallel-8", func(b *testing.B) { s := openStore(b, dbFile(b), ""); parallel8(b, apply(b, s)) })
}

func BenchmarkGet(b *testing.B) {
	s := openStore(b, dbFile(b), "")
	if err := apply(b, s)(0); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Get(b.Context(), byok.Ref{Partition: "p", ID: "i000000000"}); err != nil {
			b.Fatal(err)
		}
	}
}
