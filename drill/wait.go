package drill

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// byPerson calls f and marks when it was done. If a person does it, that is when
// the first worker saw it, if that was earlier; f's ctx ends then.
func (d *drill) byPerson(ctx context.Context, f func(context.Context) error, done *time.Time, seen func(tally) time.Time) error {
	if !d.cfg.ByHand {
		err := f(ctx)
		if err == nil {
			d.mark(done)
		}
		return err
	}
	fctx, cancel := context.WithTimeout(ctx, handled)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- f(fctx) }()
	var first time.Time
	answered, err := false, error(nil)
	werr := d.until(ctx, handled, func() bool {
		select {
		case err = <-answer:
			answered = true
		default:
		}
		for _, t := range d.seen {
			if at := seen(t); !at.IsZero() && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		return answered || !first.IsZero()
	})
	if cancel(); !answered {
		if err = <-answer; errors.Is(err, context.Canceled) { // f returns when its ctx has ended
			err = nil
		}
	}
	if err = errors.Join(werr, err); err != nil {
		return err
	}
	d.mark(done)
	if !first.IsZero() {
		d.mu.Lock()
		*done = first
		d.mu.Unlock()
	}
	return nil
}

// later returns the later of two instants, and zero if one is.
func later(a, b time.Time) time.Time {
	switch {
	case a.IsZero() || b.IsZero():
		return time.Time{}
	case a.After(b):
		return a
	}
	return b
}

var errLate = errors.New("drill: it did not come in time")

// until waits until cond, which is called with the lock held. Its error is
// ctx's, a worker's that ended, or errLate.
func (d *drill) until(ctx context.Context, limit time.Duration, cond func() bool) error {
	tick := time.NewTicker(pollsSample)
	defer tick.Stop()
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		d.mu.Lock()
		crashed, ok := d.crashed, cond()
		d.mu.Unlock()
		switch {
		case crashed != nil:
			return crashed
		case ok:
			return nil
		}
		select {
		case <-tick.C:
		case <-end.C:
			return errLate
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// whatToCheck is what is wrong most often, by the code of a failure.
var whatToCheck = map[string]string{
	"BYOK_006": ": does KMS answer there, and take these credentials?",
	"BYOK_007": ": is the service the platform's? Data keys of another do not open",
}

// unwell says what keeps the workers from being well.
func (d *drill) unwell(err error) error {
	if err != nil && !errors.Is(err, errLate) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for n, t := range d.seen {
		switch {
		case t.denied:
			return fmt.Errorf("drill: KMS denies worker %d the key already (%s): are the role, the service and the tenant the platform's?", n+1, t.last)
		case t.last != "":
			return fmt.Errorf("drill: worker %d cannot seal and open: the last failure was %s%s", n+1, t.last, whatToCheck[t.last])
		}
	}
	return errors.New("drill: the workers do nothing")
}

func (d *drill) all(f func(tally) bool) bool {
	for _, t := range d.seen {
		if !f(t) {
			return false
		}
	}
	return true
}

func (d *drill) mark(t *time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*t = d.clock.now()
}

func (d *drill) say(format string, args ...any) {
	if d.cfg.Progress != nil {
		d.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// stop ends the workers.
func (d *drill) stop() error {
	d.end()
	ended := make(chan struct{})
	go func() { d.done.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(stopWithin):
		return fmt.Errorf("drill: a worker did not end within %v", stopWithin)
	}
}
