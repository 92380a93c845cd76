package byok_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

var silently = &byok.Options{Logger: slog.New(slog.DiscardHandler)}

// fillCarried seals n records so that each carries its data key.
func fillCarried(t *testing.T, env *byoktest.Env, key byok.KeyID, s *table, from, n int) {
	t.Helper()
	d, err := byok.NewDirect(byoktest.Service, env.Keys, key, env.Audit)
	want(t, "NewDirect", err, nil)
	for i := from; i < from+n; i++ {
		sealed, err := d.Seal(t.Context(), invoices, []byte("value of "+recordKey(i)), []byte("invoice/"+recordKey(i)))
		want(t, "Direct.Seal", err, nil)
		s.write(recordKey(i), sealed, false)
	}
}

// Records that carry their data keys take a KMS request each: as many in a second as jobs may have, and none of live traffic's leases goes
// for them.
func TestResealComesBelowLiveTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{JobRequests: 20, Logger: silently.Logger}})
		_, cmk := env.Tenant("acme")
		s := newTable()
		fillCarried(t, env, registration(cmk).Key, s, 0, 2000)
		all := sealMany(t, env.Keeper, 100)
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		ended := make(chan error, 1)
		calls, leases := len(env.Fake.Calls()), env.Keeper.Stats().Leases
		begun := time.Now()
		go func() { ended <- r.Run(t.Context()) }()
		for range 60 {
			time.Sleep(time.Second)
			all.open(t, env.Keeper) // fails if any is throttled
		}
		rate := float64(len(env.Fake.Calls())-calls) / time.Since(begun).Seconds()
		if stats := env.Keeper.Stats(); stats.Leases > leases+3 {
			t.Errorf("%d leases, and %d before", stats.Leases, leases)
		}
		if rate < 15 || rate > 20+2*100/30+3 { // and the renewals of 100 data keys
			t.Errorf("%.1f requests a second", rate)
		}
		want(t, "Run", <-ended, nil)
		if took := time.Since(begun); took < 95*time.Second || took > 200*time.Second {
			t.Errorf("2000 records took %v", took)
		}
		s.all(t, env.NewKeeper(), nil)
	})
}

// A data key that is damaged in the Store fails the records under it, and no others.
func TestResealDamagedDataKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := newTable()
		bad := map[string]bool{}
		for g := range 3 {
			fill(t, env.Keeper, s, 10*g, 10)
			_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
			want(t, "Rotate", err, nil)
		}
		for g, damage := range []func(map[string]any){
			0: func(d map[string]any) { d["header"] = "AAAA" },
			1: func(d map[string]any) {
				h, _ := d["header"].(string)
				d["header"] = h[:len(h)-8] + "AAAAAAAA" // what is wrapped
			},
		} {
			for i := 10 * g; i < 10*g+10; i++ {
				bad[recordKey(i)] = true
			}
			h, err := byok.Inspect(s.read(recordKey(10 * g)).Value)
			want(t, "Inspect", err, nil)
			ref := byok.Ref{Partition: "tenant:acme", ID: "dek:" + h.DataKey.String()}
			item, err := env.Store.Get(t.Context(), ref)
			want(t, "Get", err, nil)
			var d map[string]any
			want(t, "Unmarshal", json.Unmarshal(item.Value, &d), nil)
			damage(d)
			item.Value, err = json.Marshal(d)
			want(t, "Marshal", err, nil)
			want(t, "Apply", env.Store.Apply(t.Context(), item), nil)
		}
		k := env.NewKeeper()
		job, r := beginReseal(t, k, s, byok.Resealing{}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		want(t, "Run", r.Run(ctx), byok.ErrRecordsFailed)
		job, err := k.Tenant("acme").Job(t.Context(), job.ID)
		if err != nil || job.Failed != 20 || job.Done != 10 || len(job.Failures) != 20 {
			t.Errorf("%+v, %v", job, err)
		}
		for _, f := range job.Failures {
			if !bad[f.Key] {
				t.Errorf("%+v", f)
			}
		}
		s.all(t, env.NewKeeper(), bad)
	})
}

// A Source that breaks its promises ends it, and nothing is counted.
func TestResealOddSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 20)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		for name, odd := range map[string]*oddTable{
			"more than was asked for": {table: s, page: func(p []byok.Record) []byok.Record { return append(slices.Clone(p), p...) }},
			"a key twice": {table: s, page: func(p []byok.Record) []byok.Record {
				p[1].Key = p[0].Key
				return p
			}},
			"no key": {table: s, page: func(p []byok.Record) []byok.Record {
				p[1].Key = ""
				return p
			}},
			"fewer answers": {table: s, done: func(d []bool) []bool { return d[1:] }},
		} {
			job, err := acme.Reseal(t.Context(), byok.Resealing{Source: "s"})
			want(t, "Reseal", err, nil)
			r, err := acme.Resealer(t.Context(), job.ID, odd, &byok.ResealOptions{Page: 10})
			want(t, "Resealer", err, nil)
			want(t, name, r.Run(t.Context()), byok.ErrArgument)
			if job, err = acme.Job(t.Context(), job.ID); err != nil || job.Done != 0 || job.State == byok.JobDone {
				t.Errorf("%s: %+v, %v", name, job, err)
			}
		}
	})
}

type oddTable struct {
	*table
	page func([]byok.Record) []byok.Record
	done func([]bool) []bool
}

func (s *oddTable) Records(ctx context.Context, after, last string, limit int) ([]byok.Record, error) {
	p, err := s.table.Records(ctx, after, last, limit)
	if s.page != nil && len(p) > 1 {
		p = s.page(p)
	}
	return p, err
}

func (s *oddTable) Replace(ctx context.Context, records []byok.Record, sealed [][]byte) ([]bool, error) {
	d, err := s.table.Replace(ctx, records, sealed)
	if s.done != nil && err == nil {
		d = s.done(d)
	}
	return d, err
}

// What stops a step does not take back what the step did before: those records are replaced, and the cursor is behind them.
func TestResealStepKeepsWhatItDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{JobRequests: 1, Logger: silently.Logger}})
		_, cmk := env.Tenant("acme")
		s := newTable()
		fillCarried(t, env, registration(cmk).Key, s, 0, 100)
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		var next string
		var err error
		n := 0
		for try := 0; n == 0 && try < 10; try++ { // that the first record of all gets its requests is likely, not certain
			time.Sleep(time.Second)
			var done bool
			if next, done, err = r.Step(t.Context(), 0, next); !errors.Is(err, byok.ErrThrottled) || done {
				t.Fatalf("Step: %v, done %v", err, done)
			}
			for i := range 100 {
				n += s.writes(recordKey(i))
			}
		}
		if n == 0 || n > 20 {
			t.Errorf("%d replaced", n)
		}
		again := next
		for try := 0; again == next && try < 10; try++ { // what was asked for at last may have used up the next requests
			time.Sleep(time.Second)
			again, _, err = r.Step(t.Context(), 0, next)
		}
		if err != nil && !errors.Is(err, byok.ErrThrottled) || again == next {
			t.Errorf("it does not go on: %v", err)
		}
		for i := range 100 {
			if s.writes(recordKey(i)) > 1 {
				t.Errorf("%d was replaced again", i)
			}
		}
	})
}

// Two processes share it, a third sees how far they are, and CancelJob ends both.
func TestResealShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 4000)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		shards, err := s.Split(t.Context(), 8)
		want(t, "Split", err, nil)
		ended := make(chan error, 4)
		run := func(id string) {
			for range 2 {
				r, err := env.NewKeeper().Tenant("acme").Resealer(t.Context(), id, s, &byok.ResealOptions{PerSecond: 50, Page: 10})
				want(t, "Resealer", err, nil)
				go func() { ended <- r.Run(t.Context()) }()
			}
		}
		job, err := acme.Reseal(t.Context(), byok.Resealing{Source: "s", Shards: shards, Total: 3900})
		want(t, "Reseal", err, nil)
		run(job.ID)
		time.Sleep(20 * time.Second)
		now, err := acme.Job(t.Context(), job.ID)
		if err != nil || now.State != byok.JobRunning || now.Done < 1800 || now.Done > 2020 || now.Left != 3900-now.Done || now.Rate < 70 || now.Rate > 130 || now.ETA < 14*time.Second || now.ETA > 30*time.Second {
			t.Errorf("after 20 s at 100 a second: %+v, %v", now, err)
		}
		time.Sleep(25 * time.Second)
		if now, err = acme.Job(t.Context(), job.ID); err != nil || now.State != byok.JobVerifying || now.Done != 4000 || now.Total != 4000 {
			t.Errorf("while the last pass waits: %+v, %v", now, err)
		}
		want(t, "Run", <-ended, nil)
		want(t, "Run", <-ended, nil)
		for i := range 4000 {
			if s.writes(recordKey(i)) != 1 {
				t.Fatalf("%d was replaced %d times", i, s.writes(recordKey(i)))
			}
		}
		_, err = acme.CancelJob(t.Context(), job.ID, "")
		want(t, "CancelJob of what is done", err, byok.ErrArgument)
		job, err = acme.Reseal(t.Context(), byok.Resealing{Source: "s", Shards: shards, Reason: byok.ReasonCompromise})
		want(t, "Reseal", err, nil)
		run(job.ID)
		time.Sleep(10 * time.Second)
		_, err = acme.CancelJob(t.Context(), job.ID, "enough")
		want(t, "CancelJob", err, nil)
		want(t, "Run", <-ended, byok.ErrJobCancelled)
		want(t, "Run", <-ended, byok.ErrJobCancelled)
		if now, err = acme.Job(t.Context(), job.ID); err != nil || now.State != byok.JobCancelled || now.Done == 0 || now.EndedAt.IsZero() {
			t.Errorf("%+v, %v", now, err)
		}
		s.all(t, env.NewKeeper(), nil)
	})
}

// What another key had wrapped before the tenant had its own is warned of until a job that is said to be complete has replaced it.
func TestResealEndsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Platform: true, Keeper: silently})
		k, acme := env.Keeper, env.Keeper.Tenant("acme")
		s := newTable()
		fill(t, k, s, 0, 10)
		_, err := acme.AcknowledgeWaiver(t.Context(), accepted)
		want(t, "AcknowledgeWaiver", err, nil)
		st, err := acme.Register(t.Context(), registration(env.CMK("acme")))
		want(t, "Register", err, nil)
		finish(t, acme, st.Job)
		for i, c := range []struct {
			complete, bad bool
			warned        bool
		}{{false, false, true}, {true, true, true}, {true, false, false}} {
			v := s.read(recordKey(0)).Value
			if c.bad {
				s.write("bad", []byte("bad"), false)
			}
			_, r := beginReseal(t, k, s, byok.Resealing{Complete: c.complete}, nil)
			if err := r.Run(t.Context()); (err != nil) != c.bad {
				t.Errorf("Run: %v", err)
			}
			if st, err = acme.Status(t.Context()); err != nil || (st.OnceElsewhere > 0) != c.warned {
				t.Errorf("job %d: %d, %v, %v", i, st.OnceElsewhere, st.Warnings, err)
			}
			if delete(s.rows, "bad"); i == 0 && bytes.Equal(v, s.read(recordKey(0)).Value) {
				t.Error("it was not re-sealed")
			}
		}
	})
}

// Dual control, and a Keeper that leases nothing.
func TestResealKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{PerOperation: true, Logger: silently.Logger}})
		acme, cmk := env.Tenant("acme")
		leased, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, silently)
		want(t, "New", err, nil)
		defer leased.Close()
		s := newTable()
		fill(t, leased, s, 0, 10) // in the Store
		fill(t, env.Keeper, s, 10, 10)
		s.write(recordKey(20), []byte("value of "+recordKey(20)), true)
		_, err = acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{Adopt: true}, nil)
		want(t, "Run with PerOperation", r.Run(t.Context()), nil)
		for i := range 21 {
			if n := s.writes(recordKey(i)); (n == 1) != (i < 10 || i == 20) {
				t.Errorf("%d was replaced %d times", i, n)
			}
		}
		if due, err := env.Keeper.Due(t.Context(), invoices, s.read(recordKey(15)).Value); due || err != nil {
			t.Errorf("due %v, %v", due, err)
		}
		second := env.CMK("acme")
		job, err := acme.MoveTo(t.Context(), byok.Move{Key: registration(cmk).Key, Others: []byok.KeyID{registration(second).Key}, Policy: byok.PolicyAll})
		want(t, "MoveTo", err, nil)
		finish(t, acme, job.ID)
		for i := range 21 { // those that carry theirs cannot be moved to ALL
			if i >= 10 {
				delete(s.rows, recordKey(i))
			}
		}
		fill(t, leased, s, 0, 10)
		_, r = beginReseal(t, leased, s, byok.Resealing{Reason: byok.ReasonCompromise}, nil)
		want(t, "Run under ALL", r.Run(t.Context()), nil)
		s.all(t, env.NewKeeper(), nil)
		second.Disable()
		time.Sleep(2 * time.Minute)
		_, err = leased.Open(t.Context(), invoices, s.read(recordKey(0)).Value, s.read(recordKey(0)).AAD)
		want(t, "Open with one key", err, byok.ErrKeyDenied)
	})
}

// bucketful are Objects in memory.
type bucketful struct {
	mu      sync.Mutex
	objects map[string]object
	half    bool // Open breaks off half way
	racing  func(key string)
}

type object struct {
	byok.Object
	value  []byte
	writes int
}

func (b *bucketful) put(key string, value []byte, clear bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.objects[key]
	o.Object = byok.Object{Key: key, Purpose: "invoices", AAD: []byte("file/" + key), Clear: clear, Version: o.Version + "'"}
	o.value = value
	b.objects[key] = o
}

func (b *bucketful) Objects(_ context.Context, after, last string, limit int) (out []byok.Object, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(b.objects)) {
		if k > after && (last == "" || k <= last) && len(out) < limit {
			out = append(out, b.objects[k].Object)
		}
	}
	return out, nil
}

func (b *bucketful) Open(_ context.Context, o byok.Object) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have, ok := b.objects[o.Key]
	if !ok {
		return nil, byok.ErrNotFound
	}
	if b.half {
		return io.NopCloser(io.MultiReader(bytes.NewReader(have.value[:len(have.value)/2]), errReader{})), nil
	}
	return io.NopCloser(bytes.NewReader(have.value)), nil
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errTable }

func (b *bucketful) Replace(_ context.Context, o byok.Object, write func(io.Writer) error) (bool, error) {
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		return false, fmt.Errorf("put: %w", err)
	}
	if b.racing != nil {
		b.racing(o.Key)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	have, ok := b.objects[o.Key]
	if !ok || have.Version != o.Version {
		return false, nil
	}
	have.value, have.Version, have.Clear, have.writes = buf.Bytes(), have.Version+"+", false, have.writes+1
	b.objects[o.Key] = have
	return true, nil
}

// Objects of all sizes go through as streams; what is bad is named, what is gone or was written meanwhile is left, and a store of objects that fails is
// waited for.
func TestResealObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		b := &bucketful{objects: map[string]object{}}
		plain := map[string][]byte{}
		for i, n := range []int{0, 1, 65535, 65536, 65537, 1 << 20, 3<<20 + 5} {
			for _, clear := range []bool{false, true} {
				key := fmt.Sprintf("o/%d/%v", i, clear)
				plain[key] = bytes.Repeat([]byte{byte(i + 1)}, n)
				value := plain[key]
				if !clear {
					value = sealObject(t, env.Keeper, value, "file/"+key)
				}
				b.put(key, value, clear)
			}
		}
		damaged := sealObject(t, env.Keeper, make([]byte, 200_000), "file/z1")
		damaged[len(damaged)-1] ^= 1
		b.put("z1", damaged, false)
		b.put("z2", damaged[:100], false)
		b.put("z3", nil, false)
		b.put("z4", []byte("hello"), false)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		job, err := acme.Reseal(t.Context(), byok.Resealing{Source: "bucket", Adopt: true})
		want(t, "Reseal", err, nil)
		r, err := acme.ObjectResealer(t.Context(), job.ID, b, nil)
		want(t, "ObjectResealer", err, nil)
		census, err := r.Census(t.Context())
		if err != nil || census.Records != 18 || census.Clear != 7 || census.Malformed != 3 || census.Due != 15 {
			t.Errorf("%+v, %v", census, err)
		}
		b.half = true
		_, _, err = r.Step(t.Context(), 0, "")
		want(t, "Step with a store that breaks off", err, errTable)
		b.half = false
		raced := false
		b.racing = func(key string) {
			if key == "o/3/false" && !raced {
				raced = true
				plain[key] = []byte("written meanwhile")
				b.put(key, sealObject(t, env.Keeper, plain[key], "file/"+key), false)
			}
		}
		want(t, "Run", r.Run(t.Context()), byok.ErrRecordsFailed)
		if job, err = acme.Job(t.Context(), job.ID); err != nil || job.Done != 14 || job.Failed != 4 || len(job.Failures) != 4 {
			t.Errorf("%+v, %v", job, err)
		}
		fresh := env.NewKeeper()
		for key, p := range plain {
			o := b.objects[key]
			rd, err := fresh.OpenReader(t.Context(), bytes.NewReader(o.value), invoices, o.AAD)
			want(t, "OpenReader", err, nil)
			got, err := io.ReadAll(rd)
			if due, derr := fresh.Due(t.Context(), invoices, o.value); err != nil || !bytes.Equal(got, p) || o.Clear || due || derr != nil {
				t.Errorf("%s: %d bytes, %v; due %v, %v", key, len(got), err, due, derr)
			}
			if wantWrites := map[bool]int{true: 0, false: 1}[key == "o/3/false"]; o.writes != wantWrites {
				t.Errorf("%s was replaced %d times", key, o.writes)
			}
		}
		if !bytes.Equal(b.objects["z1"].value, damaged) {
			t.Error("a damaged object was replaced")
		}
	})
}

func sealObject(t *testing.T, k *byok.Keeper, plain []byte, aad string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := k.SealWriter(t.Context(), &buf, invoices, []byte(aad))
	want(t, "SealWriter", err, nil)
	_, err = w.Write(plain)
	want(t, "Write", err, nil)
	want(t, "Close", w.Close(), nil)
	return buf.Bytes()
}

// The newest checkpoint counts, whoever comes late; and the last shard's ends the job.
func TestResealCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 50)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		job, r := beginReseal(t, env.Keeper, s, byok.Resealing{Shards: []string{recordKey(39)}}, &byok.ResealOptions{Page: 10})
		var cursors []string
		for cursor, done := "", false; !done; {
			if cursor, done, err = r.Step(t.Context(), 0, cursor); err != nil {
				t.Fatal(err)
			}
			cursors = append(cursors, cursor)
		}
		for _, i := range []int{2, 0, 1, 2} {
			want(t, "Checkpoint", r.Checkpoint(t.Context(), 0, cursors[i]), nil)
			if now, err := acme.Job(t.Context(), job.ID); err != nil || now.Done != 30 {
				t.Errorf("after checkpoint %d: %+v, %v", i, now, err)
			}
		}
		if c, err := r.Cursor(t.Context(), 0); err != nil || c != cursors[2] {
			t.Errorf("%s, %v", c, err)
		}
		want(t, "Checkpoint", r.Checkpoint(t.Context(), 0, cursors[len(cursors)-1]), nil)
		if now, err := acme.Job(t.Context(), job.ID); err != nil || now.State != byok.JobRunning || now.Done != 40 {
			t.Errorf("%+v, %v", now, err)
		}
		want(t, "Run", r.Run(t.Context()), nil)
		if _, done, err := r.Step(t.Context(), 1, ""); err != nil || !done {
			t.Errorf("Step of a job that is done: %v, %v", done, err)
		}
	})
}

// A platform that writes a record anyway can ask whether it is due, whether or not there is a lease on its data key.
func TestResealDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, cmk := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 1)
		fillCarried(t, env, registration(cmk).Key, s, 1, 1)
		due := func(k *byok.Keeper, scope byok.Scope, sealed []byte, wanted bool, target error) {
			t.Helper()
			if got, err := k.Due(t.Context(), scope, sealed); got != wanted || !errors.Is(err, target) {
				t.Errorf("due %v, %v; want %v, %v", got, err, wanted, target)
			}
		}
		old, carried := s.read(recordKey(0)).Value, s.read(recordKey(1)).Value
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		fill(t, env.Keeper, s, 2, 1)
		due(env.Keeper, invoices, old, false, nil) // nobody has said so
		due(env.Keeper, invoices, carried, false, nil)
		_, _ = beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		mark := len(env.Fake.Calls())
		for _, k := range []*byok.Keeper{env.Keeper, env.NewKeeper()} {
			due(k, invoices, old, true, nil)
			due(k, invoices, carried, true, nil)
			due(k, invoices, s.read(recordKey(2)).Value, false, nil)
			due(k, invoices, []byte("x"), false, byok.ErrMalformed)
			due(k, byok.Scope{Tenant: "other", Purpose: "invoices"}, old, false, byok.ErrOpen)
			due(k, byok.Scope{Tenant: "acme", Purpose: "mail"}, old, false, byok.ErrOpen)
			due(k, byok.Scope{Tenant: "", Purpose: "mail"}, old, false, byok.ErrArgument)
		}
		if n := len(env.Fake.Calls()) - mark; n != 0 {
			t.Errorf("%d KMS requests", n)
		}
	})
}

// A pass that finds nothing proves nothing while somebody may seal with the generation of before still.
func TestG17_ResealProvesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		late := env.NewKeeper()
		s := newTable()
		fill(t, late, s, 0, 1)
		_, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		fill(t, env.Keeper, s, 0, 10)
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		time.Sleep(30 * time.Second)
		fill(t, late, s, 5, 1)
		want(t, "Run", <-ended, nil)
		if due, err := env.Keeper.Due(t.Context(), invoices, s.read(recordKey(5)).Value); due || err != nil || s.writes(recordKey(5)) != 1 {
			t.Errorf("due %v, %v, replaced %d times", due, err, s.writes(recordKey(5)))
		}
	})
}

// A record that was written between reading and replacing is looked at again, since whoever wrote it may have sealed it long before.
func TestG17_ResealLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: silently})
		acme, _ := env.Tenant("acme")
		s := newTable()
		fill(t, env.Keeper, s, 0, 1)
		old, err := env.Keeper.Seal(t.Context(), invoices, []byte("value of "+recordKey(0)), []byte("invoice/"+recordKey(0)))
		want(t, "Seal", err, nil)
		_, err = acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
		want(t, "Rotate", err, nil)
		time.Sleep(5 * time.Minute) // nobody seals with the generation of before any more
		_, r := beginReseal(t, env.Keeper, s, byok.Resealing{}, nil)
		once := sync.OnceFunc(func() { s.write(recordKey(0), old, false) })
		s.between = func() { once() }
		want(t, "Run", r.Run(t.Context()), nil)
		if due, err := env.Keeper.Due(t.Context(), invoices, s.read(recordKey(0)).Value); due || err != nil {
			t.Errorf("due %v, %v", due, err)
		}
		s.all(t, env.NewKeeper(), nil)
	})
}
