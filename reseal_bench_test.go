package byok_test

import (
	"context"
	"fmt"
	"sort"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// sorted is a Source in memory that takes hardly any time.
type sorted []byok.Record

func (s sorted) Records(_ context.Context, after, last string, limit int) ([]byok.Record, error) {
	i := sort.Search(len(s), func(i int) bool { return s[i].Key > after })
	return s[i:min(len(s), i+limit)], nil
}

func (s sorted) Replace(_ context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	done := make([]bool, len(records))
	for i := range records {
		j := sort.Search(len(s), func(j int) bool { return s[j].Key >= records[i].Key })
		s[j].Value, done[i] = sealed[i], true
	}
	return done, nil
}

// BenchmarkReseal is one record of 100 bytes, opened and sealed anew in pages of 500, without any database: what the library itself takes.
func BenchmarkReseal(b *testing.B) {
	env := byoktest.New(b, nil)
	acme, _ := env.Tenant("acme")
	s := make(sorted, b.N)
	for i := range s {
		key := fmt.Sprintf("%012d", i)
		sealed, err := env.Keeper.Seal(b.Context(), invoices, make([]byte, 100), []byte(key))
		want(b, "Seal", err, nil)
		s[i] = byok.Record{Key: key, Purpose: "invoices", AAD: []byte(key), Value: sealed}
	}
	_, err := acme.Rotate(b.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(b, "Rotate", err, nil)
	job, err := acme.Reseal(b.Context(), byok.Resealing{Source: "s"})
	want(b, "Reseal", err, nil)
	r, err := acme.Resealer(b.Context(), job.ID, s, &byok.ResealOptions{PerSecond: 1_000_000, Page: 500})
	want(b, "Resealer", err, nil)
	calls := len(env.Fake.Calls())
	b.ReportAllocs()
	b.ResetTimer()
	for cursor, looked := "", 0; looked < b.N; looked += 500 {
		if cursor, _, err = r.Step(b.Context(), 0, cursor); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(env.Fake.Calls())-calls), "kms-calls")
}
