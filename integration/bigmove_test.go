package integration

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
)

var (
	moveKeys    = flag.Int("movekeys", 300, "data keys of TestMoveUnderLoad, in hundreds")
	moveRecords = flag.Int("moverecords", 10_000, "records of TestMoveUnderLoad, at least as many")
	moveWindow  = flag.Duration("movewindow", time.Second, "how long TestMoveUnderLoad measures before the move and after it")
)

// The kinds of operations that are measured. A cold Open is of any record there is, so its data key is in no
// memory, mostly, and KMS is asked; there are only some of these a second.
var bigOps = []string{"Seal", "Open", "cold Open"}

// Phases of a move.
const (
	beforeMove = iota
	duringMove
	meetSwitch // until each data key in use has been unwrapped once under the new CMK
	afterMove
	phases
)

var bigPhases = []string{"before", "during", "right after", "after"}

// bigLoad is what clients do all the time.
type bigLoad struct {
	b     *bigTenant
	k     *byok.Keeper
	phase atomic.Int32
	stop  chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	took   [phases][3][]time.Duration // by phase and operation
	sealed [phases][]bigRecord        // some of what they sealed meanwhile, by phase
}

func (b *bigTenant) load(k *byok.Keeper) *bigLoad {
	l := &bigLoad{b: b, k: k, stop: make(chan struct{})}
	for n := range 4 { // each begins elsewhere
		l.again(0, n*25, 0, func(i int) error { return l.seal(bigRecord{n: i}) })
		l.again(1, n*len(b.hot)/4, 0, func(i int) error { return b.open(k, b.hot[i%len(b.hot)]) })
	}
	l.again(2, 0, 20*time.Millisecond, func(i int) error { return b.open(k, b.cold[i%len(b.cold)]) })
	return l
}

func (l *bigLoad) again(op, first int, pause time.Duration, f func(i int) error) {
	l.wg.Go(func() {
		for i := first; ; i += 7919 { // a prime: all purposes and generations have their turn
			select {
			case <-l.stop:
				return
			case <-time.After(pause):
			}
			phase, begun := l.phase.Load(), time.Now()
			if err := f(i); err != nil {
				l.b.t.Errorf("%s %s the move: %v", bigOps[op], bigPhases[phase], err)
				return
			}
			d := time.Since(begun)
			l.mu.Lock()
			l.took[phase][op] = append(l.took[phase][op], d)
			l.mu.Unlock()
		}
	})
}

func (l *bigLoad) seal(r bigRecord) (err error) {
	phase := l.phase.Load()
	r.sealed, err = l.k.Seal(context.Background(), r.scope(l.b.id), []byte(r.plain()), r.aad())
	l.mu.Lock()
	defer l.mu.Unlock()
	if some := &l.sealed[phase]; err == nil && len(*some) < 50_000 {
		*some = append(*some, r)
	}
	return err
}

func (b *bigTenant) open(k *byok.Keeper, r bigRecord) error {
	plain, err := k.Open(context.Background(), r.scope(b.id), r.sealed, r.aad())
	if err == nil && string(plain) != r.plain() {
		err = fmt.Errorf("record %d is not what it was", r.n)
	}
	return err
}

// window measures for a while, and on a very busy machine until there is something to say.
func (l *bigLoad) window(phase int) {
	time.Sleep(*moveWindow)
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(50 * time.Millisecond) {
		l.mu.Lock()
		enough := true
		for op, n := range []int{500, 500, 20} {
			enough = enough && len(l.took[phase][op]) >= n
		}
		if l.mu.Unlock(); enough {
			return
		}
	}
}

// end stops it and tells how it went in each phase, which took as long as spent says.
func (l *bigLoad) end(spent [phases]time.Duration) {
	t := l.b.t
	close(l.stop)
	l.wg.Wait()
	for op, name := range bigOps {
		var rate [phases]float64
		var p99 [phases]time.Duration
		for phase, took := range l.took {
			d := took[op]
			if phase == meetSwitch && len(d) == 0 {
				continue
			}
			if phase != meetSwitch && len(d) < 10 {
				t.Errorf("%s, %s: %d of them, too few to say anything", name, bigPhases[phase], len(d))
				return
			}
			slices.Sort(d)
			rate[phase], p99[phase] = float64(len(d))/spent[phase].Seconds(), d[len(d)*99/100]
			t.Logf("%-9s %-11s the move: %7.0f a second, median %v, p99 %v, at most %v", name, bigPhases[phase], rate[phase],
				d[len(d)/2].Round(10*time.Microsecond), p99[phase].Round(10*time.Microsecond), d[len(d)-1].Round(10*time.Microsecond))
		}
		// Wide, since the machine has other things to do. That anything waits for the move to end is what must not be.
		for _, phase := range []int{duringMove, afterMove} {
			if rate[phase] < rate[beforeMove]/20 {
				t.Errorf("%s: %.0f a second %s the move, and %.0f before", name, rate[phase], bigPhases[phase], rate[beforeMove])
			}
			if most := max(20*p99[beforeMove], 3*time.Second); p99[phase] > most {
				t.Errorf("%s: p99 is %v %s the move, and %v before", name, p99[phase], bigPhases[phase], p99[beforeMove])
			}
		}
	}
}

// A tenant with as many data keys and records as the flags say moves to another CMK under load. KMS is asked twice for
// each data key where it may rewrap by itself, and three times elsewhere, beside the probes; no record is touched, and
// all of them open when the old CMK is out of reach.
func TestMoveUnderLoad(t *testing.T) {
	if *moveKeys < bigHot || *moveKeys%bigPurposes != 0 || *moveRecords < *moveKeys {
		t.Fatal("-movekeys must be hundreds, 300 at least, and not more than -moverecords")
	}
	eachDatabase(t, func(t *testing.T, empty func() *site) {
		s := empty()
		moveUnderLoad(t, s, s.driver == "sqlite3")
	})
}

func moveUnderLoad(t *testing.T, s *site, granted bool) {
	b := newBigTenant(t, s, granted)
	before, n := b.fingerprint()
	if n != *moveRecords {
		t.Fatalf("%d records of %d", n, *moveRecords)
	}
	s.fake.Latency(10 * time.Millisecond)
	defer s.fake.Latency(0)
	clients, _ := b.process("clients", nil)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = clients.Run(ctx) })
	mover, store := b.process("mover", nil)
	each := func() { // data key in constant use
		parallel(t, len(b.first), func(i int) error { return b.open(clients, b.first[i]) })
	}
	each() // so that "before" is not a start
	l := b.load(clients)
	var spent [phases]time.Duration
	phase := func(n int, f func()) {
		begun := time.Now()
		l.phase.Store(int32(n))
		f()
		spent[n] = time.Since(begun)
	}
	phase(beforeMove, func() { l.window(beforeMove) })
	s.fake.ResetCalls()
	var job byok.Job
	phase(duringMove, func() {
		var err error
		if job, err = mover.Tenant(b.id).Move(t.Context(), awskms.Key(b.next.ARN()), "new account"); err != nil {
			t.Fatal(err)
		}
		for job, err = range mover.Tenant(b.id).RunJob(t.Context(), job.ID) {
			if err != nil {
				t.Fatalf("%+v: %v", job, err)
			}
		}
	})
	calls := s.fake.Calls()
	phase(meetSwitch, func() {
		for begun := time.Now(); !b.asked("clients", b.next) && time.Since(begun) < time.Minute; { // they have noticed
			time.Sleep(100 * time.Millisecond)
		}
		each()
	})
	phase(afterMove, func() { l.window(afterMove) })
	l.end(spent)
	s.fake.Latency(0)

	requests, method := 2, byok.MethodReEncrypt
	if !granted {
		requests, method = 3, byok.MethodUnwrap
	}
	if job.State != byok.JobDone || job.Done != int64(*moveKeys) || job.Failed != 0 || job.Method != method {
		t.Errorf("%+v", job)
	}
	by := map[string]int{}
	asked := 0
	for _, c := range calls {
		if c.Principal == b.session("mover") {
			by[strings.TrimSpace(c.Operation+" "+c.Code)]++
			asked++
		}
	}
	want := requests**moveKeys + 8 + 2
	if !granted {
		want++ // once, KMS says that it may not rewrap
	}
	if !b.asked("clients", b.next) {
		t.Error("the clients never used the new CMK")
	}
	t.Logf("%v after the job had ended, the clients had the %d data keys in use under the new CMK", spent[meetSwitch].Round(time.Millisecond), len(b.first))
	t.Logf("%d data keys moved in %v, %.0f a second; %d KMS requests, %v; and %d of the clients", job.Done,
		spent[duringMove].Round(time.Millisecond), float64(job.Done)/spent[duringMove].Seconds(), asked, by, len(calls)-asked)
	if asked != want {
		t.Errorf("%d KMS requests, want %d for each of %d data keys, and the probes: %d", asked, requests, *moveKeys, want)
	}

	after, n := b.fingerprint()
	if before != after || n != *moveRecords {
		t.Errorf("the records changed: %d, of %s; before, %s", n, after, before)
	}
	t.Logf("%d records, SHA-256 of all before and after: %s", n, after)
	deks := 0
	for id, value := range items(t, store, "tenant:"+b.id) {
		if strings.HasPrefix(id, "dek:") {
			if under := wrappedBy(t, value); !slices.Equal(under, []string{b.next.ARN()}) {
				t.Errorf("%s is under %v", id, under)
			}
			deks++
		}
	}
	if deks != *moveKeys {
		t.Errorf("%d data keys of %d", deks, *moveKeys)
	}
	b.cmk.Disable()
	b.openAll(slices.Concat(l.sealed[:]...))
}
