package kmsfake

import "time"

// Outage makes the service unreachable until restore is called: in process,
// calls fail as on a refused connection; on the wire, connections are closed
// without an answer. Outages nest; calling restore twice is harmless.
func (f *KMS) Outage() (restore func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outages++
	over := false
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !over {
			over = true
			f.outages--
		}
	}
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
