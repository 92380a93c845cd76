package byok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// fill seals n records as the tenant does now, from number from on.
func fill(t *testing.T, k *byok.Keeper, s *table, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		key := recordKey(i)
		sealed, err := k.Seal(t.Context(), invoices, []byte("value of "+key), []byte("invoice/"+key))
		want(t, "Seal", err, nil)
		s.write(key, sealed, false)
	}
}

// beginReseal begins a job, and returns what works at it.
func beginReseal(t *testing.T, k *byok.Keeper, s *table, r byok.Resealing, opts *byok.ResealOptions) (byok.Job, *byok.Resealer) {
	t.Helper()
	acme := k.Tenant("acme")
	r.Source = "invoices"
	job, err := acme.Reseal(t.Context(), r)
	want(t, "Reseal", err, nil)
	if opts == nil {
		opts = &byok.ResealOptions{PerSecond: 1_000_000}
	}
	w, err := acme.Resealer(t.Context(), job.ID, s, opts)
	want(t, "Resealer", err, nil)
	return job, w
}

// all opens every record, and fails if one is not what it was; but those in except.
func (s *table) all(t *testing.T, k *byok.Keeper, except map[string]bool) {
	t.Helper()
	for key := range s.rows {
		if except[key] {
			continue
		}
		r := s.read(key)
		plain, err := k.Open(t.Context(), invoices, r.Value, r.AAD)
		if err != nil || string(plain) != "value of "+key {
			t.Errorf("%s: %q, %v", key, plain, err)
		}
	}
}

// What is old, carries its data key, or is damaged; and what is new: the job replaces each that is due once, names exactly what does not open,
// and proves that nothing else is left.
func TestReseal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 300)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		fill(t, env.Keeper, s, 300, 300)
		d, err := byok.NewDirect(byoktest.Service, env.Keys, byok.KeyID{Provider: "aws-kms", ID: cmk.ARN()}, env.Audit)
		want(t, "NewDirect", err, nil)
		for i := 600; i < 640; i++ {
			sealed, err := d.Seal(t.Context(), invoices, []byte("value of "+recordKey(i)), []byte("invoice/"+recordKey(i)))
			want(t, "Direct.Seal", err, nil)
			s.write(recordKey(i), sealed, false)
		}
		bad := map[string]bool{}
		for i := range 20 {
			key := recordKey(i * 31)
			bad[key] = true
			v := s.read(key).Value
			switch i % 4 {
			case 0:
				v[len(v)-1] ^= 1
			case 1:
				v = v[:len(v)/2]
			case 2:
				v = []byte("not sealed at all")
			case 3:
				v = s.read(recordKey(i*31 + 1)).Value // another record's
			}
			s.write(key, v, false)
		}
		_, err = acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		fill(t, env.Keeper, s, 640, 60)

		var mu sync.Mutex
		var told []string
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{Shards: []string{recordKey(200), recordKey(400)}, Total: 700}, &byok.ResealOptions{PerSecond: 100_000,
			OnFailure: func(f byok.RecordFailure) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, f.Key)
			}})
		if job.Type != byok.JobReseal || job.Shards != 3 || job.Generation != 3 || job.State != byok.JobRunning {
			t.Errorf("%+v", job)
		}
		census, err := r.Census(t.Context())
		want(t, "Census", err, nil)
		if census.Records != 700 || census.Due != 640-int64(len(malformed(s, bad))) || census.Malformed != int64(len(malformed(s, bad))) || census.Carried == 0 ||
			len(census.DataKeys) != 3 || census.KMSRequests < 40 || census.Dollars <= 0 {
			t.Errorf("%+v", census)
		}
		want(t, "Run", r.Run(t.Context()), byok.ErrRecordsFailed)
		job, err = acme.Job(t.Context(), job.ID)
		want(t, "Job", err, nil)
		var named []string
		for _, f := range job.Failures {
			named = append(named, f.Key)
			if f.Code != "BYOK_008" || f.Why == "" {
				t.Errorf("%+v", f)
			}
		}
		slices.Sort(named)
		if job.State != byok.JobDone || job.Done != 680 || job.Failed != 20 || job.Left != 0 || job.Total != 700 || job.Verified != 700 ||
			len(named) != 20 || slices.ContainsFunc(named, func(k string) bool { return !bad[k] }) || len(slices.Compact(slices.Sorted(slices.Values(told)))) != 20 {
			t.Errorf("%+v; named %v", job, named)
		}
		for i := range 700 {
			if n, due := s.writes(recordKey(i)), i < 640 && !bad[recordKey(i)]; n != map[bool]int{true: 1}[due] {
				t.Errorf("%s was replaced %d times", recordKey(i), n)
			}
		}
		s.all(t, env.NewKeeper(), bad)
		for key, row := range s.rows {
			due, err := env.Keeper.Due(t.Context(), invoices, row.Value)
			if !bad[key] && (due || err != nil) {
				t.Errorf("%s is due: %v", key, err)
			}
		}
		census, err = r.Census(t.Context())
		if err != nil || census.Due+census.Malformed != 20 {
			t.Errorf("left: %+v, %v", census, err)
		}
		want(t, "Run again", r.Run(t.Context()), byok.ErrRecordsFailed)
		counts := map[byok.Op]int{}
		for _, e := range env.Audit.All() {
			if e.Op == byok.OpJob || e.Op == byok.OpReseal {
				counts[e.Op]++
			}
		}
		if counts[byok.OpJob] != 2 || counts[byok.OpReseal] < 7 {
			t.Errorf("%v", counts)
		}
	})
}

func malformed(s *table, bad map[string]bool) (out []string) {
	for key := range bad {
		if _, err := byok.Inspect(s.rows[key].Value); err != nil {
			out = append(out, key)
		}
	}
	return out
}

// Records in clear are sealed, if the job adopts; a job that does not names them. Nothing that looks like an envelope is taken for one.
func TestG18_ResealAdopts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		s := newTable()
		for i := range 250 {
			s.write(recordKey(i), []byte("value of "+recordKey(i)), true)
		}
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		want(t, "Run of a job that does not adopt", r.Run(t.Context()), byok.ErrRecordsFailed)
		if job, err := acme.Job(t.Context(), job.ID); err != nil || job.Failed != 250 || len(job.Failures) != 100 || s.writes(recordKey(0)) != 0 {
			t.Errorf("%+v, %v", job, err)
		}
		sealed, err := env.Keeper.Seal(t.Context(), invoices, []byte("inner"), []byte("invoice/x"))
		want(t, "Seal", err, nil)
		s.write("x", sealed, true)
		_, r = beginReseal(t, env.Keeper, s, byok.Resealing{Adopt: true}, nil)
		want(t, "Run", r.Run(t.Context()), nil)
		if v, err := env.Keeper.Open(t.Context(), invoices, s.read("x").Value, []byte("invoice/x")); err != nil || !bytes.Equal(v, sealed) {
			t.Errorf("what looked like an envelope: %v", err)
		}
		s.all(t, env.NewKeeper(), map[string]bool{"x": true})
		for key, row := range s.rows {
			if row.Clear || row.writes != 1 {
				t.Errorf("%s: clear %v, replaced %d times", key, row.Clear, row.writes)
			}
		}
	})
}

// The tenant stops it, and nothing is replaced any more, not even what had been sealed anew by then; when it lets us in again, the
// job goes on by itself.
func TestG19_ResealStopsAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 2000)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		var denied time.Time
		var after []time.Duration
		s.replaced = func(string, []byte, []byte) {
			if !denied.IsZero() {
				after = append(after, time.Since(denied))
			}
		}
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, &byok.ResealOptions{PerSecond: 20, Page: 10})
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		time.Sleep(10 * time.Second)
		cmk.Disable()
		s.mu.Lock()
		denied = time.Now()
		s.mu.Unlock()
		time.Sleep(3 * time.Minute)
		now, err := acme.Job(t.Context(), job.ID)
		if err != nil || now.State != byok.JobPaused || now.Why != "BYOK_002" || now.Done == 0 || now.Done == 2000 {
			t.Errorf("while it is denied: %+v, %v", now, err)
		}
		for _, d := range after {
			if d > byok.DefaultMaxAge {
				t.Fatalf("replaced %v after the denial", d)
			}
		}
		cmk.Enable()
		s.mu.Lock()
		denied = time.Time{}
		s.mu.Unlock()
		want(t, "Run", <-ended, nil)
		s.all(t, env.NewKeeper(), nil)
		if now, err = acme.Job(t.Context(), job.ID); err != nil || now.State != byok.JobDone || now.Done != 2000 || now.Failed != 0 {
			t.Errorf("%+v, %v", now, err)
		}
	})
}

// A denial that comes between opening and replacing withholds what was sealed: the last question comes after the event.
func TestResealWithholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		audit := &denyOn{op: byok.OpReseal}
		env := byoktest.New(t, nil)
		_, cmk := env.Tenant("acme")
		audit.inner, audit.f = env.Audit, func() {
			cmk.Disable()
			_, err := env.Keeper.Tenant("acme").Health(t.Context())
			_ = err
		}
		k, err := byok.New(byoktest.Service, env.Keys, env.Store, audit, nil)
		want(t, "New", err, nil)
		defer k.Close()
		s := newTable()
		fill(t, k, s, 0, 10)
		_, err = k.Tenant("acme").Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		audit.f = func() {
			cmk.Disable()
			if _, err := k.Tenant("acme").Health(t.Context()); err != nil {
				t.Logf("Health: %v", err)
			}
		}
		_, r := beginReseal(t, k, s, byok.Resealing{}, nil)
		next, done, err := r.Step(t.Context(), 0, "")
		if !errors.Is(err, byok.ErrKeyDenied) || done {
			t.Errorf("Step: %v, done %v", err, done)
		}
		for i := range 10 {
			if s.writes(recordKey(i)) != 0 {
				t.Errorf("%s was replaced after the denial", recordKey(i))
			}
		}
		if next != "" && strings.Contains(next, `"looked":10`) {
			t.Errorf("the cursor goes on: %s", next)
		}
		withheld := 0
		for _, e := range env.Audit.All() {
			if e.Op == byok.OpReseal && e.Outcome == byok.OutcomeWithheld {
				withheld++
			}
		}
		if withheld != 1 {
			t.Errorf("%d withheld events", withheld)
		}
	})
}

// denyOn is an AuditSink during which something happens.
type denyOn struct {
	inner byok.AuditSink
	op    byok.Op
	f     func()
	once  bool
}

func (d *denyOn) Record(ctx context.Context, e byok.Event) error {
	if e.Op == d.op && !d.once {
		d.once = true
		d.f()
	}
	return d.inner.Record(ctx, e)
}

// After a compromise a mere rewrapping is refused, and no generation counts that there was. A reason that only speaks of one would begin none,
// find nothing due, and end with a proof of nothing.
func TestResealCompromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 30)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull, Reason: byok.ReasonCompromise})
		want(t, "Rotate full", err, byok.ErrArgument)
		_, err = acme.Reseal(t.Context(), byok.Resealing{Source: "s", Generation: 1, Reason: byok.ReasonCompromise})
		want(t, "Reseal to a generation that may be known", err, byok.ErrArgument)
		for _, reason := range []string{"Compromise", "compromise ", "compromised", "after the COMPROMISE of host 7"} {
			_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateFull, Reason: reason})
			want(t, "Rotate full: "+reason, err, byok.ErrArgument)
			_, err = acme.Reseal(t.Context(), byok.Resealing{Source: "s", Reason: reason})
			want(t, "Reseal: "+reason, err, byok.ErrArgument)
			_, err = acme.Census(t.Context(), byok.Resealing{Source: "s", Reason: reason}, s, nil)
			want(t, "Census: "+reason, err, byok.ErrArgument)
		}
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{Reason: byok.ReasonCompromise}, nil)
		if job.Generation != 2 {
			t.Errorf("%+v", job)
		}
		want(t, "Run", r.Run(t.Context()), nil)
		for i := range 30 {
			if s.writes(recordKey(i)) != 1 {
				t.Errorf("%s was replaced %d times", recordKey(i), s.writes(recordKey(i)))
			}
		}
	})
}

// A process that has not heard of the rotation seals behind the job's back. The job is not done before that has been found.
func TestG17_ResealFindsStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		s := newTable()
		late := env.NewKeeper() // does not Run
		fill(t, late, s, 500, 1)
		fill(t, env.Keeper, s, 0, 100)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		cursor, done, err := "", false, error(nil)
		var ends []time.Duration
		begun := time.Now()
		for n := 0; !done; n++ {
			if time.Since(begun) < 50*time.Second {
				fill(t, late, s, 200, 1)
				time.Sleep(10 * time.Second)
			}
			cursor, done, err = r.Step(t.Context(), 0, cursor)
			want(t, "Step", err, nil)
			if n > 500 {
				t.Fatalf("no end: %s", cursor)
			}
		}
		ends = append(ends, time.Since(begun))
		if ends[0] < byok.DefaultMaxAge {
			t.Errorf("proved after %v", ends[0])
		}
		for key := range s.rows {
			if due, err := env.Keeper.Due(t.Context(), invoices, s.read(key).Value); due || err != nil {
				t.Errorf("%s is due still: %v", key, err)
			}
		}
		s.all(t, env.NewKeeper(), nil)
		want(t, "Checkpoint", r.Checkpoint(t.Context(), 0, cursor), nil)
		jobs := 0
		for j, err := range acme.Jobs(t.Context()) {
			if err != nil || j.Type == byok.JobReseal && j.State != byok.JobDone {
				t.Errorf("%+v, %v", j, err)
			}
			jobs++
		}
		if jobs != 2 {
			t.Errorf("%d jobs", jobs)
		}
	})
}

// What is no cursor, no job and no Source.
func TestResealArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 5)
		for name, r := range map[string]byok.Resealing{
			"no source":                {},
			"a long source":            {Source: strings.Repeat("x", 201)},
			"a control character":      {Source: "s", Reason: "a\nb"},
			"an empty shard":           {Source: "s", Shards: []string{""}},
			"a shard twice":            {Source: "s", Shards: []string{"a", "a"}},
			"too many shards":          {Source: "s", Shards: make([]string, 256)},
			"a generation to come":     {Source: "s", Generation: 2},
			"less than no records":     {Source: "s", Total: -1},
			"a key that is not UTF-8":  {Source: "s", Shards: []string{"\xff"}},
			"a key that is too long":   {Source: "s", Shards: []string{strings.Repeat("k", 256)}},
			"a key with a line's end ": {Source: "s", Shards: []string{"a\n"}},
		} {
			_, err := acme.Reseal(t.Context(), r)
			want(t, name, err, byok.ErrArgument)
		}
		_, err := env.Keeper.Tenant("nobody").Reseal(t.Context(), byok.Resealing{Source: "s"})
		want(t, "without a key", err, byok.ErrNotRegistered)
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{Shards: []string{recordKey(2)}}, nil)
		other, _ := beginReseal(t, env.Keeper, s, byok.Resealing{Shards: []string{recordKey(2)}}, nil)
		for _, cursor := range []string{"x", "{}", `{"v":1}`, fmt.Sprintf(`{"v":1,"job":%q,"shard":0,"pass":1}`, other.ID),
			fmt.Sprintf(`{"v":1,"job":%q,"shard":1,"pass":1}`, job.ID), fmt.Sprintf(`{"v":2,"job":%q,"shard":0,"pass":1}`, job.ID),
			fmt.Sprintf(`{"v":1,"job":%q,"shard":0,"pass":0}`, job.ID), fmt.Sprintf(`{"v":1,"job":%q,"shard":0,"pass":1,"looked":-1}`, job.ID)} {
			_, _, err := r.Step(t.Context(), 0, cursor)
			want(t, "Step "+cursor, err, byok.ErrArgument)
			want(t, "Checkpoint "+cursor, r.Checkpoint(t.Context(), 0, cursor), byok.ErrArgument)
		}
		for _, shard := range []int{-1, 2} {
			_, _, err := r.Step(t.Context(), shard, "")
			want(t, "Step of no shard", err, byok.ErrArgument)
			_, err = r.Cursor(t.Context(), shard)
			want(t, "Cursor of no shard", err, byok.ErrArgument)
		}
		_, err = acme.Resealer(t.Context(), strings.Repeat("0", 32), s, nil)
		want(t, "no job", err, byok.ErrJobNotFound)
		rotation, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		_, err = acme.Resealer(t.Context(), rotation.ID, s, nil)
		want(t, "a rotation", err, byok.ErrArgument)
		_, err = acme.Resealer(t.Context(), job.ID, nil, nil)
		want(t, "no source", err, byok.ErrArgument)
		_, err = acme.Resealer(t.Context(), job.ID, s, &byok.ResealOptions{Page: 1001})
		want(t, "a page too large", err, byok.ErrArgument)
		for _, err := range acme.RunJob(t.Context(), job.ID) {
			want(t, "RunJob", err, byok.ErrArgument)
		}
		_, err = acme.CancelJob(t.Context(), job.ID, "")
		want(t, "CancelJob", err, nil)
		want(t, "Run of a job that was cancelled", r.Run(t.Context()), byok.ErrJobCancelled)
		_, _, err = r.Step(t.Context(), 0, "")
		want(t, "Step of it", err, byok.ErrJobCancelled)
	})
}
