package kmsfake

import "time"

// Outage makes the service unreachable until restore is called: in process,
// calls fail as on a refused connection; on the wire, connections are closed
// without an answer. Outages nest; calling restore twice is harmless.
func (f *KMS) Outage() (restore func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outages++
	over, resets := false, f.resets
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !over && resets == f.resets {
			over = true
			f.outages--
		}
	}
}

// Reset makes it a KMS that was just made: no keys, no registered principals, no
// policies, no faults, no calls, and the clock of Options.Now. It is for a server
// that many tests share; with Options.File, what was in the file is gone.
// Ciphertexts from before are not recognised afterwards.
func (f *KMS) Reset() {
	f.helper()
	if err := f.reset(); err != nil {
		f.misuse("Reset: %v", err)
	}
}

func (f *KMS) reset() error {
	return f.apply(func() bool {
		f.st = newState()
		f.ahead.Store(0)
		f.faults, f.outages, f.latency, f.tamper = nil, 0, 0, nil
		f.propagation, f.quota, f.buckets = 0, 0, nil
		f.calls, f.trail, f.traces, f.nextTrace = nil, trail{}, nil, 0
		f.resets++
		return true
	})
}

// Latency makes each call that begins from now on take d: half of it before the
// service decides, half after. A call whose context ends while it waits returns;
// if it had been decided, it took effect all the same. 0 ends it. For latencies
// that vary, or that some calls have, see Fault.Latency.
func (f *KMS) Latency(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency = d
}

// Tamper lets change rewrite successful answers before they are returned, for
// what KMS never does, and no Effect either. out is the SDK's output, such as
// *kms.DecryptOutput; it may be kept. nil ends it.
func (f *KMS) Tamper(change func(operation string, out any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tamper = change
}

func (f *KMS) helper() {
	if f.tb != nil {
		f.tb.Helper()
	}
}
