package kmsfake

import (
	"errors"
	"time"
)

// Explanation is why one call was answered as it was: what [KMS.Explain] and
// [KMS.Why] return. It marshals to JSON under the names of its fields, and its
// String is for people. It is the reader's own: nothing in it changes any more.
type Explanation struct {
	RequestID string
	Time      time.Time
	Operation string // "Decrypt"
	Caller    string // the ARN that AWS would name
	Region    string
	Code      string `json:",omitempty"` // "" is success
	Message   string `json:",omitempty"`

	// Decisions are in the order in which they were made; the last one is the one
	// that denied, if any did. ReEncrypt has two, operations on aliases up to three.
	// None: the call failed before anybody asked whether it may.
	Decisions []Decision
}

// Decision is one answer to "may this caller do that to this resource?".
type Decision struct {
	Action   string // "kms:Decrypt"
	Resource string // the ARN of the key, or what stands in for it
	Allowed  bool
	Rule     string // the rule that led to the answer, in a sentence
	By       string `json:",omitempty"` // what decided: "statement 2 (vendor) of the key policy"

	KeyPolicy []Finding `json:",omitempty"` // every statement, in order
	Grants    []Finding `json:",omitempty"` // those to the caller, or to its account; 64 at most
	Identity  []Finding `json:",omitempty"` // every statement of the caller's identity policies

	// Request has the values of the condition keys that the policies mention, by
	// name in lower case; nil for a key that the request did not carry.
	Request map[string][]string `json:",omitempty"`
}

// Finding is what one statement, or one grant, says about a call.
type Finding struct {
	Name      string // "statement 2 (vendor)", "grant 0f3c..."
	Effect    string // Allow or Deny
	Applies   bool
	Delegates bool   `json:",omitempty"` // it allows, but only to the caller's account, which has to allow, too
	Why       string `json:",omitempty"` // if it does not apply: the part that does not, with what the request had
}

// maxTraces is how many calls can be explained: the last ones.
const maxTraces = 4096

// trace is what is kept of a call. The explanation is made when somebody asks.
type trace struct {
	about   Explanation // without Decisions
	decided []decided
}

type decided struct {
	q  *question
	by ruling
}

// decided notes a decision for the call's trace.
func (r *request) decided(q *question, by ruling) verdict {
	q.trim()
	r.decisions = append(r.decisions, decided{q, by})
	return by.verdict
}

// unseen notes that a call was denied because there is nothing that could allow
// it, which the caller must not be able to tell from a denial.
func (r *request) unseen(action, resource string) verdict {
	q := &question{who: r.who, action: action, resource: resource}
	return r.decided(q, ruling{noKeyPolicyAllows, ruleUnseen})
}

// maxCandidates bounds what a trace keeps of a caller's grants.
const maxCandidates = 64

// trim forgets most of the grants of a caller that has very many, but not the
// first that matches.
func (q *question) trim() {
	if len(q.grants) <= maxCandidates {
		return
	}
	kept := append([]candidate(nil), q.grants[:maxCandidates]...)
	for _, g := range q.grants {
		if g.misses(q) == grantMatches {
			kept[0] = g
			break
		}
	}
	q.grants = kept
}

// keep adds a call to the traces, over the oldest if they are full.
func (f *KMS) keep(c *Call, who *principal, decisions []decided) {
	if c.RequestID == "" { // an outage: nobody was there to decide
		return
	}
	t := trace{decided: decisions, about: Explanation{
		RequestID: c.RequestID, Time: c.Time, Operation: c.Operation, Caller: who.caller(),
		Region: c.Region, Code: c.Code, Message: c.Message,
	}}
	if len(f.traces) < maxTraces {
		f.traces = append(f.traces, t)
		return
	}
	f.traces[f.nextTrace] = t
	f.nextTrace = (f.nextTrace + 1) % maxTraces
}

// Explain tells why a call was answered as it was. The request id is in [Call], in
// the SDK's errors and output metadata, and in the X-Amzn-Requestid header. It
// returns nil for a call that is not among the last 4096, or that an outage
// swallowed. Explanations cost nothing until they are asked for.
func (f *KMS) Explain(requestID string) *Explanation {
	f.mu.Lock()
	var found trace
	for i := range f.traces {
		if f.traces[i].about.RequestID == requestID && requestID != "" {
			found = f.traces[i]
		}
	}
	f.mu.Unlock()
	if found.about.RequestID == "" {
		return nil
	}
	e := found.about // what a trace refers to never changes, so no lock is needed
	for _, d := range found.decided {
		e.Decisions = append(e.Decisions, d.explain())
	}
	return &e
}

// Why is [KMS.Explain] for the error of a call, in process or over HTTP:
//
//	_, err := client.Decrypt(ctx, in)
//	fmt.Println(fake.Why(err))
//
// The error may be wrapped, and be the SDK's or anybody's that has its method
// ServiceRequestID. Why returns nil if it has no request id, or none that is known.
func (f *KMS) Why(err error) *Explanation {
	var from interface{ ServiceRequestID() string }
	if !errors.As(err, &from) {
		return nil
	}
	return f.Explain(from.ServiceRequestID())
}
