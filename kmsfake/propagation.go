package kmsfake

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Propagation makes changes of key policies, key states and grants take d to
// reach the places where calls are decided, as they do in AWS, which promises
// no more than eventual consistency ("usually less than a few seconds, in some
// cases several minutes", says the developer guide). It is for changes from now
// on, by whichever face, the owner's hand included. 0, the default, is at once.
//
// Until a change has arrived, authorization goes by the former policy and
// grants, and cryptographic operations go by the former state. What describes
// the key answers the new value at once: DescribeKey, GetKeyPolicy, ListGrants,
// [Key.State], [Key.Policy]. So do the rules of which change may follow which
// (CancelKeyDeletion works right after ScheduleKeyDeletion). A grant token makes
// its grant effective at once, that is what it is for. New keys, rotation, lost key
// material, and what time brings about ([Key.Delete] included) do not wait either.
func (f *KMS) Propagation(d time.Duration) {
	f.helper()
	if d < 0 {
		f.misuse("Propagation: %v", d)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.propagation = d
	f.watch()
}

// was is a value that is no longer the latest, and that decisions go by until
// the one which followed it has propagated.
type was[T any] struct {
	Until time.Time
	Value T
}

// settle drops the values whose time is over. The change that arrived last wins,
// also over one that was made before it and is slower.
func settle[T any](past []was[T], now time.Time) []was[T] {
	for i := len(past) - 1; i >= 0; i-- {
		if !now.Before(past[i].Until) {
			return past[i+1:]
		}
	}
	return past
}

// policyText is a policy as it was put, and parsed.
type policyText struct {
	Document string
	parsed   *policy
}

// propagate, after a call that changed something, lets keys whose policy or state
// is new go on being decided about by the former ones for a while. It compares,
// so that whoever changes a key need not think of it.
func (f *KMS) propagate() {
	if !f.delays {
		return
	}
	until := f.now().Add(f.propagation)
	for _, k := range f.st.Keys {
		if k.seen.state == "" { // new
			k.see()
			continue
		}
		if k.State != k.seen.state {
			k.PastStates = append(k.PastStates, was[types.KeyState]{until, k.seen.state})
		}
		if k.Policy != k.seen.document {
			k.PastPolicies = append(k.PastPolicies, was[policyText]{until, policyText{k.seen.document, k.seen.policy}})
			k.seen.policy = k.policy
		}
		k.seen.state, k.seen.document = k.State, k.Policy
		k.settle(f.now())
	}
}

// watch starts to compare, as soon as there is anything to delay.
func (f *KMS) watch() {
	if f.delays {
		return
	}
	f.delays = true
	for _, k := range f.st.Keys {
		k.see()
	}
}

// seen is what a key was like when it was last compared.
type seen struct {
	state    types.KeyState
	document string
	policy   *policy
}

// see takes a key for unchanged: a new one, or one that only time has changed.
func (k *keyState) see() {
	if len(k.PastPolicies) == 0 { // else k.policy is a former one
		k.seen.document, k.seen.policy = k.Policy, k.policy
	}
	k.seen.state = k.State
}

// settle brings what decides about a key to the present.
func (k *keyState) settle(now time.Time) {
	k.PastStates = settle(k.PastStates, now)
	if len(k.PastPolicies) > 0 {
		k.PastPolicies = settle(k.PastPolicies, now)
		k.decideBy()
	}
}

func (k *keyState) decideBy() {
	k.policy = k.seen.policy
	if len(k.PastPolicies) > 0 {
		k.policy = k.PastPolicies[0].Value.parsed
	}
}

// acting is the state that cryptographic operations find the key in. Material
// that is gone is gone everywhere.
func (k *keyState) acting() types.KeyState {
	if len(k.PastStates) > 0 && k.whole() {
		return k.PastStates[0].Value
	}
	return k.State
}

// cryptographic are the operations that use key material, and whose callers
// learn of a changed state as late as AWS's caches do.
var cryptographic = map[string]bool{
	"Encrypt": true, "Decrypt": true, "ReEncrypt": true,
	"GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true,
	"GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
	"GenerateMac": true, "VerifyMac": true, "Sign": true, "Verify": true, "DeriveSharedSecret": true,
}
