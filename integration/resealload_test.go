package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/byok-go/byok"
)

// resealLoad is what the platform does with the table all the time: writers, that number their writes of each record, and readers. A reader
// must find the last write that had been acknowledged before it began, or a later one.
type resealLoad struct {
	r           *resealTable
	k           *byok.Keeper
	acked, sent []atomic.Int32 // the newest write of each record
	denied      atomic.Bool    // from before the CMK was disabled until the platform is served again
	phase       atomic.Int32
	stop        chan struct{}
	halt        func()
	wg          sync.WaitGroup

	mu      sync.Mutex
	took    [2][4][]time.Duration // before and during, by what was measured
	refused int
	starved int // without a lease at other times: the machine had no time to renew it
}

// What is measured of live operations.
var resealOps = []string{"Seal", "whole write", "Open", "whole read"}

const resealPace = 5 * time.Millisecond // of each writer and reader between two operations

func (r *resealTable) load(k *byok.Keeper) *resealLoad {
	l := &resealLoad{r: r, k: k, acked: make([]atomic.Int32, r.n+1), sent: make([]atomic.Int32, r.n+1), stop: make(chan struct{})}
	l.halt = sync.OnceFunc(func() { close(l.stop); l.wg.Wait() })
	for w := range 2 {
		forWrites, forReads := r.open(1), r.open(1)
		l.again(func(rng *mrand.Rand) error { return l.write(forWrites, l.pick(rng, w)) })
		l.again(func(rng *mrand.Rand) error { return l.read(forReads, l.pick(rng, -1)) })
	}
	r.t.Cleanup(l.halt) // before the Keeper and the database are closed
	return l
}

// pick returns a record that is not bad; of a writer, one that is its own. Half of all operations are on a thousandth of the
// records, so that these change all the time.
func (l *resealLoad) pick(rng *mrand.Rand, writer int) int {
	for {
		id := 1 + rng.IntN(l.r.n)
		if rng.IntN(2) == 0 {
			id = min(l.r.n, 1+id/1000*1000%l.r.n+id%2)
		}
		if l.r.bad[id] == nil && (writer < 0 || id%2 == writer) {
			return id
		}
	}
}

func (l *resealLoad) again(f func(rng *mrand.Rand) error) {
	seed := mrand.Uint64()
	l.wg.Go(func() {
		rng := mrand.New(mrand.NewPCG(seed, 1))
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(resealPace):
			}
			denied := l.denied.Load()
			err := f(rng)
			switch denied = denied || l.denied.Load(); {
			case err == nil:
			case denied && (errors.Is(err, byok.ErrKeyRevoked) || errors.Is(err, byok.ErrKeyUnavailable)):
				l.mu.Lock()
				l.refused++
				l.mu.Unlock()
			case errors.Is(err, byok.ErrKeyUnavailable):
				l.mu.Lock()
				l.starved++
				l.mu.Unlock()
			default:
				l.r.t.Errorf("a live operation: %v", err)
				return
			}
		}
	})
}

// window measures before the job, and on a very busy machine until there is something to say.
func (l *resealLoad) window() {
	time.Sleep(*resealWindow)
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(50 * time.Millisecond) {
		l.mu.Lock()
		enough := len(l.took[0][0]) >= 100 && len(l.took[0][3]) >= 100
		if l.mu.Unlock(); enough {
			return
		}
	}
}

func (l *resealLoad) note(op int, phase int32, begun time.Time) {
	d := time.Since(begun)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.denied.Load() {
		l.took[phase][op] = append(l.took[phase][op], d)
	}
}

// write is one live write. Only one writer writes a record.
func (l *resealLoad) write(db *sql.DB, id int) error {
	phase, begun := l.phase.Load(), time.Now()
	n := l.sent[id].Load() + 1
	sealed, err := l.k.Seal(context.Background(), resealScope, resealPlain(id, int(n)), resealAAD(id))
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	l.note(0, phase, begun)
	l.sent[id].Store(n)
	res, err := db.Exec("UPDATE records SET body = $1, sealed = true, live = live + 1 WHERE id = $2", sealed, id)
	if err != nil {
		return fmt.Errorf("write record %d: %v", id, err)
	}
	if changed, err := res.RowsAffected(); err != nil || changed != 1 {
		return fmt.Errorf("write record %d: %d rows, %v", id, changed, err)
	}
	l.acked[id].Store(n)
	l.note(1, phase, begun)
	return nil
}

// read is one live read.
func (l *resealLoad) read(db *sql.DB, id int) error {
	phase, begun := l.phase.Load(), time.Now()
	oldest := l.acked[id].Load()
	var body []byte
	var sealed bool
	if err := db.QueryRow("SELECT body, sealed FROM records WHERE id = $1", id).Scan(&body, &sealed); err != nil {
		return fmt.Errorf("read record %d: %v", id, err)
	}
	if sealed {
		opening := time.Now()
		plain, err := l.k.Open(context.Background(), resealScope, body, resealAAD(id))
		if err != nil {
			return fmt.Errorf("open record %d: %w", id, err)
		}
		l.note(2, phase, opening)
		body = plain
	} else if !l.r.adopt {
		return fmt.Errorf("record %d is in clear", id)
	}
	l.note(3, phase, begun)
	n, err := whichWrite(id, body)
	if newest := l.sent[id].Load(); err != nil || n < int(oldest) || n > int(newest) {
		return fmt.Errorf("record %d is write %d; when the read began %d had been acknowledged, and when it ended %d begun, %v", id, n, oldest, newest, err)
	}
	return nil
}

// end stops it and tells how it went. What was acknowledged is what there must be.
func (l *resealLoad) end() {
	l.halt()
	t := l.r.t
	for id := range l.sent {
		if l.sent[id].Load() != l.acked[id].Load() && !t.Failed() {
			t.Errorf("record %d: a write was sent, and never acknowledged", id)
		}
	}
	for op, name := range resealOps {
		var p99 [2]time.Duration
		var line strings.Builder
		for phase, d := range [2][]time.Duration{l.took[0][op], l.took[1][op]} {
			if len(d) < 20 && !(l.r.adopt && op == 2 && phase == 0) {
				t.Errorf("%s: %d of them, too few to say anything", name, len(d))
			}
			if len(d) == 0 {
				continue
			}
			slices.Sort(d)
			p99[phase] = d[len(d)*99/100]
			fmt.Fprintf(&line, "; %s: %d, median %v, p99 %v", []string{"before", "during the job"}[phase], len(d), d[len(d)/2].Round(time.Microsecond), p99[phase].Round(10*time.Microsecond))
		}
		t.Logf("live %-11s%s", name, line.String())
		// Wide, since the machine has other things to do. That anything waits for the job to end is what must not be.
		if most := max(20*p99[0], 5*time.Second); p99[1] > most {
			t.Errorf("live %s: p99 is %v during the job, and %v before", name, p99[1], p99[0])
		}
	}
	t.Logf("%d live operations were refused while the CMK was disabled, and %d had no lease at other times", l.refused, l.starved)
	if most := 10 + (len(l.took[1][0])+len(l.took[1][2]))/20; l.starved > most {
		t.Errorf("%d live operations had no lease", l.starved)
	}
}
