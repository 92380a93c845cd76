package kmsfake

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is a rule by which calls fail, or are slow, or are answered wrongly. It
// reads from top to bottom: which calls, how many of them, what happens to them.
// In JSON, over HTTP, the members have the names of the fields.
type Fault struct {
	// Which calls. What is not set matches every call.
	Operation string `json:",omitempty"` // "Decrypt"
	Principal string `json:",omitempty"` // as given to Client or RegisterAccessKey; a role's sessions are the role
	Account   string `json:",omitempty"` // the caller's
	Region    string `json:",omitempty"`
	KeyARN    string `json:",omitempty"` // either key of ReEncrypt; by whatever name the call has for it
	// EncryptionContext are pairs that the call's context has, among others: a tenant's.
	EncryptionContext map[string]string `json:",omitempty"`

	// How many of these calls: after Skip of them, each Every-th (0 is 1), of these
	// the ones that a die with Probability (0 is always) hits, and no more than
	// Count (0 or less is no limit, until removed). The die depends on Seed, and on
	// how many faults there were before, and on nothing else.
	Skip        int     `json:",omitempty"`
	Every       int     `json:",omitempty"`
	Probability float64 `json:",omitempty"`
	Seed        uint64  `json:",omitempty"`
	Count       int     `json:",omitempty"`

	// What happens: an error that KMS could have given, or an Effect, or neither;
	// and Latency, which adds to everything else that delays the call.
	Code    string `json:",omitempty"` // "ThrottlingException"
	Message string `json:",omitempty"` // defaults to something like AWS's
	Status  int    `json:",omitempty"` // HTTP status; defaults to what AWS uses for Code
	Effect  Effect `json:",omitempty"`
	Bytes   int    `json:",omitempty"` // of WrongKeyLength
	Latency Delay  `json:",omitzero"`
}

// Effect is something that a Fault does, other than to answer an error.
type Effect string

const (
	// ConnectionReset ends the connection before the call was decided: it did
	// not happen, and is in no CloudTrail.
	ConnectionReset Effect = "reset"
	// LostAnswer ends the connection after the call was decided: it happened, and
	// its caller cannot tell.
	LostAnswer Effect = "lost-answer"
	// Hang never answers; the call waits, undecided, until its context ends or its
	// connection does.
	Hang Effect = "hang"
	// TruncatedAnswer ends the connection in the middle of the answer. In process
	// it is the *smithy.DeserializationError that the SDK makes of that.
	TruncatedAnswer Effect = "truncated-answer"
	// SlowAnswer has the answer's body arrive byte by byte, spread over Latency.
	// In process there are no bytes; the call just takes that time.
	SlowAnswer Effect = "slow-answer"
	// WrongKeyID answers in the name of another key, which does not exist.
	WrongKeyID Effect = "wrong-key-id"
	// WrongMaterialID answers with another, random, id of key material.
	WrongMaterialID Effect = "wrong-material-id"
	// WrongKeyLength answers with a Plaintext of Fault.Bytes bytes, cut or filled
	// up at random.
	WrongKeyLength Effect = "wrong-key-length"
)

var effects = []Effect{ConnectionReset, LostAnswer, Hang, TruncatedAnswer, SlowAnswer, WrongKeyID, WrongMaterialID, WrongKeyLength}

// check says what is wrong with a fault, for the test that made it or over HTTP.
func (x *Fault) check() error {
	switch {
	case x.Code == "" && x.Effect == "" && x.Latency.isZero():
		return errors.New("a Fault needs a Code, an Effect or a Latency")
	case x.Code != "" && x.Effect != "":
		return errors.New("a Fault has a Code or an Effect, not both")
	case x.Effect != "" && !slices.Contains(effects, x.Effect):
		return fmt.Errorf("there is no Effect %q", x.Effect)
	case x.Effect == SlowAnswer && x.Latency.isZero():
		return errors.New("a SlowAnswer needs a Latency")
	case x.Bytes != 0 && x.Effect != WrongKeyLength, x.Bytes < 0, x.Bytes > maxPlaintext:
		return fmt.Errorf("a Fault's Bytes is %d: it is for WrongKeyLength, up to %d", x.Bytes, maxPlaintext)
	case !(x.Probability >= 0 && x.Probability <= 1):
		return fmt.Errorf("a Fault's Probability is %v", x.Probability)
	case x.Skip < 0 || x.Every < 0:
		return errors.New("a Fault's Skip and Every are not negative")
	case x.Status != 0 && (x.Status < 400 || x.Status > 599):
		return fmt.Errorf("a Fault's Status is %d: it is that of an error", x.Status)
	case (x.Status != 0 || x.Message != "") && x.Code == "":
		return errors.New("a Fault's Message and Status are for a Code")
	case x.Operation != "" && operations[x.Operation] == nil:
		return fmt.Errorf("there is no operation %q", x.Operation)
	case x.Account != "" && !isAccount(x.Account):
		return fmt.Errorf("%q is not an account id", x.Account)
	}
	if x.KeyARN != "" {
		if _, _, _, ok := splitKeyARN(x.KeyARN); !ok {
			return fmt.Errorf("%q is not the ARN of a key", x.KeyARN)
		}
	}
	if x.Principal != "" {
		if _, err := parsePrincipal(x.Principal); err != nil {
			return err
		}
	}
	return x.Latency.check()
}

// activeFault is a Fault with what it remembers.
type activeFault struct {
	Fault
	id        uint64
	principal principal
	matched   int // calls that the filters let through
	left      int // -1: no limit
	die       *rand.Rand
}

// Inject adds a fault; remove takes it away, however many calls are left.
//
// A call meets its faults when it arrives, at the start of its way: all whose
// Latency it matches, which add up, and of those with a Code or an Effect the
// first. A fault that makes no sense ends the test, see Options.TB.
func (f *KMS) Inject(fault Fault) (remove func()) {
	f.helper()
	if err := fault.check(); err != nil {
		f.misuse("Inject: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.inject(fault)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.removeFault(id)
	}
}

func (f *KMS) inject(fault Fault) (id uint64) {
	f.nextFault++
	fault.EncryptionContext = maps.Clone(fault.EncryptionContext)
	a := &activeFault{Fault: fault, id: f.nextFault, left: -1, die: rand.New(rand.NewPCG(fault.Seed, f.nextFault))}
	if fault.Principal != "" {
		a.principal, _ = parsePrincipal(fault.Principal) // checked
	}
	if fault.Count > 0 {
		a.left = fault.Count
	}
	f.faults = append(f.faults, a)
	return a.id
}

func (f *KMS) removeFault(id uint64) (there bool) {
	n := len(f.faults)
	f.faults = slices.DeleteFunc(f.faults, func(a *activeFault) bool { return a.id == id })
	return len(f.faults) < n
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

// strike is what the weather does to one call.
type strike struct {
	travel time.Duration // half of it before the decision, half after
	body   time.Duration // over which the answer's bytes arrive
	fault  *Fault        // the first with a Code or an Effect; nil: none
}

func (s *strike) effect() Effect {
	if s.fault == nil {
		return ""
	}
	return s.fault.Effect
}

// strike finds the faults for a call that arrives, and counts it for each.
func (f *KMS) strike(c caller, op string, in any) strike {
	s := strike{travel: f.latency}
	if len(f.faults) == 0 {
		return s
	}
	m := matcher{f: f, c: c, op: op, in: in}
	for _, a := range slices.Clone(f.faults) {
		second := a.Code != "" || a.Effect != ""
		if second && s.fault != nil || !m.matches(a) || !a.hits() {
			continue // one that a call cannot meet any more does not count it
		}
		if a.left > 0 {
			if a.left--; a.left == 0 {
				f.removeFault(a.id)
			}
		}
		d := a.Latency.draw(a.die)
		if a.Effect == SlowAnswer {
			s.body += d
		} else {
			s.travel += d
		}
		if second {
			s.fault = &a.Fault
		}
	}
	return s
}

// hits counts a call that matches, and reports whether it is one of those.
func (a *activeFault) hits() bool {
	a.matched++
	n := a.matched - a.Skip
	if n <= 0 || a.Every > 1 && n%a.Every != 0 {
		return false
	}
	return a.Probability == 0 || a.die.Float64() < a.Probability
}

// matcher compares one call with the faults. What keys it is about is looked up
// once, and only if a fault asks.
type matcher struct {
	f    *KMS
	c    caller
	op   string
	in   any
	keys []string
	seen bool
}

func (m *matcher) matches(a *activeFault) bool {
	if a.Operation != "" && a.Operation != m.op || a.Account != "" && a.Account != m.c.who.account ||
		a.Region != "" && a.Region != m.c.region || a.Principal != "" && !m.c.who.is(&a.principal) {
		return false
	}
	if len(a.EncryptionContext) > 0 {
		s := subjectOf(m.in)
		if !hasPairs(s.context, a.EncryptionContext) && !hasPairs(s.destinationContext, a.EncryptionContext) {
			return false
		}
	}
	if a.KeyARN == "" {
		return true
	}
	if !m.seen {
		m.keys, m.seen = m.f.keysOf(m.c, m.op, m.in), true
	}
	return slices.Contains(m.keys, a.KeyARN)
}

// hasPairs is exact, as ciphertexts are; conditions and grants ignore the case of names.
func hasPairs(context, pairs map[string]string) bool {
	for k, v := range pairs {
		if got, ok := context[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// keysOf are the ARNs of the keys that a call names: by id, alias or ARN, or by
// a ciphertext.
func (f *KMS) keysOf(c caller, op string, in any) (arns []string) {
	s := subjectOf(in)
	r := &request{f: f, st: f.st, op: op, now: f.now(), caller: c, call: new(Call)}
	for _, id := range []string{s.key, s.destination} {
		if id == "" {
			continue
		}
		if k, _, err := r.find(id); err == nil && k != nil {
			arns = append(arns, k.ARN())
		} else {
			arns = append(arns, id) // a key that is gone can be meant, too
		}
	}
	if s.key == "" && s.ciphertext != nil {
		if h, err := parseBlob(f.st.Secret, s.ciphertext); err == nil {
			arn, _ := h.arnIn(c.region)
			arns = append(arns, arn)
		}
	}
	return arns
}
