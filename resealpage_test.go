package byok_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// Records whose keys cannot be keys, which whoever may name a file makes, are named and passed by, wherever they are and however many: alone, in a row,
// at the ends of pages and of shards. The others are done, each once, and the counts are exact.
func TestG19_ResealOddKeys(t *testing.T) {
	long := strings.Repeat("k", byok.MaxRecordKey+1)
	for name, odd := range map[string][]string{
		"first":             {"\x1b[2J"},
		"in the middle":     {recordKey(3) + "\n", recordKey(4) + long, recordKey(9) + "\x00"},
		"a row of them":     {recordKey(3) + "\n1", recordKey(3) + "\n2", recordKey(3) + "\n3", recordKey(3) + "\n4", recordKey(3) + "\n5", recordKey(3) + "\n6", recordKey(3) + "\n7"},
		"last of a page":    {recordKey(2) + "\n"},
		"last of all":       {recordKey(98) + "\n", recordKey(99) + "\n", "\xff"},
		"around the border": {recordKey(10) + "\n", recordKey(9) + "\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			env := byoktest.New(t, &byoktest.Options{Keeper: silently})
			acme, _ := env.Tenant("acme")
			s := newTable()
			fill(t, env.Keeper, s, 0, 20)
			for _, key := range odd {
				s.write(key, []byte("whatever"), false)
			}
			objects := &bucketful{objects: map[string]object{}}
			for i := range 20 {
				objects.put(recordKey(i), sealObject(t, env.Keeper, []byte("x"), "file/"+recordKey(i)), false)
			}
			for _, key := range odd {
				objects.put(key, []byte("whatever"), false)
			}
			_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
			want(t, "Rotate", err, nil)
			for _, kind := range []string{"rows", "objects"} {
				job, err := acme.Reseal(t.Context(), byok.Resealing{Source: kind, Shards: []string{recordKey(10)}})
				want(t, "Reseal", err, nil)
				r, err := acme.Resealer(t.Context(), job.ID, s, &byok.ResealOptions{Page: 4})
				if kind == "objects" {
					r, err = acme.ObjectResealer(t.Context(), job.ID, objects, &byok.ResealOptions{Page: 4})
				}
				want(t, "Resealer", err, nil)
				census, err := r.Census(t.Context())
				if err != nil || census.Records != int64(20+len(odd)) || census.Malformed != int64(len(odd)) || census.Due != 20 {
					t.Errorf("%s, %s: %+v, %v", kind, name, census, err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				want(t, kind+" with an odd key "+name, r.Run(ctx), byok.ErrRecordsFailed)
				j, err := acme.Job(t.Context(), job.ID)
				if err != nil || j.State != byok.JobDone || j.Done != 20 || j.Failed != int64(len(odd)) || j.Total != int64(20+len(odd)) || len(j.Failures) != len(odd) {
					t.Fatalf("%s, %s: %+v, %v", kind, name, j, err)
				}
				for _, key := range odd {
					if text := fmt.Sprintf("%+q", key); !slices.ContainsFunc(j.Failures, func(f byok.RecordFailure) bool {
						return f.Code == "BYOK_014" && len(f.Key) <= byok.MaxRecordKey && strings.HasPrefix(text, f.Key)
					}) {
						t.Errorf("%s, %s: %q is not named in %+v", kind, name, key, j.Failures)
					}
				}
			}
			for i := range 20 {
				if s.writes(recordKey(i)) != 1 || objects.objects[recordKey(i)].writes != 1 {
					t.Errorf("%s: %d was replaced %d and %d times", name, i, s.writes(recordKey(i)), objects.objects[recordKey(i)].writes)
				}
			}
		})
	}
}
