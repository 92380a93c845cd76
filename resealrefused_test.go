package byok_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// constrained is a table in which constraints are against some records, as a database tells it: of all in one statement that one of them is
// refused, with nothing replaced.
type constrained struct {
	*table
	against map[string]bool
	calls   int
}

func (s *constrained) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	s.calls++
	if slices.ContainsFunc(records, func(r byok.Record) bool { return s.against[r.Key] }) {
		return nil, fmt.Errorf("%w: SQLSTATE 23514", byok.ErrRecordRefused)
	}
	return s.table.Replace(ctx, records, sealed)
}

// A record that the table does not let be replaced is named, exactly that one, and the others are done: it is no reason to wait for ever.
func TestG19_ResealRefusedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := &constrained{table: newTable(), against: map[string]bool{}}
		fill(t, env.Keeper, s.table, 0, 300)
		for _, i := range []int{0, 7, 8, 150, 299} {
			s.against[recordKey(i)] = true
		}
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		job, err := acme.Reseal(t.Context(), byok.Resealing{Source: "invoices"})
		want(t, "Reseal", err, nil)
		r, err := acme.Resealer(t.Context(), job.ID, s, nil)
		want(t, "Resealer", err, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		want(t, "Run", r.Run(ctx), byok.ErrRecordsFailed)
		j, err := acme.Job(t.Context(), job.ID)
		if err != nil || j.State != byok.JobDone || j.Failed != 5 || j.Done != 295 || len(j.Failures) != 5 {
			t.Fatalf("%+v, %v", j, err)
		}
		for _, f := range j.Failures {
			if !s.against[f.Key] || f.Code != "BYOK_014" || f.Why == "" {
				t.Errorf("%+v", f)
			}
		}
		for i := range 300 {
			if n := s.writes(recordKey(i)); n != map[bool]int{false: 1}[s.against[recordKey(i)]] {
				t.Errorf("%d was replaced %d times", i, n)
			}
		}
		if s.calls > 2*(3+5*2*8) { // two passes of three pages, of which each has halves for a bad record
			t.Errorf("%d calls", s.calls)
		}
		s.all(t, env.Keeper, nil)
	})
}

// private is a store of objects, of which some may not be read, and some not be written.
type private struct {
	*bucketful
	unread, unwritten string
}

func (b *private) Open(ctx context.Context, o byok.Object) (io.ReadCloser, error) {
	if o.Key == b.unread {
		return nil, fmt.Errorf("%w: permission denied", byok.ErrRecordRefused)
	}
	return b.bucketful.Open(ctx, o)
}

func (b *private) Replace(ctx context.Context, o byok.Object, write func(io.Writer) error) (bool, error) {
	if o.Key == b.unwritten {
		if err := write(io.Discard); err != nil {
			return false, err
		}
		return false, fmt.Errorf("%w: permission denied", byok.ErrRecordRefused)
	}
	return b.bucketful.Replace(ctx, o, write)
}

func TestG19_ResealRefusedObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		b := &private{&bucketful{objects: map[string]object{}}, "b", "d"}
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			b.put(key, sealObject(t, env.Keeper, []byte("object "+key), "file/"+key), false)
		}
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		for _, unread := range []string{"b", "g"} { // sealed, and in clear
			b.unread = unread
			b.put("g", []byte("in clear"), true)
			job, err := acme.Reseal(t.Context(), byok.Resealing{Source: "files", Adopt: true})
			want(t, "Reseal", err, nil)
			r, err := acme.ObjectResealer(t.Context(), job.ID, b, nil)
			want(t, "ObjectResealer", err, nil)
			census, err := r.Census(t.Context())
			if err != nil || census.Records != 7 || census.Malformed != map[string]int64{"b": 1}[unread] {
				t.Errorf("%+v, %v", census, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			want(t, "Run", r.Run(ctx), byok.ErrRecordsFailed)
			j, err := acme.Job(t.Context(), job.ID)
			if err != nil || j.State != byok.JobDone || j.Failed != 2 || j.Done != 5 || len(j.Failures) != 2 ||
				!slices.ContainsFunc(j.Failures, func(f byok.RecordFailure) bool { return f.Key == unread && f.Code == "BYOK_014" }) ||
				!slices.ContainsFunc(j.Failures, func(f byok.RecordFailure) bool { return f.Key == "d" }) {
				t.Errorf("%+v, %v", j, err)
			}
		}
	})
}
