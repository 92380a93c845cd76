package kmsfake

import (
	"context"
	"crypto/rsa"
	"errors"
	"maps"
	"reflect"
	"time"
)

// caller is who makes a call, from where, and how.
type caller struct {
	who         *principal
	region      string
	accessKeyID string   // "" in process
	session     *Session // nil says nothing; never changes
	from        *origin  // nil in process

	fresh *rsa.PrivateKey // made for this call, see operation.prepare
}

// request is one call while it is decided; it lives under the engine's lock.
type request struct {
	f   *KMS
	st  *state
	op  string
	id  string
	now time.Time
	caller
	tokens []string // of grants, as the caller gave them
	call   *Call    // what the log will say

	decisions []decided
}

// operation is one API operation, for the client and for the wire alike.
type operation struct {
	name  string
	input func() any
	run   func(r *request, in any) (any, error)

	tokens func(in any) []string // GrantTokens of the input, if it has them

	// prepare, which may be nil, names the spec of an RSA key that the operation is
	// going to need; it is made before the engine is locked.
	prepare func(in any) (rsaSpec string)
}

func define[In, Out any](name string, run func(*request, *In) (*Out, error)) *operation {
	return &operation{
		name:  name,
		input: func() any { return new(In) },
		run: func(r *request, in any) (any, error) {
			out, err := run(r, in.(*In))
			if err != nil {
				return nil, err // never a typed nil beside an error
			}
			return out, nil
		},
		tokens: grantTokensOf[In](),
	}
}

// grantTokensOf finds the tokens in inputs of one type.
func grantTokensOf[In any]() func(any) []string {
	field, ok := reflect.TypeFor[In]().FieldByName("GrantTokens")
	if !ok {
		return func(any) []string { return nil }
	}
	return func(in any) []string {
		return reflect.ValueOf(in).Elem().FieldByIndex(field.Index).Interface().([]string)
	}
}

// What calls meet when nothing, or not all of the answer, comes back. Each face of
// the fake makes of it what its callers would see.
var (
	errUnreachable = errors.New("kmsfake: outage: connection refused")
	errReset       = errors.New("kmsfake: fault: connection reset")
	errTruncated   = errors.New("kmsfake: fault: truncated answer")
)

// answer is what becomes of a call. The error is an *apiError, a context's error,
// or one of those above.
type answer struct {
	out       any
	requestID string
	err       error
	truncated bool          // the connection ends in the middle of it
	body      time.Duration // that its bytes take
}

// do runs one call: travel, decision, travel. No lock is held on the way.
func (f *KMS) do(ctx context.Context, c caller, op *operation, in any) answer {
	if err := ctx.Err(); err != nil {
		return answer{err: err}
	}
	f.mu.Lock()
	s, tamper := f.strike(c, op.name, in), f.tamper
	f.mu.Unlock()
	// Half of the latency passes before the decision and half after it, as on a
	// network: an answer can be overtaken by the revocation that follows it.
	if err := wait(ctx, s.travel/2); err != nil {
		return answer{err: err}
	}
	if e := s.effect(); e == ConnectionReset || e == Hang {
		f.swallow(c, op.name, in, s)
		if e == ConnectionReset {
			return answer{err: errReset}
		}
		<-ctx.Done()
		return answer{err: ctx.Err()}
	}
	if op.prepare != nil {
		c.fresh = freshRSA(op.prepare(in))
	}
	a := answer{requestID: newUUID(), body: s.body}
	var call Call
	a.out, call, a.err = f.decide(c, op, in, a.requestID, s)
	f.onCall(call)
	if err := wait(ctx, s.travel-s.travel/2); err != nil {
		return answer{requestID: a.requestID, err: err}
	}
	if a.err == nil && s.fault != nil {
		s.fault.falsify(a.out)
	}
	if a.err == nil && tamper != nil {
		tamper(op.name, a.out)
	}
	if a.err != errUnreachable { // then there is nobody to answer
		a.truncated = s.effect() == TruncatedAnswer
		if s.effect() == LostAnswer {
			a.err = errReset
		}
	}
	return a
}

// swallow logs a call that nobody decided.
func (f *KMS) swallow(c caller, op string, in any, s strike) {
	f.mu.Lock()
	call := f.newCall(c, op, in, s)
	call.Code = CodeUnreachable
	f.record(call)
	f.mu.Unlock()
	f.onCall(call)
}

func (f *KMS) newCall(c caller, op string, in any, s strike) Call {
	call := Call{Time: f.now(), Operation: op, Region: c.region, Principal: c.who.arn, AccessKeyID: c.accessKeyID}
	if s.fault != nil {
		call.Fault = s.fault.Code + string(s.fault.Effect)
	}
	describe(&call, in)
	return call
}

// decide is the instant in which a call happens: faults, quota, validation,
// authorization, state, work, durability and the log, in one critical section.
func (f *KMS) decide(c caller, op *operation, in any, requestID string, s strike) (out any, call Call, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	call = f.newCall(c, op.name, in, s)
	call.RequestID = requestID
	r := &request{f: f, st: f.st, op: op.name, id: requestID, now: call.Time, caller: c, tokens: op.tokens(in), call: &call}
	named := []string{call.KeyARN, call.DestinationKeyARN}
	defer func() {
		call.Code = codeOf(err)
		if e, ok := err.(*apiError); ok {
			call.Message = e.msg
		}
		f.keep(&call, c.who, r.decisions)
		if err != errUnreachable {
			r.testify(in, out, named)
		}
		f.record(call)
	}()
	switch {
	case f.outages > 0:
		call.RequestID = "" // nobody was there to give one
		return nil, call, errUnreachable
	case s.fault != nil && s.fault.Code != "":
		return nil, call, s.fault.refusal(&call, c.who)
	case f.throttled(op.name, c, call.Time):
		return nil, call, errThrottled
	}
	out, err = op.run(r, in)
	if f.dirty {
		f.propagate()
	}
	if saveErr := f.save(); saveErr != nil {
		return nil, call, fail("KMSInternalException", "kmsfake could not save: %v", saveErr)
	}
	return out, call, err
}

func codeOf(err error) string {
	var e *apiError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.code
	}
	return CodeUnreachable
}

// wait returns early, with the context's error, when the context ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// about notes the key that a call turned out to be about.
func (r *request) about(k *keyState) *keyState {
	r.call.KeyARN = k.ARN()
	return k
}

func cloneContext(ec map[string]string) map[string]string {
	if len(ec) == 0 {
		return nil
	}
	return maps.Clone(ec)
}
