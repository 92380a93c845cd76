package kmsfake

import (
	"errors"
	"fmt"
	"time"
)

// now is the service's time: the clock of Options.Now, and what Advance and
// SetTime put on top. It needs no lock.
func (f *KMS) now() time.Time { return f.wall().Add(time.Duration(f.ahead.Load())) }

// Now is the time in the service: that of Options.Now until Advance or SetTime
// changed it.
func (f *KMS) Now() time.Time { return f.now() }

// Advance moves the service's clock forward, for deletion windows, expiry of key
// material, rotation, propagation, quotas, and the dates of calls. Time passes when
// somebody looks: nothing happens in Advance itself.
//
// It is for tests that cannot run in a testing/synctest bubble, such as those over
// HTTP; in a bubble, time.Sleep does the same. What a call waits for (Latency, a
// Fault's) passes in real time, or in the bubble's; and the date of a signature is
// checked against Options.Now alone, since the client's clock was not advanced.
// With Options.File the advance survives a restart.
func (f *KMS) Advance(d time.Duration) {
	f.helper()
	if err := f.advanceClock(d); err != nil {
		f.misuse("Advance: %v", err)
	}
}

// SetTime makes it t in the service, from where the clock goes on. Back is
// possible, and as confusing as it is on any machine.
func (f *KMS) SetTime(t time.Time) {
	f.helper()
	if err := f.setClock(t); err != nil {
		f.misuse("SetTime: %v", err)
	}
}

func (f *KMS) advanceClock(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%v is not forward; the time can be set, too", d)
	}
	return f.shift(func() time.Duration { return f.st.Ahead + d })
}

func (f *KMS) setClock(t time.Time) error {
	return f.shift(func() time.Duration { return t.Sub(f.wall()) })
}

// maxAhead keeps dates in the years that JSON has (until 9999), whatever the clock.
const maxAhead = 200 * 365 * day

func (f *KMS) shift(ahead func() time.Duration) (err error) {
	saved := f.apply(func() bool {
		d := ahead()
		if d > maxAhead || d < -maxAhead {
			err = errors.New("that is more than 200 years away")
			return false
		}
		f.st.Ahead = d
		f.ahead.Store(int64(d))
		return true
	})
	return errors.Join(err, saved)
}
