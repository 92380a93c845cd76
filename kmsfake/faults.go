package kmsfake

import (
	"slices"
	"time"
)

// Fault makes calls fail with an answer that KMS could have given. Its zero
// filters match every call.
type Fault struct {
	Operation string // "Decrypt"
	Principal string // as given to Client or RegisterAccessKey
	KeyARN    string // only calls that name the key by its ARN

	Code    string // "ThrottlingException"; required
	Message string // defaults to something like AWS's
	Status  int    // HTTP status; defaults to what AWS uses for Code
	Count   int    // how many calls; 0 (or less) means all of them, until removed
}

type activeFault struct {
	Fault
	id   uint64
	left int // -1: no limit
}

// Inject adds a fault; remove takes it away, however many calls are left.
// Several faults are tried in the order in which they were added.
func (f *KMS) Inject(fault Fault) (remove func()) {
	f.helper()
	if fault.Code == "" {
		f.misuse("Inject: a Fault needs a Code")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextFault++
	a := &activeFault{Fault: fault, id: f.nextFault, left: fault.Count}
	if fault.Count <= 0 {
		a.left = -1
	}
	f.faults = append(f.faults, a)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.faults = slices.DeleteFunc(f.faults, func(o *activeFault) bool { return o.id == a.id })
	}
}

// Fail makes the next n calls of an operation ("" is any) fail with an error
// code: ThrottlingException, KMSInternalException, ExpiredTokenException,
// AccessDeniedException, or whatever else.
//
// n is 1 or more. Any other n is a mistake in the test, and ends it (see
// Options.TB): it neither does nothing nor lasts. For a fault that lasts until
// it is removed, or that strikes some callers or keys only, see Inject.
func (f *KMS) Fail(operation, code string, n int) {
	f.helper()
	if n <= 0 {
		f.misuse("Fail: n is %d", n)
	}
	f.Inject(Fault{Operation: operation, Code: code, Count: n})
}

var faultMessages = map[string]string{
	"ThrottlingException":         "Rate exceeded",
	"ExpiredTokenException":       "The security token included in the request is expired",
	"UnrecognizedClientException": "The security token included in the request is invalid.",
	"KMSInternalException":        "The request was rejected because an internal exception occurred. The request can be retried.",
	"DependencyTimeoutException":  "The system timed out while trying to fulfill the request. You can retry the request.",
	"KeyUnavailableException":     "The request was rejected because the specified KMS key was not available. You can retry the request.",
	"LimitExceededException":      "The request was rejected because a quota was exceeded.",
}

// takeFault finds the fault for a call, and counts it.
func (f *KMS) takeFault(c *Call, who *principal) *apiError {
	for i, a := range f.faults {
		if a.Operation != "" && a.Operation != c.Operation || a.Principal != "" && a.Principal != c.Principal ||
			a.KeyARN != "" && a.KeyARN != c.KeyARN && a.KeyARN != c.DestinationKeyARN {
			continue
		}
		if a.left > 0 {
			if a.left--; a.left == 0 {
				f.faults = slices.Delete(f.faults, i, i+1)
			}
		}
		msg := a.Message
		if msg == "" {
			msg = faultMessages[a.Code]
		}
		if msg == "" && a.Code == "AccessDeniedException" {
			action, on := "kms:"+c.Operation, "on this resource"
			if c.KeyARN != "" {
				on = "on resource: " + c.KeyARN
			}
			msg = "User: " + who.caller() + " is not authorized to perform: " + action + " " + on + " " +
				noKeyPolicyAllows.because(action)
		}
		return &apiError{code: a.Code, msg: msg, status: a.Status, silent: a.Code == errInvalidCiphertext.code && msg == ""}
	}
	return nil
}

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
// if it had been decided, it took effect all the same. 0 ends it.
func (f *KMS) Latency(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency = d
}

// Tamper lets change rewrite successful answers before they are returned, for
// what KMS never does: another KeyId, a key of the wrong length. out is the
// SDK's output, such as *kms.DecryptOutput; it may be kept. nil ends it.
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
