package kmsfake

import "time"

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
	if d < 0 {
		f.misuse("Advance: %v is not forward; see SetTime", d)
	}
	f.shift("Advance", func() time.Duration { return f.st.Ahead + d })
}

// SetTime makes it t in the service, from where the clock goes on. Back is
// possible, and as confusing as it is on any machine.
func (f *KMS) SetTime(t time.Time) {
	f.helper()
	f.shift("SetTime", func() time.Duration { return t.Sub(f.wall()) })
}

func (f *KMS) shift(name string, ahead func() time.Duration) {
	f.helper()
	f.change(name, func() bool {
		f.st.Ahead = ahead()
		f.ahead.Store(int64(f.st.Ahead))
		return true
	})
}
