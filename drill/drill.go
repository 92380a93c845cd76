package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/byok-go/byok"
)

// ErrNotDrillable: the tenant is not marked, and Config.BlockTenant is not set.
var ErrNotDrillable = errors.New("drill: the tenant is not marked drillable (byok.Tenant.SetDrillable), and Config.BlockTenant is not set")

// ErrBlocked is beside an error that ended a drill early, if access to the key
// was taken away and could not be given back.
var ErrBlocked = errors.New("drill: THE KEY IS STILL DENIED, AND THE TENANT BLOCKED: give access back by hand")

// Config of a drill. Status, MaxAge, Worker, Deny and Restore are required.
type Config struct {
	// Status returns the tenant's status: the method value keeper.Tenant(id).Status.
	Status func(context.Context) (byok.KeyStatus, error)

	// MaxAge is byok.Options.MaxAge of the workers' Keepers, and the bound. There
	// is no default: it has to be what the platform runs with.
	MaxAge time.Duration

	Worker  Worker // such as InProcess
	Workers int    // 1 to 32; defaults to 3

	// BlockTenant says: yes, block this tenant, although it is not marked.
	BlockTenant bool

	// Deny has access to the CMK taken away, and Restore given back. Each
	// returns once that is done, and counts from there. What Deny did is undone with Restore
	// however the drill ends, with a ctx of its own and 30 s; if Deny fails, too.
	Deny, Restore func(context.Context) error

	// ByHand says that Deny and Restore ask a person. Their ctx ends when the workers
	// have seen that it is done; they return then, and that is no error. Restore is then not called when the drill is
	// broken off: the error is ErrBlocked, and says so.
	ByHand bool

	// Setting says for the report where this was; may be "".
	Setting string

	// Progress is told what is going on, for people; may be nil.
	Progress func(string)
}

const (
	minServed   = 10               // seals and opens of each worker before it is well, without a failure since
	wellWithin  = 30 * time.Second // else the drill cannot begin
	tail        = 2 * time.Second  // of watching after the bound
	patience    = 20 * time.Second // with a worker that has not been denied by then: a KMS call takes 15 s at most
	spread      = 5 * time.Minute  // a change inside the KMS: "in some cases several minutes", says its guide
	handled     = 15 * time.Minute // for what a person does, and for the KMS to know of it
	undoWithin  = 30 * time.Second
	stopWithin  = 30 * time.Second // of the workers
	pollsSample = 10 * time.Millisecond
)

// Revoke runs a drill. It blocks the tenant, for about MaxAge plus the recovery.
//
// An error says that it could not be run to its end; the Report is then nil if
// the key was not denied, and what could be measured otherwise. That a promise was
// broken is no error but Report.Verdict. When ctx ends, access is given back
// first; if that fails, the error is ErrBlocked.
func Revoke(ctx context.Context, c Config) (*Report, error) {
	d, err := begin(ctx, c)
	if err != nil {
		return nil, err
	}
	defer d.end() // also if what follows panics
	err = d.run(ctx)
	if err != nil {
		d.aborted = err.Error()
	}
	if hangs := d.stop(); hangs != nil {
		d.hangs = hangs.Error()
		err = errors.Join(err, hangs)
	}
	if d.StopAsked.IsZero() {
		return nil, err
	}
	d.mu.Lock() // a worker that did not stop may still report
	defer d.mu.Unlock()
	d.Ended = d.clock.now()
	d.ClockStrayed = Millis(d.clock.strayed())
	return d.judge(), err
}

// drill is one that runs.
type drill struct {
	cfg   Config
	clock clock
	end   context.CancelFunc // of the workers
	done  sync.WaitGroup

	mu sync.Mutex
	measured
	seen    []tally
	crashed error // the first worker that ended by itself
}

// tally is what the drill waits for, of one worker.
type tally struct {
	seals, opens int          // served in a row, without a failure
	last         string       // code of the newest failure
	denied       bool         // an operation was, since the stop was asked for
	stopped      time.Time    // completion of the first denial since then, of an operation or by the KMS
	again        [2]time.Time // completion of the first seal and open since access was asked for again
	permitted    time.Time    // issue of the newest request that the KMS permitted
}

func begin(ctx context.Context, c Config) (*drill, error) {
	bad := func(what string) (*drill, error) { return nil, fmt.Errorf("%w: drill: %s", byok.ErrArgument, what) }
	if c.Workers == 0 {
		c.Workers = 3
	}
	switch {
	case c.Status == nil || c.Worker == nil || c.Deny == nil || c.Restore == nil:
		return bad("Status, Worker, Deny and Restore are required")
	case c.MaxAge < byok.MinMaxAge || c.MaxAge > byok.MaxMaxAge:
		return bad("MaxAge must be 1 s to 5 min")
	case c.Workers < 1 || c.Workers > 32:
		return bad("Workers must be 1 to 32")
	}
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if st.Status != byok.StatusActive {
		return nil, fmt.Errorf("drill: the tenant's key must be active, and is %s: %s", st.Status, st.Reason)
	}
	if !st.Drillable && !c.BlockTenant {
		return nil, ErrNotDrillable
	}
	d := &drill{cfg: c, clock: newClock(), seen: make([]tally, c.Workers)}
	d.measured = measured{samples: make([][]Sample, c.Workers), lags: make([]time.Duration, c.Workers)}
	for n := range d.lags {
		d.lags[n] = 1<<63 - 1
	}
	d.Report = Report{Tenant: st.Tenant, Key: st.Key, Setting: c.Setting, ByHand: c.ByHand, MaxAge: Millis(c.MaxAge), Began: d.clock.now()}
	wctx, end := context.WithCancel(context.WithoutCancel(ctx)) // they go on while access is given back
	d.end = end
	for n := range c.Workers {
		d.done.Go(func() {
			err := c.Worker(wctx, n+1, func(s Sample) { d.take(n, s) })
			if wctx.Err() == nil {
				d.mu.Lock()
				defer d.mu.Unlock()
				if d.crashed == nil {
					d.crashed = fmt.Errorf("drill: worker %d ended: %w", n+1, orUnknown(err))
				}
			}
		})
	}
	return d, nil
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

// take takes a sample of a worker.
func (d *drill) take(n int, s Sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.samples[n] = append(d.samples[n], s)
	// The least of many is how far the clocks are apart, and not what a busy machine made of it.
	d.lags[n] = min(d.lags[n], d.clock.now().Sub(s.Completed))
	t := &d.seen[n]
	first := func(at *time.Time, asked time.Time) {
		if at.IsZero() && !asked.IsZero() && !s.Completed.Before(asked) {
			*at = s.Completed
		}
	}
	if s.Result == Denied {
		first(&t.stopped, d.StopAsked)
	}
	switch {
	case s.Op == "kms":
		if s.Result == Served && s.Issued.After(t.permitted) {
			t.permitted = s.Issued
		}
	case s.Result == Served && s.Op == "seal":
		t.seals++
		first(&t.again[0], d.RestoreAsked)
	case s.Result == Served:
		t.opens++
		first(&t.again[1], d.RestoreAsked)
	default:
		t.seals, t.opens, t.last = 0, 0, s.Code
		t.denied = t.denied || s.Result == Denied
	}
}

// run is the drill itself. Access is given back whichever way it is left.
func (d *drill) run(ctx context.Context) (err error) {
	d.say("waiting until %d workers seal and open", d.cfg.Workers)
	well := func(t tally) bool { return t.seals >= minServed && t.opens >= minServed }
	refused := false
	err = d.until(ctx, wellWithin, func() bool {
		refused = !d.all(func(t tally) bool { return !t.denied })
		return refused || d.all(well)
	})
	if err != nil || refused {
		return d.unwell(err)
	}
	d.mark(&d.StopAsked)
	defer func() { err = d.undo(ctx, err) }()
	d.say("having access to the key taken away")
	if err := d.byPerson(ctx, d.cfg.Deny, &d.Stop, func(t tally) time.Time { return t.stopped }); err != nil {
		return fmt.Errorf("drill: deny: %w", err)
	}
	d.say("the key is denied: watching for %v more", d.cfg.MaxAge+tail)
	if err := d.watch(ctx); err != nil {
		return err
	}
	d.say("having access given back")
	d.mark(&d.RestoreAsked)
	if err := d.byPerson(ctx, d.cfg.Restore, &d.Restore, func(t tally) time.Time { return later(t.again[0], t.again[1]) }); err != nil {
		return fmt.Errorf("drill: restore: %w", err)
	}
	d.say("access was given back: waiting until all workers seal and open again, at most %v", backoffLast+patience)
	err = d.until(ctx, backoffLast+patience, func() bool {
		return d.all(func(t tally) bool { return !t.again[0].IsZero() && !t.again[1].IsZero() })
	})
	if errors.Is(err, errLate) {
		err = nil // that is a finding
	}
	return err
}

// watch waits until the bound is past, in any case for tail, and every worker has
// been denied. A worker that is not in time is a finding.
func (d *drill) watch(ctx context.Context) error {
	limit := spread
	if d.cfg.ByHand {
		limit = handled
	}
	err := d.until(ctx, limit+d.cfg.MaxAge, func() bool {
		from := d.Stop
		for _, t := range d.seen {
			if t.permitted.After(from) {
				from = t.permitted
			}
		}
		over := d.clock.now().Sub(from) - d.cfg.MaxAge - tail
		return over >= patience || over >= 0 && d.all(func(t tally) bool { return t.denied })
	})
	if errors.Is(err, errLate) {
		err = nil
	}
	return err
}

// undo gives access back, if the drill that ends with err did not.
func (d *drill) undo(ctx context.Context, err error) error {
	if !d.Restore.IsZero() {
		return err
	}
	if d.RestoreAsked.IsZero() { // what is served from here on is nobody's fault
		d.mark(&d.RestoreAsked)
	}
	if d.cfg.ByHand {
		return errors.Join(err, ErrBlocked)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	if uerr := d.cfg.Restore(ctx); uerr != nil {
		return errors.Join(err, ErrBlocked, uerr)
	}
	d.mark(&d.Restore)
	return err
}
